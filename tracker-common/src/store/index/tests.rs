use super::{
    super::{
        asking::{ask_for, guess, look_ahead},
        layout::BUCKET_SWARMS,
        tests::{SWARMS, spare, torrent, used},
    },
    *,
};
use crate::{
    host::{HostPlatform, HostSizes, HostStore},
    outcome::Event,
    scratch::HASHES_AT,
};
use std::collections::{BTreeMap, BTreeSet};

/// More torrents than places in the index.
const SMALL: HostSizes = HostSizes { index_buckets: 4, swarms: 150, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

/// All places of the index.
const PLACES: u32 = SMALL.index_buckets * BUCKET_SWARMS as u32;

/// No bucket was passed and none has a torrent.
const NOTHING: [(u32, u32); 4] = [(0, 0); 4];

fn key<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> TorrentKey {
    TorrentKey::new(platform.context().settings, &torrent(number))
}

fn stored<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> Option<SwarmId> {
    find(&platform.context(), &key(platform, number)).map(|swarm| swarm.id)
}

fn counts_of<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, number: u32) -> Counts {
    counts(&platform.context(), &key(platform, number))
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
    result
}

/// How many torrents have passed each bucket, and how many are in it.
fn buckets<const TRIES: u32>(platform: &HostPlatform<'_, TRIES>) -> [(u32, u32); 4] {
    [0, 1, 2, 3].map(|number| {
        let bucket = header(platform, number).expect("a bucket");
        (bucket.passed.load(), bucket.places().count_ones())
    })
}

/// Torrents whose home is the first of these buckets, and that go to the second if that is full. No
/// two of them have the same tag.
fn at_home(platform: &HostPlatform<'_>, [home, next]: [u32; 2], count: usize) -> Vec<u32> {
    let mut tags = BTreeSet::new();
    let fits = |number: &u32| {
        let key = key(platform, *number);
        [key.bucket(0), key.bucket(1)] == [home, next] && tags.insert(key.tag())
    };
    (0..).filter(fits).take(count).collect()
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
        assert!(full.iter().all(|(_, torrents)| *torrents == BUCKET_SWARMS as u32));
        for number in PLACES..PLACES + 3 {
            assert_eq!(create_one(&platform, number), Err(StoreError::TorrentsFull));
            assert_eq!(stored(&platform, number), None);
            assert_eq!(buckets(&platform), full, "no bucket was passed after all");
            assert_eq!(used(&store)[SWARMS], PLACES, "the record was given back");
        }
        for number in 0..PLACES {
            assert!(stored(&platform, number).is_some(), "{number} was lost");
        }
        // In an order of which the index knows nothing: 41 and 124 have no common divisor.
        for (removed, number) in (1..).zip((0..PLACES).map(|number| number * 41 % PLACES)) {
            assert_eq!(remove_one(&platform, number), Ok(()));
            assert_eq!(stored(&platform, number), None);
            let left = (0..PLACES).filter(|number| stored(&platform, *number).is_some()).count() as u32;
            assert_eq!(left, PLACES - removed, "others went with {number}");
        }
        assert_eq!(buckets(&platform), NOTHING);
        assert_eq!(used(&store)[SWARMS], 0);
        let counted = [Event::TorrentCreated, Event::TorrentRemoved].map(|event| platform.events(event));
        assert_eq!(counted, [u64::from(PLACES); 2]);
    }
}

#[test]
fn a_torrent_whose_home_is_full_lives_in_another_bucket() {
    const FULL: u32 = BUCKET_SWARMS as u32;
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let torrents = at_home(&platform, [3, 0], BUCKET_SWARMS + 2);
    for number in &torrents {
        create_one(&platform, *number).expect("a place");
    }
    let mut expected = NOTHING;
    (expected[3], expected[0]) = ((2, FULL), (0, 2));
    assert_eq!(buckets(&platform), expected);
    let (away, home) = (torrents[BUCKET_SWARMS], torrents[0]);
    remove_one(&platform, home).expect("no lock is held");
    assert!(stored(&platform, away).is_some(), "found past a place that is free again");
    expected[3] = (2, FULL - 1);
    assert_eq!(buckets(&platform), expected);
    remove_one(&platform, away).expect("no lock is held");
    (expected[3], expected[0]) = ((1, FULL - 1), (0, 1));
    assert_eq!(buckets(&platform), expected);
    create_one(&platform, away).expect("a place");
    expected[3] = (1, FULL);
    assert_eq!(buckets(&platform), expected, "the free place at home");
}

