//! How the tracker is going: counters from everywhere, totals, fill and rates, gathered into one
//! [`Snapshot`], which [`crate::admin`] writes in several ways.
//!
//! Each thread counts in memory of its own and without locks: the XDP program per core, each thread
//! of the daemon in its [`Store::handle`], each HTTP thread in its
//! [`Counters`](crate::http::counters::Counters). They are added up on demand.

pub mod http;
pub mod process;
pub mod rates;

use crate::service::{Service, Shutdown};
pub use crate::xdp::status::{Interface, Interfaces};
use crate::{
    store::{
        CounterSet, Counters, Store,
        totals::{LatestTotals, Totals},
    },
    udp::Drops,
    xdp::KernelCounters,
};
use process::Process;
use rates::{History, Rate, Rates};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracker_common::{
    outcome::{COUNTERS, Counter, Event, REFRESH_AGES, Reason},
    store::layout::Pool,
};

/// Returning peers by the minutes since their last announce.
pub type Renewals = [u64; REFRESH_AGES];

/// Everything that is known about how the tracker is going; shared by all threads.
pub struct Statistics {
    store: Arc<Store>,
    totals: Arc<LatestTotals>,
    xdp: Option<KernelCounters>,
    interfaces: Interfaces,
    /// Packets dropped at the UDP sockets.
    pub udp_drops: Drops,
    started: Instant,
    started_at: SystemTime,
    /// What only HTTP counts.
    pub http: http::Registries,
    history: Mutex<History>,
    /// Peers that were stored before anything was counted; `None` until a walk has shown how many
    /// they are.
    inherited: Mutex<Option<Peers>>,
}

/// Numbers of peers; with two's complement for what is negative for a moment.
#[derive(Clone, Copy, Default)]
struct Peers {
    v4: u64,
    v6: u64,
}

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
fn renewals(paths: &[PathCounters]) -> Renewals {
    std::array::from_fn(|minutes| {
        let index = Counter::Refreshed(minutes as u32).index();
        paths.iter().map(|path| path.counters[index]).sum()
    })
}

/// The label of the XDP program's counters; the others are [`Path::label`].
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
    pub interfaces: Vec<Interface>,
    /// Returning peers.
    pub renewals: Renewals,
    /// Rates of the last 10 seconds.
    pub rates_10: Rates,
    /// Rates of the last minute.
    pub rates_60: Rates,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Statistics {
    /// Starts with everything at zero. `totals` are the results of the sweeps through the store,
    /// `xdp` reads the counters of the XDP program, if one is loaded, and `interfaces` says where
    /// it runs.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        totals: Arc<LatestTotals>,
        xdp: Option<KernelCounters>,
        interfaces: Interfaces,
    ) -> Self {
        // A store that outlived an earlier daemon is not empty.
        let inherited = (store.pools().swarms.used() == 0).then(Peers::default);
        Self {
            store,
            totals,
            xdp,
            interfaces,
            udp_drops: Drops::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            http: http::Registries::default(),
            history: Mutex::default(),
            inherited: Mutex::new(inherited),
        }
    }

    /// Remembers the present figures, from which rates are computed. [`Sampler`] does it once a
    /// second.
    pub fn sample(&self) {
        let paths = self.paths();
        let http = self.http.sums();
        let totals = self.totals.load_full();
        let mut inherited = locked(&self.inherited);
        if inherited.is_none() && totals.sweeps > 0 {
            let counted = peers_counted(&paths);
            *inherited = Some(Peers {
                v4: totals.peers_v4.wrapping_sub(counted.v4),
                v6: totals.peers_v6.wrapping_sub(counted.v6),
            });
        }
        drop(inherited);
        locked(&self.history).add(Instant::now(), Rate::figures(&paths, &http));
    }

    /// The state of affairs.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let paths = self.paths();
        let http = self.http.sums();
        let totals = self.totals.load_full();
        let inherited = locked(&self.inherited).unwrap_or_default();
        let counted = peers_counted(&paths);
        // A peer may be counted as removed here and, on another core, as added just too late for
        // this look.
        let sum = |inherited: u64, counted: u64| inherited.wrapping_add(counted).cast_signed().max(0).cast_unsigned();
        let (rates_10, rates_60) = {
            let history = locked(&self.history);
            let figures = Rate::figures(&paths, &http);
            let moment = Instant::now();
            (history.rates(moment, &figures, 10), history.rates(moment, &figures, 60))
        };
        Snapshot {
            uptime: self.started.elapsed(),
            started_at: self.started_at.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()),
            torrents: self.store.pools().swarms.used().into(),
            peers_v4: sum(inherited.v4, counted.v4),
            peers_v6: sum(inherited.v6, counted.v6),
            fill: self.fill(),
            store_bytes: self.store.sizes().bytes(),
            process: Process::read(),
            interfaces: self.interfaces.load().to_vec(),
            udp_drops: self.udp_drops.total(),
            renewals: renewals(&paths),
            paths,
            http,
            totals,
            rates_10,
            rates_60,
        }
    }

    /// The counters of all paths; the XDP program's first, if there is one.
    #[must_use]
    pub fn paths(&self) -> Vec<PathCounters> {
        let xdp = self.xdp.as_ref().and_then(|read| {
            let counters = read().inspect_err(|error| tracing::warn!("the statistics lack XDP: {error:#}")).ok()?;
            Some(PathCounters::new(XDP, "XDP", &counters))
        });
        let threads = self.store.counters().into_iter().map(|(path, counters)| {
            let name = match path {
                CounterSet::Udp => "UDP sockets",
                CounterSet::Http => "HTTP",
                CounterSet::Expiry => "expiry",
            };
            PathCounters::new(path.label(), name, &counters)
        });
        xdp.into_iter().chain(threads).collect()
    }

    fn fill(&self) -> Vec<Fill> {
        let store = &self.store;
        let pools = store.pools();
        let of = |label, name, region, pool: &Pool| {
            let region = store.sizes().regions().into_iter().find(|size| size.name == region);
            let (limit, bytes) = region.map_or((0, 0), |size| (size.count.into(), size.bytes()));
            Fill { label, name, used: pool.used().into(), limit, bytes }
        };
        vec![
            of("swarms", "torrents", "SWARMS", &pools.swarms),
            of("partitions", "partitions of big swarms", "PARTITIONS", &pools.partitions),
            of("chunks_ipv4", "chunks of 32 IPv4 peers", "CHUNKS_V4", &pools.chunks_v4),
            of("chunks_ipv6", "chunks of 16 IPv6 peers", "CHUNKS_V6", &pools.chunks_v6),
        ]
    }
}

