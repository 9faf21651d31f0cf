//! Expiry: the daemon walks the swarm records in slices, removes peers that have been silent for too long, gives memory back,
//! sets counts right that drifted, and removes torrents that nobody has asked for.
//!
//! One thread sweeps. Everybody else goes on meanwhile: a sweep holds one lock at a time, for the time it takes to look
//! through one partition.

use super::{
    allocator as pool, directory,
    family::{Family, V4, V6},
    index,
    layout::{
        self, COUNTS_CHANGE, COUNTS_LEECHER, COUNTS_SEEDER, Counts, LEECHER, OCCUPIED, Partition, ROOT_PEER,
        SWARM_ALIVE, Swarm, unpack_counts,
    },
    lock::Lock,
    membership::leave,
    partition, resize,
};
use crate::{
    outcome::{Event, StoreError},
    platform::{Platform, acquire},
    scratch::Scratch,
    settings::Settings,
    word::Word,
};

/// Which records to sweep, and how old is too old. Times are in minutes.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// First swarm number.
    pub first: u32,
    /// How many.
    pub swarms: u32,
    /// A peer goes this long after its last announce; at most 8000.
    pub peer_timeout: u32,
    /// A torrent without peers goes this long after its last announce.
    pub idle: u32,
    /// The same for a torrent with completed downloads.
    pub idle_completed: u32,
}

/// What a sweep saw, after what it removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Torrents.
    pub torrents: u64,
    /// Seeders.
    pub seeders: u64,
    /// Leechers.
    pub leechers: u64,
    /// IPv4 peers.
    pub peers_v4: u64,
    /// IPv6 peers.
    pub peers_v6: u64,
    /// Peers removed.
    pub expired: u64,
    /// Torrents removed.
    pub removed: u64,
    /// Torrents whose counts were set right.
    pub recounted: u64,
}

/// Partitions that a sweep merges at least, if there are so many too many; and a quarter of all.
const MERGES: u32 = 16;

/// Peers seen in an area.
#[derive(Clone, Copy, Default)]
struct Seen {
    seeders: u32,
    leechers: u32,
    expired: u32,
}

impl Seen {
    fn peers(self) -> u32 {
        self.seeders + self.leechers
    }

    fn add(&mut self, other: Self) {
        self.seeders += other.seeders;
        self.leechers += other.leechers;
        self.expired += other.expired;
    }
}

/// Sweeps a slice of the store. `visit` is told of every torrent that stays.
///
/// # Errors
/// [`StoreError::Internal`] when the memory handle lacks a record that has to be there.
pub fn sweep<M: Platform>(
    memory: &M,
    sweep: &Sweep,
    mut visit: impl FnMut(&Swarm, Counts),
) -> Result<SweepReport, StoreError> {
    let (Some(pools), Some(settings), Some(scratch)) = (memory.pools(), memory.settings(), memory.scratch()) else {
        return Err(StoreError::Internal);
    };
    let minute = settings.minute.load();
    let mut report = SweepReport::default();
    let end = sweep.first.saturating_add(sweep.swarms).min(pools.swarms.fresh());
    for number in sweep.first..end {
        let Some(swarm) = memory.swarm(number) else { break };
        if swarm.active.load() & SWARM_ALIVE == 0 {
            continue;
        }
        let before = swarm.counts.load();
        let v4 = family::<M, V4>(memory, scratch, swarm, number, sweep, minute);
        let v6 = family::<M, V6>(memory, scratch, swarm, number, sweep, minute);
        let mut all = v4;
        all.add(v6);
        report.expired += u64::from(all.expired);
        if let Some(right) = drift(before, all)
            && swarm.counts.replace(before, right)
        {
            memory.event(Event::Recounted);
            report.recounted += 1;
        }
        if all.peers() == 0 && remove_if_idle(memory, settings, swarm, number, sweep, minute) {
            report.removed += 1;
            continue;
        }
        report.torrents += 1;
        report.peers_v4 += u64::from(v4.peers());
        report.peers_v6 += u64::from(v6.peers());
        report.seeders += u64::from(all.seeders);
        report.leechers += u64::from(all.leechers);
        visit(swarm, swarm.counts());
    }
    Ok(report)
}

/// Takes a lock and waits for it; the daemon may.
fn hold<M: Platform>(memory: &M, lock: &Lock) {
    while acquire(memory, lock).is_err() {}
}

/// Counts the peer in a slot that is taken; true if it has been silent for too long, and then it is counted out of the swarm.
/// The lock of the place is held.
fn is_expired<M: Platform, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    sweep: &Sweep,
    minute: u32,
    seen: &mut Seen,
) -> bool {
    let flags = F::flags_at(words, base).load();
    let expired = layout::age(flags, minute) >= sweep.peer_timeout;
    if expired {
        leave::<M, F>(memory, swarm, words, base);
        memory.event(Event::Expired);
        seen.expired += 1;
    } else if flags & LEECHER == 0 {
        seen.seeders += 1;
    } else {
        seen.leechers += 1;
    }
    expired
}

