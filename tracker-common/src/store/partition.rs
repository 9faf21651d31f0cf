//! A partition: a list of peers in no order and without gaps. Chunk after chunk is full, and only
//! the last one may have room. So a sample can be copied as it stands, a new peer goes to the end,
//! and a peer that leaves is replaced by the last one. A peer is found by looking at all of its
//! partition.
//!
//! The partition's lock is held wherever it is changed. Readers without the lock look at no more
//! peers than [`Partition::peers`] says.

use super::{
    allocator,
    family::Family,
    layout::{PARTITION_CHUNKS, Partition},
    slot::{OCCUPIED, Slot, Slots, age},
};
use crate::{
    codegen::{self, barrier_var},
    id::{ChunkId, PartitionId},
    outcome::{Event, StoreError},
    platform::{Context, Platform, Step},
    scratch::Scratch,
    word::Word32,
};
use core::marker::PhantomData;

/// Slots of a partition.
#[inline(always)]
#[must_use]
pub const fn capacity<F: Family>() -> u32 {
    PARTITION_CHUNKS * F::CHUNK_SLOTS
}

/// How many chunks this many peers take.
#[inline(always)]
#[must_use]
pub const fn chunks_for<F: Family>(peers: u32) -> u32 {
    peers.div_ceil(F::CHUNK_SLOTS)
}

/// Where a partition keeps the number of a chunk.
#[inline(always)]
fn chunk_word(partition: &Partition, index: u32) -> Option<&Word32> {
    // The barrier, because the compiler would check another form of the number than the one that is
    // used.
    let index = barrier_var(u64::from(index)) as usize;
    if index < PARTITION_CHUNKS as usize { Some(&partition.chunks[index]) } else { None }
}

/// A chunk of a partition.
#[inline(always)]
pub(super) fn chunk<'m, P: Platform, F: Family>(
    platform: &'m P,
    partition: &Partition,
    index: u32,
) -> Option<Slots<'m, F>> {
    F::chunk(platform, ChunkId::new(chunk_word(partition, index)?.load()))
}

/// A slot of a partition.
#[inline(always)]
pub(super) fn slot<'m, P: Platform, F: Family>(
    platform: &'m P,
    partition: &Partition,
    number: u32,
) -> Option<Slot<'m, F>> {
    let slots = chunk::<P, F>(platform, partition, number / F::CHUNK_SLOTS)?;
    // The compiler knows that the remainder is small, and must not take the mask away that shows it
    // to the verifier.
    Some(slots.slot(barrier_var(u64::from(number % F::CHUNK_SLOTS)) as usize % F::CHUNK_SLOTS as usize))
}

/// Brings the peers nearer.
#[inline(always)]
pub(super) fn prefetch<P: Platform, F: Family>(platform: &P, partition: &Partition) {
    for index in 0..chunks_for::<F>(partition.peers.load()).min(PARTITION_CHUNKS) {
        if let Some(slots) = chunk::<P, F>(platform, partition, index) {
            slots.words().iter().step_by(8).for_each(codegen::prefetch);
        }
    }
}

/// Finds the number of the slot with this peer. Whoever holds no lock has to make sure afterwards
/// that the partition has not changed meanwhile.
#[inline(always)]
pub(super) fn find<P: Platform, F: Family>(cx: &Context<'_, P>, partition: &Partition, key: F::Key) -> Option<u32> {
    let peers = partition.peers.load();
    // The number goes through memory, so that the verifier sees one way on from here and not one
    // per slot.
    cx.scratch.found_slot.store(u32::MAX);
    for index in 0..PARTITION_CHUNKS {
        if index * F::CHUNK_SLOTS >= peers {
            break;
        }
        let slots = chunk::<P, F>(cx.platform, partition, index)?;
        if find_in::<F>(cx.scratch, slots, index * F::CHUNK_SLOTS, key) {
            break;
        }
    }
    let found = cx.scratch.found_slot.load();
    if found == u32::MAX { None } else { Some(found) }
}

/// Looks through a chunk, whose first slot has the number `first`. Slots without a peer match no
/// key.
#[inline(always)]
fn find_in<F: Family>(scratch: &Scratch, slots: Slots<'_, F>, first: u32, key: F::Key) -> bool {
    for number in 0..F::CHUNK_SLOTS {
        if slots.slot(number as usize).matches(key) {
            scratch.found_slot.store(first + number);
            return true;
        }
    }
    false
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
    family: PhantomData<F>,
}

impl<F> Exchange<F> {
    #[inline(always)]
    fn new(partition: PartitionId, first: u32, take: bool) -> Self {
        Self {
            partition: u64::from(partition.number()),
            first: u64::from(first),
            take: u64::from(take),
            family: PhantomData,
        }
    }
}

impl<P: Platform, F: Family> Step<P> for Exchange<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let (Ok(cx), Some(partition)) =
            (Context::new(platform), platform.partition(PartitionId::new(self.partition as u32)))
        else {
            return false;
        };
        let Some(chunk) = chunk_word(partition, self.first as u32 + turn) else { return false };
        if self.take == 0 {
            allocator::give_back::<P, F::Chunk>(platform, ChunkId::new(chunk.load()));
            return true;
        }
        let Ok(id) = allocator::take::<P, F::Chunk>(&cx) else { return false };
        chunk.store(id.number());
        cx.scratch.chunks_taken.store(turn + 1);
        true
    }
}

