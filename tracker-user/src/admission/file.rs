//! Files with lists of torrents: a line each, the info_hash in hexadecimal, as opentracker and
//! aquatic have them. What follows behind a space is a comment, and so is a line that begins with
//! `#`. A v2 info_hash (64 digits) is cut to 20 bytes, as clients send it (BEP 52).

use anyhow::{Context as _, bail};
use std::{fs, path::Path};
use tracker_common::id::InfoHash;

/// How much of a wrong line is shown.
const SHOWN: usize = 60;

/// Adds the torrents of a file to a list.
///
/// # Errors
/// When it cannot be read, and the first line that is none.
pub(super) fn read(path: &Path, into: &mut Vec<InfoHash>) -> anyhow::Result<()> {
    let text = fs::read(path).with_context(|| format!("cannot read the list {}", path.display()))?;
    // Room for all at once: one grown step by step takes up to three times as much meanwhile.
    into.reserve_exact(text.len() / (2 * size_of::<InfoHash>() + 1) + 1);
    parse(&text, into).with_context(|| format!("the list {} is wrong", path.display()))
}

/// The same of what a file holds.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &[u8], into: &mut Vec<InfoHash>) -> anyhow::Result<()> {
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let Some(info_hash) = info_hash(&line[..end]) else {
            let shown: String = String::from_utf8_lossy(line).chars().take(SHOWN).collect();
            bail!("line {number} is no info_hash of 40 hexadecimal digits (64 for v2), or a comment with #: {shown:?}");
        };
        into.push(info_hash);
    }
    Ok(())
}

/// The torrent that is written like this.
#[must_use]
pub fn info_hash(digits: &[u8]) -> Option<InfoHash> {
    if ![40, 64].contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut info_hash = InfoHash::default();
    for (byte, pair) in info_hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(info_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    #[test]
    fn torrents_are_taken_as_the_usual_lists_have_them() {
        let v2 = format!("{A}{}", "0123456789abcdefABCDEF01");
        let rows: [(&str, &[u8]); 14] = [
            ("", &[]),
            ("\n\n  \n", &[]),
            (A, &[0xaa]),
            (&format!("{A}\n"), &[0xaa]),
            (&format!("{A}\r\n{B}\r\n"), &[0xaa, 0xbb]),
            (&format!("  {A}  \n\t{B}"), &[0xaa, 0xbb]),
            (&format!("{A} debian-12.iso\n{B}\t# a comment"), &[0xaa, 0xbb]),
            (&format!("# {A}\n{B}"), &[0xbb]),
            ("#", &[]),
            ("# \u{e9}\u{fffd} caf\u{e9}", &[]),
            (&format!("{A}\n{A}"), &[0xaa, 0xaa]),
            (&v2, &[0xaa]),
            (&format!("{v2} v2\n{B}"), &[0xaa, 0xbb]),
            (&format!("\n\n{A}\n\n"), &[0xaa]),
        ];
        for (text, expected) in rows {
            let mut list = Vec::new();
            parse(text.as_bytes(), &mut list).unwrap_or_else(|error| panic!("{text:?}: {error:#}"));
            assert_eq!(list, expected.iter().map(|byte| [*byte; 20]).collect::<Vec<_>>(), "{text:?}");
        }
    }

    #[test]
    fn wrong_lines_are_refused_by_number() {
        let rows: [(Vec<u8>, &str); 12] = [
            (b"x".to_vec(), "line 1"),
            (A[..39].into(), "line 1"),
            (format!("{A}a").into(), "line 1"),
            (format!("{A}\n{}g", &B[..39]).into(), "line 2"),
            (format!("0x{A}").into(), "line 1"),
            (format!("+{}", &A[..39]).into(), "line 1"),
            (format!("{A},{B}").into(), "line 1"),
            (format!("{A}{B}").into(), "line 1"),
            (format!("\u{feff}{A}").into(), "line 1"),
            (format!("{A}\n\n// {B}").into(), "line 3"),
            (vec![0; 40], "line 1"),
            ([A.as_bytes(), b"\n", &[0xff; 64]].concat(), "line 2"),
        ];
        for (text, line) in rows {
            let error = parse(&text, &mut Vec::new()).expect_err("wrong").to_string();
            assert!(error.contains(line) && error.len() < 400, "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/list"), &mut Vec::new()).expect_err("not there");
        assert!(format!("{error:#}").contains("/nonexistent/list"), "{error:#}");
    }
}
