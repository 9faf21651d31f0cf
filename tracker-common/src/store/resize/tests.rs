use super::{
    super::{
        family::{V4, V6},
        membership::PeerEvent,
        slot::{COMPLETED, LEECHER, OCCUPIED, minute_bits},
        tests::{CHUNKS_V4, PARTITIONS, Peers, ROOMY, announce, grown, peers, spare, used},
    },
    *,
};
use crate::{
    host::{HostPlatform, HostStore},
    store::lock::Lock,
};
use std::collections::BTreeMap;

mod beside_samples;

/// What must be the same before and after a change that has failed.
type State<F> = (BTreeMap<<F as super::super::slot::SlotFormat>::Key, (u64, u32)>, Option<DirectoryHeader>, [u32; 4]);

fn state<F: Peers, const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, swarm: SwarmRef<'_>) -> State<F> {
    (peers::<_, F>(&platform.context(), swarm), F::directory(swarm.record), used(platform.store()))
}

/// Peers and their flags, wherever they are.
fn flags<F: Peers, const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, swarm: SwarmRef<'_>) -> BTreeMap<F::Key, u64> {
    peers::<_, F>(&platform.context(), swarm).into_iter().map(|(peer, (flags, _))| (peer, flags)).collect()
}

/// Gives the peers in a swarm record different flags.
fn mix_flags<F: Peers>(swarm: SwarmRef<'_>) {
    for (number, kind) in (0..F::RECORD_SLOTS).zip([LEECHER, COMPLETED, 0, LEECHER | COMPLETED, LEECHER]) {
        F::record(swarm.record).slot(number).set_flags(OCCUPIED | kind | minute_bits(number as u32 + 1));
    }
}

/// With a lock held.
fn with<R>(lock: &Lock, work: impl FnOnce() -> R) -> R {
    assert!(lock.try_lock());
    let result = work();
    lock.unlock();
    result
}

/// Where a family's peers are: in slots, in a list, or in this many partitions.
fn place<F: Peers>(swarm: SwarmRef<'_>) -> Option<u32> {
    F::directory(swarm.record).map(|header| header.partitions)
}

fn promoted_and_back<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let swarm = grown::<_, F>(&cx, F::RECORD_SLOTS as u32, 0);
    mix_flags::<F>(swarm);
    swarm.record.add_scopes(5);
    let before = state::<F, 0>(&platform, swarm);
    let first = || platform.partition(PartitionId::new(0)).expect("a partition");
    let step = |name, work: &dyn Fn()| {
        let version = swarm.record.lock.version().expect("nobody changes it");
        with(&swarm.record.lock, work);
        assert!(!version.still_holds(), "{name}: readers see that the structure has changed");
        assert_eq!(peers::<_, F>(&cx, swarm), before.0, "{name}");
    };
    let up = || assert_eq!(promote::<_, F>(&cx, swarm), Ok(()));

    step("from slots to a list", &up);
    assert_eq!(place::<F>(swarm), Some(0));
    assert_eq!((used(&store)[PARTITIONS], used(&store)[F::CHUNKS], platform.events(Event::Grown)), (0, 1, 1));
    step("from a list to a partition", &up);
    assert_eq!(place::<F>(swarm), Some(1));
    assert_eq!((used(&store)[PARTITIONS], used(&store)[F::CHUNKS], platform.events(Event::Grown)), (1, 1, 2));
    assert_eq!(first().scopes(), 5);
    assert_eq!(with(&swarm.record.lock, || promote::<_, F>(&cx, swarm)), Ok(()), "somebody was faster");
    assert_eq!((place::<F>(swarm), platform.events(Event::Grown)), (Some(1), 2));

    first().add_scopes(2);
    step("from a partition to a list", &|| partition_to_list::<_, F>(&cx, swarm));
    assert_eq!(place::<F>(swarm), Some(0));
    assert_eq!((used(&store)[PARTITIONS], used(&store)[F::CHUNKS], first().owner.load()), (0, 1, 0));
    assert_eq!(swarm.record.scopes(), 7, "those of all that it has held");
    step("from a list to slots", &|| list_to_slots::<_, F>(&cx, swarm));
    assert_eq!(state::<F, 0>(&platform, swarm), before);
}

