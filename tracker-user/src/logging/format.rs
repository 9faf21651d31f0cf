//! A line as text for people, as JSON for machines, or in the journal's own protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use super::Record;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    str::FromStr,
    sync::atomic::{AtomicU8, Ordering},
};
use tracing::Level;
use tracing_subscriber::fmt::{
    format,
    time::{FormatTime as _, SystemTime},
};

/// Where the journal takes lines.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// Set by systemd to the device and inode of standard error, if that is the journal's.
const STREAM: &str = "JOURNAL_STREAM";

/// What a line is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// Text, or the journal's own protocol if standard error leads to the journal.
    #[default]
    Auto,
    /// For people.
    Text,
    /// An object per line.
    Json,
    /// For the journal, with level and fields.
    Journald,
}

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    StandardError,
    /// The journal.
    Journal,
}

static CURRENT: AtomicU8 = AtomicU8::new(Format::Text as u8);

/// How lines are written now.
pub(super) fn current() -> Format {
    match CURRENT.load(Ordering::Relaxed) {
        json if json == Format::Json as u8 => Format::Json,
        journald if journald == Format::Journald as u8 => Format::Journald,
        _ => Format::Text,
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            _ => Err("it can be auto, text, json or journald".into()),
        }
    }
}

impl Format {
    /// What `auto` is here.
    fn chosen(self) -> Self {
        match self {
            Self::Auto if leads_to_the_journal() => Self::Journald,
            Self::Auto => Self::Text,
            other @ (Self::Text | Self::Json | Self::Journald) => other,
        }
    }

    /// The socket that lines are sent to, if they are.
    #[must_use]
    pub fn journal(self) -> Option<&'static Path> {
        (self.chosen() == Self::Journald).then_some(Path::new(JOURNAL))
    }

    /// Has lines be written in this format from now on.
    pub fn set(self) {
        let format = self.chosen();
        if format == Self::Journald && !Path::new(JOURNAL).exists() {
            tracing::warn!("there is no journal at {JOURNAL}: lines go to standard error as text");
            return;
        }
        CURRENT.store(format as u8, Ordering::Relaxed);
    }

    /// A line, with how often it was held back before it.
    pub(super) fn encode(self, record: &Record, repeated: u64) -> (Destination, Vec<u8>) {
        match self {
            Self::Auto | Self::Text => {
                (Destination::StandardError, text(record, repeated, io::stderr().is_terminal()).into_bytes())
            }
            Self::Json => (Destination::StandardError, json(record, repeated).into_bytes()),
            Self::Journald => (Destination::Journal, journal(record, repeated)),
        }
    }

    /// The same for what is `text` as it is where people read.
    pub(super) fn encode_plain(self, record: &Record, text: &str) -> (Destination, Vec<u8>) {
        match self {
            Self::Auto | Self::Text => (Destination::StandardError, text.as_bytes().to_vec()),
            Self::Json | Self::Journald => self.encode(record, 0),
        }
    }
}

/// Whether standard error is what systemd says that it is.
fn leads_to_the_journal() -> bool {
    let Some(stream) = std::env::var_os(STREAM) else { return false };
    let own = rustix::fs::fstat(io::stderr().as_fd());
    own.is_ok_and(|own| format!("{}:{}", own.st_dev, own.st_ino).as_bytes() == stream.as_bytes())
}

fn now() -> String {
    let mut time = String::new();
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut time));
    time
}

/// How often a line was held back, in words.
fn times(repeated: u64) -> String {
    match repeated {
        0 => String::new(),
        1 => " (repeated once)".into(),
        times => format!(" (repeated {times} times)"),
    }
}

fn text(record: &Record, repeated: u64, colours: bool) -> String {
    let mut line = now();
    let _ = match colours {
        true => write!(line, " \x1b[{}m{:>5}\x1b[0m ", colour(record.level), record.level),
        false => write!(line, " {:>5} ", record.level),
    };
    push_printable(&mut line, &record.message);
    for (name, value) in &record.fields {
        let _ = write!(line, " {name}=");
        push_printable(&mut line, value);
    }
    let _ = writeln!(line, "{}", times(repeated));
    line
}

