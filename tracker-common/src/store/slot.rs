//! A slot: the place of one peer, in a swarm record or in a chunk. One 64-bit word for IPv4, three
//! for IPv6.
//!
//! ```text
//! bit      63        62       61         60…57  56…48             47…0
//! flags    occupied  leecher  completed  owner  minute (mod 2^9)  IPv4: address, port (in memory order)
//!                                                                 IPv6: generation (47…32, 23…16), port (15…0)
//! ```
//!
//! An IPv6 peer is two address words and then this word, so that the 18 bytes of the compact form
//! are contiguous. Bits 31 to 24 are 0 there ([`super::asking`]). Its generation changes whenever another peer gets the slot: whoever finds the
//! same third word before and after reading the address has read one peer, not two halves.

use super::filter::PeerFilter;
use crate::{codegen, scratch::Scratch, word::Word};
use core::marker::PhantomData;

/// The slot holds a peer.
pub const OCCUPIED: u64 = 1 << 63;

/// The peer is a leecher.
pub const LEECHER: u64 = 1 << 62;

/// The peer's completed download was counted.
pub const COMPLETED: u64 = 1 << 61;

/// Where it begins whose peer it is ([`super::owner`]).
pub const KEY_SHIFT: u32 = 57;

/// The bits that say whose peer it is.
pub const KEY: u64 = 0xf << KEY_SHIFT;

/// Where the minute of the last announce begins.
pub const MINUTE_SHIFT: u32 = 48;

/// Minutes are kept modulo this + 1.
pub const MINUTE_MASK: u32 = 0x1ff;

/// The bits of the minute.
pub const MINUTE: u64 = (MINUTE_MASK as u64) << MINUTE_SHIFT;

/// The bits of the flags word that belong to address, port or generation.
pub const IDENTITY: u64 = (1 << MINUTE_SHIFT) - 1;

/// The bits of the flags word that do not.
pub const FLAGS: u64 = !IDENTITY;

/// Minutes since the last announce of the peer with these flags.
#[inline(always)]
#[must_use]
pub fn age(flags: u64, minute: u32) -> u32 {
    minute.wrapping_sub((flags >> MINUTE_SHIFT) as u32) & MINUTE_MASK
}

/// A minute as it stands in a peer's flags.
#[inline(always)]
#[must_use]
pub fn minute_bits(minute: u32) -> u64 {
    u64::from(minute & MINUTE_MASK) << MINUTE_SHIFT
}

