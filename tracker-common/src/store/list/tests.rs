use super::{
    super::{
        family::{V4, V6},
        layout::{PARTITION_CHUNKS, Partition, RECORD_ENTRIES},
        slot::{LEECHER, minute_bits},
        tests::{Peers, ROOMY, members, spare, used},
    },
    *,
};
use crate::{
    host::{FIRST_MINUTE, HostPlatform, HostStore},
    id::{PartitionId, SwarmId},
};
use std::collections::{BTreeMap, BTreeSet};

const FLAGS: u64 = OCCUPIED | LEECHER;

/// The list that is tested: that of partition or swarm record number 3.
trait Tested<F: Family>: List<F> + Sized {
    fn of<'p>(platform: &'p HostPlatform<'_>) -> &'p Self;
}

impl<F: Family> Tested<F> for Partition {
    fn of<'p>(platform: &'p HostPlatform<'_>) -> &'p Self {
        platform.partition(PartitionId::new(3)).expect("a partition")
    }
}

impl<F: Family> Tested<F> for Swarm {
    fn of<'p>(platform: &'p HostPlatform<'_>) -> &'p Self {
        platform.swarm(SwarmId::new(3)).expect("a swarm record")
    }
}

/// Runs a test on all kinds of lists.
macro_rules! on_all {
    ($test:ident) => {
        $test::<V4, Partition>();
        $test::<V6, Partition>();
        $test::<V4, Swarm>();
        $test::<V6, Swarm>();
    };
}

/// Slots of a list.
fn capacity<F: Family, L: List<F>>() -> u32 {
    L::CHUNKS * F::CHUNK_SLOTS
}

fn fill<F: Peers, L: Tested<F>>(platform: &HostPlatform<'_>, peers: u32) {
    for peer in 0..peers {
        insert::<_, F, L>(&platform.context(), L::of(platform), F::peer(peer), FLAGS).expect("room");
    }
}

/// All peers, read slot by slot: they have to stand without gaps.
fn keys<F: Peers, L: Tested<F>>(platform: &HostPlatform<'_>) -> BTreeSet<F::Key> {
    let peers = L::of(platform).peers();
    let slots = (0..peers).map(|number| slot::<_, F, L>(platform, L::of(platform), number).expect("a slot"));
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
    assert_eq!((capacity::<V4, Partition>(), capacity::<V6, Partition>()), (384, 192));
    assert_eq!((capacity::<V4, Swarm>(), capacity::<V6, Swarm>()), (256, 128));
}

fn to_capacity<F: Peers, L: Tested<F>>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    for peer in 0..capacity::<F, L>() {
        assert_eq!(find::<_, F, L>(&cx, L::of(&platform), F::peer(peer)), None);
        assert_eq!(insert::<_, F, L>(&cx, L::of(&platform), F::peer(peer), FLAGS), Ok(()), "{peer}");
        assert_eq!(used(&store)[F::CHUNKS], chunks_for::<F>(peer + 1), "{peer}");
        assert_eq!(find::<_, F, L>(&cx, L::of(&platform), F::peer(peer)), Some(peer));
    }
    assert_eq!(platform.events(Event::Grown), u64::from(L::CHUNKS));
    assert_eq!(keys::<F, L>(&platform), expected::<F>(0..capacity::<F, L>()));
    let full = insert::<_, F, L>(&cx, L::of(&platform), F::peer(capacity::<F, L>()), FLAGS);
    assert_eq!(full, Err(StoreError::MemoryFull));
    assert_eq!(used(&store)[F::CHUNKS], L::CHUNKS);
    assert_eq!(keys::<F, L>(&platform), expected::<F>(0..capacity::<F, L>()));
}

#[test]
fn a_partition_takes_as_many_peers_as_its_chunks_have_slots() {
    on_all!(to_capacity);
}

