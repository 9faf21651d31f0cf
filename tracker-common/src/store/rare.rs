//! Work that few announces need: storing a torrent, giving a swarm more room.

use super::{Family, V4, V6, index, partition};
use crate::{memory::Memory, outcome::StoreError, scrape::HASHES_AT, wire::InfoHash};

/// What to do. The numbers are those of swarms and partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rare {
    /// Store the torrent whose info_hash stands at [`HASHES_AT`] in the scratch space; the result is its swarm number.
    Create,
    /// Give a family its first partition; the swarm's lock is held. The result of this and of `Split` is 0.
    Found {
        /// [`Family::TAG`].
        family: u32,
        /// Swarm number.
        swarm: u32,
    },
    /// Give a swarm, of which no lock is held, one partition more if it needs one.
    Split {
        /// [`Family::TAG`].
        family: u32,
        /// Swarm number.
        swarm: u32,
    },
}

impl Rare {
    /// Does it here.
    ///
    /// # Errors
    /// [`StoreError::TorrentsFull`], [`StoreError::MemoryFull`], [`StoreError::Contended`].
    #[inline(always)]
    pub fn run<M: Memory>(self, memory: &M) -> Result<u32, StoreError> {
        match self {
            Rare::Create => create(memory),
            Rare::Found { family: V4::TAG, swarm } => found::<M, V4>(memory, swarm),
            Rare::Found { swarm, .. } => found::<M, V6>(memory, swarm),
            Rare::Split { family: V4::TAG, swarm } => split::<M, V4>(memory, swarm),
            Rare::Split { swarm, .. } => split::<M, V6>(memory, swarm),
        }
    }
}

#[inline(always)]
fn create<M: Memory>(memory: &M) -> Result<u32, StoreError> {
    let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else {
        return Err(StoreError::Internal);
    };
    let Some(info_hash) = scratch.get::<InfoHash>(HASHES_AT) else { return Err(StoreError::Internal) };
    index::create(memory, &index::Place::new(settings, &info_hash), settings.minute.load())
}

#[inline(always)]
fn found<M: Memory, F: Family>(memory: &M, number: u32) -> Result<u32, StoreError> {
    let Some(swarm) = memory.swarm(number) else { return Err(StoreError::Internal) };
    partition::found::<M, F>(memory, swarm, number).map(|()| 0)
}

#[inline(always)]
fn split<M: Memory, F: Family>(memory: &M, number: u32) -> Result<u32, StoreError> {
    let (Some(scratch), Some(swarm)) = (memory.scratch(), memory.swarm(number)) else {
        return Err(StoreError::Internal);
    };
    partition::split::<M, F>(memory, scratch, swarm, number).map(|()| 0)
}
