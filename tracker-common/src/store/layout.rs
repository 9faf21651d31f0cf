//! The records of the store as they lie in memory. All zero bytes is a free record of each kind.

use super::{lock::Lock, scope};
use crate::{
    codegen::barrier_var,
    id::InfoHash,
    word::{Word, Word32},
};

/// The version of what the store's maps mean: of these records, of slots, and of
/// [`Settings`](crate::settings::Settings). It changes with every change that another program could
/// not work with: the pinned store of a daemon that was replaced is taken over only if its version
/// is this one.
pub const LAYOUT_VERSION: u32 = 3;

/// Swarm records of an index bucket.
pub const BUCKET_SWARMS: usize = 31;

/// Words of a bucket's tags, with four tags each: one for each record, and before them one that is
/// always 0, so that the number of a tag is that of the record's place.
pub const TAG_WORDS: usize = 8;

/// Most chunks of a partition.
pub const PARTITION_CHUNKS: u32 = 12;

/// Directory entries in a swarm record.
pub const RECORD_ENTRIES: u32 = 8;

/// Directory entries in a node.
pub const NODE_ENTRIES: u32 = 64;

/// Most partitions of a swarm and family.
pub const PARTITIONS_MAX: u32 = RECORD_ENTRIES * NODE_ENTRIES * NODE_ENTRIES;

/// Numbers of partitions, chunks and nodes have so many bits: the highest byte of an entry in a swarm
/// record is 0 ([`super::asking`]).
pub const NUMBER_BITS: u32 = 24;

/// A page of the swarm index: tags in one cache line, and the swarm records that they stand for
/// ([`super::index`]). Records never move.
///
/// The header is at another place from bucket to bucket: in the unit that has the bucket's number,
/// modulo their number, and the record of place n in the n-th behind it. If it always were at the
/// beginning of the page, the headers of all buckets would have a 64th of the processor's cache.
#[repr(C, align(4096))]
#[derive(Default)]
pub struct Bucket {
    units: [Swarm; BUCKET_SWARMS + 1],
}

/// What an index bucket has beside its records.
#[repr(C, align(128))]
#[derive(Default)]
pub struct BucketHeader {
    /// Tags of 16 bits, the first one in the lowest bits of the first word; 0 for a free record
    /// (`store/bucket.rs`).
    pub tags: [Word; TAG_WORDS],
    /// Held while a torrent whose home this bucket is gets stored or removed.
    pub lock: Lock,
    /// How many torrents were placed elsewhere because this bucket was full; 0 ends a search.
    pub passed: Word32,
    unused: [Word; 7],
}

/// A swarm: 128 bytes. Of a torrent with up to three IPv4 peers, all that an announce needs is in
/// the first 64.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Swarm {
    /// The torrent, 4 bytes in memory order each.
    pub info_hash: [Word32; 5],
    /// Held while peers in the record or the directory change.
    pub lock: Lock,
    /// Both families together: leechers in the low 24 bits, seeders in the next 24, and above them
    /// a number that changes with every change of the two. So a thread that counts the peers one by
    /// one can tell whether the counts were changed meanwhile, even if they are the same again
    /// ([`super::sweep`]).
    pub counts: Word,
    /// How many peers completed the download ([`Swarm::completed`]), in all but the highest bits.
    /// These say which scopes the addresses of peers had that the record has held
    /// ([`Swarm::scopes`]).
    pub completed: Word32,
    /// [`SWARM_ALIVE`], [`SWARM_SETTLED`] and the minute of the last announce
    /// ([`Swarm::idle_minutes`]).
    pub active: Word32,
    /// Five IPv4 peers; or the [`DirectoryHeader`] and then 8 directory entries, or the numbers of 8
    /// chunks.
    pub v4: [Word; 5],
    /// Two IPv6 peers; or a directory as above ([`super::family::Family::HEADER_WORD`]).
    pub v6: [Word; 6],
}

/// Set in [`Swarm::active`] of a swarm in use.
pub const SWARM_ALIVE: u32 = 1 << 31;

/// Set in [`Swarm::active`] of a swarm that was announced to in another minute than that in which it
/// was stored.
pub const SWARM_SETTLED: u32 = 1 << 30;

/// A part of a large swarm, a bucket of its linear hashing: a list of peers in 1 to 12 chunks. 64
/// bytes. The memory of a partition is never used for anything else, so its lock can be tried by
/// whoever still has an old number of it.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Partition {
    /// Held while its peers or its chunks change.
    pub lock: Lock,
    /// [`SwarmId::stored`](crate::id::SwarmId::stored) of the swarm it belongs to; 0 while free.
    pub owner: Word32,
    /// Its index within the swarm, with the [tag](super::family::Family::TAG) of the family; and
    /// the scopes of the peers that it has held ([`Partition::scopes`]).
    pub index: Word32,
    /// How many peers it has ([`Occupancy::to_word`]). They fill its chunks one after the other.
    pub occupancy: Word32,
    /// Numbers of its chunks; those that the peers fill are in use.
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

