//! Looks through a whole store: every lock free, every peer once and in its place, every count
//! right, every record part of something or free.

use crate::{
    host::HostStore,
    id::{ChunkId, PartitionId, SwarmId},
    platform::{Platform, SwarmRef},
    store::{
        allocator::Element,
        directory,
        family::{Family, V4, V6},
        hash::TorrentKey,
        index::{self, PROBES},
        layout::{BUCKET_SWARMS, ChunkV4, ChunkV6, NODE_ENTRIES, Partition, RECORD_ENTRIES, SWARM_ALIVE},
        linear_hash::partition_of,
        list::{self, List, chunks_for},
        slot::{LEECHER, OCCUPIED},
        tests::Peers,
    },
};
use std::{collections::BTreeMap, format, string::String, vec::Vec};

/// Peers in their compact form, with whether they are leechers.
pub(super) type Known = BTreeMap<Vec<u8>, bool>;

/// What a store holds.
#[derive(Default)]
pub(super) struct Found {
    /// All peers of all torrents.
    pub(super) peers: Known,
    /// Records that are part of nothing, and counts of passed torrents that are too high.
    pub(super) lost: u32,
    /// By how many the counts of free records are wrong.
    pub(super) miscounted: u32,
    used: [Vec<u32>; 4],
}

/// Looks through the store, and fails where something is not as it has to be.
pub(super) fn look<P: Platform>(store: &HostStore, platform: &P) -> Found {
    let mut found = Found::default();
    let settings = store.settings();
    let mut passed = BTreeMap::<u32, u32>::new();
    let mut torrents = 0;
    let mut from = 0;
    while let Some(swarm) = index::next(|number| platform.bucket(number), from, u32::MAX) {
        from = swarm.id.number() + 1;
        assert_ne!(swarm.record.active.load() & SWARM_ALIVE, 0, "a tag without a torrent");
        torrents += 1;
        let torrent = TorrentKey::new(settings, &swarm.record.info_hash());
        let (number, place) = swarm.id.place();
        let probe = (0..PROBES).find(|probe| torrent.bucket(*probe) == number).expect("on its way");
        let bucket = platform.bucket(number).expect("it was found there");
        assert_eq!(bucket.header(number).tagged(torrent.tag()), place);
        for probe in 0..probe {
            *passed.entry(torrent.bucket(probe)).or_default() += 1;
        }
        let mut peers = family::<P, V4>(store, platform, swarm, &mut found);
        for (all, more) in peers.iter_mut().zip(family::<P, V6>(store, platform, swarm, &mut found)) {
            *all += more;
        }
        let counts = swarm.record.counts();
        assert_eq!([counts.seeders, counts.leechers], peers, "{}: counts", swarm.id.number());
    }
    assert_eq!(store.pools().swarms.used(), torrents, "torrents");
    for number in 0..settings.index_buckets.load() {
        let bucket = platform.bucket(number).expect("a bucket");
        assert!(bucket.header(number).lock.free().is_some(), "bucket {number} is locked");
        for place in 1..=BUCKET_SWARMS as u32 {
            let record = bucket.swarm(number, place).expect("a record");
            assert!(record.lock.free().is_some(), "swarm {number}/{place} is locked");
        }
        let expected = passed.get(&number).copied().unwrap_or(0);
        let counted = bucket.header(number).passed.load();
        assert!(counted >= expected, "a torrent that passed bucket {number} is not found");
        found.lost += counted - expected;
    }
    for number in 0.. {
        let Some(partition) = platform.partition(PartitionId::new(number)) else { break };
        assert!(partition.lock.free().is_some(), "partition {number} is locked");
    }
    pool::<P, Partition>(store, platform, &mut found);
    pool::<P, ChunkV4>(store, platform, &mut found);
    pool::<P, ChunkV6>(store, platform, &mut found);
    found
}

/// A pool: what is used, and the list of free records, are all records that there were.
fn pool<P: Platform, E: Element>(store: &HostStore, platform: &P, found: &mut Found) {
    let pool = E::pool(store.pools());
    let used = &mut found.used[E::LIMIT];
    let mut free = 0;
    let mut link = pool.head.load() as u32;
    while link != 0 {
        free += 1;
        assert!(free <= pool.fresh.load(), "the list of free records has an end");
        used.push(link - 1);
        link = E::find(platform, (link - 1).into()).expect("a record").link();
    }
    found.miscounted += pool.free.load().abs_diff(free);
    used.sort_unstable();
    assert!(used.is_sorted_by(|one, next| one < next), "kind {}: in two places: {used:?}", E::LIMIT);
    assert!(used.last().is_none_or(|last| *last < pool.fresh.load()));
    found.lost += pool.fresh.load() - used.len() as u32;
}

