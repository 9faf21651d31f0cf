//! One line of a file with addresses, in any of the forms that lists have:
//!
//! - a network, a range or a single address, and perhaps a comment: `192.0.2.0/24 ; why`,
//!   `2001:db8::1 - 2001:db8::ff`
//! - PeerGuardian's `.p2p`: `a name: with anything:192.0.2.0-192.0.2.255`
//! - eMule's `ipfilter.dat`: `192.000.002.000 - 192.000.002.255 , 000 , a name`, where a level above
//!   127 says that these are let through
//!
//! Lines are bytes: names are often in Latin-1. Octets are decimal, with any zeros before them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The level from which on eMule lets addresses through.
const LET_THROUGH: u32 = 128;

/// Addresses from one to another, both included, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing: it is empty, a comment, or about addresses that are let through.
    Nothing,
    /// These addresses.
    Addresses(Range),
}

/// Reads a line; `None` if it is of no form that is known.
pub(super) fn read(line: &[u8]) -> Option<Line> {
    let line = line.trim_ascii();
    if line.is_empty() || matches!(line[0], b'#' | b';') || line.starts_with(b"//") {
        return Some(Line::Nothing);
    }
    let end = line.iter().position(|byte| matches!(byte, b',' | b';' | b'#')).unwrap_or(line.len());
    let (head, behind) = line.split_at(end);
    let plain = pair(head);
    let level = behind.strip_prefix(b",").map(level);
    match (plain, level) {
        (Some(_), Some(Some(level))) if level >= LET_THROUGH => return Some(Line::Nothing),
        (Some(pair), None | Some(Some(_))) if pair.is_in_order() && !pair.is_v6_range() => return pair.range(),
        _ => {}
    }
    // The name may have colons, and so have IPv6 addresses, and what stands before a colon may be
    // taken for a part of one: the range with the fewest addresses is meant.
    let colons = line.iter().enumerate().filter(|(_, byte)| **byte == b':');
    let named = colons.filter_map(|(at, _)| pair(&line[at + 1..]).filter(|pair| pair.is_range));
    let found = named.chain(plain.filter(Pair::is_v6_range)).min_by_key(Pair::width).or(plain);
    let Some(found) = found else {
        // A comment behind nothing but a space.
        let token = head.iter().position(u8::is_ascii_whitespace)?;
        if head[token..].trim_ascii_start().starts_with(b"-") {
            return None;
        }
        return pair(&head[..token])?.range();
    };
    found.range()
}

/// The number that a field of `ipfilter.dat` begins with, if it is one.
fn level(field: &[u8]) -> Option<u32> {
    let end = field.iter().position(|byte| *byte == b',').unwrap_or(field.len());
    std::str::from_utf8(field[..end].trim_ascii()).ok()?.parse().ok()
}

/// The two ends of something, in the order in which they are written.
#[derive(Clone, Copy)]
struct Pair {
    from: IpAddr,
    to: IpAddr,
    /// It is written as a range.
    is_range: bool,
}

impl Pair {
    fn is_in_order(&self) -> bool {
        self.from <= self.to
    }

    fn is_v6_range(&self) -> bool {
        self.is_range && self.from.is_ipv6()
    }

    /// From the one address to the other.
    fn width(&self) -> u128 {
        let bits = |address| match address {
            IpAddr::V4(address) => u128::from(Ipv4Addr::to_bits(address)),
            IpAddr::V6(address) => address.to_bits(),
        };
        bits(self.to).abs_diff(bits(self.from))
    }

    /// A range that is written the wrong way round is meant the other way.
    fn range(self) -> Option<Line> {
        let range = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.to_bits(), to.to_bits());
                Range::V4(from.min(to), from.max(to))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (from, to) = (from.to_bits(), to.to_bits());
                Range::V6(from.min(to), from.max(to))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        Some(Line::Addresses(range))
    }
}

