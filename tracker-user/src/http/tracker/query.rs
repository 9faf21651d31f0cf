//! Reading the query of an announce or a scrape.
//!
//! This is written by hand, because general query parsers decode every value into a string of its
//! own, and `info_hash` is not text. Keys are compared as they stand (BEP 3 writes them in lower
//! case, and no client escapes them); other parameters are skipped. Values are decoded; an escape that
//! is none stays as it is, which makes no number and no known event. `+` stands for itself: BEP 3 refers to RFC 1738, which
//! knows no `+` for a space, and opentracker reads it so.

use super::failure::Failure;
use crate::{
    http::target::{decoded, nibble, parameters},
    listen::Source,
};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};
use tracker_common::{id::InfoHash, store::membership::PeerEvent};

/// What an announce says. Everything else in its query (`peer_id`, `uploaded`, …) is not used: a peer is
/// its source address and its port; for a few, what they [name](named) instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The port the peer listens on; not 0.
    pub port: u16,
    /// Whether the peer has everything: `left=0`. A peer that does not say `left` has not.
    pub seeder: bool,
    /// The event. `paused` (BEP 21) and events this tracker does not know are none.
    pub event: PeerEvent,
    /// Peers wanted; `None` for the tracker's default.
    pub num_want: Option<u32>,
    /// False for a client that asks for the list of dictionaries with `compact=0`.
    pub compact: bool,
    /// The client's key; 0 for none.
    pub key: u32,
}

/// Decodes a percent-encoded info_hash; `None` unless it is exactly 20 bytes.
fn info_hash(value: &[u8]) -> Option<InfoHash> {
    let mut hash = [0; 20];
    let mut rest = value;
    for byte in &mut hash {
        rest = match rest {
            [b'%', high, low, rest @ ..] => {
                *byte = nibble(*high)? << 4 | nibble(*low)?;
                rest
            }
            [b'%', ..] | [] => return None,
            [plain, rest @ ..] => {
                *byte = *plain;
                rest
            }
        };
    }
    rest.is_empty().then_some(hash)
}

/// A value without percent-encoding; most have none.
fn plain(value: &[u8]) -> Cow<'_, [u8]> {
    if value.contains(&b'%') { Cow::Owned(decoded(value)) } else { Cow::Borrowed(value) }
}

/// A client's key as a number: the same that it says by UDP, if it writes that in hexadecimal digits,
/// as clients do; else one that is always the same.
fn client_key(value: &[u8]) -> u32 {
    let digits = value.iter().try_fold(0_u32, |number, digit| Some(number << 4 | u32::from(nibble(*digit)?)));
    match digits {
        Some(number) if value.len() <= 8 => number,
        // FNV-1a.
        _ => value.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)),
    }
}

/// Reads decimal digits. Numbers beyond `u64` are read as the largest `u64`, so that none wraps
/// around to a small one.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

/// Reads an announce.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn announce(query: &[u8]) -> Result<Announce, Failure> {
    let mut hash = None;
    let mut port = None;
    let mut seeder = false;
    let mut event = PeerEvent::None;
    let mut num_want = None;
    let mut compact = true;
    let mut client = 0;
    for (key, value) in parameters(query) {
        match key {
            b"info_hash" => {
                let value = info_hash(value).ok_or(Failure::InfoHashMalformed)?;
                if hash.replace(value).is_some() {
                    return Err(Failure::InfoHashRepeated);
                }
            }
            b"port" => {
                let number = decimal(&plain(value)).ok_or(Failure::PortMalformed)?;
                port = Some(u16::try_from(number).map_err(|_| Failure::PortMalformed)?);
            }
            b"left" => {
                seeder = match &*plain(value) {
                    // A client that does not know yet, as with a magnet link, does not have
                    // everything.
                    [] => false,
                    [b'-', digits @ ..] => {
                        decimal(digits).ok_or(Failure::LeftMalformed)?;
                        false
                    }
                    digits => decimal(digits).ok_or(Failure::LeftMalformed)? == 0,
                }
            }
            b"key" => client = client_key(&plain(value)),
            b"event" => {
                event = match &*plain(value) {
                    b"started" => PeerEvent::Started,
                    b"completed" => PeerEvent::Completed,
                    b"stopped" => PeerEvent::Stopped,
                    _ => PeerEvent::None,
                }
            }
            b"numwant" => {
                num_want = match &*plain(value) {
                    [] => None,
                    [b'-', digits @ ..] => {
                        decimal(digits).ok_or(Failure::NumWantMalformed)?;
                        None
                    }
                    digits => {
                        let number = decimal(digits).ok_or(Failure::NumWantMalformed)?;
                        Some(u32::try_from(number).unwrap_or(u32::MAX))
                    }
                }
            }
            b"compact" => compact = *plain(value) != *b"0",
            _ => {}
        }
    }
    let info_hash = hash.ok_or(Failure::InfoHashMissing)?;
    match port {
        None => Err(Failure::PortMissing),
        Some(0) => Err(Failure::PortZero),
        Some(port) => Ok(Announce { info_hash, port, seeder, event, num_want, compact, key: client }),
    }
}

