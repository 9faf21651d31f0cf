//! BEP 15 from the client's side: requests to be sent and replies to be read.
//!
//! Written from the BEP and not with `tracker_common`: a test must not share the mistakes of what
//! it tests.

use anyhow::{Result, bail, ensure};
use std::net::{IpAddr, SocketAddr};

/// A torrent.
pub type InfoHash = [u8; 20];

/// `protocol_id` of a connect request.
pub const MAGIC: u64 = 0x0417_2710_1980;

/// Action of a connect request.
pub const CONNECT: u32 = 0;
/// Action of an announce.
pub const ANNOUNCE: u32 = 1;
/// Action of a scrape.
pub const SCRAPE: u32 = 2;
/// Action of an error reply.
pub const ERROR: u32 = 3;

/// What an announce says has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    #[default]
    None = 0,
    /// The download is complete.
    Completed = 1,
    /// The client has started.
    Started = 2,
    /// The client goes away.
    Stopped = 3,
}

/// The 16 bytes that every request begins with.
#[must_use]
pub fn header(connection_id: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut bytes = connection_id.to_be_bytes().to_vec();
    bytes.extend(action.to_be_bytes());
    bytes.extend(transaction.to_be_bytes());
    bytes
}

/// A connect request.
#[must_use]
pub fn connect(transaction: u32) -> Vec<u8> {
    header(MAGIC, CONNECT, transaction)
}

/// A scrape request.
#[must_use]
pub fn scrape(connection_id: u64, transaction: u32, torrents: &[InfoHash]) -> Vec<u8> {
    let mut bytes = header(connection_id, SCRAPE, transaction);
    torrents.iter().for_each(|torrent| bytes.extend(torrent));
    bytes
}

/// An announce request.
#[derive(Clone, Debug)]
pub struct Announce {
    /// As given by the tracker.
    pub connection_id: u64,
    /// Comes back in the reply.
    pub transaction: u32,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's random id.
    pub peer_id: [u8; 20],
    /// Bytes not yet downloaded.
    pub left: u64,
    /// Number of the event; see [`Event`].
    pub event: u32,
    /// The client's address as it believes it to be; 0 for the packet's source.
    pub ip: [u8; 4],
    /// The client's random key; zeros for none.
    pub key: [u8; 4],
    /// How many peers are wanted; -1 for as many as the tracker likes.
    pub num_want: i32,
    /// The port the client listens on.
    pub port: u16,
    /// BEP 41 options.
    pub options: Vec<u8>,
}

impl Announce {
    /// An announce of a leecher, without an event.
    #[must_use]
    pub fn new(info_hash: InfoHash, port: u16) -> Self {
        Self {
            connection_id: 0,
            transaction: 0,
            info_hash,
            peer_id: *b"-TT0001-abcdefghijkl",
            left: 1 << 33,
            event: Event::None as u32,
            ip: [0; 4],
            key: [0xde, 0xad, 0xbe, 0xef],
            num_want: -1,
            port,
            options: Vec::new(),
        }
    }

    /// The request.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = header(self.connection_id, ANNOUNCE, self.transaction);
        bytes.extend(self.info_hash);
        bytes.extend(self.peer_id);
        // Downloaded, left, uploaded.
        bytes.extend(4096_u64.to_be_bytes());
        bytes.extend(self.left.to_be_bytes());
        bytes.extend(512_u64.to_be_bytes());
        bytes.extend(self.event.to_be_bytes());
        bytes.extend(self.ip);
        bytes.extend(self.key);
        bytes.extend(self.num_want.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(&self.options);
        bytes
    }
}

