use super::*;
use crate::{
    cluster::{message::Batch, piece::Ask},
    store::{
        clock, keys,
        sizes::{Capacity, Sizes},
    },
};
use std::time::Duration;

fn store() -> Arc<Store> {
    let sizes = Sizes::new(&Capacity { torrents: 20_000, peers_v4: 50_000, peers_v6: 1000 }).expect("small");
    let store = Arc::new(Store::anonymous(&sizes).expect("small"));
    keys::set(&store, None).expect("random numbers");
    clock::set(store.settings(), 60_000_000);
    store.settings().interval.store(1800);
    store
}

fn change(shard: u8, number: u32) -> Change {
    let mut info_hash = [number as u8; 20];
    info_hash[0] = shard << 2;
    info_hash[1] = (number >> 8) as u8;
    let address = u64::from(u32::from_le_bytes([198, 51, (number >> 8) as u8, number as u8]));
    Change { peer: [address | 0x0100_0000_0000, 0, 0], info_hash, kind: 0, owner: 0, version: 4, unused: 0 }
}

fn message(shard: u8, changes: &[Change]) -> Vec<u8> {
    let mut batch = Batch::default();
    for change in changes {
        batch.add(change);
    }
    batch.take(&Header { node: 1, sequence: 0, shard, time: 0 }).0
}

#[test]
fn what_is_not_taken_is_counted_by_its_reason() {
    let (store, meters) = (store(), Arc::new(Meters::default()));
    let mut intake = Intake::new(&store, &meters, 0b11, Budget::new(1000, 100));
    let now = Instant::now();
    let good = message(1, &[change(1, 1), change(1, 2)]);
    let mut later = good.clone();
    later[2] = 99;
    let nowhere = Change { peer: [0x0100_0000_0000, 0, 0], ..change(1, 3) };
    type Row<'a> = (&'a str, Vec<u8>, bool, Option<(Dropped, u64)>);
    let rows: [Row<'_>; 6] = [
        ("fine", good.clone(), true, None),
        ("foreign", b"PUB".to_vec(), false, Some((Dropped::Foreign, 1))),
        ("a later version", later, false, Some((Dropped::Version, 1))),
        ("cut off", good[..good.len() - 1].to_vec(), false, Some((Dropped::Malformed, 1))),
        ("others' shard", message(2, &[change(2, 1)]), false, Some((Dropped::Shard, 1))),
        ("an address that is none", message(1, &[nowhere]), true, Some((Dropped::Address, 1))),
    ];
    for (name, bytes, taken, why) in rows {
        let before = Dropped::ALL.map(|why| meters.dropped(why));
        assert_eq!(intake.message(&bytes, now).is_some(), taken, "{name}");
        let after = Dropped::ALL.map(|why| meters.dropped(why));
        for (number, why_not) in Dropped::ALL.into_iter().enumerate() {
            let expected = why.filter(|(why, _)| *why == why_not).map_or(0, |(_, count)| count);
            assert_eq!(after[number] - before[number], expected, "{name}: {why_not:?}");
        }
    }
    let figures = meters.figures(3);
    assert_eq!((figures.stored, figures.messages_received, figures.dropped["lost"]), (2, 6, 3));
}

#[test]
fn no_more_is_taken_in_a_second_than_the_budget_allows() {
    let (store, meters) = (store(), Arc::new(Meters::default()));
    let mut intake = Intake::new(&store, &meters, u64::MAX, Budget::new(1000, 100));
    let begin = Instant::now();
    let changes: Vec<_> = (0..1500).map(|number| change(0, number)).collect();
    assert_eq!((intake.changes(&changes, begin), meters.dropped(Dropped::Budget)), (1000, 500));
    assert_eq!(intake.changes(&changes, begin), 0, "in the same moment");
    assert_eq!(intake.changes(&changes, begin + Duration::from_millis(500)), 500);
    assert_eq!(intake.changes(&changes, begin + Duration::from_secs(60)), 1000, "it does not pile up");
}

