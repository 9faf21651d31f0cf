use super::{
    super::{
        directory,
        family::{V4, V6},
        hash::TorrentKey,
        list,
        membership::{Announce, PeerEvent},
        owner::Owner,
        refresh::refresh,
        scope::{EVERYTHING, HOST, LINK, PRIVATE, visible},
        slot::{LEECHER, OCCUPIED},
        tests::{Peers, ROOMY, grown, new_swarm, peers, torrent},
        upsert,
    },
    *,
};
use crate::{
    host::{HostPlatform, HostSizes, HostStore},
    id::SwarmId,
    scratch::{PEERS_AT, Scratch},
};
use std::{cell::Cell, collections::BTreeSet};

/// Enough for a swarm of thousands.
const LARGE: HostSizes = HostSizes { partitions: 128, chunks_v4: 1024, chunks_v6: 1024, ..ROOMY };

fn everybody() -> PeerFilter {
    PeerFilter::new(true, EVERYTHING)
}

/// A peer with this scope.
trait Scoped: Peers {
    fn scoped(number: u32, scope: u32) -> Self::Key;
}

impl Scoped for V4 {
    fn scoped(number: u32, scope: u32) -> u64 {
        let network = match scope {
            PRIVATE => 0x0a00_0000,
            LINK => 0xa9fe_0000,
            HOST => 0x7f00_0000,
            _ => return V4::peer(number),
        };
        V4::key((network + number + 1).to_be_bytes(), 6881)
    }
}

impl Scoped for V6 {
    fn scoped(number: u32, scope: u32) -> [u64; 3] {
        let network = match scope {
            PRIVATE => 0xfd00 << 112,
            LINK => 0xfe80 << 112,
            HOST => return V6::key(1_u128.to_be_bytes(), number as u16 + 1),
            _ => return V6::peer(number),
        };
        V6::key((network | u128::from(number)).to_be_bytes(), 6881)
    }
}

/// Puts compact peers where a sample collects them.
fn collect<F: Peers>(scratch: &Scratch, peers: &[F::Key]) {
    let bytes = peers.iter().flat_map(|peer| F::compact(*peer));
    (PEERS_AT..).zip(bytes).for_each(|(offset, byte)| scratch.put(offset, byte));
    scratch.sampling.walk.collected.store(peers.len() as u32 * F::PEER_BYTES);
}

fn read<F: Peers, const TRIES: u32>(platform: &HostPlatform<'_, TRIES>, sample: Sample) -> Vec<F::Key> {
    let bytes = platform.bytes(sample.start, sample.count * F::PEER_BYTES).expect("inside the scratch space");
    bytes.chunks(F::PEER_BYTES as usize).map(F::read).collect()
}

/// What has been collected so far.
fn collected<F: Peers, const TRIES: u32>(platform: &HostPlatform<'_, TRIES>) -> Vec<F::Key> {
    let count = platform.context().scratch.sampling.walk.collected.load() / F::PEER_BYTES;
    read::<F, TRIES>(platform, Sample { start: PEERS_AT as u32, count })
}

fn ring<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let most = F::NUMWANT_LIMIT + F::CHUNK_SLOTS;
    let fullest = (COLLECTED_ENOUGH - 1) / F::PEER_BYTES + F::CHUNK_SLOTS;
    // (collected, the first that is returned, wanted, and those that are returned: the first and
    // how many)
    for (all, first, want, start, count) in [
        (0, 0, 5, 0, 0),
        (3, 0, 5, 0, 3),
        (3, 2, 5, 0, 3),
        (5, 3, 5, 0, 5),
        (5, 0, 3, 0, 3),
        (5, 2, 3, 2, 3),
        (5, 3, 3, 3, 3),
        (5, 4, 4, 4, 4),
        (5, 5, 3, 0, 3),
        (5, u32::MAX, 3, 0, 3),
        (5, 2, 0, 2, 0),
        (most, most - 1, F::NUMWANT_LIMIT, most - 1, F::NUMWANT_LIMIT),
        (most, most / 2, F::NUMWANT_LIMIT, most / 2, F::NUMWANT_LIMIT),
        (60, 59, 50, 59, 50),
        // As many as can be collected where some are hidden.
        (fullest, fullest - 1, 50, fullest - 1, 50),
        (fullest, fullest - 1, F::NUMWANT_LIMIT, fullest - 1, F::NUMWANT_LIMIT),
        (fullest, fullest - F::NUMWANT_LIMIT, F::NUMWANT_LIMIT, fullest - F::NUMWANT_LIMIT, F::NUMWANT_LIMIT),
    ] {
        collect::<F>(scratch, &(0..all).map(F::peer).collect::<Vec<_>>());
        scratch.sampling.first_returned.store(first);
        let given = read::<F, 0>(&platform, compact::cut::<F>(scratch, want));
        let expected: Vec<_> = (start..start + count).map(|number| F::peer(number % all)).collect();
        assert_eq!(given, expected, "{want} of {all} from {first} on");
    }
}

