//! A sample goes on while a change of structure stands still. Somebody else begins to change the swarm
//! between any two steps of the sample, and pauses before any of his writes until the sample is done:
//! two long delays, at each place where they can be. Nobody may be given twice, or who was never there.

use super::super::{
    super::{
        filter::PeerFilter,
        journal::Place,
        sample::{Wanted, sample},
        scope::EVERYTHING,
        sweep::{Ages, Batch, sweep},
    },
    *,
};
use super::{PeerEvent, Peers, V4, V6, announce, grown};
use crate::{
    host::{FIRST_MINUTE, HostPlatform, HostSizes, HostStore},
    store::{hash::TorrentKey, index, tests::torrent},
    word::death,
};
use std::{cell::Cell, collections::BTreeSet};

const SIZES: HostSizes = HostSizes { index_buckets: 1, swarms: 2, partitions: 8, chunks_v4: 40, chunks_v6: 40 };

/// More than there are peers, so that a sample takes all of them.
const ALL: u32 = 150;

/// The tries of whoever samples: it does not wait for the one that stands still.
const TRIES: u32 = 2;

type Cx<'c, 's> = Context<'c, HostPlatform<'s>>;

/// A swarm with peers 0 to `peers` - 1 in so many partitions, 0 for a list, and what is done to it.
struct Row {
    name: &'static str,
    peers: u32,
    partitions: u32,
    act: fn(&Cx<'_, '_>),
}

fn swarm<'m, P: Platform>(cx: &Context<'m, P>) -> SwarmRef<'m> {
    index::find(cx, &TorrentKey::new(cx.settings, &torrent(0))).expect("torrent 0")
}

/// Does something with the swarm's lock held.
fn locked(cx: &Cx<'_, '_>, what: impl FnOnce(SwarmRef<'_>)) {
    let swarm = swarm(cx);
    cx.platform.acquire(&swarm.record.lock, Place::Swarm(swarm.id)).expect("nobody holds it");
    what(swarm);
    cx.platform.release(&swarm.record.lock);
}

fn rows<F: Peers>() -> Vec<Row> {
    let row = |name, peers, partitions, act| Row { name, peers, partitions, act };
    vec![
        row("merge of two", 8, 2, |cx| locked(cx, |swarm| assert!(merge::<_, F>(cx, swarm)))),
        row("merge of three", 9, 3, |cx| locked(cx, |swarm| assert!(merge::<_, F>(cx, swarm)))),
        row("merge of four", 12, 4, |cx| locked(cx, |swarm| assert!(merge::<_, F>(cx, swarm)))),
        row("split of one", peers_per_partition(F::VERSION) + 1, 1, |cx| {
            split::<_, F>(cx, swarm(cx)).expect("room");
        }),
        row("a partition becomes a list", 8, 1, |cx| locked(cx, |swarm| partition_to_list::<_, F>(cx, swarm))),
        row("a list becomes a partition", 9, 0, |cx| locked(cx, |swarm| promote::<_, F>(cx, swarm).expect("room"))),
        row("one leaves, another one comes", 9, 2, |cx| {
            announce::<_, F>(cx, 3, PeerEvent::Stopped).expect("stored");
            announce::<_, F>(cx, 8, PeerEvent::None).expect("stored");
        }),
        row("swept until it is a list", 8, 2, |cx| {
            let ages = Ages { peer_timeout: 45, idle: 45, idle_completed: 45 };
            sweep(cx, &Batch { first: 0, end: u32::MAX, ages }, |_, _| {});
        }),
    ]
}

/// Few peers are in several partitions only if others have left.
fn prepare<F: Peers>(cx: &Cx<'_, '_>, row: &Row) {
    let most = if row.partitions > 1 { row.partitions * peers_per_partition(F::VERSION) } else { row.peers };
    grown::<_, F>(cx, most, row.partitions);
    (row.peers..most).for_each(|peer| announce::<_, F>(cx, peer, PeerEvent::Stopped).expect("stored"));
    assert_eq!(F::partitions(swarm(cx).record).unwrap_or(0), row.partitions, "{}", row.name);
}

/// Lets the other one begin between two steps and pause before a write. Whether it has come to its end;
/// `None` if the sample has not so many steps.
fn once<F: Peers>(base: &HostStore, row: &Row, (seed, step, writes): (u64, u32, u64)) -> Option<bool> {
    let store = base.copy();
    let (steps, done) = (Cell::new(0), Cell::new(false));
    let other = store.platform(7);
    let hook = || {
        steps.set(steps.get() + 1);
        if steps.get() == step {
            done.set(death::after(writes, || (row.act)(&other.context())).is_some());
        }
    };
    let platform = store.limited_platform::<TRIES>(seed).with_hook(&hook);
    let cx = platform.context();
    let wanted = Wanted { count: ALL, filter: PeerFilter::new(true, EVERYTHING), exclude: F::peer(1_000_000) };
    let sample = sample::<_, F>(&cx, swarm(&cx), &wanted);
    if steps.get() < step {
        return None;
    }
    if let Some(sample) = sample {
        let bytes = platform.bytes(sample.start, sample.count * F::PEER_BYTES).expect("inside the scratch space");
        let (mut seen, what) = (BTreeSet::new(), format!("{}, {seed}: step {step}, write {writes}", row.name));
        for peer in bytes.chunks(F::PEER_BYTES as usize).map(F::read) {
            assert!((0..row.peers).any(|number| F::peer(number) == peer), "{what}: {peer:x?} is nobody");
            assert!(seen.insert(peer), "{what}: {peer:x?} is there twice");
        }
    }
    Some(done.get())
}

fn all<F: Peers>() {
    for row in rows::<F>() {
        let base = HostStore::new(&SIZES, 1);
        prepare::<F>(&base.platform(1).context(), &row);
        base.settings().minute.store(FIRST_MINUTE + 1);
        let mut most = 0;
        // Samples begin in different partitions.
        for seed in [1, 2, 3] {
            for step in 1.. {
                let mut reached = false;
                for writes in 0.. {
                    let Some(done) = once::<F>(&base, &row, (seed, step, writes)) else { break };
                    (reached, most) = (true, writes.max(most));
                    if done {
                        break;
                    }
                }
                if !reached {
                    break;
                }
            }
        }
        assert!(most > 20, "{}: {most} writes", row.name);
    }
}

#[test]
fn nobody_is_given_twice_while_a_change_of_ipv4_peers_stands_still() {
    all::<V4>();
}

#[test]
fn nobody_is_given_twice_while_a_change_of_ipv6_peers_stands_still() {
    all::<V6>();
}