fn without_memory<F: Peers, L: Tested<F>>() {
    // (peers there are, chunks left, whether one more peer has a place)
    let slots = F::CHUNK_SLOTS;
    for (peers, left, possible) in
        [(0, 0, false), (0, 1, true), (1, 0, true), (slots - 1, 0, true), (slots, 0, false), (slots, 1, true)]
    {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        fill::<F, L>(&platform, peers);
        spare(&store, F::CHUNKS, left);
        let result = insert::<_, F, L>(&platform.context(), L::of(&platform), F::peer(peers), FLAGS);
        assert_eq!(result, if possible { Ok(()) } else { Err(StoreError::MemoryFull) }, "{peers} {left}");
        assert_eq!(keys::<F, L>(&platform), expected::<F>(0..peers + u32::from(possible)));
    }
}

#[test]
fn a_peer_without_a_chunk_is_refused_and_those_there_stay() {
    on_all!(without_memory);
}

fn removal<F: Peers, L: Tested<F>>() {
    let (slots, all) = (F::CHUNK_SLOTS, capacity::<F, L>());
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
            fill::<F, L>(&platform, peers);
            assert_eq!(remove::<_, F, L>(&platform, L::of(&platform), number), Some(()));
            release_last::<_, F, L>(&platform, L::of(&platform));
            assert_eq!(
                keys::<F, L>(&platform),
                expected::<F>((0..peers).filter(|peer| *peer != number)),
                "{number} of {peers}"
            );
            assert_eq!(used(&store)[F::CHUNKS], chunks_for::<F>(peers - 1), "{number} of {peers}");
            assert_eq!(find::<_, F, L>(&platform.context(), L::of(&platform), F::peer(number)), None);
            if number < peers - 1 {
                let last = find::<_, F, L>(&platform.context(), L::of(&platform), F::peer(peers - 1));
                assert_eq!(last, Some(number), "the last one stands in its place");
            }
        }
    }
}

#[test]
fn the_last_peer_takes_the_place_of_one_that_leaves() {
    on_all!(removal);
}

fn to_the_last<F: Peers, L: Tested<F>>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let all = capacity::<F, L>();
    fill::<F, L>(&platform, all);
    for left in (0..all).rev() {
        // From the middle outwards, so that most are replaced by others.
        remove::<_, F, L>(&platform, L::of(&platform), left / 2).expect("a peer");
        release_last::<_, F, L>(&platform, L::of(&platform));
        assert_eq!((keys::<F, L>(&platform).len() as u32, used(&store)[F::CHUNKS]), (left, chunks_for::<F>(left)));
    }
}

#[test]
fn a_partition_that_empties_gives_all_chunks_back() {
    on_all!(to_the_last);
}

fn eviction<F: Peers, L: Tested<F>>() {
    let slots = F::CHUNK_SLOTS;
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    fill::<F, L>(&platform, 2 * slots + 3);
    let set = |number, minutes_ago: u32| {
        let slot = slot::<_, F, L>(&platform, L::of(&platform), number).expect("a slot");
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
        assert_eq!(oldest::<_, F, L>(&cx, L::of(&platform), hash), Some(expected), "{hash:#x}");
    }
    // An empty list has no chunk: the number of one that it had is somebody else's by now.
    L::of(&platform).set_occupancy(Occupancy::default());
    assert_eq!(oldest::<_, F, L>(&cx, L::of(&platform), 0), None, "nobody is there");
}

#[test]
fn the_oldest_peer_of_the_hashs_chunk_gives_way() {
    on_all!(eviction);
}

