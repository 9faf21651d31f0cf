//! The state of affairs at one moment, as the operator is shown it.

use super::{http, process::Process, rates::Rates};
use crate::{
    store::{CounterSet, Counters, totals::Totals},
    xdp::status::InterfaceStatus,
};
use std::{sync::Arc, time::Duration};
use tracker_common::outcome::{COUNTERS, Counter, Event, REFRESH_AGES, Reason};

/// Returning peers by the minutes since their last announce.
pub type Renewals = [u64; REFRESH_AGES];

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
    /// Returning peers.
    pub renewals: Renewals,
    /// Rates of the last 10 seconds.
    pub rates_10: Rates,
    /// Rates of the last minute.
    pub rates_60: Rates,
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
    use super::*;
    use crate::{
        http::{
            counters::HttpEvent,
            tracker::{counters::TrackerEvent, failure::Failure},
        },
        store::totals::TopSwarm,
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
            torrents: 3,
            peers_v4: 20,
            peers_v6: 1,
            totals: Arc::new(totals),
            fill: vec![Fill { label: "swarms", name: "torrents", used: 3, limit: 12, bytes: 1536 }],
            store_bytes: 5 << 20,
            process: Process { resident_bytes: Some(3 << 20), cpu_seconds: Some(1.5) },
            interfaces: vec![InterfaceStatus {
                name: "eth\"0".into(),
                mode: "generic".into(),
                note: "the driver has no native XDP".into(),
            }],
            renewals: [0; REFRESH_AGES],
            rates_10: Rates::default(),
            rates_60: Rates::default(),
        }
    }
}
