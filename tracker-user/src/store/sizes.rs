//! How many elements each map of the store needs for the configured numbers of torrents and peers,
//! and the memory they take.
//!
//! The kernel takes the memory of a map when it is made and never more, so everything is decided
//! here, once, at the start. When a pool is used up, a new torrent is refused and a new peer takes
//! the place of an old one.

use crate::text::{human_bytes, plural};
use anyhow::{Context as _, ensure};
use std::fmt;
use tracker_common::{
    admission::table::{AccessBucket, buckets_for},
    limits::table::{ALL_SETS, LimitSet},
    outcome::IpVersion,
    settings::Settings,
    store::{
        family::{Family, V4, V6},
        index,
        journal::{JOURNALS, Journal},
        layout::{Bucket, ChunkV4, ChunkV6, NODE_ENTRIES, NUMBER_BITS, Partition, Pools, RECORD_ENTRIES},
        record::list_capacity,
        resize::peers_per_partition,
    },
    word::Word,
};

/// The maps of the store, by their names; [`Sizes::regions`] has their sizes.
pub const STORE_MAPS: [&str; 9] =
    ["SETTINGS", "POOLS", "INDEX", "PARTITIONS", "CHUNKS_V4", "CHUNKS_V6", "ACCESS", "LIMITS", "JOURNAL"];

/// The map of blocked addresses. It is made of files alone, so whoever takes a store over may have
/// one of another size.
pub const BLOCKS_MAP: &str = "BLOCKS";

/// Torrents per index bucket when the limit is reached.
const TORRENTS_PER_BUCKET: u64 = index::TORRENTS_PER_BUCKET as u64;

/// Peers of one family in a small swarm: if no swarm that has outgrown its record has fewer, there
/// is room for all peers, whatever the mix of sizes. Peers that do not fit the swarm's record take
/// a whole chunk, however few they are; if all swarms were like that, this would be most of the
/// memory. Swarm sizes as they are met (the n-th largest has 1/n of the largest) need a fifth of
/// it.
const SMALL: u64 = 10;

/// What the peers of one family need in addition to swarm records.
struct Needs {
    partitions: u64,
    chunks: u64,
    /// Directory nodes.
    nodes: u64,
}

/// Room for the worst mixes of swarms, one for chunks and another one for partitions.
fn needs<F: Family>(torrents: u64, peers: u64) -> Needs {
    // A chunk per peer is most where all swarms are small, and next where they have one peer more
    // than a chunk holds. All other peers may be in swarms of any size.
    let small = torrents.min(peers / SMALL);
    let one_more = u64::from(F::CHUNK_SLOTS) + 1 - SMALL;
    let middle = torrents.min((peers - small * SMALL) / one_more);
    let others = peers - small * SMALL - middle * one_more;
    // Swarms with partitions have more peers than a list, and each may have begun one partition
    // more than its peers fill.
    let big = torrents.min(peers / (u64::from(list_capacity::<F>()) + 1));
    let partitions = peers / u64::from(peers_per_partition(F::VERSION)) + big;
    // Nodes are IPv4 chunks. IPv4 peers of small swarms have room in these that they leave to nodes
    // if they are in big ones.
    let with_directory = if F::VERSION == IpVersion::V4 { others } else { peers };
    let entries = with_directory / u64::from(peers_per_partition(F::VERSION));
    // The record has room for a few directory entries. A larger swarm has a node, and one more for
    // each `node - record` partitions beyond.
    let (record, node) = (u64::from(RECORD_ENTRIES), u64::from(NODE_ENTRIES));
    let with_nodes = torrents.min(entries / record);
    let nodes = if with_nodes == 0 { 0 } else { with_nodes + (entries - with_nodes * record).div_ceil(node - record) };
    Needs { partitions, chunks: small + middle + chunks::<F>(others), nodes }
}

/// Chunks of big swarms with this many peers in all: all chunks of a partition but the last are
/// full, and the last one is half full on average. How full exactly depends on the sizes of the
/// partitions: in the least favourable swarms it lacks 1.8 slots (IPv4). Such swarms take three
/// chunks in a thousand more, which others have to spare.
fn chunks<F: Family>(peers: u64) -> u64 {
    let (slots, per_partition) = (u64::from(F::CHUNK_SLOTS), u64::from(peers_per_partition(F::VERSION)));
    (peers * (2 * per_partition + slots + 3)).div_ceil(2 * per_partition * slots)
}

