use super::{
    super::{
        layout::BUCKET_SLOTS,
        tests::{SWARMS, spare, torrent, used},
    },
    *,
};
use crate::{
    host::{HostPlatform, HostSizes, HostStore},
    outcome::Event,
};

/// More swarm records than places in the index.
const SMALL: HostSizes = HostSizes { index_buckets: 16, swarms: 150, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

/// All places of the index.
const PLACES: u32 = SMALL.index_buckets * BUCKET_SLOTS as u32;

fn key<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> TorrentKey {
    TorrentKey::new(platform.context().settings, &torrent(number))
}

fn stored<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> Option<SwarmId> {
    find(&platform.context(), &key(platform, number)).map(|swarm| swarm.id)
}

fn create_one<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> Result<SwarmId, StoreError> {
    create(&platform.context(), &key(platform, number))
}

/// Removes a torrent as the sweep does.
fn remove_one<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> Result<(), StoreError> {
    let cx = platform.context();
    let swarm = find(&cx, &key(platform, number)).expect("stored");
    assert!(swarm.record.lock.try_lock());
    let result = remove(&cx, swarm);
    swarm.record.lock.unlock();
    if result.is_ok() {
        allocator::give_back::<_, Swarm>(platform, swarm.id);
    }
    result
}

/// How many torrents have passed each bucket, and how many are in it.
fn buckets<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>) -> Vec<(u32, usize)> {
    let buckets = (0..SMALL.index_buckets).map(|number| platform.bucket(number).expect("a bucket"));
    buckets.map(|bucket| (bucket.passed.load(), bucket.slots.iter().filter(|slot| slot.load() != 0).count())).collect()
}

/// Torrents whose home is this bucket.
fn at_home(platform: &HostPlatform<'_>, home: u32, count: usize) -> Vec<u32> {
    (0..).filter(|number| key(platform, *number).bucket(0) == home).take(count).collect()
}

#[test]
fn every_place_is_used_and_nothing_is_left_of_what_was_removed() {
    for seed in 0..4 {
        let store = HostStore::new(&SMALL, seed);
        let platform = store.platform(seed);
        for number in 0..PLACES {
            assert_eq!(stored(&platform, number), None, "not yet");
            let id = create_one(&platform, number).expect("a place");
            assert_eq!(stored(&platform, number), Some(id));
        }
        let full = buckets(&platform);
        assert!(full.iter().all(|(_, torrents)| *torrents == BUCKET_SLOTS));
        for number in PLACES..PLACES + 3 {
            assert_eq!(create_one(&platform, number), Err(StoreError::TorrentsFull));
            assert_eq!(stored(&platform, number), None);
            assert_eq!(buckets(&platform), full, "no bucket was passed after all");
            assert_eq!(used(&store)[SWARMS], PLACES, "the record was given back");
        }
        for number in 0..PLACES {
            assert!(stored(&platform, number).is_some(), "{number} was lost");
        }
        // In an order of which the index knows nothing: 41 and 112 have no common divisor.
        for (removed, number) in (1..).zip((0..PLACES).map(|number| number * 41 % PLACES)) {
            assert_eq!(remove_one(&platform, number), Ok(()));
            assert_eq!(stored(&platform, number), None);
            let left = (0..PLACES).filter(|number| stored(&platform, *number).is_some()).count() as u32;
            assert_eq!(left, PLACES - removed, "others went with {number}");
        }
        assert_eq!(buckets(&platform), vec![(0, 0); 16]);
        assert_eq!(used(&store)[SWARMS], 0);
        let counted = [Event::TorrentCreated, Event::TorrentRemoved].map(|event| platform.events(event));
        assert_eq!(counted, [u64::from(PLACES); 2]);
    }
}

#[test]
fn a_torrent_whose_home_is_full_lives_in_the_next_bucket() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    // Bucket 15 is the last one: the next is bucket 0.
    let torrents = at_home(&platform, 15, BUCKET_SLOTS + 2);
    for number in &torrents {
        create_one(&platform, *number).expect("a place");
    }
    let mut expected = vec![(0, 0); 16];
    (expected[15], expected[0]) = ((2, BUCKET_SLOTS), (0, 2));
    assert_eq!(buckets(&platform), expected);
    let (away, home) = (torrents[BUCKET_SLOTS], torrents[0]);
    remove_one(&platform, home).expect("no lock is held");
    assert!(stored(&platform, away).is_some(), "found past a place that is free again");
    expected[15] = (2, BUCKET_SLOTS - 1);
    assert_eq!(buckets(&platform), expected);
    remove_one(&platform, away).expect("no lock is held");
    (expected[15], expected[0]) = ((1, BUCKET_SLOTS - 1), (0, 1));
    assert_eq!(buckets(&platform), expected);
    create_one(&platform, away).expect("a place");
    expected[15] = (1, BUCKET_SLOTS);
    assert_eq!(buckets(&platform), expected, "the free place at home");
}

