//! The sweep: the daemon goes through the swarm records batch by batch, removes peers that have
//! been silent for too long or whose addresses are blocked, gives memory back, sets counts right that drifted, and removes
//! torrents that nobody has asked for.
//!
//! One thread sweeps. Everybody else goes on meanwhile. The sweep holds a swarm's lock while it
//! looks through all its partitions, and one partition's lock at a time.

use super::{
    directory,
    family::{Family, V4, V6},
    hash::TorrentKey,
    index,
    journal::Place,
    layout::{Counts, ONE_CHANGE, ONE_LEECHER, ONE_SEEDER, SWARM_ALIVE, Swarm, unpack_counts},
    list::{self, List},
    lock::Lock,
    membership::count_out,
    record::list_capacity,
    resize::{list_to_slots, merge, partition_to_list, peers_per_partition},
    slot::{LEECHER, MINUTE_MASK, Slot, age},
};
use crate::{
    admission::blocklist,
    outcome::Event,
    platform::{Context, Platform, SwarmRef},
};

/// How old is too old, in minutes.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// A peer goes this long after its last announce; at most [`OLDEST`], and beyond that never.
    pub peer_timeout: u32,
    /// A torrent without peers goes this long after its last announce.
    pub idle: u32,
    /// The same for a torrent with completed downloads.
    pub idle_completed: u32,
}

/// Which records to sweep, and how old is too old.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// First swarm number ([`crate::id::SwarmId::number`]).
    pub first: u32,
    /// The number behind the last one.
    pub end: u32,
    /// How old is too old.
    pub ages: Ages,
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

/// Minutes of silence beyond which a peer has not been silent, but has announced in a minute that has begun
/// since the clock was read.
pub const OLDEST: u32 = MINUTE_MASK - 7;

/// Partitions that a sweep merges at least, if there are so many too many; and a quarter of all.
const MERGES: u32 = 16;

/// Peers seen in a place.
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

/// Sweeps a batch. `visit` is told of every torrent that stays.
pub fn sweep<P: Platform>(cx: &Context<'_, P>, batch: &Batch, mut visit: impl FnMut(&Swarm, Counts)) -> SweepReport {
    let sweep = Sweep::new(cx, &batch.ages, None);
    let mut report = SweepReport::default();
    let mut from = batch.first;
    while let Some(swarm) = index::next(|number| cx.platform.bucket(number), from, batch.end) {
        from = swarm.id.number() + 1;
        sweep.swarm(swarm, &mut report, &mut visit);
    }
    report
}

/// Sweeps one torrent, if it is still in this record.
pub fn sweep_torrent<P: Platform>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    torrent: &TorrentKey,
    ages: &Ages,
) -> SweepReport {
    let mut report = SweepReport::default();
    Sweep::new(cx, ages, Some(torrent)).swarm(swarm, &mut report, &mut |_, _| {});
    report
}

/// A sweep under way.
struct Sweep<'s, 'm, P> {
    cx: &'s Context<'m, P>,
    ages: &'s Ages,
    /// Whether there are blocked addresses.
    blocked: bool,
    /// Nothing is done to any other.
    torrent: Option<&'s TorrentKey>,
}

impl<'s, 'm, P: Platform> Sweep<'s, 'm, P> {
    fn new(cx: &'s Context<'m, P>, ages: &'s Ages, torrent: Option<&'s TorrentKey>) -> Self {
        Self { cx, ages, blocked: cx.settings.blocked.load() != 0, torrent }
    }

    /// Whether the record is that of a torrent to be swept: others may have removed it, and stored
    /// another one there, since it was found. It stays so only while its lock is held.
    fn is_wanted(&self, swarm: &Swarm) -> bool {
        let is_alive = swarm.active.load() & SWARM_ALIVE != 0;
        is_alive && self.torrent.is_none_or(|torrent| torrent.matches(swarm))
    }