/// How many torrents and peers the operator asks room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Torrents.
    pub torrents: u64,
    /// IPv4 peers.
    pub peers_v4: u64,
    /// IPv6 peers.
    pub peers_v6: u64,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let torrents = plural(self.torrents, "torrent", "torrents");
        // "1 IPv4 and 3 IPv6 peers": the word goes by the number that stands before it.
        let peers_v6 = plural(self.peers_v6, "IPv6 peer", "IPv6 peers");
        match (self.peers_v4, self.peers_v6) {
            (1, v6) if v6 != 1 => write!(f, "{torrents}, 1 IPv4 peer and {peers_v6}"),
            (v4, 1) if v4 != 1 => write!(f, "{torrents}, {v4} IPv4 peers and {peers_v6}"),
            (v4, _) => write!(f, "{torrents}, {v4} IPv4 and {peers_v6}"),
        }
    }
}

/// Elements of each map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Buckets of the swarm index.
    pub index_buckets: u32,
    /// Torrents that may be stored.
    pub swarms: u32,
    /// Partitions of grown swarms.
    pub partitions: u32,
    /// Chunks of IPv4 peers, and directory nodes.
    pub chunks_v4: u32,
    /// Chunks of IPv6 peers.
    pub chunks_v6: u32,
    /// Buckets of the table of listed torrents.
    pub access_buckets: u32,
    /// Words of the tables of blocked addresses.
    pub block_words: u32,
}

/// One map of the store.
#[derive(Clone, Copy, Debug)]
pub struct RegionSize {
    /// Name of the map.
    pub name: &'static str,
    /// What it holds, for people.
    pub holds: &'static str,
    /// Number of elements.
    pub count: u32,
    /// Bytes of an element.
    pub element_bytes: usize,
}

impl RegionSize {
    /// Bytes of all elements.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.count) * self.element_bytes as u64
    }
}

impl Sizes {
    /// One of everything, for tests that look at settings alone.
    #[cfg(test)]
    pub(crate) const SMALLEST: Self = Self {
        index_buckets: 1,
        swarms: 1,
        partitions: 1,
        chunks_v4: 1,
        chunks_v6: 1,
        access_buckets: 1,
        block_words: 1,
    };

    /// The sizes for `capacity`.
    ///
    /// # Errors
    /// When the index would need more than 2^31 elements, or partitions or chunks would have numbers of more
    /// than [`NUMBER_BITS`] bits.
    pub fn new(capacity: &Capacity) -> anyhow::Result<Self> {
        let Capacity { torrents, peers_v4, peers_v6 } = *capacity;
        ensure!(torrents > 0, "the number of torrents must be at least 1");

        let (v4, v6) = (needs::<V4>(torrents, peers_v4), needs::<V6>(torrents, peers_v6));

        let limited = |name: &str, count: u64, bits: u32| {
            u32::try_from(count).ok().filter(|count| *count <= 1 << bits).with_context(|| {
                format!("{capacity} would need {count} {name}, which is more than 2^{bits}: ask for less")
            })
        };
        let number = |name: &str, count: u64| limited(name, count, 31);
        // A few elements more, so that even in the smallest tracker a swarm of each family can
        // grow.
        let of_swarms = |name: &str, count: u64| limited(name, count + 16, NUMBER_BITS);
        Ok(Self {
            index_buckets: number("index buckets", torrents.div_ceil(TORRENTS_PER_BUCKET) + 1)?,
            swarms: number("torrents", torrents)?,
            partitions: of_swarms("partitions", v4.partitions + v6.partitions)?,
            chunks_v4: of_swarms("IPv4 chunks", v4.chunks + v4.nodes + v6.nodes)?,
            chunks_v6: of_swarms("IPv6 chunks", v6.chunks)?,
            // There is always one, so that there is a map.
            access_buckets: 1,
            block_words: 1,
        })
    }

    /// The same with room for so many listed torrents.
    ///
    /// # Errors
    /// When the table would need more than 2^31 elements.
    pub fn with_listed(self, torrents: u64) -> anyhow::Result<Self> {
        let access_buckets = u32::try_from(buckets_for(torrents)).ok().filter(|count| *count <= 1 << 31);
        let access_buckets =
            access_buckets.with_context(|| format!("there is no room for {torrents} listed torrents"))?;
        Ok(Self { access_buckets, ..self })
    }

    /// The maps of the store with their sizes.
    #[must_use]
    pub fn regions(&self) -> [RegionSize; 10] {
        let region = |name, holds, count, element_bytes| RegionSize { name, holds, count, element_bytes };
        [
            region("SETTINGS", "clock, keys, limits", 1, size_of::<Settings>()),
            region("POOLS", "allocators", 1, size_of::<Pools>()),
            region("INDEX", "torrents, their first peers", self.index_buckets, size_of::<Bucket>()),
            region("PARTITIONS", "parts of grown swarms", self.partitions, size_of::<Partition>()),
            region("CHUNKS_V4", "further IPv4 peers", self.chunks_v4, size_of::<ChunkV4>()),
            region("CHUNKS_V6", "further IPv6 peers", self.chunks_v6, size_of::<ChunkV6>()),
            region("ACCESS", "listed torrents", self.access_buckets, size_of::<AccessBucket>()),
            region(BLOCKS_MAP, "blocked addresses", self.block_words, size_of::<Word>()),
            region("LIMITS", "what sources asked for", ALL_SETS, size_of::<LimitSet>()),
            region("JOURNAL", "what threads are doing", JOURNALS, size_of::<Journal>()),
        ]
    }

