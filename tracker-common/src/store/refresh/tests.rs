use super::{
    super::{
        family::{V4, V6},
        layout::{Partition, RECORD_ENTRIES},
        slot::{COMPLETED, minute_bits},
        tests::{Peers, ROOMY, grown, peers, torrent},
    },
    *,
};
use crate::{
    host::{FIRST_MINUTE, HostPlatform, HostStore},
    store::owner::Owner,
};

fn refreshed<F: Peers>(
    platform: &HostPlatform<'_>,
    swarm: SwarmRef<'_>,
    peer: u32,
    (seeder, event): (bool, PeerEvent),
) -> bool {
    let cx = platform.context();
    let info_hash = torrent(0);
    let announce = Announce { info_hash: &info_hash, peer: F::peer(peer), seeder, event, owner: Owner::NONE };
    let torrent = TorrentKey::new(cx.settings, &info_hash);
    refresh::<_, F>(&cx, swarm, F::directory(swarm.record), &torrent, &announce).is_some()
}

/// Sizes of swarms in the record's slots, in lists that the record names, and in partitions.
fn sizes<F: Peers>() -> [(u32, u32); 5] {
    let slots = F::RECORD_SLOTS as u32;
    // (peers, partitions at most)
    [(slots, 0), (slots + 1, 0), (128, 0), (slots + 1, 1), (300, 64)]
}

/// The partitions of torrent 0.
fn partitions<'p>(platform: &'p HostPlatform<'_>) -> impl Iterator<Item = &'p Partition> {
    let fresh = platform.store().pools().partitions.fresh.load();
    (0..fresh).filter_map(|number| platform.partition(PartitionId::new(number)))
}

fn known<F: Peers>() {
    for (count, most) in sizes::<F>() {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, most);
        let counts = swarm.record.counts.load();
        // (minutes that have passed, the age that is counted)
        let mut minute = FIRST_MINUTE;
        for (passed, age) in [(3, 3), (0, 0), (1, 1), (40, 40)] {
            minute += passed;
            store.settings().minute.store(minute);
            let counted = platform.counted(Counter::Refreshed(age));
            for event in [PeerEvent::None, PeerEvent::Started, PeerEvent::Completed] {
                let before = peers::<_, F>(&cx, swarm);
                for peer in 0..count {
                    assert!(refreshed::<F>(&platform, swarm, peer, (false, event)), "{peer} of {count}");
                }
                let expected = before
                    .into_iter()
                    .map(|(peer, (flags, index))| (peer, ((flags & !MINUTE) | minute_bits(minute), index)));
                assert_eq!(peers::<_, F>(&cx, swarm), expected.collect(), "only the minute is another one");
            }
            let zero = if age == 0 { 3 } else { 1 };
            assert_eq!(platform.counted(Counter::Refreshed(age)) - counted, u64::from(count * zero));
            assert_eq!(swarm.record.active.load(), SWARM_ALIVE | SWARM_SETTLED | minute);
        }
        assert_eq!(swarm.record.counts.load(), counts);
    }
}

#[test]
fn a_known_peer_gets_the_present_minute() {
    known::<V4>();
    known::<V6>();
}

fn refused<F: Peers>() {
    /// Something that happens before the announce.
    type Change = fn(&HostPlatform<'_>, SwarmRef<'_>);
    let nothing: Change = |_, _| {};
    let held: Change = |platform, swarm| {
        assert!(swarm.record.lock.try_lock() && partitions(platform).all(|partition| partition.lock.try_lock()));
    };
    let changing: Change = |platform, swarm| {
        swarm.record.lock.begin_change();
        partitions(platform).for_each(|partition| partition.lock.begin_change());
    };
    let removed: Change = |_, swarm| swarm.record.active.store(0);
    let given_away: Change = |_, swarm| swarm.record.info_hash[4].store(7);
    let (regular, seeder) = ((false, PeerEvent::None), (true, PeerEvent::None));
    for (name, change, peer, announce, expected) in [
        ("nothing in the way", nothing, 1, regular, true),
        ("it stops", nothing, 1, (false, PeerEvent::Stopped), false),
        ("it is not known", nothing, 1000, regular, false),
        ("it becomes a seeder", nothing, 1, seeder, false),
        ("it completes", nothing, 1, (true, PeerEvent::Completed), false),
        ("the lock is held", held, 1, regular, false),
        ("the structure is being changed", changing, 1, regular, false),
        ("the torrent was removed", removed, 1, regular, false),
        ("the record is another torrent's", given_away, 1, regular, false),
    ] {
        for (count, most) in sizes::<F>() {
            let store = HostStore::new(&ROOMY, 1);
            let platform = store.platform(1);
            let cx = platform.context();
            let swarm = grown::<_, F>(&cx, count, most);
            store.settings().minute.store(FIRST_MINUTE + 3);
            change(&platform, swarm);
            let state =
                || (peers::<_, F>(&cx, swarm), swarm.record.active.load(), platform.counted(Counter::Refreshed(3)));
            let before = state();
            assert_eq!(refreshed::<F>(&platform, swarm, peer, announce), expected, "{name}, {count} peers");
            assert_eq!(state() != before, expected, "{name}, {count} peers");
        }
    }
}

