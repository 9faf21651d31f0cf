//! Threads are killed and what they leave is repaired while others, as XDP programs do, go on.

use super::{
    super::repair,
    Row,
    check::{Known, difference, look},
    come, crowded, leave, locked, no_memory, repair_all, say, writes_of,
};
use crate::{
    host::{HostSizes, HostStore},
    outcome::{Event, StoreError},
    platform::Platform,
    store::{
        family::{V4, V6},
        hash::TorrentKey,
        index,
        membership::{Announce, PeerEvent},
        owner::Owner,
        record::list_capacity,
        resize,
        sweep::{Ages, Batch, sweep},
        tests::{Peers, torrent},
        upsert,
    },
    word::death,
};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

const SIZES: HostSizes = HostSizes { index_buckets: 8, swarms: 200, partitions: 64, chunks_v4: 256, chunks_v6: 256 };

/// Peers of each thread, in each of so many torrents.
const PEERS: u32 = 150;
const TORRENTS: u32 = 3;

/// Who may be killed.
const MORTAL: u32 = 0;

fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32
}

/// What a peer of a thread does next. True if it was done.
fn step<P: Platform, F: Peers>(
    platform: &P,
    thread: u32,
    state: &mut u64,
    leaves: bool,
) -> Option<(u32, u32, PeerEvent)> {
    let cx = crate::platform::Context::new(platform).expect("a host platform");
    let (number, peer, seeder) = (random(state) % TORRENTS, random(state) % PEERS, random(state).is_multiple_of(3));
    let event = if leaves && random(state).is_multiple_of(3) { PeerEvent::Stopped } else { PeerEvent::None };
    let announce = Announce {
        info_hash: &torrent(number),
        peer: F::peer(thread * PEERS + peer),
        seeder,
        event,
        owner: Owner::NONE,
    };
    match upsert::announce::<P, F>(&cx, &announce) {
        Ok(_) => Some((number, peer, event)),
        Err(StoreError::Contended) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Goes on announcing as a core does until told to stop; returns which peers are there in the end,
/// with how many rounds it did.
fn core<F: Peers>(store: &HostStore, thread: u32, stop: &AtomicBool, steps: &AtomicU64) -> (Vec<(u32, u32)>, u32) {
    let platform = store.limited_platform::<64>(u64::from(thread));
    let (mut state, mut there, mut rounds) = (u64::from(thread) + 77, Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        if let Some((number, peer, event)) = step::<_, F>(&platform, thread, &mut state, true) {
            there.retain(|known| *known != (number, peer));
            if event != PeerEvent::Stopped {
                there.push((number, peer));
            }
        }
        rounds += 1;
        steps.fetch_add(1, Ordering::SeqCst);
    }
    (there, rounds)
}

#[test]
fn others_go_on_while_threads_are_killed_and_repaired() {
    let store = HostStore::new(&SIZES, 5);
    let stop = AtomicBool::new(false);
    let (mut lost, mut deaths) = (0, 0);
    let steps = [const { AtomicU64::new(0) }; 2];
    let there = thread::scope(|scope| {
        let cores = [
            scope.spawn(|| core::<V4>(&store, 1, &stop, &steps[0])),
            scope.spawn(|| core::<V6>(&store, 2, &stop, &steps[1])),
        ];
        let mut state = 99;
        for round in 0_u32..200 {
            let mortal = store.platform(u64::from(round));
            let writes = u64::from(random(&mut state) % 3000);
            deaths += u32::from(
                death::after(writes, || {
                    for _ in 0..30 {
                        step::<_, V4>(&mortal, MORTAL, &mut state, true);
                        step::<_, V6>(&mortal, MORTAL, &mut state, true);
                    }
                    let ages = Ages { peer_timeout: 8000, idle: 8000, idle_completed: 8000 };
                    sweep(&mortal.context(), &Batch { first: 0, end: u32::MAX, ages }, |_, _| {});
                })
                .is_none(),
            );
            // A core that has done a step since holds no lock of before. Threads of a test can be put to
            // sleep, so no time would be long enough.
            let begun = steps.each_ref().map(|steps| steps.load(Ordering::SeqCst));
            let next = store.platform(7);
            let repaired = repair(&next.context(), store.journals(), || {
                thread::yield_now();
                !steps.iter().zip(begun).all(|(steps, begun)| steps.load(Ordering::SeqCst) > begun + 1)
            });
            lost += repaired.in_doubt;
        }
        stop.store(true, Ordering::Relaxed);
        cores.map(|core| core.join().expect("it does not fail"))
    });
    assert!(deaths > 50, "{deaths} deaths");
    let found = look(&store, &store.limited_platform::<1>(1));
    // These are for statistics, and were changed by others meanwhile.
    assert!(found.miscounted <= deaths, "{} miscounted", found.miscounted);
    assert!(found.lost <= lost, "{} lost, {lost} said", found.lost);
    let [(v4, rounds_v4), (v6, rounds_v6)] = there;
    println!("{deaths} deaths, {rounds_v4} and {rounds_v6} announces beside them, {lost} in doubt");
    // All peers of those who were not killed, and none that left.
    let kept = |family: usize, thread: u32, compact: fn(u32) -> Vec<u8>| -> Known {
        let all: Vec<_> = (0..PEERS).map(|peer| compact(thread * PEERS + peer)).collect();
        let is_its = |name: &[u8]| name.len() == family + 4 && all.iter().any(|peer| name.starts_with(peer));
        found.peers.iter().filter(|(name, _)| is_its(name)).map(|(name, kind)| (name.clone(), *kind)).collect()
    };
    for (found, there) in
        [(kept(6, 1, |peer| V4::compact(V4::peer(peer))), v4), (kept(18, 2, |peer| V6::compact(V6::peer(peer))), v6)]
    {
        assert_eq!(found.len(), there.len(), "{:?}", difference(&found, &found, &found));
    }
}

/// As XDP programs do that do not wait for the dead: peers leave torrent 0, and the memory that they leave
/// goes to another one. Returns how many peers there are more then, in both.
fn pass_memory_on<F: Peers>(store: &HostStore) -> i64 {
    let platform = store.limited_platform::<1>(9);
    let cx = platform.context();
    let say = |number, peer, event| {
        let announce =
            Announce { info_hash: &torrent(number), peer: F::peer(peer), seeder: false, event, owner: Owner::NONE };
        // What is locked, or for which there is no memory, is not done.
        let _ = upsert::announce::<_, F>(&cx, &announce);
    };
    (0..600).for_each(|peer| say(0, peer, PeerEvent::Stopped));
    (0..200).for_each(|peer| say(1, 10_000 + peer, PeerEvent::Started));
    let count = |events: [Event; 2]| events.map(|event| platform.events(event) as i64).iter().sum::<i64>();
    count([Event::Peer4Added, Event::Peer6Added]) - count([Event::Peer4Removed, Event::Peer6Removed])
}

/// Peers of both torrents.
fn peers(platform: &impl Platform) -> i64 {
    let cx = crate::platform::Context::new(platform).expect("a host platform");
    let counts = [0, 1].map(|number| index::counts(&cx, &TorrentKey::new(cx.settings, &torrent(number))));
    counts.iter().map(|counts| i64::from(counts.seeders) + i64::from(counts.leechers)).sum()
}

/// Threads are killed in the last writes of these, and before that is repaired others go on.
fn memory_of_the_dead<F: Peers>() {
    let row = |name, prepare, act| Row { name, prepare, act };
    let rows = [
        row("split", |cx| crowded::<F>(cx, 1), |cx| say::<F>(cx, 900, true, PeerEvent::Started)),
        row(
            "merge",
            |cx| {
                crowded::<F>(cx, 3);
                leave::<F>(cx, 0..list_capacity::<F>());
            },
            |cx| locked(cx, |swarm| assert!(resize::merge::<_, F>(cx, swarm))),
        ),
        row(
            "list to partition",
            |cx| come::<F>(cx, list_capacity::<F>()),
            |cx| say::<F>(cx, 900, false, PeerEvent::Started),
        ),
        row("a list loses a chunk", |cx| come::<F>(cx, F::CHUNK_SLOTS + 1), |cx| leave::<F>(cx, 0..1)),
    ];
    for row in rows {
        let base = HostStore::new(&super::SIZES, 3);
        (row.prepare)(&base.platform(1).context());
        let (end, before) = (writes_of(&row, &base), peers(&base.limited_platform::<1>(1)));
        for writes in end.saturating_sub(150)..=end {
            let store = base.copy();
            let dead = store.platform(2);
            death::after(writes, || (row.act)(&dead.context()));
            // No more than what is given back.
            no_memory(&dead.context());
            let more = pass_memory_on::<F>(&store);
            drop(dead);
            let repaired = repair_all(&store);
            let platform = store.limited_platform::<1>(1);
            let found = look(&store, &platform);
            let what = format!("{}, killed before write {writes}", row.name);
            assert!(found.lost <= repaired.in_doubt, "{what}: {} lost, {repaired:?}", found.lost);
            // The peer of the dead itself may be there or not.
            let wrong = peers(&platform) - before - more;
            assert!((-1..=1).contains(&wrong), "{what}: {wrong} peers too many");
        }
    }
}

#[test]
fn memory_that_was_the_deads_stays_with_whoever_has_it_now() {
    memory_of_the_dead::<V4>();
    memory_of_the_dead::<V6>();
}
