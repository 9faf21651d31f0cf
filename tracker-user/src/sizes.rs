//! How many elements each map of the store needs for the configured numbers of torrents and peers, and the memory they take.
//!
//! The kernel takes the memory of a map when it is made and never more, so everything is decided here, once, at the start.
//! When a pool is used up, a new torrent is refused and a new peer takes the place of an old one.

use anyhow::{Context as _, ensure};
use std::fmt;
use tracker_common::{
    settings::Settings,
    store::{Bucket, ChunkV4, ChunkV6, Family, NODE_REFS, Partition, Pools, Swarm, V4, V6},
};

/// Torrents per two index buckets: 4 of 7 slots on average, which leaves nearly every torrent in its home bucket.
const TORRENTS_PER_TWO_BUCKETS: u64 = 8;

/// Chunks of big swarms for so many peers in partitions of that many: all chunks of a partition but the last are full, and that one is
/// half full on average.
fn chunks<F: Family>(peers: u64) -> u64 {
    let (slots, per_partition) = (u64::from(F::SLOTS), u64::from(F::PER_PARTITION));
    (peers * (per_partition + slots / 2)).div_ceil(per_partition * slots)
}

/// What the operator asks room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Torrents.
    pub torrents: u64,
    /// IPv4 peers.
    pub peers_v4: u64,
    /// IPv6 peers.
    pub peers_v6: u64,
}

/// Elements of each map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Buckets of the swarm index.
    pub index_buckets: u32,
    /// Swarm records.
    pub swarms: u32,
    /// Partitions of grown swarms.
    pub partitions: u32,
    /// Chunks of IPv4 peers, and directory nodes.
    pub chunks_v4: u32,
    /// Chunks of IPv6 peers.
    pub chunks_v6: u32,
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
    /// The sizes for `limits`.
    ///
    /// # Errors
    /// When an array would need more than 2^31 elements.
    pub fn new(limits: &Limits) -> anyhow::Result<Self> {
        let Limits { torrents, peers_v4, peers_v6 } = *limits;
        ensure!(torrents > 0, "the number of torrents must be at least 1");

        // The first 5 IPv4 and 2 IPv6 peers live in the swarm's record. Swarms that have just outgrown it have a chunk that is
        // mostly empty. In swarm sizes as they are met (the n-th largest has 1/n of the largest) that is about one torrent
        // in 16 for IPv4 and in 32 for IPv6, and of course never more than the peers allow.
        let small_v4 = (torrents / 16).min(peers_v4 / 32);
        let small_v6 = (torrents / 32).min(peers_v6 / 16);
        // A swarm has one partition more than it has full ones.
        let full = |peers: u64, per_partition: u32| peers.div_ceil(u64::from(per_partition) * 7 / 8);
        let partitions = full(peers_v4, V4::PER_PARTITION) + full(peers_v6, V6::PER_PARTITION) + small_v4 + small_v6;
        let nodes = partitions.div_ceil(u64::from(NODE_REFS));

        // A few elements on top, so that the smallest tracker can still let one swarm of each family grow.
        let number = |name: &str, count: u64| {
            u32::try_from(count).ok().filter(|count| *count <= 1 << 31).with_context(|| {
                format!("{torrents} torrents and {peers_v4} + {peers_v6} peers would need {count} {name}, which is more than 2^31: ask for less")
            })
        };
        Ok(Self {
            index_buckets: number("index buckets", (torrents * 2).div_ceil(TORRENTS_PER_TWO_BUCKETS).max(16))?,
            swarms: number("swarm records", torrents)?,
            partitions: number("partitions", partitions + 16)?,
            chunks_v4: number("IPv4 chunks", chunks::<V4>(peers_v4) + small_v4 + nodes + 16)?,
            chunks_v6: number("IPv6 chunks", chunks::<V6>(peers_v6) + small_v6 + 16)?,
        })
    }

    /// The maps of the store with their sizes.
    #[must_use]
    pub fn regions(&self) -> [RegionSize; 7] {
        let region = |name, holds, count, element_bytes| RegionSize { name, holds, count, element_bytes };
        [
            region("SETTINGS", "clock, keys, limits", 1, size_of::<Settings>()),
            region("POOLS", "allocators", 1, size_of::<Pools>()),
            region("INDEX", "torrents by info_hash", self.index_buckets, size_of::<Bucket>()),
            region("SWARMS", "torrents, their first peers", self.swarms, size_of::<Swarm>()),
            region("PARTITIONS", "parts of grown swarms", self.partitions, size_of::<Partition>()),
            region("CHUNKS_V4", "further IPv4 peers", self.chunks_v4, size_of::<ChunkV4>()),
            region("CHUNKS_V6", "further IPv6 peers", self.chunks_v6, size_of::<ChunkV6>()),
        ]
    }

    /// Bytes of the whole store.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.regions().iter().map(RegionSize::bytes).sum()
    }
}

