//! The lock and the allocator under all orders of accesses that the memory orders allow, by loom:
//! what shuttle (`schedules.rs`) leaves out, as it has one order of all accesses. Few accesses each,
//! since every possible order is tried.
//!
//! Loom knows the orders that the code asks for and not those of a processor: it would find an
//! error that only another processor than x86-64 shows. It takes no note of orders in XDP programs,
//! whose accesses are volatile (`docs/architecture.md`, Memory order).

extern crate interleaved as tracker_common;

use loom::{cell::UnsafeCell, thread};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tracker_common::{
    host::{HostSizes, HostStore},
    platform::Platform as _,
    store::{allocator, layout::Partition, lock::Lock},
    word::Word,
};

/// Tries all orders, with at most so many threads interrupted before their end.
fn all_orders(name: &'static str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    let counted = executions.clone();
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let checker = seam::with(seam::Checker::Loom);
        body();
        drop(checker);
    });
    eprintln!("{name}: {} orders", executions.load(Ordering::Relaxed));
}

#[test]
fn a_lock_is_had_by_one_at_a_time_who_sees_what_the_last_one_did() {
    all_orders("lock", 4, || {
        #[expect(clippy::arc_with_non_send_sync, reason = "the checker's threads take turns on one of the system")]
        let shared = Arc::new((Lock::default(), UnsafeCell::new(0)));
        assert!(shared.0.free().is_some());
        let work = |shared: Arc<(Lock, UnsafeCell<u32>)>| {
            move || {
                for _ in 0..2 {
                    if shared.0.try_lock() {
                        // Loom says if two do this at once, or one without seeing the other's.
                        shared.1.with_mut(|_| ());
                        shared.0.unlock();
                    }
                }
            }
        };
        let other = thread::spawn(work(shared.clone()));
        work(shared.clone())();
        other.join().expect("no panic");
        assert!(shared.0.free().is_some());
    });
}

#[test]
fn a_reader_whose_version_still_holds_has_read_one_structure() {
    all_orders("version", 4, || {
        let shared: Arc<(Lock, [Word; 2])> = Arc::default();
        assert_eq!(shared.1.each_ref().map(Word::load), [0, 0]);
        assert!(shared.0.free().is_some());
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                for value in 1..=2 {
                    assert!(shared.0.try_lock());
                    shared.0.begin_change();
                    shared.1.iter().for_each(|word| word.store(value));
                    shared.0.unlock();
                }
            })
        };
        if let Some(version) = shared.0.version() {
            let [one, other] = shared.1.each_ref().map(Word::load);
            assert!(!version.still_holds() || one == other, "half of a change: {one}, {other}");
        }
        writer.join().expect("no panic");
    });
}

#[test]
fn a_refresh_whose_lock_still_holds_is_not_lost_to_a_peer_that_moves() {
    all_orders("refresh", 4, || {
        let shared: Arc<(Lock, [Word; 2])> = Arc::default();
        shared.1[0].store(1);
        assert_eq!(shared.1[1].load(), 0);
        assert!(shared.0.free().is_some());
        let mover = {
            let shared = shared.clone();
            thread::spawn(move || {
                // As `list::remove` moves a peer to another slot.
                assert!(shared.0.try_lock());
                shared.0.begin_change();
                shared.1[1].store(shared.1[0].load());
                shared.1[0].store(0);
                shared.0.unlock();
            })
        };
        // As `refresh_slot` does it.
        let refreshed = shared.0.free().is_some_and(|free| shared.1[0].replace(1, 2) && free.still_holds());
        mover.join().expect("no panic");
        assert!(!refreshed || shared.1[1].load() == 2, "the refresh was lost");
    });
}

#[test]
fn whoever_sees_how_many_peers_there_are_sees_the_peers() {
    all_orders("newcomer", 4, || {
        let shared: Arc<[Word; 3]> = Arc::default();
        assert_eq!(shared.each_ref().map(Word::load), [0; 3]);
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                // As `list::put`: an IPv6 peer's words, and then how many there are.
                shared[0].store(7);
                shared[1].store(7);
                shared[2].store(1);
            })
        };
        if shared[2].load() == 1 {
            assert_eq!((shared[0].load(), shared[1].load()), (7, 7), "a peer that is not there yet");
        }
        writer.join().expect("no panic");
    });
}

#[test]
fn records_taken_and_given_back_are_never_given_to_two() {
    const SIZES: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 4, chunks_v4: 1, chunks_v6: 1 };
    all_orders("allocator", 2, || {
        let store = seam::without(|| Arc::new(HostStore::new(&SIZES, 1)));
        let platform = store.platform(1);
        let cx = platform.context();
        let free = [(); 3].map(|()| allocator::take::<_, Partition>(&cx).expect("room"));
        free.into_iter().for_each(|id| allocator::give_back::<_, Partition>(&platform, id));
        let owners: Arc<[AtomicU64; 4]> = Arc::default();
        let work = |store: Arc<HostStore>, owners: Arc<[AtomicU64; 4]>, keeps: &'static [usize]| {
            move || {
                let platform = store.platform(2);
                let cx = platform.context();
                let mut mine = Vec::new();
                for &keep in keeps {
                    while mine.len() < keep {
                        let id = allocator::take::<_, Partition>(&cx).expect("room");
                        let before = owners[id.number() as usize].fetch_add(1, Ordering::Relaxed);
                        assert_eq!(before, 0, "{id:?} was given to two");
                        mine.push(id);
                    }
                    while mine.len() > keep {
                        // The first one comes back first: a head that was seen comes back with
                        // another one below it.
                        let id = mine.remove(0);
                        owners[id.number() as usize].fetch_sub(1, Ordering::Relaxed);
                        allocator::give_back::<_, Partition>(&platform, id);
                    }
                }
            }
        };
        // A word is known to the checker from its first use on, and those of journals are looked for
        // by all threads: so that is here, before there are others.
        drop([3, 4].map(|seed| store.platform(seed)));
        let other = thread::spawn(work(store.clone(), owners.clone(), &[2, 1]));
        work(store.clone(), owners, &[2])();
        other.join().expect("no panic");
        let pool = &store.pools().partitions;
        assert_eq!(pool.used(), 3);
        assert!(platform.pools().is_some());
    });
}
