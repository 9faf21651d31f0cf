//! What a sweep through the whole store counts on its way, for the statistics.

use arc_swap::ArcSwap;
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
    /// Sweeps completed since the start; 0 while these totals are all zeros because none is.
    pub sweeps: u64,
    /// Processor time the last sweep took, in seconds.
    pub sweep_seconds: f64,
}

/// The totals of the last complete sweep.
pub type LatestTotals = ArcSwap<Totals>;