/// A range, a network or an address.
fn pair(text: &[u8]) -> Option<Pair> {
    let text = text.trim_ascii();
    let at = text.iter().position(|byte| matches!(byte, b'-' | b'/'));
    let Some(at) = at else {
        let address = address(text)?.to_canonical();
        return Some(Pair { from: address, to: address, is_range: false });
    };
    let (one, other) = (address(text[..at].trim_ascii())?, text[at + 1..].trim_ascii());
    if text[at] == b'-' {
        let (from, to) = (one.to_canonical(), address(other)?.to_canonical());
        return (from.is_ipv4() == to.is_ipv4()).then_some(Pair { from, to, is_range: true });
    }
    let bits: u32 = std::str::from_utf8(other).ok()?.parse().ok()?;
    let (from, to) = match one {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            (bits <= 32).then(|| {
                ((address.to_bits() & !host).to_be_bytes().into(), (address.to_bits() | host).to_be_bytes().into())
            })?
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            let ends = [address.to_bits() & !host, address.to_bits() | host];
            let [from, to] = ends.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
            // A network of IPv4-mapped addresses is one of IPv4.
            let mapped = (from.to_canonical(), to.to_canonical());
            (bits <= 128).then_some(if mapped.0.is_ipv4() && mapped.1.is_ipv4() { mapped } else { (from, to) })?
        }
    };
    Some(Pair { from, to, is_range: false })
}

