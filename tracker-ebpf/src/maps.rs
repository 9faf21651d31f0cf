//! The maps, and the kernel's side of [`Memory`]: the one door to map elements.

use crate::rare;
use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_loop},
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray, RingBuf},
};
use core::ffi::c_void;
use tracker_common::{
    outcome::{COUNTERS as COUNTER_COUNT, Counter, Reason, StoreError},
    platform::{Platform, Rare, Step},
    programs::Program,
    scratch::Scratch,
    settings::Settings,
    store::layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools, Swarm},
    trace::RING_BYTES,
    word::opaque,
};

/// `BPF_F_MMAPABLE` of linux/bpf.h: the daemon maps these into its own address space.
const MMAPABLE: u32 = 1 << 10;

/// Counters of one core.
type Counts = [u64; COUNTER_COUNT];

// The daemon sets the real sizes when it loads the program.
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, MMAPABLE);
#[map]
static POOLS: Array<Pools> = Array::with_max_entries(1, MMAPABLE);
#[map]
static INDEX: Array<Bucket> = Array::with_max_entries(16, MMAPABLE);
#[map]
static SWARMS: Array<Swarm> = Array::with_max_entries(16, MMAPABLE);
#[map]
static PARTITIONS: Array<Partition> = Array::with_max_entries(16, MMAPABLE);
#[map]
static CHUNKS_V4: Array<ChunkV4> = Array::with_max_entries(16, MMAPABLE);
#[map]
static CHUNKS_V6: Array<ChunkV6> = Array::with_max_entries(16, MMAPABLE);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(1, 0);

/// Packets that are traced ([`crate::trace`]).
#[map]
pub(crate) static TRACE: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// The programs that the first one goes on in; the daemon fills it ([`tracker_common::programs`]).
#[map]
pub(crate) static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(Program::ALL.len() as u32, 0);

/// The handle of the core that runs the program. Whatever is asked for is looked up: for functions and loop bodies that need
/// little.
pub(crate) struct Kernel;

/// The same with what every request needs looked up once. A look-up of an array element is a dozen instructions that wait for
/// each other. `HURRIED` is [`Platform::HURRIED`].
pub(crate) struct Held<const HURRIED: bool> {
    scratch: &'static Scratch,
    settings: &'static Settings,
    counts: *mut Counts,
}

impl<const HURRIED: bool> Held<HURRIED> {
    /// Looks everything up.
    #[inline(always)]
    pub(crate) fn new() -> Result<Self, StoreError> {
        match (SCRATCH.get_ptr(0), SETTINGS.get_ptr(0), COUNTERS.get_ptr_mut(0)) {
            (Some(scratch), Some(settings), Some(counts)) => {
                // SAFETY: map elements live as long as the program, and all that is in them is accessed by word; this core's own
                // scratch space is used by no other XDP program meanwhile.
                Ok(unsafe { Self { scratch: &*scratch, settings: &*settings, counts } })
            }
            _ => Err(StoreError::Internal),
        }
    }

    /// This core's working space.
    #[inline(always)]
    pub(crate) fn space(&self) -> &'static Scratch {
        self.scratch
    }

    /// The settings record.
    #[inline(always)]
    pub(crate) fn known(&self) -> &'static Settings {
        self.settings
    }
}

macro_rules! element {
    ($name:ident, $map:ident, $type:ty) => {
        #[inline(always)]
        fn $name(&self, number: u32) -> Option<&$type> {
            // SAFETY: the map's elements live as long as the program, and all that is in them is accessed by word.
            $map.get_ptr(number).map(|element| unsafe { &*element })
        }
    };
}

macro_rules! memory {
    ([$($parameters:tt)*] $name:ty, hurried $hurried:expr, scratch $scratch:expr, settings $settings:expr, counts $counts:expr) => {
        impl $($parameters)* Platform for $name {
            const BOUNDED: bool = true;
            const HURRIED: bool = $hurried;
            type Inner = Kernel;

            element!(bucket, INDEX, Bucket);
            element!(swarm, SWARMS, Swarm);
            element!(partition, PARTITIONS, Partition);
            element!(chunk_v4, CHUNKS_V4, ChunkV4);
            element!(chunk_v6, CHUNKS_V6, ChunkV6);

            #[inline(always)]
            fn settings(&self) -> Option<&Settings> {
                $settings(self)
            }

            #[inline(always)]
            fn pools(&self) -> Option<&Pools> {
                // SAFETY: as above.
                POOLS.get_ptr(0).map(|element| unsafe { &*element })
            }

            #[inline(always)]
            fn scratch(&self) -> Option<&Scratch> {
                $scratch(self)
            }

            #[inline(always)]
            fn random(&self) -> u32 {
                self.scratch().map_or(0, random)
            }

            #[inline(always)]
            fn count(&self, counter: Counter, by: u64) {
                add($counts(self), counter.index(), by);
            }

            #[inline(always)]
            fn reason(&self, reason: impl Into<Reason>) {
                // The compiler knows that a reason is in range, the verifier does not.
                let index = opaque(Counter::Reason(reason.into()).index() as u64) as usize;
                if index < COUNTER_COUNT {
                    add($counts(self), index, 1);
                }
            }

            #[inline(always)]
            fn repeat<S: Step<Kernel>>(&self, turns: u32, body: &mut S) {
                let callback: unsafe extern "C" fn(u32, *mut c_void) -> i64 = turn::<S>;
                // SAFETY: the callback has the signature that bpf_loop calls, and gets back the pointer given here, which lives
                // on this function's stack.
                unsafe {
                    bpf_loop(turns, callback as *mut c_void, (&raw mut *body).cast(), 0);
                }
            }

            #[inline(always)]
            fn pause(&self, _tries: u32) {}

            #[inline(always)]
            fn rarely(&self, work: Rare) -> Result<u32, StoreError> {
                rare::call(work)
            }
        }
    };
}

memory!(
    [] Kernel,
    hurried false,
    // SAFETY: as in `Held::new`.
    scratch |_: &Self| SCRATCH.get_ptr(0).map(|element| unsafe { &*element }),
    // SAFETY: as in `Held::new`.
    settings |_: &Self| SETTINGS.get_ptr(0).map(|element| unsafe { &*element }),
    counts |_: &Self| COUNTERS.get_ptr_mut(0)
);

memory!(
    [<const HURRIED: bool>] Held<HURRIED>,
    hurried HURRIED,
    scratch |held: &Self| Some(held.scratch),
    settings |held: &Self| Some(held.settings),
    counts |held: &Self| Some(held.counts)
);

/// A Weyl sequence, mixed. The helper costs as much as some hundred instructions, so it is asked only for the beginning of this core's
/// sequence.
#[inline(always)]
fn random(scratch: &Scratch) -> u32 {
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
fn add(counts: Option<*mut Counts>, index: usize, by: u64) {
    if let Some(counts) = counts {
        // SAFETY: both callers have an index below COUNTER_COUNT; nobody else writes this core's element.
        unsafe {
            let place = counts.cast::<u64>().add(index);
            place.write(place.read().wrapping_add(by));
        }
    }
}

unsafe extern "C" fn turn<S: Step<Kernel>>(index: u32, state: *mut c_void) -> i64 {
    // SAFETY: `state` is the body that `repeat` handed to bpf_loop.
    let body = unsafe { &mut *state.cast::<S>() };
    i64::from(!body.step(&Kernel, index))
}
