use super::{
    super::{
        family::{V4, V6},
        slot::{LEECHER, minute_bits},
        tests::{Peers, ROOMY, spare, used},
    },
    *,
};
use crate::host::{FIRST_MINUTE, HostPlatform, HostStore};
use std::collections::BTreeSet;

const FLAGS: u64 = OCCUPIED | LEECHER;

/// The partition that is tested: number 3.
const ID: PartitionId = PartitionId::new(3);

fn record<'p>(platform: &'p HostPlatform<'_>) -> &'p Partition {
    platform.partition(ID).expect("a partition")
}

fn fill<F: Peers>(platform: &HostPlatform<'_>, peers: u32) {
    for peer in 0..peers {
        insert::<_, F>(&platform.context(), record(platform), F::peer(peer), FLAGS).expect("room");
    }
}

/// All peers, read slot by slot: they have to stand without gaps.
fn keys<F: Peers>(platform: &HostPlatform<'_>) -> BTreeSet<F::Key> {
    let peers = record(platform).peers.load();
    let slots = (0..peers).map(|number| slot::<_, F>(platform, record(platform), number).expect("a slot"));
    let keys: BTreeSet<_> = slots.inspect(|slot| assert!(slot.is_occupied())).map(|slot| slot.key()).collect();
    assert_eq!(keys.len(), peers as usize, "a peer twice");
    keys
}

fn expected<F: Peers>(numbers: impl Iterator<Item = u32>) -> BTreeSet<F::Key> {
    numbers.map(F::peer).collect()
}

#[test]
fn chunks_for_peers() {
    for (peers, of_v4, of_v6) in [(0, 0, 0), (1, 1, 1), (16, 1, 1), (17, 1, 2), (32, 1, 2), (33, 2, 3), (192, 6, 12)] {
        assert_eq!((chunks_for::<V4>(peers), chunks_for::<V6>(peers)), (of_v4, of_v6), "{peers}");
    }
    assert_eq!((capacity::<V4>(), capacity::<V6>()), (384, 192));
}

fn to_capacity<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    for peer in 0..capacity::<F>() {
        assert_eq!(find::<_, F>(&cx, record(&platform), F::peer(peer)), None);
        assert_eq!(insert::<_, F>(&cx, record(&platform), F::peer(peer), FLAGS), Ok(()), "{peer}");
        assert_eq!(used(&store)[F::CHUNKS], chunks_for::<F>(peer + 1), "{peer}");
        assert_eq!(find::<_, F>(&cx, record(&platform), F::peer(peer)), Some(peer));
    }
    assert_eq!(platform.events(Event::Grown), u64::from(PARTITION_CHUNKS));
    assert_eq!(keys::<F>(&platform), expected::<F>(0..capacity::<F>()));
    let full = insert::<_, F>(&cx, record(&platform), F::peer(capacity::<F>()), FLAGS);
    assert_eq!(full, Err(StoreError::MemoryFull));
    assert_eq!(used(&store)[F::CHUNKS], PARTITION_CHUNKS);
    assert_eq!(keys::<F>(&platform), expected::<F>(0..capacity::<F>()));
}

#[test]
fn a_partition_takes_as_many_peers_as_its_chunks_have_slots() {
    to_capacity::<V4>();
    to_capacity::<V6>();
}

fn without_memory<F: Peers>() {
    // (peers there are, chunks left, whether one more peer has a place)
    let slots = F::CHUNK_SLOTS;
    for (peers, left, possible) in
        [(0, 0, false), (0, 1, true), (1, 0, true), (slots - 1, 0, true), (slots, 0, false), (slots, 1, true)]
    {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        fill::<F>(&platform, peers);
        spare(&store, F::CHUNKS, left);
        let result = insert::<_, F>(&platform.context(), record(&platform), F::peer(peers), FLAGS);
        assert_eq!(result, if possible { Ok(()) } else { Err(StoreError::MemoryFull) }, "{peers} {left}");
        assert_eq!(keys::<F>(&platform), expected::<F>(0..peers + u32::from(possible)));
    }
}

#[test]
fn a_peer_without_a_chunk_is_refused_and_those_there_stay() {
    without_memory::<V4>();
    without_memory::<V6>();
}

