//! Lists in force on a store with torrents.

use super::*;
use crate::store::{
    CounterSet, fixture,
    sizes::{Capacity, Sizes},
};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};
use tracker_common::{
    outcome::StoreError,
    store::{
        family::{V4, V6},
        hash::TorrentKey,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};

fn handle(listed: u64) -> Handle {
    let capacity = Capacity { torrents: 1000, peers_v4: 10_000, peers_v6: 1000 };
    let sizes = Sizes::new(&capacity).and_then(|sizes| sizes.with_listed(listed)).expect("small");
    fixture::store_of(&sizes).handle(CounterSet::Udp)
}

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0x5a; 20];
    info_hash[16..].copy_from_slice(&number.to_be_bytes());
    info_hash
}

fn announce(handle: &Handle, number: u32, peers: u16) -> Result<(), StoreError> {
    let info_hash = &torrent(number);
    for port in 1..=peers {
        let (seeder, event) = (port % 2 == 0, PeerEvent::Completed);
        let peer = V4::key([10, 0, 0, 1], port);
        upsert::announce::<_, V4>(&handle.context(), &Announce { info_hash, peer, seeder, event, owner: Owner::NONE })?;
        let peer = V6::key([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], port);
        upsert::announce::<_, V6>(&handle.context(), &Announce { info_hash, peer, seeder, event, owner: Owner::NONE })?;
    }
    Ok(())
}

fn is_stored(handle: &Handle, number: u32) -> bool {
    let cx = &handle.context();
    index::find(cx, &TorrentKey::new(cx.settings, &torrent(number))).is_some()
}

fn lists(allow: Option<&[u32]>, deny: Option<&[u32]>) -> Lists {
    let list = |numbers: &[u32]| numbers.iter().map(|number| torrent(*number)).collect();
    Lists { allow: allow.map(list), deny: deny.map(list) }
}

#[test]
fn a_change_removes_what_is_no_longer_allowed_and_nothing_else() {
    let handle = handle(100);
    type Row = (&'static str, Option<&'static [u32]>, Option<&'static [u32]>, [bool; 4]);
    let rows: [Row; 9] = [
        ("none", None, None, [true; 4]),
        ("some are denied", None, Some(&[2, 3, 99]), [true, true, false, false]),
        ("others are denied", None, Some(&[0]), [false, true, true, true]),
        ("nothing is denied", None, Some(&[]), [true; 4]),
        ("some are allowed", Some(&[1, 2]), None, [false, true, true, false]),
        ("some of the allowed are denied", Some(&[1, 2]), Some(&[2, 3]), [false, true, false, false]),
        ("nothing is allowed", Some(&[]), None, [false; 4]),
        ("twice on a list", Some(&[3, 3, 0]), None, [true, false, false, true]),
        ("no longer any", None, None, [true; 4]),
    ];
    // Small, a list, partitions.
    let sizes = [1, 3, 40, 600];
    for (name, allow, deny, expected) in rows {
        let lists = lists(allow, deny);
        lists.apply(&handle, true).expect("room");
        for (number, expected) in (0..4).zip(expected) {
            if !expected {
                assert!(!is_stored(&handle, number), "{name}: {number} is removed");
            }
            let stored = announce(&handle, number, sizes[number as usize]);
            assert_eq!(stored.is_ok(), expected, "{name}: {number}: {stored:?}");
        }
        // Again, nothing is removed.
        lists.apply(&handle, true).expect("room");
        assert_eq!([0, 1, 2, 3].map(|number| is_stored(&handle, number)), expected, "{name}");
    }
    lists(Some(&[]), None).apply(&handle, true).expect("room");
    let pools = handle.store().pools();
    assert_eq!(pools.swarms.used.load(), 0, "all are removed, with all their peers");
}

#[test]
fn nobody_is_refused_while_lists_come_and_go() {
    // The larger the table, the longer it takes to clear it.
    let handle = handle(2_000_000);
    let (store, on_a_list, ended) = (handle.store().clone(), torrent(7), AtomicBool::new(false));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mine = store.handle(CounterSet::Http);
            while !ended.load(Ordering::Relaxed) {
                let in_force = || store.settings().access_lists.load();
                let (before, checked) = (in_force(), check(&mine.context(), &on_a_list));
                // Who has looked at both lists and the table within one change was just late.
                if before == in_force() && checked.is_err() {
                    return checked;
                }
            }
            Ok(())
        });
        // (allowed, denied): the torrent is served with each.
        type Row<'a> = (Option<&'a [u32]>, Option<&'a [u32]>);
        let rows: [Row<'_>; 4] = [(Some(&[7]), None), (None, None), (Some(&[7, 8]), Some(&[9])), (None, Some(&[9]))];
        for (allow, deny) in rows {
            lists(allow, deny).apply(&handle, false).expect("room");
        }
        ended.store(true, Ordering::Relaxed);
        assert_eq!(asking.join().expect("no panic"), Ok(()));
    });
}