fn address(text: &[u8]) -> Option<IpAddr> {
    if text.contains(&b':') {
        return Some(IpAddr::V6(std::str::from_utf8(text).ok()?.parse().ok()?));
    }
    let mut octets = [0; 4];
    let mut fields = text.split(|byte| *byte == b'.');
    for octet in &mut octets {
        let field = fields.next()?;
        if !(1..=3).contains(&field.len()) || !field.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = field.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        *octet = u8::try_from(number).ok()?;
    }
    fields.next().is_none().then_some(IpAddr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(from: &str, to: &str) -> Option<Line> {
        let [from, to] = [from, to].map(|text| text.parse::<Ipv4Addr>().expect("an address").to_bits());
        Some(Line::Addresses(Range::V4(from, to)))
    }

    fn v6(from: &str, to: &str) -> Option<Line> {
        let [from, to] = [from, to].map(|text| text.parse::<Ipv6Addr>().expect("an address").to_bits());
        Some(Line::Addresses(Range::V6(from, to)))
    }

    fn check(rows: &[(&[u8], Option<Line>)]) {
        for (line, expected) in rows {
            assert_eq!(read(line), *expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn networks_ranges_and_addresses_are_read() {
        check(&[
            (b"192.0.2.7", v4("192.0.2.7", "192.0.2.7")),
            (b"  192.0.2.7\t\r", v4("192.0.2.7", "192.0.2.7")),
            (b"192.0.2.0/24", v4("192.0.2.0", "192.0.2.255")),
            (b"192.0.2.7/24", v4("192.0.2.0", "192.0.2.255")),
            (b"0.0.0.0/0", v4("0.0.0.0", "255.255.255.255")),
            (b"192.0.2.7/32", v4("192.0.2.7", "192.0.2.7")),
            (b"010.001.000.009", v4("10.1.0.9", "10.1.0.9")),
            (b"192.0.2.0 / 24", v4("192.0.2.0", "192.0.2.255")),
            (b"192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"192.0.2.1 - 192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"192.0.2.9 - 192.0.2.1", v4("192.0.2.1", "192.0.2.9")),
            (b"2001:db8::/32", v6("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")),
            (b"2001:DB8::7", v6("2001:db8::7", "2001:db8::7")),
            (b"::/0", v6("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            (b"2001:db8::1-2001:db8::2", v6("2001:db8::1", "2001:db8::2")),
            (b"::ffff:192.0.2.0/120", v4("192.0.2.0", "192.0.2.255")),
            (b"::ffff:192.0.2.7", v4("192.0.2.7", "192.0.2.7")),
        ]);
    }

    #[test]
    fn comments_and_what_is_let_through_say_nothing() {
        check(&[
            (b"", Some(Line::Nothing)),
            (b" \t\r", Some(Line::Nothing)),
            (b"# 192.0.2.1", Some(Line::Nothing)),
            (b"; Spamhaus", Some(Line::Nothing)),
            (b"// 192.0.2.1", Some(Line::Nothing)),
            (b"192.0.2.0/24 ; SBL123", v4("192.0.2.0", "192.0.2.255")),
            (b"192.0.2.0/24;SBL123", v4("192.0.2.0", "192.0.2.255")),
            (b"192.0.2.7 # why: 1.2.3.4", v4("192.0.2.7", "192.0.2.7")),
            (b"192.0.2.7 somebody", v4("192.0.2.7", "192.0.2.7")),
            (b"2001:db8::/48 # why", v6("2001:db8::", "2001:db8:0:ffff:ffff:ffff:ffff:ffff")),
        ]);
    }

    #[test]
    fn peer_guardians_names_may_have_anything_in_them() {
        check(&[
            (b"name:192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b":192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"a: name, with: more; # - things:192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"http://a.example:80:192.0.2.1 - 192.0.2.9 ", v4("192.0.2.1", "192.0.2.9")),
            (b"10.0.0.1:192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"10.0.0.1, Inc:192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"10.0.0.1-10.0.0.2:192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"Soci\xe9t\xe9:192.0.2.1-192.0.2.9", v4("192.0.2.1", "192.0.2.9")),
            (b"reversed:192.0.2.9-192.0.2.1", v4("192.0.2.1", "192.0.2.9")),
            (b"six:2001:db8::1-2001:db8::9", v6("2001:db8::1", "2001:db8::9")),
            (b"bad:2001:db8::1-2001:db8::9", v6("2001:db8::1", "2001:db8::9")),
            (b"a:b:c:2001:db8::1-2001:db8::9", v6("2001:db8::1", "2001:db8::9")),
            (b"1234:2001:db8::1-2001:db8::9", v6("2001:db8::1", "2001:db8::9")),
            (b"six:2001:db8::9-2001:db8::1", v6("2001:db8::1", "2001:db8::9")),
        ]);
    }

    #[test]
    fn emules_levels_decide() {
        let range = v4("1.2.3.4", "1.2.3.255");
        check(&[
            (b"001.002.003.004 - 001.002.003.255 , 000 , name", range),
            (b"001.002.003.004 - 001.002.003.255 , 100 , a: name - with 1.1.1.1", range),
            (b"001.002.003.004-001.002.003.255,127,x", range),
            (b"001.002.003.004 - 001.002.003.255 , 128 , name", Some(Line::Nothing)),
            (b"001.002.003.004 - 001.002.003.255 , 255 ,", Some(Line::Nothing)),
            (b"001.002.003.255 - 001.002.003.004 , 200 , name", Some(Line::Nothing)),
            (b"001.002.003.255 - 001.002.003.004 , 000 , name", range),
            (b"001.002.003.004 - 001.002.003.255 , 0", range),
            (b"001.002.003.004 - 001.002.003.255 , name", range),
            (b"001.002.003.004 - 001.002.003.255", range),
            (b"001.002.003.004 - 001.002.003.255 , 000 , Soci\xe9t\xe9", range),
            (b"008.009.010.099 - 008.009.010.099 , 000 , no octal", v4("8.9.10.99", "8.9.10.99")),
        ]);
    }

    #[test]
    fn what_is_none_of_these_is_refused() {
        for line in [
            &b"x"[..],
            b"name:",
            b"name:192.0.2.1",
            b"name:192.0.2.1-",
            b"name:192.0.2.1-192.0.2",
            b"192.0.2",
            b"192.0.2.1.1",
            b"192.0.2.256",
            b"192.0.2.0001",
            b"192.0.2.-1",
            b"192.0.2.1 -",
            b"192.0.2.1 - x",
            b"192.0.2.1 - x, 000, name",
            b"192.0.2.0/33",
            b"192.0.2.0/-1",
            b"192.0.2.0/",
            b"192.0.2.0/24-192.0.3.0/24",
            b"2001:db8::/129",
            b"2001:db8",
            b"192.0.2.1 - 2001:db8::1",
            b"2001:db8::1-192.0.2.1",
            b"-",
            b"/",
            b",",
            b":-",
            b"\0\0\0\0",
            b"\xff\xff\xff\xffP2B\x02",
            b"<html>",
        ] {
            assert_eq!(read(line), None, "{}", String::from_utf8_lossy(line));
        }
    }
}
