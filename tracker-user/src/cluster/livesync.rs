//! opentracker's livesync: peers by UDP multicast, for whoever replaces a farm of opentrackers one by
//! one.
//!
//! ```text
//! bytes 0…3  id of the tracker instance
//!       4…7  kind of packet, in network order: 0 for IPv4 peers, 1 for IPv6 peers
//! records    info_hash (20), address (4 or 16), port (2), flags (1), a byte of no meaning
//! ```
//!
//! A packet has 1480 bytes at most. Nothing is authenticated, so only packets of addresses that are
//! named are taken.

use super::message::{append_peer, peer_of};
use std::net::IpAddr;
use tracker_common::change::{Change, Kind};

/// Bytes of a packet at most.
pub const PACKET_BYTES: usize = 1480;

const HEADER: usize = 8;
const SEEDING: u8 = 0x80;
const COMPLETED: u8 = 0x40;
const STOPPED: u8 = 0x20;

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is too short, or of a kind that is not known.
    Foreign,
    /// It is this node's own.
    Own,
    /// The sender is none of those named.
    Sender,
}

/// Whether packets of this address are taken.
#[must_use]
pub fn is_named(named: &[IpAddr], sender: IpAddr) -> bool {
    named.contains(&sender.to_canonical())
}

/// Peers of one family on their way to opentrackers.
#[derive(Clone, Debug)]
pub struct Packet {
    bytes: Vec<u8>,
    record: usize,
}

impl Packet {
    /// An empty one, for IPv4 (4) or IPv6 (6).
    #[must_use]
    pub fn new(id: [u8; 4], version: u8) -> Self {
        let kind = u32::from(version == 6);
        Self { bytes: [id, kind.to_be_bytes()].concat(), record: if version == 6 { 40 } else { 28 } }
    }

    /// Adds a change. The packet, when it is full.
    pub fn add(&mut self, change: &Change) -> Option<Vec<u8>> {
        self.bytes.extend_from_slice(&change.info_hash);
        append_peer(change, &mut self.bytes);
        let flags = match Kind::of_number(change.kind.into()) {
            Some(Kind::Seeder) => SEEDING,
            Some(Kind::Completed) => SEEDING | COMPLETED,
            Some(Kind::Left) => STOPPED,
            Some(Kind::Leecher) | None => 0,
        };
        self.bytes.extend_from_slice(&[flags, 0]);
        (self.bytes.len() + self.record > PACKET_BYTES).then(|| self.take()).flatten()
    }

    /// The packet, if anything is in it.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let some = self.bytes.len() > HEADER;
        let packet = some.then(|| self.bytes.clone());
        self.bytes.truncate(HEADER);
        packet
    }
}

