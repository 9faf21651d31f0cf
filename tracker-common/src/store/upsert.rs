//! Storing an announce under locks: the peer is found or given a slot, and the counts follow.
//!
//! One try can fail because something changed between finding a place and locking it; it is then
//! done again from the beginning. Each step of a try finds what an earlier one has done, so nothing
//! is done twice.

use super::{
    allocator,
    crowd::{self, TAKEN_OVER, UNKNOWN},
    directory::{self, is_partition_of},
    family::Family,
    hash::TorrentKey,
    index,
    journal::{Place, Undo},
    layout::Partition,
    linear_hash::partition_of,
    list::{self, List},
    membership::{Announce, PeerEvent, apply, count_in, count_out, replace, touch},
    record::{self, find_in_slots, found_slot, list_capacity},
    refresh::refresh,
    resize::has_outgrown,
    room,
    slot::Slot,
    tell,
};
use crate::{
    id::{PartitionId, SwarmId},
    outcome::{Event, StoreError},
    platform::{ColdPath, Context, Platform, SwarmRef},
    scratch::HASHES_AT,
};

/// Stores an announce by [`refresh`], or else by [`upsert`]. Returns the swarm; `None` if the peer
/// stopped in a torrent that is not stored, which does not create it.
///
/// # Errors
/// Those of [`upsert`].
#[inline(always)]
pub fn announce<'m, P: Platform, F: Family>(
    cx: &Context<'m, P>,
    announce: &Announce<'_, F::Key>,
) -> Result<Option<SwarmRef<'m>>, StoreError> {
    let torrent = TorrentKey::new(cx.settings, announce.info_hash);
    if let Some(swarm) = index::find(cx, &torrent)
        && refresh::<P, F>(cx, swarm, F::directory(swarm.record), &torrent, announce).is_some()
    {
        return Ok(Some(swarm));
    }
    let id = upsert::<P, F>(cx, &torrent, announce)?;
    tell::others::<P, F>(cx, announce.info_hash, announce.peer);
    Ok(id.and_then(|id| cx.swarm(id)))
}

/// Stores an announce, whatever it says. The result is that of [`announce()`].
///
/// # Errors
/// [`StoreError::TorrentsFull`], [`StoreError::MemoryFull`], those of [`crate::admission::check`];
/// [`StoreError::Contended`] only where
/// tries are limited.
#[inline(always)]
pub fn upsert<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    torrent: &TorrentKey,
    announce: &Announce<'_, F::Key>,
) -> Result<Option<SwarmId>, StoreError> {
    tell::note(cx.scratch, 0, 0);
    let mut tries = 0;
    loop {
        let result = try_upsert::<P, F>(cx, torrent, announce);
        tries += 1;
        if P::SPIN_LIMIT.is_some() || result != Err(StoreError::Contended) {
            return result;
        }
        cx.platform.pause(tries);
    }
}

/// One try. [`StoreError::Contended`] also says that something changed between finding and locking.
#[inline(always)]
fn try_upsert<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    torrent: &TorrentKey,
    announce: &Announce<'_, F::Key>,
) -> Result<Option<SwarmId>, StoreError> {
    let id = match index::find(cx, torrent) {
        Some(swarm) => swarm.id.number(),
        None if announce.event == PeerEvent::Stopped => return Ok(None),
        None => {
            cx.scratch.put(HASHES_AT, *announce.info_hash);
            room::for_torrent::<P, F>(cx, announce.peer)?;
            cx.platform.run_cold(ColdPath::CreateTorrent)?
        }
    };
    let Some(swarm) = cx.swarm(SwarmId::new(cx.scratch.as_unknown_scalar(id))) else {
        return Err(StoreError::Internal);
    };
    if F::partitions(swarm.record).is_none() {
        cx.platform.acquire(&swarm.record.lock, Place::Swarm(swarm.id))?;
        let result = upsert_in_record::<P, F>(cx, swarm, torrent, announce);
        cx.platform.release(&swarm.record.lock);
        if result? {
            return Ok(Some(swarm.id));
        }
    }
    upsert_in_partitions::<P, F>(cx, swarm, torrent, announce)?;
    Ok(Some(swarm.id))
}

