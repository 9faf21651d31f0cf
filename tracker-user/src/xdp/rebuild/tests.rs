//! What a rebuild does about a pause and about the dead, on stores in ordinary memory.

use super::*;
use crate::store::{
    CounterSet, keys,
    sizes::{Capacity, Sizes},
};
use std::{mem::offset_of, sync::mpsc};
use tracker_common::{
    platform::Platform as _,
    store::{
        family::V4,
        hash::TorrentKey,
        index,
        journal::Place,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};
use tracker_tests::temporary::Directory;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_pause_lasts_as_long_as_the_work_in_it() {
    let settings = Settings::default();
    let mut later = 0;
    // By several times what it lasts.
    let wanted = 3 * (PAUSE.as_nanos() >> 20) as u32;
    let undisturbed = in_a_pause(&settings, || {
        let (first, begin) = (settings.paused_until.load(), Instant::now());
        while later < wanted && begin.elapsed() < PATIENCE {
            thread::sleep(RENEWAL);
            later = settings.paused_until.load().wrapping_sub(first);
        }
    });
    assert!(later >= wanted && undisturbed, "nobody makes it longer: {later}");
}

#[test]
fn requests_that_were_answered_in_a_pause_are_noticed() {
    for (answered, expected) in [(false, true), (true, false)] {
        let settings = Settings::default();
        settings.looked_at.store(77);
        let undisturbed = in_a_pause(&settings, || {
            if answered {
                // As the XDP program does when the pause has run out.
                settings.looked_at.store(90);
            }
        });
        assert_eq!(undisturbed, expected, "{answered}");
    }
}

#[test]
fn a_new_store_does_not_begin_with_the_pause_of_the_old_one() {
    let store = |torrents| {
        let sizes = Sizes::new(&Capacity { torrents, peers_v4: 1000, peers_v6: 1000 }).expect("small");
        Arc::new(Store::anonymous(&sizes).expect("small"))
    };
    let (old, new) = (store(100), store(300));
    old.settings().blocked.store(1);
    let from = Old { store: old, settings: None };
    let _ = fill(&from, &new).expect("room");
    let (paused, copied) = (from.store.settings().paused_until.load(), new.settings().paused_until.load());
    assert!(paused != 0 && copied == 0, "the old one is paused until {paused}, the new one until {copied}");
    assert_eq!(new.settings().blocked.load(), 0, "nor with lists that it has not read");
}

#[test]
fn what_the_dead_hold_is_repaired_before_it_is_copied() {
    let store = |torrents| {
        let sizes = Sizes::new(&Capacity { torrents, peers_v4: 1000, peers_v6: 1000 }).expect("small");
        Arc::new(Store::anonymous(&sizes).expect("small"))
    };
    let (old, new) = (store(100), store(300));
    keys::set(&old, None).expect("random numbers");
    clock::set(old.settings(), 60_000_000);
    let dead = old.handle(CounterSet::Udp);
    let announce = Announce {
        info_hash: &[7; 20],
        peer: V4::key([192, 0, 2, 1], 7),
        seeder: true,
        event: PeerEvent::None,
        owner: Owner::NONE,
    };
    upsert::announce::<_, V4>(&dead.context(), &announce).expect("room");
    let key = TorrentKey::new(old.settings(), &[7; 20]);
    let swarm = index::find(&dead.context(), &key).expect("stored").id;
    dead.acquire(&dead.swarm(swarm).expect("its record").lock, Place::Swarm(swarm)).expect("it waits");
    // It was changing something. The thread is gone, and nothing was tidied up.
    dead.swarm(swarm).expect("its record").lock.begin_change();
    std::mem::forget(dead);
    let (done, filled) = mpsc::channel();
    let (into, from) = (new.clone(), Old { store: old, settings: None });
    thread::spawn(move || done.send(fill(&from, &into).map(drop)));
    filled.recv_timeout(PATIENCE).expect("nobody waits for the dead").expect("room");
    let handle = new.handle(CounterSet::Udp);
    let counts = index::find(&handle.context(), &TorrentKey::new(new.settings(), &[7; 20])).expect("copied");
    assert_eq!(counts.record.counts().seeders, 1);
}

/// The settings of layout 2 with what stands in the current ones, in memory of their own: as the old
/// program's are. What is in between was not there.
fn of_layout_2(settings: &Settings, directory: &Directory) -> older::Settings {
    const OLD: usize = 2360;
    let tables = size_of::<Settings>() - offset_of!(Settings, interfaces);
    // SAFETY: a record of nothing but words, which nobody writes meanwhile.
    let now: &[u8; size_of::<Settings>()] = unsafe { &*std::ptr::from_ref(settings).cast() };
    let bytes = [&now[..OLD - tables], &now[now.len() - tables..]].concat();
    let path = directory.path("settings");
    std::fs::write(&path, bytes).expect("a file");
    older::Settings::open(2, std::fs::File::open(&path).expect("a file").as_fd()).expect("a known layout")
}

#[test]
fn what_comes_to_an_older_layout_between_the_last_copy_and_the_new_program_is_added() {
    let store = || {
        let sizes = Sizes::new(&Capacity { torrents: 100, peers_v4: 1000, peers_v6: 1000 }).expect("small");
        Arc::new(Store::anonymous(&sizes).expect("small"))
    };
    let (old, new) = (store(), store());
    keys::set(&old, None).expect("random numbers");
    clock::set(old.settings(), 60_000_000);
    let announce = |torrent: u8, port, event| {
        let handle = old.handle(CounterSet::Udp);
        let announce = Announce {
            info_hash: &[torrent; 20],
            peer: V4::key([192, 0, 2, 1], port),
            seeder: true,
            event,
            owner: Owner::NONE,
        };
        upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
    };
    let seeders = |torrent: u8| {
        let handle = new.handle(CounterSet::Udp);
        let found = index::find(&handle.context(), &TorrentKey::new(new.settings(), &[torrent; 20]));
        found.map(|swarm| swarm.record.counts().seeders)
    };
    announce(7, 1000, PeerEvent::None);
    announce(7, 1001, PeerEvent::None);
    let directory = Directory::new("rebuild-older");
    let from = Old { settings: Some(of_layout_2(old.settings(), &directory)), store: old.clone() };
    let filled = fill(&from, &new).expect("room");
    assert_eq!((seeders(7), seeders(8)), (Some(2), None));
    // The old program goes on until the new one takes its place.
    announce(7, 1002, PeerEvent::None);
    announce(7, 1001, PeerEvent::Stopped);
    announce(8, 1000, PeerEvent::None);
    drop(filled.complete(&from));
    // Who has left stays until it expires.
    assert_eq!((seeders(7), seeders(8)), (Some(3), Some(1)));
}
