//! How a peer is kept: one 64-bit word for IPv4, three for IPv6.
//!
//! ```text
//! bit      63        62       61         60…48              47…0
//! flags    occupied  leecher  completed  minute (mod 2^13)  IPv4: address, port (in memory order)
//!                                                           IPv6: generation (47…16), port (15…0)
//! ```
//!
//! An IPv6 peer is two address words and then this word, so that the 18 bytes of the compact form are contiguous. Its
//! generation changes whenever another peer gets the slot: whoever finds the same third word before and after reading the
//! address has read one peer, not two halves. Where a swarm record holds a directory instead of peers, the word that would
//! hold the flags of the first peer is the root word: bit 63 clear, bit 62 set, then 30 bits counting the family's peers and
//! 32 bits counting its partitions.

use super::{
    allocator as pool,
    hash::scramble,
    layout::{ChunkV4, ChunkV6, FLAGS, IDENTITY, MINUTE_SHIFT, OCCUPIED, Swarm},
    scope as reach,
};
use crate::{
    bep15::wire,
    outcome::IpVersion,
    platform::Platform,
    scratch::{PEERS_AT, Scratch},
    settings::Settings,
    word::{Word, opaque},
};

/// A word of an area. The one place where an index into shared memory is not checked at run time.
#[inline(always)]
pub(super) fn at(words: &[Word], index: usize) -> &Word {
    debug_assert!(index < words.len());
    // SAFETY: every caller computes the index from constants and from a line number masked to the area's size.
    unsafe { words.get_unchecked(index) }
}

/// Which peers a sample takes, in one number that can be kept in memory: bit 0 for leechers only, above it how near the asker is.
#[derive(Clone, Copy, Debug)]
pub struct Wanted(u32);

impl Wanted {
    /// All peers or leechers only, for somebody who is so near ([`reach::nearness`]).
    #[inline(always)]
    #[must_use]
    pub fn new(seeders: bool, nearness: u32) -> Self {
        Self(if seeders { 0 } else { 1 } | nearness << 1)
    }

    /// The number.
    #[inline(always)]
    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// From the number.
    #[inline(always)]
    pub(super) fn from_number(number: u32) -> Self {
        Self(number & 7)
    }

    /// Whether both seeders and leechers are.
    #[inline(always)]
    pub(super) fn seeders(self) -> bool {
        self.0 & 1 == 0
    }

    /// Whether there may be peers who are too near, among such as have these bits.
    #[inline(always)]
    pub(super) fn excludes(self, near: u32) -> bool {
        reach::excludes(self.0 >> 1, near)
    }

    /// 1 if a peer with these flags is wanted, else 0.
    #[inline(always)]
    fn takes(self, flags: u64) -> u64 {
        (flags << (self.0 & 1)) >> 63
    }

    /// 1 if a peer with these bits may be given, 0 if it is too near.
    #[inline(always)]
    pub(super) fn admits(self, near: u32) -> u32 {
        equal(u64::from(near >> (self.0 >> 1)), 0) as u32
    }
}

/// 1 if `difference` is not 0, else 0; without a branch, which would double the verifier's paths with every slot of a chunk.
#[inline(always)]
fn differs(difference: u64) -> u64 {
    (difference | negative(difference)) >> 63
}

/// 1 if the two are equal, else 0; likewise.
#[inline(always)]
fn equal(one: u64, other: u64) -> u64 {
    differs(one ^ other) ^ 1
}

#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
fn negative(number: u64) -> u64 {
    number.wrapping_neg()
}