/// A family of a swarm. Returns seeders and leechers.
fn family<P: Platform, F: Peers>(store: &HostStore, platform: &P, swarm: SwarmRef<'_>, found: &mut Found) -> [u32; 2] {
    let record = swarm.record;
    let Some(header) = F::directory(record) else {
        let slots = (0..F::RECORD_SLOTS).map(|number| F::record(record).slot(number));
        let peers: Vec<_> = slots.filter(|slot| slot.is_occupied()).map(|slot| (slot.key(), slot.flags())).collect();
        return enter::<F>(swarm.id, &peers, found);
    };
    if header.is_list() {
        let peers = list::<P, F, _>(platform, record, found);
        return enter::<F>(swarm.id, &peers, found);
    }
    let mut sum = [0; 2];
    for index in 0..header.partitions {
        let id = directory::find::<P, F>(platform, record, index, header.partitions).expect("in the directory");
        let partition = platform.partition(id).expect("a partition");
        assert!(directory::is_partition_of::<F>(partition, swarm.id, index), "partition {index}");
        found.used[Partition::LIMIT].push(id.number());
        let peers = list::<P, F, _>(platform, partition, found);
        for (key, _) in &peers {
            assert_eq!(
                partition_of(F::hash(store.settings(), *key), header.partitions),
                index,
                "{key:?}: its partition"
            );
        }
        for (all, more) in sum.iter_mut().zip(enter::<F>(swarm.id, &peers, found)) {
            *all += more;
        }
    }
    assert_eq!(header.peers, sum[0] + sum[1], "peers in the header");
    if header.partitions > RECORD_ENTRIES {
        // Enough for the swarms of these tests.
        for index in 0..header.partitions.div_ceil(NODE_ENTRIES) {
            found.used[ChunkV4::LIMIT].push(directory::record_entry::<F>(record, index));
        }
    }
    sum
}

/// The peers of a list.
fn list<P: Platform, F: Family, L: List<F>>(platform: &P, list: &L, found: &mut Found) -> Vec<(F::Key, u64)> {
    let occupancy = list.occupancy();
    let chunks = (0..chunks_for::<F>(occupancy.peers)).map(|index| list.chunk_id(index).expect("a chunk"));
    found.used[<F::Chunk as Element>::LIMIT].extend(chunks.map(ChunkId::number));
    let peers = (0..occupancy.peers).map(|number| {
        let slot = list::slot::<P, F, L>(platform, list, number).expect("a slot");
        assert_ne!(slot.flags() & OCCUPIED, 0, "slot {number} is empty");
        assert_eq!(slot.flags() & LEECHER != 0, number < occupancy.leechers, "slot {number}: leechers stand first");
        (slot.key(), slot.flags())
    });
    peers.collect()
}

fn enter<F: Peers>(swarm: SwarmId, peers: &[(F::Key, u64)], found: &mut Found) -> [u32; 2] {
    let mut sum = [0; 2];
    for (key, flags) in peers {
        let is_leecher = flags & LEECHER != 0;
        sum[usize::from(is_leecher)] += 1;
        let mut name = F::compact(*key);
        name.extend(swarm.number().to_be_bytes());
        assert_eq!(found.peers.insert(name, is_leecher), None, "{key:?} is there twice");
    }
    sum
}

/// What is wrong with the peers that were found, if what was being done when the thread was killed
/// leads from the peers before to those after.
pub(super) fn difference(found: &Known, before: &Known, after: &Known) -> Option<String> {
    for (peer, kind) in before {
        if after.contains_key(peer) && !found.contains_key(peer) {
            return Some(format!("{peer:x?}, leecher: {kind}, is lost"));
        }
    }
    for (peer, kind) in found {
        if before.get(peer) != Some(kind) && after.get(peer) != Some(kind) {
            return Some(format!("{peer:x?}, leecher: {kind}, comes from nowhere"));
        }
    }
    None
}
