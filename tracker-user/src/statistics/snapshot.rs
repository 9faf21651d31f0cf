//! The state of affairs at one moment, as the operator is shown it.

use super::{energy::Energy, http, limits::Limits, process::Process, rates::Rates, timeline, traffic::Traffic};
use crate::{
    admission::addresses::BlockList,
    cluster::ClusterFigures,
    store::{CounterSet, Counters, totals::Totals},
    xdp::status::InterfaceStatus,
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tracker_common::{
    id::InfoHash,
    outcome::{BLOCK_LISTS, COUNTERS, Counter, Event, REFRESH_AGES, REPLY_SIZES, REPLY_STEP, Reason},
};

/// Returning peers by the minutes since their last announce.
pub type Renewals = [u64; REFRESH_AGES];

/// How many peers have announced lately, by torrent.
pub type Announced = HashMap<InfoHash, u32>;

/// Counters of one path.
#[derive(Clone, Debug)]
pub struct PathCounters {
    /// The metric label.
    pub label: &'static str,
    /// What it is called towards people.
    pub name: &'static str,
    counters: Box<Counters>,
}

impl PathCounters {
    /// Makes one.
    #[must_use]
    pub fn new(label: &'static str, name: &'static str, counters: &Counters) -> Self {
        Self { label, name, counters: Box::new(*counters) }
    }

    /// How often something was done.
    #[must_use]
    pub fn event(&self, event: Event) -> u64 {
        self.counters[Counter::Event(event).index()]
    }

    /// How often a source was on a list of blocked addresses.
    #[must_use]
    pub fn blocked(&self, list: &BlockList) -> u64 {
        list.own(self.label, self.counters[Counter::Blocked(list.number.into()).index()])
    }

    /// What was counted by the numbers of such lists, whichever had them.
    #[must_use]
    pub fn blocked_by_number(&self) -> [u64; BLOCK_LISTS] {
        std::array::from_fn(|place| self.counters[Counter::Blocked(place as u32 + 1).index()])
    }

    /// Replies to announces by the peers in them: without any, with 1 to [`REPLY_STEP`], and so on.
    #[must_use]
    pub fn replies(&self) -> [u64; REPLY_SIZES] {
        let mut replies: [u64; REPLY_SIZES] =
            std::array::from_fn(|size| self.counters[Counter::Replied(size as u32 * REPLY_STEP).index()]);
        // Other replies are counted among those without peers.
        let some = replies.iter().skip(1).fold(0, |sum: u64, count| sum.wrapping_add(*count));
        let all = self.event(Event::Announce4).wrapping_add(self.event(Event::Announce6));
        replies[0] = all.saturating_sub(some);
        replies
    }

    /// How often something was not done.
    #[must_use]
    pub fn reason(&self, reason: impl Into<Reason>) -> u64 {
        self.counters[Counter::Reason(reason.into()).index()]
    }
}

/// Returning peers of all paths together.
pub(super) fn renewals(paths: &[PathCounters]) -> Renewals {
    std::array::from_fn(|minutes| {
        let index = Counter::Refreshed(minutes as u32).index();
        paths.iter().map(|path| path.counters[index]).sum()
    })
}

/// The label of the XDP program's counters; the others are [`CounterSet::label`].
pub const XDP: &str = "xdp";

/// How much of something with a limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The metric label.
    pub label: &'static str,
    /// What it is called towards people.
    pub name: &'static str,
    /// Elements used.
    pub used: u64,
    /// Elements there are.
    pub limit: u64,
    /// Bytes of all elements.
    pub bytes: u64,
}

/// The state of affairs at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Since the start.
    pub uptime: Duration,
    /// The start, in seconds since 1970.
    pub started_at: f64,
    /// Counters by path; the XDP program's first, if there is one.
    pub paths: Vec<PathCounters>,
    /// Counters that only HTTP has.
    pub http: http::HttpTotals,
    /// Packets that the kernel dropped at the UDP sockets.
    pub udp_drops: u64,
    /// The lists of blocked addresses.
    pub block_lists: Vec<BlockList>,
    /// Torrents stored now.
    pub torrents: u64,
    /// IPv4 peers now.
    pub peers_v4: u64,
    /// IPv6 peers now.
    pub peers_v6: u64,
    /// What the last sweep through the store has found.
    pub totals: Arc<Totals>,
    /// Fill of the store's parts.
    pub fill: Vec<Fill>,
    /// Bytes of the whole store.
    pub store_bytes: u64,
    /// The process as the kernel sees it.
    pub process: Process,
    /// Interfaces and their modes.
    pub interfaces: Vec<InterfaceStatus>,
    /// What the kernel has counted of them.
    pub traffic: Vec<Traffic>,
    /// What the XDP program has counted on each core, in their order; nothing without one.
    pub cores: Vec<PathCounters>,
    /// The limits in force.
    pub limits: Limits,
    /// The machine's energy since the start; `None` where nobody wants to know it.
    pub energy: Option<Energy>,
    /// Other trackers; `None` without any.
    pub cluster: Option<ClusterFigures>,
    /// Returning peers.
    pub renewals: Renewals,
    /// Rates of the last 10 seconds.
    pub rates_10: Rates,
    /// Rates of the last minute.
    pub rates_60: Rates,
    /// What was counted per second in the last ten seconds, in the order of
    /// [`timeline::name`].
    pub recent: [f64; timeline::COUNTED],
    /// When the parts of the store will be full, in the order of `fill`, if they go on growing.
    pub full_in: Vec<Option<Duration>>,
    /// Of the largest swarms, in their order, the peers that have announced within the last
    /// [`LATELY`](super::LATELY) minutes.
    pub announced: Arc<Announced>,
    /// Which lists of torrents are in force, as in the settings record.
    pub access_lists: u32,
    /// Who is sent events now.
    pub listeners: u64,
}

