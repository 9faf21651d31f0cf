//! The store in ordinary memory, and a thread's platform over it whose randomness and interleaving
//! a test decides: what the store's algorithms run on where they are tested without the kernel and
//! without the daemon.
//!
//! Compiled for every target but the eBPF machine, without a feature of its own: with one, this crate
//! and the daemon would be compiled once more for the tests. The linker leaves it out of the daemon.

extern crate std;

use crate::{
    admission::table::AccessBucket,
    change::Change,
    id::{ChunkId, PartitionId},
    limits::table::{ALL_SETS, LimitSet},
    outcome::{COUNTERS, Counter, Event, StoreError},
    platform::{ColdPath, Context, Platform, Step},
    scratch::{SCRATCH_BYTES, Scratch},
    settings::Settings,
    store::{
        cold,
        journal::Journal,
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
    },
    word::Word,
};
use core::cell::{Cell, RefCell};
use std::{boxed::Box, vec::Vec};

/// The minute that a new store's clock shows.
pub const FIRST_MINUTE: u32 = 10_000;

/// Changes that a platform keeps.
pub const TOLD: usize = 64;
/// Buckets of the table of listed torrents.
const ACCESS_BUCKETS: u32 = 16;

/// How many records of each kind a store has.
#[derive(Clone, Copy, Debug)]
pub struct HostSizes {
    /// Buckets of the swarm index.
    pub index_buckets: u32,
    /// Torrents that may be stored, at most 31 per bucket.
    pub swarms: u32,
    /// Partitions.
    pub partitions: u32,
    /// IPv4 chunks, directory nodes among them.
    pub chunks_v4: u32,
    /// IPv6 chunks.
    pub chunks_v6: u32,
}

/// Types of which all zero bytes are a valid value.
trait Zeroed {}

impl Zeroed for AccessBucket {}
impl Zeroed for LimitSet {}
impl Zeroed for Journal {}
impl Zeroed for Bucket {}
impl Zeroed for ChunkV4 {}
impl Zeroed for ChunkV6 {}
impl Zeroed for Partition {}
impl Zeroed for Scratch {}
impl Zeroed for Word {}

fn zeroed<T: Zeroed>(count: u32) -> Box<[T]> {
    // SAFETY: all zero bytes are a valid value of the type, as `Zeroed` says.
    unsafe { Box::new_zeroed_slice(count as usize).assume_init() }
}

/// All records of a store, shared by threads; each uses them through a [`HostPlatform`] of its own.
pub struct HostStore {
    settings: Settings,
    pools: Pools,
    index: Box<[Bucket]>,
    partitions: Box<[Partition]>,
    chunks_v4: Box<[ChunkV4]>,
    chunks_v6: Box<[ChunkV6]>,
    access: Box<[AccessBucket]>,
    blocks: Box<[Word]>,
    limits: Box<[LimitSet]>,
    journals: Box<[Journal]>,
}

/// How many platforms of a store can have a journal at the same time.
const JOURNALS: u32 = 32;

impl HostStore {
    /// An empty store whose clock shows [`FIRST_MINUTE`]. Its keys follow from the seed, so that a
    /// failure can be repeated.
    #[must_use]
    pub fn new(sizes: &HostSizes, seed: u64) -> Self {
        let settings = Settings::default();
        let mut state = seed;
        for key in settings.hash_keys.iter().chain(&settings.connection_key).chain(&settings.access_key) {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            key.store((word ^ (word >> 31)) | 1);
        }
        settings.minute.store(FIRST_MINUTE);
        settings.limit_mask_v6.store(u64::MAX);
        settings.index_buckets.store(sizes.index_buckets);
        settings.access_buckets.store(ACCESS_BUCKETS);
        let limits = [sizes.swarms, sizes.partitions, sizes.chunks_v4, sizes.chunks_v6];
        for (limit, size) in settings.pool_limits.iter().zip(limits) {
            limit.store(size);
        }
        Self {
            settings,
            pools: Pools::default(),
            index: zeroed(sizes.index_buckets),
            partitions: zeroed(sizes.partitions),
            chunks_v4: zeroed(sizes.chunks_v4),
            chunks_v6: zeroed(sizes.chunks_v6),
            access: zeroed(ACCESS_BUCKETS),
            blocks: Box::default(),
            limits: zeroed(ALL_SETS),
            journals: zeroed(JOURNALS),
        }
    }

    /// With room for so many words of tables of blocked addresses.
    #[must_use]
    pub fn with_block_words(mut self, words: u32) -> Self {
        self.blocks = zeroed(words);
        self.settings.block_words.store(words);
        self
    }

    /// A word of these tables.
    #[must_use]
    pub fn block_word(&self, number: u32) -> Option<&Word> {
        self.blocks.get(number as usize)
    }

