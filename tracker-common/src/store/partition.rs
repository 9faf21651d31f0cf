//! Swarms that outgrew their record: partitions, their directory, growing and splitting.
//!
//! A peer's partition comes from the low bits of its hash by linear hashing: with n partitions, those below the last power of
//! two that was passed are split already. Within a partition the peers stand one behind the other, in no order and without
//! gaps: chunk after chunk is full, and only the last one may have room. So a sample can be copied as it stands, a newcomer goes
//! to the end, and whoever leaves is replaced by the last one. A peer is found by looking at all of its partition, which is
//! some [`Family::PER_PARTITION`] words in a row.
//!
//! A swarm with more than [`Family::PER_PARTITION`] peers per partition gets one partition more: the next one in order is split.
//! All memory that takes is taken before the first peer moves, so that a failure changes nothing.

use super::{
    allocator as pool,
    family::{Family, at},
    layout::{self, PARTITION_CHUNKS, Partition},
};
use crate::{
    outcome::{Event, StoreError},
    platform::{Platform, Step},
    scratch::Scratch,
    word::{Word, Word32, opaque},
};

/// Slots of a partition.
#[inline(always)]
#[must_use]
pub const fn capacity<F: Family>() -> u32 {
    PARTITION_CHUNKS * F::SLOTS
}

/// How many chunks so many peers take.
#[inline(always)]
#[must_use]
pub const fn chunks_for<F: Family>(peers: u32) -> u32 {
    peers.div_ceil(F::SLOTS)
}

/// The words of the chunk that holds slot `number` of a partition, and the slot's first word.
#[inline(always)]
pub(super) fn slot<'m, M: Platform, F: Family>(
    memory: &'m M,
    partition: &Partition,
    number: u32,
) -> Option<(&'m [Word], usize)> {
    let words = F::chunk(memory, chunk_number(partition, number / F::SLOTS)?.load())?;
    // The compiler knows that the remainder is small, and must not take the mask away that shows it to the verifier.
    Some((words, opaque(u64::from(number % F::SLOTS)) as usize % F::SLOTS as usize * F::WORDS))
}

/// Finds the slot number of the peer with this key in a partition. Whoever holds no lock has to make sure afterwards that the
/// partition has not changed meanwhile.
#[inline(always)]
pub(super) fn find<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    key: F::Key,
) -> Option<u32> {
    let peers = partition.peers.load();
    // The slot found goes through memory, so that the verifier sees one way on from here and not one per slot.
    scratch.found_slot.store(u32::MAX);
    for index in 0..PARTITION_CHUNKS {
        if index * F::SLOTS >= peers {
            break;
        }
        let words = F::chunk(memory, partition.chunks[index as usize].load())?;
        if find_in::<F>(scratch, words, index * F::SLOTS, key) {
            break;
        }
    }
    let found = scratch.found_slot.load();
    if found == u32::MAX { None } else { Some(found) }
}

/// Looks through a chunk, whose first slot has the number `first`. Slots without a peer match nobody.
#[inline(always)]
pub(super) fn find_in<F: Family>(scratch: &Scratch, words: &[Word], first: u32, key: F::Key) -> bool {
    for slot in 0..F::SLOTS {
        if F::matches(words, slot as usize * F::WORDS, key) {
            scratch.found_slot.store(first + slot);
            return true;
        }
    }
    false
}

/// The place where a partition keeps the number of a chunk.
#[inline(always)]
pub(super) fn chunk_number(partition: &Partition, index: u32) -> Option<&Word32> {
    // Opaque: the compiler would check another form of the number than the one that is used.
    let index = opaque(u64::from(index)) as usize;
    if index < PARTITION_CHUNKS as usize { Some(&partition.chunks[index]) } else { None }
}

/// Takes chunks for a partition, or gives them back.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Exchange<F> {
    partition: u64,
    /// Index of the first chunk.
    first: u64,
    /// Not 0: takes, and counts them in [`Scratch::chunks_taken`].
    take: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Platform, F: Family> Step<M> for Exchange<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let (Some(scratch), Some(partition)) = (memory.scratch(), memory.partition(self.partition as u32)) else {
            return false;
        };
        let Some(chunk) = chunk_number(partition, self.first as u32 + turn) else { return false };
        if self.take == 0 {
            pool::give_back::<M, F::Pool>(memory, chunk.load());
            return true;
        }
        let Ok(number) = pool::take::<M, F::Pool>(memory) else { return false };
        chunk.store(number);
        scratch.chunks_taken.store(turn + 1);
        true
    }
}

/// Takes the chunks that partition `number` with `from` peers needs to hold `to`. The partition's lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`]; nothing is changed then.
#[inline(always)]
pub(super) fn reserve<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    number: u32,
    from: u32,
    to: u32,
) -> Result<(), StoreError> {
    let (first, end) = (chunks_for::<F>(from), chunks_for::<F>(to));
    let mut body = Exchange::<F> {
        partition: u64::from(number),
        first: u64::from(first),
        take: 1,
        family: core::marker::PhantomData,
    };
    scratch.chunks_taken.store(0);
    memory.repeat(end - first, &mut body);
    if scratch.chunks_taken.load() == end - first {
        return Ok(());
    }
    body.take = 0;
    memory.repeat(scratch.chunks_taken.load(), &mut body);
    Err(StoreError::MemoryFull)
}