#[test]
fn peers_move_into_a_list_and_a_partition_and_back() {
    promoted_and_back::<V4>();
    promoted_and_back::<V6>();
}

fn long_list<F: Peers>() {
    // (peers, whether the record can name the chunks of a partition with so many)
    let most = list_capacity::<F>();
    for (count, possible) in [(0, true), (1, true), (most - 1, true), (most, true), (most + 1, false)] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count.max(F::RECORD_SLOTS as u32 + 1), 1);
        for peer in count..=F::RECORD_SLOTS as u32 {
            announce::<_, F>(&cx, peer, PeerEvent::Stopped).expect("a known peer");
        }
        let (before, memory) = (peers::<_, F>(&cx, swarm), used(&store));
        with(&swarm.record.lock, || partition_to_list::<_, F>(&cx, swarm));
        assert_eq!(place::<F>(swarm), Some(if possible { 0 } else { 1 }), "{count}");
        assert_eq!(peers::<_, F>(&cx, swarm), before, "{count}");
        if possible {
            with(&swarm.record.lock, || promote::<_, F>(&cx, swarm)).expect("a partition");
        }
        assert_eq!((peers::<_, F>(&cx, swarm), place::<F>(swarm), used(&store)), (before, Some(1), memory), "{count}");
    }
}

#[test]
fn a_list_and_a_partition_have_the_same_chunks() {
    long_list::<V4>();
    long_list::<V6>();
}

fn promotion_fails<F: Peers>() {
    // (a list already, partitions left, chunks left, whether the new partition's lock is held, what
    // comes of it)
    for (list, partitions, chunks, held, expected) in [
        (false, 1, 0, false, StoreError::MemoryFull),
        (true, 0, 1, false, StoreError::MemoryFull),
        (true, 1, 1, true, StoreError::Contended),
    ] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.limited_platform::<4>(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, F::RECORD_SLOTS as u32, 0);
        mix_flags::<F>(swarm);
        if list {
            with(&swarm.record.lock, || promote::<_, F>(&cx, swarm)).expect("a chunk");
        }
        spare(&store, PARTITIONS, partitions);
        spare(&store, F::CHUNKS, chunks);
        let (before, grown) = (state::<F, 4>(&platform, swarm), platform.events(Event::Grown));
        let version = swarm.record.lock.version().expect("nobody changes it");
        let next = &platform.partition(PartitionId::new(0)).expect("a partition").lock;
        assert!(!held || next.try_lock());
        let row = format!("{list} {partitions} {chunks}");
        assert_eq!(with(&swarm.record.lock, || promote::<_, F>(&cx, swarm)), Err(expected), "{row}");
        assert_eq!(state::<F, 4>(&platform, swarm), before, "{row}");
        assert!(version.still_holds(), "nothing has changed for readers");
        assert_eq!(platform.events(Event::Grown), grown);
    }
}

#[test]
fn a_promotion_without_memory_changes_nothing() {
    promotion_fails::<V4>();
    promotion_fails::<V6>();
}

fn demotion_fails<F: Peers>() {
    let fits = F::RECORD_SLOTS as u32;
    for (count, partitions) in [(fits + 1, 0), (list_capacity::<F>(), 0), (fits + 1, 1), (fits, 0)] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, partitions);
        let before = state::<F, 0>(&platform, swarm);
        with(&swarm.record.lock, || list_to_slots::<_, F>(&cx, swarm));
        assert_eq!(state::<F, 0>(&platform, swarm), before, "{count} in {partitions}");
    }
    // (peers, whether the partition's lock is held, whose it is)
    for (count, held, owner) in [(capacity::<F>(), false, 1), (fits + 1, true, 1), (fits + 1, false, 2)] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.limited_platform::<4>(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, 1);
        let partition = platform.partition(PartitionId::new(0)).expect("a partition");
        partition.owner.store(owner);
        let before = (F::directory(swarm.record), used(&store));
        assert!(!held || partition.lock.try_lock());
        with(&swarm.record.lock, || partition_to_list::<_, F>(&cx, swarm));
        assert_eq!((F::directory(swarm.record), used(&store)), before, "{held} {owner}");
        assert_eq!((partition.owner.load(), partition.peers()), (owner, count));
    }
}

#[test]
fn peers_that_do_not_fit_stay_where_they_are() {
    demotion_fails::<V4>();
    demotion_fails::<V6>();
}

