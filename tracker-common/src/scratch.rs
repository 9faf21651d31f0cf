//! The scratch space of one request: the reply, built where its headers can be put in front of it,
//! and values that are kept here and not on the stack: because a BPF program has 512 bytes of that,
//! and because the verifier does not know the value of what was in a map, so that it does not
//! follow every path with every value.

pub mod asking;

use crate::word::{Word, Word32};
use asking::Asking;
use core::cell::UnsafeCell;

/// Where in [`Scratch::bytes`] the peers of an announce reply are collected. In front of it fits
/// what the reply begins with.
pub const PEERS_AT: usize = 128;

/// Where the info_hashes of a scrape are put before it is answered, and that of a new torrent.
pub const HASHES_AT: usize = 1536;

/// Size of the reply space: more peers are collected than wanted, and some of them copied behind
/// the last ([`crate::store::sample`]).
pub const SCRATCH_BYTES: usize = 10240;

/// A reply starts at most here. All ones: a mask that changes nothing shows the verifier what it
/// cannot follow.
pub const START_MASK: usize = 0xfff;

/// Bytes that are copied at once, where how many there are is not known before: as much as is worth
/// a decision.
pub const BLOCK: usize = 64;

/// A reply has at most so many blocks: what 320 IPv4 peers take.
pub const REPLY_BLOCKS: usize = 31;

// So that what whole blocks a length has can be had by a mask.
const _: () = assert!((REPLY_BLOCKS + 1).is_power_of_two());

const _: () = assert!(START_MASK + (REPLY_BLOCKS + 1) * BLOCK <= SCRATCH_BYTES);

/// Where a copy may begin. All ones: it is a mask.
pub const END_MASK: usize = 0x1fff;

const _: () = assert!(END_MASK + (REPLY_BLOCKS + 1) * BLOCK <= SCRATCH_BYTES);

/// Partitions whose versions are remembered while a sample is taken. A power of two.
pub const REMEMBERED_VERSIONS: usize = 32;

/// Counters by which the samples of one core are spread over each swarm ([`crate::store::sample`]).
/// A power of two.
pub const SAMPLE_COUNTERS: usize = 64;

/// Torrents of a scrape whose records are asked for before the first is read: so many that the
/// processor waits for many at once. A power of two.
pub const ASKED_FOR: usize = 32;

/// Counters of what addresses have created ([`crate::store::admit`]). A power of two.
pub const CREATION_ENTRIES: usize = 256;

/// Where in the scratch space a search for a torrent to evict keeps what it sees
/// ([`crate::store::evict_torrent`]).
pub const SEEN_AT: usize = 2048;

/// A word at any address. Read and written whole, where an array of bytes might become a call of
/// memcpy.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Unaligned(pub u64);