/// Of SGR: red, yellow, green, blue, magenta.
fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// What a terminal would obey is shown instead.
fn push_printable(line: &mut String, text: &str) {
    for one in text.chars() {
        match one {
            '\n' | '\t' => line.push(one),
            one if one.is_control() => line.extend(one.escape_default()),
            one => line.push(one),
        }
    }
}

fn json(record: &Record, repeated: u64) -> String {
    let mut object = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Value| object.insert(name.to_owned(), value);
    put("time", now().into());
    put("level", record.level.as_str().to_lowercase().into());
    put("target", record.target.into());
    put("message", record.message.clone().into());
    if !record.fields.is_empty() {
        let fields = record.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
        put("fields", serde_json::Value::Object(fields.collect()));
    }
    if repeated > 0 {
        put("repeated", repeated.into());
    }
    format!("{}\n", serde_json::Value::Object(object))
}

fn journal(record: &Record, repeated: u64) -> Vec<u8> {
    // Of syslog.
    let priority = match record.level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut bytes = Vec::new();
    let mut put = |name: &str, value: &str| {
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    put("PRIORITY", priority);
    put("SYSLOG_IDENTIFIER", "tracker");
    put("TARGET", record.target);
    put("MESSAGE", &format!("{}{}", record.message, times(repeated)));
    for (name, value) in &record.fields {
        // Names of the journal's own begin otherwise.
        put(&format!("TRACKER_{}", name.to_uppercase().replace(['.', '-'], "_")), value);
    }
    if repeated > 0 {
        put("TRACKER_REPEATED", &repeated.to_string());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, fields: &[(&'static str, &str)]) -> Record {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Record { level: Level::WARN, target: "tracker::udp", message: message.into(), fields }
    }

    #[test]
    fn text_is_a_line_with_fields_behind_and_nothing_that_a_terminal_obeys() {
        let rows = [
            (record("lost", &[]), 0, " WARN lost\n"),
            (record("lost", &[("packets", "3"), ("path", "udp")]), 0, " WARN lost packets=3 path=udp\n"),
            (record("lost", &[]), 1, " WARN lost (repeated once)\n"),
            (record("lost", &[]), 12, " WARN lost (repeated 12 times)\n"),
            (record("\x1b[2Jgone\r", &[("a", "\x07")]), 0, " WARN \\u{1b}[2Jgone\\r a=\\u{7}\n"),
        ];
        for (record, repeated, expected) in rows {
            let line = text(&record, repeated, false);
            let (time, rest) = line.split_at(line.find('Z').expect("a time") + 1);
            assert!(time.starts_with("20") && time.len() >= 20, "{line}");
            assert_eq!(rest.trim_start(), expected.trim_start());
        }
        assert!(text(&record("lost", &[]), 0, true).contains("\x1b[33m WARN\x1b[0m lost"));
    }

    #[test]
    fn json_is_an_object_in_a_line() {
        let line = json(&record("two\nlines \"quoted\"", &[("packets", "3")]), 7);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["level"], "warn");
        assert_eq!(read["target"], "tracker::udp");
        assert_eq!(read["message"], "two\nlines \"quoted\"");
        assert_eq!(read["fields"]["packets"], "3");
        assert_eq!(read["repeated"], 7);
        let plain: serde_json::Value = serde_json::from_str(&json(&record("x", &[]), 0)).expect("JSON");
        assert!(plain.get("repeated").is_none() && plain.get("fields").is_none());
    }

    #[test]
    fn journal_gets_fields_and_lines_with_their_length() {
        let bytes = journal(&record("one\ntwo", &[("bytes", "3")]), 2);
        let mut expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=tracker\nTARGET=tracker::udp\nMESSAGE\n".to_vec();
        let message = b"one\ntwo (repeated 2 times)";
        expected.extend((message.len() as u64).to_le_bytes());
        expected.extend(message);
        expected.extend(b"\nTRACKER_BYTES=3\nTRACKER_REPEATED=2\n");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn formats_have_names() {
        for (text, expected) in
            [("auto", Format::Auto), ("TEXT", Format::Text), ("json", Format::Json), ("journald", Format::Journald)]
        {
            assert_eq!(text.parse(), Ok(expected));
        }
        assert!("xml".parse::<Format>().is_err() && "".parse::<Format>().is_err());
    }
}