fn split_and_merged<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let count = capacity::<F>() - 2;
    let swarm = grown::<_, F>(&cx, count, 1);
    let before = flags::<F, 0>(&platform, swarm);
    let memory = used(&store);
    let check = |partitions| {
        let there = peers::<_, F>(&cx, swarm);
        for (peer, (_, index)) in &there {
            assert_eq!(*index, partition_of(F::hash(cx.settings, *peer), partitions), "{peer:?} of {partitions}");
        }
        assert_eq!(flags::<F, 0>(&platform, swarm), before, "{partitions} partitions");
        assert_eq!(F::directory(swarm.record), Some(DirectoryHeader { peers: count, partitions }));
        assert_eq!(used(&store)[PARTITIONS], partitions);
    };
    let partition = |index, partitions| {
        let id = directory::find::<_, F>(&platform, swarm.record, index, partitions).expect("an entry");
        platform.partition(id).expect("a partition")
    };
    partition(0, 1).add_scopes(1);
    let most = count.div_ceil(peers_per_partition(F::VERSION));
    for partitions in 2..=most {
        assert_eq!(split::<_, F>(&cx, swarm), Ok(()));
        check(partitions);
        assert_eq!(partition(partitions - 1, partitions).scopes(), 1, "those of the one that it was split from");
    }
    assert_eq!(split::<_, F>(&cx, swarm), Ok(()), "not needed");
    check(most);
    partition(most - 1, most).add_scopes(4);
    for partitions in (1..most).rev() {
        assert!(with(&swarm.record.lock, || merge::<_, F>(&cx, swarm)), "down to {partitions}");
        check(partitions);
    }
    assert_eq!(used(&store), memory);
    assert_eq!(partition(0, 1).scopes(), 5, "those of all that were merged into it");
    assert!(!with(&swarm.record.lock, || merge::<_, F>(&cx, swarm)), "the last one stays");
    check(1);
}

#[test]
fn splits_and_merges_lose_no_peer_and_put_each_where_it_belongs() {
    split_and_merged::<V4>();
    split_and_merged::<V6>();
}

fn over_the_directory<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    // Enough for 25 partitions, whose directory does not fit the record.
    let count = 25 * peers_per_partition(F::VERSION) - 1;
    let swarm = grown::<_, F>(&cx, count, 64);
    let before = flags::<F, 0>(&platform, swarm);
    let mut partitions = 25;
    assert_eq!((before.len() as u32, used(&store)[PARTITIONS]), (count, partitions));
    while with(&swarm.record.lock, || merge::<_, F>(&cx, swarm)) {
        partitions -= 1;
        assert_eq!(F::directory(swarm.record), Some(DirectoryHeader { peers: count, partitions }));
        assert_eq!(flags::<F, 0>(&platform, swarm), before, "{partitions} partitions");
        assert_eq!(used(&store)[PARTITIONS], partitions);
    }
    let pair = [partitions - 1, split_source(partitions - 1)];
    let left = peers::<_, F>(&cx, swarm);
    let together = left.values().filter(|(_, index)| pair.contains(index)).count() as u32;
    assert!(together > capacity::<F>(), "{together} peers would fit");
    assert_eq!(flags::<F, 0>(&platform, swarm), before);
}

#[test]
fn merges_end_where_partitions_would_overflow() {
    over_the_directory::<V4>();
    over_the_directory::<V6>();
}

fn splits_fail<F: Peers>() {
    // (peers, partitions, the pool that has less than is needed)
    for (count, partitions, pool) in [
        (capacity::<F>() - 2, 1, PARTITIONS),
        (capacity::<F>() - 2, 1, F::CHUNKS),
        (8 * peers_per_partition(F::VERSION) + 50, 8, CHUNKS_V4),
        (8 * peers_per_partition(F::VERSION) + 50, 8, F::CHUNKS),
    ] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, partitions);
        let before = state::<F, 0>(&platform, swarm);
        let mut left = 0;
        loop {
            spare(&store, pool, left);
            let result = split::<_, F>(&cx, swarm);
            if result.is_ok() {
                break;
            }
            assert_eq!(result, Err(StoreError::MemoryFull), "{left} left");
            assert_eq!(state::<F, 0>(&platform, swarm), before, "{left} of pool {pool} left");
            left += 1;
        }
        assert!(left > 0, "pool {pool} was not needed");
        assert_eq!(F::directory(swarm.record), Some(DirectoryHeader { peers: count, partitions: partitions + 1 }));
        let all = before.0.into_iter().map(|(peer, (flags, _))| (peer, flags)).collect();
        assert_eq!(flags::<F, 0>(&platform, swarm), all);
    }
}