#[test]
fn no_more_of_a_processors_time_is_spent_than_the_budget_allows() {
    // What is taken each time takes 40 ms of a processor that is this thread's for a quarter.
    let (store, meters) = (store(), Arc::new(Meters::default()));
    let mut intake = Intake::new(&store, &meters, u64::MAX, Budget::new(1_000_000, 25));
    let mut clock = Duration::ZERO;
    intake.processor_time = Box::new(move || {
        clock += Duration::from_millis(40);
        clock
    });
    let begin = Instant::now();
    let bytes = message(1, &[change(1, 1), change(1, 2)]);
    for (milliseconds, has_time, stored) in [
        (0, true, 2),
        (0, true, 4),
        (0, true, 6),
        (0, true, 8),
        (0, true, 10),
        (0, true, 12),
        (0, true, 14),
        // 280 ms of 250 are spent.
        (0, false, 14),
        (100, false, 14),
        (200, true, 16),
        (500, true, 18),
    ] {
        let now = begin + Duration::from_millis(milliseconds);
        assert_eq!(intake.has_time(now), has_time, "at {milliseconds} ms, after {stored}");
        assert!(intake.message(&bytes, now).is_some(), "its number is taken in any case");
        assert_eq!(meters.figures(0).stored, stored, "at {milliseconds} ms");
    }
    assert_eq!(meters.dropped(Dropped::Budget), 4);
    // What the thread does besides counts as well, and what it has done so far not twice: nine times 40 ms.
    intake.spend_rest_of(Duration::from_millis(360));
    assert!(intake.has_time(begin + Duration::from_millis(500)));
    intake.spend_rest_of(Duration::from_millis(100));
    assert!(!intake.has_time(begin + Duration::from_millis(500)));
    assert_eq!(meters.figures(0).taking_seconds, 0.46);
    // A piece of a snapshot takes time as well.
    let later = begin + Duration::from_secs(60);
    for has_time in [true, true, true, true, true, true, true, false] {
        assert_eq!(intake.has_time(later), has_time);
        intake.piece(&Block::default());
    }
}

#[test]
fn what_the_budget_does_not_allow_is_dropped_by_its_reason_and_not_looked_at() {
    let (store, meters) = (store(), Arc::new(Meters::default()));
    let mut intake = Intake::new(&store, &meters, 0b11, Budget::new(1000, 100));
    let now = Instant::now();
    intake.budget.spend(Duration::from_secs(2));
    intake.processor_time = Box::new(|| unreachable!("nothing is read"));
    let good = message(1, &[change(1, 1), change(1, 2), change(1, 3)]);
    let mut later = good.clone();
    later[2] = 99;
    // What is in it does not matter any more, as long as the lengths are right.
    let odd = [&good[..30], &vec![0; good.len() - 30]].concat();
    let long = [&good[..], &[0; 1 << 20]].concat();
    for (name, bytes, known, why, count) in [
        ("good", good.clone(), true, Dropped::Budget, 3),
        ("with odd changes", odd, true, Dropped::Budget, 3),
        ("foreign", b"PUB".to_vec(), false, Dropped::Foreign, 1),
        ("a later version", later, false, Dropped::Version, 1),
        ("cut off", good[..good.len() - 1].to_vec(), false, Dropped::Malformed, 1),
        ("far too long", long, false, Dropped::Malformed, 1),
        ("without changes", good[..26].to_vec(), false, Dropped::Malformed, 1),
        ("others' shard", message(2, &[change(2, 1), change(2, 2)]), false, Dropped::Shard, 2),
    ] {
        let before = meters.dropped(why);
        assert_eq!(intake.message(&bytes, now).is_some(), known, "{name}");
        assert_eq!(meters.dropped(why) - before, count, "{name}");
    }
    let figures = meters.figures(0);
    assert_eq!((figures.stored, figures.messages_received, figures.dropped.values().sum::<u64>()), (0, 8, 13));
}

/// All of a store, by pieces.
fn copied(from: &Arc<Store>, shards: u64, age: u16, mut take: impl FnMut(usize, &Block)) {
    let (mut ask, mut pieces) = (Ask { from: 0, shards, age }, 0);
    loop {
        let bytes = piece::piece(from, &Ask::decode(&ask.encode()).expect("what was written"));
        assert!(bytes.len() < 1 << 20, "a message of NATS has a MiB at most: {}", bytes.len());
        let (block, next) = piece::decode(&bytes).expect("a piece");
        take(pieces, &block);
        pieces += 1;
        match next {
            Some(next) => ask.from = next,
            None => break,
        }
    }
}

