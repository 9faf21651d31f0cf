//! Work that few announces need: storing a torrent, giving a swarm more room.

use super::{
    family::{Family, V4, V6},
    index, resize,
};
use crate::{
    id::InfoHash,
    outcome::StoreError,
    platform::{Platform, Rare},
    scratch::HASHES_AT,
};

/// Does it here.
///
/// # Errors
/// [`StoreError::TorrentsFull`], [`StoreError::MemoryFull`], [`StoreError::Contended`].
#[inline(always)]
pub fn run<M: Platform>(work: Rare, memory: &M) -> Result<u32, StoreError> {
    match work {
        Rare::Create => create(memory),
        Rare::Found { family: V4::TAG, swarm } => found::<M, V4>(memory, swarm),
        Rare::Found { swarm, .. } => found::<M, V6>(memory, swarm),
        Rare::Split { family: V4::TAG, swarm } => split::<M, V4>(memory, swarm),
        Rare::Split { swarm, .. } => split::<M, V6>(memory, swarm),
    }
}

#[inline(always)]
fn create<M: Platform>(memory: &M) -> Result<u32, StoreError> {
    let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else {
        return Err(StoreError::Internal);
    };
    let Some(info_hash) = scratch.get::<InfoHash>(HASHES_AT) else { return Err(StoreError::Internal) };
    index::create(memory, &index::Place::new(settings, &info_hash), settings.minute.load())
}

#[inline(always)]
fn found<M: Platform, F: Family>(memory: &M, number: u32) -> Result<u32, StoreError> {
    let Some(swarm) = memory.swarm(number) else { return Err(StoreError::Internal) };
    resize::found::<M, F>(memory, swarm, number).map(|()| 0)
}

#[inline(always)]
fn split<M: Platform, F: Family>(memory: &M, number: u32) -> Result<u32, StoreError> {
    let (Some(scratch), Some(swarm)) = (memory.scratch(), memory.swarm(number)) else {
        return Err(StoreError::Internal);
    };
    resize::split::<M, F>(memory, scratch, swarm, number).map(|()| 0)
}
