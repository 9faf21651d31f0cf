//! Whether the checker finds what is wrong, and nothing else. Not beside it, as others compile the
//! checker as well.

use super::check::{Kind, Patience, check};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tracker_common::{
    host::{HostPlatform, HostSizes, HostStore},
    id::{ChunkId, InfoHash, PartitionId},
    platform::{Context, Platform as _, SwarmRef},
    store::{
        allocator,
        directory::find as partition_at,
        family::{Family, V4, V6},
        hash::TorrentKey,
        index,
        layout::{ChunkV4, ChunkV6, ONE_SEEDER, Occupancy, Partition, Swarm},
        list::List,
        lock::Lock,
        membership::{Announce, PeerEvent},
        owner::Owner,
        slot::LEECHER,
        sweep::{Ages, Batch, sweep},
        upsert,
    },
};

const SIZES: HostSizes = HostSizes { index_buckets: 2, swarms: 62, partitions: 32, chunks_v4: 128, chunks_v6: 128 };

/// Torrents by what they have.
const SMALL: u32 = 0;
const LIST: u32 = 1;
const BIG: u32 = 2;
/// From here on one peer each, so many that a bucket is full.
const OTHERS: u32 = 3;

type Host<'s> = HostPlatform<'s>;

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0x5a; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

fn v4(number: u32) -> u64 {
    V4::key((0x0900_0000 + number).to_be_bytes(), 6881)
}

fn v6(number: u32) -> [u64; 3] {
    V6::key((0x2001_0db8 << 96 | u128::from(number)).to_be_bytes(), 6881)
}

fn announce<F: Family>(cx: &Context<'_, Host<'_>>, number: u32, peer: F::Key, seeder: bool, event: PeerEvent) {
    let announce = Announce { info_hash: &torrent(number), peer, seeder, event, owner: Owner::NONE };
    upsert::announce::<_, F>(cx, &announce).expect("room");
}

/// A small swarm, one with lists, one with partitions, both families; and others.
fn fill(cx: &Context<'_, Host<'_>>) {
    for (number, peers_v4, peers_v6) in [(SMALL, 3, 1), (LIST, 40, 20), (BIG, 700, 300)] {
        for peer in 0..peers_v4 {
            announce::<V4>(cx, number, v4(peer), peer % 3 == 0, PeerEvent::Started);
        }
        for peer in 0..peers_v6 {
            announce::<V6>(cx, number, v6(peer), peer % 3 == 0, PeerEvent::Started);
        }
    }
    for number in OTHERS..58 {
        announce::<V4>(cx, number, v4(1), false, PeerEvent::Started);
    }
    // Some memory is free again.
    for peer in 500..700 {
        announce::<V4>(cx, BIG, v4(peer), false, PeerEvent::Stopped);
    }
}

fn swarm<'m>(cx: &Context<'m, Host<'m>>, number: u32) -> SwarmRef<'m> {
    index::find(cx, &TorrentKey::new(cx.settings, &torrent(number))).expect("stored")
}

fn partition<'m, F: Family>(cx: &Context<'m, Host<'m>>, index: u32) -> &'m Partition {
    let big = swarm(cx, BIG).record;
    let count = F::partitions(big).expect("partitions");
    let id = partition_at::<_, F>(cx.platform, big, index, count).expect("an entry");
    cx.platform.partition(id).expect("in range")
}

/// A chunk of the swarm with lists.
fn chunk<'m, F: Family>(cx: &Context<'m, Host<'m>>, index: u32) -> ChunkId {
    List::<F>::chunk_id(swarm(cx, LIST).record, index).expect("a chunk")
}

fn hold(lock: &Lock) {
    assert!(lock.try_lock());
}

/// A torrent that is not in its home bucket, and the number of that.
fn passed(cx: &Context<'_, Host<'_>>) -> u32 {
    let home = |number| TorrentKey::new(cx.settings, &torrent(number)).bucket(0);
    let away = (0..58).find(|&number| swarm(cx, number).id.place().0 != home(number));
    home(away.expect("a full bucket"))
}

