//! Removes what has expired: sweeps through the whole store again and again, in batches so small
//! that no request waits for one ([`tracker_common::store::sweep`] does a batch), and publishes
//! what it counted on the way.

use super::{
    CounterSet, Handle, Store,
    completed::Completed,
    totals::{LatestTotals, Times, Top, Totals, class_of},
};
use crate::service::{Service, Shutdown};
use arc_swap::ArcSwap;
use rustix::time::{ClockId, clock_gettime};
use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tracker_common::{
    id::SwarmId,
    platform::Platform as _,
    store::{index, layout::Counts, sweep},
};

/// Processor time that a batch is to take. Other work on the same core waits no longer, unless a
/// single swarm takes more.
const BATCH: Duration = Duration::from_millis(1);

/// Bounds of what a batch looks at, in swarm records and peers together. A sweep begins with the
/// lower one, before it knows how long that takes, and never exceeds the upper one, in case peers
/// expire where so far all stayed.
const WORK: RangeInclusive<u32> = 1 << 12..=1 << 16;

/// A sweep begins this long after the one before at the earliest. Ages are counted in minutes, so
/// expiry would do with less; the totals are shown to people.
const PERIOD: Duration = Duration::from_secs(5);

/// After every batch the thread rests this many times as long as the batch took of the processor:
/// it never takes more than a twentieth of a core, however large the store is. Time spent waiting
/// for the processor does not count: the thread would fall behind when the machine is busy.
const REST: u32 = 19;

/// When peers and torrents expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Minutes after its last announce a peer expires; at most [`LONGEST_PEER_TIMEOUT`].
    pub peer: u32,
    /// Minutes after its last announce a torrent without peers expires.
    pub torrent: u32,
    /// The same for a torrent whose download was completed at least once.
    pub torrent_completed: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { peer: 45, torrent: 45, torrent_completed: 24 * 60 }
    }
}

/// A peer's age is kept modulo 512 minutes.
pub const LONGEST_PEER_TIMEOUT: u32 = 480;

/// Sweeps through a store, in a thread of its own.
pub struct Sweeper {
    handle: Handle,
    timeouts: Arc<ArcSwap<Timeouts>>,
    latest: Arc<LatestTotals>,
    completed: Option<Completed>,
    log_completed: Arc<AtomicBool>,
}

impl Sweeper {
    /// Each sweep begins with the `timeouts` that hold then, and leaves its totals in `latest`.
    #[must_use]
    pub fn new(store: &Arc<Store>, timeouts: Arc<ArcSwap<Timeouts>>, latest: Arc<LatestTotals>) -> Self {
        let handle = store.handle(CounterSet::Expiry);
        Self { handle, timeouts, latest, completed: None, log_completed: Arc::default() }
    }

    /// Has completed downloads be logged as long as `wanted` says so.
    #[must_use]
    pub fn log_completed(mut self, wanted: Arc<AtomicBool>) -> Self {
        self.log_completed = wanted;
        self
    }
}

impl Service for Sweeper {
    fn name(&self) -> String {
        "expiry".into()
    }

    fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut sweeps = 0;
        let (mut processor_times, mut durations) = (Times::default(), Times::default());
        loop {
            let begin = Instant::now();
            let timeouts = self.timeouts.load_full();
            let wanted = self.log_completed.load(Ordering::Relaxed);
            let completed = if wanted { Some(self.completed.take().unwrap_or_default()) } else { None };
            let mut sweep = Sweep { completed, ..Sweep::default() };
            while sweep.batch(&self.handle, &timeouts) {
                if !shutdown.sleep(sweep.last_batch * REST) {
                    return Ok(());
                }
            }
            sweeps += 1;
            self.completed = sweep.completed.take().map(Completed::next);
            let totals = sweep.totals(sweeps);
            processor_times.add(Duration::from_secs_f64(totals.sweep_seconds));
            durations.add(begin.elapsed());
            self.latest.store(Arc::new(Totals { processor_times, durations, ..totals }));
            if !shutdown.sleep(PERIOD.saturating_sub(begin.elapsed())) {
                return Ok(());
            }
        }
    }
}

/// Processor time that this thread has used so far.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// One sweep through the store: call [`Sweep::batch`] until it says false.
pub struct Sweep {
    next: u32,
    /// Records and peers for the next batch.
    work: u32,
    totals: Totals,
    /// The swarms with the most peers, seeders and leechers so far.
    top: [Top; 3],
    last_batch: Duration,
    /// Downloads as of the sweep before, if they are logged.
    completed: Option<Completed>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            next: 0,
            work: *WORK.start(),
            totals: Totals::default(),
            top: Default::default(),
            last_batch: Duration::ZERO,
            completed: None,
        }
    }
}