#[test]
fn two_torrents_of_one_home_are_told_apart() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let torrents = at_home(&platform, 3, 3);
    let ids = [0, 1].map(|number| create_one(&platform, torrents[number]).expect("a place"));
    assert_ne!(ids[0], ids[1]);
    for (number, expected) in [(0, Some(ids[0])), (1, Some(ids[1])), (2, None)] {
        assert_eq!(stored(&platform, torrents[number]), expected);
    }
    remove_one(&platform, torrents[0]).expect("no lock is held");
    for (number, expected) in [(0, None), (1, Some(ids[1])), (2, None)] {
        assert_eq!(stored(&platform, torrents[number]), expected);
    }
}

#[test]
fn a_torrent_is_stored_once_and_its_record_begins_empty() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let id = create_one(&platform, 5).expect("a place");
    let record = cx.swarm(id).expect("a swarm").record;
    record.counts.store(77);
    record.completed.store(u32::MAX);
    record.v4.iter().chain(&record.v6).for_each(|word| word.store(u64::MAX));
    assert_eq!(create_one(&platform, 5), Ok(id), "the one that there is");
    assert_eq!((used(&store)[SWARMS], record.counts.load()), (1, 77));
    assert_eq!(counts(&cx, &torrent(5)).leechers, 77);
    assert_eq!(counts(&cx, &torrent(6)), Counts::default(), "not stored");
    // So that there is a link to another free record where the counts are.
    create_one(&platform, 9).expect("a place");
    remove_one(&platform, 9).expect("no lock is held");
    remove_one(&platform, 5).expect("no lock is held");
    assert_eq!(counts(&cx, &torrent(5)), Counts::default(), "no longer stored");
    assert_eq!((record.active.load(), record.counts.load()), (0, 2));

    let version = record.lock.version().expect("nobody changes it");
    assert_eq!(create_one(&platform, 6), Ok(id), "the same record");
    assert!(!version.still_holds(), "whoever still reads it notices");
    assert_eq!(record.info_hash(), torrent(6));
    assert_eq!(record.active.load(), SWARM_ALIVE | cx.minute());
    assert_eq!((counts(&cx, &torrent(6)), record.scopes()), (Counts::default(), 0));
    assert!(record.v4.iter().chain(&record.v6).all(|word| word.load() == 0));
    assert_eq!(stored(&platform, 5), None);
}

#[test]
fn counts_are_none_of_a_record_that_is_given_away_meanwhile() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let torrents = at_home(&platform, 3, BUCKET_SLOTS + 1);
    let ids: Vec<_> = torrents.iter().map(|number| create_one(&platform, *number).expect("a place")).collect();
    let away = torrents[BUCKET_SLOTS];
    let record = platform.swarm(ids[BUCKET_SLOTS]).expect("a swarm");
    record.counts.store(77);
    for (active, leechers) in [(record.active.load(), 77), (0, 0)] {
        // Between finding the record, which takes a loop, and reading it.
        let meanwhile = || record.active.store(active);
        let platform = store.platform(2).with_hook(&meanwhile);
        assert_eq!(counts(&platform.context(), &torrent(away)).leechers, leechers);
    }
}

#[test]
fn without_a_swarm_record_a_torrent_is_refused() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    spare(&store, SWARMS, 0);
    assert_eq!(create_one(&platform, 1), Err(StoreError::TorrentsFull));
    assert_eq!(buckets(&platform), vec![(0, 0); 16]);
    spare(&store, SWARMS, 1);
    assert!(create_one(&platform, 1).is_ok());
    assert_eq!(create_one(&platform, 2), Err(StoreError::TorrentsFull));
}

#[test]
fn where_locks_are_held_nothing_is_stored_or_removed() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.limited_platform::<4>(1);
    create_one(&platform, 1).expect("a place");
    let before = (buckets(&platform), used(&store));
    let home = |number| &platform.bucket(key(&platform, number).bucket(0)).expect("a bucket").lock;
    let fresh = &platform.swarm(SwarmId::new(1)).expect("a record").lock;
    // A record that was given back may still be locked by whoever found it when it was another
    // torrent's.
    for (lock, name) in [(home(2), "the home bucket's"), (fresh, "the new record's")] {
        assert!(lock.try_lock());
        assert_eq!(create_one(&platform, 2), Err(StoreError::Contended), "{name}");
        assert_eq!((buckets(&platform), used(&store)), before, "{name}");
        lock.unlock();
    }
    assert!(home(1).try_lock());
    assert_eq!(remove_one(&platform, 1), Err(StoreError::Contended));
    home(1).unlock();
    assert!(stored(&platform, 1).is_some());
    assert_eq!((buckets(&platform), used(&store)), before);
    assert!(create_one(&platform, 2).is_ok());
    assert!(remove_one(&platform, 1).is_ok());
}
