//! The statistics for Prometheus: its text format 0.0.4, with names as Prometheus and OpenMetrics
//! want them (base units, `_total` behind counters, one unit and one meaning per name, what differs
//! in labels). docs/operation/statistics.md lists them all.
//!
//! | module | writes |
//! |---|---|
//! | `page` | the format |
//! | `paths` | what is counted on every path, and by XDP on every core |
//! | `store` | what is stored, how full it is, sweeps |
//! | `cluster` | other trackers |
//! | `host` | process, interfaces, limits, energy |
//! | `http` | what only HTTP counts |

mod cluster;
mod host;
mod http;
mod page;
mod paths;
mod store;
#[cfg(test)]
mod tests;

use crate::statistics::Snapshot;
use page::Page;

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the snapshot.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let mut page = Page(String::with_capacity(32 << 10));
    page.begin("tracker_build_info", "gauge", "Version of the tracker; always 1.");
    page.sample("tracker_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.process(snapshot);
    page.interfaces(snapshot);
    page.limits(&snapshot.limits);
    page.energy(snapshot);
    page.store(snapshot);
    page.paths(&snapshot.paths, &snapshot.block_lists);
    page.cores(&snapshot.cores);
    page.single(
        "tracker_udp_receive_drops_total",
        "counter",
        "Packets that the kernel dropped at the UDP sockets, because their receive buffers were full or checksums wrong.",
        snapshot.udp_drops,
    );
    let name = "tracker_peer_renewals_total";
    page.begin(name, "counter", "Announces of stored peers by whole minutes since their last announce.");
    for (minutes, count) in snapshot.renewals.iter().enumerate() {
        page.sample(name, &[("minutes", &minutes.to_string())], count);
    }
    page.http(snapshot);
    if let Some(cluster) = &snapshot.cluster {
        page.cluster(cluster);
    }
    page.0
}