/// The addresses that an announce names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// `ip` (BEP 3).
    pub ip: Option<IpAddr>,
    /// `ipv4` (BEP 7).
    pub ipv4: Option<SocketAddr>,
    /// `ipv6` (BEP 7).
    pub ipv6: Option<SocketAddr>,
}

/// Reads the addresses that an announce with this port names. Empty parameters name none.
///
/// # Errors
/// [`Failure::AddressMalformed`]: a name of a host, an address of the wrong family, or one that no
/// peer can have.
pub fn named(query: &[u8], port: u16) -> Result<Named, Failure> {
    let mut named = Named::default();
    for (key, value) in parameters(query).filter(|(_, value)| !value.is_empty()) {
        match key {
            b"ip" => named.ip = Some(endpoint(value, port)?.ip()),
            b"ipv4" => named.ipv4 = Some(endpoint(value, port)?).filter(SocketAddr::is_ipv4),
            b"ipv6" => named.ipv6 = Some(endpoint(value, port)?).filter(SocketAddr::is_ipv6),
            _ => continue,
        }
        if (key == b"ipv4" && named.ipv4.is_none()) || (key == b"ipv6" && named.ipv6.is_none()) {
            return Err(Failure::AddressMalformed);
        }
    }
    Ok(named)
}

/// An address with or without a port, percent-encoded.
fn endpoint(value: &[u8], port: u16) -> Result<SocketAddr, Failure> {
    let text = String::from_utf8(decoded(value)).map_err(|_| Failure::AddressMalformed)?;
    let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
    let endpoint = plain.parse().map(|ip| SocketAddr::new(ip, port)).or_else(|_| text.parse::<SocketAddr>());
    let endpoint = endpoint.map_err(|_| Failure::AddressMalformed)?;
    let address = Source::of(endpoint.ip()).address().filter(|_| endpoint.port() != 0);
    address.map(|address| SocketAddr::new(address, endpoint.port())).ok_or(Failure::AddressMalformed)
}

