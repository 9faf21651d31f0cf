//! What is written is what is in the store, and what is loaded is what was written.

use super::*;
use crate::{
    admission,
    snapshot::{
        load::{Loaded, load_from},
        restore::Report,
        wall_clock,
    },
    store::sweep::{Sweep, Timeouts},
};
use tracker_common::{
    admission::List,
    outcome::COUNTERS,
    store::{hash::TorrentKey, index, layout::Counts},
};

const TIMEOUTS: Timeouts = Timeouts { peer: 45, torrent: 45, torrent_completed: 1440 };

/// Loads a snapshot as if it had been taken so many minutes ago.
fn load(bytes: &[u8], store: &Arc<Store>, minutes: u64, with_peers: bool) -> Loaded {
    let mut bytes = bytes.to_vec();
    let header = Header::decode(&bytes).expect("a header");
    let header = Header { taken_at: wall_clock() - minutes * 60, ..header };
    bytes[..header.encode().len()].copy_from_slice(&header.encode());
    let reader = Reader::new(Cursor::new(bytes)).expect("memory").expect("a header");
    load_from(reader, store, TIMEOUTS, with_peers)
}

fn counts(store: &Arc<Store>, torrent: &InfoHash) -> Counts {
    let handle = store.handle(CounterSet::Udp);
    index::counts(&handle.context(), &TorrentKey::new(store.settings(), torrent))
}

fn expected_counts(known: &(u32, u32, BTreeMap<Vec<u8>, State>)) -> Counts {
    let leechers = known.2.values().filter(|state| state.leecher).count() as u32;
    Counts { seeders: known.2.len() as u32 - leechers, leechers, completed: known.0 }
}

#[test]
fn all_that_is_in_a_store_is_written() {
    for seed in 1..4 {
        let store = store_of(SOME);
        let known = fill(&store, seed);
        let bytes = snapshot_of(&store, HEADER);
        assert!(known_of(&bytes) == known, "seed {seed}");
    }
}

#[test]
fn what_is_loaded_is_what_was_written() {
    for seed in 1..4 {
        let store = store_of(SOME);
        let mut known = fill(&store, seed);
        let bytes = snapshot_of(&store, HEADER);
        let other = store_of(SOME);
        let Loaded { report, damages, .. } = load(&bytes, &other, 0, true);
        assert_eq!(damages, []);
        let count = |bytes: usize| {
            let addresses = known.values().flat_map(|(_, _, peers)| peers.keys());
            addresses.filter(|address| address.len() == bytes).count() as u64
        };
        let added = [6, 18].map(count);
        let (torrents, peers) = (known.len() as u64, added.iter().sum());
        assert_eq!(report, Report { torrents, peers, added, ..Report::default() }, "seed {seed}");
        for (torrent, known) in &known {
            assert_eq!(counts(&other, torrent), expected_counts(known), "seed {seed}, {torrent:?}");
        }
        // Now the load may have been a minute after the taking, by the wall clock.
        let again = known_of(&snapshot_of(&other, HEADER));
        if again != known {
            known.values_mut().for_each(|(_, _, peers)| peers.values_mut().for_each(|state| state.age += 1));
            assert!(again == known, "seed {seed}");
        }
        // The sweep finds nothing to correct.
        let mut sweep = Sweep::default();
        let handle = other.handle(CounterSet::Expiry);
        while sweep.batch(&handle, &Timeouts { peer: 8000, ..TIMEOUTS }) {}
        assert_eq!(other.counters().iter().map(|(_, sums)| sums.iter().sum::<u64>()).sum::<u64>(), 0);
        assert_eq!(sweep.totals(1).torrents, known.len() as u64);
    }
}

#[test]
fn loading_counts_no_request() {
    let store = store_of(SOME);
    fill(&store, 1);
    let bytes = snapshot_of(&store, HEADER);
    let other = store_of(SOME);
    load(&bytes, &other, 0, true);
    for (set, sums) in other.counters() {
        assert_eq!(sums, [0; COUNTERS], "{set:?}");
    }
}

