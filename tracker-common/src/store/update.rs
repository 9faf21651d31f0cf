//! Storing an announce: the peer is found or given a slot, the counts follow.

use super::{
    Family, Lock, PARTITIONS_MAX, Rare, SWARM_ALIVE, Swarm,
    count::{self, CHANGE},
    family::{self, COMPLETED, LEECHER, MINUTE, MINUTE_MASK, MINUTE_SHIFT, OCCUPIED, ROOT_PEER},
    index::{self, Place},
    partition, pool, sample,
};
use crate::{
    memory::{Memory, Step},
    outcome::{Counter, Event, StoreError},
    reply::Scratch,
    scrape::HASHES_AT,
    settings::Settings,
    wire::InfoHash,
    word::Word,
};

/// Chunks that are taken to split a partition, and a directory node, as a rule.
const SPLIT_CHUNKS: u32 = 4;

/// BEP 3 events, by their BEP 15 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A regular announce. Numbers that BEP 15 does not define count as this (BEP 21's `paused` among them).
    None,
    /// The download is complete.
    Completed,
    /// The first announce.
    Started,
    /// The peer leaves.
    Stopped,
}

impl PeerEvent {
    /// From BEP 15's number.
    #[inline(always)]
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => PeerEvent::Completed,
            2 => PeerEvent::Started,
            3 => PeerEvent::Stopped,
            _ => PeerEvent::None,
        }
    }
}

/// What an announce says.
#[derive(Clone, Copy, Debug)]
pub struct Announcement<'a, K> {
    /// The torrent.
    pub info_hash: &'a InfoHash,
    /// Source address and announced port.
    pub peer: K,
    /// Nothing is left to download.
    pub seeder: bool,
    /// Why it announces.
    pub event: PeerEvent,
}

/// Takes a lock, trying as often as this side may.
///
/// # Errors
/// [`StoreError::Contended`].
#[inline(always)]
pub fn acquire<M: Memory>(memory: &M, lock: &Lock) -> Result<(), StoreError> {
    if lock.try_lock() {
        return Ok(());
    }
    let mut spin = Spin { lock, held: 0 };
    while spin.held == 0 {
        memory.repeat(SPINS, &mut spin);
        if M::BOUNDED && spin.held == 0 {
            return Err(StoreError::Contended);
        }
    }
    Ok(())
}

/// How often a lock is tried: about two microseconds in the kernel. The longest work under a lock takes less, unless
/// a thread of the daemon was put to sleep while it held the lock.
const SPINS: u32 = 64;

struct Spin<'l> {
    lock: &'l Lock,
    held: u64,
}

impl<M: Memory> Step<M> for Spin<'_> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        memory.pause(turn + 1);
        self.held = u64::from(self.lock.try_lock());
        self.held == 0
    }
}

