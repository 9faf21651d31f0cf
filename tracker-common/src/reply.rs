//! The working space of one request: the reply, built where its headers can be put in front of it, and the few values that
//! the verifier has to forget (what it does not follow, it does not multiply paths by).

use crate::word::{Word, Word32};
use core::cell::UnsafeCell;

/// Where in [`Scratch::bytes`] the peers of an announce reply are collected. In front of it fit the largest headers: Ethernet
/// 14, VLAN 4, IPv6 40, UDP 8, BEP 15 20 bytes.
pub const PEERS_AT: usize = 128;

/// Size of the reply space; peers may overshoot the wanted number by a chunk before they are cut.
pub const SCRATCH_BYTES: usize = 3264;

/// Where the XDP program keeps what it knows of a packet's headers, behind everything else.
pub const FLOW_AT: usize = 3072;

/// A reply starts below this + 1.
pub const START_MASK: usize = 0x1ff;

/// Chunk numbers remembered while a partition is rebuilt.
pub const REFS: usize = 16;

/// Partitions whose versions are remembered while a sample is taken.
pub const VERSIONS: usize = 32;

/// One per core in the kernel, one per thread in the daemon. All zero bytes is a valid one.
#[repr(C, align(8))]
pub struct Scratch {
    /// Bytes collected by a sample ([`crate::store::sample()`]).
    pub cursor: Word32,
    /// A slot number found, or bytes of a request; free for short use.
    pub found: Word32,
    /// Sampling: current partition.
    pub partition: Word32,
    /// Sampling: how many partitions of the present lap are done, and laps.
    pub visited: Word32,
    /// Sampling: laps, that is chunks already taken from every partition.
    pub lap: Word32,
    /// Sampling: the state of a random sequence.
    pub random: Word32,
    /// Rebuilding: words moved, and whether it failed.
    pub moved: Word32,
    /// Rebuilding: set when a word found no place.
    pub failed: Word32,
    /// Rebuilding: the new chunks of the partition.
    pub refs: [Word32; REFS],
    /// Rebuilding: the new chunks of the partition split off.
    pub refs_split: [Word32; REFS],
    /// A peer being moved: up to three words.
    pub peer: [Word; 3],
    /// How many lines from its home the line of the last slot found is.
    pub step: Word32,
    /// Rebuilding: the largest such distance + 1 in the new chunks.
    pub reach: Word32,
    /// Rebuilding: the same in the new chunks of the partition split off.
    pub reach_split: Word32,
    /// Swarm number + 1 of a swarm that is to be given one more partition after the reply; 0 for none. Used in the kernel only.
    pub split_later: Word32,
    reserved: Word32,
    forgotten: Word32,
    /// Sampling: the version of a partition when its first chunk was read, with a mark of the partition and the sample.
    pub versions: [Word; VERSIONS],
    bytes: UnsafeCell<[u8; SCRATCH_BYTES]>,
}

const _: () = assert!(size_of::<Scratch>() == 208 + 8 * VERSIONS + SCRATCH_BYTES);

// SAFETY: in the kernel every core sees only its own element of a per-CPU map.
#[cfg(target_arch = "bpf")]
unsafe impl Sync for Scratch {}

impl Scratch {
    /// The number itself, without what the verifier knows about it: paths that differ only in that become one.
    #[inline(always)]
    #[must_use]
    pub fn forget(&self, number: u32) -> u32 {
        #[cfg(target_arch = "bpf")]
        {
            self.forgotten.store(number);
            self.forgotten.load()
        }
        #[cfg(not(target_arch = "bpf"))]
        number
    }

    /// Start of the reply space. [`SCRATCH_BYTES`] bytes from here on belong to whoever holds the handle.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    /// Writes `value` at `offset`, unaligned.
    ///
    /// # Panics
    /// Never: an offset beyond the space writes nothing.
    #[inline(always)]
    pub fn put<T: Copy>(&self, offset: usize, value: T) {
        if offset <= SCRATCH_BYTES - size_of::<T>() {
            // SAFETY: the bound was checked in the line above; the space belongs to the one user of the handle.
            unsafe { self.bytes().add(offset).cast::<T>().write_unaligned(value) }
        }
    }

    /// Reads from `offset`, unaligned; `None` beyond the space.
    #[inline(always)]
    #[must_use]
    pub fn get<T: Copy>(&self, offset: usize) -> Option<T> {
        if offset <= SCRATCH_BYTES - size_of::<T>() {
            // SAFETY: the bound was checked in the line above; `T` is made of plain bytes or integers.
            Some(unsafe { self.bytes().add(offset).cast::<T>().read_unaligned() })
        } else {
            None
        }
    }
}

/// A reply in [`Scratch::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where it starts; at least 66 bytes are free in front of it.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
}