/// The allocator of one kind of records ([`super::allocator`]).
#[repr(C, align(64))]
#[derive(Default)]
pub struct Pool {
    /// A tag in the high 32 bits; number + 1 of the first free record, or 0, in the low ones.
    pub head: Word,
    /// Records below this number were in use at some time.
    pub fresh: Word32,
    /// How many records are in the list of free ones.
    pub free: Word32,
}

/// How many swarm records are in use. They are not allocated by number: each lies where its torrent
/// is looked for ([`super::index`]).
#[repr(C, align(64))]
#[derive(Default)]
pub struct SwarmCount {
    /// So many.
    pub used: Word32,
}

/// All allocators. All zero bytes is the empty store.
#[repr(C)]
#[derive(Default)]
pub struct Pools {
    /// Of swarm records, which lie in the index.
    pub swarms: SwarmCount,
    /// Of partitions.
    pub partitions: Pool,
    /// Of IPv4 chunks and directory nodes.
    pub chunks_v4: Pool,
    /// Of IPv6 chunks.
    pub chunks_v6: Pool,
}

const _: () = assert!(size_of::<Bucket>() == 4096);
const _: () = assert!(size_of::<BucketHeader>() == size_of::<Swarm>());
const _: () = assert!(align_of::<BucketHeader>() == align_of::<Swarm>());
const _: () = assert!(TAG_WORDS * 4 == BUCKET_SWARMS + 1);
const _: () = assert!(size_of::<Swarm>() == 128);
const _: () = assert!(size_of::<Partition>() == 64);
const _: () = assert!(size_of::<ChunkV4>() == 256);
const _: () = assert!(size_of::<ChunkV6>() == 384);
const _: () = assert!(size_of::<Pool>() == 64);

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

/// One leecher in [`Swarm::counts`].
pub const ONE_LEECHER: u64 = 1;

/// One seeder in [`Swarm::counts`].
pub const ONE_SEEDER: u64 = 1 << 24;

/// One change in [`Swarm::counts`].
pub const ONE_CHANGE: u64 = 1 << 48;

/// Seeders and leechers in the word [`Swarm::counts`].
#[inline(always)]
#[must_use]
pub fn unpack_counts(counts: u64) -> (u32, u32) {
    ((counts >> 24) as u32 & 0xff_ffff, counts as u32 & 0xff_ffff)
}

/// Where the bits of [`Swarm::scopes`] begin.
const SWARM_SCOPES_SHIFT: u32 = 32 - scope::BITS;
/// The most completed downloads that a record can count.
pub const COMPLETED_MAX: u32 = (1 << SWARM_SCOPES_SHIFT) - 1;

impl Bucket {
    /// A unit by number, modulo how many there are.
    #[inline(always)]
    fn unit(&self, number: u32) -> &Swarm {
        // The barrier, because the compiler would mask another form of the number than the one that
        // is used.
        &self.units[barrier_var(u64::from(number)) as usize % (BUCKET_SWARMS + 1)]
    }

    /// The header of this bucket, which has the given number.
    #[inline(always)]
    #[must_use]
    pub fn header(&self, number: u32) -> &BucketHeader {
        // SAFETY: a header has the size and alignment of a record, and both are made of nothing but
        // words of which every value is valid. Whoever asks with a wrong number gets rubbish.
        unsafe { &*core::ptr::from_ref(self.unit(number)).cast() }
    }

    /// The record at a place of this bucket, which has the given number. `None` for 0, where the
    /// header is.
    #[inline(always)]
    #[must_use]
    pub fn swarm(&self, number: u32, place: u32) -> Option<&Swarm> {
        if (place as usize).is_multiple_of(BUCKET_SWARMS + 1) {
            None
        } else {
            Some(self.unit(number.wrapping_add(place)))
        }
    }
}

impl SwarmCount {
    /// Swarm records in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load()
    }
}

impl Swarm {
    /// The counts now.
    #[inline(always)]
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (seeders, leechers) = unpack_counts(self.counts.load());
        Counts { seeders, leechers, completed: self.completed() }
    }

    /// Minutes since the last announce; 0 if that was in a later minute than the caller read.
    #[inline(always)]
    #[must_use]
    pub fn idle_minutes(&self, minute: u32) -> u32 {
        minute.saturating_sub(self.active.load() & !(SWARM_ALIVE | SWARM_SETTLED))
    }

    /// How many peers completed the download, ever.
    #[inline(always)]
    #[must_use]
    pub fn completed(&self) -> u32 {
        self.completed.load() & COMPLETED_MAX
    }

    /// The scopes of all peers that the record itself has held ([`scope`]).
    #[inline(always)]
    #[must_use]
    pub fn scopes(&self) -> u32 {
        self.completed.load() >> SWARM_SCOPES_SHIFT
    }

    /// Notes that the record holds a peer with these scopes. Its lock is held, so nobody else sets
    /// them meanwhile.
    #[inline(always)]
    pub(super) fn add_scopes(&self, scopes: u32) {
        let new = scopes & !self.scopes();
        if new != 0 {
            self.completed.add(new << SWARM_SCOPES_SHIFT);
        }
    }

    /// The torrent. Reading it takes no lock: a record that is given to another torrent meanwhile
    /// gives a mixture.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        let mut info_hash = [0; 20];
        for (bytes, word) in info_hash.as_chunks_mut::<4>().0.iter_mut().zip(&self.info_hash) {
            *bytes = word.load().to_le_bytes();
        }
        info_hash
    }
}