impl Sweep {
    /// Does the next batch. False if that was the last one.
    pub fn batch(&mut self, handle: &Handle, timeouts: &Timeouts) -> bool {
        let begin = processor_time();
        let Self { next, totals, top, completed, .. } = self;
        let (end, work) = batch_end(handle, *next, self.work);
        let ages = sweep::Ages {
            peer_timeout: timeouts.peer,
            idle: timeouts.torrent,
            idle_completed: timeouts.torrent_completed,
        };
        let batch = sweep::Batch { first: *next, end, ages };
        let report = sweep::sweep(&handle.context(), &batch, |swarm, counts| {
            totals.completed += u64::from(counts.completed);
            if let Some(completed) = completed {
                completed.see(swarm.info_hash(), counts.completed);
            }
            let peers = counts.seeders.saturating_add(counts.leechers);
            totals.by_peers[class_of(peers)] += 1;
            if peers == 0 {
                return;
            }
            totals.torrents_with_peers += 1;
            for (top, many) in top.iter_mut().zip([peers, counts.seeders, counts.leechers]) {
                top.see(many, swarm.info_hash(), counts);
            }
        });
        totals.torrents += report.torrents;
        totals.seeders += report.seeders;
        totals.leechers += report.leechers;
        totals.peers_v4 += report.peers_v4;
        totals.peers_v6 += report.peers_v6;
        *next = end;
        let more = handle.bucket(SwarmId::new(end).place().0).is_some();
        self.last_batch = processor_time().saturating_sub(begin);
        self.work = next_work(work, self.last_batch);
        self.totals.sweep_seconds += self.last_batch.as_secs_f64();
        more
    }

    /// What was counted. `sweeps` is the number of this sweep.
    #[must_use]
    pub fn totals(self, sweeps: u64) -> Totals {
        let [top, top_seeders, top_leechers] = self.top.map(Top::ranked);
        Totals { top, top_seeders, top_leechers, sweeps, ..self.totals }
    }
}

/// Where a batch of `work` records and peers ends that begins with the record of number `first`, and
/// how many of both it has. A page without torrents counts like a record, so in an index that is
/// nearly empty a batch is no longer than elsewhere. One of them at least, however large its swarm
/// is.
fn batch_end(handle: &Handle, first: u32, work: u32) -> (u32, u32) {
    let page_of = |number| SwarmId::new(number).place().0;
    let pages = handle.store().settings().index_buckets.load();
    let (mut end, mut sum) = (first, 0_u32);
    loop {
        let page = page_of(end);
        if page >= pages {
            return (u32::MAX, sum);
        }
        if end > first && sum >= work {
            return (end, sum);
        }
        // As many pages as may be empty.
        let last = page.saturating_add(work.saturating_sub(sum).max(1)).min(pages);
        let limit = SwarmId::at(last, 0).number();
        let Some(swarm) = index::next(|number| handle.bucket(number), end, limit) else {
            (end, sum) = (limit, sum + (last - page));
            continue;
        };
        let Counts { seeders, leechers, .. } = swarm.record.counts();
        let passed = page_of(swarm.id.number()) - page;
        let more = seeders.saturating_add(leechers).saturating_add(sum).saturating_add(1 + passed);
        if end > first && more > work {
            return (end, sum);
        }
        (end, sum) = (swarm.id.number() + 1, more);
    }
}