#[test]
fn the_wanted_peers_are_cut_out_as_from_a_ring() {
    ring::<V4>();
    ring::<V6>();
}

fn dropped<F: Scoped>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let public = 0;
    // (scopes of those collected, of the requester, positions of those that stay)
    let rows: [(&[u32], u32, &[usize]); 10] = [
        (&[], public, &[]),
        (&[public, public], public, &[0, 1]),
        (&[PRIVATE, LINK, HOST], public, &[]),
        (&[PRIVATE, public, LINK, public, HOST], public, &[1, 3]),
        (&[public, PRIVATE, public], public, &[0, 2]),
        (&[public, PRIVATE, LINK, HOST, PRIVATE], PRIVATE, &[0, 1, 4]),
        (&[HOST, PRIVATE, LINK, public], LINK, &[1, 2, 3]),
        (&[HOST, PRIVATE, LINK, public], HOST, &[0, 1, 2, 3]),
        (&[HOST, HOST, HOST, public], public, &[3]),
        (&[public, HOST, HOST, HOST], public, &[0]),
    ];
    for (scopes, requester, stay) in rows {
        let all: Vec<_> = (0..).zip(scopes).map(|(number, scope)| F::scoped(number, *scope)).collect();
        let filter = PeerFilter::new(true, visible(requester));
        for hides in [0, 1] {
            collect::<F>(cx.scratch, &all);
            cx.scratch.sampling.hides.store(hides);
            cx.scratch.sampling.random.store(u32::MAX);
            cx.scratch.sampling.first_returned.store(77);
            compact::drop_hidden::<_, F>(&cx, filter);
            let first = cx.scratch.sampling.first_returned.load();
            if hides == 0 {
                assert_eq!(collected::<F, 0>(&platform), all, "nobody has said that some are hidden");
                assert_eq!(first, 77);
            } else {
                let expected: Vec<_> = stay.iter().map(|number| all[*number]).collect();
                assert_eq!(collected::<F, 0>(&platform), expected, "{scopes:?} for {requester}");
                assert!(first < expected.len().max(1) as u32, "{scopes:?} for {requester}: begins with {first}");
            }
        }
    }
}

#[test]
fn hidden_peers_are_dropped_and_the_others_keep_their_order() {
    dropped::<V4>();
    dropped::<V6>();
}

#[test]
fn every_position_has_a_sample_before_one_has_its_second() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let (one, another) = (SwarmId::new(5), SwarmId::new(6));
    for partitions in [1, 2, 3, 4, 5, 8, 13, 32, 100] {
        let round = round_size(partitions);
        for _ in 0..3 {
            let mut seen = BTreeSet::new();
            for _ in 0..round {
                beginning::choose(&cx, one, partitions);
                let position = cx.scratch.sampling.first_position.load();
                assert!(position < round && seen.insert(position), "{position} of {round} once more");
                // One that was given up, and another swarm's, do not count.
                beginning::choose(&cx, one, partitions);
                assert_eq!(cx.scratch.sampling.first_position.load(), position);
                beginning::choose(&cx, another, partitions);
                beginning::advance(cx.scratch, one);
            }
        }
    }
}

