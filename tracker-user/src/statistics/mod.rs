//! How the tracker is going: counters from everywhere, totals, fill and rates, gathered into one
//! [`Snapshot`], which [`crate::admin`] writes in several ways.
//!
//! Each thread counts in memory of its own and without locks: the XDP program per core, each thread
//! of the daemon in its [`Store::handle`], each HTTP thread in its
//! [`Counters`](crate::http::counters::Counters). They are added up on demand.

pub mod advice;
pub mod api;
pub mod energy;
pub mod feed;
pub mod figures;
pub mod http;
pub mod limits;
pub mod process;
pub mod rates;
pub mod snapshot;
pub mod timeline;
pub mod traffic;

use crate::service::{Service, Shutdown};
pub use crate::xdp::status::{InterfaceStatus, LatestStatus};
use crate::{
    admission::addresses::{Counted, InForce},
    cluster::Meters,
    http::Limits as HttpLimits,
    snapshot::walk::Walk,
    store::{
        CounterSet, Counters, Store, added_up,
        totals::{LatestTotals, TopSwarm},
    },
    udp::Drops,
    xdp::KernelCounters,
};
use arc_swap::ArcSwap;
use energy::Meter;
use feed::Feed;
use limits::Limits;
use process::Process;
use rates::{History, Rate};
pub use snapshot::{Announced, Fill, NOTHING_COUNTED, PathCounters, Renewals, Snapshot, XDP};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use timeline::Timeline;
use tracker_common::{admission::List, outcome::Event, store::layout::Pool};
use traffic::Traffic;

/// Everything that is known about how the tracker is going; shared by all threads.
pub struct Statistics {
    store: Arc<Store>,
    totals: Arc<LatestTotals>,
    xdp: Option<KernelCounters>,
    interfaces: LatestStatus,
    /// Packets dropped at the UDP sockets.
    pub udp_drops: Drops,
    /// The lists of blocked addresses.
    pub block_lists: InForce,
    started: Instant,
    started_at: SystemTime,
    /// What only HTTP counts.
    pub http: http::Registries,
    /// Those who are told once a second.
    pub feed: Feed,
    /// What HTTP is bounded by.
    pub http_limits: Arc<ArcSwap<HttpLimits>>,
    /// The machine's energy; `None` where nobody wants to know it.
    pub energy: Option<Meter>,
    /// What is counted of other trackers; `None` without any.
    pub cluster: Option<Arc<Meters>>,
    history: Mutex<History>,
    timeline: Mutex<Timeline>,
    latest: Latest,
    announced: Mutex<Arc<Announced>>,
    /// Peers that were stored before anything was counted; `None` until a sweep has shown how many
    /// they are.
    inherited: Mutex<Option<Peers>>,
}

/// What strangers are told, as of the last sample: so it costs nothing, however often they ask.
#[derive(Default)]
struct Latest {
    torrents: AtomicU64,
    peers: AtomicU64,
}

/// How recently is lately, in minutes.
pub const LATELY: u32 = 5;

/// From one look at the largest swarms to the next, in samples.
const LOOKS: u32 = 30;