/// Bytes per torrent with one peer of either family: its record and its share of the index.
#[must_use]
pub fn bytes_per_torrent() -> f64 {
    size_of::<Swarm>() as f64 + size_of::<Bucket>() as f64 * 2.0 / TORRENTS_PER_TWO_BUCKETS as f64
}

/// Bytes per further IPv4 peer in a big swarm: chunks as full as they are on average, partitions and directory included.
#[must_use]
pub fn bytes_per_peer_v4() -> f64 {
    bytes_per_peer::<V4>(size_of::<ChunkV4>())
}

/// Bytes per further IPv6 peer in a big swarm, likewise.
#[must_use]
pub fn bytes_per_peer_v6() -> f64 {
    bytes_per_peer::<V6>(size_of::<ChunkV6>())
}

fn bytes_per_peer<F: Family>(chunk_bytes: usize) -> f64 {
    let peers = 1 << 20;
    let slots = chunks::<F>(peers) as f64 * chunk_bytes as f64 / peers as f64;
    let partition = size_of::<Partition>() as f64 + size_of::<ChunkV4>() as f64 / f64::from(NODE_REFS);
    slots + partition / f64::from(F::PER_PARTITION)
}

/// A number of bytes for people, with binary units.
#[must_use]
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12}{:>12}{:>8}{:>12}  holds", "map", "elements", "bytes", "memory")?;
        for region in self.regions() {
            let RegionSize { name, holds, count, element_bytes } = region;
            writeln!(f, "{name:<12}{count:>12}{element_bytes:>8}{:>12}  {holds}", human(region.bytes()))?;
        }
        write!(f, "{:<12}{:>12}{:>8}{:>12}", "total", "", "", human(self.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_per_torrent_and_peer_stays_below_what_was_promised() {
        assert!(bytes_per_torrent() <= 200.0, "{}", bytes_per_torrent());
        assert!(bytes_per_peer_v4() <= 12.0, "{}", bytes_per_peer_v4());
    }

    #[test]
    fn whole_store_stays_below_what_was_promised() {
        // (torrents, IPv4 peers, IPv6 peers, at most this many bytes)
        for (torrents, peers_v4, peers_v6, limit) in [
            (2_000_000, 2_000_000, 666_666, 2_000_000 * 200),
            (10_000, 10_000_000, 0, 10_000_000 * 12),
            (1, 0, 0, 64 << 10),
        ] {
            let sizes = Sizes::new(&Limits { torrents, peers_v4, peers_v6 }).expect("small enough");
            assert!(sizes.bytes() <= limit, "{torrents} torrents, {peers_v4} + {peers_v6} peers:\n{sizes}");
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (torrents, peers_v4) in [(0, 1), (1 << 32, 1), (1, 1 << 40)] {
            assert!(Sizes::new(&Limits { torrents, peers_v4, peers_v6: 0 }).is_err(), "{torrents}, {peers_v4}");
        }
    }

    #[test]
    fn bytes_are_shown_in_fitting_units() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(human(bytes), text);
        }
    }
}