#[test]
fn a_split_without_memory_changes_nothing() {
    splits_fail::<V4>();
    splits_fail::<V6>();
}

fn splits_are_given_up<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.limited_platform::<4>(1);
    let cx = platform.context();
    let swarm = grown::<_, F>(&cx, capacity::<F>() - 2, 1);
    let before = state::<F, 4>(&platform, swarm);
    let partition = |number| &platform.partition(PartitionId::new(number)).expect("a partition").lock;
    // (whose lock is held, what comes of it: the announce that has led here is stored in any case)
    for (lock, expected) in [
        (&swarm.record.lock, Err(StoreError::Contended)),
        (partition(0), Ok(())),
        (partition(1), Err(StoreError::Contended)),
    ] {
        let result = with(lock, || split::<_, F>(&cx, swarm));
        assert_eq!(result, expected);
        assert_eq!(state::<F, 4>(&platform, swarm), before);
    }
    assert_eq!(split::<_, F>(&cx, swarm), Ok(()), "all locks are free again");
    assert_ne!(state::<F, 4>(&platform, swarm), before);
}

#[test]
fn a_split_is_given_up_while_locks_are_held() {
    splits_are_given_up::<V4>();
    splits_are_given_up::<V6>();
}

fn merges_fail<F: Peers>() {
    /// What stands in the way.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Obstacle {
        Nothing,
        Chunks,
        Room,
        Target,
        Source,
    }
    for obstacle in [Obstacle::Nothing, Obstacle::Chunks, Obstacle::Room, Obstacle::Target, Obstacle::Source] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.limited_platform::<4>(1);
        let cx = platform.context();
        let count = capacity::<F>() * if obstacle == Obstacle::Room { 5 } else { 3 } / 4;
        let swarm = grown::<_, F>(&cx, count, 2);
        let before = state::<F, 4>(&platform, swarm);
        let lock = |index| {
            let id = directory::find::<_, F>(&platform, swarm.record, index, 2).expect("an entry");
            &platform.partition(id).expect("a partition").lock
        };
        match obstacle {
            Obstacle::Chunks => spare(&store, F::CHUNKS, 0),
            Obstacle::Target => assert!(lock(0).try_lock()),
            Obstacle::Source => assert!(lock(1).try_lock()),
            Obstacle::Nothing | Obstacle::Room => {}
        }
        let merged = with(&swarm.record.lock, || merge::<_, F>(&cx, swarm));
        assert_eq!(merged, obstacle == Obstacle::Nothing, "{obstacle:?}");
        assert_eq!(state::<F, 4>(&platform, swarm) == before, !merged, "{obstacle:?}");
        for (index, held) in [(0, Obstacle::Target), (1, Obstacle::Source)] {
            assert!(merged || lock(index).try_lock() == (obstacle != held), "{obstacle:?}: lock {index} is not let go");
        }
    }
}

#[test]
fn a_merge_that_cannot_be_changes_nothing() {
    merges_fail::<V4>();
    merges_fail::<V6>();
}

fn splits_that_are_due_or_not<F: Peers>() {
    let limit = peers_per_partition(F::VERSION);
    // (peers, partitions, partitions after a split)
    for (count, partitions, after) in [(F::RECORD_SLOTS as u32, 0, 0), (limit, 1, 1), (limit + 1, 1, 2)] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, partitions);
        assert_eq!(platform.events(Event::Split), 0, "{count} peers");
        assert_eq!(split::<_, F>(&cx, swarm), Ok(()));
        let there = F::directory(swarm.record).map_or(0, |header| header.partitions);
        assert_eq!((there, platform.events(Event::Split)), (after, u64::from(after - partitions)), "{count} peers");
    }
}

#[test]
fn a_split_is_done_and_counted_only_when_it_is_due() {
    splits_that_are_due_or_not::<V4>();
    splits_that_are_due_or_not::<V6>();
}
