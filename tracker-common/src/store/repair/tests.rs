//! A thread is killed before each of its writes to shared memory, whatever it does, and what it
//! leaves behind is repaired and looked through.

use super::{Repaired, repair};
use crate::{
    host::{FIRST_MINUTE, HostPlatform, HostSizes, HostStore},
    outcome::StoreError,
    platform::{Context, Platform as _, SwarmRef},
    store::{
        evict_chunk,
        family::{V4, V6},
        hash::TorrentKey,
        index,
        journal::Place,
        membership::{Announce, PeerEvent},
        owner::Owner,
        record::list_capacity,
        resize::{self, peers_per_partition},
        sweep::{Ages, Batch, sweep},
        tests::{CHUNKS_V4, CHUNKS_V6, PARTITIONS, Peers, spare, torrent},
        upsert,
    },
    word::death,
};
use check::{difference, look};

mod check;
mod races;

const SIZES: HostSizes = HostSizes { index_buckets: 4, swarms: 124, partitions: 24, chunks_v4: 128, chunks_v6: 160 };

type Host<'s> = HostPlatform<'s>;
type Cx<'c, 's> = Context<'c, Host<'s>>;

/// Something that a thread is killed at.
struct Row {
    name: &'static str,
    prepare: fn(&Cx<'_, '_>),
    act: fn(&Cx<'_, '_>),
}

/// A peer of torrent 0 announces.
fn say<F: Peers>(cx: &Cx<'_, '_>, peer: u32, seeder: bool, event: PeerEvent) {
    let announce = Announce { info_hash: &torrent(0), peer: F::peer(peer), seeder, event, owner: Owner::NONE };
    let stored = upsert::announce::<_, F>(cx, &announce).map(|_| ());
    assert!(matches!(stored, Ok(()) | Err(StoreError::MemoryFull)), "{stored:?}");
}

/// So many peers, of which every third is a seeder.
fn come<F: Peers>(cx: &Cx<'_, '_>, count: u32) {
    for peer in 0..count {
        say::<F>(cx, peer, peer % 3 == 2, PeerEvent::Started);
    }
}

fn leave<F: Peers>(cx: &Cx<'_, '_>, peers: impl Iterator<Item = u32>) {
    peers.for_each(|peer| say::<F>(cx, peer, false, PeerEvent::Stopped));
}

fn swarm<'m>(cx: &Context<'m, Host<'_>>) -> SwarmRef<'m> {
    index::find(cx, &TorrentKey::new(cx.settings, &torrent(0))).expect("torrent 0")
}

/// Does something that takes the swarm's lock.
fn locked<'m>(cx: &Context<'m, Host<'_>>, what: impl FnOnce(SwarmRef<'m>)) {
    let swarm = swarm(cx);
    assert_eq!(cx.platform.acquire(&swarm.record.lock, Place::Swarm(swarm.id)), Ok(()));
    what(swarm);
    cx.platform.release(&swarm.record.lock);
}

/// A torrent with some peers, beside one with so many, all of which are overdue.
fn elsewhere<F: Peers>(cx: &Cx<'_, '_>, count: u32) {
    cx.settings.interval.store(600);
    for peer in 0..count {
        let (event, owner) = (PeerEvent::Started, Owner::NONE);
        let announce = Announce { info_hash: &torrent(1), peer: F::peer(peer), seeder: peer % 3 == 2, event, owner };
        upsert::announce::<_, F>(cx, &announce).expect("room");
    }
    cx.settings.minute.store(FIRST_MINUTE + 30);
    come::<F>(cx, 9);
}

/// With the lock of the one held, the other gives way.
fn make_room<F: Peers>(cx: &Cx<'_, '_>) {
    let pools = cx.platform.store().pools();
    locked(cx, |_| {
        for _ in 0..64 {
            if pools.chunks_v4.free.load() + pools.chunks_v6.free.load() == 0 {
                evict_chunk::evict::<_, F>(cx);
            }
        }
    });
}

/// No partition is left, and no chunk.
fn no_memory(cx: &Cx<'_, '_>) {
    for pool in [PARTITIONS, CHUNKS_V4, CHUNKS_V6] {
        spare(cx.platform.store(), pool, 0);
    }
}

/// A swarm with partitions, that has more peers than these are for by one or is about to.
fn crowded<F: Peers>(cx: &Cx<'_, '_>, partitions: u32) {
    let peers = (peers_per_partition(F::VERSION) * partitions).max(list_capacity::<F>() + 1);
    let limit = &cx.settings.pool_limits[PARTITIONS];
    let before = limit.load();
    limit.store(partitions);
    come::<F>(cx, peers);
    limit.store(before);
    assert_eq!(F::partitions(swarm(cx).record), Some(partitions));
}