/// Numbers of peers; with two's complement for what is negative for a moment.
#[derive(Clone, Copy, Default)]
struct Peers {
    v4: u64,
    v6: u64,
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
        interfaces: LatestStatus,
    ) -> Self {
        // A store that outlived an earlier daemon is not empty.
        let inherited = (store.pools().swarms.used() == 0).then(Peers::default);
        Self {
            store,
            totals,
            xdp,
            interfaces,
            udp_drops: Drops::default(),
            block_lists: InForce::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            http: http::Registries::default(),
            feed: Feed::default(),
            http_limits: Arc::default(),
            energy: None,
            cluster: None,
            history: Mutex::default(),
            timeline: Mutex::default(),
            latest: Latest::default(),
            announced: Mutex::default(),
            inherited: Mutex::new(inherited),
        }
    }

    /// So many IPv4 and IPv6 peers have come into the store without being counted: from a snapshot.
    pub fn inherit(&self, [v4, v6]: [u64; 2]) {
        // Where a sweep is waited for, that sees them as well.
        if let Some(inherited) = &mut *locked(&self.inherited) {
            *inherited = Peers { v4: inherited.v4 + v4, v6: inherited.v6 + v6 };
        }
    }

    /// Remembers the present figures, from which rates are computed. [`Sampler`] does it once a
    /// second.
    pub fn sample(&self) {
        let paths = self.paths();
        let http = self.http.sums();
        let totals = self.totals.load_full();
        if let Some(energy) = &self.energy {
            energy.sample(announces(&paths));
        }
        let mut inherited = locked(&self.inherited);
        if inherited.is_none() && totals.sweeps > 0 {
            let counted = peers_counted(&paths);
            *inherited = Some(Peers {
                v4: totals.peers_v4.wrapping_sub(counted.v4),
                v6: totals.peers_v6.wrapping_sub(counted.v6),
            });
        }
        let (v4, v6) = present(inherited.unwrap_or_default(), &paths);
        drop(inherited);
        let now = Instant::now();
        locked(&self.history).add(now, Rate::figures(&paths, &http));
        let used = self.fill().map(|fill| fill.used);
        let levels = [used[0], v4, v6, used[1], used[2], used[3]];
        locked(&self.timeline).add(now, &timeline::counted(&paths), &levels);
        self.latest.torrents.store(used[0], Ordering::Relaxed);
        self.latest.peers.store(v4 + v6, Ordering::Relaxed);
    }

    /// Looks in which of the largest swarms peers have announced lately. [`Sampler`] does it twice a
    /// minute.
    pub fn look_at_largest(&self) {
        let mut walk = Walk::new(&self.store, true);
        let totals = self.totals.load_full();
        let count = |swarm: &TopSwarm| (swarm.info_hash, walk.announced_within(&swarm.info_hash, LATELY));
        let announced: Announced = totals.top.iter().map(count).collect();
        *locked(&self.announced) = Arc::new(announced);
    }

    /// Torrents and peers as of the last [`sample`](Self::sample).
    #[must_use]
    pub fn latest(&self) -> (u64, u64) {
        (self.latest.torrents.load(Ordering::Relaxed), self.latest.peers.load(Ordering::Relaxed))
    }

    /// Whether torrents have to be on a list of those allowed.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.store.settings().access_lists.load() & List::Allow.bit() != 0
    }

    /// The last hour or the last day.
    #[must_use]
    pub fn history(&self, day: bool) -> figures::History {
        let timeline = locked(&self.timeline);
        figures::History::of(if day { &timeline.day } else { &timeline.hour })
    }

    /// The state of affairs.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let cores = self.cores();
        let paths = self.paths_with(&cores);
        let http = self.http.sums();
        let totals = self.totals.load_full();
        let inherited = *locked(&self.inherited);
        let (peers_v4, peers_v6) = present(inherited.unwrap_or_default(), &paths);
        let fill = self.fill();
        let (recent, full_in) = {
            let timeline = locked(&self.timeline);
            let level = |fill: &Fill| if fill.label == "swarms" { "torrents" } else { fill.label };
            let full_in = fill.iter().map(|fill| timeline.full_in(level(fill), fill.used, fill.limit)).collect();
            (timeline.rates(Instant::now(), &timeline::counted(&paths)), full_in)
        };
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
            peers_v4,
            peers_v6,
            fill: fill.into(),
            full_in,
            recent,
            cores: cores.iter().map(|core| PathCounters::new(XDP, "XDP", core)).collect(),
            announced: locked(&self.announced).clone(),
            access_lists: self.store.settings().access_lists.load(),
            listeners: self.feed.listeners() as u64,
            store_bytes: self.store.sizes().bytes(),
            process: Process::read(),
            traffic: self.interfaces.load().iter().filter_map(|interface| Traffic::read(&interface.name)).collect(),
            interfaces: self.interfaces.load().to_vec(),
            limits: Limits::of(self.store.settings(), &self.http_limits.load()),
            energy: self.energy.as_ref().map(|energy| energy.read(announces(&paths))),
            cluster: self
                .cluster
                .as_ref()
                .map(|meters| meters.figures(self.store.settings().changes_lost.load().into())),
            udp_drops: self.udp_drops.total(),
            block_lists: self.block_lists.load().to_vec(),
            renewals: snapshot::renewals(&paths),
            paths,
            http,
            totals,
            rates_10,
            rates_60,
        }
    }

    /// What the XDP program has counted on each core; empty if there is none.
    fn cores(&self) -> Vec<Counters> {
        let read = |read: &KernelCounters| {
            read().inspect_err(|error| tracing::warn!("the statistics lack XDP: {error:#}")).ok()
        };
        self.xdp.as_ref().and_then(read).unwrap_or_default()
    }

    /// The counters of all paths; the XDP program's first, if there is one.
    #[must_use]
    pub fn paths(&self) -> Vec<PathCounters> {
        self.paths_with(&self.cores())
    }

    fn paths_with(&self, cores: &[Counters]) -> Vec<PathCounters> {
        let xdp = (!cores.is_empty()).then(|| PathCounters::new(XDP, "XDP", &added_up(cores)));
        let threads = self.store.counters().into_iter().map(|(path, counters)| {
            let name = match path {
                CounterSet::Udp => "UDP sockets",
                CounterSet::Http => "HTTP",
                CounterSet::Expiry => "expiry",
                CounterSet::Cluster => "other trackers",
            };
            PathCounters::new(path.label(), name, &counters)
        });
        xdp.into_iter().chain(threads).collect()
    }

    /// What was counted by the numbers of the lists of blocked addresses.
    #[must_use]
    pub fn blocked(&self) -> Counted {
        self.paths().iter().map(|path| (path.label, path.blocked_by_number())).collect()
    }

    /// Announces answered since the start.
    #[must_use]
    pub fn announces(&self) -> u64 {
        announces(&self.paths())
    }

    /// How XDP runs on the interfaces that were asked for.
    #[must_use]
    pub fn interfaces(&self) -> Arc<Vec<InterfaceStatus>> {
        self.interfaces.load_full()
    }

    fn fill(&self) -> [Fill; 4] {
        let store = &self.store;
        let pools = store.pools();
        let region = |name| store.sizes().regions().into_iter().find(|size| size.name == name);
        let of = |label, name, map, pool: &Pool| {
            let (limit, bytes) = region(map).map_or((0, 0), |size| (size.count.into(), size.bytes()));
            Fill { label, name, used: pool.used().into(), limit, bytes }
        };
        [
            Fill {
                label: "swarms",
                name: "torrents",
                used: pools.swarms.used().into(),
                limit: store.sizes().swarms.into(),
                bytes: region("INDEX").map_or(0, |size| size.bytes()),
            },
            of("partitions", "partitions of big swarms", "PARTITIONS", &pools.partitions),
            of("chunks_ipv4", "chunks of 32 IPv4 peers", "CHUNKS_V4", &pools.chunks_v4),
            of("chunks_ipv6", "chunks of 16 IPv6 peers", "CHUNKS_V6", &pools.chunks_v6),
        ]
    }
}

