//! Which source line an instruction comes from, by the object's BTF; and which function of the
//! source that line is in, by the source itself, if it is there.

use std::{collections::HashMap, fs};

use anyhow::Context as _;
use tracker_tests::workspace;

/// Source lines of instructions.
#[derive(Default)]
pub struct Lines {
    /// From this pc on, up to the next one: file, line. In order.
    starts: Vec<(usize, u32, u32)>,
    /// Names of files.
    files: Vec<String>,
}

/// A place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Number of the file, see [`Lines::file`].
    pub file: u32,
    pub line: u32,
}

/// A little-endian word of a section.
fn word(section: &[u8], at: usize) -> anyhow::Result<u32> {
    let bytes = section.get(at..).and_then(|rest| rest.first_chunk()).context("it is cut off")?;
    Ok(u32::from_le_bytes(*bytes))
}

/// The string at an offset of BTF's strings.
fn string(types: &[u8], offset: u32) -> anyhow::Result<&str> {
    // Magic and version; length of the header; offsets and lengths of types and of strings.
    let begin = word(types, 4)? + word(types, 16)? + offset;
    let rest = types.get(begin as usize..).context("a string is outside of the section")?;
    let length = rest.iter().position(|byte| *byte == 0).context("a string does not end")?;
    std::str::from_utf8(&rest[..length]).context("a string is not UTF-8")
}

impl Lines {
    /// `sections` says where code sections begin, as pcs.
    pub fn parse(types: &[u8], extended: &[u8], sections: &HashMap<String, usize>) -> anyhow::Result<Self> {
        let mut lines = Self::default();
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let header = word(extended, 4)?;
        let (begin, length) = (header + word(extended, 16)?, word(extended, 20)?);
        let record = word(extended, begin as usize)? as usize;
        let (mut at, end) = (begin as usize + 4, (begin + length) as usize);
        while at < end {
            let name = string(types, word(extended, at)?)?;
            let count = word(extended, at + 4)? as usize;
            at += 8;
            for entry in (0..count).map(|number| at + number * record) {
                let Some(base) = sections.get(name) else { continue };
                let (offset, file) = (word(extended, entry)?, word(extended, entry + 4)?);
                let number = *numbers.entry(file).or_insert(lines.files.len() as u32);
                if number as usize == lines.files.len() {
                    lines.files.push(string(types, file)?.to_owned());
                }
                // The column is in the low ten bits.
                lines.starts.push((base + offset as usize / 8, number, word(extended, entry + 12)? >> 10));
            }
            at += count * record;
        }
        lines.starts.sort_unstable();
        Ok(lines)
    }

    /// The line of an instruction.
    pub fn of(&self, pc: usize) -> Option<Line> {
        let behind = self.starts.partition_point(|(start, ..)| *start <= pc);
        let (_, file, line) = *self.starts.get(behind.checked_sub(1)?)?;
        Some(Line { file, line })
    }

    /// Whether a file is one of the project's.
    pub fn is_ours(&self, number: u32) -> bool {
        self.files.get(number as usize).is_some_and(|name| name.starts_with("./"))
    }

    /// The name of a file, as the compiler was told it.
    pub fn file(&self, number: u32) -> &str {
        self.files.get(number as usize).map_or("?", |name| name.strip_prefix("./").unwrap_or(name))
    }
}

/// Sources that are there to be looked into.
#[derive(Default)]
pub struct Sources(HashMap<u32, Option<Vec<String>>>);

impl Sources {
    /// The function that a line is in, and what stands there.
    pub fn describe(&mut self, lines: &Lines, place: Line) -> (String, String) {
        let text = self.0.entry(place.file).or_insert_with(|| {
            let text = fs::read_to_string(workspace::root().join(lines.file(place.file))).ok()?;
            Some(text.lines().map(str::to_owned).collect())
        });
        let Some(text) = text else { return Default::default() };
        let above = text.get(..place.line as usize).unwrap_or(text);
        let function = above.iter().rev().find_map(|line| function_name(line)).unwrap_or_default();
        (function.to_owned(), above.last().map_or_else(String::new, |line| line.trim().to_owned()))
    }
}

/// The name of the function that a line of source begins.
fn function_name(line: &str) -> Option<&str> {
    let (before, behind) = line.split_once("fn ")?;
    let is_declaration = before.split_whitespace().all(|word| {
        word.starts_with("pub") || word.starts_with('"') || matches!(word, "const" | "unsafe" | "extern" | "async")
    });
    let end = behind.find(|character: char| !character.is_alphanumeric() && character != '_')?;
    (is_declaration && end > 0).then(|| &behind[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_the_line_that_begins_them() {
        for (line, name) in [
            ("fn announce(", Some("announce")),
            ("    pub(crate) fn at<T>(&self) -> Option<&T> {", Some("at")),
            ("    pub const unsafe extern \"C\" fn turn(index: u32) {", Some("turn")),
            ("    // what fn does", None),
            ("    let body: fn (u32) = run;", None),
            ("    self.call()", None),
        ] {
            assert_eq!(function_name(line), name, "{line}");
        }
    }
}
