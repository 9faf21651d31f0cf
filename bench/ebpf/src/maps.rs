//! The maps, and the door to their elements.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray},
};
use bench_ebpf::{Client, IN_FLIGHT_SAMPLES, LATENCY_BUCKETS, Load, Progress, Replies, Visit};

#[map]
static LOAD: Array<Load> = Array::with_max_entries(1, 0);

/// Sized by the loader, as is `POPULATION`.
#[map]
static CLIENTS: Array<Client> = Array::with_max_entries(1, 0);

#[map]
static POPULATION: Array<Visit> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static PROGRESS: PerCpuArray<Progress> = PerCpuArray::with_max_entries(1, 0);

#[map]
static REPLIES: PerCpuArray<Replies> = PerCpuArray::with_max_entries(1, 0);

/// When the sampled requests on their way were sent. Nanoseconds of the monotonic clock.
#[map]
static SENT_AT: Array<u64> = Array::with_max_entries(IN_FLIGHT_SAMPLES, 0);

#[map]
static LATENCY: PerCpuArray<u64> = PerCpuArray::with_max_entries(LATENCY_BUCKETS, 0);

/// Room for one reply whose checksum is verified.
#[map]
static COPY: PerCpuArray<[u32; COPY_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// The program that `harness` calls.
#[map]
pub static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

pub const COPY_WORDS: usize = 512;

#[inline(always)]
pub fn load() -> Option<&'static Load> {
    LOAD.get(0)
}

#[inline(always)]
pub fn client(number: u32) -> Option<&'static Client> {
    CLIENTS.get(number)
}

#[inline(always)]
pub fn visit(position: u32) -> Option<Visit> {
    POPULATION.get(position).copied()
}

#[inline(always)]
pub fn progress() -> Option<&'static mut Progress> {
    // SAFETY: the element is this CPU's own, and an XDP program is not interrupted by another one
    // on its CPU.
    PROGRESS.get_ptr_mut(0).map(|element| unsafe { &mut *element })
}

#[inline(always)]
pub fn replies() -> Option<&'static mut Replies> {
    // SAFETY: as in `progress`.
    REPLIES.get_ptr_mut(0).map(|element| unsafe { &mut *element })
}

#[inline(always)]
pub fn sent_at(sample: u32) -> Option<*mut u64> {
    SENT_AT.get_ptr_mut(sample & (IN_FLIGHT_SAMPLES - 1))
}

#[inline(always)]
pub fn latency(bucket: u32) -> Option<*mut u64> {
    LATENCY.get_ptr_mut(bucket)
}

#[inline(always)]
pub fn copy() -> Option<*mut [u32; COPY_WORDS]> {
    COPY.get_ptr_mut(0)
}