    /// A store with the same contents. Nobody uses this one meanwhile.
    #[cfg(test)]
    pub(crate) fn copy(&self) -> Self {
        fn copy<T>(from: &[T]) -> Box<[T]> {
            let mut to = Box::<[T]>::new_uninit_slice(from.len());
            // SAFETY: both have as many elements, which are made of nothing but words.
            unsafe {
                core::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr().cast(), from.len());
                to.assume_init()
            }
        }
        Self {
            // SAFETY: made of nothing but words, as above.
            settings: unsafe { core::ptr::read(&raw const self.settings) },
            // SAFETY: as above.
            pools: unsafe { core::ptr::read(&raw const self.pools) },
            index: copy(&self.index),
            partitions: copy(&self.partitions),
            chunks_v4: copy(&self.chunks_v4),
            chunks_v6: copy(&self.chunks_v6),
            access: copy(&self.access),
            blocks: copy(&self.blocks),
            limits: copy(&self.limits),
            journals: copy(&self.journals),
        }
    }

    /// What its platforms have written down.
    #[must_use]
    pub fn journals(&self) -> &[Journal] {
        &self.journals
    }

    /// The settings record.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The allocators' record.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// A platform for one thread that waits for locks as long as it takes, as the daemon's does, and
    /// that keeps a journal. Its random numbers follow from the seed.
    #[must_use]
    pub fn platform(&self, seed: u64) -> HostPlatform<'_> {
        self.limited_platform(seed)
    }

    /// A platform for one thread that tries a lock `TRIES` times, as the kernel's does; 0 for
    /// without limit.
    #[must_use]
    pub fn limited_platform<const TRIES: u32>(&self, seed: u64) -> HostPlatform<'_, TRIES> {
        HostPlatform {
            store: self,
            scratch: zeroed(1),
            random: Cell::new(seed),
            counters: core::array::from_fn(|_| Cell::new(0)),
            hook: None,
            told: RefCell::default(),
            journal: if TRIES == 0 { self.journals.iter().find(|journal| journal.claim()) } else { None },
        }
    }
}

/// One thread's access to a [`HostStore`]. Locks are tried `TRIES` times, or as long as it takes if
/// that is 0.
pub struct HostPlatform<'s, const TRIES: u32 = 0> {
    store: &'s HostStore,
    /// One.
    scratch: Box<[Scratch]>,
    random: Cell<u64>,
    counters: [Cell<u64>; COUNTERS],
    hook: Option<&'s dyn Fn()>,
    journal: Option<&'s Journal>,
    told: RefCell<Vec<Change>>,
}

impl<const TRIES: u32> Drop for HostPlatform<'_, TRIES> {
    fn drop(&mut self) {
        // A thread that has died in the middle of something leaves its journal behind.
        if let Some(journal) = self.journal.filter(|journal| journal.locks().next().is_none()) {
            journal.free();
        }
    }
}

impl<'s, const TRIES: u32> HostPlatform<'s, TRIES> {
    /// The same platform, which calls `hook` after each turn of a loop ([`Platform::repeat`]) and
    /// at each [`Platform::pause`]: what happens there is what others do at that moment. They need
    /// platforms of their own, and must not wait without limit for a lock that this one holds.
    #[must_use]
    pub fn with_hook(mut self, hook: &'s dyn Fn()) -> Self {
        self.hook = Some(hook);
        self
    }

    /// What the algorithms are given.
    #[must_use]
    pub fn context(&self) -> Context<'_, Self> {
        Context { platform: self, settings: &self.store.settings, scratch: &self.scratch[0] }
    }

    /// What other trackers were to be told of since this was asked last.
    #[must_use]
    pub fn told(&self) -> Vec<Change> {
        self.told.take()
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &'s HostStore {
        self.store
    }

    /// How often this platform has counted something.
    #[must_use]
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counters[counter.index()].get()
    }

    /// How often this platform has counted an event.
    #[must_use]
    pub fn events(&self, event: Event) -> u64 {
        self.counted(Counter::Event(event))
    }

    /// A copy of `length` bytes of the scratch space from `start` on; `None` if they do not lie
    /// inside it.
    #[must_use]
    pub fn bytes(&self, start: u32, length: u32) -> Option<Vec<u8>> {
        let end = start.checked_add(length).filter(|end| *end as usize <= SCRATCH_BYTES)?;
        (start..end).map(|at| self.scratch[0].get(at as usize)).collect()
    }

    fn interrupt(&self) {
        if let Some(hook) = self.hook {
            hook();
        }
    }
}

