//! The values of options, as people write them. The command line and the file take the same.

use crate::listen;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// The port trackers have always had.
pub const DEFAULT_PORT: u16 = 6969;

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok(Self::On),
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            _ => Err("it can be on or off".into()),
        }
    }
}

/// An address to listen on, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Do not listen.
    Off,
    /// Listen here.
    At(SocketAddr),
    /// Listen on this Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What a file may say instead.
        if text.eq_ignore_ascii_case("off") || text == "false" {
            return Ok(Self::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.strip_prefix('/') {
                Some(_) => Ok(Self::Unix(path.into())),
                None => Err(format!("{text:?} is no absolute path, such as unix:/run/tracker/http.sock")),
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_multicast() || address.ip() == IpAddr::from([255; 4]) => {
                Err(format!("{} is the address of many hosts, and nobody can answer from it", address.ip()))
            }
            Ok(address) => Ok(Self::At(address)),
            // With the name of an interface.
            Err(_) if text.contains('%') => {
                listen::address::parse(text).map(Self::At).map_err(|wrong| format!("{text:?} {wrong}"))
            }
            Err(_) => Err(explain_address(text)),
        }
    }
}

/// What is wrong with an address, with the nearest right one.
fn explain_address(text: &str) -> String {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!("{text:?} has no port; write {}", SocketAddr::new(address, DEFAULT_PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some(parts) => parts,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => ("", text),
        None => (text, ""),
    };
    let usable = port.parse::<u16>().unwrap_or(DEFAULT_PORT);
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_err() {
        return format!("{text:?} has the port {port}, but the largest is 65535");
    }
    let what =
        if host.is_empty() || host == "*" { "has no address" } else { "is not ADDRESS:PORT with a numeric address" };
    format!("{text:?} {what}, such as 0.0.0.0:{usable}, [::]:{usable} or 192.0.2.1:{usable}")
}

/// A number of things: `1000`, `1_000`, `10k`, `1.5M`, `2G`.
///
/// # Errors
/// What is wrong with it.
pub fn count(text: &str) -> Result<u64, String> {
    const EXAMPLES: &str = "a whole number is wanted, such as 1000, 10k, 1.5M or 1_000_000";
    let text = text.trim();
    let (digits, zeros) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 3),
        Some((at, 'm' | 'M')) => (&text[..at], 6),
        Some((at, 'g' | 'G')) => (&text[..at], 9),
        Some(_) => (text, 0),
        None => return Err(format!("nothing is given; {EXAMPLES}")),
    };
    let digits = digits.trim_end();
    if digits.starts_with('-') {
        return Err(format!("it cannot be negative; {EXAMPLES}"));
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
            && part.starts_with(|first: char| first.is_ascii_digit())
            && part.ends_with(|last: char| last.is_ascii_digit())
    };
    if !is_number(whole) || !is_number(fraction) {
        return Err(format!("it is no number; {EXAMPLES}"));
    }
    let (whole, fraction) = (whole.replace('_', ""), fraction.replace('_', ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > zeros {
        return Err(format!("it is a fraction; {EXAMPLES}"));
    }
    // All digits, and as many zeros as the fraction lacks.
    format!("{whole}{fraction}{:0<1$}", "", zeros - fraction.len())
        .parse()
        .map_err(|_| "it is larger than any that could be meant".into())
}

/// A number of seconds: `1800`, or with units: `90s`, `30m`, `1h30m`, `2d`.
///
/// # Errors
/// What is wrong with it.
pub fn seconds(text: &str) -> Result<u64, String> {
    const EXAMPLES: &str = "seconds are wanted, such as 1800, or a time such as 90s, 30m, 1h30m or 2d";
    let wrong = |what: &str| format!("{what}; {EXAMPLES}");
    let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    if text.is_empty() {
        return Err(wrong("nothing is given"));
    }
    if text.starts_with('-') {
        return Err(wrong("it cannot be negative"));
    }
    let mut rest = text.as_str();
    let mut total = Some(0_u64);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let end = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let length = match unit {
            "" if rest.len() == text.len() && after.is_empty() => 1,
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong("it is no time")),
        };
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(wrong("it is no time"));
        }
        let number = digits.replace('_', "").parse::<u64>().ok();
        total = number.and_then(|number| number.checked_mul(length)?.checked_add(total?));
        rest = after;
    }
    total.ok_or_else(|| wrong("it is longer than any that could be meant"))
}