/// Reads the info_hashes of a scrape into `hashes`, which is emptied first: sorted and without
/// repetitions, as the keys of the reply have to be. None means that everything is asked for.
///
/// # Errors
/// [`Failure::InfoHashMalformed`].
pub fn scrape(query: &[u8], hashes: &mut Vec<InfoHash>) -> Result<(), Failure> {
    hashes.clear();
    for (_, value) in parameters(query).filter(|(key, _)| *key == b"info_hash") {
        hashes.push(info_hash(value).ok_or(Failure::InfoHashMalformed)?);
    }
    hashes.sort_unstable();
    hashes.dedup();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";
    const HASH_BYTES: InfoHash = *b"\x124Vx\x9a\xbc\xde\xf1#Eg\x89\xab\xcd\xef\x124Vx\x9a";

    /// What every row starts from.
    fn usual() -> Announce {
        Announce {
            info_hash: HASH_BYTES,
            port: 6881,
            seeder: false,
            event: PeerEvent::None,
            num_want: None,
            compact: true,
            key: 0,
        }
    }

    #[test]
    fn announces_are_understood() {
        let rows: &[(&str, &str, Announce)] = &[
            ("nothing but what is needed", "", usual()),
            ("unknown and unused parameters", "&peer_id=x&ip=1.2.3.4&ipv6=%5B::%5D&uploaded=z&corrupt=0&x", usual()),
            ("no peer_id and no_peer_id", "&no_peer_id=1", usual()),
            ("empty pairs", "&&=&", usual()),
            ("keys are case-sensitive", "&LEFT=0&Event=stopped", usual()),
            ("left 0", "&left=0", Announce { seeder: true, ..usual() }),
            ("left 00", "&left=00", Announce { seeder: true, ..usual() }),
            ("left 1", "&left=1", usual()),
            ("left empty", "&left=", usual()),
            ("left unknown", "&left=-1", usual()),
            ("left 2^32 does not wrap", "&left=4294967296", usual()),
            ("left 2^64 does not wrap", "&left=18446744073709551616", usual()),
            ("left of 40 digits", "&left=1000000000000000000000000000000000000000", usual()),
            ("started", "&event=started", Announce { event: PeerEvent::Started, ..usual() }),
            ("completed", "&event=completed&left=0", Announce { event: PeerEvent::Completed, seeder: true, ..usual() }),
            ("stopped", "&event=stopped", Announce { event: PeerEvent::Stopped, ..usual() }),
            ("paused", "&event=paused", usual()),
            ("empty event", "&event=", usual()),
            ("unknown event", "&event=Started", usual()),
            ("numwant 0", "&numwant=0", Announce { num_want: Some(0), ..usual() }),
            ("numwant 1", "&numwant=1", Announce { num_want: Some(1), ..usual() }),
            ("numwant -1", "&numwant=-1", usual()),
            ("numwant empty", "&numwant=", usual()),
            ("numwant beyond 32 bits", "&numwant=4294967297", Announce { num_want: Some(u32::MAX), ..usual() }),
            ("compact 1", "&compact=1", usual()),
            ("compact 0", "&compact=0", Announce { compact: false, ..usual() }),
            ("a key", "&key=00C0FFEE", Announce { key: 0x00c0_ffee, ..usual() }),
            ("a key in small letters", "&key=c0ffee", Announce { key: 0x00c0_ffee, ..usual() }),
            ("no key", "&key=", usual()),
            ("a key that is no number", "&key=xyz", Announce { key: client_key(b"xyz"), ..usual() }),
            ("a longer key", "&key=012345678", Announce { key: client_key(b"012345678"), ..usual() }),
            ("the last port counts", "&port=1", Announce { port: 1, ..usual() }),
            ("an escaped port", "&port=%36881", usual()),
            ("a port of escapes", "&port=%31%30", Announce { port: 10, ..usual() }),
            ("escaped left", "&left=%30", Announce { seeder: true, ..usual() }),
            ("escaped unknown left", "&left=%2D1", usual()),
            ("escaped event", "&event=%73topped", Announce { event: PeerEvent::Stopped, ..usual() }),
            ("an event decoded once", "&event=%2573topped", usual()),
            ("an event with a cut escape", "&event=stopped%7", usual()),
            ("escaped numwant", "&numwant=%37", Announce { num_want: Some(7), ..usual() }),
            ("escaped compact", "&compact=%30", Announce { compact: false, ..usual() }),
            ("an escaped key", "&key=00C0%46F%45E", Announce { key: 0x00c0_ffee, ..usual() }),
            ("largest port", "&port=65535", Announce { port: 65535, ..usual() }),
        ];
        for (name, extra, expected) in rows {
            let query = format!("info_hash={HASH}&port=6881{extra}");
            assert_eq!(announce(query.as_bytes()).as_ref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn announces_are_refused() {
        let rows: &[(&str, String, Failure)] = &[
            ("empty", String::new(), Failure::InfoHashMissing),
            ("no info_hash", "port=1".into(), Failure::InfoHashMissing),
            ("no info_hash and no port", "left=0".into(), Failure::InfoHashMissing),
            ("info_hash with another case", format!("INFO_HASH={HASH}&port=1"), Failure::InfoHashMissing),
            ("info_hash without value", "info_hash&port=1".into(), Failure::InfoHashMalformed),
            ("empty info_hash", "info_hash=&port=1".into(), Failure::InfoHashMalformed),
            ("19 bytes", "info_hash=1234567890123456789&port=1".into(), Failure::InfoHashMalformed),
            ("21 bytes", "info_hash=123456789012345678901&port=1".into(), Failure::InfoHashMalformed),
            ("40 hexadecimal digits", format!("info_hash={}&port=1", "a1".repeat(20)), Failure::InfoHashMalformed),
            ("cut escape", "info_hash=1234567890123456789%4&port=1".into(), Failure::InfoHashMalformed),
            ("cut escape, shorter", "info_hash=1234567890123456789%&port=1".into(), Failure::InfoHashMalformed),
            ("wrong digit", "info_hash=1234567890123456789%4G&port=1".into(), Failure::InfoHashMalformed),
            ("wrong first digit", "info_hash=1234567890123456789%G4&port=1".into(), Failure::InfoHashMalformed),
            ("two info_hashes", format!("info_hash={HASH}&info_hash={HASH}&port=1"), Failure::InfoHashRepeated),
            ("no port", format!("info_hash={HASH}"), Failure::PortMissing),
            ("port with another case", format!("info_hash={HASH}&Port=1"), Failure::PortMissing),
            ("empty port", format!("info_hash={HASH}&port="), Failure::PortMalformed),
            ("port 0", format!("info_hash={HASH}&port=0"), Failure::PortZero),
            ("port 65536", format!("info_hash={HASH}&port=65536"), Failure::PortMalformed),
            ("port 2^64 + 1", format!("info_hash={HASH}&port=18446744073709551617"), Failure::PortMalformed),
            ("negative port", format!("info_hash={HASH}&port=-1"), Failure::PortMalformed),
            ("signed port", format!("info_hash={HASH}&port=+1"), Failure::PortMalformed),
            ("named port", format!("info_hash={HASH}&port=http"), Failure::PortMalformed),
            ("port with a cut escape", format!("info_hash={HASH}&port=688%3"), Failure::PortMalformed),
            ("port with a wrong escape", format!("info_hash={HASH}&port=%3g"), Failure::PortMalformed),
            ("port escaped twice", format!("info_hash={HASH}&port=%2531"), Failure::PortMalformed),
            ("escaped signed port", format!("info_hash={HASH}&port=%2B1"), Failure::PortMalformed),
            ("escaped port 0", format!("info_hash={HASH}&port=%30"), Failure::PortZero),
            ("left with a cut escape", format!("info_hash={HASH}&port=1&left=0%"), Failure::LeftMalformed),
            ("numwant with a wrong escape", format!("info_hash={HASH}&port=1&numwant=%x0"), Failure::NumWantMalformed),
            ("left is no number", format!("info_hash={HASH}&port=1&left=all"), Failure::LeftMalformed),
            ("left is a sign", format!("info_hash={HASH}&port=1&left=-"), Failure::LeftMalformed),
            ("left with a fraction", format!("info_hash={HASH}&port=1&left=0.0"), Failure::LeftMalformed),
            ("numwant is no number", format!("info_hash={HASH}&port=1&numwant=many"), Failure::NumWantMalformed),
            ("numwant is a sign", format!("info_hash={HASH}&port=1&numwant=-"), Failure::NumWantMalformed),
        ];
        for (name, query, failure) in rows {
            assert_eq!(announce(query.as_bytes()), Err(*failure), "{name}");
        }
    }

    #[test]
    fn named_addresses_are_read() {
        let at = |text: &str| Some(text.parse::<SocketAddr>().expect(text));
        let ip = |text: &str| Some(text.parse::<IpAddr>().expect(text));
        for (query, expected) in [
            ("", Named::default()),
            ("port=1&IP=192.0.2.7&ip6=::1", Named::default()),
            ("ip=&ipv4=&ipv6=", Named::default()),
            ("ip=192.0.2.7", Named { ip: ip("192.0.2.7"), ..Named::default() }),
            ("ip=192.0.2.7%3A99", Named { ip: ip("192.0.2.7"), ..Named::default() }),
            ("ip=%3A%3Affff%3A192.0.2.7", Named { ip: ip("192.0.2.7"), ..Named::default() }),
            ("ip=2001:db8::7", Named { ip: ip("2001:db8::7"), ..Named::default() }),
            ("ipv4=192.0.2.7", Named { ipv4: at("192.0.2.7:6881"), ..Named::default() }),
            ("ipv4=192.0.2.7%3a99", Named { ipv4: at("192.0.2.7:99"), ..Named::default() }),
            ("ipv6=2001%3Adb8%3A%3A7", Named { ipv6: at("[2001:db8::7]:6881"), ..Named::default() }),
            ("ipv6=%5B2001:db8::7%5D", Named { ipv6: at("[2001:db8::7]:6881"), ..Named::default() }),
            ("ipv6=%5B2001:db8::7%5D:99", Named { ipv6: at("[2001:db8::7]:99"), ..Named::default() }),
        ] {
            assert_eq!(named(query.as_bytes(), 6881), Ok(expected), "{query}");
        }
        for query in [
            "ip=tracker.example",
            "ip=0.0.0.0",
            "ip=255.255.255.255",
            "ip=ff02::1",
            "ip=192.0.2.256",
            "ip=%ff",
            "ipv4=192.0.2.7:0",
            "ipv4=192.0.2.7:65536",
            "ipv4=2001:db8::7",
            "ipv6=192.0.2.7",
            "ipv6=::ffff:192.0.2.7",
            "ipv6=::",
            "ipv6=[2001:db8::7",
            "ip=192.0.2.7&ipv4=junk",
        ] {
            assert_eq!(named(query.as_bytes(), 6881), Err(Failure::AddressMalformed), "{query}");
        }
    }

    #[test]
    fn info_hashes_are_decoded() {
        let rows: &[(&str, &[u8; 20])] = &[
            ("12345678901234567890", b"12345678901234567890"),
            ("%31%32%33%34%35678901234567890", b"12345678901234567890"),
            ("%00%ff%FF%fF%Ff678901234567890", b"\x00\xff\xff\xff\xff678901234567890"),
            ("+-_.~!*'()+++++++++=", b"+-_.~!*'()+++++++++="),
        ];
        for (encoded, expected) in rows {
            assert_eq!(info_hash(encoded.as_bytes()).as_ref(), Some(*expected), "{encoded}");
        }
    }

    #[test]
    fn scrapes_are_sorted_and_without_repetitions() {
        let mut hashes = vec![[9; 20]];
        let query = format!("info_hash=bbbbbbbbbbbbbbbbbbbb&x=1&info_hash={HASH}&info_hash=%62bbbbbbbbbbbbbbbbbbb");
        assert_eq!(scrape(query.as_bytes(), &mut hashes), Ok(()));
        assert_eq!(hashes, [HASH_BYTES, [b'b'; 20]]);
        assert_eq!(scrape(b"", &mut hashes), Ok(()));
        assert_eq!(hashes, Vec::<InfoHash>::new());
        for bad in ["info_hash=", "info_hash", "info_hash=bbb", "info_hash=bbbbbbbbbbbbbbbbbbbb&info_hash=%%%"] {
            assert_eq!(scrape(bad.as_bytes(), &mut hashes), Err(Failure::InfoHashMalformed), "{bad}");
        }
    }

    #[test]
    fn no_query_makes_the_parser_stumble() {
        // A fixed sequence of pseudo-random queries out of the bytes that mean something, and any
        // others.
        let alphabet = b"info_hash=port&%%%%0123456789abcdefGleft-numwant+event\x00\xff?# ";
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut hashes = Vec::new();
        for _ in 0..200_000 {
            let length = next() % 64;
            let query: Vec<u8> = (0..length)
                .map(|_| if next() % 8 == 0 { next() as u8 } else { alphabet[next() as usize % alphabet.len()] })
                .collect();
            if let Ok(announce) = announce(&query) {
                assert_ne!(announce.port, 0);
            }
            if scrape(&query, &mut hashes).is_ok() {
                assert!(hashes.is_sorted());
            }
        }
    }
}