#[test]
fn whatever_is_more_than_a_new_minute_is_refused_and_changes_nothing() {
    refused::<V4>();
    refused::<V6>();
}

/// `disguise` makes another peer of one; whether the one behind it is refreshed all the same.
fn behind_another<F: Peers>(disguise: fn(F::Key) -> F::Key, expected: bool) {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let swarm = grown::<_, F>(&cx, 40, 0);
    store.settings().minute.store(FIRST_MINUTE + 3);
    let first = list::slot::<_, F, _>(&platform, swarm.record, 0).expect("a list");
    first.occupy(disguise(F::peer(7)), first.flags());
    let before = peers::<_, F>(&cx, swarm);
    assert_eq!(refreshed::<F>(&platform, swarm, 7, (false, PeerEvent::None)), expected);
    assert_eq!(peers::<_, F>(&cx, swarm) != before, expected);
    assert!(refreshed::<F>(&platform, swarm, 8, (false, PeerEvent::None)), "others are");
}

#[test]
fn a_peer_behind_one_that_resembles_it_is_left_to_the_store() {
    behind_another::<V4>(|key| key ^ 0x0101, false);
    behind_another::<V4>(|key| key ^ 0x01_0000, true);
    behind_another::<V4>(|key| key ^ 1 << 47, true);
    behind_another::<V6>(|[first, second, third]| [first ^ 1 << 40, second, third], true);
    behind_another::<V6>(|[first, second, third]| [first, second ^ 1, third], true);
    behind_another::<V6>(|[first, second, third]| [first, second, third ^ 1], true);
}