#[test]
fn a_download_that_was_counted_before_the_reboot_is_not_counted_again() {
    let store = store_of(SOME);
    let handle = store.handle(CounterSet::Udp);
    let done = Peer { number: 1, v6: false, minutes_ago: 3, seeder: true, event: PeerEvent::Completed };
    let peers = [done, Peer { number: 2, ..done }, Peer { number: 3, v6: true, ..done }];
    for peer in peers {
        peer.announce(&handle, 1);
    }
    // One has lost data since.
    Peer { seeder: false, event: PeerEvent::None, ..peers[1] }.announce(&handle, 1);
    let other = store_of(SOME);
    load(&snapshot_of(&store, HEADER), &other, 0, true);
    let expected = Counts { seeders: 2, leechers: 1, completed: 3 };
    assert_eq!(counts(&other, &info_hash(1)), expected);
    let handle = other.handle(CounterSet::Udp);
    for peer in peers {
        Peer { minutes_ago: 0, ..peer }.announce(&handle, 1);
    }
    assert_eq!(counts(&other, &info_hash(1)), Counts { seeders: 3, leechers: 0, completed: 3 });
    Peer { number: 9, minutes_ago: 0, ..done }.announce(&handle, 1);
    assert_eq!(counts(&other, &info_hash(1)).completed, 4, "a new one is");
}

