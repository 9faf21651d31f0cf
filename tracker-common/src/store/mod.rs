//! The swarm store: one memory, used without system calls by XDP programs on all cores and by the daemon's threads.
//!
//! * The **index** ([`Bucket`]) is a hash table of cache lines: a word per torrent with 32 bits of a keyed hash and the number
//!   of its swarm record.
//! * A **swarm record** ([`Swarm`], 128 bytes) holds the info_hash, the counts and the first five IPv4 and two IPv6 peers.
//! * A family that outgrows the record lives in **partitions** ([`Partition`]), each a list without gaps in 1 to
//!   [`PARTITION_CHUNKS`] chunks. Swarms get more partitions by linear hashing, one at a time, so that the work per announce is
//!   bounded whatever the size of the swarm.
//! * An **IPv4 peer** is one 64-bit word, an **IPv6 peer** three ([`family`]).
//!
//! Writers hold the [`lock`] of the record or partition they change; readers hold nothing. `docs/architecture.md` has the
//! rules and why they hold.

use crate::word::{Word, Word32};

pub mod count;
pub mod expiry;
pub mod family;
pub mod index;
pub mod lock;
pub mod partition;
pub mod pool;
pub mod rare;
pub mod reach;
pub mod sample;
pub mod update;

pub use family::{Family, V4, V6, Wanted};
pub use lock::Lock;
pub use pool::Pools;
pub use rare::Rare;
pub use sample::{Sample, sample};
pub use update::{Announcement, PeerEvent, refresh, store, update};

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
    /// change of the two ([`count`]).
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
    /// Its own number within the swarm, and [`Family::TAG`]; and how near peers were that it has held ([`Partition::near`]).
    pub place: Word32,
    /// How many peers it has. They fill its chunks one after the other.
    pub peers: Word32,
    /// Chunk numbers; [`partition::chunks_for`] `peers` of them are in use.
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
        let (seeders, leechers) = count::unpack(counts);
        Counts { seeders, leechers, completed: self.completed() }
    }

    /// How many peers completed the download, ever.
    #[inline(always)]
    #[must_use]
    pub fn completed(&self) -> u32 {
        self.completed.load() & ((1 << SWARM_NEAR_SHIFT) - 1)
    }

    /// How near the nearest of the peers is that the record itself has held ([`reach`]).
    #[inline(always)]
    #[must_use]
    pub fn near(&self) -> u32 {
        self.completed.load() >> SWARM_NEAR_SHIFT
    }

    /// Notes that the record holds such a peer. Its lock is held, so only [`Swarm::completed`] can change meanwhile.
    #[inline(always)]
    fn note_near(&self, near: u32) {
        let new = near & !self.near();
        if new != 0 {
            self.completed.add(new << SWARM_NEAR_SHIFT);
        }
    }
}

/// Where the bits of [`Swarm::near`] begin.
const SWARM_NEAR_SHIFT: u32 = 32 - reach::BITS;

/// Where the bits of [`Partition::near`] begin.
const PARTITION_NEAR_SHIFT: u32 = 16;

const _: () = assert!(PARTITIONS_MAX <= 1 << PARTITION_NEAR_SHIFT);

impl Partition {
    /// Its number within the swarm, and [`Family::TAG`].
    #[inline(always)]
    #[must_use]
    pub fn tagged_place(&self) -> u32 {
        self.place.load() & !(((1 << reach::BITS) - 1) << PARTITION_NEAR_SHIFT)
    }

    /// How near the nearest of the peers is that it has held ([`reach`]).
    #[inline(always)]
    #[must_use]
    pub fn near(&self) -> u32 {
        (self.place.load() >> PARTITION_NEAR_SHIFT) & ((1 << reach::BITS) - 1)
    }

    /// Notes that it holds such a peer. Its lock is held.
    #[inline(always)]
    fn note_near(&self, near: u32) {
        let place = self.place.load();
        let new = place | near << PARTITION_NEAR_SHIFT;
        if new != place {
            self.place.store(new);
        }
    }
}