/// How much the next batch is to look at, when `work` took `time`.
fn next_work(work: u32, time: Duration) -> u32 {
    let fitting = u128::from(work) * BATCH.as_nanos() / time.as_nanos().max(1);
    u32::try_from(fitting).unwrap_or(u32::MAX).clamp(*WORK.start(), *WORK.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        clock, fixture,
        sizes::Sizes,
        totals::{TOP, TopSwarm},
    };
    use tracker_common::id::InfoHash;
    use tracker_common::store::{
        family::{V4, V6},
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    };

    const TIMEOUTS: Timeouts = Timeouts { peer: 45, torrent: 60, torrent_completed: 120 };
    /// What the clock of [`fixture`] says.
    const START: u32 = 1_000_000 * 60;

    fn handle() -> Handle {
        fixture::store(10_000, 10_000, 1000).handle(CounterSet::Expiry)
    }

    fn torrent(number: u16) -> InfoHash {
        let mut info_hash = InfoHash::default();
        info_hash[..2].copy_from_slice(&number.to_be_bytes());
        info_hash
    }

    fn announce(handle: &Handle, info_hash: &InfoHash, peer: u16, seeder: bool, event: PeerEvent) {
        let announcement =
            Announce { info_hash, peer: V4::key([10, 0, 0, 1], peer), seeder, event, owner: Owner::NONE };
        upsert::announce::<_, V4>(&handle.context(), &announcement).expect("stored");
    }

    fn sweep(handle: &Handle) -> Totals {
        let mut sweep = Sweep::default();
        while sweep.batch(handle, &TIMEOUTS) {}
        sweep.totals(1)
    }

    #[test]
    fn totals_are_those_of_all_batches() {
        let handle = handle();
        for number in 0..5000 {
            announce(&handle, &torrent(number), 1, number % 2 == 0, PeerEvent::Started);
        }
        let info_hash = &torrent(7);
        for peer in 0..10 {
            let peer = V6::key([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, peer], 1);
            let announcement = Announce { info_hash, peer, seeder: true, event: PeerEvent::None, owner: Owner::NONE };
            upsert::announce::<_, V6>(&handle.context(), &announcement).expect("stored");
        }
        let totals = sweep(&handle);
        assert_eq!((totals.torrents, totals.torrents_with_peers), (5000, 5000));
        assert_eq!((totals.peers_v4, totals.peers_v6), (5000, 10));
        assert_eq!((totals.seeders, totals.leechers), (2510, 2500));
        assert_eq!(totals.top.len(), TOP);
        let largest = Counts { seeders: 10, leechers: 1, completed: 0 };
        assert_eq!(totals.top[0], TopSwarm { info_hash: *info_hash, counts: largest });
        assert_eq!((totals.top_seeders.len(), totals.top_leechers.len()), (TOP, TOP));
        assert_eq!(totals.top_seeders[0], totals.top[0]);
        assert_eq!(totals.top_leechers[0].counts.leechers, 1);
        assert_eq!(totals.by_peers, [0, 4999, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn batches_end_where_their_work_is_reached_whatever_it_is_made_of() {
        let empty = || {
            let sizes = Sizes {
                index_buckets: 100_000,
                swarms: 1000,
                partitions: 16,
                chunks_v4: 16,
                chunks_v6: 16,
                access_buckets: 1,
                block_words: 1,
            };
            fixture::store_of(&sizes).handle(CounterSet::Expiry)
        };
        for (handle, peers) in [(handle(), &[1, 20, 1, 1][..]), (handle(), &[]), (empty(), &[]), (empty(), &[3, 4])] {
            for (number, peers) in (0..).zip(peers) {
                for peer in 1..=*peers {
                    announce(&handle, &torrent(number), peer, true, PeerEvent::Started);
                }
            }
            let next =
                |from, end| index::next(|number| handle.bucket(number), from, end).map(|swarm| swarm.id.number());
            let pages = handle.store().settings().index_buckets.load();
            for work in [0, 1, 2, 3, 21, 22, 60, 4096, u32::MAX] {
                if work < 22 && pages > 1000 {
                    continue;
                }
                let (mut from, mut seen, mut all) = (0, 0, 0);
                while from != u32::MAX {
                    let (end, sum) = batch_end(&handle, from, work);
                    assert!(end > from, "{work}");
                    let mut records = 0;
                    let mut record = next(from, end);
                    while let Some(number) = record {
                        records += 1;
                        record = next(number + 1, end);
                    }
                    // More than that only if it is one record.
                    assert!(sum <= work.max(1) || records == 1, "{sum} instead of {work}, {records} records");
                    (from, seen, all) = (end, seen + records, all + sum);
                }
                let peers: u32 = peers.iter().copied().map(u32::from).sum();
                assert_eq!(seen, peers.min(1) * handle.store().pools().swarms.used(), "records in batches of {work}");
                // A page that has torrents may be counted besides them.
                assert!(all >= peers + seen && all <= peers + seen + pages, "{all}: {peers} peers, {pages} pages");
            }
            assert_eq!(batch_end(&handle, u32::MAX, 1000), (u32::MAX, 0), "nothing is left");
        }
    }

    #[test]
    fn work_of_the_next_batch_fits_the_pace_of_the_last() {
        // (work, microseconds it took, work that follows)
        for (work, micros, expected) in [
            (10_000, 1_000, 10_000),
            (10_000, 500, 20_000),
            (10_000, 2_000, 5_000),
            (1_000_000, 20_000, 50_000),
            (10_000, 100_000, 4_096),
            (10_000, 1, 65_536),
            (10_000, 0, 65_536),
            (0, 0, 4_096),
        ] {
            assert_eq!(next_work(work, Duration::from_micros(micros)), expected, "{work} took {micros} us");
        }
    }

    #[test]
    fn time_that_a_thread_waits_is_not_processor_time() {
        let (before, begin) = (processor_time(), Instant::now());
        while processor_time() == before {}
        let used = processor_time();
        std::thread::sleep(Duration::from_millis(50));
        let waited = processor_time() - used;
        assert!(begin.elapsed() >= Duration::from_millis(50) && waited < Duration::from_millis(25), "{waited:?}");
    }

    #[test]
    fn peers_and_then_torrents_expire_as_the_clock_moves() {
        let handle = handle();
        announce(&handle, &torrent(1), 1, true, PeerEvent::Completed);
        announce(&handle, &torrent(2), 1, true, PeerEvent::Started);
        // (minutes after the start, torrents, peers)
        for (minutes, torrents, peers) in
            [(0, 2, 2), (44, 2, 2), (45, 2, 0), (59, 2, 0), (60, 1, 0), (119, 1, 0), (120, 0, 0)]
        {
            clock::set(handle.store().settings(), START + minutes * 60);
            let totals = sweep(&handle);
            assert_eq!((totals.torrents, totals.peers_v4), (torrents, peers), "{minutes} minutes after the start");
        }
    }
}
