//! The kernel's side of [`Platform`]: the one door to map elements.

use crate::{
    cold,
    kernel::Kernel,
    maps::{ACCESS, BLOCKS, CHANGES, CHUNKS_V4, CHUNKS_V6, INDEX, LIMITS, PARTITIONS, POOLS, SCRATCH, SETTINGS},
};
use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_loop},
    maps::{Array, PerCpuArray},
};
use core::ffi::c_void;
use tracker_common::{
    admission::table::AccessBucket,
    change::Change,
    codegen::barrier_var,
    id::{ChunkId, PartitionId},
    limits::table::LimitSet,
    outcome::{COUNTERS as COUNTER_COUNT, Counter, Reason, StoreError},
    platform::{ColdPath, Platform, Step},
    scratch::Scratch,
    settings::Settings,
    store::layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
    word::Word,
};

/// `BPF_RB_NO_WAKEUP` of linux/bpf.h.
const NO_WAKEUP: u64 = 1;

/// An element of an array that all cores and the daemon share.
#[inline(always)]
fn shared<T>(map: &Array<T>, number: u32) -> Option<&T> {
    // SAFETY: the map's elements live as long as the program, and all that is in them is accessed
    // by word.
    map.get_ptr(number).map(|element| unsafe { &*element })
}

/// This core's only element of a map.
#[inline(always)]
fn own<T>(map: &PerCpuArray<T>) -> Option<&T> {
    // SAFETY: the map's elements live as long as the program; no other XDP program runs on this
    // core meanwhile.
    map.get_ptr(0).map(|element| unsafe { &*element })
}

impl Platform for Kernel {
    /// About two microseconds. The longest work under a lock takes less, unless a thread of the
    /// daemon was put to sleep while it held the lock.
    const SPIN_LIMIT: Option<u32> = Some(64);

    const TELLS: bool = true;

    const ASKING_TAKES: bool = true;

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        shared(&SETTINGS, 0)
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&Scratch> {
        own(&SCRATCH)
    }

    #[inline(always)]
    fn pools(&self) -> Option<&Pools> {
        shared(&POOLS, 0)
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<&Bucket> {
        shared(&INDEX, number)
    }

    #[inline(always)]
    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        shared(&PARTITIONS, id.number())
    }

    #[inline(always)]
    fn chunk_v4(&self, id: ChunkId) -> Option<&ChunkV4> {
        shared(&CHUNKS_V4, id.number())
    }

    #[inline(always)]
    fn chunk_v6(&self, id: ChunkId) -> Option<&ChunkV6> {
        shared(&CHUNKS_V6, id.number())
    }

    #[inline(always)]
    fn access_bucket(&self, number: u32) -> Option<&AccessBucket> {
        shared(&ACCESS, number)
    }

    #[inline(always)]
    fn block_word(&self, number: u32) -> Option<&Word> {
        shared(&BLOCKS, number)
    }

    #[inline(always)]
    fn limit_set(&self, number: u32) -> Option<&LimitSet> {
        shared(&LIMITS, number)
    }

    /// A Weyl sequence, mixed. The helper costs as much as some hundred instructions, so it is
    /// asked only for the beginning of this core's sequence.
    #[inline(always)]
    fn random(&self, scratch: &Scratch) -> u32 {
        let mut state = scratch.sequence.load();
        if state == 0 {
            // SAFETY: the helper has no preconditions.
            state = unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
        }
        state = state.wrapping_add(0xa076_1d64_78bd_642f);
        scratch.sequence.store(state);
        let once = (state ^ state >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db);
        ((once ^ once >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db) >> 32) as u32
    }

    #[inline(always)]
    fn count(&self, counter: Counter, by: u64) {
        self.add(counter.index(), by);
    }

    #[inline(always)]
    fn reason(&self, reason: impl Into<Reason>) {
        // The compiler knows that a reason is in range, the verifier does not.
        let index = barrier_var(Counter::Reason(reason.into()).index() as u64) as usize;
        if index < COUNTER_COUNT {
            self.add(index, 1);
        }
    }

    #[inline(always)]
    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S) {
        let callback: unsafe extern "C" fn(u32, *mut c_void) -> i64 = turn::<S>;
        // SAFETY: the callback has the signature that bpf_loop calls, and gets back the pointer
        // given here, which lives on this function's stack.
        unsafe {
            bpf_loop(turns, callback as *mut c_void, (&raw mut *body).cast(), 0);
        }
    }

    #[inline(always)]
    fn pause(&self, _tries: u32) {}

    /// Nobody is woken: the daemon looks into the buffer a hundred times a second.
    #[inline(always)]
    fn tell(&self, change: &Change) -> bool {
        let Some(mut entry) = CHANGES.reserve::<Change>(0) else { return false };
        // SAFETY: the ring buffer has just given room for a record, which this run alone has until it is
        // submitted.
        unsafe { entry.as_mut_ptr().write(*change) };
        entry.submit(NO_WAKEUP);
        true
    }

    #[inline(always)]
    fn run_cold(&self, work: ColdPath) -> Result<u32, StoreError> {
        cold::call(work)
    }
}

unsafe extern "C" fn turn<S: Step<Kernel>>(index: u32, state: *mut c_void) -> i64 {
    // SAFETY: `state` is the body that `repeat` handed to bpf_loop.
    let body = unsafe { &mut *state.cast::<S>() };
    i64::from(!body.step(&Kernel::without_counters(), index))
}
