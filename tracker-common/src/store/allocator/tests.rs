use super::{
    super::tests::{ROOMY, used},
    *,
};
use crate::host::{HostPlatform, HostSizes, HostStore};
use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
};

/// Five of each kind.
const FIVE: HostSizes = HostSizes { index_buckets: 1, swarms: 5, partitions: 5, chunks_v4: 5, chunks_v6: 5 };

fn take_number<E: Element>(platform: &HostPlatform<'_>) -> Result<u32, StoreError> {
    take::<_, E>(&platform.context()).map(Into::into)
}

/// Calls a generic function with each kind of record.
macro_rules! for_each_kind {
    ($function:ident) => {
        $function::<Partition>();
        $function::<ChunkV4>();
        $function::<ChunkV6>();
    };
}

fn in_order<E: Element>() {
    let store = HostStore::new(&FIVE, 1);
    let platform = store.platform(1);
    let pool = E::pool(store.pools());
    for number in 0..5 {
        assert_eq!(take_number::<E>(&platform), Ok(number));
        assert_eq!(used(&store).iter().sum::<u32>(), number + 1, "of this kind and no other");
    }
    for _ in 0..3 {
        assert_eq!(take_number::<E>(&platform), Err(StoreError::MemoryFull));
    }
    assert_eq!(pool.fresh.load(), 5, "refusals do not count");
    for number in [1, 0, 3] {
        give_back::<_, E>(&platform, number.into());
    }
    assert_eq!((pool.free.load(), pool.used()), (3, 2));
    // The last one given back first.
    for expected in [Ok(3), Ok(0), Ok(1), Err(StoreError::MemoryFull)] {
        assert_eq!(take_number::<E>(&platform), expected);
    }
    assert_eq!((pool.free.load(), pool.used()), (0, 5));
}

#[test]
fn records_are_taken_in_order_and_then_those_given_back() {
    for_each_kind!(in_order);
}

fn limits<E: Element>() {
    // (limit, records taken, given back, asked for, whether there are so many)
    for (limit, taken, given_back, count, expected) in [
        (5, 0, 0, 5, true),
        (5, 0, 0, 6, false),
        (5, 5, 0, 0, true),
        (5, 5, 0, 1, false),
        (5, 5, 2, 2, true),
        (5, 5, 2, 3, false),
        (3, 3, 0, 1, false),
        (0, 0, 0, 1, false),
    ] {
        let store = HostStore::new(&FIVE, 1);
        let platform = store.platform(1);
        store.settings().pool_limits[E::LIMIT].store(limit);
        assert!((0..taken).all(|_| take_number::<E>(&platform).is_ok()), "below the limit");
        (0..given_back).for_each(|number: u32| give_back::<_, E>(&platform, number.into()));
        let row = (limit, taken, given_back, count);
        assert_eq!(has_spare::<_, E>(&platform.context(), count), expected, "{row:?}");
        let there = (0..count).take_while(|_| take_number::<E>(&platform).is_ok()).count() as u32;
        assert_eq!(there == count, expected, "{row:?}");
    }
}

#[test]
fn there_are_as_many_records_as_the_limit_says() {
    for_each_kind!(limits);
}

#[test]
fn a_record_that_does_not_exist_is_neither_taken_nor_given_back() {
    let store = HostStore::new(&FIVE, 1);
    let platform = store.platform(1);
    give_back::<_, ChunkV4>(&platform, ChunkId::new(5));
    assert_eq!(store.pools().chunks_v4.head.load(), 0);
    store.pools().chunks_v4.head.store(6);
    assert_eq!(take_number::<ChunkV4>(&platform), Err(StoreError::Internal));
}

#[test]
fn chunks_come_back_all_zero() {
    let store = HostStore::new(&FIVE, 1);
    let platform = store.platform(1);
    let v4 = |number| &platform.chunk_v4(ChunkId::new(number)).expect("a chunk").words;
    let v6 = |number| &platform.chunk_v6(ChunkId::new(number)).expect("a chunk").words;
    for number in 0..2 {
        assert_eq!((take_number::<ChunkV4>(&platform), take_number::<ChunkV6>(&platform)), (Ok(number), Ok(number)));
        v4(number).iter().chain(v6(number)).for_each(|word| word.store(u64::MAX));
    }
    for number in 0..2 {
        give_back::<_, ChunkV4>(&platform, ChunkId::new(number));
        give_back::<_, ChunkV6>(&platform, ChunkId::new(number));
    }
    assert_eq!([v4(1)[0].load(), v6(1)[0].load()], [1; 2], "the link, 0 + 1");
    for number in [1, 0] {
        assert_eq!((take_number::<ChunkV4>(&platform), take_number::<ChunkV6>(&platform)), (Ok(number), Ok(number)));
        assert!(v4(number).iter().chain(v6(number)).all(|word| word.load() == 0), "chunk {number}");
    }
}