    fn swarm(&self, swarm: SwarmRef<'_>, report: &mut SweepReport, visit: &mut impl FnMut(&Swarm, Counts)) {
        if !self.is_wanted(swarm.record) {
            return;
        }
        let before = swarm.record.counts.load();
        let v4 = self.family::<V4>(swarm);
        let v6 = self.family::<V6>(swarm);
        let mut all = v4;
        all.add(v6);
        report.expired += u64::from(all.expired);
        if !self.is_wanted(swarm.record) {
            return;
        }
        if let Some(right) = drift(before, all)
            && swarm.record.counts.replace(before, right)
        {
            self.cx.platform.event(Event::Recounted);
            report.recounted += 1;
        }
        if all.peers() == 0 && self.remove_if_idle(swarm) {
            report.removed += 1;
            return;
        }
        report.torrents += 1;
        report.peers_v4 += u64::from(v4.peers());
        report.peers_v6 += u64::from(v6.peers());
        report.seeders += u64::from(all.seeders);
        report.leechers += u64::from(all.leechers);
        visit(swarm.record, swarm.record.counts());
    }

    /// Takes a lock and waits for it; the daemon may.
    fn hold(&self, lock: &Lock, place: Place) {
        while self.cx.platform.acquire(lock, place).is_err() {}
    }

    /// Counts the peer in a slot. True if it has been silent for too long, or its address is blocked,
    /// and then it is counted out of the swarm. The lock of the place is held.
    fn is_expired<F: Family>(&self, swarm: &Swarm, slot: Slot<'_, F>, seen: &mut Seen) -> bool {
        let flags = slot.flags();
        let blocked = self.blocked && blocklist::find(self.cx, F::ip(slot.key())) != 0;
        let age = age(flags, self.cx.minute());
        let silent = age >= self.ages.peer_timeout && (age <= OLDEST || self.ages.peer_timeout == 0);
        let expired = blocked || silent;
        if expired {
            count_out(self.cx.platform, swarm, slot);
            self.cx.platform.event(if blocked { Event::PeerBlocked } else { Event::Expired });
            seen.expired += 1;
        } else if flags & LEECHER == 0 {
            seen.seeders += 1;
        } else {
            seen.leechers += 1;
        }
        expired
    }

    /// Expires the peers of a list, whose lock is held: from the last to the first, as a peer that
    /// goes is replaced by the last.
    fn list<F: Family, L: List<F>>(&self, swarm: &Swarm, list: &L, seen: &mut Seen) {
        let platform = self.cx.platform;
        for number in (0..list.peers()).rev() {
            let Some(slot) = list::slot::<P, F, L>(platform, list, number) else { continue };
            if self.is_expired(swarm, slot, seen) {
                list.lock().begin_change();
                if list::remove::<P, F, L>(platform, list, number).is_some() {
                    list::release_last::<P, F, L>(platform, list);
                    L::count_in_swarm(swarm, 1_u64.wrapping_neg());
                }
            }
        }
    }

    /// Sweeps one family of a swarm.
    fn family<F: Family>(&self, swarm: SwarmRef<'_>) -> Seen {
        let mut seen = Seen::default();
        self.hold(&swarm.record.lock, Place::Swarm(swarm.id));
        match F::directory(swarm.record) {
            _ if !self.is_wanted(swarm.record) => {}
            None => self.slots::<F>(swarm.record, &mut seen),
            Some(header) if header.is_list() => self.list::<F, _>(swarm.record, swarm.record, &mut seen),
            Some(header) => self.partitions::<F>(swarm, header.partitions, &mut seen),
        }
        if F::is_list(swarm.record) && (seen.peers() as usize) < F::RECORD_SLOTS {
            list_to_slots::<P, F>(self.cx, swarm);
        }
        self.cx.platform.release(&swarm.record.lock);
        seen
    }

    /// Expires the peers in the slots of a swarm record, whose lock is held.
    fn slots<F: Family>(&self, swarm: &Swarm, seen: &mut Seen) {
        for slot in (0..F::RECORD_SLOTS).map(|number| F::record(swarm).slot(number)) {
            if slot.is_occupied() && self.is_expired(swarm, slot, seen) {
                // So that an announce that takes no lock notices it ([`super::lock::Free::still_holds`]).
                swarm.lock.begin_change();
                slot.vacate();
            }
        }
    }

