use super::*;
use crate::{
    snapshot::look,
    store::{
        clock, keys,
        sizes::{Capacity, Sizes},
    },
};
use std::net::SocketAddr;
use tracker_common::{admission::List, outcome::Event};

const HASH: InfoHash = [7; 20];
const MINUTE: u32 = 1_000_000;

fn store() -> Arc<Store> {
    let sizes = Sizes::new(&Capacity { torrents: 100, peers_v4: 10_000, peers_v6: 1000 }).expect("small");
    let store = Arc::new(Store::anonymous(&sizes).expect("small"));
    keys::set(&store, None).expect("random numbers");
    clock::set(store.settings(), MINUTE * 60);
    store.settings().interval.store(1800);
    store.settings().max_peers_per_address.store(8);
    store.settings().tell_every.store(10);
    store
}

fn change(address: &str, kind: Kind) -> Change {
    let address: SocketAddr = address.parse().expect("an address");
    let (bytes, version) = match address {
        SocketAddr::V4(four) => (four.ip().octets().to_vec(), 4),
        SocketAddr::V6(six) => (six.ip().octets().to_vec(), 6),
    };
    let bytes = [bytes, address.port().to_be_bytes().to_vec()].concat();
    let peer = peer_of(&bytes).expect("a port");
    Change { peer, info_hash: HASH, kind: kind as u8, owner: 0, version, unused: 0 }
}

/// Seeders, leechers, downloads.
fn counts(store: &Arc<Store>) -> (u32, u32, u32) {
    let handle = store.handle(CounterSet::Expiry);
    let key = TorrentKey::new(store.settings(), &HASH);
    let counts = index::find(&handle.context(), &key).map(|swarm| swarm.record.counts());
    counts.map_or((0, 0, 0), |counts| (counts.seeders, counts.leechers, counts.completed))
}

#[test]
fn what_others_tell_is_stored_and_told_nobody() {
    let store = store();
    let elsewhere = Elsewhere::new(&store);
    // (address, kind, counts afterwards)
    for (address, kind, expected) in [
        ("198.51.100.1:1", Kind::Leecher, (0, 1, 0)),
        ("198.51.100.1:1", Kind::Leecher, (0, 1, 0)),
        ("[2001:db8::1]:1", Kind::Seeder, (1, 1, 0)),
        ("198.51.100.1:1", Kind::Completed, (2, 0, 1)),
        ("198.51.100.1:1", Kind::Completed, (2, 0, 1)),
        ("198.51.100.2:1", Kind::Completed, (3, 0, 2)),
        ("[2001:db8::1]:1", Kind::Left, (2, 0, 2)),
        ("[2001:db8::1]:1", Kind::Left, (2, 0, 2)),
        ("[2001:db8::2]:1", Kind::Left, (2, 0, 2)),
        ("198.51.100.1:1", Kind::Leecher, (1, 1, 2)),
    ] {
        assert_eq!(elsewhere.store(&change(address, kind)), Ok(()), "{address} {kind:?}");
        assert_eq!(counts(&store), expected, "{address} {kind:?}");
    }
    assert_eq!(store.changes.take(), [], "nobody is told");
    let counted = store.counters();
    let (_, cluster) = counted.iter().find(|(set, _)| *set == CounterSet::Cluster).expect("counted");
    assert_eq!(cluster[Counter::Event(Event::Peer4Added).index()], 2);
    assert!(cluster[Counter::Event(Event::Peer6Removed).index()] == 1);
}

#[test]
fn addresses_that_no_client_has_are_refused() {
    let store = store();
    let elsewhere = Elsewhere::new(&store);
    for address in [
        "0.0.0.0:1",
        "0.1.2.3:1",
        "127.0.0.1:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[ff02::1]:1",
        "[::]:1",
        "[::1]:1",
        "[::ffff:198.51.100.1]:1",
    ] {
        for kind in [Kind::Leecher, Kind::Left] {
            assert_eq!(elsewhere.store(&change(address, kind)), Err(Dropped::Address), "{address}");
        }
    }
    for address in ["10.0.0.1:1", "198.51.100.1:65535", "[2001:db8::]:1", "[0:1::]:1"] {
        assert_eq!(elsewhere.store(&change(address, Kind::Leecher)), Ok(()), "{address}");
    }
}

