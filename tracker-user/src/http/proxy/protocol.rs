//! The PROXY protocol, versions 1 and 2: what a proxy of TCP sends before everything else, to say
//! for whom. See `proxy-protocol.txt` of HAProxy.

use crate::listen::Source;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of one before the addresses.
const FIXED: usize = 16;

/// The longest of version 1, with its end.
const LONGEST_V1: usize = 107;

/// The longest of version 2 that is taken; its addresses need 36 bytes, and what may follow them is
/// not used.
pub const LONGEST: usize = 4096;

/// It is no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes.
    pub length: usize,
    /// For whom the connection is; `None`: for the proxy itself.
    pub source: Option<Source>,
}

/// Reads the header that `input` begins with; `None` if it is not complete yet.
///
/// # Errors
/// When it begins with anything else.
pub fn read(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |with: &[u8]| {
        let common = input.len().min(with.len());
        input[..common] == with[..common]
    };
    if begins(SIGNATURE) {
        version_2(input)
    } else if begins(b"PROXY ") {
        version_1(input)
    } else {
        Err(Malformed)
    }
}

fn version_1(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let within = &input[..input.len().min(LONGEST_V1)];
    let Some(end) = within.windows(2).position(|end| end == b"\r\n") else {
        return if input.len() < LONGEST_V1 { Ok(None) } else { Err(Malformed) };
    };
    let line = std::str::from_utf8(&input[..end]).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        // Whatever follows means nothing.
        Some("UNKNOWN") => Source::Unknown,
        Some("TCP4") => {
            let addresses: [Ipv4Addr; 2] = [address(words.next())?, address(words.next())?];
            Source::of(addresses[0].into())
        }
        Some("TCP6") => {
            let addresses: [Ipv6Addr; 2] = [address(words.next())?, address(words.next())?];
            Source::of(addresses[0].into())
        }
        Some(_) | None => return Err(Malformed),
    };
    if line.split(' ').nth(1) != Some("UNKNOWN") {
        let is_port = |word: Option<&str>| {
            word.is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok())
        };
        if !is_port(words.next()) || !is_port(words.next()) || words.next().is_some() {
            return Err(Malformed);
        }
    }
    Ok(Some(Header { length: end + 2, source: Some(source) }))
}

fn address<T: std::str::FromStr>(word: Option<&str>) -> Result<T, Malformed> {
    word.and_then(|word| word.parse().ok()).ok_or(Malformed)
}

fn version_2(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(&command) = input.get(12) else { return Ok(None) };
    if !matches!(command, 0x20 | 0x21) {
        return Err(Malformed);
    }
    let Some(&[family, high, low]) = input.get(13..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Malformed);
    }
    let Some(addresses) = input.get(FIXED..length) else { return Ok(None) };
    let source = match (command, family) {
        (0x20, _) => None,
        (_, 0x11) => {
            let (own, _) = addresses.split_first_chunk::<4>().filter(|(_, rest)| rest.len() >= 8).ok_or(Malformed)?;
            Some(Source::of(IpAddr::from(*own)))
        }
        (_, 0x21) => {
            let (own, _) = addresses.split_first_chunk::<16>().filter(|(_, rest)| rest.len() >= 20).ok_or(Malformed)?;
            Some(Source::of(IpAddr::from(*own)))
        }
        // Another kind of socket, or none that the proxy would name.
        (_, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Some(Source::Unknown),
        (_, _) => return Err(Malformed),
    };
    Ok(Some(Header { length, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    fn v6(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().expect("an address");
        [&source.octets()[..], &[0; 16], &[1, 2, 3, 4]].concat()
    }

    fn is(address: &str) -> Option<Source> {
        Some(Source::Address(address.parse().expect("an address")))
    }

    #[test]
    fn headers_are_understood_whole_and_not_before() {
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_V1 - 16));
        let rows: Vec<(Vec<u8>, Option<Source>)> = vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".into(), is("192.0.2.7")),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 0 65535\r\n".into(), is("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 8080 80\r\n".into(), is("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 8080 80\r\n".into(), is("192.0.2.7")),
            (b"PROXY TCP4 0.0.0.0 10.0.0.1 8080 80\r\n".into(), Some(Source::Unknown)),
            (b"PROXY TCP4 224.0.0.1 10.0.0.1 8080 80\r\n".into(), Some(Source::Unknown)),
            (b"PROXY UNKNOWN\r\n".into(), Some(Source::Unknown)),
            (b"PROXY UNKNOWN ffff:: ffff:: 65535 x y z\r\n".into(), Some(Source::Unknown)),
            (long.into_bytes(), Some(Source::Unknown)),
            (v2(0x21, 0x11, &V4), is("192.0.2.7")),
            (v2(0x21, 0x11, &[&V4[..], &[0x20, 0, 3, 1, 2, 3]].concat()), is("192.0.2.7")),
            (v2(0x21, 0x21, &v6("2001:db8::7")), is("2001:db8::7")),
            (v2(0x21, 0x21, &v6("::ffff:192.0.2.7")), is("192.0.2.7")),
            (v2(0x21, 0x21, &v6("::")), Some(Source::Unknown)),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, &V4), None),
            (v2(0x21, 0x00, b""), Some(Source::Unknown)),
            (v2(0x21, 0x31, &[0; 216]), Some(Source::Unknown)),
            (v2(0x21, 0x11, &[&V4[..], &[0; 4000]].concat()), is("192.0.2.7")),
        ];
        for (bytes, source) in rows {
            let shown = bytes.escape_ascii().to_string();
            let with_more = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(read(&with_more), Ok(Some(Header { length: bytes.len(), source })), "{shown}");
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "the first {end} bytes of {shown}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let rows: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\n\r\n".into(),
            b"\x16\x03\x01\x02\x00\x01".into(),
            b"proxy TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".into(),
            b"PROXYTCP4".into(),
            b"PROXY \r\n".into(),
            b"PROXY TCP5 192.0.2.7 10.0.0.1 8080 80\r\n".into(),
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".into(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n".into(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80 \r\n".into(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 65536\r\n".into(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +80 80\r\n".into(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 \r\n".into(),
            b"PROXY TCP4 192.0.2.256 10.0.0.1 8080 80\r\n".into(),
            b"PROXY TCP4 192.0.02.1 10.0.0.1 8080 80\r\n".into(),
            b"PROXY TCP4 2001:db8::7 2001:db8::1 8080 80\r\n".into(),
            b"PROXY TCP6 192.0.2.7 10.0.0.1 8080 80\r\n".into(),
            b"PROXY TCP4 192.0.2.7 \xff 8080 80\r\n".into(),
            b"x".repeat(200),
            [&b"PROXY UNKNOWN "[..], &b"f".repeat(LONGEST_V1)].concat(),
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x31, 0x11, &V4),
            v2(0x21, 0x13, &V4),
            v2(0x21, 0x41, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x11, &[0; LONGEST]),
            v2(0x20, 0x00, &[0; 65535]),
            [&SIGNATURE[..11], b"\0\x21\x11"].concat(),
        ];
        for bytes in rows {
            let refused = (0..=bytes.len()).any(|end| read(&bytes[..end]) == Err(Malformed));
            assert!(refused, "{}", bytes.escape_ascii());
            assert_eq!(read(&bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
    }
}
