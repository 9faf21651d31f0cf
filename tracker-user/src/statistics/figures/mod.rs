//! A [`Snapshot`](super::Snapshot) for programs: what `/stats.json` is, what the page and `tracker top` show. The
//! names of the fields are documented in `docs/operation/statistics.md` and stay as they are; a
//! field may be added at any time.

mod gather;

use crate::cluster::ClusterFigures;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of affairs.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Figures {
    /// The tracker's version.
    pub version: String,
    /// When the figures were taken, in seconds since 1970.
    pub time: f64,
    /// When the process was started, likewise.
    pub started_at: f64,
    /// Since then.
    pub uptime_seconds: u64,
    /// Torrents stored.
    pub torrents: u64,
    /// Peers stored.
    pub peers: ByFamily,
    /// What the last sweep through the store has counted.
    pub sweep: Sweep,
    /// What came by which path.
    pub paths: Vec<Path>,
    /// Replies to announces, by the peers in them.
    pub reply_peers: Vec<ReplyPeers>,
    /// Requests not answered as asked, by reason; those that were met.
    pub reasons: Vec<Refused>,
    /// What happened in the store since the start, by name.
    pub events: BTreeMap<String, u64>,
    /// Memory.
    pub memory: Memory,
    /// Processor time of the process since the start; nothing where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Network interfaces that were named.
    pub interfaces: Vec<Interface>,
    /// What each core has done in the XDP program.
    pub cores: Vec<Core>,
    /// HTTP.
    pub http: Http,
    /// Packets that the kernel dropped at the UDP sockets.
    pub udp_drops: u64,
    /// The largest swarms.
    pub top: Vec<Torrent>,
    /// Those of the largest swarms in which most peers have announced lately.
    pub busiest: Vec<Torrent>,
    /// Lists of torrents and of addresses.
    pub lists: Lists,
    /// Who is sent these figures once a second.
    pub listeners: u64,
    /// Other trackers with the same swarms; nothing without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFigures>,
}

/// Numbers by the version of IP.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct ByFamily {
    /// IPv4.
    pub ipv4: u64,
    /// IPv6.
    pub ipv6: u64,
}

impl ByFamily {
    /// Both.
    #[must_use]
    pub const fn sum(self) -> u64 {
        self.ipv4 + self.ipv6
    }
}

/// What a sweep has counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Sweep {
    /// Sweeps since the start; 0 while the other numbers mean nothing.
    pub number: u64,
    /// Torrents that have peers.
    pub torrents_with_peers: u64,
    /// Seeders.
    pub seeders: u64,
    /// Leechers.
    pub leechers: u64,
    /// Downloads completed in the torrents stored now.
    pub completed: u64,
    /// Processor time that it took.
    pub cpu_seconds: f64,
}

/// What came by one path.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Path {
    /// `xdp`, `udp_socket` or `http`.
    pub path: String,
    /// The same for people.
    pub name: String,
    /// Connects answered since the start.
    pub connect: ByFamily,
    /// Announces answered.
    pub announce: ByFamily,
    /// Scrapes answered.
    pub scrape: ByFamily,
    /// Requests answered with an error.
    pub failed: ByFamily,
    /// Requests that nobody answers.
    pub rejected: u64,
    /// Packets that were left to the network stack.
    pub passed_on: u64,
    /// Bytes of replies.
    pub reply_bytes: u64,
    /// Peers handed out.
    pub peers_given: u64,
    /// Replies with fewer peers than wanted.
    pub replies_shortened: u64,
    /// The same per second, in the last ten seconds.
    pub per_second: PerSecond,
}

/// Requests per second.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PerSecond {
    /// Connects answered.
    pub connect: f64,
    /// Announces answered.
    pub announce: f64,
    /// Scrapes answered.
    pub scrape: f64,
    /// Answered with an error.
    pub failed: f64,
    /// Answered by nobody.
    pub rejected: f64,
}

