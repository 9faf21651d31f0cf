//! What is stored, how full it is, and the sweeps that count it.

use super::page::Page;
use crate::{
    statistics::Snapshot,
    store::totals::{PEERS_AT_MOST, SECONDS_AT_MOST, Times},
};

impl Page {
    /// All of it.
    pub fn store(&mut self, snapshot: &Snapshot) {
        self.single("tracker_torrents", "gauge", "Torrents stored.", snapshot.torrents);
        self.begin("tracker_peers", "gauge", "Peers stored.");
        self.sample("tracker_peers", &[("family", "ipv4")], snapshot.peers_v4);
        self.sample("tracker_peers", &[("family", "ipv6")], snapshot.peers_v6);
        let totals = &snapshot.totals;
        self.single(
            "tracker_torrents_with_peers",
            "gauge",
            "Torrents with at least one peer, as of the last walk through the store.",
            totals.torrents_with_peers,
        );
        self.single("tracker_seeders", "gauge", "Seeders, as of the last walk through the store.", totals.seeders);
        self.single("tracker_leechers", "gauge", "Leechers, as of the last walk through the store.", totals.leechers);
        let name = "tracker_torrents_by_peers";
        self.begin(name, "gauge", "Torrents by how many peers they have, as of the last walk through the store.");
        let mut least = 0;
        for (class, count) in totals.by_peers.iter().enumerate() {
            let peers = match PEERS_AT_MOST.get(class) {
                Some(most) if least == *most => least.to_string(),
                Some(most) => format!("{least}-{most}"),
                None => format!("{least}+"),
            };
            self.sample(name, &[("peers", &peers)], count);
            least = PEERS_AT_MOST.get(class).map_or(least, |most| most + 1);
        }
        self.times(
            "tracker_store_walk_cpu_seconds",
            "Processor time of walks through the store, which remove what has expired.",
            &totals.processor_times,
        );
        self.times(
            "tracker_store_walk_duration_seconds",
            "Time from beginning to end of walks through the store, with rests.",
            &totals.durations,
        );
        self.begin("tracker_store_elements", "gauge", "Elements of the store in use.");
        for fill in &snapshot.fill {
            self.sample("tracker_store_elements", &[("pool", fill.label)], fill.used);
        }
        self.begin("tracker_store_elements_limit", "gauge", "Elements of the store there are.");
        for fill in &snapshot.fill {
            self.sample("tracker_store_elements_limit", &[("pool", fill.label)], fill.limit);
        }
        self.single("tracker_store_size_bytes", "gauge", "Size of the store with all its parts.", snapshot.store_bytes);
    }

    fn times(&mut self, name: &str, help: &str, times: &Times) {
        self.begin(name, "histogram", help);
        let bounds = SECONDS_AT_MOST.iter().copied().chain([f64::INFINITY]);
        let classes: Vec<_> = bounds.zip(times.classes).collect();
        self.histogram(name, &[], &classes, times.sum);
    }
}