#[test]
fn a_stop_for_a_refused_torrent_is_no_error_and_stores_nothing() {
    let handle = handle(100);
    lists(Some(&[]), None).apply(&handle, true).expect("room");
    let info_hash = &torrent(1);
    let announce = Announce {
        info_hash,
        peer: V4::key([10, 0, 0, 1], 1),
        seeder: true,
        event: PeerEvent::Stopped,
        owner: Owner::NONE,
    };
    assert!(matches!(upsert::announce::<_, V4>(&handle.context(), &announce), Ok(None)));
}

#[test]
fn lists_without_room_leave_those_before_in_force() {
    let handle = handle(40);
    lists(None, Some(&[1, 2])).apply(&handle, true).expect("room");
    let many: Vec<u32> = (1000..3000).collect();
    let error = lists(Some(&many), None).apply(&handle, true).expect_err("no room").to_string();
    assert!(error.contains("2000") && error.contains("restart"), "{error}");
    assert_eq!(announce(&handle, 1, 1), Err(StoreError::Denied));
    assert_eq!(announce(&handle, 3, 1), Ok(()));
    let fingerprints: usize = (0..handle.store().sizes().access_buckets)
        .filter_map(|number| handle.store().access_bucket(number))
        .map(|bucket| bucket.fingerprints().count())
        .sum();
    assert_eq!(fingerprints, 2);
}

#[test]
fn room_grows_in_steps_and_is_none_without_lists() {
    let of = |allow: Option<u32>, deny: Option<u32>| {
        let list = |count| (0..count).map(torrent).collect();
        Lists { allow: allow.map(list), deny: deny.map(list) }.room()
    };
    for (allow, deny, expected) in [
        (None, None, None),
        (Some(0), None, Some(16_384)),
        (None, Some(1), Some(16_384)),
        (Some(10_000), None, Some(16_384)),
        (Some(10_000), Some(1000), Some(32_768)),
        (Some(100_000), None, Some(262_144)),
    ] {
        assert_eq!(of(allow, deny), expected);
    }
}

#[test]
fn a_million_torrents_are_listed_and_take_what_was_promised() {
    let path = std::env::temp_dir().join(format!("tracker-million-{}.list", std::process::id()));
    let mut text = String::with_capacity(41_000_000);
    for number in 0..1_000_000_u32 {
        text.push_str(&format!("{:08x}{:032x}\n", number.wrapping_mul(0x9e37_79b9), number));
    }
    fs::write(&path, &text).expect("writable");
    let lists = Lists::read(&Files { allow: vec![path.clone()], deny: vec![] });
    fs::remove_file(&path).expect("was there");
    let lists = lists.expect("right");
    let room = lists.room().expect("a list");
    let handle = handle(room);
    lists.apply(&handle, true).expect("room");
    let regions = handle.store().sizes().regions();
    let table = regions.iter().find(|region| region.name == "ACCESS").expect("a table");
    assert!(table.bytes() <= 64 << 20, "{} bytes", table.bytes());
    let allowed = lists.of(List::Allow).expect("a list");
    assert!(allowed.iter().all(|info_hash| check(&handle.context(), info_hash).is_ok()));
    assert_eq!(check(&handle.context(), &torrent(1)), Err(StoreError::NotAllowed));
}
