//! The counts of a swarm in one word, and reading them: scrapes.
//!
//! Leechers have the low 24 bits, seeders the next 24, and 16 bits count the changes, so that whoever counts the peers one by
//! one can tell whether the counts were changed meanwhile, even if they are the same again ([`super::expiry`]).

use super::{Counts, index};
use crate::{memory::Memory, wire::InfoHash};

/// One leecher.
pub const LEECHER: u64 = 1;
/// One seeder.
pub const SEEDER: u64 = 1 << 24;
/// One change.
pub const CHANGE: u64 = 1 << 48;

/// Seeders and leechers of a counts word.
#[inline(always)]
#[must_use]
pub fn unpack(counts: u64) -> (u32, u32) {
    ((counts >> 24) as u32 & 0xff_ffff, counts as u32 & 0xff_ffff)
}

/// A torrent's swarm number, if it is stored.
#[inline(always)]
pub fn find<M: Memory>(memory: &M, info_hash: &InfoHash) -> Option<u32> {
    let settings = memory.settings()?;
    index::find(memory, &index::Place::new(settings, info_hash)).map(|(number, _)| number)
}

/// A torrent's counts; zeros for one that is not stored.
#[inline(always)]
pub fn counts<M: Memory>(memory: &M, info_hash: &InfoHash) -> Counts {
    let Some(settings) = memory.settings() else { return Counts::default() };
    let place = index::Place::new(settings, info_hash);
    let Some((_, swarm)) = index::find(memory, &place) else { return Counts::default() };
    let counts = swarm.counts();
    // The record may have been given to another torrent between the search and the reading.
    if index::same(swarm, &place) { counts } else { Counts::default() }
}