/// Declares a struct of numbers, and the form of it that is kept in shared memory, from one list of
/// fields.
macro_rules! kept_in_words {
    ($(#[$doc:meta])* $name:ident, $(#[$words_doc:meta])* $words:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name { $($(#[$field_doc])* pub $field: u32,)* }

        $(#[$words_doc])*
        #[repr(C)]
        #[derive(Default)]
        pub struct $words { $($(#[$field_doc])* pub $field: Word32,)* }

        impl $words {
            /// Reads all of it.
            #[inline(always)]
            #[must_use]
            pub fn load(&self) -> $name {
                $name { $($field: self.$field.load(),)* }
            }

            /// Writes all of it.
            #[inline(always)]
            pub fn store(&self, value: &$name) {
                $(self.$field.store(value.$field);)*
            }
        }
    };
}

kept_in_words! {
    /// The walk of a sample over the partitions of a grown swarm ([`crate::store::sample`]).
    ///
    /// It goes round the positions that there are in a round of linear hashing. A partition has one
    /// of them, or two while it has yet to be split.
    Walk,
    /// The same between two steps of its loop. Not on the stack: a BPF program has 512 bytes of it.
    WalkWords {
        /// How many partitions the swarm has.
        partitions,
        /// The present position.
        position,
        /// 1 if the first position is one beyond the last partition: where a partition has two, the
        /// second then comes first.
        second_first,
        /// From one position to the next.
        stride,
        /// Steps done in the present pass.
        steps,
        /// Passes done.
        passes,
        /// Partitions that peers were taken of.
        partitions_read,
        /// Whether the present pass has found any peer.
        pass_found_peers,
        /// Index of the requester's own partition.
        own_partition,
        /// Which peers are taken
        /// ([`PeerFilter::number`](crate::store::filter::PeerFilter::number)).
        filter,
        /// Bytes collected.
        collected,
        /// Bytes that are enough.
        enough,
    }
}

/// What a sample ([`crate::store::sample`]) keeps.
#[repr(C)]
#[derive(Default)]
pub struct Sampling {
    /// The walk over partitions.
    pub walk: WalkWords,
    /// The swarm's number.
    pub swarm: Word32,
    /// Bytes collected when the partition that is being read is done.
    pub collected_here: Word32,
    /// A random number.
    pub random: Word32,
    /// The position that the walk begins with.
    pub first_position: Word32,
    /// Which peer of a partition is the first, in 2^32nds of the partition.
    pub first_peer: Word32,
    /// The partition at that position: its index within the swarm.
    pub first_index: Word32,
    /// And its number.
    pub first_partition: Word32,
    /// Number + 1 of the partition in which the requester was refreshed, at
    /// [`Scratch::found_slot`]; 0 while it was not.
    pub own_partition: Word32,
    /// The version that this partition had then ([`crate::store::lock::Version::number`]).
    pub own_version: Word32,
    /// Which of the collected peers is returned first.
    pub first_returned: Word32,
    /// Whether peers may have been collected that are hidden from the requester, and have to be
    /// dropped.
    pub hides: Word32,
    /// Bytes of those that are kept.
    pub kept: Word32,
}

/// What the search for somebody to evict keeps ([`crate::store::evict_torrent`],
/// [`crate::store::evict_chunk`]).
#[repr(C)]
#[derive(Default)]
pub struct Eviction {
    /// A torrent's worth; or the number + 1 of a partition in the lower half, or of a swarm in the
    /// upper. 0 for none.
    pub candidate: Word,
    /// Which of the torrents that were looked at it is.
    pub candidate_turn: Word32,
    /// A random number.
    pub random: Word32,
    /// The bits of addresses that count.
    pub mask: Word,
    /// The address that others are compared with.
    pub address: Word,
    /// The number of the peer that has it.
    pub pivot: Word32,
    /// How many peers the list had.
    pub peers: Word32,
    /// How many stay at least.
    pub staying: Word32,
}

/// What a program hands over to the one that it goes on in ([`crate::programs`]). Used in the
/// kernel only.
#[repr(C)]
#[derive(Default)]
pub struct Handover {
    /// What [`TorrentKey::new`](crate::store::hash::TorrentKey::new) has computed for an announce.
    pub hash: Word,
    /// Number of the record that is probably that of the torrent of an announce
    /// ([`look_ahead`](crate::store::asking::look_ahead)).
    pub guess: Word32,
    /// Length of the packet's VLAN tag in bytes: 0 or 4.
    pub vlan_tag_len: Word32,
    /// By how many bytes the packet has grown in front.
    pub front_growth: Word32,
    /// MTU in bytes of the interface that the packet came in by.
    pub mtu: Word32,
    /// A scrape came over IPv6: 1, else 0.
    pub is_v6: Word32,
    /// How many info_hashes of a scrape are at [`HASHES_AT`].
    pub info_hashes: Word32,
    /// Number + 1 of the swarm that an announce was stored in; 0 for none.
    pub swarm: Word32,
    /// Number + 1 of a swarm that is to be given one more partition; 0 for none.
    pub split: Word32,
}

/// One per core in the kernel, one per thread in the daemon. All zero bytes is a valid one.
#[repr(C, align(8))]
pub struct Scratch {
    /// Number of the slot that a search has found.
    pub found_slot: Word32,
    /// Evicting: the highest age seen.
    pub oldest_age: Word32,
    /// Splitting: peers that move.
    pub moving_peers: Word32,
    /// Splitting: chunks taken.
    pub chunks_taken: Word32,
    /// A sample being taken.
    pub sampling: Sampling,
    /// The peer that a sample excludes, or whose address is looked for; one to three words.
    pub excluded_peer: [Word; 3],
    /// Who is asking for room: address and network ([`crate::store::slot::SlotFormat::address`]); or who
    /// is asking at all ([`crate::platform::ColdPath::Limit`]).
    pub requester: [Word; 2],
    /// Evicting.
    pub eviction: Eviction,
    /// Peers of an address: how many have been counted.
    pub crowd: Word32,
    /// Peers of an address: the number of the slot of the oldest.
    pub oldest_slot: Word32,
    /// From one program to the next.
    pub handover: Handover,
    /// What a packet has still to grow by. Used in the kernel only.
    pub growth_left: Word32,
    /// Number of the reason's counter, when a request is answered with an error. Used in the kernel
    /// only.
    pub refused: Word32,
    /// State of this core's random sequence; 0 before its first use. Used in the kernel only.
    pub sequence: Word,
    unknown: Word32,
    /// 0 always.
    zero: Word32,
    /// Number of the list that a blocked source is on.
    pub blocked_by: Word32,
    /// Sampling: how many samples this core has taken, for swarms whose number is the same modulo
    /// [`SAMPLE_COUNTERS`]; begins anywhere.
    pub samples: [Word32; SAMPLE_COUNTERS],
    /// Sampling: version and number of peers of a partition when its first chunk was read, with a
    /// mark of the partition and the sample.
    pub versions: [Word; REMEMBERED_VERSIONS],
    /// Scraping: numbers of the records that are probably those of the torrents that come next
    /// ([`crate::store::asking::ask_for`]).
    pub guesses: [Word; ASKED_FOR],
    bytes: UnsafeCell<[u8; SCRATCH_BYTES]>,
    /// Whose records may be asked for. Used in the kernel only.
    pub asking: Asking,
    /// What the last announce that was stored has made of its peer's flags: before and after
    /// ([`crate::store::tell`]).
    pub changed: [Word; 2],
    /// What addresses have created ([`crate::store::admit`]).
    pub creations: [Word; CREATION_ENTRIES],
}

const _: () = assert!(size_of::<Scratch>() <= 15520);

// SAFETY: in the kernel every core sees only its own element of a per-CPU map.
#[cfg(target_arch = "bpf")]
unsafe impl Sync for Scratch {}

impl Scratch {
    /// The number itself, without what the verifier knows about it ("unknown scalar" is its term):
    /// the number goes through memory of a map. Paths that differ only in it become one. What waits
    /// for the number waits some eight cycles longer ([`Scratch::as_unknown_scalar_soon`]).
    #[inline(always)]
    #[must_use]
    pub fn as_unknown_scalar<N: From<u32> + Into<u32>>(&self, number: N) -> N {
        #[cfg(target_arch = "bpf")]
        {
            self.unknown.store(number.into());
            self.unknown.load().into()
        }
        #[cfg(not(target_arch = "bpf"))]
        number
    }

    /// The same at once: a zero from memory of a map is added, of which the verifier does not know
    /// that it is one. Paths become one behind this, but where the number is used to find something in
    /// memory, the verifier goes back and follows all those that led here.
    #[inline(always)]
    #[must_use]
    pub fn as_unknown_scalar_soon<N: From<u32> + Into<u32>>(&self, number: N) -> N {
        #[cfg(target_arch = "bpf")]
        {
            number.into().wrapping_add(self.zero.load()).into()
        }
        #[cfg(not(target_arch = "bpf"))]
        number
    }

    /// Start of the reply space. [`SCRATCH_BYTES`] bytes from here on belong to the holder of the
    /// handle.
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
            // SAFETY: the bound was checked in the line above; the space belongs to the one user of
            // the handle.
            unsafe { self.bytes().add(offset).cast::<T>().write_unaligned(value) }
        }
    }

    /// Writes a part of a compact peer at `cursor` bytes behind [`PEERS_AT`].
    #[inline(always)]
    pub(crate) fn put_compact<T: Copy>(&self, cursor: u32, value: T) {
        // SAFETY: `cursor` was masked by `sample::COLLECTED_MAX` before the chunk that is being
        // copied, and a chunk adds less than 300 bytes; `sample` asserts that all that is inside
        // the space.
        unsafe { self.bytes().add(PEERS_AT + cursor as usize).cast::<T>().write_unaligned(value) }
    }

    /// The word at `offset`, which the caller has computed from a start masked by [`START_MASK`]
    /// and the length of a reply.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        debug_assert!(offset + 8 <= SCRATCH_BYTES);
        // SAFETY: START_MASK + REPLY_BLOCKS * BLOCK + 8 is inside the space. Volatile, so that LLVM
        // does not make a call of memcpy of the loop around it.
        unsafe { self.bytes().add(offset).cast::<Unaligned>().read_volatile().0 }
    }

    /// Copies the first `length` bytes at `from` to `to`, in whole blocks: up to a block less one
    /// byte more than asked for.
    ///
    /// # Panics
    /// Never: what is masked away is beyond everything that a reply needs.
    #[inline(always)]
    pub fn copy(&self, from: usize, to: usize, length: usize) {
        let (from, to) = (from & START_MASK, to & END_MASK);
        for block in 0..REPLY_BLOCKS {
            if block * BLOCK >= length {
                break;
            }
            for word in 0..BLOCK / 8 {
                let at = block * BLOCK + word * 8;
                let value = self.word(from + at);
                // SAFETY: both starts were masked above, and END_MASK + REPLY_BLOCKS * BLOCK is inside
                // the space, which belongs to the one user of the handle.
                unsafe { self.bytes().add(to + at).cast::<Unaligned>().write_volatile(Unaligned(value)) };
            }
        }
    }

    /// Reads from `offset`, unaligned; `None` beyond the space.
    #[inline(always)]
    #[must_use]
    pub fn get<T: Copy>(&self, offset: usize) -> Option<T> {
        if offset <= SCRATCH_BYTES - size_of::<T>() {
            // SAFETY: the bound was checked in the line above; `T` is made of plain bytes or
            // integers.
            Some(unsafe { self.bytes().add(offset).cast::<T>().read_unaligned() })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
