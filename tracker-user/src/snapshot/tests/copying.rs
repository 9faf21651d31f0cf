//! One store into another of other sizes.

use super::*;
use crate::snapshot::{
    copy::{Copier, Held, lists},
    dated,
};
use tracker_common::admission::table;

/// A store of other sizes with the keys and the clock of this one.
fn beside(store: &Store, capacity: Capacity) -> Arc<Store> {
    let other = Arc::new(Store::anonymous(&Sizes::new(&capacity).expect("small")).expect("small"));
    dated::copy(store.settings(), other.settings());
    other.write_sizes();
    other
}

fn held(known: &Known) -> Held {
    Held { torrents: known.len() as u64, peers: known.values().map(|(_, _, peers)| peers.len() as u64).sum() }
}

/// Some peers go, some come, some are something else now, some are only younger.
fn change(store: &Arc<Store>, known: &mut Known, seed: u64) {
    let handle = store.handle(CounterSet::Udp);
    let mut random = Sequence(seed);
    for torrent in 0..150_u32 {
        if random.next(3) == 0 {
            continue;
        }
        let (completed, _, peers) = known.entry(info_hash(torrent)).or_default();
        for _ in 0..1 + random.next(40) {
            let event = [PeerEvent::None, PeerEvent::Completed, PeerEvent::Stopped][random.next(3) as usize];
            let number = torrent << 16 | random.next(300);
            let seeder = random.next(2) == 0;
            let peer = Peer { number, v6: random.next(3) == 0, minutes_ago: 0, seeder, event };
            peer.announce(&handle, torrent);
            let address = peer.address();
            let before = peers.get(&address).copied();
            if event == PeerEvent::Stopped {
                peers.remove(&address);
                continue;
            }
            let was_counted = before.is_some_and(|state| state.completed);
            let becomes = before.is_none_or(|state| state.leecher) && seeder;
            let counts = event == PeerEvent::Completed && becomes && !was_counted;
            *completed += u32::from(counts);
            peers.insert(address, State { age: 0, leecher: !seeder, completed: was_counted || counts });
        }
    }
}

/// Without minutes idle, and torrents that have nothing.
fn comparable(known: &Known) -> Known {
    let some = known.iter().filter(|(_, (completed, _, peers))| *completed > 0 || !peers.is_empty());
    some.map(|(info_hash, (completed, _, peers))| (*info_hash, (*completed, 0, peers.clone()))).collect()
}

#[test]
fn a_larger_and_a_smaller_store_have_all_that_fits_and_passes_follow_changes() {
    let larger = Capacity { torrents: 5000, peers_v4: 90_000, peers_v6: 50_000 };
    let smaller = Capacity { torrents: 200, peers_v4: 30_000, peers_v6: 15_000 };
    for (seed, capacity, tight) in [(1, larger, false), (2, SOME, false), (3, smaller, true), (4, smaller, false)] {
        let old = store_of(SOME);
        let mut known = fill(&old, seed);
        let new = beside(&old, capacity);
        let mut copier = Copier::new(&old, &new, tight);
        copier.pass();
        assert!(known_of(&snapshot_of(&new, HEADER)) == known, "{seed}: what was there, idle times included");
        assert_eq!(copier.held(), [held(&known); 2]);
        for round in 0..4 {
            change(&old, &mut known, seed * 10 + round);
            copier.pass();
            let (is, was) = (known_of(&snapshot_of(&new, HEADER)), known_of(&snapshot_of(&old, HEADER)));
            assert!(comparable(&was) == comparable(&known), "{seed}, {round}: the test is right");
            assert!(is == was, "{seed}, {round}: the copy follows");
        }
        let evicted: u64 = new.counters().iter().map(|(_, sums)| sums.iter().sum::<u64>()).sum();
        assert_eq!(evicted, 0, "nothing of it is counted");
    }
}

