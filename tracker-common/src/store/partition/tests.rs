use super::{
    super::{
        family::{V4, V6},
        list::{insert, put, slot},
        slot::{LEECHER, OCCUPIED},
        tests::{Peers, ROOMY, spare, used},
    },
    *,
};
use crate::host::{HostPlatform, HostStore};
use std::collections::BTreeSet;

const FLAGS: u64 = OCCUPIED | LEECHER;

/// The partition that is tested: number 3.
const ID: PartitionId = PartitionId::new(3);

fn record<'p>(platform: &'p HostPlatform<'_>) -> &'p Partition {
    platform.partition(ID).expect("a partition")
}

fn fill<F: Peers>(platform: &HostPlatform<'_>, peers: u32) {
    for peer in 0..peers {
        insert::<_, F, _>(&platform.context(), record(platform), F::peer(peer), FLAGS).expect("room");
    }
}

fn keys<F: Peers>(platform: &HostPlatform<'_>) -> BTreeSet<F::Key> {
    let slots = (0..record(platform).peers()).map(|number| slot::<_, F, _>(platform, record(platform), number));
    slots.map(|slot| slot.expect("a slot").key()).collect()
}

fn expected<F: Peers>(numbers: impl Iterator<Item = u32>) -> BTreeSet<F::Key> {
    numbers.map(F::peer).collect()
}

fn reserved<F: Peers>() {
    let all = capacity::<F>();
    // (peers before, peers that there shall be room for, chunks left, whether there is room)
    for (from, to, left, possible) in [
        (0, 0, 0, true),
        (0, 1, 0, false),
        (0, 1, 1, true),
        (1, F::CHUNK_SLOTS, 0, true),
        (1, F::CHUNK_SLOTS + 1, 0, false),
        (1, all, 10, false),
        (1, all, 11, true),
        (0, all, 11, false),
        (0, all, 12, true),
    ] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        fill::<F>(&platform, from);
        let before = used(&store);
        spare(&store, F::CHUNKS, left);
        let result = reserve::<_, F>(&platform.context(), ID, from, to);
        assert_eq!(result, if possible { Ok(()) } else { Err(StoreError::MemoryFull) }, "{from} to {to}, {left} left");
        let chunks = if possible { chunks_for::<F>(to) } else { chunks_for::<F>(from) };
        assert_eq!(used(&store)[F::CHUNKS], chunks, "{from} to {to}, {left} left");
        assert_eq!(keys::<F>(&platform), expected::<F>(0..from));
        if possible {
            for peer in from..to {
                put::<_, F, _>(&platform, record(&platform), F::peer(peer), FLAGS).expect("a place");
            }
            assert_eq!(keys::<F>(&platform), expected::<F>(0..to));
            release::<_, F>(&platform, ID, to, from);
            assert_eq!(used(&store), before, "given back");
        }
    }
}

#[test]
fn chunks_are_reserved_all_or_none() {
    reserved::<V4>();
    reserved::<V6>();
}
