//! What the daemon tells the XDP program: clock, keys, limits, addresses. One record, written by
//! the daemon, read by all, word by word.

use crate::{
    outcome::IpVersion,
    word::{Word, Word32},
};

/// How many addresses per family, and how many interfaces, the XDP program can answer for. Requests
/// to further addresses are passed on to the daemon's sockets.
pub const LISTENERS: usize = 32;

/// How many keys the hash functions of the store need.
pub const HASH_KEYS: usize = 12;

/// The record. All zero bytes is a valid one that answers nothing.
#[repr(C)]
#[derive(Default)]
pub struct Settings {
    /// Seconds, counted from any fixed point that is not before the daemon's first start; drives
    /// connection ids.
    pub second: Word32,
    /// Minutes since the same point; drives the age of peers and torrents.
    pub minute: Word32,
    /// Key of the connection ids (SipHash-2-4).
    pub connection_key: [Word; 2],
    /// Keys of the store's hash functions. Changing them loses the store's contents.
    pub hash_keys: [Word; HASH_KEYS],
    /// Seconds between a client's announces, as told to it.
    pub interval: Word32,
    /// The interval told varies by up to this many seconds in both directions.
    pub interval_jitter: Word32,
    /// Peers given when the client does not say how many it wants.
    pub default_numwant: Word32,
    /// At most this many IPv4 peers in a UDP reply ([`crate::store::family::Family::NUMWANT_LIMIT`]
    /// at most).
    pub max_numwant_v4: Word32,
    /// At most this many IPv6 peers in a UDP reply ([`crate::store::family::Family::NUMWANT_LIMIT`]
    /// at most).
    pub max_numwant_v6: Word32,
    /// Not 0: peers with private and other local addresses are given to all requesters
    /// ([`crate::store::scope`]).
    pub give_local_peers: Word32,
    /// Buckets of the swarm index that are in use.
    pub index_buckets: Word32,
    /// Swarm records, partitions, IPv4 chunks and IPv6 chunks that may be used
    /// ([`crate::store::layout::Pools`]).
    pub pool_limits: [Word32; 4],
    /// How many of `interfaces` are set.
    pub interface_count: Word32,
    /// How many of `listeners_v4` are set.
    pub listener_v4_count: Word32,
    /// How many of `listeners_v6` are set.
    pub listener_v6_count: Word32,
    /// The second up to which packets are traced ([`crate::trace`]), on the clock `second`; 0 for
    /// not at all. The tracer moves it on, so that nothing stays on when it is killed.
    pub trace_until: Word32,
    /// Which outcomes are traced: bit n for the one whose counter is number n
    /// ([`crate::outcome::Counter::index`]).
    pub trace_wanted: Word,
    /// Packets that were to be traced and had no room in the ring buffer. Written by the XDP
    /// program.
    pub traces_lost: Word32,
    /// The process that traces.
    pub tracer: Word32,
    /// Which lists of torrents are in force: the sum of their [`crate::admission::List::bit`].
    pub access_lists: Word32,
    /// Buckets of the table of listed torrents.
    pub access_buckets: Word32,
    /// Key of the fingerprints in that table (SipHash-2-4). Changing it loses the table's contents.
    pub access_key: [Word; 2],
    /// At most so many peers of one IPv4 address or IPv6 /64 in a swarm ([`crate::store::crowd`]); 0
    /// for no limit.
    pub max_peers_per_address: Word32,
    /// Interface index, and the 6 bytes of its MAC address as the low 48 bits (first byte lowest),
    /// with the MTU in bytes above them, cut to 16 bits.
    pub interfaces: [[Word; 2]; LISTENERS],
    /// IPv4 address (bytes 0 to 3) and port (bytes 4 and 5, network order) as in
    /// [`crate::store::family::V4`]'s keys.
    pub listeners_v4: [Word; LISTENERS],
    /// IPv6 address as two words in memory order, then the port (network order in the low 16 bits).
    pub listeners_v6: [[Word; 3]; LISTENERS],
}

/// The first of the hash keys by which peers of one address ([`crate::store::crowd`]) differ.
const WITHIN_ADDRESS: usize = 9;

impl Settings {
    /// Has all peers of one IPv4 address or IPv6 /64 in one partition of a swarm, where they can be
    /// counted. Before the store is used: its contents are lost with a change of the keys.
    pub fn keep_addresses_together(&self) {
        for key in &self.hash_keys[WITHIN_ADDRESS..] {
            key.store(0);
        }
    }

    /// At most this many peers in a UDP reply over that version of IP.
    #[inline(always)]
    #[must_use]
    pub fn max_numwant(&self, version: IpVersion) -> u32 {
        match version {
            IpVersion::V4 => self.max_numwant_v4.load(),
            IpVersion::V6 => self.max_numwant_v6.load(),
        }
    }
}

const _: () = assert!(size_of::<Settings>().is_multiple_of(8));