fn expire(cx: &Cx<'_, '_>, minutes: u32) {
    expire_up_to(cx, minutes, u32::MAX);
}

fn expire_up_to(cx: &Cx<'_, '_>, minutes: u32, end: u32) {
    cx.settings.minute.store(FIRST_MINUTE + minutes);
    let ages = Ages { peer_timeout: 45, idle: 45, idle_completed: 45 };
    sweep(cx, &Batch { first: 0, end, ages }, |_, _| {});
}

/// Some peers announce again, so that they do not expire.
fn stay<F: Peers>(cx: &Cx<'_, '_>, peers: impl Iterator<Item = u32>) {
    cx.settings.minute.store(FIRST_MINUTE + 30);
    peers.for_each(|peer| say::<F>(cx, peer, peer % 3 == 2, PeerEvent::None));
}

fn create(cx: &Cx<'_, '_>, number: u32) {
    let stored = index::create(cx, &TorrentKey::new(cx.settings, &torrent(number)));
    assert!(matches!(stored, Ok(_) | Err(StoreError::TorrentsFull)), "{stored:?}");
}

/// What each family does in the same way. A list has room for more than a record's slots and not for
/// all peers of a list in its first chunk.
fn rows<F: Peers>() -> Vec<Row> {
    let row = |name, prepare, act| Row { name, prepare, act };
    vec![
        row("first peer of a torrent", |_| {}, |cx| say::<F>(cx, 0, false, PeerEvent::Started)),
        row("a seeder for a slot", |cx| come::<F>(cx, 1), |cx| say::<F>(cx, 1, true, PeerEvent::Completed)),
        row("completes in a slot", |cx| come::<F>(cx, 2), |cx| say::<F>(cx, 0, true, PeerEvent::Completed)),
        row("stops in a slot", |cx| come::<F>(cx, 2), |cx| leave::<F>(cx, 0..1)),
        row(
            "evicts in a slot",
            |cx| {
                come::<F>(cx, F::RECORD_SLOTS as u32);
                no_memory(cx);
            },
            |cx| say::<F>(cx, 90, true, PeerEvent::Started),
        ),
        row(
            "slots to list",
            |cx| come::<F>(cx, F::RECORD_SLOTS as u32),
            |cx| say::<F>(cx, 90, false, PeerEvent::Started),
        ),
        row("a leecher for a list", |cx| come::<F>(cx, 9), |cx| say::<F>(cx, 90, false, PeerEvent::Started)),
        row("a seeder for a list", |cx| come::<F>(cx, 9), |cx| say::<F>(cx, 90, true, PeerEvent::Started)),
        row(
            "a list gets a chunk",
            |cx| {
                // One that was used before.
                come::<F>(cx, F::CHUNK_SLOTS + 1);
                leave::<F>(cx, F::CHUNK_SLOTS..F::CHUNK_SLOTS + 1);
            },
            |cx| say::<F>(cx, 90, false, PeerEvent::Started),
        ),
        row(
            "a list gets a new chunk",
            |cx| come::<F>(cx, F::CHUNK_SLOTS),
            |cx| say::<F>(cx, 90, true, PeerEvent::Started),
        ),
        row("completes in a list", |cx| come::<F>(cx, 9), |cx| say::<F>(cx, 0, true, PeerEvent::Completed)),
        row("is a leecher again", |cx| come::<F>(cx, 9), |cx| say::<F>(cx, 2, false, PeerEvent::None)),
        row("a leecher stops in a list", |cx| come::<F>(cx, 9), |cx| leave::<F>(cx, 0..1)),
        row("a seeder stops in a list", |cx| come::<F>(cx, 9), |cx| leave::<F>(cx, 2..3)),
        row("a list loses a chunk", |cx| come::<F>(cx, F::CHUNK_SLOTS + 1), |cx| leave::<F>(cx, 0..1)),
        row(
            "evicts in a list",
            |cx| {
                come::<F>(cx, F::CHUNK_SLOTS);
                no_memory(cx);
            },
            |cx| say::<F>(cx, 90, true, PeerEvent::Completed),
        ),
        row("a list elsewhere loses a chunk", |cx| elsewhere::<F>(cx, F::CHUNK_SLOTS + 2), make_room::<F>),
        row(
            "list to partition",
            |cx| {
                come::<F>(cx, list_capacity::<F>());
                cx.settings.pool_limits[PARTITIONS].store(1);
            },
            |cx| say::<F>(cx, 900, false, PeerEvent::Started),
        ),
        row(
            "list to partition, and nothing else",
            |cx| come::<F>(cx, list_capacity::<F>()),
            |cx| locked(cx, |swarm| resize::promote::<_, F>(cx, swarm).expect("room")),
        ),
        row(
            "a leecher for a partition",
            |cx| crowded::<F>(cx, 2),
            |cx| {
                spare(cx.platform.store(), PARTITIONS, 0);
                say::<F>(cx, 900, false, PeerEvent::Started);
            },
        ),
        row("completes in a partition", |cx| crowded::<F>(cx, 2), |cx| say::<F>(cx, 0, true, PeerEvent::Completed)),
        row("stops in a partition", |cx| crowded::<F>(cx, 2), |cx| leave::<F>(cx, 0..2)),
        row("first split", |cx| crowded::<F>(cx, 1), |cx| say::<F>(cx, 900, true, PeerEvent::Started)),
        row("split with a new node", |cx| crowded::<F>(cx, 8), |cx| say::<F>(cx, 9000, false, PeerEvent::Started)),
        row(
            "merge",
            |cx| {
                crowded::<F>(cx, 3);
                leave::<F>(cx, 0..list_capacity::<F>());
            },
            |cx| locked(cx, |swarm| assert!(resize::merge::<_, F>(cx, swarm))),
        ),
        row(
            "merge that takes a node away",
            |cx| {
                crowded::<F>(cx, 9);
                leave::<F>(cx, 0..peers_per_partition(F::VERSION) * 8);
            },
            |cx| locked(cx, |swarm| assert!(resize::merge::<_, F>(cx, swarm))),
        ),
        row(
            "partition to list",
            |cx| {
                crowded::<F>(cx, 1);
                leave::<F>(cx, 0..list_capacity::<F>() - 20);
            },
            |cx| locked(cx, |swarm| resize::partition_to_list::<_, F>(cx, swarm)),
        ),
        row(
            "list to slots",
            |cx| {
                come::<F>(cx, F::RECORD_SLOTS as u32 + 1);
                leave::<F>(cx, 0..2);
            },
            |cx| locked(cx, |swarm| resize::list_to_slots::<_, F>(cx, swarm)),
        ),
        row(
            "a list is swept",
            |cx| {
                come::<F>(cx, F::CHUNK_SLOTS + 2);
                stay::<F>(cx, (0..F::CHUNK_SLOTS + 2).filter(|peer| peer % 4 != 0));
            },
            |cx| expire(cx, 50),
        ),
        row(
            "partitions are swept and merged",
            |cx| {
                crowded::<F>(cx, 2);
                stay::<F>(cx, (0..500).filter(|peer| peer % 50 == 0));
            },
            |cx| expire(cx, 50),
        ),
        row(
            "a torrent is removed",
            |cx| {
                come::<F>(cx, 1);
                leave::<F>(cx, 0..1);
                create(cx, 7);
            },
            |cx| expire(cx, 50),
        ),
    ]
}