/// Where the bits of [`Partition::scopes`] begin.
const PARTITION_SCOPES_SHIFT: u32 = 16;

const _: () = assert!(PARTITIONS_MAX <= 1 << PARTITION_SCOPES_SHIFT);

impl Partition {
    /// Its index within the swarm, with the tag of the family.
    #[inline(always)]
    #[must_use]
    pub fn tagged_index(&self) -> u32 {
        self.index.load() & !(((1 << scope::BITS) - 1) << PARTITION_SCOPES_SHIFT)
    }

    /// How many peers it has.
    #[inline(always)]
    #[must_use]
    pub fn peers(&self) -> u32 {
        Occupancy::from_word(self.occupancy.load()).peers
    }

    /// The scopes of all peers that it has held ([`scope`]).
    #[inline(always)]
    #[must_use]
    pub fn scopes(&self) -> u32 {
        (self.index.load() >> PARTITION_SCOPES_SHIFT) & ((1 << scope::BITS) - 1)
    }

    /// Notes that it holds a peer with these scopes. Its lock is held.
    #[inline(always)]
    pub(super) fn add_scopes(&self, scopes: u32) {
        let old = self.index.load();
        let new = old | scopes << PARTITION_SCOPES_SHIFT;
        if new != old {
            self.index.store(new);
        }
    }
}

/// How many peers a list has. Leechers stand before seeders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// All of them.
    pub peers: u32,
    /// Leechers.
    pub leechers: u32,
}

impl Occupancy {
    /// As it is kept in a partition: peers in the low 16 bits, leechers above.
    #[inline(always)]
    #[must_use]
    pub fn to_word(self) -> u32 {
        self.peers | self.leechers << 16
    }

    /// Reads that word.
    #[inline(always)]
    #[must_use]
    pub fn from_word(word: u32) -> Self {
        Self { peers: word & 0xffff, leechers: word >> 16 }
    }

    /// As it is kept in a journal: peers in the low 32 bits, leechers above.
    #[inline(always)]
    #[must_use]
    pub(super) fn to_kept(self) -> u64 {
        u64::from(self.peers) | u64::from(self.leechers) << 32
    }

    /// Reads that word.
    #[must_use]
    #[cfg(not(target_arch = "bpf"))]
    pub(super) fn from_kept(word: u64) -> Self {
        Self { peers: word as u32, leechers: (word >> 32) as u32 }
    }

    /// As it is kept in a swarm record that names the chunks of a list: a [`DirectoryHeader`], with
    /// the leechers in front of the 0 partitions.
    #[inline(always)]
    #[must_use]
    pub fn to_header(self) -> u64 {
        DirectoryHeader { peers: self.peers, partitions: 0 }.to_word() | u64::from(self.leechers) << 16
    }

    /// Reads that word.
    #[inline(always)]
    #[must_use]
    pub fn from_header(word: u64) -> Self {
        Self { peers: DirectoryHeader::unpack(word).peers, leechers: word as u32 >> 16 }
    }
}

impl Pool {
    /// Records in use; may be off by a few while others allocate.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.fresh.load().saturating_sub(self.free.load())
    }
}

/// What a swarm record holds instead of the first peer's flags where a family has outgrown the
/// record's slots: bit 63 clear, bit 62 set, then 30 bits of peers, 16 bits of leechers in a list
/// ([`Occupancy::to_header`]), and 16 bits of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryHeader {
    /// How many peers the family has.
    pub peers: u32,
    /// How many partitions the family has. 0: the record names the chunks itself
    /// ([`super::record`]).
    pub partitions: u32,
}

impl DirectoryHeader {
    /// One peer more in the word.
    pub const ONE_PEER: u64 = 1 << 32;

    /// One partition more in the word.
    pub const ONE_PARTITION: u64 = 1;

    /// Reads the word; `None` if it is the flags of a peer or of a free slot.
    #[inline(always)]
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        if word >> 62 == 1 { Some(Self::unpack(word)) } else { None }
    }

    /// Reads a word that is known to be a header.
    #[inline(always)]
    #[must_use]
    pub fn unpack(word: u64) -> Self {
        Self { peers: (word >> 32) as u32 & 0x3fff_ffff, partitions: word as u32 & 0xffff }
    }

    /// Whether the record names the chunks itself ([`super::record`]).
    #[inline(always)]
    #[must_use]
    pub fn is_list(self) -> bool {
        self.partitions == 0
    }

    /// The word.
    #[inline(always)]
    #[must_use]
    pub fn to_word(self) -> u64 {
        1 << 62 | u64::from(self.peers) << 32 | u64::from(self.partitions)
    }
}

#[cfg(test)]
mod tests;
