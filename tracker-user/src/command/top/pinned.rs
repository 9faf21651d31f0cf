//! What a tracker has left pinned, or what is pinned while one runs: the store is mapped for reading
//! only, and the counters of the XDP program are read. Peers are counted from the records of torrents by a
//! thread that takes a hundredth of a core at most.

use crate::{
    command::check_store,
    statistics::{
        LatestStatus, Statistics,
        figures::{Figures, Sweep},
    },
    store::Store,
    xdp,
};
use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracker_common::{
    id::SwarmId,
    store::{
        family::{Family, V4, V6},
        index,
        layout::{SWARM_ALIVE, Swarm},
    },
};

/// The store is gone through at most so often.
const PAUSE: Duration = Duration::from_secs(5);

/// Buckets of the index between two rests.
const BATCH: u32 = 4096;

/// Rests are so many times as long as the work before them.
const REST: u32 = 99;

/// What the records of all torrents say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    peers_v4: u64,
    peers_v6: u64,
    seeders: u64,
    leechers: u64,
}

impl Counted {
    /// Adds the torrents in some buckets.
    fn add(&mut self, store: &Store, first: u32, end: u32) {
        let (mut from, end) = (SwarmId::at(first, 0).number(), SwarmId::at(end, 0).number());
        while let Some(swarm) = index::next(|number| store.bucket(number), from, end) {
            from = swarm.id.number() + 1;
            if swarm.record.active.load() & SWARM_ALIVE != 0 {
                let counts = swarm.record.counts();
                self.seeders += u64::from(counts.seeders);
                self.leechers += u64::from(counts.leechers);
                self.peers_v4 += peers::<V4>(swarm.record);
                self.peers_v6 += peers::<V6>(swarm.record);
            }
        }
    }
}

/// The peers of a family, by the record alone.
fn peers<F: Family>(record: &Swarm) -> u64 {
    match F::directory(record) {
        Some(header) => header.peers.into(),
        None => (0..F::RECORD_SLOTS).filter(|number| F::record(record).slot(*number).is_occupied()).count() as u64,
    }
}

/// Goes through the store for as long as the process runs: once without rests, so that there is something
/// to show.
fn count(store: &Store, counted: &ArcSwapOption<Counted>) {
    loop {
        let (begin, mut sum) = (Instant::now(), Counted::default());
        for first in (0..store.sizes().index_buckets).step_by(BATCH as usize) {
            let begin = Instant::now();
            sum.add(store, first, first.saturating_add(BATCH).min(store.sizes().index_buckets));
            if counted.load().is_some() {
                thread::sleep(begin.elapsed() * REST);
            }
        }
        counted.store(Some(Arc::new(sum)));
        thread::sleep(PAUSE.saturating_sub(begin.elapsed()));
    }
}

/// See the module's text.
pub struct Pinned {
    directory: PathBuf,
    statistics: Statistics,
    counted: Arc<ArcSwapOption<Counted>>,
}

impl Pinned {
    /// What is pinned in a directory.
    ///
    /// # Errors
    /// When nothing is, or it cannot be read.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let store = Arc::new(check_store::observe_pinned(directory)?);
        let counters = xdp::counters_in(directory)?;
        let statistics = Statistics::new(store.clone(), Arc::default(), Some(counters), LatestStatus::default());
        let counted = Arc::new(ArcSwapOption::empty());
        let theirs = counted.clone();
        let work = move || count(&store, &theirs);
        thread::Builder::new().name("count".into()).spawn(work).context("cannot start a thread")?;
        Ok(Self { directory: directory.to_owned(), statistics, counted })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        format!("pinned in {}", self.directory.display())
    }

    /// The figures of now.
    pub fn figures(&mut self) -> Figures {
        self.statistics.sample();
        let mut figures = Figures::of(&self.statistics.snapshot());
        // This is no tracker.
        figures.uptime_seconds = 0;
        (figures.cpu_seconds, figures.memory.resident_bytes) = (None, None);
        if let Some(counted) = &*self.counted.load() {
            (figures.peers.ipv4, figures.peers.ipv6) = (counted.peers_v4, counted.peers_v6);
            figures.sweep = Sweep::default();
            (figures.sweep.number, figures.sweep.seeders, figures.sweep.leechers) =
                (1, counted.seeders, counted.leechers);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CounterSet, fixture};
    use tracker_common::store::{
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    };

    #[test]
    fn records_tell_how_many_peers_there_are() {
        let store = fixture::store(1000, 20_000, 9000);
        let handle = store.handle(CounterSet::Expiry);
        let mut expected = Counted::default();
        // In slots, in a list, in partitions.
        for (torrent, peers) in [(1, 1_u16), (2, 3), (3, 40), (4, 3000)] {
            for port in 1..=peers {
                let seeder = port % 3 == 0;
                let octets = [192, 0, (port % 200) as u8, 1];
                let announce = Announce {
                    info_hash: &[torrent; 20],
                    peer: V4::key(octets, port),
                    seeder,
                    event: PeerEvent::None,
                    owner: Owner::NONE,
                };
                upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
                expected.peers_v4 += 1;
                if port <= 500 {
                    let announce = Announce {
                        info_hash: &[torrent; 20],
                        peer: V6::key([port as u8; 16], port),
                        seeder,
                        event: PeerEvent::None,
                        owner: Owner::NONE,
                    };
                    upsert::announce::<_, V6>(&handle.context(), &announce).expect("room");
                    expected.peers_v6 += 1;
                }
                let both = 1 + u64::from(port <= 500);
                *(if seeder { &mut expected.seeders } else { &mut expected.leechers }) += both;
            }
        }
        let mut counted = Counted::default();
        for first in 0..store.sizes().index_buckets {
            counted.add(&store, first, first + 1);
        }
        assert_eq!(counted, expected);
    }
}