fn other_rows() -> Vec<Row> {
    let row = |name, prepare, act| Row { name, prepare, act };
    fn full(cx: &Cx<'_, '_>) {
        (1..115).for_each(|number| create(cx, number));
    }
    vec![
        row("torrents away from home", full, |cx| (200..203).for_each(|number| create(cx, number))),
        row("no place is left", |cx| (1..125).for_each(|number| create(cx, number)), |cx| create(cx, 300)),
        row(
            "as many as there may be",
            |cx| {
                create(cx, 1);
                spare(cx.platform.store(), 0, 0);
            },
            |cx| create(cx, 300),
        ),
        row(
            "no place is left, and more may be",
            |cx| {
                (1..125).for_each(|number| create(cx, number));
                spare(cx.platform.store(), 0, 9);
            },
            |cx| create(cx, 300),
        ),
        row("torrents are removed", full, |cx| expire_up_to(cx, 50, 14)),
        // Of one family: who stays of so few is a matter of chance, and has to be the same again.
        row("a list elsewhere fits into slots", |cx| elsewhere::<V4>(cx, 7), make_room::<V4>),
    ]
}

/// What the next daemon does.
fn repair_all(store: &HostStore) -> Repaired {
    let platform = store.platform(9);
    repair(&platform.context(), store.journals(), || false)
}

/// Kills whoever repairs, too, before this many writes, and then repairs.
fn repair_twice(store: &HostStore, writes: u64) -> Repaired {
    death::after(writes, || repair_all(store));
    repair_all(store)
}