/// Takes the samples from which rates are computed, and tells those who listen, in a thread of its
/// own.
pub struct Sampler(pub Arc<Statistics>);

impl Service for Sampler {
    fn name(&self) -> String {
        "statistics".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self(statistics) = self;
        statistics.sample();
        let mut number = 0_u32;
        while shutdown.sleep(rates::INTERVAL) {
            statistics.sample();
            number = number.wrapping_add(1);
            if number % LOOKS == 10 {
                statistics.look_at_largest();
            }
            statistics.feed.publish(|| statistics.snapshot());
        }
        statistics.feed.close();
        Ok(())
    }
}

/// IPv4 and IPv6 peers that are there.
fn present(inherited: Peers, paths: &[PathCounters]) -> (u64, u64) {
    let counted = peers_counted(paths);
    // A peer may be counted as removed here and, on another core, as added just too late for this
    // look.
    let sum = |inherited: u64, counted: u64| inherited.wrapping_add(counted).cast_signed().max(0).cast_unsigned();
    (sum(inherited.v4, counted.v4), sum(inherited.v6, counted.v6))
}

/// Announces answered on all paths.
fn announces(paths: &[PathCounters]) -> u64 {
    let of = |path: &PathCounters| path.event(Event::Announce4).wrapping_add(path.event(Event::Announce6));
    paths.iter().map(of).fold(0, u64::wrapping_add)
}

/// Peers added less peers removed, by family, as counted on all paths.
fn peers_counted(paths: &[PathCounters]) -> Peers {
    let sum = |event| paths.iter().map(|path| path.event(event)).fold(0, u64::wrapping_add);
    Peers {
        v4: sum(Event::Peer4Added).wrapping_sub(sum(Event::Peer4Removed)),
        v6: sum(Event::Peer6Added).wrapping_sub(sum(Event::Peer6Removed)),
    }
}

#[cfg(test)]
mod tests;
