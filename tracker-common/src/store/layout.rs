//! The records of the store as they lie in memory. All zero bytes is a free one of each.

use super::{lock::Lock, scope};
use crate::word::{Word, Word32};

/// Slots of an index bucket.
pub const BUCKET_SLOTS: usize = 7;

/// Most chunks of a partition.
pub const PARTITION_CHUNKS: u32 = 12;

/// Directory entries in a swarm record.
pub const ROOT_REFS: u32 = 8;

/// Directory entries in a node.
pub const NODE_REFS: u32 = 64;

/// Most partitions of a swarm and family.
pub const PARTITIONS_MAX: u32 = ROOT_REFS * NODE_REFS * NODE_REFS;

/// One cache line of the swarm index.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Bucket {
    /// Held while a torrent whose home this bucket is gets stored or removed.
    pub lock: Lock,
    /// How many torrents were placed beyond this bucket because it was full; 0 ends a search.
    pub passed: Word32,
    /// Hash in the high, swarm number + 1 in the low 32 bits; 0 for none.
    pub slots: [Word; BUCKET_SLOTS],
}

/// A swarm: 128 bytes. All zero bytes is a free one.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Swarm {
    /// The torrent.
    pub info_hash: [Word32; 5],
    /// Held while inline peers or the directory change.
    pub lock: Lock,
    /// Both families together: leechers in the low 24 bits, seeders in the next 24; above them a number that changes with every
    /// change of the two ([`COUNTS_CHANGE`]).
    pub counts: Word,
    /// How many peers completed the download ([`Swarm::completed`]), in all but the highest bits; these say how near peers were that
    /// the record has held ([`Swarm::near`]).
    pub completed: Word32,
    /// [`SWARM_ALIVE`] and the minute of the last announce.
    pub active: Word32,
    /// Five IPv4 peers, or a root: `word[0]` the root word, then 8 directory entries.
    pub v4: [Word; 5],
    /// Two IPv6 peers, or a root as above.
    pub v6: [Word; 6],
}

/// Set in [`Swarm::active`] of a swarm in use.
pub const SWARM_ALIVE: u32 = 1 << 31;

/// A part of a grown swarm: a list of peers in 1 to 12 chunks. 64 bytes; never used for anything else, so that its lock
/// can be tried by whoever still has an old number of it.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Partition {
    /// Held while its peers or its chunks change.
    pub lock: Lock,
    /// Number of the swarm it belongs to, + 1; 0 while free.
    pub owner: Word32,
    /// Its own number within the swarm, and [`super::family::Family::TAG`]; and how near peers were that it has held ([`Partition::near`]).
    pub place: Word32,
    /// How many peers it has. They fill its chunks one after the other.
    pub peers: Word32,
    /// Chunk numbers; [`super::partition::chunks_for`] `peers` of them are in use.
    pub chunks: [Word32; PARTITION_CHUNKS as usize],
}

/// 32 IPv4 peers, or a directory node of 64 entries.
#[repr(C, align(64))]
pub struct ChunkV4 {
    /// Peer words.
    pub words: [Word; 32],
}

/// 16 IPv6 peers.
#[repr(C, align(64))]
pub struct ChunkV6 {
    /// Peer words.
    pub words: [Word; 48],
}

const _: () = assert!(size_of::<Bucket>() == 64);

const _: () = assert!(size_of::<Swarm>() == 128);

const _: () = assert!(size_of::<Partition>() == 64);

const _: () = assert!(size_of::<ChunkV4>() == 256);

const _: () = assert!(size_of::<ChunkV6>() == 384);

/// Seeders, leechers and completed downloads of a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Peers that have everything.
    pub seeders: u32,
    /// Peers that do not.
    pub leechers: u32,
    /// Downloads completed, ever.
    pub completed: u32,
}

impl Swarm {
    /// The counts now.
    #[inline(always)]
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.counts.load();
        let (seeders, leechers) = unpack_counts(counts);
        Counts { seeders, leechers, completed: self.completed() }
    }

    /// How many peers completed the download, ever.
    #[inline(always)]
    #[must_use]
    pub fn completed(&self) -> u32 {
        self.completed.load() & ((1 << SWARM_NEAR_SHIFT) - 1)
    }

    /// How near the nearest of the peers is that the record itself has held ([`scope`]).
    #[inline(always)]
    #[must_use]
    pub fn near(&self) -> u32 {
        self.completed.load() >> SWARM_NEAR_SHIFT
    }

    /// Notes that the record holds such a peer. Its lock is held, so only [`Swarm::completed`] can change meanwhile.
    #[inline(always)]
    pub(super) fn note_near(&self, near: u32) {
        let new = near & !self.near();
        if new != 0 {
            self.completed.add(new << SWARM_NEAR_SHIFT);
        }
    }
}