#[test]
fn samples_of_one_partition_begin_at_halves_then_at_quarters() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let swarm = SwarmId::new(5);
    cx.scratch.samples[5].store(1 << 16);
    let mut chosen = Vec::new();
    for _ in 0..8 {
        beginning::choose(&cx, swarm, 1);
        chosen.push(beginning::first_peer(cx.scratch, 0, 80));
        beginning::advance(cx.scratch, swarm);
    }
    assert_eq!(chosen, [0, 40, 20, 60, 10, 50, 30, 70]);
}

#[test]
fn the_first_peer_is_one_of_the_partitions() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    for first in [0, 1, 1 << 31, u32::MAX] {
        scratch.sampling.first_peer.store(first);
        let mut beginnings = BTreeSet::new();
        for index in 0..200 {
            for peers in [1, 2, 31, 32, 384] {
                let peer = beginning::first_peer(scratch, index, peers);
                assert!(peer < peers, "{first} {index} {peers}");
            }
            beginnings.insert(beginning::first_peer(scratch, index, 384));
            assert_eq!(beginning::first_peer(scratch, index, 0), 0, "nobody is there");
        }
        assert!(beginnings.len() > 150, "partitions begin at {} places", beginnings.len());
    }
    for (first, expected) in [(0, 0), (u32::MAX, 79), (1 << 31, 40), (1 << 30, 20)] {
        scratch.sampling.first_peer.store(first);
        assert_eq!(beginning::first_peer(scratch, 0, 80), expected);
    }
}

/// A walk over all of a swarm, whose random number and beginning are given.
fn walk_of<F: Peers>(platform: &HostPlatform<'_>, partitions: u32, random: u32, exclude: F::Key) -> Walk {
    let cx = platform.context();
    cx.scratch.sampling.random.store(random);
    cx.scratch.sampling.first_position.store(random);
    cx.scratch.sampling.first_peer.store(random.rotate_left(7));
    let wanted = Wanted { count: 0, filter: everybody(), exclude };
    new_walk::<_, F>(&cx, partitions, 1_000_000, random, &wanted)
}

fn visited<F: Peers>() {
    for partitions in [1, 2, 3, 5, 7, 8, 13, 16, 40] {
        let store = HostStore::new(&LARGE, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, partitions * peers_per_partition(F::VERSION), 128);
        assert_eq!(F::directory(swarm.record).map(|header| header.partitions), Some(partitions));
        for random in [1, 0x1234_5678, 0x7fff_0003, 0xabcd_ef01, u32::MAX] {
            let mut walk = walk_of::<F>(&platform, partitions, random, F::peer(u32::MAX >> 8));
            assert_eq!(walk.position, random & (round_size(partitions) - 1));
            let mut goes_on = true;
            for pass in 0..3 {
                if !goes_on {
                    break;
                }
                let mut seen = BTreeSet::new();
                for step in 0..round_size(partitions) {
                    assert!(goes_on, "the end amidst a pass");
                    assert_eq!((walk.passes, walk.steps), (pass, step), "{partitions} partitions");
                    let position = walk.position;
                    let target = walk::locate::<_, F>(&cx, swarm, &mut walk).expect("a partition");
                    let index = partition_of(position, partitions);
                    assert_eq!(target.partition.tagged_index(), F::TAG | index, "{position} of {partitions}");
                    let version = target.partition.lock.version().expect("nobody changes it");
                    goes_on = walk::read::<_, F>(&cx, swarm, &mut walk, target, version);
                    seen.insert(position);
                }
                assert_eq!(seen, (0..round_size(partitions)).collect(), "{partitions} partitions, {random:#x}");
            }
        }
    }
}

#[test]
fn a_pass_of_a_walk_visits_every_position_once() {
    visited::<V4>();
    visited::<V6>();
}

