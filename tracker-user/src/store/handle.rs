//! A thread's access to the store.

use super::{Store, counters::ThreadCounters};
use std::{cell::Cell, sync::Arc};
use tracker_common::{
    admission::table::AccessBucket,
    change::Change,
    id::{ChunkId, PartitionId},
    limits::table::LimitSet,
    outcome::{Counter, StoreError},
    platform::{ColdPath, Context, Platform, Step},
    scratch::{SCRATCH_BYTES, Scratch},
    settings::Settings,
    store::{
        cold,
        journal::{JOURNALS, Journal},
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
    },
    word::Word,
};

/// One thread's access to the store: [`Platform`] as the daemon provides it. It can be moved to
/// another thread but not be shared.
pub struct Handle {
    store: Arc<Store>,
    scratch: Box<Scratch>,
    random: Cell<u64>,
    counters: Arc<ThreadCounters>,
    /// The number of its journal.
    journal: Option<u32>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A thread that panics in the middle of something leaves its journal behind.
        if let Some(journal) = self.journal()
            && journal.locks().next().is_none()
        {
            journal.free();
        }
    }
}

impl Handle {
    pub(super) fn new(store: Arc<Store>, counters: Arc<ThreadCounters>) -> Self {
        let journal = (0..).zip(store.journals.all()).find(|(_, journal)| journal.claim()).map(|(number, _)| number);
        if journal.is_none() {
            tracing::warn!(
                "more than {JOURNALS} threads use the store; should this one be killed, nobody can tell what it was doing"
            );
        }
        Self {
            store,
            journal,
            // SAFETY: all zero bytes are a valid `Scratch`, as its documentation says.
            scratch: unsafe { Box::<Scratch>::new_zeroed().assume_init() },
            // If the system has no randomness, the address of the counters tells threads apart:
            // these numbers need not be secret.
            random: Cell::new(getrandom::u64().unwrap_or(Arc::as_ptr(&counters).addr() as u64)),
            counters,
        }
    }

    /// What the algorithms of [`tracker_common`] are given.
    #[must_use]
    pub fn context(&self) -> Context<'_, Self> {
        Context { platform: self, settings: self.store.settings(), scratch: &self.scratch }
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Appends bytes of this handle's scratch space (a reply, or the peers of a sample) to `into`.
    ///
    /// False, and nothing is appended, if they do not lie inside the space, which would be a bug of
    /// the caller.
    #[must_use]
    pub fn copy_out(&self, start: u32, length: u32, into: &mut Vec<u8>) -> bool {
        let inside = start.checked_add(length).is_some_and(|end| end as usize <= SCRATCH_BYTES);
        if inside {
            // SAFETY: inside the space, as just checked. Only a holder of this handle writes to it.
            // The handle is not shared between threads, and nothing else runs on this thread while
            // the bytes are copied.
            into.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.scratch.bytes().add(start as usize), length as usize)
            });
        }
        inside
    }
}

impl Platform for Handle {
    // A lock is held by an XDP program, which cannot be put to sleep, or by a thread that will be
    // scheduled again.
    const SPIN_LIMIT: Option<u32> = None;

    const TELLS: bool = true;

    fn tell(&self, change: &Change) -> bool {
        self.store.changes.push(change)
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        Some(self.store.settings())
    }

    #[inline(always)]
    fn pools(&self) -> Option<&Pools> {
        Some(self.store.pools())
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<&Bucket> {
        self.store.bucket(number)
    }

    #[inline(always)]
    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.store.partitions.get(id.number())
    }

    #[inline(always)]
    fn chunk_v4(&self, id: ChunkId) -> Option<&ChunkV4> {
        self.store.chunks_v4.get(id.number())
    }

    #[inline(always)]
    fn chunk_v6(&self, id: ChunkId) -> Option<&ChunkV6> {
        self.store.chunks_v6.get(id.number())
    }

    #[inline(always)]
    fn access_bucket(&self, number: u32) -> Option<&AccessBucket> {
        self.store.access_bucket(number)
    }

