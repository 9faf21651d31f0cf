//! How the tracker is going: counters from everywhere, totals, fill and rates, gathered into one
//! [`Snapshot`], which [`crate::admin`] writes in several ways.
//!
//! Each thread counts in memory of its own and without locks: the XDP program per core, each thread
//! of the daemon in its [`Store::handle`], each HTTP thread in its
//! [`Counters`](crate::http::counters::Counters). They are added up on demand.

pub mod http;
pub mod process;
pub mod rates;
pub mod snapshot;

use crate::service::{Service, Shutdown};
pub use crate::xdp::status::{InterfaceStatus, LatestStatus};
use crate::{
    store::{CounterSet, Store, totals::LatestTotals},
    udp::Drops,
    xdp::KernelCounters,
};
use process::Process;
use rates::{History, Rate};
pub use snapshot::{Fill, NOTHING_COUNTED, PathCounters, Renewals, Snapshot, XDP};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tracker_common::{outcome::Event, store::layout::Pool};

/// Everything that is known about how the tracker is going; shared by all threads.
pub struct Statistics {
    store: Arc<Store>,
    totals: Arc<LatestTotals>,
    xdp: Option<KernelCounters>,
    interfaces: LatestStatus,
    /// Packets dropped at the UDP sockets.
    pub udp_drops: Drops,
    started: Instant,
    started_at: SystemTime,
    /// What only HTTP counts.
    pub http: http::Registries,
    history: Mutex<History>,
    /// Peers that were stored before anything was counted; `None` until a sweep has shown how many
    /// they are.
    inherited: Mutex<Option<Peers>>,
}

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
            renewals: snapshot::renewals(&paths),
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
        let region = |name| store.sizes().regions().into_iter().find(|size| size.name == name);
        let of = |label, name, map, pool: &Pool| {
            let (limit, bytes) = region(map).map_or((0, 0), |size| (size.count.into(), size.bytes()));
            Fill { label, name, used: pool.used().into(), limit, bytes }
        };
        vec![
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Services;
    use crate::store::{
        sizes::{Capacity, Sizes},
        totals::Totals,
    };
    use std::time::Duration;
    use tracker_common::{
        outcome::Counter,
        platform::Platform as _,
        store::{
            family::V4,
            membership::{Announce, PeerEvent},
            upsert,
        },
    };

    /// Longest that anything here may take.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn rates_need_nobody_who_asks_for_them() {
        let sizes = Sizes::new(&Capacity { torrents: 9, peers_v4: 9, peers_v6: 9 }).expect("small");
        let store = Arc::new(Store::anonymous(&sizes).expect("a few pages"));
        let handle = store.handle(CounterSet::Udp);
        let statistics = Arc::new(Statistics::new(store, Arc::default(), None, LatestStatus::default()));
        let mut services = Services::default();
        services.spawn(Sampler(statistics.clone())).expect("a thread");
        let begun = Instant::now();
        let rate = || statistics.snapshot().rates_10[Rate::Announces as usize];
        while rate() == 0.0 {
            assert!(begun.elapsed() < PATIENCE, "no sample was taken");
            handle.event(Event::Announce4);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn peers_of_an_earlier_daemon_count_once_a_sweep_has_seen_them() {
        let sizes = Sizes::new(&Capacity { torrents: 9, peers_v4: 9, peers_v6: 9 }).expect("small");
        let store = Arc::new(Store::anonymous(&sizes).expect("a few pages"));
        let totals = Arc::new(LatestTotals::default());
        let announce = |port| {
            let handle = store.handle(CounterSet::Udp);
            let peer = V4::key([1, 2, 3, 4], port);
            let announcement = Announce { info_hash: &[7; 20], peer, seeder: false, event: PeerEvent::None };
            upsert::announce::<_, V4>(&handle.context(), &announcement).expect("room");
            handle
        };
        let statistics = || Statistics::new(store.clone(), totals.clone(), None, LatestStatus::default());
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
}