fn all_once<F: Peers>(sizes: &[(u32, u32)]) {
    for &(count, partitions) in sizes {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, count, partitions);
        assert_eq!(F::directory(swarm.record).map(|header| header.partitions), Some(partitions));
        let all = peers::<_, F>(&cx, swarm);
        for (random, exclude) in [(1, u32::MAX >> 8), (0x1234_5678, 3), (0xabcd_ef01, count - 1), (u32::MAX, count)] {
            let mut walk = walk_of::<F>(&platform, partitions, random, F::peer(exclude));
            let mut steps = 0;
            loop {
                let target = walk::locate::<_, F>(&cx, swarm, &mut walk).expect("a partition");
                let version = target.partition.lock.version().expect("nobody changes it");
                steps += 1;
                if !walk::read::<_, F>(&cx, swarm, &mut walk, target, version) || steps == 500 {
                    break;
                }
            }
            assert!(steps < 500, "no end");
            cx.scratch.sampling.walk.collected.store(walk.collected);
            let given = collected::<F, 0>(&platform);
            let unique: BTreeSet<_> = given.iter().copied().collect();
            assert_eq!(unique.len(), given.len(), "a peer twice, {count} in {partitions}");
            let expected: BTreeSet<_> = all.keys().copied().filter(|peer| *peer != F::peer(exclude)).collect();
            assert_eq!(unique, expected, "{count} in {partitions}");
        }
    }
}

#[test]
fn a_walk_to_its_end_collects_everybody_once() {
    all_once::<V4>(&[(6, 1), (80, 1), (384, 1), (400, 2), (500, 3), (600, 4), (640, 5)]);
    all_once::<V6>(&[(3, 1), (64, 1), (190, 1), (190, 2), (190, 3)]);
}

fn changed_meanwhile<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let swarm = grown::<_, F>(&cx, 180, 2);
    let mut walk = walk_of::<F>(&platform, 2, 1, F::peer(1000));
    let position = walk.position;
    let before = format!("{walk:?}");
    let target = walk::locate::<_, F>(&cx, swarm, &mut walk).expect("a partition");
    let version = target.partition.lock.version().expect("nobody changes it");
    assert!(target.partition.lock.try_lock());
    target.partition.lock.begin_change();
    assert!(target.partition.lock.version().is_none());
    assert!(walk::read::<_, F>(&cx, swarm, &mut walk, target, version), "once more");
    assert_eq!(format!("{walk:?}"), before, "what was read is dropped");
    target.partition.lock.unlock();
    assert!(walk::read::<_, F>(&cx, swarm, &mut walk, target, version), "that version is gone for good");
    assert_eq!(format!("{walk:?}"), before, "what was read is dropped");

    let version = target.partition.lock.version().expect("nobody changes it");
    let header = F::header(swarm.record).load();
    F::header(swarm.record).store(header - super::super::layout::DirectoryHeader::ONE_PARTITION);
    assert!(!walk::read::<_, F>(&cx, swarm, &mut walk, target, version), "partitions were merged");
    assert_eq!(format!("{walk:?}"), before, "what was read is dropped");
    F::header(swarm.record).store(header);
    // What is known of it is not that of this sample.
    for (owner, read) in [(swarm.id.stored(), 1), (swarm.id.stored() + 1, 0), (0, 0)] {
        target.partition.owner.store(owner);
        let mut walk = walk_of::<F>(&platform, 2, 2 + owner, F::peer(1000));
        walk.position = position;
        let target = walk::locate::<_, F>(&cx, swarm, &mut walk).expect("a partition");
        let version = target.partition.lock.version().expect("nobody changes it");
        walk::read::<_, F>(&cx, swarm, &mut walk, target, version);
        assert_eq!((walk.partitions_read, walk.steps), (read, 1), "{owner}");
        assert_eq!(walk.collected > 0, read == 1, "{owner}");
    }
}

fn second_positions<F: Peers>() {
    for partitions in [3, 5, 6, 7] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, partitions * peers_per_partition(F::VERSION), 64);
        for position in partitions..round_size(partitions) {
            let [one, other] = [position, partition_of(position, partitions)].map(|first| {
                let mut walk = walk_of::<F>(&platform, partitions, 0x0100_0000 + first, F::peer(5000));
                cx.scratch.sampling.first_peer.store(position << 29);
                let target = walk::locate::<_, F>(&cx, swarm, &mut walk).expect("a partition");
                let version = target.partition.lock.version().expect("nobody changes it");
                walk::read::<_, F>(&cx, swarm, &mut walk, target, version);
                cx.scratch.sampling.walk.collected.store(walk.collected);
                collected::<F, 0>(&platform)
            });
            assert!(!one.is_empty());
            assert_eq!(one, other, "{position} of {partitions}");
        }
    }
}