/// How the peers of an address family are kept in slots and written into replies.
pub trait SlotFormat: Copy + 'static {
    /// Words of a slot.
    const WORDS: usize;
    /// Bytes of a peer in a compact reply (BEP 7, BEP 15, BEP 23).
    const PEER_BYTES: u32;
    /// Address and port.
    type Key: Copy + PartialEq;

    /// The peer in the slot.
    fn key(slot: Slot<'_, Self>) -> Self::Key;
    /// Whether the slot holds this peer.
    fn matches(slot: Slot<'_, Self>, key: Self::Key) -> bool;
    /// Whether the slot looks as if it held this peer: true if it does, and quickly found to be
    /// false for nearly all others.
    fn resembles(slot: Slot<'_, Self>, key: Self::Key) -> bool;
    /// The address of the peer in the slot, as far as it stands for one user: all of an IPv4 address,
    /// the first 64 bits of an IPv6 one, in memory order. Anything if there is no peer.
    fn address(slot: Slot<'_, Self>) -> u64;
    /// The same of a key.
    fn address_of(key: Self::Key) -> u64;
    /// The network of such an address, or of the difference of two, that one user may have all of:
    /// an IPv4 /24, an IPv6 /48.
    fn network(address: u64) -> u64;
    /// The flags word.
    fn flags_word(slot: Slot<'_, Self>) -> &Word;
    /// Puts a peer into a slot whose flags say that it is free or may be overwritten.
    fn occupy(slot: Slot<'_, Self>, key: Self::Key, flags: u64);
    /// Frees the slot.
    fn vacate(slot: Slot<'_, Self>);
    /// Writes what is in the slot, be it a peer or not, at `cursor` bytes behind the beginning of
    /// the compact peers.
    fn write(slot: Slot<'_, Self>, scratch: &Scratch, cursor: u32);
    /// Writes the peer likewise, and returns how many bytes of it are to stay: 0 if the filter does
    /// not take it.
    fn write_if_eligible(
        slot: Slot<'_, Self>,
        scratch: &Scratch,
        cursor: u32,
        filter: PeerFilter,
        exclude: Self::Key,
    ) -> u32;
    /// Copies the compact peer that was written at `from` to `to`, in front of it or where it is,
    /// and returns its address's [scope](super::scope).
    fn move_compact(scratch: &Scratch, from: usize, to: usize) -> Option<u32>;
    /// Keeps the peer that a sample excludes in the scratch space, so that loop bodies need not
    /// carry it.
    fn keep_excluded(scratch: &Scratch, key: Self::Key);
    /// The peer that was kept.
    fn excluded(scratch: &Scratch) -> Self::Key;
}

/// The slot of one peer.
pub struct Slot<'m, F> {
    words: &'m [Word],
    base: usize,
    format: PhantomData<F>,
}

impl<F> Clone for Slot<'_, F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Slot<'_, F> {}

impl<'m, F: SlotFormat> Slot<'m, F> {
    /// A word of the slot. The one place where an index into shared memory is not checked at run
    /// time.
    #[inline(always)]
    pub(super) fn word(self, index: usize) -> &'m Word {
        debug_assert!(index < F::WORDS && self.base + index < self.words.len());
        // SAFETY: `Slots::slot` has made the base from a slot number inside the row, and every
        // caller asks for a constant word of the slot.
        unsafe { self.words.get_unchecked(self.base + index) }
    }

    /// The peer in the slot.
    #[inline(always)]
    #[must_use]
    pub fn key(self) -> F::Key {
        F::key(self)
    }

    /// Whether the slot holds this peer.
    #[inline(always)]
    #[must_use]
    pub fn matches(self, key: F::Key) -> bool {
        F::matches(self, key)
    }

    /// Whether the slot looks as if it held this peer, whom it may turn out not to
    /// [match](Slot::matches).
    #[inline(always)]
    #[must_use]
    pub fn resembles(self, key: F::Key) -> bool {
        F::resembles(self, key)
    }

    /// The address of the peer in the slot ([`SlotFormat::address`]).
    #[inline(always)]
    #[must_use]
    pub fn address(self) -> u64 {
        F::address(self)
    }

    /// The flags word, whose lower bits may be part of the peer's identity.
    #[inline(always)]
    #[must_use]
    pub fn flags_word(self) -> &'m Word {
        F::flags_word(self)
    }

    /// The flags.
    #[inline(always)]
    #[must_use]
    pub fn flags(self) -> u64 {
        F::flags_word(self).load()
    }

    /// Writes new flags for the peer in the slot.
    #[inline(always)]
    pub fn set_flags(self, flags: u64) {
        let word = F::flags_word(self);
        word.store((word.load() & IDENTITY) | (flags & FLAGS));
    }

    /// Whether there is a peer.
    #[inline(always)]
    #[must_use]
    pub fn is_occupied(self) -> bool {
        self.flags() & OCCUPIED != 0
    }

    /// Puts a peer into it.
    #[inline(always)]
    pub fn occupy(self, key: F::Key, flags: u64) {
        F::occupy(self, key, flags);
    }

    /// Frees it.
    #[inline(always)]
    pub fn vacate(self) {
        F::vacate(self);
    }

    /// Copies what another slot holds into this one.
    #[inline(always)]
    pub fn copy(self, other: Self) {
        for index in 0..F::WORDS {
            self.word(index).store(other.word(index).load());
        }
    }

    /// Exchanges what this slot and another one hold.
    #[inline(always)]
    pub fn swap(self, other: Self) {
        for index in 0..F::WORDS {
            let (here, there) = (self.word(index).load(), other.word(index).load());
            self.word(index).store(there);
            other.word(index).store(here);
        }
    }

    /// Moves what another slot holds into this one, and leaves the other one all zero.
    #[inline(always)]
    pub fn take(self, other: Self) {
        self.copy(other);
        for index in 0..F::WORDS {
            other.word(index).store(0);
        }
    }
}

/// A row of slots: those of a swarm record or of a chunk.
pub struct Slots<'m, F> {
    words: &'m [Word],
    format: PhantomData<F>,
}

impl<F> Clone for Slots<'_, F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Slots<'_, F> {}

impl<'m, F: SlotFormat> Slots<'m, F> {
    /// The slots in these words.
    #[inline(always)]
    #[must_use]
    pub fn new(words: &'m [Word]) -> Self {
        Self { words, format: PhantomData }
    }

    /// A slot. The caller has made sure that there is one of that number.
    #[inline(always)]
    #[must_use]
    pub fn slot(self, number: usize) -> Slot<'m, F> {
        debug_assert!((number + 1) * F::WORDS <= self.words.len());
        Slot { words: self.words, base: number * F::WORDS, format: PhantomData }
    }

    /// The words themselves.
    #[inline(always)]
    #[must_use]
    pub fn words(self) -> &'m [Word] {
        self.words
    }

    /// Brings the slots nearer.
    #[inline(always)]
    pub(super) fn prefetch(self) {
        for line in (0..self.words.len()).step_by(8) {
            codegen::prefetch(self.word(line));
        }
    }

    /// A word, of which the caller has made sure that there is one of that number.
    #[inline(always)]
    #[must_use]
    pub fn word(self, index: usize) -> &'m Word {
        debug_assert!(index < self.words.len());
        // SAFETY: every caller computes the index from constants, or masks it to the size of the
        // row.
        unsafe { self.words.get_unchecked(index) }
    }
}

#[cfg(test)]
mod tests;
