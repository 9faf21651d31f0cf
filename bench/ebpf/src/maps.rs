//! The maps, and the door to their elements.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, LpmTrie, PerCpuArray, ProgramArray, lpm_trie::Key},
};
use bench_ebpf::{
    Client, IN_FLIGHT_SAMPLES, LATENCY_BUCKETS, LISTED_NETWORKS, Load, PAGE_WORDS, Progress, Replies, Visit,
};

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

/// Networks, as the kernel's own structure for them has them.
#[map]
static NETWORKS: LpmTrie<u32, u32> = LpmTrie::with_max_entries(LISTED_NETWORKS, BPF_F_NO_PREALLOC);

/// A bit per /24 of IPv4: whether any address of it is listed.
#[map]
static PAGES: Array<u64> = Array::with_max_entries(PAGE_WORDS, BPF_F_MMAPABLE);

/// Where the sequence of addresses goes on.
#[map]
static ADDRESS: Array<u64> = Array::with_max_entries(1, 0);

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

#[inline(always)]
pub fn address() -> Option<*mut u64> {
    ADDRESS.get_ptr_mut(0)
}

/// Whether an address, in network order, is in one of the networks.
#[inline(always)]
pub fn is_in_network(address: u32) -> bool {
    NETWORKS.get(Key::new(32, address)).is_some()
}

/// Whether anything of the /24 of an address, in host order, is listed.
#[inline(always)]
pub fn is_page_listed(address: u32) -> bool {
    PAGES.get(address >> 14).is_some_and(|word| word >> (address >> 8 & 63) & 1 != 0)
}
