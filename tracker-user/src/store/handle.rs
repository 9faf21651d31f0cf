//! A thread's access to the store.

use super::{Store, counters::ThreadCounters};
use std::{cell::Cell, sync::Arc};
use tracker_common::{
    outcome::{Counter, StoreError},
    platform::{Platform, Rare, Step},
    scratch::{SCRATCH_BYTES, Scratch},
    settings::Settings,
    store::{
        cold,
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools, Swarm},
    },
};

/// One thread's access to the store: [`Platform`] as the daemon provides it. It can be moved to another thread but not be
/// shared.
pub struct Handle {
    store: Arc<Store>,
    scratch: Box<Scratch>,
    random: Cell<u64>,
    counters: Arc<ThreadCounters>,
}

impl Handle {
    pub(super) fn new(store: Arc<Store>, counters: Arc<ThreadCounters>) -> Self {
        Self {
            store,
            // SAFETY: all zero bytes are a valid `Scratch`, as its documentation says.
            scratch: unsafe { Box::<Scratch>::new_zeroed().assume_init() },
            // Without the system's randomness, the address of the counters tells threads apart; nothing secret hangs on it.
            random: Cell::new(getrandom::u64().unwrap_or(Arc::as_ptr(&counters).addr() as u64)),
            counters,
        }
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Appends bytes of this handle's working space (a reply, or the peers of a sample) to `into`.
    ///
    /// False, and nothing is appended, if they do not lie inside the space, which would be a bug of whoever built them.
    #[must_use]
    pub fn copy_out(&self, start: u32, length: u32, into: &mut Vec<u8>) -> bool {
        let inside = start.checked_add(length).is_some_and(|end| end as usize <= SCRATCH_BYTES);
        if inside {
            // SAFETY: inside the space, as just checked. Whoever writes to it holds this handle, which is not shared between
            // threads, and nothing else runs on this thread while the bytes are copied.
            into.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.scratch.bytes().add(start as usize), length as usize)
            });
        }
        inside
    }
}

impl Platform for Handle {
    // Whoever holds a lock is an XDP program, which cannot be put to sleep, or a thread that will be scheduled again.
    const BOUNDED: bool = false;
    type Inner = Self;

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
        self.store.index.get(number)
    }

    #[inline(always)]
    fn swarm(&self, number: u32) -> Option<&Swarm> {
        self.store.swarms.get(number)
    }

    #[inline(always)]
    fn partition(&self, number: u32) -> Option<&Partition> {
        self.store.partitions.get(number)
    }

    #[inline(always)]
    fn chunk_v4(&self, number: u32) -> Option<&ChunkV4> {
        self.store.chunks_v4.get(number)
    }

    #[inline(always)]
    fn chunk_v6(&self, number: u32) -> Option<&ChunkV6> {
        self.store.chunks_v6.get(number)
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&Scratch> {
        Some(&self.scratch)
    }

    /// wyrand: one multiplication, and no state shared with other threads.
    #[inline(always)]
    fn random(&self) -> u32 {
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

    #[inline(always)]
    fn rarely(&self, work: Rare) -> Result<u32, StoreError> {
        cold::run(work, self)
    }

    fn pause(&self, tries: u32) {
        // Holders are usually gone within a microsecond; one that is not may be waiting for this very core.
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
    use crate::store::{CounterSet, sizes::Sizes};

    fn store() -> Arc<Store> {
        let sizes = Sizes { index_buckets: 16, swarms: 3, partitions: 2, chunks_v4: 5, chunks_v6: 4 };
        Arc::new(Store::anonymous(&sizes).expect("a few pages"))
    }

    #[test]
    fn numbers_beyond_the_end_give_nothing() {
        let handle = store().handle(CounterSet::Udp);
        assert!(handle.swarm(2).is_some());
        assert!(handle.swarm(3).is_none());
        assert!(handle.bucket(16).is_none());
        assert!(handle.partition(2).is_none());
        assert!(handle.chunk_v4(5).is_none());
        assert!(handle.chunk_v6(u32::MAX).is_none());
    }

    #[test]
    fn threads_do_not_share_random_sequences() {
        let store = store();
        let [one, two] = [(); 2].map(|()| store.handle(CounterSet::Udp));
        let draw = |handle: &Handle| -> Vec<u32> { (0..8).map(|_| handle.random()).collect() };
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
