//! Storing an announce under locks: the peer is found or given a slot, the counts follow.

use super::{
    allocator as pool, directory,
    family::Family,
    index::{self, Place},
    layout::{self, OCCUPIED, PARTITIONS_MAX, Partition, ROOT_PEER, Swarm},
    linear_hash,
    membership::{Announcement, PeerEvent, arrive, change, evict, leave, new_flags, touch},
    partition,
    refresh::{inline_slot, refresh},
};
use crate::{
    outcome::StoreError,
    platform::{Platform, Rare, acquire},
    scratch::{HASHES_AT, Scratch},
    settings::Settings,
};

/// Chunks that are taken to split a partition, and a directory node, as a rule.
const SPLIT_CHUNKS: u32 = 4;

/// Stores an announce: [`refresh`], or else [`store`]. Returns the swarm's number; `None` if the peer stopped in a torrent that is
/// not stored, which does not create it.
///
/// # Errors
/// Those of [`store`].
#[inline(always)]
pub fn update<M: Platform, F: Family>(
    memory: &M,
    announcement: &Announcement<'_, F::Key>,
) -> Result<Option<u32>, StoreError> {
    let Some(settings) = memory.settings() else { return Err(StoreError::Internal) };
    let place = Place::new(settings, announcement.info_hash);
    match refresh::<M, F>(memory, &place, announcement) {
        Some((number, _)) => Ok(Some(number)),
        None => store::<M, F>(memory, &place, announcement),
    }
}

/// Stores an announce, whatever it says. The result is that of [`update`].
///
/// # Errors
/// [`StoreError::TorrentsFull`], [`StoreError::MemoryFull`]; [`StoreError::Contended`] only where waiting is bounded.
#[inline(always)]
pub fn store<M: Platform, F: Family>(
    memory: &M,
    place: &Place,
    announcement: &Announcement<'_, F::Key>,
) -> Result<Option<u32>, StoreError> {
    let (Some(settings), Some(scratch)) = (memory.settings(), memory.scratch()) else {
        return Err(StoreError::Internal);
    };
    let mut tries = 0;
    loop {
        let result = attempt::<M, F>(memory, settings, scratch, place, announcement);
        tries += 1;
        if M::BOUNDED || result != Err(StoreError::Contended) {
            return result;
        }
        memory.pause(tries);
    }
}

/// One try; [`StoreError::Contended`] also says that something changed between finding and locking.
#[inline(always)]
fn attempt<M: Platform, F: Family>(
    memory: &M,
    settings: &Settings,
    scratch: &Scratch,
    place: &Place,
    announcement: &Announcement<'_, F::Key>,
) -> Result<Option<u32>, StoreError> {
    let minute = settings.minute.load();
    let number = match index::find(memory, place) {
        Some((number, _)) => number,
        None if announcement.event == PeerEvent::Stopped => return Ok(None),
        None => {
            scratch.put(HASHES_AT, *announcement.info_hash);
            memory.rarely(Rare::Create)?
        }
    };
    let number = scratch.forget(number);
    let Some(swarm) = memory.swarm(number) else { return Err(StoreError::Internal) };
    if !layout::is_root(F::root(swarm).load()) {
        acquire(memory, &swarm.lock)?;
        let result = inline::<M, F>(memory, scratch, swarm, number, place, announcement, minute);
        swarm.lock.unlock();
        if result? {
            return Ok(Some(number));
        }
    }
    partitioned::<M, F>(memory, settings, scratch, swarm, number, place, announcement, minute)?;
    Ok(Some(number))
}

/// The peer lives in the swarm record, whose lock is held. False: the family has partitions (by now).
#[inline(always)]
fn inline<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    place: &Place,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> Result<bool, StoreError> {
    if !index::same(swarm, place) {
        return Err(StoreError::Contended);
    }
    if layout::is_root(F::root(swarm).load()) {
        return Ok(false);
    }
    touch(swarm, minute);
    let words = F::inline(swarm);
    if let Some(base) = inline_slot::<F>(scratch, words, announcement.peer) {
        if change::<M, F>(memory, swarm, words, base, announcement, minute) {
            leave::<M, F>(memory, swarm, words, base);
            F::vacate(words, base);
        }
        return Ok(true);
    }
    if announcement.event == PeerEvent::Stopped {
        return Ok(true);
    }
    for slot in 0..F::INLINE {
        let base = slot * F::WORDS;
        if F::flags_at(words, base).load() & OCCUPIED == 0 {
            scratch.found_slot.store(base as u32);
            break;
        }
    }
    let free = scratch.found_slot.load() as usize;
    if free <= (F::INLINE - 1) * F::WORDS {
        swarm.note_near(F::near(announcement.peer));
        let flags = arrive::<M, F>(memory, swarm, announcement, minute);
        F::occupy(words, free, announcement.peer, flags);
        return Ok(true);
    }
    match memory.rarely(Rare::Found { family: F::TAG, swarm: number }) {
        Ok(_) => Ok(false),
        Err(StoreError::MemoryFull) => {
            // The longest silent of the few gives way.
            partition::oldest_of::<F>(scratch, words, F::INLINE, minute);
            let slot = scratch.found_slot.load() as usize;
            if slot >= F::INLINE {
                return Err(StoreError::Internal);
            }
            swarm.note_near(F::near(announcement.peer));
            evict::<M, F>(memory, swarm, words, slot * F::WORDS, announcement, minute);
            Ok(true)
        }
        Err(reason) => Err(reason),
    }
}