#[test]
fn limits_hold_for_what_others_tell() {
    let store = store();
    let elsewhere = Elsewhere::new(&store);
    for port in 1..=20 {
        let _ = elsewhere.store(&change(&format!("198.51.100.1:{port}"), Kind::Leecher));
    }
    assert_eq!(counts(&store), (0, 8, 0), "peers of one address");
    store.settings().access_lists.store(List::Allow.bit());
    elsewhere.place.settings.access_lists.store(List::Allow.bit());
    let unlisted = Change { info_hash: [8; 20], ..change("198.51.100.1:1", Kind::Leecher) };
    assert_eq!(elsewhere.store(&unlisted), Err(Dropped::Refused));
}

#[test]
fn whose_peer_it_is_goes_with_it() {
    let store = store();
    let elsewhere = Elsewhere::new(&store);
    let with = |kind, owner| elsewhere.store(&Change { owner, ..change("198.51.100.1:1", kind) });
    assert_eq!(with(Kind::Leecher, 5), Ok(()));
    assert_eq!((with(Kind::Left, 6), counts(&store)), (Ok(()), (0, 1, 0)), "somebody else");
    let other = "198.51.100.2:1";
    for kind in [Kind::Leecher, Kind::Left] {
        assert_eq!(elsewhere.store(&Change { owner: 5, ..change(other, kind) }), Ok(()));
    }
    assert_eq!(counts(&store), (0, 1, 0), "the owner");
}

#[test]
fn who_names_no_owner_leaves_the_one_that_is_known() {
    let store = store();
    // (address, how the peer is announced again, seeders and leechers once its owner has stopped it)
    for (address, again, expected) in [
        ("198.51.100.1:1", Some(Kind::Leecher), (0, 0, 0)),
        ("198.51.100.2:1", Some(Kind::Seeder), (0, 0, 0)),
        ("[2001:db8::3]:1", Some(Kind::Leecher), (0, 0, 0)),
        // By a snapshot.
        ("198.51.100.4:1", None, (0, 0, 0)),
        // Only its owner stops it.
        ("198.51.100.5:1", Some(Kind::Left), (0, 1, 0)),
    ] {
        let mut elsewhere = Elsewhere::new(&store);
        let owned = |kind| Change { owner: 5, ..change(address, kind) };
        assert_eq!(elsewhere.store(&owned(Kind::Leecher)), Ok(()), "{address}");
        if let Some(kind) = again {
            assert_eq!(elsewhere.store(&change(address, kind)), Ok(()), "{address}");
        } else {
            clock::set(store.settings(), (MINUTE + 3) * 60);
            elsewhere.look_at_clock();
            let mut peers = Peers::default();
            let state = State { age: 1, leecher: false, completed: false };
            peers.push::<V4>(V4::key([198, 51, 100, 4], 1), state);
            let torrent = Torrent { info_hash: HASH, completed: 0, idle: 0 };
            assert_eq!(elsewhere.merge(&torrent, &peers, &Peers::default(), &|_, _| false), 1, "{address}");
            assert_eq!(counts(&store), (1, 0, 0), "{address}: the kind is the newer one");
        }
        assert_eq!(elsewhere.store(&owned(Kind::Left)), Ok(()), "{address}");
        assert_eq!(counts(&store), expected, "{address}");
    }
}

#[test]
fn owners_stay_in_swarms_of_all_sizes() {
    let store = store();
    let elsewhere = Elsewhere::new(&store);
    for size in [1, 5, 100, 2000_u32] {
        let info_hash = [size as u8; 20];
        let all = |kind, owner| {
            for number in 0..size {
                let address = format!("198.51.{}.{}:1", number / 250, 1 + number % 250);
                assert_eq!(elsewhere.store(&Change { info_hash, owner, ..change(&address, kind) }), Ok(()));
            }
        };
        all(Kind::Leecher, 5);
        all(Kind::Seeder, 0);
        all(Kind::Left, 5);
        let handle = store.handle(CounterSet::Expiry);
        let counts = index::counts(&handle.context(), &TorrentKey::new(store.settings(), &info_hash));
        assert_eq!((counts.seeders, counts.leechers), (0, 0), "{size}");
    }
}

