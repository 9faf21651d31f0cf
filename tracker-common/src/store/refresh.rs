//! A known peer announces again: what nearly all announces are. Its minute is set by
//! compare-and-swap; no lock is taken.

use super::{
    directory::{self, is_partition_of},
    family::Family,
    hash::TorrentKey,
    layout::{DirectoryHeader, SWARM_ALIVE, SWARM_SETTLED},
    linear_hash::partition_of,
    list::{self, List},
    lock::Free,
    membership::{Announce, PeerEvent},
    record::find_in_slots,
    sample,
    slot::{KEY, LEECHER, MINUTE, OCCUPIED, Slot, age},
    tell::{self, is_due},
};
use crate::{
    id::PartitionId,
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
    let Some(header) = directory else {
        let free = swarm.record.lock.free()?;
        if !torrent.matches(swarm.record) {
            return None;
        }
        let slots = F::record(swarm.record);
        let number = find_in_slots::<F>(cx.scratch, slots, announce.peer)?;
        return refresh_slot(cx, swarm, slots.slot(number), free, announce);
    };
    if header.is_list() {
        let free = swarm.record.lock.free()?;
        if !F::is_list(swarm.record) || !torrent.matches(swarm.record) {
            return None;
        }
        refresh_in::<P, F, _>(cx, swarm, swarm.record, free, announce)?;
        note_place(cx.scratch, PartitionId::RECORD, free);
        Some(())
    } else {
        let partitions = cx.scratch.as_unknown_scalar_soon(header.partitions);
        let index = partition_of(F::hash(cx.settings, announce.peer), partitions);
        let id = directory::find::<P, F>(cx.platform, swarm.record, index, partitions)?;
        let id = cx.scratch.as_unknown_scalar_soon(id);
        let index = cx.scratch.as_unknown_scalar_soon(index);
        let partition = cx.platform.partition(id)?;
        let free = partition.lock.free()?;
        if !is_partition_of::<F>(partition, swarm.id, index) || !torrent.matches(swarm.record) {
            return None;
        }
        if sample::is_far(cx, partitions) {
            sample::prefetch_peers::<P, F>(cx, announce.seeder);
        }
        refresh_in::<P, F, _>(cx, swarm, partition, free, announce)?;
        note_place(cx.scratch, id, free);
        Some(())
    }
}

/// Keeps where the peer was found, for the sample that it is given.
#[inline(always)]
fn note_place(scratch: &Scratch, list: PartitionId, free: Free<'_>) {
    scratch.sampling.own_partition.store(list.stored());
    scratch.sampling.own_version.store(free.version_number());
}

/// Refreshes a peer of this list.
#[inline(always)]
fn refresh_in<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    list: &L,
    free: Free<'_>,
    announce: &Announce<'_, F::Key>,
) -> Option<()> {
    let number = cx.scratch.as_unknown_scalar_soon(list::find_likely::<P, F, L>(cx, list, announce.peer)?);
    let slot = list::slot::<P, F, L>(cx.platform, list, number)?;
    // A peer behind another that resembles it is found by whoever takes over.
    if slot.matches(announce.peer) { refresh_slot(cx, swarm, slot, free, announce) } else { None }
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
    let flags = announce.flags(minute);
    // A peer that becomes a seeder changes the counts as well, and another key is looked at with care.
    if (old ^ flags) & (OCCUPIED | LEECHER | KEY) != 0 {
        return None;
    }
    let new = (old & !MINUTE) | (flags & MINUTE);
    let mut due = false;
    if old != new {
        if P::TELLS {
            let every = cx.settings.tell_every.load();
            due = every != 0 && is_due(old, minute, every);
        }
        if !word.replace(old, new) {
            return None;
        }
    }
    let active = swarm.record.active.load();
    if active & !SWARM_SETTLED != SWARM_ALIVE | minute {
        // A torrent that has been removed meanwhile must not come back to life.
        let new = SWARM_ALIVE | SWARM_SETTLED | minute;
        if active & SWARM_ALIVE == 0 || !swarm.record.active.replace(active, new) {
            return None;
        }
    }
    if !free.still_holds() {
        return None;
    }
    cx.platform.count(Counter::Refreshed(age(old, minute)), 1);
    // One that was refreshed in vain, a few lines above, is told of with its next announce.
    if due {
        tell::note(cx.scratch, old, new);
        tell::others::<P, F>(cx, announce.info_hash, announce.peer);
    }
    Some(())
}

#[cfg(test)]
mod tests;
