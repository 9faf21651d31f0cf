//! The maps. The daemon sets the real sizes when it loads the program.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray, RingBuf},
};
use tracker_common::{
    admission::table::AccessBucket,
    change,
    limits::table::{ALL_SETS, LimitSet},
    outcome::COUNTERS as COUNTER_COUNT,
    programs::Program,
    scratch::Scratch,
    settings::Settings,
    store::{
        journal::{JOURNALS, Journal},
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
    },
    trace::RING_BYTES,
    word::Word,
};

/// `BPF_F_MMAPABLE` of linux/bpf.h: the daemon maps these into its own address space.
const MMAPABLE: u32 = 1 << 10;

/// Counters of one core.
pub(crate) type Counts = [u64; COUNTER_COUNT];

#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(crate) static POOLS: Array<Pools> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(crate) static INDEX: Array<Bucket> = Array::with_max_entries(16, MMAPABLE);
#[map]
pub(crate) static PARTITIONS: Array<Partition> = Array::with_max_entries(16, MMAPABLE);
#[map]
pub(crate) static CHUNKS_V4: Array<ChunkV4> = Array::with_max_entries(16, MMAPABLE);
#[map]
pub(crate) static CHUNKS_V6: Array<ChunkV6> = Array::with_max_entries(16, MMAPABLE);

/// What the daemon's threads write down in case they are killed. Nothing here looks into it; it is
/// here because it has to outlive them as the store does.
#[map]
pub(crate) static JOURNAL: Array<Journal> = Array::with_max_entries(JOURNALS, MMAPABLE);

#[map]
pub(crate) static ACCESS: Array<AccessBucket> = Array::with_max_entries(1, MMAPABLE);
/// What sources have asked for lately.
#[map]
pub(crate) static LIMITS: Array<LimitSet> = Array::with_max_entries(ALL_SETS, MMAPABLE);
#[map]
pub(crate) static BLOCKS: Array<Word> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(1, 0);

/// Packets that are traced ([`crate::trace`]).
#[map]
pub(crate) static TRACE: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Changes of peers that other trackers are told of ([`tracker_common::change`]).
#[map]
pub(crate) static CHANGES: RingBuf = RingBuf::with_byte_size(change::RING_BYTES, 0);

/// The programs that others go on in; the daemon fills it ([`tracker_common::programs`]).
#[map]
pub(crate) static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(Program::ALL.len() as u32, 0);