/// Where the bits of [`Swarm::near`] begin.
const SWARM_NEAR_SHIFT: u32 = 32 - scope::BITS;

/// Where the bits of [`Partition::near`] begin.
const PARTITION_NEAR_SHIFT: u32 = 16;

const _: () = assert!(PARTITIONS_MAX <= 1 << PARTITION_NEAR_SHIFT);

impl Partition {
    /// Its number within the swarm, and [`super::family::Family::TAG`].
    #[inline(always)]
    #[must_use]
    pub fn tagged_place(&self) -> u32 {
        self.place.load() & !(((1 << scope::BITS) - 1) << PARTITION_NEAR_SHIFT)
    }

    /// How near the nearest of the peers is that it has held ([`scope`]).
    #[inline(always)]
    #[must_use]
    pub fn near(&self) -> u32 {
        (self.place.load() >> PARTITION_NEAR_SHIFT) & ((1 << scope::BITS) - 1)
    }

    /// Notes that it holds such a peer. Its lock is held.
    #[inline(always)]
    pub(super) fn note_near(&self, near: u32) {
        let place = self.place.load();
        let new = place | near << PARTITION_NEAR_SHIFT;
        if new != place {
            self.place.store(new);
        }
    }
}

/// One leecher.
pub const COUNTS_LEECHER: u64 = 1;

/// One seeder.
pub const COUNTS_SEEDER: u64 = 1 << 24;

/// One change.
pub const COUNTS_CHANGE: u64 = 1 << 48;

/// Seeders and leechers of a counts word.
#[inline(always)]
#[must_use]
pub fn unpack_counts(counts: u64) -> (u32, u32) {
    ((counts >> 24) as u32 & 0xff_ffff, counts as u32 & 0xff_ffff)
}

/// The slot holds a peer.
pub const OCCUPIED: u64 = 1 << 63;

/// The peer is a leecher.
pub const LEECHER: u64 = 1 << 62;

/// The peer's completed download was counted.
pub const COMPLETED: u64 = 1 << 61;

/// Where the minute of the last announce begins.
pub const MINUTE_SHIFT: u32 = 48;

/// Minutes are kept modulo this + 1.
pub const MINUTE_MASK: u32 = 0x1fff;

/// The bits of the minute.
pub const MINUTE: u64 = (MINUTE_MASK as u64) << MINUTE_SHIFT;

/// The bits that are not the peer's address and port.
pub const FLAGS: u64 = !IDENTITY;

/// The bits that are.
pub const IDENTITY: u64 = (1 << MINUTE_SHIFT) - 1;

const ROOT: u64 = LEECHER;

/// One more peer in a root word.
pub const ROOT_PEER: u64 = 1 << 32;

/// Whether a flags word is a root word.
#[inline(always)]
#[must_use]
pub fn is_root(word: u64) -> bool {
    word >> 62 == 1
}

/// A root word.
#[inline(always)]
#[must_use]
pub fn root_word(peers: u32, partitions: u32) -> u64 {
    ROOT | u64::from(peers) << 32 | u64::from(partitions)
}

/// Partitions counted in a root word.
#[inline(always)]
#[must_use]
pub fn root_partitions(word: u64) -> u32 {
    word as u32
}

/// Peers counted in a root word.
#[inline(always)]
#[must_use]
pub fn root_peers(word: u64) -> u32 {
    (word >> 32) as u32 & 0x3fff_ffff
}

/// Minutes since the peer's last announce.
#[inline(always)]
#[must_use]
pub fn age(flags: u64, minute: u32) -> u32 {
    minute.wrapping_sub((flags >> MINUTE_SHIFT) as u32) & MINUTE_MASK
}

/// A minute as it stands in a peer's flags.
#[inline(always)]
#[must_use]
pub fn minute_bits(minute: u32) -> u64 {
    u64::from(minute & MINUTE_MASK) << MINUTE_SHIFT
}

/// One allocator.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Pool {
    /// Tag in the high, number + 1 of the first free element in the low 32 bits.
    pub head: Word,
    /// Numbers below this were in use at some time.
    pub fresh: Word32,
    /// How many elements are in the list.
    pub free: Word32,
}

/// All allocators. All zero bytes is the empty store.
#[repr(C)]
#[derive(Default)]
pub struct Pools {
    /// Of swarm records.
    pub swarms: Pool,
    /// Of partitions.
    pub partitions: Pool,
    /// Of IPv4 chunks and directory nodes.
    pub chunks_v4: Pool,
    /// Of IPv6 chunks.
    pub chunks_v6: Pool,
}

impl Pool {
    /// Elements in use; may be off by a few while others allocate.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.fresh.load().saturating_sub(self.free.load())
    }

    /// Elements from this number on were never used.
    #[must_use]
    pub fn fresh(&self) -> u32 {
        self.fresh.load()
    }
}