impl PerSecond {
    /// All that were answered as asked.
    #[must_use]
    pub fn answered(&self) -> f64 {
        self.connect + self.announce + self.scrape
    }
}

/// Replies to announces with about as many peers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ReplyPeers {
    /// At least so many peers.
    pub from: u32,
    /// At most so many; nothing for the largest.
    pub to: Option<u32>,
    /// How many replies there were since the start, by all paths.
    pub total: u64,
}

/// Requests not answered as asked for one reason.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Refused {
    /// Its name, as in the metrics.
    pub reason: String,
    /// A few words for people.
    pub text: String,
    /// What to do about it.
    pub advice: String,
    /// `dropped`, `told` or `passed_on`.
    pub fate: String,
    /// How many there were since the start.
    pub total: u64,
    /// By path.
    pub paths: BTreeMap<String, u64>,
}

/// Memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Memory {
    /// Bytes of the whole store.
    pub store_bytes: u64,
    /// Bytes of memory of the process; nothing where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// Bytes of the history of an hour and a day.
    pub history_bytes: u64,
    /// Parts of the store that may become full.
    pub parts: Vec<Part>,
}

/// A part of the store.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Part {
    /// Its name, as in the metrics.
    pub part: String,
    /// What it holds, for people.
    pub name: String,
    /// Elements in use.
    pub used: u64,
    /// Elements there are.
    pub limit: u64,
    /// Bytes of all elements.
    pub bytes: u64,
    /// When it will be full if it goes on growing as within the last hour or ten minutes; nothing if it does not
    /// grow, or in the first ten minutes.
    pub full_in_seconds: Option<u64>,
}

/// A network interface.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why this mode and no better one; may be empty.
    pub note: String,
    /// The driver, or the kind of an interface without hardware; empty if it is not known.
    pub driver: String,
    /// Queues that packets are received on; 0 if it is not known.
    pub receive_queues: u32,
    /// Queues that packets are sent on; 0 if it is not known.
    pub transmit_queues: u32,
}

/// What one core has done in the XDP program since that was loaded.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Core {
    /// Its number.
    pub core: u64,
    /// Requests answered, errors included.
    pub answered: u64,
    /// Requests dropped.
    pub rejected: u64,
    /// Packets left to the network stack.
    pub passed_on: u64,
}

/// HTTP.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Http {
    /// Connections open now.
    pub connections: u64,
    /// Requests by kind, whatever became of them.
    pub requests: BTreeMap<String, u64>,
    /// Requests not answered as asked, by reason; those that were met.
    pub failures: Vec<Failure>,
}

/// Why HTTP requests were not answered as asked.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Failure {
    /// The reason's name, as in the metrics.
    pub reason: String,
    /// A sentence.
    pub text: String,
    /// How many there were since the start.
    pub total: u64,
}

/// A torrent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Torrent {
    /// Its info_hash, in hexadecimal.
    pub info_hash: String,
    /// Seeders.
    pub seeders: u32,
    /// Leechers.
    pub leechers: u32,
    /// Downloads completed.
    pub completed: u32,
    /// Peers that have announced within the last five minutes.
    pub announced: u32,
}

/// Lists in force.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Lists {
    /// Only torrents on a list are served.
    pub allowed: bool,
    /// Torrents on a list are not served.
    pub denied: bool,
    /// Lists of blocked addresses.
    pub blocked: Vec<BlockList>,
}

/// A list of blocked addresses.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct BlockList {
    /// Its file.
    pub list: String,
    /// Requests dropped since the start because of it.
    pub total: u64,
}

/// The last hour or the last day.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    /// The time of the last point, in seconds since 1970; that of the others is as many steps
    /// before.
    pub time: f64,
    /// Seconds from one point to the next.
    pub step_seconds: u64,
    /// Points of each column.
    pub points: usize,
    /// Columns by their names, oldest point first; those of nothing but zeros are left out.
    pub columns: BTreeMap<String, Vec<f32>>,
}