/// The peer lives in the swarm record, whose lock is held, or in the list that the record names.
/// False: the family has partitions (by now).
#[inline(always)]
fn upsert_in_record<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    torrent: &TorrentKey,
    announce: &Announce<'_, F::Key>,
) -> Result<bool, StoreError> {
    if !torrent.matches(swarm.record) {
        return Err(StoreError::Contended);
    }
    touch(swarm.record, cx.minute());
    if F::directory(swarm.record).is_none() && upsert_in_slots::<P, F>(cx, swarm, announce)? {
        return Ok(true);
    }
    if !F::is_list(swarm.record) {
        return Ok(false);
    }
    let list = swarm.record;
    let place = crowd::place_in::<P, F, _>(cx, swarm.id, PartitionId::RECORD, list, announce.peer)?;
    if place == UNKNOWN && announce.event != PeerEvent::Stopped && List::<F>::peers(list) >= list_capacity::<F>() {
        match cx.platform.run_cold(ColdPath::Promote(F::VERSION, swarm.id)) {
            Ok(_) => return Ok(false),
            // In the list one gives way.
            Err(StoreError::MemoryFull) => {}
            Err(error) => return Err(error),
        }
    }
    upsert_in_list::<P, F, _>(cx, swarm, list, place, announce)?;
    Ok(true)
}

