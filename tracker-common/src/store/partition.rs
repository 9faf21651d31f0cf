//! A partition: a [list](super::list) of peers in a record of its own.

use super::{
    allocator,
    family::Family,
    layout::{DirectoryHeader, Occupancy, PARTITION_CHUNKS, Partition, Swarm},
    list::{List, chunks_for},
    lock::Lock,
};
use crate::{
    codegen::barrier_var,
    id::{ChunkId, PartitionId},
    outcome::StoreError,
    platform::{Context, Platform, Step},
    word::Word32,
};
use core::marker::PhantomData;

/// Slots of a partition.
#[inline(always)]
#[must_use]
pub const fn capacity<F: Family>() -> u32 {
    PARTITION_CHUNKS * F::CHUNK_SLOTS
}

/// Where a partition keeps the number of a chunk.
#[inline(always)]
fn chunk_word(partition: &Partition, index: u32) -> Option<&Word32> {
    // The barrier, because the compiler would check another form of the number than the one that is
    // used.
    let index = barrier_var(u64::from(index)) as usize;
    if index < PARTITION_CHUNKS as usize { Some(&partition.chunks[index]) } else { None }
}

impl<F: Family> List<F> for Partition {
    const CHUNKS: u32 = PARTITION_CHUNKS;
    const HAS_SLOTS: bool = false;

    #[inline(always)]
    fn lock(&self) -> &Lock {
        &self.lock
    }

    #[inline(always)]
    fn occupancy(&self) -> Occupancy {
        Occupancy::from_word(self.occupancy.load())
    }

    #[inline(always)]
    fn set_occupancy(&self, occupancy: Occupancy) {
        self.occupancy.store(occupancy.to_word());
    }

    #[inline(always)]
    fn count_in_swarm(swarm: &Swarm, peers: u64) {
        F::header(swarm).add(DirectoryHeader::ONE_PEER.wrapping_mul(peers));
    }

    #[inline(always)]
    fn chunk_id(&self, index: u32) -> Option<ChunkId> {
        Some(ChunkId::new(chunk_word(self, index)?.load()))
    }

    #[inline(always)]
    fn set_chunk_id(&self, index: u32, id: ChunkId) {
        if let Some(word) = chunk_word(self, index) {
            word.store(id.number());
        }
    }

    #[inline(always)]
    fn note_scopes(&self, scopes: u32) {
        self.add_scopes(scopes);
    }
}

/// Takes chunks for a partition, or gives them back.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Exchange<F> {
    partition: u64,
    /// Index of the first chunk.
    first: u64,
    /// Not 0: takes, and counts them in [`crate::scratch::Scratch::chunks_taken`].
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

/// Gives back the chunks that a partition no longer needs, now that it has `to` peers instead of
/// `from`.
#[inline(always)]
pub(super) fn release<P: Platform, F: Family>(platform: &P, id: PartitionId, from: u32, to: u32) {
    let (first, end) = (chunks_for::<F>(to), chunks_for::<F>(from));
    platform.repeat(end.wrapping_sub(first), &mut Exchange::<F>::new(id, first, false));
}

#[cfg(test)]
mod tests;