fn order<F: Peers, L: Tested<F>>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let list = L::of(&platform);
    let kinds = [0, LEECHER];
    // From nothing to two chunks and back, with all that can happen to a peer of either kind:
    // whoever is where, and whether readers have to notice.
    let mut expected: BTreeMap<F::Key, u64> = BTreeMap::new();
    for turn in 0..40 * F::CHUNK_SLOTS {
        let random = turn.wrapping_mul(0x9e37_79b9) >> 8;
        let (peer, flags) = (F::peer(random % (2 * F::CHUNK_SLOTS + 3)), OCCUPIED | kinds[random as usize / 1024 % 2]);
        let before = list.occupancy();
        let version = list.lock().version().expect("nobody changes it");
        assert!(list.lock().try_lock());
        let announced = match find::<_, F, L>(&cx, list, peer) {
            None => {
                assert_eq!(insert::<_, F, L>(&cx, list, peer, flags), Ok(()));
                expected.insert(peer, flags);
                flags & LEECHER != 0 && before.leechers < before.peers
            }
            Some(number) if turn % 3 != 0 => {
                let slot = slot::<_, F, L>(&platform, list, number).expect("a slot");
                let other_kind = (slot.flags() ^ flags) & LEECHER != 0;
                slot.set_flags(flags);
                assert_eq!(reorder::<_, F, L>(&platform, list, number), Some(()));
                expected.insert(peer, flags);
                other_kind
            }
            Some(number) => {
                list.lock().begin_change();
                remove::<_, F, L>(&platform, list, number).expect("a peer");
                release_last::<_, F, L>(&platform, list);
                expected.remove(&peer);
                true
            }
        };
        list.lock().unlock();
        assert_eq!(version.still_holds(), !announced, "turn {turn}: a peer that was there has moved");
        assert_eq!(members::<_, F, L>(&platform, list).into_iter().collect::<BTreeMap<_, _>>(), expected, "{turn}");
    }
    let kinds = [LEECHER, 0].map(|kind| expected.values().filter(|flags| **flags & LEECHER == kind).count());
    assert!(kinds.iter().all(|kind| *kind > F::CHUNK_SLOTS as usize / 4), "{kinds:?} of each kind");
}

#[test]
fn leechers_stand_before_seeders_whatever_happens() {
    on_all!(order);
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
    let (partition, swarm): (&Partition, &Swarm) =
        (<Partition as Tested<V4>>::of(&platform), <Swarm as Tested<V4>>::of(&platform));
    // (number, of an IPv4 partition, an IPv6 one, and of lists that the record names)
    for (number, there) in [
        (0, [true, true, true, true]),
        (127, [true, true, true, true]),
        (128, [true, true, true, false]),
        (191, [true, true, true, false]),
        (192, [true, false, true, false]),
        (255, [true, false, true, false]),
        (256, [true, false, false, false]),
        (383, [true, false, false, false]),
        (384, [false, false, false, false]),
        (u32::MAX, [false, false, false, false]),
    ] {
        let found = [
            slot::<_, V4, _>(&platform, partition, number).is_some(),
            slot::<_, V6, _>(&platform, partition, number).is_some(),
            slot::<_, V4, _>(&platform, swarm, number).is_some(),
            slot::<_, V6, _>(&platform, swarm, number).is_some(),
        ];
        assert_eq!(found, there, "{number}");
    }
    assert_eq!((PARTITION_CHUNKS, RECORD_ENTRIES), (12, 8));
}

fn chunk_numbers<F: Peers, L: Tested<F>>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let list = L::of(&platform);
    for index in 0..L::CHUNKS + 3 {
        list.set_chunk_id(index, ChunkId::new(100 + index));
    }
    for index in 0..L::CHUNKS + 3 {
        let expected = (index < L::CHUNKS).then(|| ChunkId::new(100 + index));
        assert_eq!(list.chunk_id(index), expected, "{index}");
    }
    for peers in [0, 1, L::CHUNKS * F::CHUNK_SLOTS] {
        list.set_occupancy(Occupancy { peers, leechers: peers / 2 });
        assert_eq!(list.occupancy(), Occupancy { peers, leechers: peers / 2 });
        assert_eq!(list.chunk_id(0), Some(ChunkId::new(100)), "the number of peers stands elsewhere");
    }
}

#[test]
fn chunks_of_a_list_are_kept_apart() {
    on_all!(chunk_numbers);
}
