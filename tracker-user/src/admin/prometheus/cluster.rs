//! Other trackers with the same swarms.

use super::page::Page;
use crate::cluster::ClusterFigures;

impl Page {
    /// All of it; nothing without other trackers.
    pub fn cluster(&mut self, cluster: &ClusterFigures) {
        let nodes = cluster.nodes.len() as u64;
        let gauges = [
            ("tracker_cluster_connected", "1 while there is a connection to a NATS server.", cluster.connected.into()),
            ("tracker_cluster_nodes", "Other nodes that were heard of.", nodes),
            ("tracker_cluster_shards", "Shards that this node takes part in, of 64.", cluster.shards.into()),
            (
                "tracker_cluster_catching_up",
                "1 while what other nodes have is being taken over.",
                cluster.catching_up.into(),
            ),
        ];
        for (name, help, value) in gauges {
            self.single(name, "gauge", help, value);
        }
        let counters = [
            (
                "tracker_cluster_disconnections_total",
                "Connections to a NATS server that were lost.",
                cluster.disconnections,
            ),
            ("tracker_cluster_changes_sent_total", "Changes of peers sent to other nodes.", cluster.sent),
            ("tracker_cluster_messages_sent_total", "Messages with such changes.", cluster.messages_sent),
            ("tracker_cluster_sent_bytes_total", "Bytes of these messages.", cluster.bytes_sent),
            (
                "tracker_cluster_messages_received_total",
                "Messages received from other nodes.",
                cluster.messages_received,
            ),
            ("tracker_cluster_changes_stored_total", "Changes of other nodes that were stored.", cluster.stored),
            ("tracker_cluster_messages_missed_total", "Messages of other nodes that did not arrive.", cluster.gaps),
            (
                "tracker_cluster_peers_caught_up_total",
                "Peers taken over from what other nodes have.",
                cluster.caught_up,
            ),
            ("tracker_livesync_received_total", "Records received from opentrackers.", cluster.livesync_received),
            ("tracker_livesync_sent_total", "Records sent to opentrackers.", cluster.livesync_sent),
        ];
        for (name, help, value) in counters {
            self.single(name, "counter", help, value);
        }
        let name = "tracker_cluster_cpu_seconds_total";
        let help = "Processor time that the changes of others have taken, with reading and dropping them (taking), telling others \
                    (telling), and giving them what there is (giving).";
        self.begin(name, "counter", help);
        for (work, seconds) in [
            ("taking", cluster.taking_seconds),
            ("telling", cluster.telling_seconds),
            ("giving", cluster.giving_seconds),
        ] {
            self.sample(name, &[("work", work)], seconds);
        }
        let name = "tracker_cluster_dropped_total";
        self.begin(name, "counter", "Changes, and messages with some, that went nowhere, by reason.");
        for (reason, count) in &cluster.dropped {
            self.sample(name, &[("reason", reason)], count);
        }
        let name = "tracker_cluster_lag_seconds";
        self.begin(name, "gauge", "Time that the last message of a node was under way, if clocks agree.");
        for node in &cluster.nodes {
            self.sample(name, &[("node", &node.name)], node.lag_milliseconds as f64 / 1000.0);
        }
        let name = "tracker_cluster_silent_seconds";
        self.begin(name, "gauge", "Time since a node was heard of.");
        for node in &cluster.nodes {
            self.sample(name, &[("node", &node.name)], node.silent_seconds);
        }
    }
}