/// Stores an announce: [`refresh`], or else [`store`]. Returns the swarm's number; `None` if the peer stopped in a torrent that is
/// not stored, which does not create it.
///
/// # Errors
/// Those of [`store`].
#[inline(always)]
pub fn update<M: Memory, F: Family>(
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

/// Stores what nearly all announces say: that a known peer is still there. No lock is taken. Returns the swarm's number and its
/// record. `None`, and nothing that would be wrong to do again, if it is anything else or somebody is in the way: that is for
/// [`store`].
#[inline(always)]
pub fn refresh<'m, M: Memory, F: Family>(
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
    if family::is_root(root) {
        let partitions = scratch.forget(family::root_partitions(root));
        let place = partition::address(F::hash(settings, announcement.peer), partitions);
        let part = scratch.forget(partition::lookup::<M, F>(memory, swarm, place, partitions)?);
        let place = scratch.forget(place);
        let partition = memory.partition(part)?;
        let seen = partition.lock.free()?;
        if !partition::belongs::<F>(partition, number, place) || !index::same(swarm, torrent) {
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
fn renew<M: Memory, F: Family>(
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
    memory.count(Counter::Refreshed(family::age(old, minute)), 1);
    Some(())
}

/// The first word of the slot that a peer has in a swarm record.
#[inline(always)]
fn inline_slot<F: Family>(scratch: &Scratch, words: &[Word], key: F::Key) -> Option<usize> {
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

/// Stores an announce, whatever it says. The result is that of [`update`].
///
/// # Errors
/// [`StoreError::TorrentsFull`], [`StoreError::MemoryFull`]; [`StoreError::Contended`] only where waiting is bounded.
#[inline(always)]
pub fn store<M: Memory, F: Family>(
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
fn attempt<M: Memory, F: Family>(
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
    if !family::is_root(F::root(swarm).load()) {
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
fn inline<M: Memory, F: Family>(
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
    if family::is_root(F::root(swarm).load()) {
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
fn partitioned<M: Memory, F: Family>(
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
    let count = family::root_partitions(seen);
    if !family::is_root(seen) || count == 0 || count > PARTITIONS_MAX {
        return Err(StoreError::Contended);
    }
    let hash = F::hash(settings, announcement.peer);
    let place = scratch.forget(partition::address(hash, count));
    let Some(part) = partition::lookup::<M, F>(memory, swarm, place, count) else { return Err(StoreError::Contended) };
    let part = scratch.forget(part);
    let Some(partition) = memory.partition(part) else { return Err(StoreError::Contended) };
    acquire(memory, &partition.lock)?;
    // With the lock held: is this (still) the swarm, the partition and the number of partitions that led here?
    let now = root.load();
    let valid = partition::belongs::<F>(partition, number, place)
        && index::same(swarm, torrent)
        && family::is_root(now)
        && partition::address(hash, family::root_partitions(now)) == place;
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
        if family::root_peers(now) > family::root_partitions(now).wrapping_mul(F::PER_PARTITION)
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
fn in_partition<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    partition: &super::Partition,
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

/// Notes that somebody announced. A lock of the swarm is held, so that a torrent being removed is not brought back to life.
#[inline(always)]
fn touch(swarm: &Swarm, minute: u32) {
    let active = SWARM_ALIVE | minute;
    // Most of the time there is nothing to write, and the line stays shared between cores.
    if swarm.active.load() != active {
        swarm.active.store(active);
    }
}

/// What a peer with these flags adds to [`Swarm::counts`].
#[inline(always)]
fn weight(flags: u64) -> u64 {
    if flags & LEECHER == 0 { count::SEEDER } else { count::LEECHER }
}

/// The flags that an announce gives a peer by itself.
#[inline(always)]
fn announced_flags<K>(announcement: &Announcement<'_, K>, minute: u32) -> u64 {
    let leecher = if announcement.seeder { 0 } else { LEECHER };
    OCCUPIED | leecher | minute_bits(minute)
}

/// A minute as it stands in a peer's flags.
#[inline(always)]
fn minute_bits(minute: u32) -> u64 {
    u64::from(minute & MINUTE_MASK) << MINUTE_SHIFT
}

/// The flags of a peer that was not known.
#[inline(always)]
fn new_flags<K>(announcement: &Announcement<'_, K>, minute: u32) -> u64 {
    // It may have been known before a restart or before it was silent for too long.
    let completed = if completes_unknown(announcement) { COMPLETED } else { 0 };
    announced_flags(announcement, minute) | completed
}

#[inline(always)]
fn completes_unknown<K>(announcement: &Announcement<'_, K>) -> bool {
    announcement.event == PeerEvent::Completed && announcement.seeder
}

/// Counts a completed download: once per peer, when it becomes a seeder with that event.
#[inline(always)]
fn complete<M: Memory>(memory: &M, swarm: &Swarm) {
    swarm.completed.add(1);
    memory.event(Event::Completed);
}

/// A known peer announces again. True if it leaves, which is left to the caller.
#[inline(always)]
fn change<M: Memory, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> bool {
    if announcement.event == PeerEvent::Stopped {
        return true;
    }
    let old = F::flags_at(words, base).load();
    let mut new = announced_flags(announcement, minute) | (old & COMPLETED);
    let becomes_seeder = announcement.seeder && old & LEECHER != 0;
    if announcement.event == PeerEvent::Completed && becomes_seeder && old & COMPLETED == 0 {
        new |= COMPLETED;
        complete(memory, swarm);
    }
    F::reflag(words, base, new);
    if (old ^ new) & LEECHER != 0 {
        swarm.counts.add(CHANGE.wrapping_add(weight(new)).wrapping_sub(weight(old)));
    }
    memory.count(Counter::Refreshed(family::age(old, minute)), 1);
    false
}

/// Counts a new peer, and returns its flags.
#[inline(always)]
fn arrive<M: Memory, F: Family>(
    memory: &M,
    swarm: &Swarm,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> u64 {
    let flags = new_flags(announcement, minute);
    if completes_unknown(announcement) {
        complete(memory, swarm);
    }
    swarm.counts.add(CHANGE.wrapping_add(weight(flags)));
    memory.event(Event::peer_added(F::VERSION));
    flags
}

/// Counts a peer that leaves its slot.
#[inline(always)]
pub(super) fn leave<M: Memory, F: Family>(memory: &M, swarm: &Swarm, words: &[Word], base: usize) {
    let flags = F::flags_at(words, base).load();
    swarm.counts.add(CHANGE.wrapping_sub(weight(flags)));
    memory.event(Event::peer_removed(F::VERSION));
}

/// A new peer gets the slot of an old one.
#[inline(always)]
fn evict<M: Memory, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) {
    leave::<M, F>(memory, swarm, words, base);
    memory.event(Event::Evicted);
    F::occupy(words, base, announcement.peer, arrive::<M, F>(memory, swarm, announcement, minute));
}
