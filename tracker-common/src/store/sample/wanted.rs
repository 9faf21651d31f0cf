//! What a sample is asked for, what it gives, and its bounds.

use super::super::{
    family::{Family as _, V4, V6},
    filter::PeerFilter,
};
use crate::{
    outcome::IpVersion,
    scratch::{END_MASK, PEERS_AT, SCRATCH_BYTES, START_MASK},
};

/// Partitions read for one reply, at most: enough for the largest reply. Bounds the work where
/// nearly all peers are seeders and a seeder asks.
pub const PARTITIONS_READ_MAX: u32 = 12;

/// Bytes that can be collected before a chunk is copied. All ones: it is a mask as well.
pub const COLLECTED_MAX: u32 = 4095;

/// Most bytes of a chunk's peers.
const CHUNK_BYTES: u32 = 300;

/// Bytes that are enough in any case.
pub(super) const COLLECTED_ENOUGH: u32 = COLLECTED_MAX - 400;

// The largest reply and the chunk that has been begun; and the copy of the first peers behind the
// last (`compact::cut`).
const _: () = assert!((V4::NUMWANT_LIMIT + V4::CHUNK_SLOTS) * 6 <= COLLECTED_MAX);
const _: () = assert!((V6::NUMWANT_LIMIT + V6::CHUNK_SLOTS) * 18 <= COLLECTED_MAX);
const _: () = assert!(V4::CHUNK_SLOTS * 6 <= CHUNK_BYTES && V6::CHUNK_SLOTS * 18 <= CHUNK_BYTES);
const _: () = assert!(COLLECTED_ENOUGH + CHUNK_BYTES <= COLLECTED_MAX);
// The copy begins at the end of what is collected, and a reply with one of these peers.
const _: () = assert!(PEERS_AT + (COLLECTED_ENOUGH + CHUNK_BYTES) as usize <= END_MASK);
const _: () = assert!(PEERS_AT + (COLLECTED_ENOUGH + V6::CHUNK_SLOTS * 18 - 18) as usize <= START_MASK);
const _: () = assert!(PEERS_AT + (COLLECTED_MAX + CHUNK_BYTES) as usize + 8 <= SCRATCH_BYTES);

/// Chunks that are taken of a partition at once: so many that one partition nearly always gives the
/// 50 peers that are usual.
#[inline(always)]
#[must_use]
pub const fn chunks_at_once(version: IpVersion) -> u32 {
    match version {
        IpVersion::V4 => 3,
        IpVersion::V6 => 4,
    }
}

/// Compact peers in [`crate::scratch::Scratch::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Offset of the first one.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Sample {
    /// No peers.
    pub const EMPTY: Self = Self { start: PEERS_AT as u32, count: 0 };
}

/// Which peers are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<K> {
    /// How many at most. More than [`super::super::family::Family::NUMWANT_LIMIT`] are not given.
    pub count: u32,
    /// Of which kind.
    pub filter: PeerFilter,
    /// The requester, which is not given to itself.
    pub exclude: K,
}