    /// Expires the peers in the partitions of a swarm, and merges partitions if there are too many.
    /// With the swarm's lock held no thread splits; announces go on in all partitions but the one
    /// being looked through.
    fn partitions<F: Family>(&self, swarm: SwarmRef<'_>, count: u32, seen: &mut Seen) {
        for index in 0..count {
            let Some(id) = directory::find::<P, F>(self.cx.platform, swarm.record, index, count) else { continue };
            let Some(partition) = self.cx.platform.partition(id) else { continue };
            self.hold(&partition.lock, Place::Partition(id));
            self.list::<F, _>(swarm.record, partition, seen);
            self.cx.platform.release(&partition.lock);
        }
        // A swarm with few peers left in its partitions costs an announce several of them, and a
        // list has none. Of many not all go at once: others that need the swarm's lock wait
        // meanwhile.
        let few = seen.peers() <= list_capacity::<F>() / 2;
        let partitions = || F::directory(swarm.record).map_or(0, |header| header.partitions);
        for _ in 0..count / 4 + MERGES {
            let room = u64::from(partitions().wrapping_sub(1)) * u64::from(peers_per_partition(F::VERSION));
            if (!few && u64::from(seen.peers()) * 2 >= room) || !merge::<P, F>(self.cx, swarm) {
                break;
            }
        }
        if few && partitions() == 1 {
            partition_to_list::<P, F>(self.cx, swarm);
        }
    }

    /// Removes a torrent that has no peers and was not asked for long enough.
    fn remove_if_idle(&self, swarm: SwarmRef<'_>) -> bool {
        let record = swarm.record;
        self.hold(&record.lock, Place::Swarm(swarm.id));
        let idle = record.idle_minutes(self.cx.minute());
        let limit = if record.completed() == 0 { self.ages.idle } else { self.ages.idle_completed };
        let empty = unpack_counts(record.counts.load()) == (0, 0) && is_vacant::<V4>(record) && is_vacant::<V6>(record);
        let gone = self.is_wanted(record) && idle >= limit && empty && index::remove(self.cx, swarm).is_ok();
        self.cx.platform.release(&record.lock);
        gone
    }
}

/// The counts as they should be, if they are not what was seen. Whoever changes a peer and the
/// counts holds a lock that the sweep took in between; if the counts are still `before` when they
/// are set right, neither was changed while the peers were counted.
fn drift(before: u64, seen: Seen) -> Option<u64> {
    let right = (before & !(ONE_CHANGE - 1))
        .wrapping_add(ONE_CHANGE)
        .wrapping_add(u64::from(seen.seeders) * ONE_SEEDER + u64::from(seen.leechers) * ONE_LEECHER);
    (seen.expired == 0 && unpack_counts(before) != (seen.seeders, seen.leechers)).then_some(right)
}

