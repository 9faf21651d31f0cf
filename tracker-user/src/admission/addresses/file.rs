//! Files with addresses, one entry a line ([`super::line`]), packed by gzip or not.

use super::line::{self, Line, Range};
use anyhow::{Context as _, bail, ensure};
use flate2::read::MultiGzDecoder;
use std::{fs, io::Read as _, path::Path};

/// How much of a wrong line is shown.
const SHOWN: usize = 60;

/// Bytes of the longest file, unpacked.
const LONGEST: u64 = 1 << 30;

/// The beginnings of files that are no text, and what they are.
const FOREIGN: [(&[u8], &str); 4] = [
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (b"\xff\xff\xff\xffP2B", "a list in PeerGuardian's binary format: get the same as .p2p, or as CIDR"),
    (b"\xff\xfe", "in UTF-16: convert it by iconv -f UTF-16 -t UTF-8"),
];

/// The addresses in a file.
///
/// # Errors
/// When it cannot be read, and the first line that has none.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Range>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read the list {}", path.display()))?;
    let text = unpacked(bytes).with_context(|| format!("cannot unpack the list {}", path.display()))?;
    parse(&text).with_context(|| format!("the list {} is wrong", path.display()))
}

fn unpacked(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    MultiGzDecoder::new(&bytes[..]).take(LONGEST + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= LONGEST, "it has more than {LONGEST} bytes");
    Ok(text)
}

fn parse(text: &[u8]) -> anyhow::Result<Vec<Range>> {
    if let Some((_, what)) = FOREIGN.iter().find(|(beginning, _)| text.starts_with(beginning)) {
        bail!("it is {what}");
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut ranges = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        match line::read(line) {
            Some(Line::Nothing) => {}
            Some(Line::Addresses(range)) => ranges.push(range),
            None => {
                let shown: String = String::from_utf8_lossy(line.trim_ascii()).chars().take(SHOWN).collect();
                bail!(
                    "line {number} is no address, network (192.0.2.0/24), range (192.0.2.1 - 192.0.2.9), and no line of a \
                     .p2p or ipfilter.dat: {shown:?}"
                );
            }
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    const TWO: [Range; 2] = [Range::V4(0x0102_0304, 0x0102_0304), Range::V6(1, 1)];

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn lines_end_and_files_begin_as_editors_have_them() {
        for text in [
            &b"1.2.3.4\n::1"[..],
            b"1.2.3.4\n::1\n",
            b"1.2.3.4\r\n\r\n::1\r\n",
            b"\xef\xbb\xbf1.2.3.4\n::1\n",
            b"\xef\xbb\xbf# a list\n1.2.3.4\n::1\n",
            b"# caf\xe9\n1.2.3.4\nname \xff\xfe:1.2.3.4-1.2.3.4\n::1\n",
        ] {
            let mut ranges = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error:#}"));
            ranges.dedup();
            assert_eq!(ranges, TWO, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(parse(b"").expect("nothing"), []);
        assert_eq!(parse(b"\xef\xbb\xbf").expect("nothing"), []);
    }

    #[test]
    fn packed_files_are_read_whole_or_not_at_all() {
        let text = b"1.2.3.4\n::1\n";
        let whole = packed(text);
        // Several parts one behind the other are one file.
        let parts = [packed(b"1.2.3.4\n"), packed(b"::1\n")].concat();
        for bytes in [text.to_vec(), whole.clone(), parts] {
            assert_eq!(parse(&unpacked(bytes).expect("whole")).expect("right"), TWO);
        }
        for damaged in [whole[..whole.len() - 5].to_vec(), whole[..12].to_vec(), [&whole[..], b"more"].concat()] {
            assert!(unpacked(damaged).is_err());
        }
    }

    #[test]
    fn wrong_lines_are_refused_by_number_and_foreign_files_by_name() {
        for (text, said) in [
            (&b"x"[..], "line 1 "),
            (b"1.2.3.4\n\n1.2.3.4.5\n", "line 3 "),
            (b"# x\r\n1.2.3.4\r\n1.2.3.0/33\r\n", "line 3 "),
            (b"<!DOCTYPE html>\n<html>", "line 1 "),
            (b"1.2.3.4\n\xef\xbb\xbf1.2.3.4", "line 2 "),
            (b"PK\x03\x04.....", "zip"),
            (b"7z\xbc\xaf\x27\x1c", "7z"),
            (b"\xff\xff\xff\xffP2B\x02", "binary"),
            (b"\xff\xfe1\0.\x002\0", "UTF-16"),
            (&[0xfe; 500], "line 1 "),
        ] {
            let error = parse(text).expect_err("wrong").to_string();
            assert!(error.contains(said) && error.len() < 500, "{said}: {error}");
        }
        let error = read(Path::new("/nonexistent/list")).expect_err("not there");
        assert!(format!("{error:#}").contains("/nonexistent/list"), "{error:#}");
    }
}
