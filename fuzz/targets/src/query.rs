//! Queries of announces and scrapes, compared with a slow reader of them that decodes everything
//! first.

use tracker::http::tracker::{
    failure::Failure,
    query::{self, Announce},
};
use tracker_common::store::membership::PeerEvent;

/// The whole input is a query.
///
/// # Panics
/// When it is read in another way than by the slow reader.
pub fn run(bytes: &[u8]) {
    assert_eq!(query::announce(bytes), announce(bytes), "{:?}", String::from_utf8_lossy(bytes));
    let mut hashes = vec![[1; 20]];
    let read = query::scrape(bytes, &mut hashes).map(|()| hashes);
    assert_eq!(read, scrape(bytes), "{:?}", String::from_utf8_lossy(bytes));
}

/// The pairs of a query, by RFC 3986: separated by `&`, divided at the first `=`.
fn pairs(query: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = vec![(Vec::new(), Vec::new(), false)];
    for byte in query {
        let (key, value, divided) = pairs.last_mut().expect("one at least");
        match byte {
            b'&' => pairs.push((Vec::new(), Vec::new(), false)),
            b'=' if !*divided => *divided = true,
            byte if *divided => value.push(*byte),
            byte => key.push(*byte),
        }
    }
    pairs
        .into_iter()
        .filter(|(key, _, divided)| !key.is_empty() || *divided)
        .map(|(key, value, _)| (key, value))
        .collect()
}

/// Percent-decodes; `None` where a percent sign is not followed by two hexadecimal digits.
fn decode(value: &[u8]) -> Option<Vec<u8>> {
    let (decoded, all) = decode_escapes(value);
    all.then_some(decoded)
}

/// The same, but such a percent sign stays as it is; and whether there was none.
fn decode_escapes(value: &[u8]) -> (Vec<u8>, bool) {
    let (mut decoded, mut at, mut all) = (Vec::new(), 0, true);
    while at < value.len() {
        let digits = value.get(at + 1..at + 3).and_then(|digits| str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if value[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                all &= value[at] != b'%';
                decoded.push(value[at]);
                at += 1;
            }
        }
    }
    (decoded, all)
}

/// A number of any length: `Err` if it is none, and `None` beyond 64 bits.
fn number(value: &[u8]) -> Result<Option<u64>, ()> {
    let text = str::from_utf8(value).map_err(|_| ())?;
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(());
    }
    let significant = text.trim_start_matches('0');
    Ok(if significant.is_empty() { Some(0) } else { significant.parse().ok() })
}

/// The same with a sign; negative numbers are `None`.
fn signed(value: &[u8]) -> Result<Option<u64>, ()> {
    match value.split_first() {
        None => Ok(None),
        Some((b'-', digits)) => number(digits).map(|_| None),
        Some(_) => number(value).map(|number| Some(number.unwrap_or(u64::MAX))),
    }
}

fn hash(value: &[u8]) -> Result<[u8; 20], Failure> {
    decode(value).and_then(|bytes| bytes.try_into().ok()).ok_or(Failure::InfoHashMalformed)
}

fn announce(query: &[u8]) -> Result<Announce, Failure> {
    let mut read = Announce {
        info_hash: [0; 20],
        port: 0,
        seeder: false,
        event: PeerEvent::None,
        num_want: None,
        compact: true,
        key: 0,
    };
    let (mut hashes, mut ports) = (0, 0);
    for (key, escaped) in pairs(query) {
        let (value, _) = decode_escapes(&escaped);
        match key.as_slice() {
            b"info_hash" => {
                read.info_hash = hash(&escaped)?;
                hashes += 1;
                if hashes > 1 {
                    return Err(Failure::InfoHashRepeated);
                }
            }
            b"port" => {
                let port = number(&value).map_err(|()| Failure::PortMalformed)?;
                read.port = port.and_then(|port| port.try_into().ok()).ok_or(Failure::PortMalformed)?;
                ports += 1;
            }
            b"left" => read.seeder = signed(&value).map_err(|()| Failure::LeftMalformed)? == Some(0),
            b"event" => {
                read.event = match value.as_slice() {
                    b"completed" => PeerEvent::Completed,
                    b"started" => PeerEvent::Started,
                    b"stopped" => PeerEvent::Stopped,
                    _ => PeerEvent::None,
                }
            }
            b"key" => {
                let text = std::str::from_utf8(&value).unwrap_or_default();
                let is_number = text.len() <= 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
                read.key = if value.is_empty() {
                    0
                } else if is_number && !text.is_empty() {
                    u32::from_str_radix(text, 16).expect("hexadecimal digits")
                } else {
                    value.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
                };
            }
            b"numwant" => {
                let wanted = signed(&value).map_err(|()| Failure::NumWantMalformed)?;
                read.num_want = wanted.map(|wanted| wanted.min(u32::MAX.into()) as u32);
            }
            b"compact" => read.compact = value != b"0",
            _ => {}
        }
    }
    if hashes == 0 {
        return Err(Failure::InfoHashMissing);
    }
    match (ports, read.port) {
        (0, _) => Err(Failure::PortMissing),
        (_, 0) => Err(Failure::PortZero),
        _ => Ok(read),
    }
}

fn scrape(query: &[u8]) -> Result<Vec<[u8; 20]>, Failure> {
    let named = pairs(query).into_iter().filter(|(key, _)| key == b"info_hash");
    let hashes = named.map(|(_, value)| hash(&value)).collect::<Result<std::collections::BTreeSet<_>, _>>()?;
    Ok(hashes.into_iter().collect())
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    const HASH: &str = "%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";
    let extras = [
        "&port=6881&uploaded=0&downloaded=0&left=0&compact=1&event=completed&numwant=50",
        "&port=65535&left=-1&event=stopped&numwant=-1&compact=0",
        "&port=0&left=18446744073709551616&numwant=4294967296",
        "&port=65536",
        "&port=1&port=2&left=&numwant=&event=started&supportcrypto=1&key=%00&peer_id=-TT0001-%ff%FF%aa",
        "&port=1&info_hash=aaaaaaaaaaaaaaaaaaaa&&=&a&b=c=d",
    ];
    let mut seeds: Vec<_> = extras.iter().map(|extra| format!("info_hash={HASH}{extra}").into_bytes()).collect();
    seeds.push(format!("info_hash={HASH}%&port=1").into_bytes());
    seeds.push(format!("info_hash={}&port=1", &HASH[..HASH.len() - 1]).into_bytes());
    seeds
}