#[test]
fn a_new_node_gets_all_that_another_one_has_but_for_who_has_left() {
    let (old, new, meters) = (store(), store(), Arc::new(Meters::default()));
    let mut there = Intake::new(&old, &meters, u64::MAX, Budget::new(1_000_000, 100));
    let now = Instant::now();
    // Small swarms of all shards, and one that takes several pieces.
    let small = (0..5000).map(|number| change((number % 64) as u8, number));
    let large = (0..40_000).map(|number| Change { info_hash: [0xff; 20], ..change(63, number) });
    let all: Vec<_> = small.chain(large).collect();
    assert_eq!(there.changes(&all, now), 45_000);
    let fresh = Arc::new(Meters::default());
    let mut here = Intake::new(&new, &fresh, u64::MAX, Budget::new(1_000_000, 100));
    here.begin_snapshot();
    let gone = Change { kind: Kind::Left as u8, ..change(63, 7) };
    here.changes(&[Change { info_hash: [0xff; 20], ..gone }], now);
    let mut most = 0;
    copied(&old, u64::MAX, 480, |pieces, block| {
        most = pieces;
        here.piece(block);
    });
    assert!(most >= 1, "it takes several pieces");
    assert_eq!(fresh.figures(0).caught_up, 44_999);
    // Some shards only; and only what is young.
    let some = Arc::new(Meters::default());
    let mut part = Intake::new(&store(), &some, 0b110, Budget::new(1_000_000, 100));
    copied(&old, 0b110, 480, |_, block| part.piece(block));
    assert_eq!(some.figures(0).caught_up, 158, "of 5000 in 64 shards");
    clock::set(old.settings(), 60_000_000 + 600);
    let mut peers = 0;
    copied(&old, u64::MAX, 9, |_, block| peers += block.v4.len());
    assert_eq!(peers, 0);
    copied(&old, u64::MAX, 10, |_, block| peers += block.v4.len());
    assert_eq!(peers, 45_000);
}