/// In assembly, because LLVM knows what `x | -x` is for and would make it a comparison: BPF has no conditional move.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn negative(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: one instruction on one register.
    unsafe {
        core::arch::asm!("{0} = -{0}", inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

/// An address family.
pub trait Family: Copy + 'static {
    /// Words of a slot.
    const WORDS: usize;
    /// Slots of a chunk; a power of two.
    const SLOTS: u32;
    /// Chunks that a sample takes of a partition at once: so many that one visit nearly always gives the 50 peers that are usual.
    const VISIT: u32;
    /// Slots in a swarm record.
    const INLINE: usize;
    /// A partition is split off, somewhere in the swarm, for every so many peers. The partitions whose turn has not come yet hold up
    /// to twice as many, and that has to be well below the slots of [`super::layout::PARTITION_CHUNKS`] chunks.
    const PER_PARTITION: u32;
    /// Bytes of a peer in a compact reply.
    const PEER_BYTES: u32;
    /// Most peers in a reply.
    const WANT_LIMIT: u32;
    /// Which it is.
    const VERSION: IpVersion;
    /// Distinguishes the families in [`super::layout::Partition::place`].
    const TAG: u32;
    /// Which inline word is the flags word of the first slot, or the root word.
    const ROOT_WORD: usize;
    /// Address and port.
    type Key: Copy + PartialEq;
    /// The pool its chunks come from.
    type Pool: pool::Kind;

    /// The words of a chunk.
    fn chunk<M: Platform>(memory: &M, number: u32) -> Option<&[Word]>;
    /// The words in a swarm record.
    fn inline(swarm: &Swarm) -> &[Word];
    /// Which inline word holds the directory entries `pair` * 2 and `pair` * 2 + 1, for `pair` below 4.
    fn root_pair(pair: usize) -> usize;
    /// How near the peer is ([`reach`]).
    fn near(key: Self::Key) -> u32;
    /// A keyed hash of a peer.
    fn hash(settings: &Settings, key: Self::Key) -> u32;
    /// The key of the peer in the slot that begins at word `base`.
    fn key_at(words: &[Word], base: usize) -> Self::Key;
    /// Whether the slot holds this peer.
    fn matches(words: &[Word], base: usize, key: Self::Key) -> bool;
    /// The flags word of a slot.
    fn flags_at(words: &[Word], base: usize) -> &Word;
    /// Puts a peer into a slot whose flags say that it is free.
    fn occupy(words: &[Word], base: usize, key: Self::Key, flags: u64);
    /// Frees a slot.
    fn vacate(words: &[Word], base: usize);
    /// Writes what is in the slot, be it a peer or not, at `cursor` bytes behind [`PEERS_AT`].
    fn copy(scratch: &Scratch, cursor: u32, words: &[Word], base: usize);
    /// Writes the peer at `cursor` bytes behind [`PEERS_AT`] and returns the bytes it takes there: 0 if it is not wanted.
    fn give(scratch: &Scratch, cursor: u32, words: &[Word], base: usize, wanted: Wanted, own: Self::Key) -> u32;
    /// Copies the peer that was written at `from` bytes behind [`PEERS_AT`] to `to`, in front of it or where it is, and returns how
    /// near it is.
    fn carry(scratch: &Scratch, from: usize, to: usize) -> Option<u32>;
    /// Keeps a key in scratch space, so that loop bodies need not carry it.
    fn stash(scratch: &Scratch, key: Self::Key);
    /// The key kept.
    fn stashed(scratch: &Scratch) -> Self::Key;

    /// Writes new flags for the peer in the slot.
    #[inline(always)]
    fn reflag(words: &[Word], base: usize, flags: u64) {
        let word = Self::flags_at(words, base);
        word.store((word.load() & IDENTITY) | (flags & FLAGS));
    }

    /// The root word, if the family has one in this swarm, or the first slot's flags.
    #[inline(always)]
    fn root(swarm: &Swarm) -> &Word {
        at(Self::inline(swarm), Self::ROOT_WORD)
    }
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl V4 {
    /// Address and port as they stand in a compact reply, in the low 48 bits.
    #[inline(always)]
    #[must_use]
    pub fn key(address: [u8; 4], port: u16) -> u64 {
        u64::from(u32::from_le_bytes(address)) | u64::from(port.to_be()) << 32
    }
}

impl V6 {
    /// Address as two words in memory order, port in network order.
    #[inline(always)]
    #[must_use]
    pub fn key(address: [u8; 16], port: u16) -> [u64; 3] {
        let words = u128::from_le_bytes(address);
        [words as u64, (words >> 64) as u64, u64::from(port.to_be())]
    }
}

#[inline(always)]
fn put<T: Copy>(scratch: &Scratch, cursor: u32, value: T) {
    // SAFETY: `cursor` was masked by COLLECTED_MAX before the chunk that is being copied (`sample`), and a chunk adds less than 300
    // bytes; `sample` asserts that all that is inside the space.
    unsafe { scratch.bytes().add(PEERS_AT + cursor as usize).cast::<T>().write_unaligned(value) }
}

impl Family for V4 {
    const WORDS: usize = 1;
    const SLOTS: u32 = 32;
    const VISIT: u32 = 3;
    const INLINE: usize = 5;
    const PER_PARTITION: u32 = 80;
    const PEER_BYTES: u32 = wire::PEER_V4 as u32;
    const WANT_LIMIT: u32 = 320;
    const VERSION: IpVersion = IpVersion::V4;
    const TAG: u32 = 0;
    const ROOT_WORD: usize = 0;
    type Key = u64;
    type Pool = pool::ChunksV4;

    #[inline(always)]
    fn chunk<M: Platform>(memory: &M, number: u32) -> Option<&[Word]> {
        match memory.chunk_v4(number) {
            Some(ChunkV4 { words }) => Some(words),
            None => None,
        }
    }

    #[inline(always)]
    fn inline(swarm: &Swarm) -> &[Word] {
        &swarm.v4
    }

    #[inline(always)]
    fn root_pair(pair: usize) -> usize {
        1 + pair
    }

    #[inline(always)]
    fn near(key: u64) -> u32 {
        reach::of_v4(key, equal)
    }

    #[inline(always)]
    fn hash(settings: &Settings, key: u64) -> u32 {
        let keys = &settings.hash_keys;
        let sum = keys[12]
            .load()
            .wrapping_add(keys[13].load().wrapping_mul(key & 0xffff_ffff))
            .wrapping_add(keys[14].load().wrapping_mul((key >> 32) & 0xffff));
        scramble(sum)
    }

    #[inline(always)]
    fn key_at(words: &[Word], base: usize) -> u64 {
        at(words, base).load() & IDENTITY
    }

    #[inline(always)]
    fn matches(words: &[Word], base: usize, key: u64) -> bool {
        // An empty word is 0 and a key has a port: no need to look at the flags.
        (at(words, base).load() ^ key) << (64 - MINUTE_SHIFT) == 0
    }

    #[inline(always)]
    fn flags_at(words: &[Word], base: usize) -> &Word {
        at(words, base)
    }

    #[inline(always)]
    fn occupy(words: &[Word], base: usize, key: u64, flags: u64) {
        at(words, base).store(key | (flags & FLAGS));
    }

    #[inline(always)]
    fn vacate(words: &[Word], base: usize) {
        at(words, base).store(0);
    }

    #[inline(always)]
    fn copy(scratch: &Scratch, cursor: u32, words: &[Word], base: usize) {
        put(scratch, cursor, at(words, base).load());
    }

    #[inline(always)]
    fn give(scratch: &Scratch, cursor: u32, words: &[Word], base: usize, wanted: Wanted, own: u64) -> u32 {
        let word = at(words, base).load();
        put(scratch, cursor, word);
        let foreign = differs((word ^ own) << (64 - MINUTE_SHIFT));
        (wanted.takes(word) & foreign) as u32 * Self::PEER_BYTES
    }

    #[inline(always)]
    fn carry(scratch: &Scratch, from: usize, to: usize) -> Option<u32> {
        // With two bytes of the next one, which are written over the next time.
        let word: u64 = scratch.get(PEERS_AT + from)?;
        scratch.put(PEERS_AT + to, word);
        Some(Self::near(word))
    }

    #[inline(always)]
    fn stash(scratch: &Scratch, key: u64) {
        scratch.peer[0].store(key);
    }

    #[inline(always)]
    fn stashed(scratch: &Scratch) -> u64 {
        scratch.peer[0].load()
    }
}

impl Family for V6 {
    const WORDS: usize = 3;
    const SLOTS: u32 = 16;
    const VISIT: u32 = 4;
    const INLINE: usize = 2;
    const PER_PARTITION: u32 = 64;
    const PEER_BYTES: u32 = wire::PEER_V6 as u32;
    const WANT_LIMIT: u32 = 100;
    const VERSION: IpVersion = IpVersion::V6;
    const TAG: u32 = 1 << 31;
    const ROOT_WORD: usize = 2;
    type Key = [u64; 3];
    type Pool = pool::ChunksV6;

    #[inline(always)]
    fn chunk<M: Platform>(memory: &M, number: u32) -> Option<&[Word]> {
        match memory.chunk_v6(number) {
            Some(ChunkV6 { words }) => Some(words),
            None => None,
        }
    }

    #[inline(always)]
    fn inline(swarm: &Swarm) -> &[Word] {
        &swarm.v6
    }

    #[inline(always)]
    fn root_pair(pair: usize) -> usize {
        // Words 3, 4, 5 and 0: word 2 is the root word. Opaque: the compiler knows that what is not below 3 is 3, and would ask
        // for that; before Linux 6.8 the verifier does not conclude from "not 3" that it is less.
        let pair = opaque(pair as u64) as usize;
        if pair >= 3 { 0 } else { 3 + pair }
    }

    #[inline(always)]
    fn near(key: [u64; 3]) -> u32 {
        reach::of_v6([key[0], key[1]], equal)
    }

    #[inline(always)]
    fn hash(settings: &Settings, key: [u64; 3]) -> u32 {
        let keys = &settings.hash_keys;
        let sum = keys[12]
            .load()
            .wrapping_add(keys[13].load().wrapping_mul(key[0] & 0xffff_ffff))
            .wrapping_add(keys[14].load().wrapping_mul(key[0] >> 32))
            .wrapping_add(keys[15].load().wrapping_mul(key[1] & 0xffff_ffff))
            .wrapping_add(keys[16].load().wrapping_mul(key[1] >> 32))
            .wrapping_add(keys[17].load().wrapping_mul(key[2] & 0xffff));
        scramble(sum)
    }

    #[inline(always)]
    fn key_at(words: &[Word], base: usize) -> [u64; 3] {
        [at(words, base).load(), at(words, base + 1).load(), at(words, base + 2).load() & 0xffff]
    }

    #[inline(always)]
    fn matches(words: &[Word], base: usize, key: [u64; 3]) -> bool {
        let flags = at(words, base + 2).load();
        let difference = (at(words, base).load() ^ key[0])
            | (at(words, base + 1).load() ^ key[1])
            | ((flags ^ key[2]) & 0xffff)
            | (!flags & OCCUPIED);
        difference == 0
    }

    #[inline(always)]
    fn flags_at(words: &[Word], base: usize) -> &Word {
        at(words, base + 2)
    }

    #[inline(always)]
    fn occupy(words: &[Word], base: usize, key: [u64; 3], flags: u64) {
        let word = at(words, base + 2);
        let generation = (word.load() & IDENTITY & !0xffff).wrapping_add(1 << 16) & IDENTITY;
        at(words, base).store(key[0]);
        at(words, base + 1).store(key[1]);
        word.store((flags & FLAGS) | generation | key[2]);
    }

    #[inline(always)]
    fn vacate(words: &[Word], base: usize) {
        let word = at(words, base + 2);
        word.store(word.load() & IDENTITY);
    }

    #[inline(always)]
    fn copy(scratch: &Scratch, cursor: u32, words: &[Word], base: usize) {
        put(scratch, cursor, at(words, base).load());
        put(scratch, cursor + 8, at(words, base + 1).load());
        put(scratch, cursor + 16, at(words, base + 2).load());
    }

    #[inline(always)]
    fn give(scratch: &Scratch, cursor: u32, words: &[Word], base: usize, wanted: Wanted, own: [u64; 3]) -> u32 {
        let before = at(words, base + 2).load();
        let address = [at(words, base).load(), at(words, base + 1).load()];
        let after = at(words, base + 2).load();
        put(scratch, cursor, address[0]);
        put(scratch, cursor + 8, address[1]);
        put(scratch, cursor + 16, after);
        let foreign = differs((address[0] ^ own[0]) | (address[1] ^ own[1]) | ((after ^ own[2]) & 0xffff));
        let torn = differs(before ^ after);
        (wanted.takes(after) & foreign & !torn) as u32 * Self::PEER_BYTES
    }

    #[inline(always)]
    fn carry(scratch: &Scratch, from: usize, to: usize) -> Option<u32> {
        let address: [u64; 2] = [scratch.get(PEERS_AT + from)?, scratch.get(PEERS_AT + from + 8)?];
        let port: u16 = scratch.get(PEERS_AT + from + 16)?;
        scratch.put(PEERS_AT + to, address[0]);
        scratch.put(PEERS_AT + to + 8, address[1]);
        scratch.put(PEERS_AT + to + 16, port);
        Some(reach::of_v6(address, equal))
    }

    #[inline(always)]
    fn stash(scratch: &Scratch, key: [u64; 3]) {
        scratch.peer[0].store(key[0]);
        scratch.peer[1].store(key[1]);
        scratch.peer[2].store(key[2]);
    }

    #[inline(always)]
    fn stashed(scratch: &Scratch) -> [u64; 3] {
        [scratch.peer[0].load(), scratch.peer[1].load(), scratch.peer[2].load()]
    }
}