#[test]
fn torrents_of_one_home_with_the_same_tag_live_in_different_buckets() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let mut seen = BTreeMap::new();
    let (one, other) = (0..)
        .find_map(|number| {
            let key = key(&platform, number);
            (key.bucket(1) != key.bucket(0))
                .then(|| seen.insert((key.bucket(0), key.tag()), number).map(|earlier| (earlier, number)))
                .flatten()
        })
        .expect("some thousands of torrents are enough");
    let ids = [one, other].map(|number| create_one(&platform, number).expect("a place"));
    let home = key(&platform, one).bucket(0);
    assert_eq!(ids[0].place().0, home);
    assert_eq!(ids[1].place().0, key(&platform, other).bucket(1));
    assert_eq!([one, other].map(|number| stored(&platform, number)), ids.map(Some));
    remove_one(&platform, one).expect("no lock is held");
    assert_eq!([one, other].map(|number| stored(&platform, number)), [None, Some(ids[1])]);
    remove_one(&platform, other).expect("no lock is held");
    assert_eq!(buckets(&platform), NOTHING);
}

#[test]
fn all_records_in_use_are_gone_through_in_order_from_any_on() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let following = |from| next(|number| platform.bucket(number), from, u32::MAX).map(|swarm| swarm.id);
    assert_eq!(following(0), None);
    let mut ids: Vec<_> = (0..10).map(|number| create_one(&platform, number).expect("a place")).collect();
    ids.sort_unstable();
    for pair in ids.windows(2) {
        assert_eq!(following(pair[0].number()), Some(pair[0]));
        assert_eq!(following(pair[0].number() + 1), Some(pair[1]));
    }
    assert_eq!(following(0), Some(ids[0]));
    for behind in [ids[9].number() + 1, SwarmId::at(4, 0).number(), u32::MAX] {
        assert_eq!(following(behind), None);
    }
}

/// The index is meant to hold [`TORRENTS_PER_BUCKET`], and has to with room to spare.
#[test]
fn no_torrent_is_refused_before_most_places_are_taken() {
    const BUCKETS: u32 = 2000;
    let sizes = HostSizes { index_buckets: BUCKETS, swarms: u32::MAX, ..SMALL };
    let store = HostStore::new(&sizes, 3);
    let platform = store.platform(3);
    let places = BUCKETS * BUCKET_SWARMS as u32;
    let stored = (0..).take_while(|number| create_one(&platform, *number).is_ok()).count() as u32;
    assert!(stored >= BUCKETS * TORRENTS_PER_BUCKET, "{stored} of {places}");
    let homes = (0..stored).filter(|number| {
        let key = key(&platform, *number);
        find(&platform.context(), &key).is_some_and(|swarm| swarm.id.place().0 == key.bucket(0))
    });
    let home = homes.count() as u32;
    assert!(home >= stored / 10 * 8, "{home} of {stored} are at home");
}

/// So that a comparison with four tags is enough for most.
#[test]
fn most_torrents_are_near_their_likely_place_even_if_the_index_is_filled_to_the_limit() {
    const BUCKETS: u32 = 2000;
    // (torrents per bucket, per cent at least in the word of their likely place)
    for (torrents, least) in [(3, 99), (15, 93), (TORRENTS_PER_BUCKET, 70)] {
        let store = HostStore::new(&HostSizes { index_buckets: BUCKETS, swarms: u32::MAX, ..SMALL }, 3);
        let platform = store.platform(3);
        let near = (0..BUCKETS * torrents).filter(|&number| {
            let place = create_one(&platform, number).expect("a place").place().1;
            place / 4 == key(&platform, number).likely_place() / 4
        });
        let share = near.count() as u32 * 100 / (BUCKETS * torrents);
        assert!(share >= least, "{share} % at {torrents} torrents per bucket");
    }
}