    /// Bytes of the whole store.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.regions().iter().map(RegionSize::bytes).sum()
    }
}

/// Bytes per torrent with one peer of either family: its share of the index, which holds its record.
#[must_use]
pub fn bytes_per_torrent() -> f64 {
    size_of::<Bucket>() as f64 / TORRENTS_PER_BUCKET as f64
}

/// Bytes per further IPv4 peer in a big swarm: chunks as full as they are on average, partitions
/// and directory included.
#[must_use]
pub fn bytes_per_peer_v4() -> f64 {
    bytes_per_peer::<V4>(size_of::<ChunkV4>())
}

/// Bytes per further IPv6 peer in a big swarm, partitions and directory included.
#[must_use]
pub fn bytes_per_peer_v6() -> f64 {
    bytes_per_peer::<V6>(size_of::<ChunkV6>())
}

fn bytes_per_peer<F: Family>(chunk_bytes: usize) -> f64 {
    let peers = 1 << 20;
    let slots = chunks::<F>(peers) as f64 * chunk_bytes as f64 / peers as f64;
    let partition = size_of::<Partition>() as f64 + size_of::<ChunkV4>() as f64 / f64::from(NODE_ENTRIES);
    slots + partition / f64::from(peers_per_partition(F::VERSION))
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12}{:>12}{:>8}{:>12}  holds", "map", "elements", "bytes", "memory")?;
        for region in self.regions() {
            let RegionSize { name, holds, count, element_bytes } = region;
            writeln!(f, "{name:<12}{count:>12}{element_bytes:>8}{:>12}  {holds}", human_bytes(region.bytes()))?;
        }
        write!(f, "{:<12}{:>12}{:>8}{:>12}", "total", "", "", human_bytes(self.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CounterSet, Handle, Store, clock, keys};
    use std::sync::Arc;
    use tracker_common::{
        id::InfoHash,
        outcome::{Counter, Event},
        store::{
            membership::{Announce, PeerEvent},
            owner::Owner,
            upsert,
        },
    };

    #[test]
    fn memory_per_torrent_and_peer_stays_below_what_was_promised() {
        assert!(bytes_per_torrent() <= 145.0, "{}", bytes_per_torrent());
        assert!(bytes_per_peer_v4() <= 10.0, "{}", bytes_per_peer_v4());
    }

    #[test]
    fn whole_store_stays_below_what_was_promised() {
        // (torrents, IPv4 peers, IPv6 peers, at most this many bytes)
        for (torrents, peers_v4, peers_v6, limit) in [
            (2_000_000, 2_000_000, 0, 2_000_000 * 170),
            (2_000_000, 2_000_000, 666_666, 2_000_000 * 185),
            // With what the daemon itself takes there are to be 11 bytes per peer, so its maps have
            // to do with less.
            (10_000, 10_000_000, 10_000, 10_000_000 * 21 / 2),
            (250_000, 1_000_000, 333_333, 80 << 20),
            // Of which 768 KiB are the table of what sources asked for, whatever the size.
            (1, 0, 0, (192 + 769) << 10),
        ] {
            let sizes = Sizes::new(&Capacity { torrents, peers_v4, peers_v6 }).expect("small enough");
            assert!(sizes.bytes() <= limit, "{torrents} torrents, {peers_v4} + {peers_v6} peers:\n{sizes}");
        }
    }

    /// A new peer takes the place of an old one where memory runs out, and the swarms have fewer
    /// peers than came.
    #[test]
    fn all_peers_that_room_was_asked_for_are_stored() {
        let even = |torrents: usize, size: u32| vec![size; torrents];
        // The n-th swarm has 1/n of the largest.
        let uneven = |torrents: u32, largest: u32| (1..=torrents).map(|rank| (largest / rank).max(1)).collect();
        // (peers of the torrents, IPv6)
        let rows: Vec<(Vec<u32>, bool)> = vec![
            (even(2000, 5), false),
            (even(2000, 10), false),
            (even(1000, 20), false),
            (even(500, 33), false),
            (even(500, 50), false),
            (even(200, 100), false),
            (even(100, 256), false),
            (even(100, 257), false),
            (even(100, 700), false),
            (even(100, 1000), false),
            (even(10, 10_000), false),
            (even(1, 45_000), false),
            (even(1, 77_800), false),
            (even(1, 100_000), false),
            (uneven(10_000, 7444), false),
            (uneven(100, 7444), false),
            (even(1000, 2), true),
            (even(1000, 10), true),
            (even(500, 17), true),
            (even(100, 128), true),
            (even(100, 129), true),
            (even(100, 1000), true),
            (even(1, 62_000), true),
            (uneven(10_000, 7444), true),
        ];
        for (torrents, v6) in rows {
            let peers = torrents.iter().map(|size| u64::from(*size)).sum();
            let (peers_v4, peers_v6) = if v6 { (0, peers) } else { (peers, 0) };
            let sizes = Sizes::new(&Capacity { torrents: torrents.len() as u64, peers_v4, peers_v6 }).expect("small");
            let store = Arc::new(Store::anonymous(&sizes).expect("small"));
            keys::set(&store, None).expect("random numbers");
            clock::set(store.settings(), 60_000_000);
            let handle = store.handle(CounterSet::Udp);
            // All swarms grow at the same time. The largest stand first, so that nobody looks at all of
            // them for each peer: that took most of the time.
            assert!(torrents.is_sorted_by(|one, next| one >= next));
            for member in 0..torrents[0] {
                for (number, _) in torrents.iter().enumerate().take_while(|(_, size)| member < **size) {
                    announce(&handle, number as u32, member, v6);
                }
            }
            let counter = Counter::Event(Event::Evicted).index();
            let evicted: u64 = store.counters().iter().map(|(_, counters)| counters[counter]).sum();
            let shape = (torrents.len(), torrents[0]);
            assert_eq!(evicted, 0, "{shape:?} torrents and peers of the first, IPv6: {v6}\n{sizes}");
        }
    }

    fn announce(handle: &Handle, torrent: u32, member: u32, v6: bool) {
        let mut info_hash = InfoHash::default();
        info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
        let [a, b, c, d] = member.to_be_bytes();
        // No peer is in two swarms, so the partitions are filled independently.
        let port = torrent as u16 + 1;
        let (info_hash, seeder, event) = (&info_hash, true, PeerEvent::None);
        let done = if v6 {
            let peer = V6::key([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d], port);
            upsert::announce::<_, V6>(
                &handle.context(),
                &Announce { info_hash, peer, seeder, event, owner: Owner::NONE },
            )
            .map(|_| ())
        } else {
            let peer = V4::key([10, b, c, d], port);
            upsert::announce::<_, V4>(
                &handle.context(),
                &Announce { info_hash, peer, seeder, event, owner: Owner::NONE },
            )
            .map(|_| ())
        };
        done.expect("stored");
    }

    #[test]
    fn regions_have_the_names_of_the_maps() {
        let sizes = Sizes::new(&Capacity { torrents: 1, peers_v4: 1, peers_v6: 0 }).expect("small");
        let names: Vec<_> =
            sizes.regions().iter().map(|region| region.name).filter(|name| *name != BLOCKS_MAP).collect();
        assert_eq!(names, STORE_MAPS);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        // (torrents, IPv4 peers, IPv6 peers, possible)
        for (torrents, peers_v4, peers_v6, expected) in [
            (0, 1, 0, false),
            (1, 0, 0, true),
            (1 << 31, 1, 0, true),
            (1 << 32, 1, 0, false),
            // Beyond 2^24 chunks.
            (1, 300_000_000, 0, true),
            (1, 500_000_000, 0, false),
            (1, 0, 200_000_000, true),
            (1, 0, 300_000_000, false),
            (1, 1 << 40, 0, false),
            (1, 1 << 63, 0, false),
        ] {
            let sizes = Sizes::new(&Capacity { torrents, peers_v4, peers_v6 });
            assert_eq!(sizes.is_ok(), expected, "{torrents} {peers_v4} {peers_v6}");
            if let Ok(Sizes { partitions, chunks_v4, chunks_v6, .. }) = sizes {
                assert!(partitions.max(chunks_v4).max(chunks_v6) <= 1 << NUMBER_BITS);
            }
        }
    }

    #[test]
    fn capacities_are_told_in_singular_and_plural() {
        for ((torrents, peers_v4, peers_v6), text) in [
            ((1, 2, 3), "1 torrent, 2 IPv4 and 3 IPv6 peers"),
            ((2, 1, 0), "2 torrents, 1 IPv4 peer and 0 IPv6 peers"),
            ((0, 3, 1), "0 torrents, 3 IPv4 peers and 1 IPv6 peer"),
            ((1, 1, 1), "1 torrent, 1 IPv4 and 1 IPv6 peer"),
        ] {
            assert_eq!(Capacity { torrents, peers_v4, peers_v6 }.to_string(), text);
        }
    }
}
