//! Work that few announces need: storing a torrent, giving a swarm more room.

use super::{Family, V4, V6, index, partition};
use crate::{memory::Memory, outcome::Reason, scrape::HASHES_AT, wire::InfoHash};

/// What to do. The numbers are those of swarms and partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rare {
    /// Store the torrent whose info_hash stands at [`HASHES_AT`] in the scratch space; the result is its swarm number.
    Create,
    /// Give a family its first partition; the swarm's lock is held. The result of this and, where not said otherwise, of the others is 0.
    Found {
        /// [`Family::TAG`].
        family: u32,
        /// Swarm number.
        swarm: u32,
    },
    /// Look through a partition, whose lock is held, for the peer stashed in the scratch space ([`Family::stash`]) or for a free slot.
    /// The result is the number of the chunk, the slot is in [`crate::reply::Scratch::found`]; [`Reason::NoRoom`] if there is none.
    Seek {
        /// [`Family::TAG`].
        family: u32,
        /// Partition number.
        partition: u32,
        /// Hash of the peer.
        hash: u32,
        /// A free slot?
        free: bool,
    },
    /// Look for a free slot in the chunks that a partition is being rebuilt with ([`crate::reply::Scratch::refs`]), or its other half
    /// (`refs_split`). The result is as that of `Seek`.
    Place {
        /// [`Family::TAG`].
        family: u32,
        /// The other half?
        split: bool,
        /// How many chunks there are.
        chunks: u32,
        /// Hash of the peer.
        hash: u32,
    },
    /// Rebuild a partition, whose lock is held, with more chunks; [`Reason::NoRoom`] says that it takes still more.
    Grow {
        /// [`Family::TAG`].
        family: u32,
        /// Partition number.
        partition: u32,
        /// How many chunks more.
        extra: u32,
        /// Hash of the peer that found no slot.
        newcomer: u32,
    },
    /// Give a swarm, of which no lock is held, one partition more if it needs one; [`Reason::NoRoom`] as above.
    Split {
        /// [`Family::TAG`].
        family: u32,
        /// Swarm number.
        swarm: u32,
        /// How many chunks more than usual for both halves.
        extra: u32,
    },
}

impl Rare {
    /// Does it here.
    ///
    /// # Errors
    /// [`Reason::TorrentsFull`], [`Reason::MemoryFull`], [`Reason::NoRoom`], [`Reason::Contended`].
    #[inline(always)]
    pub fn run<M: Memory>(self, memory: &M) -> Result<u32, Reason> {
        match self {
            Rare::Create => create(memory),
            Rare::Found { family: V4::TAG, swarm } => found::<M, V4>(memory, swarm),
            Rare::Found { swarm, .. } => found::<M, V6>(memory, swarm),
            Rare::Seek { family: V4::TAG, partition, hash, free } => {
                partition::seek_here::<M, V4>(memory, partition, hash, free)
            }
            Rare::Seek { partition, hash, free, .. } => partition::seek_here::<M, V6>(memory, partition, hash, free),
            Rare::Place { family: V4::TAG, split, chunks, hash } => {
                partition::place_here::<M, V4>(memory, split, chunks, hash)
            }
            Rare::Place { split, chunks, hash, .. } => partition::place_here::<M, V6>(memory, split, chunks, hash),
            Rare::Grow { family: V4::TAG, partition, extra, newcomer } => {
                grow::<M, V4>(memory, partition, extra, newcomer)
            }
            Rare::Grow { partition, extra, newcomer, .. } => grow::<M, V6>(memory, partition, extra, newcomer),
            Rare::Split { family: V4::TAG, swarm, extra } => split::<M, V4>(memory, swarm, extra),
            Rare::Split { swarm, extra, .. } => split::<M, V6>(memory, swarm, extra),
        }
    }
}

#[inline(always)]
fn create<M: Memory>(memory: &M) -> Result<u32, Reason> {
    let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else { return Err(Reason::Internal) };
    let Some(info_hash) = scratch.get::<InfoHash>(HASHES_AT) else { return Err(Reason::Internal) };
    index::create(memory, &index::Place::new(settings, &info_hash), settings.minute.load())
}

#[inline(always)]
fn found<M: Memory, F: Family>(memory: &M, number: u32) -> Result<u32, Reason> {
    let Some(swarm) = memory.swarm(number) else { return Err(Reason::Internal) };
    partition::found::<M, F>(memory, swarm, number).map(|()| 0)
}

#[inline(always)]
fn grow<M: Memory, F: Family>(memory: &M, number: u32, extra: u32, newcomer: u32) -> Result<u32, Reason> {
    let (Some(scratch), Some(part)) = (memory.scratch(), memory.partition(number)) else {
        return Err(Reason::Internal);
    };
    let chunks = part.chunk_count.load() + extra;
    partition::rebuild::<M, F>(memory, scratch, part, number, chunks, newcomer).map(|()| 0)
}

#[inline(always)]
fn split<M: Memory, F: Family>(memory: &M, number: u32, extra: u32) -> Result<u32, Reason> {
    let (Some(scratch), Some(swarm)) = (memory.scratch(), memory.swarm(number)) else { return Err(Reason::Internal) };
    partition::split::<M, F>(memory, scratch, swarm, number, extra).map(|()| 0)
}