impl Snapshot {
    /// Adds an event up over all paths.
    #[must_use]
    pub fn event(&self, event: Event) -> u64 {
        self.paths.iter().map(|path| path.event(event)).sum()
    }

    /// The paths on which UDP is answered: the XDP program and the sockets.
    pub fn udp(&self) -> impl Iterator<Item = &PathCounters> {
        self.paths.iter().filter(|path| path.label == XDP || path.label == CounterSet::Udp.label())
    }

    /// IPv4 and IPv6 peers.
    #[must_use]
    pub fn peers(&self) -> u64 {
        self.peers_v4 + self.peers_v6
    }
}

/// All counters at zero.
pub const NOTHING_COUNTED: Counters = [0; COUNTERS];

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{energy::Method, traffic};
    use super::*;
    use crate::{
        http::{
            counters::HttpEvent,
            tracker::{counters::TrackerEvent, failure::Failure},
        },
        store::totals::{Times, TopSwarm},
        xdp::status::Card,
    };
    use tracker_common::store::layout::Counts;

    /// A snapshot with a different figure in every place that matters.
    pub(crate) fn example() -> Snapshot {
        let numbered = |start: u64| std::array::from_fn(|index| start + index as u64);
        let mut counted = NOTHING_COUNTED;
        counted[Counter::Event(Event::Announce4).index()] = 7;
        counted[Counter::Event(Event::Scrape6).index()] = 2;
        let http = http::Registries::default();
        let (engine, tracker) = (http.engine.thread(), http.tracker.thread());
        for event in HttpEvent::ALL {
            engine.add(*event, 16 + *event as u64);
        }
        for event in TrackerEvent::ALL {
            tracker.add(*event, 40 + *event as u64);
        }
        tracker.failure(Failure::PortZero);
        let top = |byte: u8, seeders, leechers| TopSwarm {
            info_hash: [byte; 20],
            counts: Counts { seeders, leechers, completed: 1 },
        };
        let totals = Totals {
            torrents: 3,
            torrents_with_peers: 2,
            seeders: 12,
            leechers: 9,
            peers_v4: 20,
            peers_v6: 1,
            completed: 4,
            top: vec![top(0xab, 4, 8), top(0x0c, 7, 0), top(0xff, 1, 1)],
            top_seeders: vec![top(0x0c, 7, 0), top(0xab, 4, 8), top(0xff, 1, 1)],
            top_leechers: vec![top(0xab, 4, 8), top(0xff, 1, 1)],
            by_peers: [1, 0, 1, 0, 1, 0, 0, 0],
            processor_times: Times { classes: [0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0], sum: 1.25 },
            durations: Times { classes: [0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0], sum: 10.0 },
            sweeps: 5,
            sweep_seconds: 0.25,
        };
        Snapshot {
            uptime: Duration::from_secs(2 * 86400 + 3 * 3600 + 61),
            started_at: 1_700_000_000.5,
            paths: vec![
                PathCounters::new(XDP, "XDP", &numbered(1000)),
                PathCounters::new(CounterSet::Udp.label(), "UDP sockets", &numbered(100)),
                PathCounters::new(CounterSet::Http.label(), "HTTP", &counted),
                PathCounters::new(CounterSet::Expiry.label(), "expiry", &NOTHING_COUNTED),
            ],
            http: http.sums(),
            udp_drops: 17,
            // The second has begun when its number had counted 3.
            block_lists: vec![
                BlockList { name: "/lists/a.p2p".into(), number: 2, before: vec![] },
                BlockList { name: "/lists/b".into(), number: 1, before: vec![(XDP, 3)] },
            ],
            torrents: 3,
            peers_v4: 20,
            peers_v6: 1,
            totals: Arc::new(totals),
            fill: vec![Fill { label: "swarms", name: "torrents", used: 3, limit: 12, bytes: 1536 }],
            store_bytes: 5 << 20,
            process: Process {
                resident_bytes: Some(3 << 20),
                virtual_bytes: Some(9 << 20),
                cpu_seconds: Some(1.5),
                open_files: Some(19),
                most_files: Some(1024),
                threads: Some(6),
            },
            interfaces: vec![InterfaceStatus {
                name: "eth\"0".into(),
                mode: "generic".into(),
                note: "the driver has no native XDP".into(),
                card: Card { driver: "e1000e".into(), receive_queues: 1, transmit_queues: 1 },
            }],
            traffic: vec![Traffic {
                interface: "eth\"0".into(),
                counts: std::array::from_fn::<_, { traffic::COUNTERS.len() }, _>(|number| 70 + number as u64),
            }],
            cores: [300, 700].map(|start| PathCounters::new(XDP, "XDP", &numbered(start))).into(),
            limits: Limits {
                interval_seconds: 1800,
                peers_per_reply: [200, 67],
                default_peers_per_reply: 50,
                peers_per_address: 8,
                http_connections: 4096,
                requests_per_minute: [None, Some(1200), None],
                errors_per_second: Some(1000),
            },
            energy: Some(Energy { method: Method::Estimate, joules: 12.5, per_announce: Some(0.25) }),
            cluster: None,
            renewals: [0; REFRESH_AGES],
            rates_10: Rates::default(),
            rates_60: Rates::default(),
            recent: std::array::from_fn(|column| column as f64),
            full_in: vec![Some(Duration::from_secs(3600))],
            announced: Arc::new([([0xab; 20], 5), ([0x0c; 20], 8)].into()),
            access_lists: 0,
            listeners: 2,
        }
    }
}