/// A number of seconds, or 0 for `off`.
///
/// # Errors
/// What is wrong with it.
pub fn seconds_or_off(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(Switch::Off) => Ok(0),
        _ => seconds(text).map_err(|wrong| format!("{wrong}, or off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_as_people_write_them() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("2M", Ok(2_000_000)),
            ("2m", Ok(2_000_000)),
            ("10k", Ok(10_000)),
            ("10K", Ok(10_000)),
            ("1.5M", Ok(1_500_000)),
            ("0.25k", Ok(250)),
            ("1.50", Err("fraction")),
            ("1.0", Ok(1)),
            ("1_000_000", Ok(1_000_000)),
            ("1_0.5_0k", Ok(10_500)),
            ("3 G", Ok(3_000_000_000)),
            (" 7 ", Ok(7)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err("larger")),
            ("99999999999G", Err("larger")),
            ("1.2345k", Err("fraction")),
            ("", Err("nothing")),
            (" ", Err("nothing")),
            ("-5", Err("negative")),
            ("-2M", Err("negative")),
            ("k", Err("no number")),
            (".5M", Err("no number")),
            ("5.", Err("no number")),
            ("1e6", Err("no number")),
            ("1,000", Err("no number")),
            ("0x10", Err("no number")),
            ("2MB", Err("no number")),
            ("2Mi", Err("no number")),
            ("_1", Err("no number")),
            ("1_", Err("no number")),
            ("many", Err("no number")),
            ("NaN", Err("no number")),
            ("inf", Err("no number")),
            ("二", Err("no number")),
        ] {
            match (count(text), expected) {
                (given, Ok(expected)) => assert_eq!(given, Ok(expected), "{text:?}"),
                (given, Err(reason)) => {
                    assert!(given.as_ref().is_err_and(|error| error.contains(reason)), "{text:?}: {given:?}");
                }
            }
        }
    }

    #[test]
    fn times_are_taken_in_seconds_or_with_units() {
        for (text, expected) in [
            ("1800", Ok(1800)),
            ("1_800", Ok(1800)),
            ("90s", Ok(90)),
            ("30m", Ok(1800)),
            ("30 min", Ok(1800)),
            ("1h30m", Ok(5400)),
            ("1h 30m", Ok(5400)),
            ("2d", Ok(172_800)),
            ("0", Ok(0)),
            ("", Err("nothing")),
            ("-1", Err("negative")),
            ("-1h", Err("negative")),
            ("1h30", Err("no time")),
            ("h", Err("no time")),
            ("1.5h", Err("no time")),
            ("500ms", Err("no time")),
            ("1y", Err("no time")),
            ("soon", Err("no time")),
            ("99999999999999999999", Err("longer")),
            ("999999999999999999d", Err("longer")),
            ("18446744073709551615s1s", Err("longer")),
        ] {
            match (seconds(text), expected) {
                (given, Ok(expected)) => assert_eq!(given, Ok(expected), "{text:?}"),
                (given, Err(reason)) => {
                    assert!(given.as_ref().is_err_and(|error| error.contains(reason)), "{text:?}: {given:?}");
                }
            }
        }
    }

    #[test]
    fn wrong_addresses_are_answered_with_right_ones() {
        for (text, expected) in [
            ("6969", "0.0.0.0:6969"),
            (":7000", "[::]:7000"),
            ("*:7000", "0.0.0.0:7000"),
            ("192.0.2.1", "192.0.2.1:6969"),
            ("2001:db8::1", "[2001:db8::1]:6969"),
            ("[2001:db8::1]", "[2001:db8::1]:6969"),
            ("localhost:80", "numeric address, such as 0.0.0.0:80"),
            ("localhost", "numeric address"),
            ("0.0.0.0:70000", "the largest is 65535"),
            ("70000", "the largest is 65535"),
            ("0.0.0.0:http", "such as 0.0.0.0:6969"),
            ("0.0.0.0:-1", "such as 0.0.0.0:6969"),
            ("", "has no address"),
            ("224.0.0.1:6969", "address of many hosts"),
            ("255.255.255.255:6969", "address of many hosts"),
            ("[ff02::1]:6969", "address of many hosts"),
        ] {
            let error = text.parse::<Listen>().expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn switches_have_their_usual_names() {
        for (text, expected) in [
            ("on", Some(Switch::On)),
            ("TRUE", Some(Switch::On)),
            ("yes", Some(Switch::On)),
            ("off", Some(Switch::Off)),
            ("false", Some(Switch::Off)),
            ("no", Some(Switch::Off)),
            ("maybe", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }
}