#[test]
fn links_of_partitions_leave_alone_what_old_numbers_lead_to() {
    let partition = Partition::default();
    assert!(partition.lock.try_lock());
    partition.set_link(9);
    partition.clear();
    assert_eq!(partition.link(), 9);
    assert!(!partition.lock.try_lock(), "the lock is not the link");
    assert_eq!((partition.owner.load(), partition.peers()), (0, 0));
}

fn tags<E: Element>() {
    let store = HostStore::new(&FIVE, 1);
    let platform = store.platform(1);
    let head = || E::pool(store.pools()).head.load();
    let number = take_number::<E>(&platform).expect("a fresh one");
    let mut seen = vec![head()];
    for _ in 0..10 {
        give_back::<_, E>(&platform, number.into());
        seen.push(head());
        assert_eq!(take_number::<E>(&platform), Ok(number));
        seen.push(head());
    }
    let (all, unique) = (seen.len(), seen.into_iter().collect::<BTreeSet<_>>().len());
    assert_eq!(unique, all, "a head that was there before");
}

#[test]
fn no_head_comes_twice() {
    for_each_kind!(tags);
}

fn threads<E: Element>() {
    let store = &HostStore::new(&ROOMY, 1);
    let taken: &Vec<_> = &(0..256).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let platform = store.platform(thread);
                for round in 0..2000 {
                    // Up to four at a time: at most as many as there are swarms.
                    let mine: Vec<_> = (0..1 + round % 4).map(|_| take_number::<E>(&platform)).collect();
                    for number in &mine {
                        let number = number.expect("as many as all take at once");
                        assert!(!taken[number as usize].swap(true, Ordering::Relaxed), "{number} was taken twice");
                    }
                    for number in mine.into_iter().flatten() {
                        taken[number as usize].store(false, Ordering::Relaxed);
                        give_back::<_, E>(&platform, number.into());
                    }
                }
            });
        }
    });
    let pool = E::pool(store.pools());
    assert_eq!(pool.used(), 0);
    assert_eq!(pool.free.load(), pool.fresh.load());
    let platform = store.platform(9);
    let mut left: Vec<_> = (0..pool.fresh.load()).map(|_| take_number::<E>(&platform).expect("given back")).collect();
    left.sort_unstable();
    assert_eq!(left, (0..pool.fresh.load()).collect::<Vec<_>>(), "each once");
}

#[test]
fn threads_never_have_the_same_record() {
    for_each_kind!(threads);
}

fn to_the_limit<E: Element>() {
    for round in 0..100 {
        let store = &HostStore::new(&ROOMY, 1);
        let start = &Barrier::new(4);
        let limit = store.settings().pool_limits[E::LIMIT].load();
        let taken: Vec<u32> = std::thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|thread| {
                scope.spawn(move || {
                    let platform = store.platform(thread);
                    start.wait();
                    (0..).map_while(|_| take_number::<E>(&platform).ok()).collect::<Vec<_>>()
                })
            });
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        let unique: BTreeSet<_> = taken.iter().copied().collect();
        assert_eq!(unique.len(), taken.len(), "a record twice, round {round}");
        assert_eq!(unique, (0..limit).collect(), "round {round}");
    }
}

#[test]
fn threads_that_race_for_the_last_records_take_no_more_than_there_are() {
    for_each_kind!(to_the_limit);
}

#[test]
fn little_is_left_from_nine_tenths_on() {
    for (used, limit, expected) in [
        (0, 100, false),
        (89, 100, false),
        (90, 100, true),
        (100, 100, true),
        (101, 100, true),
        (8, 9, false),
        (9, 9, true),
        (0, 0, true),
        (u32::MAX / 2, u32::MAX, false),
        (u32::MAX - u32::MAX / 10, u32::MAX, true),
    ] {
        assert_eq!(is_little_left(used, limit), expected, "{used} of {limit}");
    }
}