/// The peer lives in a partition.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what was looked up once is handed on, not looked up again")]
fn partitioned<M: Platform, F: Family>(
    memory: &M,
    settings: &Settings,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    torrent: &Place,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> Result<(), StoreError> {
    let root = F::root(swarm);
    let seen = root.load();
    let count = layout::root_partitions(seen);
    if !layout::is_root(seen) || count == 0 || count > PARTITIONS_MAX {
        return Err(StoreError::Contended);
    }
    let hash = F::hash(settings, announcement.peer);
    let place = scratch.forget(linear_hash::address(hash, count));
    let Some(part) = directory::lookup::<M, F>(memory, swarm, place, count) else { return Err(StoreError::Contended) };
    let part = scratch.forget(part);
    let Some(partition) = memory.partition(part) else { return Err(StoreError::Contended) };
    acquire(memory, &partition.lock)?;
    // With the lock held: is this (still) the swarm, the partition and the number of partitions that led here?
    let now = root.load();
    let valid = directory::belongs::<F>(partition, number, place)
        && index::same(swarm, torrent)
        && layout::is_root(now)
        && linear_hash::address(hash, layout::root_partitions(now)) == place;
    let result = if valid {
        touch(swarm, minute);
        in_partition::<M, F>(memory, scratch, swarm, partition, hash, announcement, minute)
    } else {
        Err(StoreError::Contended)
    };
    partition.lock.unlock();
    if result? {
        let now = root.load();
        // At the memory limit a split would fail after some of its work, for every new peer.
        if layout::root_peers(now) > layout::root_partitions(now).wrapping_mul(F::PER_PARTITION)
            && pool::has_spare::<M, F::Pool>(memory, SPLIT_CHUNKS)
            && pool::has_spare::<M, pool::Partitions>(memory, 1)
        {
            // Failure is no error: the swarm goes on with the partitions it has, and the next new peer tries again.
            let _ = memory.rarely(Rare::Split { family: F::TAG, swarm: number });
        }
    }
    Ok(())
}

/// The peer lives in this partition, whose lock is held. True if it is new.
#[inline(always)]
fn in_partition<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    partition: &Partition,
    hash: u32,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> Result<bool, StoreError> {
    if let Some(found) = partition::find::<M, F>(memory, scratch, partition, announcement.peer) {
        let found = scratch.forget(found);
        let Some((words, base)) = partition::slot::<M, F>(memory, partition, found) else {
            return Err(StoreError::Internal);
        };
        if change::<M, F>(memory, swarm, words, base, announcement, minute) {
            leave::<M, F>(memory, swarm, words, base);
            partition.lock.begin_change();
            let Some(()) = partition::remove::<M, F>(memory, partition, found) else {
                return Err(StoreError::Internal);
            };
            partition::release_last::<M, F>(memory, partition);
            F::root(swarm).add(ROOT_PEER.wrapping_neg());
        }
        return Ok(false);
    }
    if announcement.event == PeerEvent::Stopped {
        return Ok(false);
    }
    // Before the peer is there: whoever finds it has seen this.
    partition.note_near(F::near(announcement.peer));
    match partition::insert::<M, F>(memory, partition, announcement.peer, new_flags(announcement, minute)) {
        Ok(()) => {
            arrive::<M, F>(memory, swarm, announcement, minute);
            F::root(swarm).add(ROOT_PEER);
            Ok(true)
        }
        Err(StoreError::MemoryFull) => {
            let Some(oldest) = partition::oldest::<M, F>(memory, scratch, partition, hash, minute) else {
                return Err(StoreError::MemoryFull);
            };
            let Some((words, base)) = partition::slot::<M, F>(memory, partition, oldest) else {
                return Err(StoreError::Internal);
            };
            partition.lock.begin_change();
            evict::<M, F>(memory, swarm, words, base, announcement, minute);
            Ok(false)
        }
        Err(reason) => Err(reason),
    }
}