/// How much is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Of rows with many writes, one of some in a row.
    Some,
    /// The same, and whoever repairs is killed, too.
    Twice,
    /// Each.
    All,
}

/// Writes of a row from which on not each is a row's end, and which are.
const MANY: u64 = 80;
const STEP: usize = 37;

/// Its last writes, each of which is one again: there memory is given back.
const LAST: u64 = 60;

/// How many writes a row has.
fn writes_of(row: &Row, base: &HostStore) -> u64 {
    let dies_before = |writes| {
        let store = base.copy();
        let platform = store.platform(2);
        death::after(writes, || (row.act)(&platform.context())).is_none()
    };
    let (mut least, mut end) = (0, 1 << 20);
    while least < end {
        let middle = (least + end) / 2;
        if dies_before(middle) { least = middle + 1 } else { end = middle }
    }
    least
}

/// Returns how many writes there were to be killed before.
fn kill_at_each_write(row: &Row, extent: Extent) -> u64 {
    let base = HostStore::new(&SIZES, 3);
    (row.prepare)(&base.platform(1).context());
    let found = |store: &HostStore| look(store, &store.limited_platform::<1>(1));
    let before = found(&base).peers;
    let after = {
        let store = base.copy();
        (row.act)(&store.platform(2).context());
        found(&store).peers
    };
    let again = extent == Extent::Twice;
    let (many, step, last) = match extent {
        Extent::Some => (MANY, STEP, LAST),
        Extent::Twice => (MANY / 2, STEP * 5, LAST / 6),
        Extent::All => (MANY, 1, 0),
    };
    let end = writes_of(row, &base);
    for writes in (0..many).chain((many..end).step_by(step)).chain(end.saturating_sub(last)..=end) {
        let store = base.copy();
        let platform = store.platform(2);
        let alive = death::after(writes, || (row.act)(&platform.context())).is_some();
        let what = format!("{}, killed before write {writes}", row.name);
        let repaired = if again { repair_twice(&store, writes * 7 % 400) } else { repair_all(&store) };
        drop(platform);
        let name = what.clone();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let now = found(&store);
            assert_eq!(difference(&now.peers, &before, &after), None, "{repaired:?}");
            assert_eq!(now.miscounted, 0, "free records");
            // What is lost is said, unless the repair was killed before it could say so.
            assert!(now.lost <= if again { 1 } else { repaired.in_doubt }, "{} lost, {repaired:?}", now.lost);
            assert!(store.journals().iter().all(|journal| !journal.is_claimed() || journal.locks().next().is_none()));
            // And it goes on, as if nothing had been.
            (row.act)(&store.platform(4).context());
            let again = found(&store);
            // But for a record that is missing now, which may have been the last one.
            if now.lost == 0 {
                assert!(again.peers.keys().eq(after.keys()), "done again");
            }
        }));
        if let Err(cause) = result {
            eprintln!("{name}");
            std::panic::resume_unwind(cause);
        }
        if alive {
            assert_eq!(repaired, Repaired::default(), "{what}: nobody was killed");
            return writes;
        }
    }
    unreachable!("it ends")
}

fn kill_in_all(rows: &[Row], extent: Extent) {
    for row in rows {
        let start = std::time::Instant::now();
        let writes = kill_at_each_write(row, extent);
        assert!(writes >= 10, "{}: {writes} writes", row.name);
        println!("{}: {writes} writes, {:?}", row.name, start.elapsed());
    }
}

#[test]
fn whoever_is_killed_loses_no_ipv4_peer_but_his_own() {
    kill_in_all(&rows::<V4>(), Extent::Some);
}

#[test]
fn whoever_is_killed_loses_no_ipv6_peer_but_his_own() {
    kill_in_all(&rows::<V6>(), Extent::Some);
}

#[test]
fn whoever_is_killed_elsewhere_loses_no_torrent_but_his_own() {
    kill_in_all(&other_rows(), Extent::Some);
}

#[test]
fn whoever_repairs_may_be_killed_as_well() {
    kill_in_all(&rows::<V4>(), Extent::Twice);
    kill_in_all(&rows::<V6>(), Extent::Twice);
    kill_in_all(&other_rows(), Extent::Twice);
}

#[test]
#[ignore = "takes minutes"]
fn all_of_it_at_each_write() {
    kill_in_all(&rows::<V4>(), Extent::All);
    kill_in_all(&rows::<V6>(), Extent::All);
    kill_in_all(&other_rows(), Extent::All);
}