/// Whether a family has neither partitions nor peers in the record.
fn is_vacant<F: Family>(swarm: &Swarm) -> bool {
    F::directory(swarm).is_none() && (0..F::RECORD_SLOTS).all(|number| !F::record(swarm).slot(number).is_occupied())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            membership::{Announce, PeerEvent},
            owner::Owner,
            tests::{Peers, ROOMY, torrent},
            upsert,
        },
        *,
    };
    use crate::host::{FIRST_MINUTE, HostStore};

    #[test]
    fn a_peer_and_then_its_torrent_go_with_the_minute_that_they_may() {
        const AGES: Ages = Ages { peer_timeout: 45, idle: 60, idle_completed: 100 };
        // (the last thing that a seeder says, minutes, torrents left, peers left)
        for (says, minutes, torrents, peers) in [
            (PeerEvent::Started, 44, 1, 1),
            (PeerEvent::Started, 45, 1, 0),
            (PeerEvent::Started, 59, 1, 0),
            (PeerEvent::Started, 60, 0, 0),
            (PeerEvent::Completed, 60, 1, 0),
            (PeerEvent::Completed, 99, 1, 0),
            (PeerEvent::Completed, 100, 0, 0),
            (PeerEvent::Stopped, 59, 1, 0),
            (PeerEvent::Stopped, 60, 0, 0),
        ] {
            let store = HostStore::new(&ROOMY, 1);
            let platform = store.platform(1);
            let cx = platform.context();
            for event in [PeerEvent::Started, says] {
                let seeder = event != PeerEvent::Started;
                let announce =
                    Announce { info_hash: &torrent(0), peer: V6::peer(1), seeder, event, owner: Owner::NONE };
                upsert::announce::<_, V6>(&cx, &announce).expect("room");
            }
            store.settings().minute.store(FIRST_MINUTE + minutes);
            let report = sweep(&cx, &Batch { first: 0, end: u32::MAX, ages: AGES }, |_, _| {});
            let left = (report.torrents, report.peers_v6);
            assert_eq!(left, (torrents, peers), "{says:?}, {minutes} minutes later");
            assert_eq!(report.removed, 1 - torrents);
            assert_eq!(report.expired, u64::from(says != PeerEvent::Stopped) - peers);
            let found = index::find(&cx, &TorrentKey::new(cx.settings, &torrent(0)));
            assert_eq!(found.is_some(), torrents == 1);
        }
    }

    #[test]
    fn counts_are_set_right_only_when_nobody_has_changed_them() {
        let word = |seeders: u64, leechers: u64| seeders * ONE_SEEDER + leechers * ONE_LEECHER + 9 * ONE_CHANGE;
        let seen = |seeders, leechers, expired| Seen { seeders, leechers, expired };
        // (counts, seen, right)
        for (before, seen, right) in [
            (word(2, 3), seen(2, 3, 0), None),
            (word(2, 3), seen(1, 3, 1), None),
            (word(2, 3), seen(3, 3, 0), Some(word(3, 3) + ONE_CHANGE)),
            (word(0, 1), seen(0, 0, 0), Some(word(0, 0) + ONE_CHANGE)),
        ] {
            assert_eq!(drift(before, seen), right);
        }
    }

    /// The clock of the rows stands still while the sweep goes on: an announce is ahead of it.
    #[test]
    fn who_announces_in_a_minute_that_the_sweep_does_not_know_yet_stays() {
        const AGES: Ages = Ages { peer_timeout: 45, idle: 60, idle_completed: 100 };
        // (minutes ahead, whether it announces or has left then)
        for (ahead, stays) in [(0, true), (1, true), (5, true), (0, false), (1, false), (5, false)] {
            let store = HostStore::new(&ROOMY, 1);
            let platform = store.platform(1);
            let cx = platform.context();
            store.settings().minute.store(FIRST_MINUTE + ahead);
            for event in if stays { &[PeerEvent::Started][..] } else { &[PeerEvent::Started, PeerEvent::Stopped] } {
                let (peer, owner) = (V6::peer(1), Owner::NONE);
                let announce = Announce { info_hash: &torrent(0), peer, seeder: false, event: *event, owner };
                upsert::announce::<_, V6>(&cx, &announce).expect("room");
            }
            store.settings().minute.store(FIRST_MINUTE);
            let report = sweep(&cx, &Batch { first: 0, end: u32::MAX, ages: AGES }, |_, _| {});
            assert_eq!((report.torrents, report.peers_v6), (1, u64::from(stays)), "{ahead} {stays}");
        }
    }

    /// As it is when somebody evicts it between the sweep's looks.
    #[test]
    fn a_torrent_that_is_gone_already_is_not_removed_again() {
        const AGES: Ages = Ages { peer_timeout: 45, idle: 60, idle_completed: 100 };
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        for number in 0..15 {
            let (peer, event, owner) = (V6::peer(1), PeerEvent::Started, Owner::NONE);
            let announce = Announce { info_hash: &torrent(number), peer, seeder: false, event, owner };
            upsert::announce::<_, V6>(&cx, &announce).expect("room");
            let stopped = Announce { event: PeerEvent::Stopped, ..announce };
            upsert::announce::<_, V6>(&cx, &stopped).expect("known");
        }
        let find = |number| index::find(&cx, &TorrentKey::new(cx.settings, &torrent(number)));
        let gone = find(7).expect("stored");
        assert_eq!(index::remove(&cx, gone), Ok(()));
        let all = Sweep::new(&cx, &AGES, None);
        store.settings().minute.store(FIRST_MINUTE + 60);
        assert!(!all.remove_if_idle(gone), "it is not there");
        assert_eq!(store.pools().swarms.used(), 14);
        for number in (0..15).filter(|number| *number != 7) {
            assert!(find(number).is_some(), "{number}");
        }
        let key = |number| TorrentKey::new(cx.settings, &torrent(number));
        let swept = |number, of| sweep_torrent(&cx, find(number).expect("stored"), &key(of), &AGES).removed;
        assert_eq!([swept(8, 9), swept(8, 8)], [0, 1], "only the torrent that is meant");
    }
}
