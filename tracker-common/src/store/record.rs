//! Peers in a swarm record: the first few stand in its slots. A family that has more becomes a
//! [list](super::list) whose chunks the record names in the words where its directory would be
//! ([`Occupancy::to_header`]). The record's lock is that of the list.

use super::{
    directory::{record_entry, set_record_entry},
    family::Family,
    journal::{LOCKS, Undo},
    layout::{Occupancy, RECORD_ENTRIES, Swarm},
    list::List,
    lock::Lock,
    slot::Slots,
};
use crate::{codegen::barrier_var, id::ChunkId, platform::Platform, scratch::Scratch};

/// Peers of a list that the record names.
#[inline(always)]
#[must_use]
pub const fn list_capacity<F: Family>() -> u32 {
    RECORD_ENTRIES * F::CHUNK_SLOTS
}

impl<F: Family> List<F> for Swarm {
    const CHUNKS: u32 = RECORD_ENTRIES;
    const HAS_SLOTS: bool = true;

    #[inline(always)]
    fn lock(&self) -> &Lock {
        &self.lock
    }

    #[inline(always)]
    fn occupancy(&self) -> Occupancy {
        Occupancy::from_header(F::header(self).load())
    }

    #[inline(always)]
    fn set_occupancy(&self, occupancy: Occupancy) {
        F::header(self).store(occupancy.to_header());
    }

    #[inline(always)]
    fn count_in_swarm(_: &Swarm, _: u64) {}

    #[inline(always)]
    fn chunk_id(&self, index: u32) -> Option<ChunkId> {
        // The barrier, because the compiler may know two forms of the number, check the one and use
        // the other.
        let index = barrier_var(u64::from(index)) as u32;
        if index < RECORD_ENTRIES { Some(ChunkId::new(record_entry::<F>(self, index))) } else { None }
    }

    #[inline(always)]
    fn set_chunk_id(&self, index: u32, id: ChunkId) {
        if index < RECORD_ENTRIES {
            set_record_entry::<F>(self, index, id.number());
        }
    }

    #[inline(always)]
    fn note_scopes(&self, scopes: u32) {
        self.add_scopes(scopes);
    }
}

/// Writes down the words of a family in a swarm record whose lock is held, before they are changed.
#[inline(always)]
pub(super) fn keep<P: Platform, F: Family>(platform: &P, swarm: &Swarm, undo: Undo) {
    if let Some(journal) = platform.journal() {
        let is_its = |place| platform.lock(place).is_some_and(|lock| core::ptr::eq(lock, &raw const swarm.lock));
        if let Some(lock) = (0..LOCKS).find(|number| journal.lock(*number).is_some_and(is_its)) {
            journal.keep_record(lock, F::VERSION, F::record(swarm).words(), undo);
        }
    }
}

/// The record is in order.
#[inline(always)]
pub(super) fn kept<P: Platform>(platform: &P) {
    if let Some(journal) = platform.journal() {
        journal.record_done();
    }
}

/// The number of the slot that a peer has in a swarm record.
#[inline(always)]
pub(super) fn find_in_slots<F: Family>(scratch: &Scratch, slots: Slots<'_, F>, key: F::Key) -> Option<usize> {
    // As in `list::find`, the number goes through memory.
    scratch.found_slot.store(u32::MAX);
    for number in 0..F::RECORD_SLOTS {
        if slots.slot(number).matches(key) {
            scratch.found_slot.store(number as u32);
            break;
        }
    }
    found_slot::<F>(scratch)
}

/// The slot that was found in a record.
#[inline(always)]
pub(super) fn found_slot<F: Family>(scratch: &Scratch) -> Option<usize> {
    let number = scratch.found_slot.load() as usize;
    if number < F::RECORD_SLOTS { Some(number) } else { None }
}

#[cfg(test)]
mod tests;