/// Takes the samples from which rates are computed, in a thread of its own.
pub struct Sampler(pub Arc<Statistics>);

impl Service for Sampler {
    fn name(&self) -> String {
        "statistics".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        self.0.sample();
        while shutdown.sleep(rates::INTERVAL) {
            self.0.sample();
        }
        Ok(())
    }
}

/// Peers added less peers removed, by family, as counted on all paths.
fn peers_counted(paths: &[PathCounters]) -> Peers {
    let sum = |event| paths.iter().map(|path| path.event(event)).fold(0, u64::wrapping_add);
    Peers {
        v4: sum(Event::Peer4Added).wrapping_sub(sum(Event::Peer4Removed)),
        v6: sum(Event::Peer6Added).wrapping_sub(sum(Event::Peer6Removed)),
    }
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
        store::{
            sizes::{Limits, Sizes},
            totals::TopSwarm,
        },
    };
    use tracker_common::{
        platform::Platform as _,
        store::{
            family::V4,
            layout::Counts,
            membership::{Announcement, PeerEvent},
            upsert::update,
        },
    };

    #[test]
    fn peers_of_an_earlier_daemon_count_once_a_walk_has_seen_them() {
        let sizes = Sizes::new(&Limits { torrents: 9, peers_v4: 9, peers_v6: 9 }).expect("small");
        let store = Arc::new(Store::anonymous(&sizes).expect("a few pages"));
        let totals = Arc::new(LatestTotals::default());
        let announce = |port| {
            let handle = store.handle(CounterSet::Udp);
            let peer = V4::key([1, 2, 3, 4], port);
            let announcement = Announcement { info_hash: &[7; 20], peer, seeder: false, event: PeerEvent::None };
            update::<_, V4>(&handle, &announcement).expect("room");
            handle
        };
        let statistics = || Statistics::new(store.clone(), totals.clone(), None, Interfaces::default());
        let fresh = statistics();
        let earlier = announce(1);
        assert_eq!(fresh.snapshot().peers_v4, 1);

        let restarted = statistics();
        // What the earlier daemon has counted is gone with it.
        earlier.count(Counter::Event(Event::Peer4Added), u64::MAX);
        restarted.sample();
        assert_eq!(restarted.snapshot().peers_v4, 0);
        totals.store(Arc::new(Totals { peers_v4: 1, sweeps: 1, ..Totals::default() }));
        restarted.sample();
        assert_eq!(restarted.snapshot().peers_v4, 1);
        announce(2);
        restarted.sample();
        assert_eq!(restarted.snapshot().peers_v4, 2);
    }

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
            interfaces: vec![Interface {
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
