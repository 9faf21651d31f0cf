//! A known peer announces again: what nearly all announces are. Its minute is set by
//! compare-and-swap; no lock is taken.

use super::{
    directory::{self, is_partition_of},
    family::Family,
    hash::TorrentKey,
    layout::{DirectoryHeader, SWARM_ALIVE},
    linear_hash::partition_of,
    lock::Free,
    membership::{Announce, PeerEvent},
    partition,
    slot::{LEECHER, MINUTE, OCCUPIED, Slot, Slots, age, minute_bits},
};
use crate::{
    outcome::Counter,
    platform::{Context, Platform, SwarmRef},
    scratch::Scratch,
};

/// Refreshes a known peer of the swarm, which has just had this directory. Returns `None` if the
/// announce is not a plain refresh, or if a lock is held. Nothing was changed then that
/// [`super::upsert::upsert`], which has to take it over, would do wrong twice.
#[inline(always)]
pub fn refresh<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    directory: Option<DirectoryHeader>,
    torrent: &TorrentKey,
    announce: &Announce<'_, F::Key>,
) -> Option<()> {
    if announce.event == PeerEvent::Stopped {
        return None;
    }
    if let Some(header) = directory {
        let partitions = cx.scratch.as_unknown_scalar(header.partitions);
        let index = partition_of(F::hash(cx.settings, announce.peer), partitions);
        let id = directory::find::<P, F>(cx.platform, swarm.record, index, partitions)?;
        let id = cx.scratch.as_unknown_scalar(id);
        let index = cx.scratch.as_unknown_scalar(index);
        let partition = cx.platform.partition(id)?;
        let free = partition.lock.free()?;
        if !is_partition_of::<F>(partition, swarm.id, index) || !torrent.matches(swarm.record) {
            return None;
        }
        let number = cx.scratch.as_unknown_scalar(partition::find::<P, F>(cx, partition, announce.peer)?);
        refresh_slot(cx, swarm, partition::slot::<P, F>(cx.platform, partition, number)?, free, announce)?;
        cx.scratch.sampling.own_partition.store(id.stored());
        cx.scratch.sampling.own_version.store(free.version_number());
        Some(())
    } else {
        let free = swarm.record.lock.free()?;
        if !torrent.matches(swarm.record) {
            return None;
        }
        let slots = F::record(swarm.record);
        let number = find_in_record::<F>(cx.scratch, slots, announce.peer)?;
        refresh_slot(cx, swarm, slots.slot(number), free, announce)
    }
}

/// Sets the minute of a known peer, if nothing else about it changes. `free` is the lock of its
/// place.
#[inline(always)]
fn refresh_slot<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    slot: Slot<'_, F>,
    free: Free<'_>,
    announce: &Announce<'_, F::Key>,
) -> Option<()> {
    let minute = cx.minute();
    let word = slot.flags_word();
    let old = word.load();
    let new = (old & !MINUTE) | minute_bits(minute);
    // A peer that becomes a seeder changes the counts as well.
    if (old & LEECHER == 0) != announce.seeder || old & OCCUPIED == 0 {
        return None;
    }
    if old != new && !word.replace(old, new) {
        return None;
    }
    let active = swarm.record.active.load();
    if active != SWARM_ALIVE | minute {
        // A torrent that has been removed meanwhile must not come back to life.
        if active & SWARM_ALIVE == 0 || !swarm.record.active.replace(active, SWARM_ALIVE | minute) {
            return None;
        }
    }
    if !free.still_holds() {
        return None;
    }
    cx.platform.count(Counter::Refreshed(age(old, minute)), 1);
    Some(())
}

/// The number of the slot that a peer has in a swarm record.
#[inline(always)]
pub(super) fn find_in_record<F: Family>(scratch: &Scratch, slots: Slots<'_, F>, key: F::Key) -> Option<usize> {
    // As in `partition::find`, the number goes through memory.
    scratch.found_slot.store(u32::MAX);
    for number in 0..F::RECORD_SLOTS {
        if slots.slot(number).matches(key) {
            scratch.found_slot.store(number as u32);
            break;
        }
    }
    found_record_slot::<F>(scratch)
}

/// The slot that was found in a record.
#[inline(always)]
pub(super) fn found_record_slot<F: Family>(scratch: &Scratch) -> Option<usize> {
    let number = scratch.found_slot.load() as usize;
    if number < F::RECORD_SLOTS { Some(number) } else { None }
}

#[cfg(test)]
mod tests;