#[test]
fn ages_go_on_where_they_were() {
    let store = store_of(SOME);
    let handle = store.handle(CounterSet::Udp);
    let peer = |number, minutes_ago, event| Peer { number, v6: number % 2 == 1, minutes_ago, seeder: true, event };
    peer(1, 40, PeerEvent::Completed).announce(&handle, 1);
    peer(2, 20, PeerEvent::None).announce(&handle, 1);
    peer(3, 10, PeerEvent::None).announce(&handle, 2);
    peer(4, 40, PeerEvent::Completed).announce(&handle, 3);
    // Its peer has gone, its download stays.
    Peer { event: PeerEvent::Stopped, ..peer(4, 30, PeerEvent::None) }.announce(&handle, 3);
    let bytes = snapshot_of(&store, HEADER);
    // Minutes since the snapshot; torrents and peers that are stored and that had expired; the ages
    // of all peers afterwards.
    type Row = (u64, [u64; 4], &'static [u32]);
    let rows: [Row; 5] = [
        (0, [3, 3, 0, 0], &[40, 20, 10]),
        (4, [3, 3, 0, 0], &[44, 24, 14]),
        (5, [3, 2, 0, 1], &[25, 15]),
        (35, [2, 0, 1, 3], &[]),
        // Nobody could announce meanwhile: what is counted stays.
        (1_000_000, [2, 0, 1, 3], &[]),
    ];
    for (minutes, expected, ages) in rows {
        let other = store_of(SOME);
        let report = load(&bytes, &other, minutes, true).report;
        let seen = [report.torrents, report.peers, report.torrents_expired, report.peers_expired];
        assert_eq!(seen, expected, "{minutes} minutes later");
        let known = known_of(&snapshot_of(&other, HEADER));
        let seen: Vec<_> = known.values().flat_map(|(_, _, peers)| peers.values()).map(|state| state.age).collect();
        // A minute may have begun meanwhile.
        let fits = |seen: &[u32], more: u32| {
            let mut expected: Vec<_> = ages.iter().map(|age| age + more).collect();
            let mut seen = seen.to_vec();
            expected.sort_unstable();
            seen.sort_unstable();
            seen == expected
        };
        assert!(fits(&seen, 0) || fits(&seen, 1), "{minutes} minutes later: {seen:?}");
        let idle: Vec<_> = known.values().map(|(_, idle, _)| *idle).collect();
        assert_eq!(idle, if report.torrents == 3 { vec![20, 10, 30] } else { vec![20, 30] }, "{minutes} minutes later");
    }
}

#[test]
fn a_smaller_store_takes_what_it_has_room_for_and_counts_the_rest() {
    let store = store_of(SOME);
    let known = fill(&store, 1);
    let peers: u64 = known.values().map(|(_, _, peers)| peers.len() as u64).sum();
    let bytes = snapshot_of(&store, HEADER);
    for capacity in [
        Capacity { torrents: 50, ..SOME },
        Capacity { peers_v4: 500, peers_v6: 300, ..SOME },
        Capacity { torrents: 1, peers_v4: 1, peers_v6: 0 },
    ] {
        let other = store_of(capacity);
        let report = load(&bytes, &other, 0, true).report;
        assert_eq!(report.torrents + report.torrents_refused, known.len() as u64, "{capacity:?}");
        assert_eq!(report.peers + report.peers_refused, peers, "{capacity:?}");
        assert!(report.peers_refused > 0, "{capacity:?}");
        let loaded = known_of(&snapshot_of(&other, HEADER));
        assert_eq!(loaded.len() as u64, report.torrents, "{capacity:?}");
        let stored: u64 = loaded.values().map(|(_, _, peers)| peers.len() as u64).sum();
        assert_eq!((stored, report.added.iter().sum()), (report.peers, stored), "{capacity:?}");
        for (torrent, (completed, _, _)) in loaded {
            assert_eq!(completed, known[&torrent].0, "{capacity:?}: downloads are all there");
        }
    }
}

#[test]
fn torrents_that_a_list_refuses_are_not_loaded() {
    let store = store_of(SOME);
    let known = fill(&store, 1);
    let bytes = snapshot_of(&store, HEADER);
    let (listed, other) = (info_hash(3), info_hash(4));
    let all = known.len() as u64;
    // (lists in force, torrents that are loaded, whether the listed one is, and another one)
    for (lists, torrents, with_listed, with_other) in [
        (0, all, true, true),
        (List::Deny.bit(), all - 1, false, true),
        (List::Allow.bit(), 1, true, false),
        (List::Allow.bit() | List::Deny.bit(), 0, false, false),
    ] {
        let sizes = Sizes::new(&SOME).and_then(|sizes| sizes.with_listed(100)).expect("small");
        let filled = fixture::store_of(&sizes);
        clock::set(filled.settings(), NOW);
        filled.settings().access_lists.store(List::Allow.bit() | List::Deny.bit());
        for list in List::ALL {
            assert!(admission::entry::add(&filled.handle(CounterSet::Expiry), list, &listed).expect("room"));
        }
        filled.settings().access_lists.store(lists);
        let report = load(&bytes, &filled, 0, true).report;
        assert_eq!((report.torrents, report.torrents_expired), (torrents, all - torrents), "lists {lists}");
        let peers = |torrent| known[torrent].2.len() as u64;
        let loaded = known_of(&snapshot_of(&filled, HEADER));
        assert_eq!([&listed, &other].map(|torrent| loaded.contains_key(torrent)), [with_listed, with_other]);
        assert_eq!(report.peers, loaded.keys().map(peers).sum::<u64>(), "lists {lists}");
        assert_eq!(report.peers + report.peers_expired, known.keys().map(peers).sum::<u64>(), "lists {lists}");
    }
}

#[test]
fn unless_asked_for_no_address_is_in_the_file() {
    let store = store_of(SOME);
    let known = fill(&store, 1);
    let bytes = snapshot_of(&store, Header { peers: false, ..HEADER });
    let mut all = Vec::new();
    for packed in Reader::new(Cursor::new(&bytes[..])).expect("memory").expect("a header") {
        let block = Unpacker::new().expect("memory").unpack(&packed.expect("sound")).expect("sound");
        assert!(block.v4.is_empty() && block.v6.is_empty());
        block.encode(&mut all);
    }
    let found = |all: &[u8], address: &[u8]| {
        // The other way round as well, as a word would be.
        let reversed: Vec<_> = address.iter().rev().copied().collect();
        all.windows(address.len()).any(|bytes| bytes == address || bytes == reversed)
    };
    let addresses = || known.values().flat_map(|(_, _, peers)| peers.keys());
    assert!(addresses().count() > 10_000);
    for address in addresses().step_by(17) {
        // Packed bytes look random, and may be four given ones by accident, but not six.
        let without_port = &address[..address.len() - 2];
        assert!(!found(&all, without_port) && !found(&bytes, address), "{address:?} is on the disk");
    }
    // The same search finds what is there.
    let mut all = Vec::new();
    for block in read(&snapshot_of(&store, HEADER)).0 {
        block.encode(&mut all);
    }
    for address in addresses().step_by(1009) {
        assert!(found(&all, address), "{address:?} is not found where it is");
    }
    // And torrents are there with their downloads.
    for (torrent, (completed, _, peers)) in known_of(&bytes) {
        assert_eq!((completed, peers.len()), (known[&torrent].0, 0));
    }
}

#[test]
fn peers_that_are_not_wanted_are_not_loaded() {
    let store = store_of(SOME);
    let known = fill(&store, 1);
    let other = store_of(SOME);
    let report = load(&snapshot_of(&store, HEADER), &other, 0, false).report;
    assert_eq!((report.peers, report.peers_refused, report.peers_expired), (0, 0, 0));
    let counted = known.values().filter(|(completed, ..)| *completed > 0).count() as u64;
    assert_eq!((report.torrents, report.torrents_expired), (counted, known.len() as u64 - counted));
    let loaded = known_of(&snapshot_of(&other, HEADER));
    assert_eq!(loaded.len() as u64, counted);
    assert!(loaded.iter().all(|(torrent, (completed, _, peers))| peers.is_empty() && *completed == known[torrent].0));
}