/// Numbers of a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Peers that have everything.
    pub seeders: u32,
    /// Downloads completed, ever.
    pub completed: u32,
    /// Peers that do not have everything.
    pub leechers: u32,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a connect request.
    Connect {
        /// The request's.
        transaction: u32,
        /// To be used in further requests.
        connection_id: u64,
    },
    /// To an announce.
    Announce {
        /// The request's.
        transaction: u32,
        /// Seconds until the next announce.
        interval: u32,
        /// Peers that do not have everything.
        leechers: u32,
        /// Peers that have everything.
        seeders: u32,
        /// In the order of the reply.
        peers: Vec<SocketAddr>,
    },
    /// To a scrape, in the order of the request.
    Scrape {
        /// The request's.
        transaction: u32,
        /// One per `info_hash`.
        torrents: Vec<Counts>,
    },
    /// To anything.
    Error {
        /// The request's.
        transaction: u32,
        /// For people.
        message: String,
    },
}

impl Reply {
    /// Reads a reply; `ipv4` says which family the datagram was of, which decides the length of a
    /// peer.
    ///
    /// # Errors
    /// When it is not exactly a reply.
    pub fn parse(bytes: &[u8], ipv4: bool) -> Result<Self> {
        ensure!(bytes.len() >= 8, "a reply of {} bytes", bytes.len());
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let transaction = word(4);
        match word(0) {
            CONNECT => {
                ensure!(bytes.len() == 16, "a connect reply of {} bytes", bytes.len());
                Ok(Self::Connect { transaction, connection_id: u64::from(word(8)) << 32 | u64::from(word(12)) })
            }
            ANNOUNCE => {
                ensure!(bytes.len() >= 20, "an announce reply of {} bytes", bytes.len());
                let peers = compact_peers(&bytes[20..], ipv4)?;
                Ok(Self::Announce { transaction, interval: word(8), leechers: word(12), seeders: word(16), peers })
            }
            SCRAPE => {
                ensure!((bytes.len() - 8).is_multiple_of(12), "a scrape reply of {} bytes", bytes.len());
                let torrents = (8..bytes.len())
                    .step_by(12)
                    .map(|at| Counts { seeders: word(at), completed: word(at + 4), leechers: word(at + 8) })
                    .collect();
                Ok(Self::Scrape { transaction, torrents })
            }
            ERROR => Ok(Self::Error { transaction, message: String::from_utf8(bytes[8..].to_vec())? }),
            action => bail!("a reply with action {action}"),
        }
    }

    /// The transaction id.
    #[must_use]
    pub fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction, .. }
            | Self::Announce { transaction, .. }
            | Self::Scrape { transaction, .. }
            | Self::Error { transaction, .. } => *transaction,
        }
    }
}

/// Reads a compact list of peers (BEP 7, 15 and 23).
///
/// # Errors
/// When it does not consist of whole peers.
pub fn compact_peers(bytes: &[u8], ipv4: bool) -> Result<Vec<SocketAddr>> {
    let size = if ipv4 { 6 } else { 18 };
    ensure!(bytes.len().is_multiple_of(size), "{} bytes of peers with {size} bytes each", bytes.len());
    let peer = |bytes: &[u8]| {
        let (address, port) = bytes.split_at(size - 2);
        let address = match <[u8; 4]>::try_from(address) {
            Ok(address) => IpAddr::from(address),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).expect("4 or 16 bytes")),
        };
        SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]]))
    };
    Ok(bytes.chunks(size).map(peer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_lengths_of_the_bep() {
        assert_eq!(connect(1).len(), 16);
        assert_eq!(Announce::new([0; 20], 1).bytes().len(), 98);
        assert_eq!(scrape(0, 1, &[[0; 20]; 3]).len(), 16 + 60);
    }

    #[test]
    fn replies_are_read_and_half_ones_refused() {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 7, 8, 0, 0, 0, 2, 0, 0, 0, 3, 192, 0, 2, 1, 0x1a, 0xe1];
        let reply = Reply::parse(&bytes, true).expect("a reply");
        let peers = vec!["192.0.2.1:6881".parse().expect("a peer")];
        assert_eq!(reply, Reply::Announce { transaction: 7, interval: 1800, leechers: 2, seeders: 3, peers });
        bytes.pop();
        Reply::parse(&bytes, true).expect_err("half a peer");
        Reply::parse(&bytes[..19], true).expect_err("half a header");
    }
}
