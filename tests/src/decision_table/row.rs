//! What a row of the decision table says, and how a reply is compared with it.

use crate::{
    bep15::{Counts, Event, InfoHash, Reply},
    packet::{Frame, Mac},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
};

/// The tracker's MAC address.
pub const TRACKER_MAC: Mac = [0x02, 0, 0, 0, 0x69, 0x01];
/// The tracker's addresses; on backends that have addresses at all, everything else in their /24
/// and /64 is clients'.
pub const TRACKER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 18, 77, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1))];
/// The tracker's UDP port.
pub const TRACKER_PORT: u16 = 6969;
/// The MAC address of all clients.
pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0x69, 0x02];

/// The tracker's answer to an announce without further wishes: seconds until the next one.
pub const INTERVAL: RangeInclusive<i64> = 1620..=1980;
/// Most info_hashes answered in one scrape.
pub const SCRAPE_MAX: usize = 74;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

use Family::{V4, V6};

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [V4, V6];

    pub(super) fn other(self) -> Self {
        match self {
            V4 => V6,
            V6 => V4,
        }
    }

    /// The tracker's address and port.
    #[must_use]
    pub fn tracker(self) -> SocketAddr {
        SocketAddr::new(TRACKER[self as usize], TRACKER_PORT)
    }

    /// The address of a client. Host 1 is the tracker.
    #[must_use]
    pub fn host(self, number: u16) -> IpAddr {
        match self {
            V4 => Ipv4Addr::new(198, 18, 77, u8::try_from(number).expect("254 hosts are enough")).into(),
            V6 => Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number).into(),
        }
    }

    /// Most peers in a UDP reply.
    #[must_use]
    pub fn max_numwant(self) -> usize {
        match self {
            V4 => 200,
            V6 => 67,
        }
    }

    pub(super) fn label(self, event: &str) -> String {
        let family = match self {
            V4 => "ipv4",
            V6 => "ipv6",
        };
        format!("{event}_{family}")
    }
}

/// A peer, as known by its address and the port it announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and announced port.
    pub address: SocketAddr,
    /// Whether it has everything.
    pub seeder: bool,
    /// The event it announces.
    pub event: Event,
}

/// Which connection id a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// The one that was issued to its source.
    Right,
    /// That one with a bit changed.
    Wrong,
    /// One that was issued to another address.
    OfAnother,
    /// One that was issued to its source four minutes ago.
    Expired,
}

/// On which backends a row can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On all.
    Datagram,
    /// On all whose clock can be moved.
    Clock,
    /// Where frames are seen as they are.
    Frame,
}

/// What an XDP program does with a packet that it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `XDP_PASS`: the kernel goes on with it.
    Passed,
    /// `XDP_DROP`.
    Dropped,
}

/// The peers of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// These and no others.
    All(BTreeSet<SocketAddr>),
    /// Exactly this many distinct members of this set.
    Some(usize, BTreeSet<SocketAddr>),
}

/// What has to come of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A connection id.
    Connect,
    /// Counts and peers.
    Announce {
        /// Peers that have everything.
        seeders: u32,
        /// Peers that do not.
        leechers: u32,
        /// Their addresses.
        peers: Peers,
    },
    /// Counts.
    Scrape(Vec<Counts>),
    /// An error message.
    Error(&'static str),
    /// No answer; with what the XDP program does to be silent.
    Nothing(Verdict),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// Where it can be run.
    pub scope: Scope,
    /// Its own torrent.
    pub torrent: InfoHash,
    /// Peers that announce themselves before.
    pub before: Vec<Peer>,
    /// The packet.
    pub frame: Frame,
    /// Bytes instead of the frame, for what is not UDP at all.
    pub bytes: Option<Vec<u8>>,
    /// What is to be written over the first 8 bytes of the payload.
    pub id: Option<Id>,
    /// What has to come of it.
    pub expected: Expected,
    /// The counter that has to move by one: the label of an event or of a reason.
    pub counter: Option<String>,
    /// Set for an answerable request that the XDP program passes on to the sockets: the counter
    /// that moves there instead.
    pub left_to_sockets: Option<&'static str>,
    /// The counts afterwards.
    pub counts: Counts,
    /// The peers afterwards, of both families.
    pub peers: BTreeSet<SocketAddr>,
}

impl Row {
    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.clone().unwrap_or_else(|| self.frame.bytes())
    }

    /// Checks a reply, and returns what of it is the same on every backend: random parts are taken
    /// out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, reply: &[u8]) -> Result<String, String> {
        let request = &self.frame.payload;
        if matches!(self.id, Some(Id::Wrong | Id::OfAnother | Id::Expired)) && reply.len() > request.len() {
            return Err(format!("{} bytes for {} that nobody has verified", reply.len(), request.len()));
        }
        let reply = Reply::parse(reply, self.frame.source.is_ipv4()).map_err(|error| format!("{error:#}"))?;
        let transaction = u32::from_be_bytes(request[12..16].try_into().expect("only whole requests are answered"));
        if reply.transaction() != transaction {
            return Err(format!("transaction {:#x} instead of {transaction:#x}", reply.transaction()));
        }
        match (&self.expected, reply) {
            (Expected::Connect, Reply::Connect { .. }) => Ok("connect".to_owned()),
            (
                Expected::Announce { seeders, leechers, peers },
                Reply::Announce { interval, seeders: has, leechers: wants, peers: given, .. },
            ) => {
                if !INTERVAL.contains(&i64::from(interval)) {
                    return Err(format!("interval {interval}"));
                }
                if (*seeders, *leechers) != (has, wants) {
                    return Err(format!("{has} seeders and {wants} leechers instead of {seeders} and {leechers}"));
                }
                let set: BTreeSet<_> = given.iter().copied().collect();
                if set.len() != given.len() {
                    return Err(format!("a peer twice: {given:?}"));
                }
                match peers {
                    Peers::All(all) if *all == set => Ok(format!("announce {has} {wants} {set:?}")),
                    Peers::Some(count, all) if set.len() == *count && set.is_subset(all) => {
                        Ok(format!("announce {has} {wants} {count} peers"))
                    }
                    Peers::All(_) | Peers::Some(..) => Err(format!("peers {set:?} instead of {peers:?}")),
                }
            }
            (Expected::Scrape(counts), Reply::Scrape { torrents, .. }) if *counts == torrents => {
                Ok(format!("scrape {torrents:?}"))
            }
            (Expected::Error(text), Reply::Error { message, .. }) if *text == message => Ok(format!("error {message}")),
            (expected, reply) => Err(format!("{reply:?} instead of {expected:?}")),
        }
    }
}