#[test]
fn counts_are_read_where_the_record_probably_is_and_elsewhere_if_it_is_not_there() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let torrents = at_home(&platform, [3, 1], BUCKET_SWARMS + 1);
    let ids: Vec<_> = torrents.iter().map(|number| create_one(&platform, *number).expect("a place")).collect();
    for (id, leechers) in ids.iter().zip(1..) {
        cx.swarm(*id).expect("a swarm").record.counts.store(leechers);
    }
    for (index, (number, id)) in torrents.iter().zip(&ids).enumerate() {
        let key = key(&platform, *number);
        cx.scratch.put(HASHES_AT, torrent(*number));
        let leechers = |id| counts_at(&cx, &key, id, HASHES_AT).leechers as usize;
        let record = cx.swarm(*id).expect("a swarm").record;
        let here = || unchanged_counts(record, &key).map(|counts| counts.leechers as usize);
        ask_for(&cx, &key);
        let guess = guess(&platform, &key);
        assert_eq!(look_ahead(&cx, &key), guess);
        for from in [guess, *id] {
            assert_eq!(find_at(&cx, &key, from).map(|swarm| swarm.id), Some(*id), "{index}");
        }
        assert_eq!(guess, if index < BUCKET_SWARMS { *id } else { SwarmId::at(3, 0) }, "{index}");
        for from in [guess, *id, ids[(index + 1) % ids.len()], SwarmId::at(2, 1), SwarmId::new(u32::MAX)] {
            assert_eq!(leechers(from), index + 1, "{from:?}");
        }
        assert!(record.lock.try_lock());
        assert_eq!((here(), leechers(*id)), (Some(index + 1), index + 1), "only held");
        record.lock.begin_change();
        assert_eq!((here(), leechers(*id)), (None, index + 1), "being changed");
        record.lock.unlock();
        assert_eq!(here(), Some(index + 1));
    }
    let none = key(&platform, u32::MAX);
    cx.scratch.put(HASHES_AT, torrent(u32::MAX));
    assert_eq!((guess(&platform, &none).place().1, look_ahead(&cx, &none).place().1), (0, 0), "not stored");
    for from in [look_ahead(&cx, &none), ids[0], SwarmId::new(u32::MAX)] {
        assert!(find_at(&cx, &none, from).is_none(), "{from:?}");
    }
    assert_eq!(counts_at(&cx, &none, ids[0], HASHES_AT), Counts::default());
    assert_eq!(unchanged_counts(cx.swarm(ids[0]).expect("a swarm").record, &none), None, "another torrent's");
}

#[test]
fn two_torrents_of_one_home_are_told_apart() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let torrents = at_home(&platform, [3, 1], 3);
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
    assert_eq!(counts_of(&platform, 5).leechers, 77);
    assert_eq!(counts_of(&platform, 6), Counts::default(), "not stored");
    remove_one(&platform, 5).expect("no lock is held");
    assert_eq!(counts_of(&platform, 5), Counts::default(), "no longer stored");
    assert_eq!(record.active.load(), 0);

    let version = record.lock.version().expect("nobody changes it");
    let (bucket, place) = id.place();
    let same = |number: &u32| {
        let key = key(&platform, *number);
        (key.bucket(0), key.likely_place()) == (bucket, place)
    };
    let other = (6..).find(same).expect("a few hundred torrents are enough");
    record.counts.store(77);
    assert_eq!(create_one(&platform, other), Ok(id), "the same record");
    assert!(!version.still_holds(), "whoever still reads it notices");
    assert_eq!(record.info_hash(), torrent(other));
    assert_eq!(record.active.load(), SWARM_ALIVE | cx.minute());
    assert_eq!((counts_of(&platform, other), record.scopes()), (Counts::default(), 0));
    assert!(record.v4.iter().chain(&record.v6).all(|word| word.load() == 0));
    assert_eq!(stored(&platform, 5), None);
}

#[test]
fn counts_are_none_of_a_record_that_is_given_away_meanwhile() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    let torrents = at_home(&platform, [3, 1], BUCKET_SWARMS + 1);
    let ids: Vec<_> = torrents.iter().map(|number| create_one(&platform, *number).expect("a place")).collect();
    let away = torrents[BUCKET_SWARMS];
    let record = platform.swarm(ids[BUCKET_SWARMS]).expect("a swarm");
    record.counts.store(77);
    for (active, leechers) in [(record.active.load(), 77), (0, 0)] {
        // Between finding the record, which takes a loop, and reading it.
        let meanwhile = || record.active.store(active);
        let platform = store.platform(2).with_hook(&meanwhile);
        assert_eq!(counts_of(&platform, away).leechers, leechers);
    }
}

#[test]
fn without_a_swarm_record_a_torrent_is_refused() {
    let store = HostStore::new(&SMALL, 1);
    let platform = store.platform(1);
    spare(&store, SWARMS, 0);
    assert_eq!(create_one(&platform, 1), Err(StoreError::TorrentsFull));
    assert_eq!(buckets(&platform), NOTHING);
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
    let home = |number| &header(&platform, key(&platform, number).bucket(0)).expect("a bucket").lock;
    let id = create_one(&platform, 2).expect("a place");
    remove_one(&platform, 2).expect("no lock is held");
    let fresh = &platform.swarm(id).expect("a record").lock;
    // A record that is free may still be locked by whoever found it when it was another
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