#[test]
fn a_walk_takes_the_same_chunks_first_from_whichever_position_of_a_partition_it_begins() {
    second_positions::<V4>();
    second_positions::<V6>();
}

#[test]
fn what_was_read_of_a_changing_partition_is_dropped() {
    changed_meanwhile::<V4>();
    changed_meanwhile::<V6>();
}

fn record_being_changed<F: Peers>() {
    // (pauses until the change is over, whether peers are found)
    for (pauses, found) in [(0, true), (1, true), (2, false)] {
        let store = HostStore::new(&ROOMY, 1);
        let swarm = grown::<_, F>(&store.platform(1).context(), F::RECORD_SLOTS as u32, 0).id;
        let left = Cell::new(pauses);
        let other = store.platform(2);
        let record = other.swarm(swarm).expect("a swarm");
        if pauses > 0 {
            assert!(record.lock.try_lock());
            record.lock.begin_change();
        }
        let pause = || {
            left.set(left.get() - 1);
            if left.get() == 0 {
                record.lock.unlock();
            }
        };
        let platform = store.platform(1).with_hook(&pause);
        let cx = platform.context();
        cx.scratch.sampling.walk.collected.store(0);
        let wanted = Wanted { count: 50, filter: everybody(), exclude: F::peer(1000) };
        compact::from_record::<_, F>(&cx, record, &wanted, u32::MAX);
        let expected = if found { F::RECORD_SLOTS } else { 0 };
        assert_eq!(collected::<F, 0>(&platform).len(), expected, "{pauses} pauses");
        assert_eq!(left.get(), 0);
    }
}

#[test]
fn a_record_that_is_being_changed_is_read_again() {
    record_being_changed::<V4>();
    record_being_changed::<V6>();
}

/// Torrent 0 with this many peers with public addresses and with addresses of this host.
fn mixed<'m, F: Scoped, const TRIES: u32>(
    cx: &Context<'m, HostPlatform<'_, TRIES>>,
    public: u32,
    host: u32,
) -> SwarmRef<'m> {
    let swarm = new_swarm(cx, 0);
    for (number, scope) in (0..public).map(|number| (number, 0)).chain((0..host).map(|number| (number, HOST))) {
        let peer = F::scoped(number, scope);
        let announce =
            Announce { info_hash: &torrent(0), peer, seeder: false, event: PeerEvent::None, owner: Owner::NONE };
        upsert::announce::<_, F>(cx, &announce).expect("room");
    }
    swarm
}

/// How many peers a sample has; `None` if it is given up.
fn count_of<F: Scoped, const TRIES: u32>(
    (public, host): (u32, u32),
    (count, filter): (u32, PeerFilter),
    one_partition: bool,
) -> Option<u32> {
    let store = HostStore::new(&LARGE, 1);
    let platform = store.limited_platform::<TRIES>(1);
    let cx = platform.context();
    let swarm = mixed::<F, TRIES>(&cx, public, host);
    let wanted = Wanted { count, filter, exclude: F::peer(0) };
    if !one_partition {
        return sample::<_, F>(&cx, swarm, &wanted).map(|sample| sample.count);
    }
    of_one_partition::<_, F>(&cx, swarm, &wanted)
}

/// How many peers the requester is given of one partition when it announces again.
fn of_one_partition<P: Platform, F: Peers>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    wanted: &Wanted<F::Key>,
) -> Option<u32> {
    let directory = F::directory(swarm.record);
    look_ahead::<_, F>(cx, swarm, directory);
    let announce = Announce {
        info_hash: &torrent(0),
        peer: wanted.exclude,
        seeder: false,
        event: PeerEvent::None,
        owner: Owner::NONE,
    };
    // A requester that is unknown cannot be refreshed.
    let known = TorrentKey::new(cx.settings, announce.info_hash);
    let refreshed = refresh::<_, F>(cx, swarm, directory, &known, &announce);
    assert!(refreshed.is_some() || directory.is_none());
    from_one_partition::<_, F>(cx, swarm, wanted).map(|sample| sample.count)
}

