//! What rows are written with: peers, and rows that expect what is usual and are changed from
//! there.

use super::row::{CLIENT_MAC, Expected, Family, Id, Peer, Peers, Row, Scope, TRACKER_MAC, Verdict};
use crate::{
    bep15::{self, Announce, Counts, Event, InfoHash},
    packet::Frame,
};
use std::{collections::BTreeSet, net::SocketAddr, ops::RangeInclusive};

/// The requester: host number, UDP port and the port it announces.
pub(super) const REQUESTER: (u16, u16, u16) = (9, 50009, 6881);

/// Peer `number` of a family; all different, none the requester.
pub(super) fn peer(family: Family, number: u16, seeder: bool) -> Peer {
    let address = SocketAddr::new(family.host(20 + number % 200), 7000 + number);
    Peer { address, seeder, event: Event::None }
}

/// Peers that do not have everything.
pub(super) fn leechers(family: Family, numbers: RangeInclusive<u16>) -> Vec<Peer> {
    numbers.map(|number| peer(family, number, false)).collect()
}

/// Peers that have everything.
pub(super) fn seeders(family: Family, numbers: RangeInclusive<u16>) -> Vec<Peer> {
    numbers.map(|number| peer(family, number, true)).collect()
}

pub(super) fn addresses(peers: &[Peer]) -> BTreeSet<SocketAddr> {
    peers.iter().map(|peer| peer.address).collect()
}

/// The requester of a family as a peer.
pub(super) fn requester(family: Family) -> Peer {
    Peer { address: SocketAddr::new(family.host(REQUESTER.0), REQUESTER.2), seeder: false, event: Event::None }
}

/// The torrent that rows are written with, before each gets one of its own.
pub(super) const TORRENT: InfoHash = *b"the torrent of a row";

impl Row {
    /// Gives the row a torrent and a transaction id of its own.
    pub(super) fn finish(&mut self, number: u16) {
        let [high, low] = number.to_be_bytes();
        let mut torrent = TORRENT;
        // Spread over the whole of it, as real ones are.
        for (at, byte) in torrent.iter_mut().enumerate() {
            *byte = byte.wrapping_mul(31).wrapping_add(high ^ low.wrapping_mul(u8::try_from(at).expect("20") * 2 + 7));
        }
        torrent[..2].copy_from_slice(&[high, low]);
        self.torrent = torrent;
        let payload = &mut self.frame.payload;
        let mut at = 16;
        while at + 20 <= payload.len() {
            if payload[at..at + 20] == TORRENT {
                payload[at..at + 20].copy_from_slice(&torrent);
            }
            at += 20;
        }
        if let Some(transaction) = payload.get_mut(12..16) {
            transaction.copy_from_slice(&[0x7a, 0xc7, high, low]);
        }
        self.name = format!("{} ({})", self.name, if self.frame.source.is_ipv4() { "IPv4" } else { "IPv6" });
    }

    pub(super) fn counter(&mut self, label: impl Into<String>) -> &mut Self {
        self.counter = Some(label.into());
        self
    }

    /// The state before.
    pub(super) fn before(&mut self, peers: Vec<Peer>) -> &mut Self {
        let count = |seeder| peers.iter().filter(|peer| peer.seeder == seeder).count().try_into().expect("few peers");
        self.counts = Counts { seeders: count(true), leechers: count(false), completed: 0 };
        self.peers = addresses(&peers);
        self.before = peers;
        self
    }

    /// The state after, if it is another one; a reply to an announce has its counts.
    pub(super) fn after(
        &mut self,
        after_seeders: u32,
        after_leechers: u32,
        completed: u32,
        peers: &[Peer],
    ) -> &mut Self {
        self.counts = Counts { seeders: after_seeders, completed, leechers: after_leechers };
        self.peers = addresses(peers);
        if let Expected::Announce { seeders, leechers, .. } = &mut self.expected {
            (*seeders, *leechers) = (after_seeders, after_leechers);
        }
        self
    }

    /// Nothing is answered; the XDP program passes the packet on.
    pub(super) fn passed(&mut self, reason: &str) -> &mut Self {
        self.expected = Expected::Nothing(Verdict::Passed);
        self.counter(reason)
    }

    /// Nothing is answered; the XDP program drops the packet.
    pub(super) fn dropped(&mut self, reason: &str) -> &mut Self {
        self.expected = Expected::Nothing(Verdict::Dropped);
        self.counter(reason)
    }
}

pub(super) struct Table {
    pub(super) family: Family,
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// A row that sends `payload` from the requester and expects silence.
    pub(super) fn row(&mut self, name: &str, scope: Scope, payload: Vec<u8>) -> &mut Row {
        let source = SocketAddr::new(self.family.host(REQUESTER.0), REQUESTER.1);
        let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, self.family.tracker());
        frame.payload = payload;
        self.rows.push(Row {
            name: name.to_owned(),
            scope,
            torrent: TORRENT,
            before: Vec::new(),
            frame,
            bytes: None,
            id: None,
            expected: Expected::Nothing(Verdict::Passed),
            counter: None,
            left_to_sockets: None,
            counts: Counts::default(),
            peers: BTreeSet::new(),
        });
        self.rows.last_mut().expect("just pushed")
    }

    pub(super) fn connect(&mut self, name: &str, payload: Vec<u8>) -> &mut Row {
        let label = self.family.label("connect");
        let row = self.row(name, Scope::Datagram, payload);
        row.expected = Expected::Connect;
        row.counter(label)
    }

    /// A row with an announce of the requester, a leecher unless `change` makes it something else,
    /// to a swarm of `before`; answered with `peers`. The requester counts.
    pub(super) fn announce(
        &mut self,
        name: &str,
        before: Vec<Peer>,
        change: impl FnOnce(&mut Announce),
        peers: Peers,
    ) -> &mut Row {
        let mut announce = Announce::new(TORRENT, REQUESTER.2);
        change(&mut announce);
        let (family, label) = (self.family, self.family.label("announce"));
        let row = self.row(name, Scope::Datagram, announce.bytes());
        row.id = Some(Id::Right);
        row.before(before);
        if announce.left == 0 {
            row.counts.seeders += 1;
        } else {
            row.counts.leechers += 1;
        }
        row.peers.insert(requester(family).address);
        row.expected = Expected::Announce { seeders: row.counts.seeders, leechers: row.counts.leechers, peers };
        row.counter(label)
    }

    pub(super) fn scrape(
        &mut self,
        name: &str,
        torrents: &[InfoHash],
        before: Vec<Peer>,
        counts: Vec<Counts>,
    ) -> &mut Row {
        let label = self.family.label("scrape");
        let row = self.row(name, Scope::Datagram, bep15::scrape(0, 0, torrents));
        row.id = Some(Id::Right);
        row.before(before);
        row.expected = Expected::Scrape(counts);
        row.counter(label)
    }
}