/// Reads a packet. A record that is cut off at the end, or has port 0, is left out, as opentracker
/// does with the first.
///
/// # Errors
/// When it is none, or this node's own.
pub fn parse(id: [u8; 4], bytes: &[u8]) -> Result<Vec<Change>, Wrong> {
    let (header, records) = bytes.split_at_checked(HEADER).ok_or(Wrong::Foreign)?;
    let (version, length) = match header[4..] {
        [0, 0, 0, 0] => (4, 28),
        [0, 0, 0, 1] => (6, 40),
        _ => return Err(Wrong::Foreign),
    };
    if header[..4] == id {
        return Err(Wrong::Own);
    }
    let change = |record: &[u8]| {
        let (info_hash, rest) = record.split_first_chunk::<20>()?;
        let (peer, &[flags, _]) = rest.split_last_chunk::<2>()?;
        let kind = match flags {
            flags if flags & STOPPED != 0 => Kind::Left,
            flags if flags & (COMPLETED | SEEDING) == COMPLETED | SEEDING => Kind::Completed,
            flags if flags & SEEDING != 0 => Kind::Seeder,
            _ => Kind::Leecher,
        };
        Some(Change { peer: peer_of(peer)?, info_hash: *info_hash, kind: kind as u8, owner: 0, version, unused: 0 })
    };
    Ok(records.chunks_exact(length).filter_map(change).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 4] = *b"self";

    fn record(hash: u8, address: &[u8], port: u16, flags: u8) -> Vec<u8> {
        [&[hash; 20], address, &port.to_be_bytes(), &[flags, 0x55]].concat()
    }

    const SIX: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

    #[test]
    fn packets_of_opentracker_are_understood() {
        let v4 =
            [&b"abcd\0\0\0\0"[..], &record(7, &[192, 0, 2, 1], 6881, 0), &record(8, &[192, 0, 2, 2], 1, 0x20)].concat();
        let v6 = [&b"abcd\0\0\0\x01"[..], &record(9, &SIX, 6881, 0x80), &record(9, &SIX, 6882, 0xc0)].concat();
        let kinds = |bytes: &[u8]| -> Vec<_> {
            let changes = parse(OWN, bytes).expect("a packet");
            changes.iter().map(|change| (change.info_hash[0], change.kind, change.version)).collect()
        };
        assert_eq!(kinds(&v4), [(7, Kind::Leecher as u8, 4), (8, Kind::Left as u8, 4)]);
        assert_eq!(kinds(&v6), [(9, Kind::Seeder as u8, 6), (9, Kind::Completed as u8, 6)]);
        assert_eq!(kinds(&v4[..v4.len() - 1]).len(), 1, "cut off");
        let change = parse(OWN, &v4).expect("a packet")[0];
        assert_eq!(change.peer[0].to_le_bytes(), [192, 0, 2, 1, 0x1a, 0xe1, 0, 0]);
    }

    #[test]
    fn each_bit_of_the_flags_is_read_and_others_do_not_matter() {
        for (flags, kind) in [
            (0, Kind::Leecher),
            (0x80, Kind::Seeder),
            (0xc0, Kind::Completed),
            // It has not completed what it does not have.
            (0x40, Kind::Leecher),
            (0x20, Kind::Left),
            (0xa0, Kind::Left),
            (0x60, Kind::Left),
            (0xe0, Kind::Left),
            (0x1f, Kind::Leecher),
            (0x9f, Kind::Seeder),
            (0xdf, Kind::Completed),
            (0xff, Kind::Left),
        ] {
            let packet = [&b"abcd\0\0\0\0"[..], &record(7, &[192, 0, 2, 1], 6881, flags)].concat();
            let read: Vec<_> = parse(OWN, &packet).expect("a packet").iter().map(|change| change.kind).collect();
            assert_eq!(read, [kind as u8], "{flags:#x}");
        }
    }

    #[test]
    fn records_stand_one_behind_the_other_up_to_the_last_whole_one() {
        // (kind, bytes of an address, the most records that a packet of 1480 bytes has)
        for (kind, address, most) in [(0_u8, &SIX[..4], 52), (1, &SIX[..], 36)] {
            let all: Vec<u8> = (0..most).flat_map(|number: u16| record(number as u8, address, number + 1, 0)).collect();
            let packet = [&b"abcd\0\0\0"[..], &[kind], &all].concat();
            let record = packet.len() / usize::from(most);
            assert!(packet.len() <= PACKET_BYTES && packet.len() + record > PACKET_BYTES);
            for (name, more, expected) in [
                ("whole", &[][..], usize::from(most)),
                ("a byte of another one", &[7], usize::from(most)),
                // Longer than opentracker makes them, which does no harm.
                ("as much again", &all, 2 * usize::from(most)),
            ] {
                let changes = parse(OWN, &[&packet, more].concat()).expect("a packet");
                assert_eq!(changes.len(), expected, "kind {kind}: {name}");
                let first = &changes[1];
                assert_eq!((first.info_hash, first.version), ([1; 20], if kind == 0 { 4 } else { 6 }), "{name}");
            }
        }
    }

    #[test]
    fn what_is_none_or_comes_from_elsewhere_is_refused() {
        let good = [&b"abcd\0\0\0\0"[..], &record(7, &[192, 0, 2, 1], 6881, 0)].concat();
        for (name, bytes, expected) in [
            ("nothing", vec![], Err(Wrong::Foreign)),
            ("short", good[..7].to_vec(), Err(Wrong::Foreign)),
            ("kind 2", [&b"abcd\0\0\0\x02"[..], &good[8..]].concat(), Err(Wrong::Foreign)),
            ("kind 256", [&b"abcd\0\0\x01\0"[..], &good[8..]].concat(), Err(Wrong::Foreign)),
            ("little-endian", [&b"abcd\x01\0\0\0"[..], &good[8..]].concat(), Err(Wrong::Foreign)),
            ("its own", [&b"self\0\0\0\0"[..], &good[8..]].concat(), Err(Wrong::Own)),
            ("no record", good[..8].to_vec(), Ok(0)),
            ("port 0", [&good[..8], &record(7, &[192, 0, 2, 1], 0, 0)].concat(), Ok(0)),
            ("one", good, Ok(1)),
        ] {
            assert_eq!(parse(OWN, &bytes).map(|changes| changes.len()), expected, "{name}");
        }
        let named = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().expect("an address"));
        for (sender, taken) in
            [("192.0.2.7", true), ("::ffff:192.0.2.7", true), ("2001:db8::7", true), ("192.0.2.8", false)]
        {
            assert_eq!(is_named(&named, sender.parse().expect("an address")), taken, "{sender}");
        }
    }

    #[test]
    fn packets_are_full_before_they_are_too_long_and_read_again() {
        for version in [4, 6] {
            let mut packet = Packet::new(*b"abcd", version);
            assert_eq!(packet.take(), None);
            let change = |number: u8| Change {
                peer: if version == 6 { [1, 2, u64::from(number) + 1] } else { [0x0100_0000_0009, 0, 0] },
                info_hash: [number; 20],
                kind: number % 4,
                owner: 0,
                version,
                unused: 0,
            };
            let mut added = Vec::new();
            let full = loop {
                added.push(change(added.len() as u8));
                if let Some(full) = packet.add(&added[added.len() - 1]) {
                    break full;
                }
            };
            assert!(full.len() <= PACKET_BYTES && full.len() + 40 > PACKET_BYTES);
            assert_eq!(parse(OWN, &full), Ok(added));
            assert_eq!(packet.take(), None);
        }
    }
}