/// Gives back the chunks that partition `number` no longer needs, now that it has `to` peers instead of `from`.
#[inline(always)]
pub(super) fn release<M: Platform, F: Family>(memory: &M, number: u32, from: u32, to: u32) {
    let (first, end) = (chunks_for::<F>(to), chunks_for::<F>(from));
    let mut body = Exchange::<F> {
        partition: u64::from(number),
        first: u64::from(first),
        take: 0,
        family: core::marker::PhantomData,
    };
    memory.repeat(end.wrapping_sub(first), &mut body);
}

/// Puts a peer behind the last one, for whom there is a chunk. The partition's lock is held.
#[inline(always)]
pub(super) fn append<M: Platform, F: Family>(memory: &M, partition: &Partition, key: F::Key, flags: u64) -> Option<()> {
    let peers = partition.peers.load();
    let (words, base) = slot::<M, F>(memory, partition, peers)?;
    F::occupy(words, base, key, flags);
    // Readers without a lock look at no more peers than this says.
    partition.peers.store(peers + 1);
    Some(())
}

/// Adds a peer. The partition's lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`], also when the partition is full; [`StoreError::Contended`].
#[inline(always)]
pub(super) fn insert<M: Platform, F: Family>(
    memory: &M,
    partition: &Partition,
    key: F::Key,
    flags: u64,
) -> Result<(), StoreError> {
    let peers = partition.peers.load();
    if peers >= capacity::<F>() {
        return Err(StoreError::MemoryFull);
    }
    if peers.is_multiple_of(F::SLOTS) {
        reserve_one::<M, F>(memory, partition, peers / F::SLOTS)?;
        memory.event(Event::Grown);
    }
    append::<M, F>(memory, partition, key, flags).ok_or(StoreError::Internal)
}

/// [`reserve`] for one chunk, without its loop.
#[inline(always)]
pub(super) fn reserve_one<M: Platform, F: Family>(
    memory: &M,
    partition: &Partition,
    index: u32,
) -> Result<(), StoreError> {
    let number = pool::take::<M, F::Pool>(memory)?;
    let Some(chunk) = chunk_number(partition, index) else { return Err(StoreError::Internal) };
    chunk.store(number);
    Ok(())
}

/// Takes the peer out of slot `number`: the last one gets the slot. The partition's lock is held, and the change announced
/// ([`super::lock::Lock::begin_change`]); the caller gives the chunk back that may be left empty ([`release_last`]).
#[inline(always)]
pub(super) fn remove<M: Platform, F: Family>(memory: &M, partition: &Partition, number: u32) -> Option<()> {
    let last = partition.peers.load().wrapping_sub(1);
    let (words, base) = slot::<M, F>(memory, partition, number)?;
    let (from, last_base) = slot::<M, F>(memory, partition, last)?;
    for word in 0..F::WORDS {
        at(words, base + word).store(at(from, last_base + word).load());
    }
    for word in 0..F::WORDS {
        at(from, last_base + word).store(0);
    }
    partition.peers.store(last);
    Some(())
}

/// Gives back the chunk that the last [`remove`] has left empty, if it has.
#[inline(always)]
pub(super) fn release_last<M: Platform, F: Family>(memory: &M, partition: &Partition) {
    let peers = partition.peers.load();
    if peers.is_multiple_of(F::SLOTS)
        && let Some(chunk) = chunk_number(partition, peers / F::SLOTS)
    {
        pool::give_back::<M, F::Pool>(memory, chunk.load());
    }
}

/// The peer of a chunk chosen by the hash that has not announced for the longest time: who goes when there is no memory left.
/// The number of its slot.
#[inline(always)]
pub(super) fn oldest<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    hash: u32,
    minute: u32,
) -> Option<u32> {
    let chunks = chunks_for::<F>(partition.peers.load());
    let first = scratch.forget((((hash >> 16) * chunks) >> 16) * F::SLOTS);
    let (words, _) = slot::<M, F>(memory, partition, first)?;
    oldest_of::<F>(scratch, words, F::SLOTS as usize, minute);
    Some(first + scratch.found_slot.load())
}

/// Leaves in [`Scratch::found_slot`] which of the first `slots` slots holds the peer that has not announced for the longest time.
#[inline(always)]
pub(super) fn oldest_of<F: Family>(scratch: &Scratch, words: &[Word], slots: usize, minute: u32) {
    scratch.found_slot.store(0);
    scratch.oldest_age.store(0);
    for slot in 0..slots {
        let flags = F::flags_at(words, slot * F::WORDS).load();
        let age = layout::age(flags, minute);
        if flags & layout::OCCUPIED != 0 && age > scratch.oldest_age.load() {
            scratch.oldest_age.store(age);
            scratch.found_slot.store(slot as u32);
        }
    }
}
