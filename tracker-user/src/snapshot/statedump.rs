//! The lines of opentracker's state files, as `/stats?mode=statedump` writes and `-l` reads them:
//! info_hash in hexadecimal digits, the minute since 1970 at which the torrent was last seen in use,
//! and how many downloads were completed, with colons between.

use super::columns::{COMPLETED_MAX, Torrent};
use std::{
    fmt,
    io::{self, BufRead, Read as _, Write},
};
use tracker_common::id::InfoHash;

/// Longer lines are none: 40 digits, twice as many as a number of 64 bits has, and room for zeros.
const LINE_MAX: u64 = 256;

/// A minute may be ahead of this machine's clock by so many: clocks differ.
const AHEAD: u64 = 24 * 60;

/// A torrent of a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The minute since 1970 at which it was last seen in use.
    pub minute: u64,
    /// Downloads completed.
    pub completed: u32,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Longer than any.
    TooLong,
    /// Not three fields.
    Fields(usize),
    /// The first field has another length.
    HashLength(usize),
    /// The first field has something else in it than hexadecimal digits.
    HashDigit,
    /// A field is no number. Which one.
    NoNumber(&'static str),
    /// A field is a negative number. Which one.
    Negative(&'static str),
    /// A number is larger than any that could be meant. Which one.
    TooLarge(&'static str),
    /// The minute has not come yet.
    Future(u64),
    /// The torrent stood in an earlier line.
    Twice,
}

const MINUTE: &str = "the minute";
const COMPLETED: &str = "the number of downloads";

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {LINE_MAX} bytes"),
            Self::Fields(fields) => {
                write!(f, "info_hash:minute:downloads is wanted, with two colons; there are {}", fields - 1)
            }
            Self::HashLength(length) => write!(f, "an info_hash has 40 hexadecimal digits, and this one {length}"),
            Self::HashDigit => write!(f, "the info_hash has something else in it than hexadecimal digits"),
            Self::NoNumber(which) => write!(f, "{which} is no number"),
            Self::Negative(which) => write!(f, "{which} is negative"),
            Self::TooLarge(which) => write!(f, "{which} is larger than any that can be kept"),
            Self::Future(minute) => write!(f, "the minute {minute} has not come yet"),
            Self::Twice => write!(f, "the torrent stood in an earlier line; the larger number counts"),
        }
    }
}

fn number(field: &[u8], which: &'static str) -> Result<u64, Wrong> {
    if field.first() == Some(&b'-') && field.len() > 1 && field[1..].iter().all(u8::is_ascii_digit) {
        return Err(Wrong::Negative(which));
    }
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return Err(Wrong::NoNumber(which));
    }
    str::from_utf8(field).ok().and_then(|text| text.parse().ok()).ok_or(Wrong::TooLarge(which))
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

impl Line {
    /// Reads a line without its end; `None` if nothing stands in it. `now` is the present minute
    /// since 1970.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8], now: u64) -> Result<Option<Self>, Wrong> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(hash), Some(minute), Some(completed), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(Wrong::Fields(line.split(|byte| *byte == b':').count()));
        };
        if hash.len() != 40 {
            return Err(Wrong::HashLength(hash.len()));
        }
        let mut info_hash = InfoHash::default();
        for (byte, [high, low]) in info_hash.iter_mut().zip(hash.as_chunks::<2>().0) {
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(Wrong::HashDigit) };
            *byte = high << 4 | low;
        }
        let minute = number(minute, MINUTE)?;
        let completed = number(completed, COMPLETED)?;
        if minute > now + AHEAD {
            return Err(Wrong::Future(minute));
        }
        let completed = u32::try_from(completed).ok().filter(|completed| *completed <= COMPLETED_MAX);
        Ok(Some(Self { info_hash, minute, completed: completed.ok_or(Wrong::TooLarge(COMPLETED))? }))
    }

    /// The line of a torrent in a snapshot of this second.
    #[must_use]
    pub fn of(torrent: &Torrent, taken_at: u64) -> Self {
        let minute = (taken_at / 60).saturating_sub(torrent.idle.into());
        Self { info_hash: torrent.info_hash, minute, completed: torrent.completed }
    }

    /// Writes it, with its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for byte in self.info_hash {
            write!(to, "{byte:02X}")?;
        }
        writeln!(to, ":{}:{}", self.minute, self.completed)
    }
}