fn samples<F: Scoped>() {
    let (public, all) = (PeerFilter::new(true, visible(0)), everybody());
    let (few, limit) = (F::RECORD_SLOTS as u32, F::NUMWANT_LIMIT);
    // (peers with public addresses and with this host's, wanted, from one partition, in the daemon,
    // where tries are limited)
    for (peers, wanted, one, daemon, kernel) in [
        ((0, 0), (50, all), Some(0), Some(0), Some(0)),
        ((1, 0), (50, all), Some(0), Some(0), Some(0)),
        ((few, 0), (0, all), Some(0), Some(0), Some(0)),
        ((few, 0), (50, all), Some(few - 1), Some(few - 1), Some(few - 1)),
        ((few, 0), (1, public), Some(1), Some(1), Some(1)),
        ((1, 1), (50, all), Some(1), Some(1), Some(1)),
        ((1, 1), (50, public), None, Some(0), Some(0)),
        ((40, 0), (50, all), Some(39), Some(39), Some(39)),
        ((40, 2), (50, public), None, Some(39), Some(39)),
        ((40, 2), (50, all), Some(41), Some(41), Some(41)),
        ((1000, 0), (20, public), Some(20), Some(20), Some(20)),
        ((1000, 0), (limit, public), None, Some(limit), Some(limit)),
        ((1000, 0), (u32::MAX, public), None, Some(limit), Some(limit)),
        ((1000, 0), (20, PeerFilter::new(false, EVERYTHING)), Some(20), Some(20), Some(20)),
    ] {
        let row = format!("{peers:?} {wanted:?}");
        assert_eq!(count_of::<F, 4>(peers, wanted, true), one, "{row}, of one partition");
        assert_eq!(count_of::<F, 0>(peers, wanted, false), daemon, "{row}, without limit");
        assert_eq!(count_of::<F, 4>(peers, wanted, false), kernel, "{row}, with limited tries");
    }
    // Nearly all are hidden.
    let peers = (10, 3000);
    assert_eq!(count_of::<F, 4>(peers, (50, public), false), None, "left to the daemon");
    assert!(count_of::<F, 0>(peers, (50, public), false).is_some_and(|count| count < 10));
}

/// Many samples of a swarm in which one of very many peers is hidden, so that more are collected
/// than are wanted.
fn beside_hidden_ones<F: Scoped>(public: u32) {
    let store = HostStore::new(&LARGE, 1);
    let platform = store.limited_platform::<4>(1);
    let cx = platform.context();
    let swarm = mixed::<F, 4>(&cx, public, 1);
    let all: BTreeSet<_> = (0..public).map(F::peer).collect();
    for count in [1, 30, 50, F::NUMWANT_LIMIT.min(public - 1)] {
        let wanted = Wanted { count, filter: PeerFilter::new(true, visible(0)), exclude: F::peer(0) };
        for turn in 0..500 {
            let sample = sample::<_, F>(&cx, swarm, &wanted).expect("enough that are not hidden");
            let given: BTreeSet<_> = read::<F, 4>(&platform, sample).into_iter().collect();
            assert_eq!(given.len(), count as usize, "a peer twice, {count} of {public}, sample {turn}");
            assert!(given.is_subset(&all) && !given.contains(&F::peer(0)), "{count} of {public}, sample {turn}");
        }
    }
}

#[test]
fn samples_beside_hidden_peers_hold_each_peer_once_and_nothing_else() {
    for public in [150, 261, 700, 3000] {
        beside_hidden_ones::<V4>(public);
        beside_hidden_ones::<V6>(public);
    }
}

#[test]
fn samples_have_as_many_peers_as_there_are_or_are_given_up() {
    samples::<V4>();
    samples::<V6>();
}

