//! Reading counts: scrapes.

use super::{Counts, index};
use crate::{memory::Memory, wire::InfoHash};

/// A torrent's swarm number, if it is stored.
#[inline(always)]
pub fn find<M: Memory>(memory: &M, info_hash: &InfoHash) -> Option<u32> {
    let settings = memory.settings()?;
    index::find(memory, &index::Place::new(settings, info_hash))
}

/// A torrent's counts; zeros for one that is not stored.
#[inline(always)]
pub fn counts<M: Memory>(memory: &M, info_hash: &InfoHash) -> Counts {
    let Some(settings) = memory.settings() else { return Counts::default() };
    let place = index::Place::new(settings, info_hash);
    let Some(number) = index::find(memory, &place) else { return Counts::default() };
    let Some(swarm) = memory.swarm(number) else { return Counts::default() };
    let counts = swarm.counts();
    // The record may have been given to another torrent between the search and the reading.
    if index::same(swarm, &place) { counts } else { Counts::default() }
}