    #[inline(always)]
    fn block_word(&self, number: u32) -> Option<&Word> {
        self.store.block_word(number)
    }

    #[inline(always)]
    fn limit_set(&self, number: u32) -> Option<&LimitSet> {
        self.store.limit_set(number)
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&Scratch> {
        Some(&self.scratch)
    }

    #[inline(always)]
    fn journal(&self) -> Option<&Journal> {
        self.store.journals.get(self.journal?)
    }

    /// wyrand: one multiplication, and no state shared with other threads.
    #[inline(always)]
    fn random(&self, _scratch: &Scratch) -> u32 {
        let state = self.random.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.random.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        ((product >> 64) ^ product) as u32
    }

    #[inline(always)]
    fn count(&self, counter: Counter, by: u64) {
        self.counters.count(counter, by);
    }

    #[inline(always)]
    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S) {
        for turn in 0..turns {
            if !body.step(self, turn) {
                break;
            }
        }
    }

    // One copy of it, and not one wherever it may be needed: half of the time that this takes to
    // compile.
    #[inline(never)]
    fn run_cold(&self, work: ColdPath) -> Result<u32, StoreError> {
        cold::run(work, self)
    }

    fn pause(&self, tries: u32) {
        // A lock is usually free again within a microsecond. If not, its holder may be waiting for
        // this very core.
        if tries < 100 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CounterSet, store};
    use tracker_common::id::SwarmId;

    #[test]
    fn numbers_beyond_the_end_give_nothing() {
        let handle = store().handle(CounterSet::Udp);
        assert!(handle.swarm(SwarmId::at(15, 31)).is_some());
        assert!(handle.swarm(SwarmId::at(16, 1)).is_none());
        assert!(handle.bucket(16).is_none());
        assert!(handle.partition(PartitionId::new(2)).is_none());
        assert!(handle.chunk_v4(ChunkId::new(5)).is_none());
        assert!(handle.chunk_v6(ChunkId::new(u32::MAX)).is_none());
    }

    #[test]
    fn a_thread_that_has_died_holding_a_lock_is_found_by_whoever_takes_the_store_over() {
        use tracker_common::store::{journal::Place, repair::Repaired};
        let store = store();
        assert_eq!(store.repair(), Repaired::default(), "nobody has died");
        let swarm = SwarmId::at(3, 1);
        let dead = store.handle(CounterSet::Udp);
        let lock = &dead.swarm(swarm).expect("in range").lock;
        dead.acquire(lock, Place::Swarm(swarm)).expect("it waits");
        // The thread is gone, and nothing was tidied up.
        std::mem::forget(store.handle(CounterSet::Http));
        assert!(!lock.try_lock());
        assert_eq!(store.repair(), Repaired { threads: 1, locks: 1, swarms: 1, in_doubt: 0 });
        assert!(lock.try_lock(), "it is free again");
        let claimed = store.journals.all().iter().filter(|journal| journal.is_claimed()).count();
        assert_eq!(claimed, 0, "and so are the journals");
    }

    #[test]
    fn threads_do_not_share_random_sequences() {
        let store = store();
        let [one, two] = [(); 2].map(|()| store.handle(CounterSet::Udp));
        let draw = |handle: &Handle| -> Vec<u32> { (0..8).map(|_| handle.context().random()).collect() };
        assert_ne!(draw(&one), draw(&two));
    }

    #[test]
    fn bytes_outside_the_working_space_are_refused() {
        let handle = store().handle(CounterSet::Udp);
        handle.scratch.put(SCRATCH_BYTES - 2, *b"ok");
        let end = SCRATCH_BYTES as u32;
        let mut copied = Vec::new();
        assert!(!handle.copy_out(end - 2, 3, &mut copied));
        assert!(!handle.copy_out(u32::MAX, 2, &mut copied));
        assert!(handle.copy_out(end - 2, 2, &mut copied));
        assert_eq!(copied, b"ok");
    }
}