fn from_an_average_partition<F: Peers>() {
    let most = peers_per_partition(F::VERSION) * 7 / 8;
    // (partitions, wanted, peers from one of them)
    for (partitions, count, expected) in
        [(1, most, Some(most)), (1, most + 1, Some(most + 1)), (2, most, Some(most)), (2, most + 1, None)]
    {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        // So full that each of them could give more.
        let swarm = grown::<_, F>(&cx, partitions * F::CHUNK_SLOTS * 8, partitions);
        let wanted = Wanted { count, filter: everybody(), exclude: F::peer(0) };
        let given = of_one_partition::<_, F>(&cx, swarm, &wanted);
        assert_eq!(given, expected, "{count} of {partitions}");
    }
}

#[test]
fn more_than_an_average_partition_has_is_not_looked_for_in_one() {
    from_an_average_partition::<V4>();
    from_an_average_partition::<V6>();
}

fn rows_of_one_partition<F: Peers>() {
    // (peers of the only partition, slot of the requester, of the peer that the sample begins with,
    // wanted)
    let (most, chunk) = (F::CHUNK_SLOTS * 4, F::CHUNK_SLOTS);
    for (peers, own, first, count) in [
        (most, 0, 0, 20),
        (most, 5, 0, 20),
        (most, 20, 0, 20),
        (most, 21, 0, 20),
        (most, most - 1, most - 3, 20),
        (most, 3, most - 3, 20),
        (most, 17, most - 3, 20),
        (most, 18, most - 3, 20),
        (most - chunk / 2, 1, chunk * 3, chunk),
        (most - chunk + 1, chunk, chunk * 2 + 9, chunk * 2),
        (chunk + 9, 2, chunk + 1, 50),
        (9, 8, 8, 50),
        (9, 0, 4, 8),
        (9, 0, 4, 7),
        (6, 3, 5, 50),
    ] {
        let row = format!("{own} of {peers} from {first} on, {count} wanted");
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, peers, 1);
        let id = directory::find::<_, F>(&platform, swarm.record, 0, 1).expect("the only one");
        let partition = cx.partition(id).expect("a partition").record;
        let key = |number| list::slot::<_, F, _>(&platform, partition, number).expect("a slot").key();
        let wanted = Wanted { count, filter: everybody(), exclude: key(own) };
        let sampling = &cx.scratch.sampling;
        let begin = || {
            sampling.first_partition.store(id.number());
            sampling.first_index.store(0);
            sampling.first_peer.store((u64::from(first) * (1 << 32)).div_ceil(u64::from(peers)) as u32);
            assert_eq!(beginning::first_peer(cx.scratch, 0, peers), first, "{row}");
            sampling.own_partition.store(id.stored());
            sampling.own_version.store(partition.lock.version().expect("not changing").number());
            cx.scratch.found_slot.store(own);
        };
        begin();
        let sample = row::of_partition::<_, F>(&cx, swarm, &wanted, 1).expect("nothing changes");
        let given = read::<F, 0>(&platform, sample);
        assert_eq!(given.len() as u32, count.min(peers - 1), "{row}");
        // Those that stand in a row, and one more for the requester.
        let row_of = |count: u32| -> Vec<_> { (0..count).map(|number| key((first + number) % peers)).collect() };
        let mut expected = row_of(given.len() as u32);
        if let Some(place) = expected.iter().position(|peer| *peer == wanted.exclude) {
            expected[place] = key((first + given.len() as u32) % peers);
        }
        assert_eq!(given, expected, "{row}");

        // Where it is not the requester's own partition, nobody is left out.
        sampling.own_partition.store(id.stored() + 1);
        let sample = row::of_partition::<_, F>(&cx, swarm, &wanted, 1).expect("nothing changes");
        assert_eq!(read::<F, 0>(&platform, sample), row_of(count.min(peers)), "{row}");

        let others = row::of_partition::<_, F>(&cx, swarm, &Wanted { count: peers + 1, ..wanted }, 2);
        assert_eq!(others, None, "{row}: others may have more");
        for spoil in [
            &|| sampling.own_partition.store(0),
            &|| sampling.own_version.store(sampling.own_version.load().wrapping_add(4)),
            &|| sampling.first_index.store(1),
            &|| {
                assert!(partition.lock.try_lock());
                partition.lock.begin_change();
            },
        ] as [&dyn Fn(); 4]
        {
            begin();
            spoil();
            assert_eq!(row::of_partition::<_, F>(&cx, swarm, &wanted, 1), None, "{row}: cannot be known");
        }
    }
}