#[test]
fn no_peer_of_a_large_swarm_is_missed_that_stays_while_others_come_and_go() {
    let now = Instant::now();
    let of = |number: u32| Change { info_hash: [0xff; 20], ..change(63, number) };
    // Whoever has these numbers leaves, and as many come, when the first piece has been made.
    type Row = (&'static str, fn(u32) -> bool, u32);
    let rows: [Row; 4] = [
        ("nobody", |_| false, 0),
        ("many leave", |number| number % 2 == 0, 0),
        ("the first leave", |number| number < 30_000, 0),
        ("others come instead", |number| number % 3 == 0, 15_000),
    ];
    for (name, leaves, come) in rows {
        let (old, new, meters) = (store(), store(), Arc::new(Meters::default()));
        let mut there = Intake::new(&old, &meters, u64::MAX, Budget::new(1_000_000, 100));
        let mut here = Intake::new(&new, &meters, u64::MAX, Budget::new(1_000_000, 100));
        let all: Vec<_> = (0..45_000).map(of).collect();
        assert_eq!(there.changes(&all, now), 45_000, "{name}");
        let mut most = 0;
        copied(&old, u64::MAX, 480, |number, block| {
            most = number;
            here.piece(block);
            if number == 0 {
                let gone = (0..45_000).filter(|number| leaves(*number));
                let gone = gone.map(|number| Change { kind: Kind::Left as u8, ..of(number) });
                let changes: Vec<_> = gone.chain((45_000..45_000 + come).map(of)).collect();
                there.changes(&changes, now);
            }
        });
        assert!(most >= 1, "{name}: it takes several pieces");
        let (_, peers) = crate::snapshot::look::torrent(&new, &[0xff; 20]).expect("it is there");
        let peers: HashSet<_> = peers.into_iter().map(|peer| peer.address).collect();
        let (_, stayed) = crate::snapshot::look::torrent(&old, &[0xff; 20]).expect("it is there");
        let stayed: HashSet<_> = stayed.into_iter().map(|peer| peer.address).collect();
        let lacks = (0..45_000).filter(|number| !leaves(*number)).map(of).filter(|change| {
            let [a, b, c, d, high, low, ..] = change.peer[0].to_le_bytes();
            let address = (std::net::Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into();
            assert!(stayed.contains(&address), "{name}");
            !peers.contains(&address)
        });
        assert_eq!(lacks.count(), 0, "{name}");
    }
}

/// A frame of zstd that becomes so many times 128 KiB of zeros.
fn bomb(blocks: u32) -> Vec<u8> {
    // No size is said; a window of 128 KiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for number in 1..=blocks {
        let repeated = 128 << 10 << 3 | 1 << 1 | u32::from(number == blocks);
        frame.extend_from_slice(&repeated.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn pieces_that_become_far_too_much_are_refused() {
    assert_eq!(zstd::bulk::decompress(&bomb(8), 1 << 20).expect("a frame").len(), 1 << 20);
    // (name, 128 KiB, what is said that it becomes)
    for (name, blocks, said) in [
        ("a GiB", 8192, 1 << 20),
        ("a GiB that is said", 8192, 1 << 30),
        ("more than is said", 8, 1000),
        ("as much as there may be, of nothing", 8, 1 << 20),
        ("less than is said", 1, 1 << 20),
    ] {
        let counts = [1, 1, 0, said].map(u32::to_le_bytes).concat();
        let piece = [&b"TP\x01\0"[..], &[0; 8], &counts, &bomb(blocks)].concat();
        assert!(piece.len() < 40_000, "{name}: {}", piece.len());
        assert!(piece::decode(&piece).is_none(), "{name}");
    }
}

#[test]
fn what_is_no_piece_and_no_question_is_refused() {
    let good = piece::piece(&store(), &Ask { from: 0, shards: 1, age: 1 });
    assert!(piece::decode(&good).is_some());
    let long = [&good[..24], &u32::MAX.to_le_bytes(), &good[28..]].concat();
    for (name, bytes) in [("nothing", &[][..]), ("short", &good[..27]), ("foreign", b"x"), ("long", &long)] {
        assert!(piece::decode(bytes).is_none(), "{name}");
    }
    for at in [0, 1, 2, 12, 16, 20, 24, 28, good.len() - 1] {
        let mut wrong = good.clone();
        wrong[at] ^= 0x41;
        assert!(piece::decode(&wrong).is_none(), "{at}");
    }
    let ask = Ask { from: 1, shards: 2, age: 3 }.encode();
    for (name, bytes) in [("nothing", &[][..]), ("short", &ask[..21]), ("long", &[&ask[..], b"x"].concat())] {
        assert_eq!(Ask::decode(bytes), None, "{name}");
    }
    let mut foreign = ask;
    foreign[2] = 9;
    assert_eq!(Ask::decode(&foreign), None);
}

/// What a core does in a second: `cargo test --profile tests -p tracker --lib cluster -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn measured() {
    const TORRENTS: u32 = 400_000;
    const PEERS: u32 = 4_000_000;
    let large = || {
        let capacity = Capacity { torrents: TORRENTS.into(), peers_v4: PEERS.into(), peers_v6: 1000 };
        let store = Arc::new(Store::anonymous(&Sizes::new(&capacity).expect("it fits")).expect("memory"));
        keys::set(&store, None).expect("random numbers");
        clock::set(store.settings(), 60_000_000);
        store.settings().interval.store(1800);
        store
    };
    let change = |number: u32| {
        let mut info_hash = [0; 20];
        let mixed = (number % TORRENTS).wrapping_mul(0x9e37_79b1);
        info_hash[..4].copy_from_slice(&mixed.to_be_bytes());
        let address = u64::from(u32::from_le_bytes([198, (number >> 16) as u8, (number >> 8) as u8, number as u8]));
        let peer = [address | u64::from(1 + (number >> 24)) << 32 | 0x0100_0000_0000, 0, 0];
        Change { peer, info_hash, kind: 0, owner: 0, version: 4, unused: 0 }
    };
    let mut batches = crate::cluster::outgoing::Batches::new(1, u64::MAX, Instant::now());
    let (begin, mut messages, mut bytes) = (Instant::now(), Vec::new(), 0);
    for number in 0..PEERS {
        if let Some(message) = batches.add(&change(number), begin, 1) {
            bytes += message.bytes.len();
            messages.push(message.bytes);
        }
    }
    let rate = |count: u64, begin: Instant| count as f64 / begin.elapsed().as_secs_f64() / 1e6;
    let sent = messages.len() as u64 * 50;
    println!("out: {:.2} M changes/s, {:.1} bytes each", rate(PEERS.into(), begin), bytes as f64 / f64::from(PEERS));
    let (store, meters) = (large(), Arc::new(Meters::default()));
    let mut intake = Intake::new(&store, &meters, u64::MAX, Budget::new(100_000_000, 100));
    for what in ["new", "known"] {
        let begin = Instant::now();
        let before = meters.figures(0).stored;
        for message in &messages {
            intake.budget = Budget::new(100_000_000, 100);
            intake.message(message, begin);
        }
        let stored = meters.figures(0).stored - before;
        println!("in, {what} peers: {:.2} M changes/s, {stored} of about {sent}", rate(stored, begin));
    }
    drop(messages);
    let (new, fresh) = (large(), Arc::new(Meters::default()));
    let mut here = Intake::new(&new, &fresh, u64::MAX, Budget::new(1, 100));
    let (begin, mut pieces, mut packed) = (Instant::now(), 0, 0);
    let mut ask = Ask { from: 0, shards: u64::MAX, age: 480 };
    loop {
        let bytes = piece::piece(&store, &ask);
        (pieces, packed) = (pieces + 1, packed + bytes.len());
        let (block, next) = piece::decode(&bytes).expect("a piece");
        here.piece(&block);
        match next {
            Some(next) => ask.from = next,
            None => break,
        }
    }
    let peers = fresh.figures(0).caught_up;
    println!(
        "a new node: {peers} peers in {:.1} s, both ends on one core; {pieces} pieces, {:.1} bytes a peer",
        begin.elapsed().as_secs_f64(),
        packed as f64 / peers as f64
    );
}