/// Takes the chunks that a partition with `from` peers needs to hold `to`.
///
/// # Errors
/// [`StoreError::MemoryFull`]; nothing is changed then.
#[inline(always)]
pub(super) fn reserve<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    id: PartitionId,
    from: u32,
    to: u32,
) -> Result<(), StoreError> {
    let (first, end) = (chunks_for::<F>(from), chunks_for::<F>(to));
    let mut body = Exchange::<F>::new(id, first, true);
    cx.scratch.chunks_taken.store(0);
    cx.platform.repeat(end - first, &mut body);
    if cx.scratch.chunks_taken.load() == end - first {
        return Ok(());
    }
    body.take = 0;
    cx.platform.repeat(cx.scratch.chunks_taken.load(), &mut body);
    Err(StoreError::MemoryFull)
}

/// [`reserve`] for one chunk, without its loop.
#[inline(always)]
pub(super) fn reserve_one<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    partition: &Partition,
    index: u32,
) -> Result<(), StoreError> {
    let id = allocator::take::<P, F::Chunk>(cx)?;
    let Some(chunk) = chunk_word(partition, index) else { return Err(StoreError::Internal) };
    chunk.store(id.number());
    Ok(())
}

/// Gives back the chunks that a partition no longer needs, now that it has `to` peers instead of
/// `from`.
#[inline(always)]
pub(super) fn release<P: Platform, F: Family>(platform: &P, id: PartitionId, from: u32, to: u32) {
    let (first, end) = (chunks_for::<F>(to), chunks_for::<F>(from));
    platform.repeat(end.wrapping_sub(first), &mut Exchange::<F>::new(id, first, false));
}

/// Puts a peer behind the last one. There is a chunk for it.
#[inline(always)]
pub(super) fn append<P: Platform, F: Family>(
    platform: &P,
    partition: &Partition,
    key: F::Key,
    flags: u64,
) -> Option<()> {
    let peers = partition.peers.load();
    slot::<P, F>(platform, partition, peers)?.occupy(key, flags);
    // Only now: readers without the lock look at no more peers than this says.
    partition.peers.store(peers + 1);
    Some(())
}

/// Adds a peer.
///
/// # Errors
/// [`StoreError::MemoryFull`], also when the partition is full; [`StoreError::Contended`].
#[inline(always)]
pub(super) fn insert<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    partition: &Partition,
    key: F::Key,
    flags: u64,
) -> Result<(), StoreError> {
    let peers = partition.peers.load();
    if peers >= capacity::<F>() {
        return Err(StoreError::MemoryFull);
    }
    if peers.is_multiple_of(F::CHUNK_SLOTS) {
        reserve_one::<P, F>(cx, partition, peers / F::CHUNK_SLOTS)?;
        cx.platform.event(Event::Grown);
    }
    append::<P, F>(cx.platform, partition, key, flags).ok_or(StoreError::Internal)
}

/// Takes the peer out of a slot: the last peer gets the slot. The change has been announced
/// ([`super::lock::Lock::begin_change`]); the caller gives the chunk back that may be left empty
/// ([`release_last`]).
#[inline(always)]
pub(super) fn remove<P: Platform, F: Family>(platform: &P, partition: &Partition, number: u32) -> Option<()> {
    let last = partition.peers.load().wrapping_sub(1);
    let freed = slot::<P, F>(platform, partition, number)?;
    freed.take(slot::<P, F>(platform, partition, last)?);
    partition.peers.store(last);
    Some(())
}

/// Gives back the chunk that the last [`remove`] has left empty, if it has.
#[inline(always)]
pub(super) fn release_last<P: Platform, F: Family>(platform: &P, partition: &Partition) {
    let peers = partition.peers.load();
    if peers.is_multiple_of(F::CHUNK_SLOTS)
        && let Some(chunk) = chunk_word(partition, peers / F::CHUNK_SLOTS)
    {
        allocator::give_back::<P, F::Chunk>(platform, ChunkId::new(chunk.load()));
    }
}

/// Which slot a new peer with this hash gets when there is no memory left: that of the peer, in a
/// chunk chosen by the hash, that has not announced for the longest time.
#[inline(always)]
pub(super) fn oldest<P: Platform, F: Family>(cx: &Context<'_, P>, partition: &Partition, hash: u32) -> Option<u32> {
    let chunks = chunks_for::<F>(partition.peers.load());
    let first = cx.scratch.as_unknown_scalar((((hash >> 16) * chunks) >> 16) * F::CHUNK_SLOTS);
    let slots = chunk::<P, F>(cx.platform, partition, first / F::CHUNK_SLOTS)?;
    Some(first + oldest_of::<F>(cx.scratch, slots, F::CHUNK_SLOTS as usize, cx.settings.minute.load()))
}

/// Which of the first `count` slots holds the peer that has not announced for the longest time.
#[inline(always)]
pub(super) fn oldest_of<F: Family>(scratch: &Scratch, slots: Slots<'_, F>, count: usize, minute: u32) -> u32 {
    scratch.found_slot.store(0);
    scratch.oldest_age.store(0);
    for number in 0..count {
        let flags = slots.slot(number).flags();
        let age = age(flags, minute);
        if flags & OCCUPIED != 0 && age > scratch.oldest_age.load() {
            scratch.oldest_age.store(age);
            scratch.found_slot.store(number as u32);
        }
    }
    scratch.found_slot.load()
}

#[cfg(test)]
mod tests;