#[test]
fn ages_are_compared_as_of_now_however_long_the_tracker_has_run() {
    // (minutes until the peer announces here, until the snapshot; age there; stored)
    for (here, now, age, merged) in [(0, 0, 0, 0), (0, 30, 29, 1), (10, 30, 10, 1), (10, 30, 25, 0), (40, 600, 0, 1)] {
        let store = store();
        let mut elsewhere = Elsewhere::new(&store);
        let at = |minutes| {
            clock::set(store.settings(), (MINUTE + minutes) * 60);
            elsewhere.look_at_clock();
        };
        at(here);
        assert_eq!(elsewhere.store(&change("198.51.100.1:1", Kind::Leecher)), Ok(()));
        at(now);
        let mut peers = Peers::default();
        peers.push::<V4>(V4::key([198, 51, 100, 1], 1), State { age, leecher: false, completed: false });
        let torrent = Torrent { info_hash: HASH, completed: 0, idle: 0 };
        let left = |_: &InfoHash, _: &[u8]| false;
        let stored = elsewhere.merge(&torrent, &peers, &Peers::default(), &left);
        assert_eq!(stored, merged, "announced after {here} minutes, {age} minutes old after {now}");
    }
}

#[test]
fn downloads_of_torrents_without_peers_are_taken_over_unless_a_list_refuses_them() {
    let (store, nobody) = (store(), Peers::default());
    let mut elsewhere = Elsewhere::new(&store);
    let left = |_: &InfoHash, _: &[u8]| false;
    // (lists in force, downloads there, downloads here)
    for (lists, there, here) in [(List::Allow.bit(), 9, 0), (0, 0, 0), (0, 7, 7), (0, 3, 7), (List::Allow.bit(), 8, 8)]
    {
        store.settings().access_lists.store(lists);
        elsewhere.look_at_clock();
        let torrent = Torrent { info_hash: HASH, completed: there, idle: 11 };
        assert_eq!(elsewhere.merge(&torrent, &nobody, &nobody, &left), 0);
        assert_eq!(counts(&store), (0, 0, here), "{there} with lists {lists}");
    }
    let (torrent, _) = look::torrent(&store, &HASH).expect("stored");
    assert_eq!(torrent.idle, 11, "as idle as it was");
}

#[test]
fn a_snapshot_adds_what_is_newer_and_nobody_who_has_left() {
    let there = Peers::default;
    let store = store();
    let mut elsewhere = Elsewhere::new(&store);
    assert_eq!(elsewhere.store(&change("198.51.100.1:1", Kind::Leecher)), Ok(()));
    let mut peers = there();
    let state = |age, leecher| State { age, leecher, completed: false };
    for (last, age, leecher) in [(1, 20, false), (2, 7, true), (3, 0, false), (4, 3, true)] {
        peers.push::<V4>(V4::key([198, 51, 100, last], 1), state(age, leecher));
    }
    let torrent = Torrent { info_hash: HASH, completed: 9, idle: 0 };
    let left = |_: &InfoHash, peer: &[u8]| peer[3] == 4;
    assert_eq!(elsewhere.merge(&torrent, &peers, &there(), &left), 2);
    assert_eq!(counts(&store), (1, 2, 9));
    let (_, mut found) = look::torrent(&store, &HASH).expect("stored");
    found.sort_by_key(|peer| peer.address);
    let ages: Vec<_> = found.iter().map(|peer| (peer.age, peer.seeder)).collect();
    assert_eq!(ages, [(0, false), (7, false), (0, true)], "as old as they are");
    assert_eq!(elsewhere.merge(&torrent, &peers, &there(), &left), 0, "a second time");
    let fewer = Torrent { completed: 3, ..torrent };
    elsewhere.merge(&fewer, &there(), &there(), &left);
    assert_eq!(counts(&store), (1, 2, 9), "downloads do not become fewer");
}