#[test]
fn peers_in_a_row_are_given_without_the_requester_unless_something_has_changed() {
    rows_of_one_partition::<V4>();
    rows_of_one_partition::<V6>();
}

fn rows_for_seeders<F: Peers>() {
    let chunk = F::CHUNK_SLOTS;
    // (leechers and seeders of the list, the first leecher given, wanted)
    for (leechers, seeders, first, count) in [
        (0, chunk, 0, 50),
        (1, chunk, 0, 50),
        (5, 3, 4, 3),
        (chunk, chunk, chunk - 1, chunk),
        (chunk + 1, 2, chunk, 5),
        (chunk + 9, 2 * chunk, chunk + 8, chunk),
        (10, 3, 5, 8),
        (10, 3, 5, 50),
    ] {
        let row = format!("{leechers} leechers, {seeders} seeders, from {first} on, {count} wanted");
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = new_swarm(&cx, 0);
        let all = leechers + seeders;
        for peer in 0..all {
            let (seeder, event) = (peer >= leechers, PeerEvent::None);
            let announce = Announce { info_hash: &torrent(0), peer: F::peer(peer), seeder, event, owner: Owner::NONE };
            upsert::announce::<_, F>(&cx, &announce).expect("room");
        }
        // Each of the seeders asks.
        for own in leechers..all {
            let wanted = Wanted { count, filter: PeerFilter::new(false, EVERYTHING), exclude: F::peer(own) };
            let directory = F::directory(swarm.record);
            let known = TorrentKey::new(cx.settings, &torrent(0));
            let announce = Announce {
                info_hash: &torrent(0),
                peer: wanted.exclude,
                seeder: true,
                event: PeerEvent::None,
                owner: Owner::NONE,
            };
            look_ahead::<_, F>(&cx, swarm, directory);
            refresh::<_, F>(&cx, swarm, directory, &known, &announce).expect("a known peer");
            cx.scratch.sampling.first_peer.store((u64::from(first) << 32).div_ceil(u64::from(leechers.max(1))) as u32);
            let sample = from_one_partition::<_, F>(&cx, swarm, &wanted).expect("nothing changes");
            let given = read::<F, 0>(&platform, sample);
            let expected: Vec<_> =
                (first..first + count.min(leechers)).map(|number| F::peer(number % leechers)).collect();
            assert_eq!(given, expected, "{row}");
        }
    }
}

#[test]
fn a_seeder_is_given_leechers_in_a_row() {
    rows_for_seeders::<V4>();
    rows_for_seeders::<V6>();
}

fn only_leechers<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = platform.context();
    let swarm = grown::<_, F>(&cx, F::RECORD_SLOTS as u32, 0);
    F::record(swarm.record).slot(0).set_flags(OCCUPIED);
    for (number, flags) in (1..F::RECORD_SLOTS).zip([OCCUPIED | LEECHER, OCCUPIED]) {
        F::record(swarm.record).slot(number).set_flags(flags);
    }
    let wanted = Wanted { count: 50, filter: PeerFilter::new(false, EVERYTHING), exclude: F::peer(1000) };
    let given = read::<F, 0>(&platform, sample::<_, F>(&cx, swarm, &wanted).expect("no limit"));
    let leechers = (0..F::RECORD_SLOTS).map(|number| F::record(swarm.record).slot(number));
    let expected: Vec<_> = leechers.filter(|slot| slot.flags() & LEECHER != 0).map(|slot| slot.key()).collect();
    assert_eq!(given, expected);
    assert!(!expected.is_empty());
}

#[test]
fn seeders_are_not_given_where_leechers_are_wanted() {
    only_leechers::<V4>();
    only_leechers::<V6>();
}
