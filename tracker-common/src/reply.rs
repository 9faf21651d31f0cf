//! The working space of one request: the reply, built where its headers can be put in front of it, and the few values that
//! the verifier has to forget (what it does not follow, it does not multiply paths by).

use crate::{
    memory::Memory,
    outcome::{Counter, Event},
    word::{Word, Word32},
};
use core::cell::UnsafeCell;

/// Where in [`Scratch::bytes`] the peers of an announce reply are collected. In front of it fits what the reply begins with.
pub const PEERS_AT: usize = 128;

/// Size of the reply space: more peers are collected than wanted, and some of them copied behind the last ([`crate::store::sample()`]).
pub const SCRATCH_BYTES: usize = 6144;

/// A reply starts at most here. All ones: a mask that changes nothing shows the verifier what it cannot follow.
pub const START_MASK: usize = 0xfff;

/// Bytes that are copied at once, where how many there are is not known before: as much as is worth a decision.
pub const BLOCK: usize = 64;

/// A reply has at most so many blocks: what 320 IPv4 peers take.
pub const REPLY_BLOCKS: usize = 31;

// So that what whole blocks a length has can be had by a mask.
const _: () = assert!((REPLY_BLOCKS + 1).is_power_of_two());

const _: () = assert!(START_MASK + (REPLY_BLOCKS + 1) * BLOCK <= SCRATCH_BYTES);

/// Partitions whose versions are remembered while a sample is taken.
pub const VERSIONS: usize = 32;

/// Counters by which the samples of one core are spread over each swarm ([`crate::store::sample()`]). A power of two.
pub const SPREADS: usize = 64;

/// A word at any address. Read and written whole, where an array of bytes might become a call of memcpy.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Unaligned(pub u64);

/// What a sample ([`crate::store::sample()`]) knows between two visits. Not on the stack, which is short in the kernel.
#[repr(C)]
#[derive(Default)]
pub struct Sampling {
    /// Bytes collected.
    pub cursor: Word32,
    /// Bytes that are enough.
    pub enough: Word32,
    /// The swarm's number.
    pub swarm: Word32,
    /// How many partitions it has.
    pub partitions: Word32,
    /// The present turn.
    pub turn: Word32,
    /// Which kind of turn comes first where a partition has two.
    pub flip: Word32,
    /// From one turn to the next.
    pub stride: Word32,
    /// Turns done in the present lap.
    pub turns: Word32,
    /// Laps done.
    pub lap: Word32,
    /// Partitions visited.
    pub visits: Word32,
    /// Whether the present lap has found anything.
    pub fruitful: Word32,
    /// A random number.
    pub random: Word32,
    /// The turn it begins with.
    pub first_turn: Word32,
    /// Which peer of a partition it begins with, in 2^32nds of the partition.
    pub first_peer: Word32,
    /// The asker's partition.
    pub own_place: Word32,
    /// Which peers are wanted ([`crate::store::Wanted`]).
    pub wanted: Word32,
    /// Which of the peers collected is given first.
    pub first: Word32,
    /// Whether somebody may have been collected who is too near, and has to be left out.
    pub sift: Word32,
    /// Bytes of those that are kept.
    pub kept: Word32,
    reserved: Word32,
}

/// One per core in the kernel, one per thread in the daemon. All zero bytes is a valid one.
#[repr(C, align(8))]
pub struct Scratch {
    /// A slot number found, or bytes of a request; free for short use.
    pub found: Word32,
    /// Splitting: peers that move. Evicting: the highest age. Scrapes: the family.
    pub moved: Word32,
    /// Splitting: chunks taken.
    pub taken: Word32,
    /// A sample being taken.
    pub sample: Sampling,
    /// A peer's key, up to three words.
    pub peer: [Word; 3],
    /// Swarm number + 1 of a swarm that is to be given one more partition; 0 for none. Used in the kernel only.
    pub split_later: Word32,
    /// Number + 1 of the swarm that an announce was stored in, for the program that replies; 0 for none. Used in the kernel only.
    pub stored: Word32,
    /// Where in a packet the request is, for the next program: length of its VLAN tag, and in the upper 16 bits what the packet has
    /// been given in front. Used in the kernel only.
    pub place: Word32,
    /// MTU of the interface that a packet came in by, for the next program, in bytes. Used in the kernel only.
    pub mtu: Word32,
    /// What a packet has still to grow by. Used in the kernel only.
    pub left: Word32,
    /// Number of the reason's counter, when a request is answered with an error. Used in the kernel only.
    pub refused: Word32,
    /// State of this core's random sequence; 0 before its first use. Used in the kernel only.
    pub sequence: Word,
    forgotten: Word32,
    /// Sampling: how many samples this core has taken, for swarms whose number is the same modulo [`SPREADS`]; begins anywhere.
    pub spreads: [Word32; SPREADS],
    /// Sampling: version and number of peers of a partition when its first chunk was read, with a mark of the partition and the
    /// sample.
    pub versions: [Word; VERSIONS],
    bytes: UnsafeCell<[u8; SCRATCH_BYTES]>,
}

const _: () = assert!(size_of::<Scratch>() <= 6976);

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

    /// The word at `offset`, which the caller has computed from a start masked by [`START_MASK`] and the length of a reply.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        debug_assert!(offset + 8 <= SCRATCH_BYTES);
        // SAFETY: START_MASK + REPLY_BLOCKS * BLOCK + 8 is inside the space. Volatile, so that LLVM does not make a call of
        // memcpy of the loop around it.
        unsafe { self.bytes().add(offset).cast::<Unaligned>().read_volatile().0 }
    }

    /// Copies the first `length` bytes at `from` to `to`, in whole blocks: up to a block less one byte more than asked for.
    ///
    /// # Panics
    /// Never: what is masked away is beyond everything that a reply needs.
    #[inline(always)]
    pub fn copy(&self, from: usize, to: usize, length: usize) {
        let (from, to) = (from & START_MASK, to & START_MASK);
        for block in 0..REPLY_BLOCKS {
            if block * BLOCK >= length {
                break;
            }
            for word in 0..BLOCK / 8 {
                let at = block * BLOCK + word * 8;
                let value = self.word(from + at);
                // SAFETY: both starts were masked above, and START_MASK + REPLY_BLOCKS * BLOCK is inside the space, which belongs to
                // the one user of the handle.
                unsafe { self.bytes().add(to + at).cast::<Unaligned>().write_volatile(Unaligned(value)) };
            }
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
    /// Where it starts.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Peers in it.
    pub peers: u32,
    /// What it is counted as.
    pub event: Event,
}

impl Reply {
    /// Counts it. Whoever sends it does so, when it is on its way: not every reply that was made fits into the packet.
    #[inline(always)]
    pub fn count<M: Memory>(&self, memory: &M) {
        memory.event(self.event);
        memory.count(Counter::Event(Event::PeersReturned), u64::from(self.peers));
        memory.count(Counter::Event(Event::ReplyBytes), u64::from(self.length));
    }
}