/// Expires the peers of a partition, whose lock is held: from the last to the first, as whoever goes is replaced by the last.
fn expire<M: Platform, F: Family>(
    memory: &M,
    swarm: &Swarm,
    partition: &Partition,
    sweep: &Sweep,
    minute: u32,
    seen: &mut Seen,
) {
    for number in (0..partition.peers.load()).rev() {
        let Some((words, base)) = partition::slot::<M, F>(memory, partition, number) else { continue };
        if is_expired::<M, F>(memory, swarm, words, base, sweep, minute, seen) {
            partition.lock.begin_change();
            if partition::remove::<M, F>(memory, partition, number).is_some() {
                partition::release_last::<M, F>(memory, partition);
                F::root(swarm).add(ROOT_PEER.wrapping_neg());
            }
        }
    }
}

/// Sweeps one family of a swarm.
fn family<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    sweep: &Sweep,
    minute: u32,
) -> Seen {
    let mut seen = Seen::default();
    hold(memory, &swarm.lock);
    let root = F::root(swarm).load();
    if !layout::is_root(root) {
        let words = F::inline(swarm);
        for base in (0..F::INLINE).map(|slot| slot * F::WORDS) {
            if F::flags_at(words, base).load() & OCCUPIED != 0
                && is_expired::<M, F>(memory, swarm, words, base, sweep, minute, &mut seen)
            {
                F::vacate(words, base);
            }
        }
        swarm.lock.unlock();
        return seen;
    }
    // With the swarm's lock held nobody splits; announces go on in all partitions but the one being looked through.
    let count = layout::root_partitions(root);
    for place in 0..count {
        let Some(part) = directory::lookup::<M, F>(memory, swarm, place, count) else { continue };
        let Some(partition) = memory.partition(part) else { continue };
        hold(memory, &partition.lock);
        expire::<M, F>(memory, swarm, partition, sweep, minute, &mut seen);
        partition.lock.unlock();
    }
    // A swarm with hardly anybody left in its partitions costs an announce several visits. Of many not all go at once: whoever
    // needs the swarm's lock waits meanwhile.
    let partitions = || layout::root_partitions(F::root(swarm).load());
    for _ in 0..count / 4 + MERGES {
        let needed =
            u64::from(seen.peers()) * 2 >= u64::from(partitions().wrapping_sub(1)) * u64::from(F::PER_PARTITION);
        if needed || !resize::merge::<M, F>(memory, scratch, swarm, number) {
            break;
        }
    }
    if partitions() == 1 && (seen.peers() as usize) < F::INLINE {
        resize::dissolve::<M, F>(memory, swarm, number);
    }
    swarm.lock.unlock();
    seen
}

/// The counts as they should be, if they are not what was seen. Whoever changes a peer and the counts holds a lock that the sweep
/// took in between; if the counts are still `before` when they are set right, nobody changed either while the peers were counted.
fn drift(before: u64, seen: Seen) -> Option<u64> {
    let right = (before & !(COUNTS_CHANGE - 1))
        .wrapping_add(COUNTS_CHANGE)
        .wrapping_add(u64::from(seen.seeders) * COUNTS_SEEDER + u64::from(seen.leechers) * COUNTS_LEECHER);
    (seen.expired == 0 && unpack_counts(before) != (seen.seeders, seen.leechers)).then_some(right)
}

fn remove_if_idle<M: Platform>(
    memory: &M,
    settings: &Settings,
    swarm: &Swarm,
    number: u32,
    sweep: &Sweep,
    minute: u32,
) -> bool {
    hold(memory, &swarm.lock);
    let idle = minute.wrapping_sub(swarm.active.load() & !SWARM_ALIVE);
    let limit = if swarm.completed() == 0 { sweep.idle } else { sweep.idle_completed };
    let empty = unpack_counts(swarm.counts.load()) == (0, 0)
        && !layout::is_root(V4::root(swarm).load())
        && !layout::is_root(V6::root(swarm).load())
        && vacant::<V4>(swarm)
        && vacant::<V6>(swarm);
    let gone = idle >= limit && empty && index::remove(memory, settings, swarm, number).is_ok();
    swarm.lock.unlock();
    if gone {
        pool::give_back::<M, pool::Swarms>(memory, number);
    }
    gone
}

fn vacant<F: Family>(swarm: &Swarm) -> bool {
    (0..F::INLINE).all(|slot| F::flags_at(F::inline(swarm), slot * F::WORDS).load() & OCCUPIED == 0)
}