#[test]
fn a_store_that_is_sound_has_no_fault() {
    let store = HostStore::new(&SIZES, 3);
    let platform = store.platform(1);
    let cx = platform.context();
    assert_eq!(check(&cx, Patience::STILL).faults, []);
    fill(&cx);
    let report = check(&cx, Patience::STILL);
    assert_eq!(report.faults, []);
    assert_eq!((report.torrents, report.restless, report.hidden, report.passes), (58, 0, 0, 1));
    assert_eq!((report.peers_v4, report.peers_v6), (3 + 40 + 500 + 55, 1 + 20 + 300));
    assert_eq!(report.seeders + report.leechers, report.peers_v4 + report.peers_v6);
    let [partitions, chunks_v4, chunks_v6] = report.pools;
    let used = |pool: super::check::PoolUse| (pool.reached, pool.reached + pool.free);
    let pools = store.pools();
    assert_eq!(used(partitions), (pools.partitions.used(), pools.partitions.fresh.load()));
    assert_eq!(used(chunks_v4), (pools.chunks_v4.used(), pools.chunks_v4.fresh.load()));
    assert_eq!(used(chunks_v6), (pools.chunks_v6.used(), pools.chunks_v6.fresh.load()));
    assert!(chunks_v4.free > 0 && partitions.reached > 6);
}