#[test]
fn what_finds_no_room_is_told_and_the_store_is_sound() {
    let old = store_of(SOME);
    let known = fill(&old, 7);
    let new = beside(&old, Capacity { torrents: 60, peers_v4: 500, peers_v6: 300 });
    let mut copier = Copier::new(&old, &new, true);
    copier.pass();
    copier.pass();
    let [was, is] = copier.held();
    assert_eq!(was, held(&known));
    assert!(is.torrents <= 60 && is.torrents > 50 && is.peers > 500 && is.peers < was.peers, "{is:?} of {was:?}");
    let handle = new.handle(CounterSet::Expiry);
    let report = crate::store::check::check(&handle.context(), crate::store::check::Patience::STILL);
    assert_eq!(report.faults, []);
    // All that is there was there, and is as old.
    for (info_hash, (_, _, peers)) in known_of(&snapshot_of(&new, HEADER)) {
        for (address, state) in peers {
            assert_eq!(known[&info_hash].2.get(&address), Some(&state), "{info_hash:?} {address:?}");
        }
    }
}

#[test]
fn torrents_that_the_old_store_has_given_up_go_from_the_new_one() {
    let old = store_of(SOME);
    let known = fill(&old, 8);
    let new = beside(&old, SOME);
    let mut copier = Copier::new(&old, &new, false);
    copier.pass();
    let handle = old.handle(CounterSet::Expiry);
    let gone: Vec<_> = known.keys().step_by(7).copied().collect();
    for info_hash in &gone {
        use tracker_common::store::{hash::TorrentKey, index, sweep};
        let key = TorrentKey::new(old.settings(), info_hash);
        let number = index::find(&handle.context(), &key).expect("it is there").id.number();
        let ages = sweep::Ages { peer_timeout: 0, idle: 0, idle_completed: 0 };
        while sweep::sweep(&handle.context(), &sweep::Batch { first: number, end: number + 1, ages }, |_, _| {})
            .torrents
            > 0
        {}
    }
    copier.pass();
    copier.remove_missing();
    let (is, was) = (known_of(&snapshot_of(&new, HEADER)), known_of(&snapshot_of(&old, HEADER)));
    assert!(is == was && is.len() == known.len() - gone.len());
}

#[test]
fn a_store_in_use_gets_what_it_lacks_and_loses_nothing() {
    let old = store_of(SOME);
    let before = fill(&old, 9);
    let new = beside(&old, SOME);
    let mut copier = Copier::new(&old, &new, false);
    copier.pass();
    let (mut of_old, mut of_new) = (before.clone(), before);
    change(&old, &mut of_old, 1);
    change(&new, &mut of_new, 2);
    let in_old = known_of(&snapshot_of(&old, HEADER));
    let in_new = known_of(&snapshot_of(&new, HEADER));
    copier.add_missing();
    let both = known_of(&snapshot_of(&new, HEADER));
    for (info_hash, (completed, _, peers)) in &both {
        let of = |known: &Known| known.get(info_hash).cloned().unwrap_or_default();
        let (old, new) = (of(&in_old), of(&in_new));
        assert_eq!(*completed, old.0.max(new.0));
        let mut expected = old.2;
        expected.extend(new.2);
        assert!(*peers == expected, "who is in both is as the new one says");
    }
}

#[test]
fn listed_torrents_are_copied_into_a_table_of_any_size() {
    let sizes = |listed| Sizes::new(&SOME).and_then(|sizes| sizes.with_listed(listed)).expect("small");
    let store = |listed| Store::anonymous(&sizes(listed)).expect("small");
    let old = store(1000);
    let fingerprint = |number: u64| number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let count = old.sizes().access_buckets;
    assert!((0..1000).all(|number| table::insert(|at| old.access_bucket(at), count, fingerprint(number))));
    for (room, fits) in [(1000, true), (5000, true), (100, false)] {
        let new = store(room);
        assert_eq!(lists(&old, &new), fits, "{room}");
        let count = new.sizes().access_buckets;
        let is_there = |number: u64| {
            let buckets = table::buckets(fingerprint(number), count);
            buckets
                .into_iter()
                .filter_map(|at| new.access_bucket(at))
                .any(|bucket| bucket.contains(fingerprint(number)))
        };
        assert!(!fits || (0..1000).all(is_there), "{room}");
    }
}
