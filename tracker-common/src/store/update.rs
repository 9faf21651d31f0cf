//! Storing an announce: the peer is found or given a slot, the counts follow.

use super::{
    Family, Lock, PARTITIONS_MAX, Rare, SWARM_ALIVE, Swarm,
    count::{self, CHANGE},
    family::{self, COMPLETED, LEECHER, MINUTE_MASK, MINUTE_SHIFT, OCCUPIED, ROOT_PEER},
    index::{self, Place},
    partition::{self, ATTEMPTS},
    pool,
};
use crate::{
    memory::{Memory, Step},
    outcome::{Counter, Event, Reason},
    reply::Scratch,
    scrape::HASHES_AT,
    settings::Settings,
    wire::InfoHash,
    word::Word,
};

/// Chunks that the two halves of a split partition take at most, as a rule.
const SPLIT_CHUNKS: u32 = 16;

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
/// [`Reason::Contended`].
#[inline(always)]
pub fn acquire<M: Memory>(memory: &M, lock: &Lock) -> Result<(), Reason> {
    if lock.try_lock() {
        return Ok(());
    }
    let mut spin = Spin { lock, held: 0 };
    while spin.held == 0 {
        memory.repeat(SPINS, &mut spin);
        if M::BOUNDED && spin.held == 0 {
            return Err(Reason::Contended);
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

/// Stores an announce. Returns the swarm's number; `None` if the peer stopped in a torrent that is not stored, which does
/// not create it.
///
/// # Errors
/// [`Reason::TorrentsFull`], [`Reason::MemoryFull`]; [`Reason::Contended`] only where waiting is bounded.
#[inline(always)]
pub fn update<M: Memory, F: Family>(
    memory: &M,
    announcement: &Announcement<'_, F::Key>,
) -> Result<Option<u32>, Reason> {
    let (Some(settings), Some(scratch)) = (memory.settings(), memory.scratch()) else { return Err(Reason::Internal) };
    let place = Place::new(settings, announcement.info_hash);
    let mut tries = 0;
    loop {
        let result = attempt::<M, F>(memory, settings, scratch, &place, announcement);
        tries += 1;
        if M::BOUNDED || result != Err(Reason::Contended) {
            return result;
        }
        memory.pause(tries);
    }
}

/// One try; [`Reason::Contended`] also says that something changed between finding and locking.
#[inline(always)]
fn attempt<M: Memory, F: Family>(
    memory: &M,
    settings: &Settings,
    scratch: &Scratch,
    place: &Place,
    announcement: &Announcement<'_, F::Key>,
) -> Result<Option<u32>, Reason> {
    let minute = settings.minute.load();
    let number = match index::find(memory, place) {
        Some(number) => number,
        None if announcement.event == PeerEvent::Stopped => return Ok(None),
        None => {
            scratch.put(HASHES_AT, *announcement.info_hash);
            memory.rarely(Rare::Create)?
        }
    };
    let number = scratch.forget(number);
    let Some(swarm) = memory.swarm(number) else { return Err(Reason::Internal) };
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
) -> Result<bool, Reason> {
    if !index::same(swarm, place) {
        return Err(Reason::Contended);
    }
    if family::is_root(F::root(swarm).load()) {
        return Ok(false);
    }
    touch(swarm, minute);
    let words = F::inline(swarm);
    // As in `partition::scan`, the verdict goes through memory.
    scratch.found.store(u32::MAX);
    for slot in 0..F::INLINE {
        let base = slot * F::WORDS;
        if F::matches(words, base, announcement.peer) {
            scratch.found.store(base as u32);
            break;
        }
    }
    let found = scratch.found.load() as usize;
    if found <= (F::INLINE - 1) * F::WORDS {
        change::<M, F>(memory, swarm, words, found, announcement, minute);
        return Ok(true);
    }
    if announcement.event == PeerEvent::Stopped {
        return Ok(true);
    }
    for slot in 0..F::INLINE {
        let base = slot * F::WORDS;
        if F::flags_at(words, base).load() & OCCUPIED == 0 {
            scratch.found.store(base as u32);
            break;
        }
    }
    let free = scratch.found.load() as usize;
    if free <= (F::INLINE - 1) * F::WORDS {
        add::<M, F>(memory, swarm, words, free, announcement, minute);
        return Ok(true);
    }
    match memory.rarely(Rare::Found { family: F::TAG, swarm: number }) {
        Ok(_) => Ok(false),
        Err(Reason::MemoryFull) => {
            // The longest silent of the few gives way.
            partition::oldest_of::<F>(scratch, words, 0, F::INLINE, minute);
            let base = scratch.found.load() as usize;
            if base > (F::INLINE - 1) * F::WORDS {
                return Err(Reason::Internal);
            }
            evict::<M, F>(memory, swarm, words, base);
            add::<M, F>(memory, swarm, words, base, announcement, minute);
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
) -> Result<(), Reason> {
    let root = F::root(swarm);
    let seen = root.load();
    let count = family::root_partitions(seen);
    if !family::is_root(seen) || count == 0 || count > PARTITIONS_MAX {
        return Err(Reason::Contended);
    }
    let hash = F::hash(settings, announcement.peer);
    let place = scratch.forget(partition::address(hash, count));
    let Some(part) = partition::lookup::<M, F>(memory, swarm, place, count) else { return Err(Reason::Contended) };
    let part = scratch.forget(part);
    let Some(partition) = memory.partition(part) else { return Err(Reason::Contended) };
    acquire(memory, &partition.lock)?;
    // With the lock held: is this (still) the swarm, the partition and the number of partitions that led here?
    let now = root.load();
    let valid = partition::belongs::<F>(partition, number, place)
        && index::same(swarm, torrent)
        && family::is_root(now)
        && partition::address(hash, family::root_partitions(now)) == place;
    let result = if valid {
        touch(swarm, minute);
        in_partition::<M, F>(memory, scratch, swarm, partition, part, hash, announcement, minute)
    } else {
        Err(Reason::Contended)
    };
    partition.lock.unlock();
    if result? {
        let now = root.load();
        // At the memory limit a split would fail after all its work, for every new peer.
        if family::root_peers(now) > family::root_partitions(now).wrapping_mul(F::PER_PARTITION)
            && pool::has_spare::<M, F::Pool>(memory, SPLIT_CHUNKS)
            && pool::has_spare::<M, pool::Partitions>(memory, 1)
        {
            // Failure is no error: the swarm goes on with the partitions it has, and the next new peer tries again.
            let mut extra = 0;
            while extra < ATTEMPTS
                && memory.rarely(Rare::Split { family: F::TAG, swarm: number, extra }) == Err(Reason::NoRoom)
            {
                extra += 1;
            }
        }
    }
    Ok(())
}

/// The peer lives in this partition, whose lock is held. True if it is new.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "as above")]
fn in_partition<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    partition: &super::Partition,
    number: u32,
    hash: u32,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> Result<bool, Reason> {
    if let Some(position) = partition::find::<M, F>(memory, scratch, partition, number, hash, announcement.peer) {
        let Some((words, base)) = position.words::<F, M>(memory) else { return Err(Reason::Internal) };
        if change::<M, F>(memory, swarm, words, base, announcement, minute) {
            F::root(swarm).add(ROOT_PEER.wrapping_neg());
        }
        return Ok(false);
    }
    if announcement.event == PeerEvent::Stopped {
        return Ok(false);
    }
    let mut free = partition::find_free::<M, F>(memory, scratch, number, hash);
    if free.is_none() {
        let mut extra = 1;
        while extra <= ATTEMPTS
            && memory.rarely(Rare::Grow { family: F::TAG, partition: number, extra, newcomer: hash })
                == Err(Reason::NoRoom)
        {
            extra += 1;
        }
        free = partition::find_free::<M, F>(memory, scratch, number, hash);
    }
    let position = match free {
        Some(position) => {
            partition::extend_reach(scratch, partition);
            position
        }
        None => {
            let Some(position) = partition::oldest::<M, F>(memory, scratch, partition, hash, minute) else {
                return Err(Reason::MemoryFull);
            };
            let Some((words, base)) = position.words::<F, M>(memory) else { return Err(Reason::Internal) };
            evict::<M, F>(memory, swarm, words, base);
            F::root(swarm).add(ROOT_PEER.wrapping_neg());
            position
        }
    };
    let Some((words, base)) = position.words::<F, M>(memory) else { return Err(Reason::Internal) };
    add::<M, F>(memory, swarm, words, base, announcement, minute);
    F::root(swarm).add(ROOT_PEER);
    Ok(true)
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

#[inline(always)]
fn new_flags<K>(announcement: &Announcement<'_, K>, minute: u32) -> u64 {
    let leecher = if announcement.seeder { 0 } else { LEECHER };
    OCCUPIED | leecher | u64::from(minute & MINUTE_MASK) << MINUTE_SHIFT
}

/// Counts a completed download: once per peer, when it becomes a seeder with that event.
#[inline(always)]
fn complete<M: Memory>(memory: &M, swarm: &Swarm) {
    swarm.completed.add(1);
    memory.event(Event::Completed);
}

/// A known peer announces again. True if it left.
#[inline(always)]
fn change<M: Memory, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> bool {
    let old = F::flags_at(words, base).load();
    if announcement.event == PeerEvent::Stopped {
        leave::<M, F>(memory, swarm, words, base);
        return true;
    }
    let mut new = new_flags(announcement, minute) | (old & COMPLETED);
    let becomes_seeder = announcement.seeder && old & LEECHER != 0;
    if announcement.event == PeerEvent::Completed && becomes_seeder && old & COMPLETED == 0 {
        new |= COMPLETED;
        complete(memory, swarm);
    }
    F::reflag(words, base, new);
    if (old ^ new) & LEECHER != 0 {
        swarm.counts.add(CHANGE.wrapping_add(weight(new)).wrapping_sub(weight(old)));
    }
    memory.count(Counter::Renewed(family::age(old, minute)), 1);
    false
}

/// A new peer takes a free slot.
#[inline(always)]
fn add<M: Memory, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) {
    let mut flags = new_flags(announcement, minute);
    // It may have been known before a restart or before it was silent for too long.
    if announcement.event == PeerEvent::Completed && announcement.seeder {
        flags |= COMPLETED;
        complete(memory, swarm);
    }
    F::occupy(words, base, announcement.peer, flags);
    swarm.counts.add(CHANGE.wrapping_add(weight(flags)));
    memory.event(if F::TAG == 0 { Event::Peer4Added } else { Event::Peer6Added });
}

/// A peer's slot becomes free; its weight goes.
#[inline(always)]
pub(super) fn leave<M: Memory, F: Family>(memory: &M, swarm: &Swarm, words: &[Word], base: usize) {
    let flags = F::flags_at(words, base).load();
    F::vacate(words, base);
    swarm.counts.add(CHANGE.wrapping_sub(weight(flags)));
    memory.event(if F::TAG == 0 { Event::Peer4Removed } else { Event::Peer6Removed });
}

#[inline(always)]
fn evict<M: Memory, F: Family>(memory: &M, swarm: &Swarm, words: &[Word], base: usize) {
    leave::<M, F>(memory, swarm, words, base);
    memory.event(Event::Evicted);
}