#[test]
fn what_is_wrong_is_found() {
    type Plant = for<'m> fn(&Context<'m, Host<'m>>);
    let rows: [(&str, Plant, Kind); 38] = [
        ("a swarm's lock is held", |cx| hold(&swarm(cx, SMALL).record.lock), Kind::LockHeld),
        ("a partition's lock is held", |cx| hold(&partition::<V4>(cx, 1).lock), Kind::LockHeld),
        (
            "a bucket's lock is held",
            |cx| hold(&cx.platform.bucket(1).expect("in range").header(1).lock),
            Kind::LockHeld,
        ),
        ("a chunk has no owner", |cx| assert!(allocator::take::<_, ChunkV4>(cx).is_ok()), Kind::Leaked),
        ("an IPv6 chunk has no owner", |cx| assert!(allocator::take::<_, ChunkV6>(cx).is_ok()), Kind::Leaked),
        ("a partition has no owner", |cx| assert!(allocator::take::<_, Partition>(cx).is_ok()), Kind::Leaked),
        (
            "a list has another's chunk",
            |cx| partition::<V4>(cx, 0).chunks[0].store(chunk::<V4>(cx, 0).number()),
            Kind::UsedTwice,
        ),
        (
            "a chunk's owner has lost it",
            |cx| partition::<V6>(cx, 0).chunks[0].store(chunk::<V6>(cx, 0).number()),
            Kind::Leaked,
        ),
        (
            "a chunk in use is free",
            |cx| allocator::give_back::<_, ChunkV4>(cx.platform, chunk::<V4>(cx, 1)),
            Kind::UsedTwice,
        ),
        (
            "a partition in use is free",
            |cx| {
                let big = swarm(cx, BIG).record;
                let count = V4::partitions(big).expect("partitions");
                let id = partition_at::<_, V4>(cx.platform, big, 0, count).expect("an entry");
                allocator::give_back::<_, Partition>(cx.platform, id);
            },
            Kind::UsedTwice,
        ),
        ("free chunks are counted wrong", |cx| pool(cx).free.add(1), Kind::FreeListWrong),
        (
            "free chunks lead beyond what was ever used",
            |cx| pool(cx).head.store(u64::from(pool(cx).fresh.load()) + 1),
            Kind::FreeListWrong,
        ),
        (
            "free chunks go in a circle",
            |cx| {
                let first = pool(cx).head.load() as u32;
                cx.platform.chunk_v4(ChunkId::new(first - 1)).expect("in range").words[0].store(first.into());
            },
            Kind::FreeListWrong,
        ),
        ("free chunks are lost", |cx| pool(cx).head.store(0), Kind::Leaked),
        ("a record in use has no torrent", |cx| swarm(cx, SMALL).record.active.store(0), Kind::Unfinished),
        (
            "a tag is another one",
            |cx| {
                let (number, place) = swarm(cx, SMALL).id.place();
                let tags = &cx.platform.bucket(number).expect("in range").header(number).tags;
                tags[place as usize / 4].add(1 << (place % 4 * 16));
            },
            Kind::TagWrong,
        ),
        (
            "the place before the first has a tag",
            |cx| cx.platform.bucket(0).expect("in range").header(0).tags[0].add(7),
            Kind::TagWrong,
        ),
        (
            "a search ends too early",
            |cx| {
                let home = passed(cx);
                cx.platform.bucket(home).expect("in range").header(home).passed.store(0);
            },
            Kind::TorrentLost,
        ),
        (
            "a search ends too late",
            |cx| cx.platform.bucket(0).expect("in range").header(0).passed.add(1),
            Kind::PassedWrong,
        ),
        (
            "a torrent was passed too little",
            |cx| {
                let home = passed(cx);
                cx.platform.bucket(home).expect("in range").header(home).passed.add(u32::MAX);
            },
            Kind::PassedWrong,
        ),
        (
            "torrents are counted wrong",
            |cx| cx.platform.pools().expect("there").swarms.used.add(1),
            Kind::TorrentsWrong,
        ),
        ("a header counts a peer too many", |cx| V4::header(swarm(cx, BIG).record).add(1 << 32), Kind::HeaderWrong),
        (
            "more leechers than peers",
            |cx| partition::<V4>(cx, 0).occupancy.store(Occupancy { peers: 3, leechers: 4 }.to_word()),
            Kind::HeaderWrong,
        ),
        ("more partitions than there can be", |cx| V4::header(swarm(cx, BIG).record).add(0xff00), Kind::HeaderWrong),
        ("a partition is another swarm's", |cx| partition::<V4>(cx, 1).owner.add(1), Kind::OwnerWrong),
        ("a partition is another one", |cx| partition::<V6>(cx, 1).index.add(1), Kind::OwnerWrong),
        (
            "a free partition has an owner",
            |cx| {
                let id: PartitionId = allocator::take::<_, Partition>(cx).expect("room");
                cx.platform.partition(id).expect("in range").owner.store(77);
                allocator::give_back::<_, Partition>(cx.platform, id);
            },
            Kind::OwnerWrong,
        ),
        ("a list has a gap", |cx| slots::<V4>(cx).slot(5).vacate(), Kind::GapWrong),
        ("an IPv6 list has a gap", |cx| slots::<V6>(cx).slot(5).vacate(), Kind::GapWrong),
        ("a free slot is not empty", |cx| V4::record(swarm(cx, SMALL).record).word(4).store(7), Kind::GapWrong),
        (
            "a seeder stands among leechers",
            |cx| slots::<V4>(cx).slot(0).flags_word().add(LEECHER.wrapping_neg()),
            Kind::OrderWrong,
        ),
        ("seeders are counted wrong", |cx| swarm(cx, SMALL).record.counts.add(ONE_SEEDER), Kind::CountsWrong),
        (
            "a peer has no port",
            |cx| {
                let word = V4::record(swarm(cx, SMALL).record).word(0);
                word.store(word.load() & !(0xffff << 32));
            },
            Kind::PeerWrong,
        ),
        (
            "a peer is in the record twice",
            |cx| {
                let slots = V4::record(swarm(cx, SMALL).record);
                slots.slot(1).occupy(slots.slot(0).key(), slots.slot(1).flags());
            },
            Kind::PeerTwice,
        ),
        (
            "a peer is in a list twice",
            |cx| slots::<V6>(cx).slot(1).occupy(slots::<V6>(cx).slot(0).key(), slots::<V6>(cx).slot(1).flags()),
            Kind::PeerTwice,
        ),
        (
            "a peer is in another's partition",
            |cx| {
                let slots = |index| {
                    let chunk = List::<V4>::chunk_id(partition::<V4>(cx, index), 0).expect("a chunk");
                    V4::chunk(cx.platform, chunk).expect("in range")
                };
                slots(0).slot(0).swap(slots(1).slot(0));
            },
            Kind::PartitionWrong,
        ),
        (
            "a list has a peer of a scope that it does not know",
            |cx| slots::<V4>(cx).slot(1).occupy(V4::key([10, 0, 0, 1], 1), slots::<V4>(cx).slot(1).flags()),
            Kind::ScopeWrong,
        ),
        (
            "a list has a chunk that there is not",
            |cx| List::<V6>::set_chunk_id(swarm(cx, LIST).record, 0, ChunkId::new(4000)),
            Kind::NumberWrong,
        ),
    ];
    let mut found = BTreeSet::new();
    for (what, plant, expected) in rows {
        let store = HostStore::new(&SIZES, 3);
        let platform = store.platform(1);
        let cx = platform.context();
        fill(&cx);
        plant(&cx);
        let report = check(&cx, Patience::STILL);
        let kinds: BTreeSet<_> = report.faults.iter().map(|fault| fault.kind).collect();
        assert!(kinds.contains(&expected), "{what}: {:?}", report.faults);
        assert!(!report.faults.iter().any(|fault| fault.what.contains(['"', '\\'])), "{what}: {:?}", report.faults);
        found.insert(expected);
    }
    assert_eq!(found.len(), 19, "each kind of fault is planted");
}

