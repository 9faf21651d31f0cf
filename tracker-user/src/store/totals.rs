//! What a sweep through the whole store counts on its way, for the statistics.

use arc_swap::ArcSwap;
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};
use tracker_common::{id::InfoHash, store::layout::Counts};

/// How many of the largest swarms are remembered.
pub const TOP: usize = 100;

/// One of the largest swarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSwarm {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Its counts when the sweep came by.
    pub counts: Counts,
}

/// The [`TOP`] swarms with the most of something.
#[derive(Default)]
pub(super) struct Top(BinaryHeap<Entry>);

/// How many, and whose: the smallest of them on top, and of equals the one that comes last.
type Entry = (Reverse<u32>, InfoHash, [u32; 3]);

impl Top {
    /// A swarm that has so many.
    pub fn see(&mut self, many: u32, info_hash: InfoHash, counts: Counts) {
        let full = self.0.len() >= TOP;
        if many == 0 || full && self.0.peek().is_some_and(|(Reverse(least), ..)| many <= *least) {
            return;
        }
        if full {
            self.0.pop();
        }
        self.0.push((Reverse(many), info_hash, [counts.seeders, counts.leechers, counts.completed]));
    }

    /// Those with most first; equals in the order of their info_hashes.
    pub fn ranked(self) -> Vec<TopSwarm> {
        let swarm = |(_, info_hash, [seeders, leechers, completed]): Entry| TopSwarm {
            info_hash,
            counts: Counts { seeders, leechers, completed },
        };
        self.0.into_sorted_vec().into_iter().map(swarm).collect()
    }
}

/// Upper bounds of the classes that torrents are counted in by their peers; the last class has all
/// above.
pub const PEERS_AT_MOST: [u32; 7] = [0, 1, 4, 16, 64, 256, 1024];

/// Torrents by class.
pub type TorrentsByPeers = [u64; PEERS_AT_MOST.len() + 1];

/// The class of a torrent.
#[must_use]
pub fn class_of(peers: u32) -> usize {
    PEERS_AT_MOST.partition_point(|most| *most < peers)
}

/// Upper bounds in seconds of the classes that sweeps are counted in by how long they took.
pub const SECONDS_AT_MOST: [f64; 10] = [0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0, 64.0, 256.0];

/// How long all sweeps since the start took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// How many took longer than the bound before in [`SECONDS_AT_MOST`] and no longer than this one;
    /// the last of them, longer than all.
    pub classes: [u64; SECONDS_AT_MOST.len() + 1],
    /// All together, in seconds.
    pub sum: f64,
}

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.classes[SECONDS_AT_MOST.partition_point(|most| *most < seconds)] += 1;
        self.sum += seconds;
    }
}

/// What a sweep has counted.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Torrents stored.
    pub torrents: u64,
    /// Torrents with at least one peer.
    pub torrents_with_peers: u64,
    /// Seeders, both families.
    pub seeders: u64,
    /// Leechers, both families.
    pub leechers: u64,
    /// IPv4 peers.
    pub peers_v4: u64,
    /// IPv6 peers.
    pub peers_v6: u64,
    /// Downloads completed in the torrents stored now.
    pub completed: u64,
    /// The swarms with the most peers, largest first; [`TOP`] at most.
    pub top: Vec<TopSwarm>,
    /// Those with the most seeders, likewise.
    pub top_seeders: Vec<TopSwarm>,
    /// Those with the most leechers, likewise.
    pub top_leechers: Vec<TopSwarm>,
    /// Torrents by their peers ([`PEERS_AT_MOST`]).
    pub by_peers: TorrentsByPeers,
    /// Processor time of all sweeps.
    pub processor_times: Times,
    /// How long all sweeps took from beginning to end, rests included.
    pub durations: Times,
    /// Sweeps completed since the start; 0 while these totals are all zeros because none is.
    pub sweeps: u64,
    /// Processor time the last sweep took, in seconds.
    pub sweep_seconds: f64,
}

/// The totals of the last complete sweep.
pub type LatestTotals = ArcSwap<Totals>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_end_at_their_bounds() {
        for (peers, class) in [(0, 0), (1, 1), (2, 2), (4, 2), (5, 3), (1024, 6), (1025, 7), (u32::MAX, 7)] {
            assert_eq!(class_of(peers), class, "{peers}");
        }
        let mut times = Times::default();
        for (seconds, class) in [(0.0, 0), (0.001, 0), (0.0011, 1), (1.0, 5), (256.0, 9), (257.0, 10)] {
            let before = times.classes[class];
            times.add(Duration::from_secs_f64(seconds));
            assert_eq!(times.classes[class], before + 1, "{seconds}");
        }
        assert_eq!(times.classes.iter().sum::<u64>(), 6);
        assert!((times.sum - 514.0021).abs() < 1e-6);
    }

    #[test]
    fn the_top_has_those_with_most_and_of_equals_the_first() {
        let mut top = Top::default();
        let counts = |seeders| Counts { seeders, leechers: 0, completed: 0 };
        for number in (0..=u8::MAX).rev() {
            let many = u32::from(number % 100);
            top.see(many, [number; 20], counts(many));
        }
        let ranked: Vec<_> = top.ranked().iter().map(|swarm| (swarm.counts.seeders, swarm.info_hash[0])).collect();
        assert_eq!(ranked.len(), TOP);
        assert_eq!(ranked[..4], [(99, 99), (99, 199), (98, 98), (98, 198)]);
        assert!(ranked.is_sorted_by_key(|(many, hash)| (Reverse(*many), *hash)));
        let mut none = Top::default();
        none.see(0, [1; 20], counts(0));
        assert!(none.ranked().is_empty(), "who has none is in no list");
    }
}