fn places<F: Peers>() {
    /// Something that happens to the swarm or to its only partition.
    type Change = fn(&Partition, SwarmRef<'_>);
    let rows: [(&str, Change, bool); 6] = [
        ("the lock of the swarm is held", |_, swarm| assert!(swarm.record.lock.try_lock()), true),
        ("the lock of the partition is held", |partition, _| assert!(partition.lock.try_lock()), false),
        ("the partition holds other scopes", |partition, _| partition.add_scopes(7), true),
        ("the partition is another swarm's", |partition, swarm| partition.owner.store(swarm.id.stored() + 1), false),
        ("the partition is free", |partition, _| partition.owner.store(0), false),
        ("the partition is another one", |partition, _| partition.index.store(F::TAG | 1), false),
    ];
    for (name, change, expected) in rows {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let swarm = grown::<_, F>(&platform.context(), F::RECORD_SLOTS as u32 + 1, 1);
        change(partitions(&platform).next().expect("a partition"), swarm);
        assert_eq!(refreshed::<F>(&platform, swarm, 1, (false, PeerEvent::None)), expected, "{name}");
    }
}

#[test]
fn the_partition_has_to_be_the_right_one_and_its_own_lock_free() {
    places::<V4>();
    places::<V6>();
}

fn meanwhile<F: Peers>() {
    /// Something that happens between finding the peer and setting its minute.
    type Change = fn(SwarmRef<'_>);
    let nothing: Change = |_| {};
    let held: Change = |swarm| assert!(swarm.record.lock.try_lock());
    let was_held: Change = |swarm| {
        assert!(swarm.record.lock.try_lock());
        swarm.record.lock.unlock();
    };
    let changed: Change = |swarm| {
        assert!(swarm.record.lock.try_lock());
        swarm.record.lock.begin_change();
        swarm.record.lock.unlock();
    };
    let gone: Change = |swarm| F::record(swarm.record).slot(0).vacate();
    let removed: Change = |swarm| swarm.record.active.store(FIRST_MINUTE);
    for (name, change, expected) in [
        ("nothing", nothing, true),
        ("the lock is held", held, false),
        ("the lock was held", was_held, true),
        ("the structure has changed", changed, false),
        ("the peer has left", gone, false),
        ("the torrent was removed", removed, false),
    ] {
        for seeder in [false, true] {
            let store = HostStore::new(&ROOMY, 1);
            let platform = store.platform(1);
            let cx = platform.context();
            let swarm = grown::<_, F>(&cx, 1, 0);
            let slot = F::record(swarm.record).slot(0);
            slot.set_flags(if seeder { slot.flags() & !LEECHER } else { slot.flags() });
            store.settings().minute.store(FIRST_MINUTE + 3);
            let free = swarm.record.lock.free().expect("nobody holds it");
            change(swarm);
            let info_hash = torrent(0);
            let announce = Announce {
                info_hash: &info_hash,
                peer: F::peer(0),
                seeder,
                event: PeerEvent::None,
                owner: Owner::NONE,
            };
            assert_eq!(refresh_slot(&cx, swarm, slot, free, &announce).is_some(), expected, "{name}");
            assert_eq!(platform.counted(Counter::Refreshed(3)), u64::from(expected), "{name}");
            // Whoever removes a torrent gives its record away.
            assert_eq!(swarm.record.active.load() & SWARM_ALIVE == 0, name == "the torrent was removed");
        }
    }
}

#[test]
fn what_happens_meanwhile_is_noticed() {
    meanwhile::<V4>();
    meanwhile::<V6>();
}

fn told<F: Peers>() {
    for (count, most) in sizes::<F>() {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, most);
        let mut minute = FIRST_MINUTE;
        // (told every so many minutes, minutes that have passed, whether each is told of)
        for (every, passed, expected) in
            [(0, 30, false), (10, 0, false), (10, 10, true), (10, 0, false), (10, 29, true)]
        {
            minute += passed;
            store.settings().minute.store(minute);
            store.settings().tell_every.store(every);
            for peer in 0..count {
                assert!(refreshed::<F>(&platform, swarm, peer, (false, PeerEvent::None)), "{peer} of {count}");
                let changes: Vec<_> = platform.told().iter().map(|change| (change.info_hash, change.kind)).collect();
                let one = (torrent(0), crate::change::Kind::Leecher as u8);
                assert_eq!(changes, Vec::from_iter(expected.then_some(one)), "every {every}, after {passed}");
            }
        }
        // What has to be stored under a lock is told of by whoever does that.
        store.settings().minute.store(minute + 30);
        for (seeder, event) in [(true, PeerEvent::None), (false, PeerEvent::Stopped)] {
            assert!(!refreshed::<F>(&platform, swarm, 0, (seeder, event)));
            assert_eq!(platform.told(), []);
        }
        assert!(swarm.record.lock.try_lock());
        let in_partitions = F::directory(swarm.record).is_some_and(|header| header.partitions != 0);
        assert_eq!(refreshed::<F>(&platform, swarm, 0, (false, PeerEvent::None)), in_partitions);
        assert_eq!(
            platform.told().len(),
            usize::from(in_partitions),
            "its own lock is held, or that of its partition not"
        );
    }
}

#[test]
fn a_known_peer_is_told_of_without_a_lock_when_it_is_time() {
    told::<V4>();
    told::<V6>();
}

fn seeders<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let swarm = grown::<_, F>(&platform.context(), F::RECORD_SLOTS as u32, 0);
    for flags in [OCCUPIED, OCCUPIED | COMPLETED] {
        F::record(swarm.record).slot(1).set_flags(flags);
        // (seeder, event, refreshed)
        for (seeder, event, expected) in [
            (true, PeerEvent::None, true),
            (true, PeerEvent::Completed, true),
            (false, PeerEvent::None, false),
            (true, PeerEvent::Stopped, false),
        ] {
            assert_eq!(refreshed::<F>(&platform, swarm, 1, (seeder, event)), expected, "{seeder} {event:?}");
        }
        assert_eq!(F::record(swarm.record).slot(1).flags() & super::super::slot::FLAGS & !MINUTE, flags);
    }
}

#[test]
fn a_seeder_stays_one_or_is_refused() {
    seeders::<V4>();
    seeders::<V6>();
}

fn outdated<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let swarm = grown::<_, F>(&cx, 300, 3);
    let info_hash = torrent(0);
    let torrent = TorrentKey::new(cx.settings, &info_hash);
    // A directory with more or fewer partitions than there are: only peers for whom that makes no
    // difference are found.
    for partitions in [1, 2, 3, 4, 7, RECORD_ENTRIES] {
        let directory = Some(DirectoryHeader { peers: 300, partitions });
        for peer in (0..300).map(F::peer) {
            let announce =
                Announce { info_hash: &info_hash, peer, seeder: false, event: PeerEvent::None, owner: Owner::NONE };
            let hash = F::hash(cx.settings, peer);
            let expected = partition_of(hash, partitions) == partition_of(hash, 3);
            let found = refresh::<_, F>(&cx, swarm, directory, &torrent, &announce).is_some();
            assert_eq!(found, expected, "{peer:?} among {partitions}");
        }
    }
}

#[test]
fn an_outdated_directory_leads_to_nothing_wrong() {
    outdated::<V4>();
    outdated::<V6>();
}