/// Calls `take` with the number of each line, counted from 1, and what it is; lines with nothing in
/// them are left out.
///
/// # Errors
/// When the input cannot be read.
pub fn read(mut from: impl BufRead, now: u64, mut take: impl FnMut(u64, Result<Line, Wrong>)) -> io::Result<()> {
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        if from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        let parsed = if line.len() as u64 == LINE_MAX && !line.ends_with(b"\n") {
            from.skip_until(b'\n')?;
            Err(Wrong::TooLong)
        } else {
            Line::parse(&line, now)
        };
        if let Some(parsed) = parsed.transpose() {
            take(number, parsed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 29_400_000;
    const HASH: &str = "00112233445566778899AaBbCcDdEeFf01234567";
    const BYTES: InfoHash = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01\x23\x45\x67";

    #[test]
    fn lines_are_read_or_refused_with_a_reason() {
        let line = |minute, completed| Ok(Some(Line { info_hash: BYTES, minute, completed }));
        let rows: [(String, Result<Option<Line>, Wrong>); 27] = [
            (format!("{HASH}:29399999:7"), line(29_399_999, 7)),
            (format!("{}:1:0", HASH.to_lowercase()), line(1, 0)),
            (format!("{HASH}:0:0"), line(0, 0)),
            (format!("{HASH}:00:0000000000000000000000000007"), line(0, 7)),
            (format!("{HASH}:29401440:1"), line(29_401_440, 1)),
            (format!("{HASH}:1:536870911"), line(1, 536_870_911)),
            (format!("{HASH}:5:7\r"), line(5, 7)),
            (format!(" {HASH}:5:7\t "), line(5, 7)),
            (String::new(), Ok(None)),
            ("\r".into(), Ok(None)),
            (format!("{HASH}:29401441:1"), Err(Wrong::Future(29_401_441))),
            (format!("{HASH}:18446744073709551615:1"), Err(Wrong::Future(u64::MAX))),
            (format!("{HASH}:18446744073709551616:1"), Err(Wrong::TooLarge(MINUTE))),
            (format!("{HASH}:1:536870912"), Err(Wrong::TooLarge(COMPLETED))),
            (format!("{HASH}:1:4294967296"), Err(Wrong::TooLarge(COMPLETED))),
            (format!("{HASH}:1:99999999999999999999999"), Err(Wrong::TooLarge(COMPLETED))),
            (format!("{HASH}:-1:1"), Err(Wrong::Negative(MINUTE))),
            (format!("{HASH}:1:-7"), Err(Wrong::Negative(COMPLETED))),
            (format!("{HASH}:1:-"), Err(Wrong::NoNumber(COMPLETED))),
            (format!("{HASH}:1:+7"), Err(Wrong::NoNumber(COMPLETED))),
            (format!("{HASH}::7"), Err(Wrong::NoNumber(MINUTE))),
            (format!("{HASH}:1:7.0"), Err(Wrong::NoNumber(COMPLETED))),
            (format!("{HASH}:1"), Err(Wrong::Fields(2))),
            (format!("{HASH}:1:2:3"), Err(Wrong::Fields(4))),
            (format!("{}:1:2", &HASH[1..]), Err(Wrong::HashLength(39))),
            (format!("g{}:1:2", &HASH[1..]), Err(Wrong::HashDigit)),
            ("d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei0ee".into(), Err(Wrong::Fields(4))),
        ];
        for (text, expected) in rows {
            assert_eq!(Line::parse(text.as_bytes(), NOW), expected, "{text:?}");
        }
        for garbage in [&b"\xff\xfe\x00"[..], b":", b"::", b":::", &[b'0'; 200]] {
            assert!(Line::parse(garbage, NOW).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn lines_are_numbered_and_long_ones_skipped_whole() {
        let long = "0".repeat(100_000);
        let text = format!("{HASH}:1:1\r\n\n{long}:1:1\n{HASH}:2:2\nnothing\n{HASH}:3:3");
        let mut seen = Vec::new();
        read(text.as_bytes(), NOW, |number, line| seen.push((number, line.map(|line| line.completed)))).expect("bytes");
        let expected = [(1, Ok(1)), (3, Err(Wrong::TooLong)), (4, Ok(2)), (5, Err(Wrong::Fields(1))), (6, Ok(3))];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_written_is_what_opentracker_writes_and_is_read_again() {
        let torrent = Torrent { info_hash: BYTES, completed: 12, idle: 5 };
        let line = Line::of(&torrent, NOW * 60 + 59);
        let mut written = Vec::new();
        line.write(&mut written).expect("memory");
        assert_eq!(written, format!("{}:29399995:12\n", HASH.to_uppercase()).into_bytes());
        assert_eq!(Line::parse(&written, NOW), Ok(Some(line)));
    }
}
