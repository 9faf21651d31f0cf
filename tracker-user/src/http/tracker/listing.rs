//! How the list of all torrents is written: as a scrape, and in the other ways that opentracker has
//! for it (`/stats?mode=tpbs&format=…`, `/stats?mode=statedump`).

use super::{bencode::digits, scrape};
use std::time::{SystemTime, UNIX_EPOCH};
use tracker_common::{id::InfoHash, settings::Settings, store::layout::Counts};

/// A way to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The reply to a scrape of everything.
    Scrape,
    /// The same without flags, as opentracker has it.
    Bencoded,
    /// Info_hash, seeders and leechers, in 28 bytes.
    Binary,
    /// `INFO_HASH:SEEDERS:LEECHERS`, in hexadecimal digits.
    Text,
    /// The same, and `:COMPLETED`.
    TextPlus,
    /// `INFO_HASH:SEEDERS:LEECHERS`, percent-encoded.
    UrlEncoded,
    /// A line of a state file: `INFO_HASH:MINUTE:COMPLETED`.
    State,
}

/// What is known of a torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its counts.
    pub counts: Counts,
    /// The store's minute in which it was last seen in use.
    pub minute: u32,
}

const HEXADECIMAL: &[u8; 16] = b"0123456789ABCDEF";

fn hexadecimal(out: &mut Vec<u8>, info_hash: &InfoHash) {
    for byte in info_hash {
        out.extend_from_slice(&[HEXADECIMAL[usize::from(byte >> 4)], HEXADECIMAL[usize::from(byte & 15)]]);
    }
}

/// As libowfat does it, which opentracker uses: letters, digits and a few others stay as they are.
fn percent_encoded(out: &mut Vec<u8>, info_hash: &InfoHash) {
    const PLAIN: &[u8] = b"$-./=_~";
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in info_hash {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

fn numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.push(b':');
        digits(out, *number);
    }
    out.push(b'\n');
}

/// The minute since 1970 that the store's clock was at 0.
#[must_use]
pub fn origin(settings: &Settings) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 60);
    now.saturating_sub(settings.minute.load().into())
}

impl Format {
    /// The names by which opentracker's `format` asks for them.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("bin", Self::Binary),
        ("ben", Self::Bencoded),
        ("url", Self::UrlEncoded),
        ("txt", Self::Text),
        ("txtp", Self::TextPlus),
    ];

    /// The format of that name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, format)| *format)
    }

    /// What the list begins with.
    pub fn begin(self, out: &mut Vec<u8>) {
        if matches!(self, Self::Scrape | Self::Bencoded) {
            out.extend_from_slice(scrape::BEGIN);
        }
    }

    /// Appends a torrent; `origin` is as [`origin`] says. Inlined, as it is done for millions of them.
    #[inline(always)]
    pub fn torrent(self, out: &mut Vec<u8>, info_hash: &InfoHash, listed: Listed, origin: u64) {
        let Listed { counts, minute } = listed;
        let [seeders, leechers, completed] = [counts.seeders, counts.leechers, counts.completed].map(u64::from);
        match self {
            Self::Scrape | Self::Bencoded => scrape::entry(out, info_hash, counts),
            Self::Binary => {
                out.extend_from_slice(info_hash);
                out.extend_from_slice(&counts.seeders.to_be_bytes());
                out.extend_from_slice(&counts.leechers.to_be_bytes());
            }
            Self::Text | Self::TextPlus => {
                hexadecimal(out, info_hash);
                let all = [seeders, leechers, completed];
                numbers(out, if self == Self::Text { &all[..2] } else { &all });
            }
            Self::UrlEncoded => {
                percent_encoded(out, info_hash);
                numbers(out, &[seeders, leechers]);
            }
            Self::State => {
                hexadecimal(out, info_hash);
                numbers(out, &[origin + u64::from(minute), completed]);
            }
        }
    }

    /// What it ends with; `interval` is the number of seconds to wait until the next one.
    pub fn end(self, out: &mut Vec<u8>, interval: u32) {
        match self {
            Self::Scrape => scrape::end(out, interval),
            Self::Bencoded => out.extend_from_slice(b"ee"),
            Self::Binary | Self::Text | Self::TextPlus | Self::UrlEncoded | Self::State => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::statedump::Line;

    fn written(format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        format.begin(&mut out);
        let info_hash: InfoHash = std::array::from_fn(|place| b"\x00\xffaZ09-_.!~*'()+/%: "[place]);
        let counts = Counts { seeders: 1, leechers: 258, completed: 3 };
        format.torrent(&mut out, &info_hash, Listed { counts, minute: 7 }, 29_000_000);
        format.end(&mut out, 900);
        out
    }

    #[test]
    fn each_format_is_opentrackers() {
        const HASH: &str = "00FF615A30392D5F2E217E2A2728292B2F253A20";
        let lines = [
            (Format::Text, format!("{HASH}:1:258\n")),
            (Format::TextPlus, format!("{HASH}:1:258:3\n")),
            (Format::State, format!("{HASH}:29000007:3\n")),
            (Format::UrlEncoded, "%00%ffaZ09-_.%21~%2a%27%28%29%2b/%25%3a%20:1:258\n".to_owned()),
        ];
        for (format, expected) in lines {
            assert_eq!(String::from_utf8(written(format)).expect("text"), expected, "{format:?}");
        }
        assert_eq!(written(Format::Binary)[20..], [0, 0, 0, 1, 0, 0, 1, 2]);
        let bencoded = written(Format::Bencoded);
        assert!(
            bencoded.starts_with(b"d5:filesd20:")
                && bencoded.ends_with(b"d8:completei1e10:downloadedi3e10:incompletei258eeee")
        );
        assert!(written(Format::Scrape).ends_with(b"d20:min_request_intervali900eee"));
    }

    #[test]
    fn a_state_line_can_be_imported() {
        let line = written(Format::State);
        let read = Line::parse(line.trim_ascii_end(), 29_000_010).expect("a line").expect("a torrent");
        assert_eq!((read.minute, read.completed), (29_000_007, 3));
    }

    #[test]
    fn formats_are_found_by_their_exact_names() {
        for (name, format) in Format::NAMED {
            assert_eq!(Format::named(name.as_bytes()), Some(format));
        }
        for name in ["", "BIN", "text", "txtpp"] {
            assert_eq!(Format::named(name.as_bytes()), None, "{name}");
        }
    }
}