/// The peer lives in a slot of the swarm record, whose lock is held. False: there are too few, and
/// the family has become a list.
#[inline(always)]
fn upsert_in_slots<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    announce: &Announce<'_, F::Key>,
) -> Result<bool, StoreError> {
    let slots = F::record(swarm.record);
    if let Some(number) = find_in_slots::<F>(cx.scratch, slots, announce.peer) {
        let slot = slots.slot(number);
        if apply(cx, swarm.record, slot, announce) {
            count_out(cx.platform, swarm.record, slot);
            // So that an announce that takes no lock notices it ([`super::lock::Free::still_holds`]).
            swarm.record.lock.begin_change();
            slot.vacate();
        }
        return Ok(true);
    }
    if announce.event == PeerEvent::Stopped {
        return Ok(true);
    }
    let limit = cx.settings.max_peers_per_address.load();
    // A limit that more peers than there are slots do not reach is none here.
    if limit != 0 && limit < F::RECORD_SLOTS as u32 {
        F::keep_excluded(cx.scratch, announce.peer);
        let place = cx.platform.run_cold(ColdPath::Crowd(F::VERSION, swarm.id, PartitionId::RECORD))?;
        let number = (place & !TAKEN_OVER) as usize;
        if place != UNKNOWN && number < F::RECORD_SLOTS {
            take_over::<P, F>(cx, swarm, slots.slot(number), announce, Event::Crowded);
            return Ok(true);
        }
        cx.scratch.found_slot.store(u32::MAX);
    }
    for number in 0..F::RECORD_SLOTS {
        if !slots.slot(number).is_occupied() {
            cx.scratch.found_slot.store(number as u32);
            break;
        }
    }
    if let Some(free) = found_slot::<F>(cx.scratch) {
        swarm.record.add_scopes(F::scope(announce.peer));
        let flags = announce.new_flags(cx.minute());
        count_in::<P, F>(cx, swarm.record, flags, announce);
        slots.slot(free).occupy(announce.peer, flags);
        return Ok(true);
    }
    room::for_peer::<P, F>(cx, announce.peer)?;
    match cx.platform.run_cold(ColdPath::Promote(F::VERSION, swarm.id)) {
        Ok(_) => Ok(false),
        Err(StoreError::MemoryFull) => {
            // Of the few peers the one that has been silent for the longest time gives way.
            let oldest = list::oldest_of::<F>(cx.scratch, slots, F::RECORD_SLOTS, cx.minute()) as usize;
            if oldest >= F::RECORD_SLOTS {
                return Err(StoreError::Internal);
            }
            take_over::<P, F>(cx, swarm, slots.slot(oldest), announce, Event::Evicted);
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Puts a new peer into the record's slot of an old one. The record's lock is held.
#[inline(always)]
fn take_over<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    slot: Slot<'_, F>,
    announce: &Announce<'_, F::Key>,
    event: Event,
) {
    swarm.record.add_scopes(F::scope(announce.peer));
    // An IPv6 peer is three words: a reader meanwhile has to notice.
    swarm.record.lock.begin_change();
    cx.platform.event(event);
    record::keep::<P, F>(cx.platform, swarm.record, Undo::All);
    replace(cx, swarm.record, slot, announce);
    record::kept(cx.platform);
}

/// The peer lives in a partition. Splits one, if the swarm has become too large for those it has.
#[inline(always)]
fn upsert_in_partitions<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    torrent: &TorrentKey,
    announce: &Announce<'_, F::Key>,
) -> Result<(), StoreError> {
    let Some(partitions) = F::partitions(swarm.record) else { return Err(StoreError::Contended) };
    let hash = F::hash(cx.settings, announce.peer);
    let index = cx.scratch.as_unknown_scalar(partition_of(hash, partitions));
    let Some(id) = directory::find::<P, F>(cx.platform, swarm.record, index, partitions) else {
        return Err(StoreError::Contended);
    };
    let id = cx.scratch.as_unknown_scalar(id);
    let Some(partition) = cx.platform.partition(id) else {
        return Err(StoreError::Contended);
    };
    cx.platform.acquire(&partition.lock, Place::Partition(id))?;
    // With the lock held: is this (still) the swarm, the partition and the number of partitions
    // that led here?
    let valid = is_partition_of::<F>(partition, swarm.id, index)
        && torrent.matches(swarm.record)
        && match F::partitions(swarm.record) {
            Some(now) => partition_of(hash, now) == index,
            None => false,
        };
    let result = if valid {
        touch(swarm.record, cx.minute());
        match crowd::place_in::<P, F, _>(cx, swarm.id, cx.scratch.as_unknown_scalar(id), partition, announce.peer) {
            Ok(place) => upsert_in_list::<P, F, _>(cx, swarm, partition, place, announce),
            Err(error) => Err(error),
        }
    } else {
        Err(StoreError::Contended)
    };
    cx.platform.release(&partition.lock);
    if result?
        && let Some(now) = F::directory(swarm.record)
        && has_outgrown::<F>(now)
        // At the memory limit a split would fail after some of its work, for every new peer. Until
        // there is enough, each makes room for one chunk.
        && room::for_split::<P, F>(cx, announce.peer)
        && allocator::has_spare::<P, Partition>(cx, 1)
    {
        // Failure is no error: the swarm goes on with the partitions it has, and the next new peer
        // tries again.
        let _ = cx.platform.run_cold(ColdPath::Split(F::VERSION, swarm.id));
    }
    Ok(())
}

/// The peer lives in this list, whose lock is held, or is to live there. True if that makes one peer
/// more.
#[inline(always)]
fn upsert_in_list<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    list: &L,
    place: crowd::Place,
    announce: &Announce<'_, F::Key>,
) -> Result<bool, StoreError> {
    let place = cx.scratch.as_unknown_scalar(place);
    if place < TAKEN_OVER {
        upsert_known::<P, F, L>(cx, swarm, list, place, announce)?;
        return Ok(false);
    }
    if announce.event == PeerEvent::Stopped {
        return Ok(false);
    }
    // Before the peer is there: a reader that finds it has seen this.
    list.note_scopes(F::scope(announce.peer));
    if place == UNKNOWN {
        if list.peers().is_multiple_of(F::CHUNK_SLOTS) {
            room::for_peer::<P, F>(cx, announce.peer)?;
        }
        let flags = announce.new_flags(cx.minute());
        match list::insert::<P, F, L>(cx, list, announce.peer, flags) {
            Ok(()) => {
                count_in::<P, F>(cx, swarm.record, flags, announce);
                L::count_in_swarm(swarm.record, 1);
                return Ok(true);
            }
            Err(StoreError::MemoryFull) => {}
            Err(error) => return Err(error),
        }
    }
    let old = if place == UNKNOWN {
        let hash = F::hash(cx.settings, announce.peer);
        let Some(oldest) = list::oldest::<P, F, L>(cx, list, hash) else { return Err(StoreError::MemoryFull) };
        cx.platform.event(Event::Evicted);
        oldest
    } else {
        cx.platform.event(Event::Crowded);
        place & !TAKEN_OVER
    };
    let old = cx.scratch.as_unknown_scalar(old);
    let Some(slot) = list::slot::<P, F, L>(cx.platform, list, old) else { return Err(StoreError::Internal) };
    list.lock().begin_change();
    list::keep::<P, F, L, 1>(cx.platform, list, [old]);
    replace(cx, swarm.record, slot, announce);
    list::kept(cx.platform);
    list::reorder::<P, F, L>(cx.platform, list, old).ok_or(StoreError::Internal)?;
    Ok(false)
}

/// The peer lives in this slot of the list, whose lock is held.
#[inline(always)]
fn upsert_known<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    list: &L,
    number: u32,
    announce: &Announce<'_, F::Key>,
) -> Result<(), StoreError> {
    let Some(slot) = list::slot::<P, F, L>(cx.platform, list, number) else { return Err(StoreError::Internal) };
    if apply(cx, swarm.record, slot, announce) {
        count_out(cx.platform, swarm.record, slot);
        list.lock().begin_change();
        let Some(()) = list::remove::<P, F, L>(cx.platform, list, number) else { return Err(StoreError::Internal) };
        list::release_last::<P, F, L>(cx.platform, list);
        L::count_in_swarm(swarm.record, 1_u64.wrapping_neg());
    } else {
        let Some(()) = list::reorder::<P, F, L>(cx.platform, list, number) else { return Err(StoreError::Internal) };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