impl<const TRIES: u32> Platform for HostPlatform<'_, TRIES> {
    const SPIN_LIMIT: Option<u32> = if TRIES == 0 { None } else { Some(TRIES) };

    const TELLS: bool = true;

    fn tell(&self, change: &Change) -> bool {
        let room = self.told.borrow().len() < TOLD;
        self.told.borrow_mut().extend(room.then_some(*change));
        room
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.store.settings)
    }

    fn access_bucket(&self, number: u32) -> Option<&AccessBucket> {
        self.store.access.get(number as usize)
    }

    fn block_word(&self, number: u32) -> Option<&Word> {
        self.store.blocks.get(number as usize)
    }

    fn limit_set(&self, number: u32) -> Option<&LimitSet> {
        self.store.limits.get(number as usize)
    }

    fn scratch(&self) -> Option<&Scratch> {
        self.scratch.first()
    }

    fn pools(&self) -> Option<&Pools> {
        Some(&self.store.pools)
    }

    fn journal(&self) -> Option<&Journal> {
        self.journal
    }

    fn bucket(&self, number: u32) -> Option<&Bucket> {
        self.store.index.get(number as usize)
    }

    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.store.partitions.get(id.number() as usize)
    }

    fn chunk_v4(&self, id: ChunkId) -> Option<&ChunkV4> {
        self.store.chunks_v4.get(id.number() as usize)
    }

    fn chunk_v6(&self, id: ChunkId) -> Option<&ChunkV6> {
        self.store.chunks_v6.get(id.number() as usize)
    }

    /// wyrand, as in the daemon.
    fn random(&self, _scratch: &Scratch) -> u32 {
        let state = self.random.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.random.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        ((product >> 64) ^ product) as u32
    }

    fn count(&self, counter: Counter, by: u64) {
        let count = &self.counters[counter.index()];
        count.set(count.get() + by);
    }

    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S) {
        for turn in 0..turns {
            let goes_on = body.step(self, turn);
            self.interrupt();
            if !goes_on {
                break;
            }
        }
    }

    fn pause(&self, tries: u32) {
        #[cfg(interleaved)]
        seam::wait();
        // Whoever holds the lock may be waiting for this very core.
        if tries < 100 {
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        self.interrupt();
    }

    #[inline(never)]
    fn run_cold(&self, work: ColdPath) -> Result<u32, StoreError> {
        cold::run(work, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::SwarmId, store::lock::Lock};

    const FEW: HostSizes = HostSizes { index_buckets: 16, swarms: 3, partitions: 2, chunks_v4: 5, chunks_v6: 4 };

    #[test]
    fn numbers_beyond_the_end_give_nothing() {
        let store = HostStore::new(&FEW, 1);
        let platform = store.platform(1);
        assert!(platform.bucket(15).is_some() && platform.bucket(16).is_none());
        assert!(platform.swarm(SwarmId::at(15, 31)).is_some() && platform.swarm(SwarmId::at(15, 0)).is_none());
        assert!(platform.swarm(SwarmId::at(16, 1)).is_none());
        assert!(platform.partition(PartitionId::new(1)).is_some() && platform.partition(PartitionId::new(2)).is_none());
        assert!(platform.chunk_v4(ChunkId::new(4)).is_some() && platform.chunk_v4(ChunkId::new(5)).is_none());
        assert!(platform.chunk_v6(ChunkId::new(3)).is_some() && platform.chunk_v6(ChunkId::new(u32::MAX)).is_none());
    }

    #[test]
    fn seeds_decide_keys_and_random_numbers() {
        let keys = |seed| HostStore::new(&FEW, seed).settings().hash_keys.each_ref().map(|key| key.load());
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
        let store = HostStore::new(&FEW, 1);
        let draw = |seed| {
            let platform = store.platform(seed);
            let context = platform.context();
            [(); 8].map(|()| context.random())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn bytes_outside_the_scratch_space_are_refused() {
        let store = HostStore::new(&FEW, 1);
        let platform = store.platform(1);
        let end = SCRATCH_BYTES as u32;
        platform.context().scratch.put(SCRATCH_BYTES - 2, *b"ok");
        for (start, length, expected) in [
            (end - 2, 2, Some(&b"ok"[..])),
            (end - 1, 1, Some(b"k")),
            (end, 0, Some(b"")),
            (end - 2, 3, None),
            (end + 1, 0, None),
            (u32::MAX, 2, None),
        ] {
            assert_eq!(platform.bytes(start, length).as_deref(), expected, "{length} at {start}");
        }
    }

    #[test]
    fn a_held_lock_is_given_up_only_where_tries_are_limited() {
        let store = HostStore::new(&FEW, 1);
        let lock = Lock::default();
        assert!(lock.try_lock());
        let tries = Cell::new(0);
        let count = || tries.set(tries.get() + 1);
        let limited = store.limited_platform::<4>(1).with_hook(&count);
        assert_eq!(limited.try_long(&lock), Err(StoreError::Contended));
        // At each pause and after each turn.
        assert_eq!(tries.get(), 2 * 4);
        let let_go = || {
            tries.set(tries.get() + 1);
            if tries.get() == 1000 {
                lock.unlock();
            }
        };
        assert_eq!(store.platform(1).with_hook(&let_go).try_long(&lock), Ok(()));
        assert!(tries.get() >= 1000 && !lock.try_lock());
    }
}