fn pool<'m>(cx: &Context<'m, Host<'m>>) -> &'m tracker_common::store::layout::Pool {
    &cx.platform.pools().expect("there").chunks_v4
}

/// The first chunk of the swarm with lists.
fn slots<'m, F: Family>(cx: &Context<'m, Host<'m>>) -> tracker_common::store::slot::Slots<'m, F> {
    F::chunk(cx.platform, chunk::<F>(cx, 0)).expect("in range")
}

/// Peers come and go, torrents too, swarms grow and shrink, all at once; the checker looks on.
#[test]
fn a_store_under_load_has_no_fault() {
    const SIZES: HostSizes =
        HostSizes { index_buckets: 4, swarms: 124, partitions: 64, chunks_v4: 512, chunks_v6: 512 };
    let store = &HostStore::new(&SIZES, 7);
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3_u32 {
            scope.spawn(move || {
                let platform = store.platform(thread.into());
                let cx = platform.context();
                let mut turn = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    turn = turn.wrapping_add(1);
                    let peer = thread * 1000 + turn % 500;
                    let event = if (turn / 500).is_multiple_of(2) { PeerEvent::Started } else { PeerEvent::Stopped };
                    announce::<V4>(&cx, BIG, v4(peer), turn.is_multiple_of(7), event);
                    announce::<V6>(&cx, BIG, v6(peer), turn % 7 == 1, event);
                    announce::<V4>(&cx, LIST, v4(peer % 40), turn.is_multiple_of(5), event);
                    announce::<V6>(&cx, SMALL, v6(peer % 4), turn.is_multiple_of(5), event);
                    announce::<V4>(&cx, OTHERS + turn % 100, v4(thread), false, event);
                }
            });
        }
        scope.spawn(move || {
            let platform = store.platform(99);
            let ages = Ages { peer_timeout: 45, idle: 0, idle_completed: 0 };
            while !done.load(Ordering::Relaxed) {
                sweep(&platform.context(), &Batch { first: 0, end: u32::MAX, ages }, |_: &Swarm, _| {});
            }
        });
        let platform = store.platform(100);
        let faults: Vec<_> = (0..10)
            .flat_map(|_| {
                std::thread::sleep(Duration::from_millis(50));
                check(&platform.context(), Patience::BUSY).faults
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(faults, []);
    });
    let platform = store.platform(1);
    let report = check(&platform.context(), Patience::STILL);
    assert_eq!((report.faults, report.restless), (vec![], 0));
}
