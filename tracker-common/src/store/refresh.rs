//! A known peer announces again: what nearly all announces are, done without a lock.

use super::{
    directory,
    family::Family,
    index::{self, Place},
    layout::{self, LEECHER, MINUTE, OCCUPIED, SWARM_ALIVE, Swarm, minute_bits},
    linear_hash,
    lock::Lock,
    membership::{Announcement, PeerEvent},
    partition, sample,
};
use crate::{outcome::Counter, platform::Platform, scratch::Scratch, settings::Settings, word::Word};

/// Stores what nearly all announces say: that a known peer is still there. No lock is taken. Returns the swarm's number and its
/// record. `None`, and nothing that would be wrong to do again, if it is anything else or somebody is in the way: that is for
/// [`super::upsert::store`].
#[inline(always)]
pub fn refresh<'m, M: Platform, F: Family>(
    memory: &'m M,
    torrent: &Place,
    announcement: &Announcement<'_, F::Key>,
) -> Option<(u32, &'m Swarm)> {
    let (settings, scratch) = (memory.settings()?, memory.scratch()?);
    if announcement.event == PeerEvent::Stopped {
        return None;
    }
    let (number, swarm) = index::find(memory, torrent)?;
    let root = F::root(swarm).load();
    if M::HURRIED {
        // What the sample will need can be on its way meanwhile.
        sample::prepare::<M, F>(memory, scratch, number, swarm, root);
    }
    if layout::is_root(root) {
        let partitions = scratch.forget(layout::root_partitions(root));
        let place = linear_hash::address(F::hash(settings, announcement.peer), partitions);
        let part = scratch.forget(directory::lookup::<M, F>(memory, swarm, place, partitions)?);
        let place = scratch.forget(place);
        let partition = memory.partition(part)?;
        let seen = partition.lock.free()?;
        if !directory::belongs::<F>(partition, number, place) || !index::same(swarm, torrent) {
            return None;
        }
        let found = scratch.forget(partition::find::<M, F>(memory, scratch, partition, announcement.peer)?);
        let (words, base) = partition::slot::<M, F>(memory, partition, found)?;
        renew::<M, F>(memory, settings, swarm, &partition.lock, seen, words, base, announcement)?;
    } else {
        let seen = swarm.lock.free()?;
        if !index::same(swarm, torrent) {
            return None;
        }
        let words = F::inline(swarm);
        let base = inline_slot::<F>(scratch, words, announcement.peer)?;
        renew::<M, F>(memory, settings, swarm, &swarm.lock, seen, words, base, announcement)?;
    }
    Some((number, swarm))
}

/// Sets the minute of a known peer, if nothing else about it changes.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what was looked up once is handed on, not looked up again")]
fn renew<M: Platform, F: Family>(
    memory: &M,
    settings: &Settings,
    swarm: &Swarm,
    lock: &Lock,
    seen: u32,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
) -> Option<()> {
    let minute = settings.minute.load();
    let word = F::flags_at(words, base);
    let old = word.load();
    let new = (old & !MINUTE) | minute_bits(minute);
    // A peer that becomes a seeder changes the counts as well.
    if (old & LEECHER == 0) != announcement.seeder || old & OCCUPIED == 0 {
        return None;
    }
    if old != new && !word.replace(old, new) {
        return None;
    }
    let active = swarm.active.load();
    if active != SWARM_ALIVE | minute {
        // A torrent that has been removed meanwhile must not come back to life.
        if active & SWARM_ALIVE == 0 || !swarm.active.replace(active, SWARM_ALIVE | minute) {
            return None;
        }
    }
    if !lock.untouched_since(seen) {
        return None;
    }
    memory.count(Counter::Refreshed(layout::age(old, minute)), 1);
    Some(())
}

/// The first word of the slot that a peer has in a swarm record.
#[inline(always)]
pub(super) fn inline_slot<F: Family>(scratch: &Scratch, words: &[Word], key: F::Key) -> Option<usize> {
    // As in `partition::find`, the verdict goes through memory.
    scratch.found_slot.store(u32::MAX);
    for slot in 0..F::INLINE {
        if F::matches(words, slot * F::WORDS, key) {
            scratch.found_slot.store((slot * F::WORDS) as u32);
            break;
        }
    }
    let found = scratch.found_slot.load() as usize;
    if found <= (F::INLINE - 1) * F::WORDS { Some(found) } else { None }
}