fn removal<F: Peers>() {
    let (slots, all) = (F::CHUNK_SLOTS, capacity::<F>());
    for (peers, numbers) in [
        (1, vec![0]),
        (2, vec![0, 1]),
        (slots, vec![0, 1, slots / 2, slots - 1]),
        (slots + 1, vec![0, slots - 1, slots]),
        (slots + 2, vec![0, slots - 1, slots, slots + 1]),
        (all, vec![0, slots, all - slots, all - 1]),
    ] {
        for number in numbers {
            let store = HostStore::new(&ROOMY, 1);
            let platform = store.platform(1);
            fill::<F>(&platform, peers);
            assert_eq!(remove::<_, F>(&platform, record(&platform), number), Some(()));
            release_last::<_, F>(&platform, record(&platform));
            assert_eq!(
                keys::<F>(&platform),
                expected::<F>((0..peers).filter(|peer| *peer != number)),
                "{number} of {peers}"
            );
            assert_eq!(used(&store)[F::CHUNKS], chunks_for::<F>(peers - 1), "{number} of {peers}");
            assert_eq!(find::<_, F>(&platform.context(), record(&platform), F::peer(number)), None);
            if number < peers - 1 {
                let last = find::<_, F>(&platform.context(), record(&platform), F::peer(peers - 1));
                assert_eq!(last, Some(number), "the last one stands in its place");
            }
        }
    }
}

#[test]
fn the_last_peer_takes_the_place_of_one_that_leaves() {
    removal::<V4>();
    removal::<V6>();
}

fn to_the_last<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let all = capacity::<F>();
    fill::<F>(&platform, all);
    for left in (0..all).rev() {
        // From the middle outwards, so that most are replaced by others.
        remove::<_, F>(&platform, record(&platform), left / 2).expect("a peer");
        release_last::<_, F>(&platform, record(&platform));
        assert_eq!((keys::<F>(&platform).len() as u32, used(&store)[F::CHUNKS]), (left, chunks_for::<F>(left)));
    }
}

#[test]
fn a_partition_that_empties_gives_all_chunks_back() {
    to_the_last::<V4>();
    to_the_last::<V6>();
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
                append::<_, F>(&platform, record(&platform), F::peer(peer), FLAGS).expect("a place");
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

fn eviction<F: Peers>() {
    let slots = F::CHUNK_SLOTS;
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    fill::<F>(&platform, 2 * slots + 3);
    let set = |number, minutes_ago: u32| {
        let slot = slot::<_, F>(&platform, record(&platform), number).expect("a slot");
        slot.set_flags(FLAGS | minute_bits(FIRST_MINUTE - minutes_ago));
    };
    (0..2 * slots + 3).for_each(|number| set(number, 5));
    set(3, 40);
    set(4, 39);
    set(2 * slots - 1, 44);
    set(2 * slots + 1, 6);
    // (hash, slot): the upper 16 bits choose the chunk.
    for (hash, expected) in [
        (0, 3),
        (0x5554_ffff, 3),
        (0x5556_0000, 2 * slots - 1),
        (0xaaa0_0000, 2 * slots - 1),
        (0xaaab_0000, 2 * slots + 1),
        (u32::MAX, 2 * slots + 1),
    ] {
        assert_eq!(oldest::<_, F>(&cx, record(&platform), hash), Some(expected), "{hash:#x}");
    }
}

#[test]
fn the_oldest_peer_of_the_hashs_chunk_gives_way() {
    eviction::<V4>();
    eviction::<V6>();
}

#[test]
fn places_without_a_peer_are_not_the_oldest() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let occupied = |age: u32| OCCUPIED | minute_bits(100 - age);
    // (flags, the oldest)
    for (flags, expected) in [
        ([occupied(1), occupied(2), occupied(3)], 2),
        ([occupied(3), occupied(3), occupied(1)], 0),
        ([occupied(0), occupied(0), occupied(0)], 0),
        ([occupied(1), minute_bits(50), occupied(2)], 2),
        ([minute_bits(50), occupied(0), occupied(1)], 2),
    ] {
        let words = flags.map(|flags| crate::word::Word::new(flags | 7));
        assert_eq!(oldest_of::<V4>(scratch, Slots::new(&words), 3, 100), expected, "{flags:x?}");
        assert_eq!(oldest_of::<V4>(scratch, Slots::new(&words), 1, 100), 0, "one place");
    }
}

#[test]
fn slots_beyond_the_last_chunk_do_not_exist() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    for (number, of_v4, of_v6) in [
        (0, true, true),
        (191, true, true),
        (192, true, false),
        (383, true, false),
        (384, false, false),
        (u32::MAX, false, false),
    ] {
        assert_eq!(slot::<_, V4>(&platform, record(&platform), number).is_some(), of_v4, "{number}");
        assert_eq!(slot::<_, V6>(&platform, record(&platform), number).is_some(), of_v6, "{number}");
    }
}
