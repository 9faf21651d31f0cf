//! The swarm store as the daemon's threads see it: nine regions of memory, each an array of
//! elements, that are either the XDP program's maps or ordinary memory of this process. The
//! algorithms of [`tracker_common::store`] run on both alike.
//!
//! A thread works through a [`Handle`] of its own, which carries what must not be shared: the
//! scratch space of a request, the state of a random sequence, and counters. Nothing here takes a
//! lock while requests are answered.
//!
//! | module | holds |
//! |---|---|
//! | `region` | the memory of the arrays |
//! | `handle` | a thread's access to it |
//! | `observe` | the store of another process |
//! | `changes` | what other trackers are to be told of |
//! | `counters` | what threads count |
//! | [`sizes`] | how many map elements the limits need, and their memory |
//! | [`huge_pages`] | pages of 2 MiB for it, and why there are none |
//! | [`keys`] | hash keys, and the connection id key that survives a restart |
//! | [`clock`] | the clock of the store |
//! | [`check`] | whether everything in it hangs together |
//! | [`sweep`] | removal of what has expired |
//! | [`totals`], `completed` | what a sweep counts, and what of it is logged |

mod changes;
pub mod check;
#[cfg(test)]
mod check_tests;
pub mod clock;
mod completed;
mod counters;
#[cfg(test)]
pub mod fixture;
mod handle;
pub mod huge_pages;
pub mod keys;
mod observe;
mod region;
pub mod sizes;
pub mod sweep;
pub mod totals;

pub use changes::Changes;
pub use counters::{CounterSet, Counters, added_up};
pub use handle::Handle;
pub use observe::StoreMap;
pub use region::SharedSettings;

use anyhow::Context as _;
use counters::ThreadCounters;
use region::{Element, Region};
use sizes::Sizes;
use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{Ordering, fence},
    },
    time::{Duration, Instant},
};
use tracker_common::{
    admission::table::AccessBucket,
    limits::table::{ALL_SETS, LimitSet},
    outcome::COUNTERS,
    settings::Settings,
    store::{
        journal::{JOURNALS, Journal},
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
        repair::{Repaired, repair},
    },
    word::Word,
};

/// How long a lock is held, when a store is taken over, before its holder is taken for dead. XDP
/// programs hold one for microseconds; but the machine that one runs in may be put to sleep.
const PATIENCE: Duration = Duration::from_millis(250);

/// The store. Shared by all threads through an [`Arc`]; see [`Store::handle`].
pub struct Store {
    settings: Region<Settings>,
    pools: Region<Pools>,
    index: Region<Bucket>,
    partitions: Region<Partition>,
    chunks_v4: Region<ChunkV4>,
    chunks_v6: Region<ChunkV6>,
    access: Region<AccessBucket>,
    blocks: Region<Word>,
    limits: Region<LimitSet>,
    journals: Region<Journal>,
    sizes: Sizes,
    counters: Mutex<Vec<(CounterSet, Arc<ThreadCounters>)>>,
    /// What other trackers are to be told of.
    pub changes: Changes,
}

impl Store {
    /// A store in ordinary memory of this process; memory is taken from the system as it fills.
    ///
    /// # Errors
    /// When the system refuses the address space.
    pub fn anonymous(sizes: &Sizes) -> anyhow::Result<Self> {
        Self::new(sizes, |_| Ok(None))
    }

    /// The store in the maps of a loaded XDP program. `map` gives the file descriptor of the map of
    /// that name ([`Sizes::regions`]); it may be closed afterwards, the mapping keeps the map
    /// alive.
    ///
    /// # Errors
    /// When a map is missing or cannot be mapped.
    pub fn from_maps<'a>(sizes: &Sizes, map: impl Fn(&str) -> anyhow::Result<BorrowedFd<'a>>) -> anyhow::Result<Self> {
        Self::new(sizes, |name| map(name).map(Some))
    }

    /// The same where some of the maps are not there, or are of another layout: memory of this process
    /// stands for them.
    ///
    /// # Errors
    /// As above.
    pub fn from_some_maps<'a>(
        sizes: &Sizes,
        map: impl Fn(&str) -> anyhow::Result<Option<BorrowedFd<'a>>>,
    ) -> anyhow::Result<Self> {
        Self::new(sizes, map)
    }

    /// Asks for pages of 2 MiB: fewer of them for the processor to find, and each taken at once. For
    /// a store in ordinary memory, before it is used.
    ///
    /// # Errors
    /// When the kernel has none. The store goes on with pages of 4 KiB then.
    pub fn advise_huge_pages(&self) -> io::Result<()> {
        self.index.advise_huge_pages()?;
        self.partitions.advise_huge_pages()?;
        self.chunks_v4.advise_huge_pages()?;
        self.chunks_v6.advise_huge_pages()
    }

    fn new<'a>(sizes: &Sizes, map: impl Fn(&str) -> anyhow::Result<Option<BorrowedFd<'a>>>) -> anyhow::Result<Self> {
        fn region<'a, T: Element>(
            map: &impl Fn(&str) -> anyhow::Result<Option<BorrowedFd<'a>>>,
            name: &str,
            count: u32,
        ) -> anyhow::Result<Region<T>> {
            Region::new(map(name)?, count)
                .with_context(|| format!("cannot map {name}, {} bytes, into memory", Region::<T>::length(count)))
        }
        let store = Self {
            settings: region(&map, "SETTINGS", 1)?,
            pools: region(&map, "POOLS", 1)?,
            index: region(&map, "INDEX", sizes.index_buckets)?,
            partitions: region(&map, "PARTITIONS", sizes.partitions)?,
            chunks_v4: region(&map, "CHUNKS_V4", sizes.chunks_v4)?,
            chunks_v6: region(&map, "CHUNKS_V6", sizes.chunks_v6)?,
            access: region(&map, "ACCESS", sizes.access_buckets)?,
            blocks: region(&map, "BLOCKS", sizes.block_words)?,
            limits: region(&map, "LIMITS", ALL_SETS)?,
            journals: region(&map, "JOURNAL", JOURNALS)?,
            sizes: *sizes,
            counters: Mutex::default(),
            changes: Changes::default(),
        };
        store.write_sizes();
        Ok(store)
    }

    /// Writes into the settings how large the store is.
    pub fn write_sizes(&self) {
        let (settings, sizes) = (self.settings(), &self.sizes);
        settings.index_buckets.store(sizes.index_buckets);
        settings.access_buckets.store(sizes.access_buckets);
        settings.block_words.store(sizes.block_words);
        for (limit, size) in
            settings.pool_limits.iter().zip([sizes.swarms, sizes.partitions, sizes.chunks_v4, sizes.chunks_v6])
        {
            limit.store(size);
        }
    }

    /// Brings into order what the threads of a daemon that was killed have left behind in this store,
    /// and frees the locks that they held. XDP programs may be running; but all handles that there
    /// ever were, in this process or another, must be of dead threads. For a store that is taken over,
    /// before its first handle and before its clock is set: until then, XDP programs answer what they
    /// cannot store.
    ///
    /// Takes no time unless a thread was killed in the middle of something; a quarter of a second and
    /// as long as it takes to count the swarms it was busy with, if it was.
    pub fn repair(self: &Arc<Self>) -> Repaired {
        let handle = self.handle(CounterSet::Expiry);
        let begin = Instant::now();
        repair(&handle.context(), self.journals.all(), || {
            std::thread::yield_now();
            begin.elapsed() < PATIENCE
        })
    }

    /// The settings record, read by the XDP program and by every thread.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        self.settings.first()
    }

    /// The allocators' record.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        self.pools.first()
    }

    /// How many elements there are of each kind.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// A bucket of the index, for reading without a handle; `None` if there is none of that number.
    #[must_use]
    pub fn bucket(&self, number: u32) -> Option<&Bucket> {
        self.index.get(number)
    }

    /// A bucket of the table of listed torrents; `None` if there is none of that number.
    #[must_use]
    pub fn access_bucket(&self, number: u32) -> Option<&AccessBucket> {
        self.access.get(number)
    }

    /// A word of the tables of blocked addresses; `None` if there is none of that number.
    #[must_use]
    pub fn block_word(&self, number: u32) -> Option<&Word> {
        self.blocks.get(number)
    }

    /// A set of the table of what sources have asked for; `None` if there is none of that number.
    #[must_use]
    pub fn limit_set(&self, number: u32) -> Option<&LimitSet> {
        self.limits.get(number)
    }

    /// A handle for one thread, which counts in `set`.
    #[must_use]
    pub fn handle(self: &Arc<Self>, set: CounterSet) -> Handle {
        let mut threads = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of a thread that has ended go on being counted in.
        let ended = threads.iter().find(|(of, counters)| *of == set && Arc::strong_count(counters) == 1);
        let counters = match ended {
            Some((_, counters)) => counters.clone(),
            None => {
                let counters = Arc::new(ThreadCounters::new());
                threads.push((set, counters.clone()));
                counters
            }
        };
        drop(threads);
        // What that thread counted last comes before what this one does.
        fence(Ordering::Acquire);
        Handle::new(self.clone(), counters)
    }

    /// What the threads have counted so far, added up by set; those of ended threads included.
    #[must_use]
    pub fn counters(&self) -> Vec<(CounterSet, Counters)> {
        let threads = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |set: CounterSet| {
            let mut sum = [0u64; COUNTERS];
            for (_, counters) in threads.iter().filter(|(of, _)| *of == set) {
                counters.add_to(&mut sum);
            }
            (set, sum)
        };
        let is_shown = |set: &CounterSet| *set != CounterSet::Cluster || threads.iter().any(|(of, _)| of == set);
        CounterSet::ALL.iter().copied().filter(is_shown).map(sum).collect()
    }
}

/// A store of a few records.
#[cfg(test)]
fn store() -> Arc<Store> {
    let sizes = Sizes {
        index_buckets: 16,
        swarms: 3,
        partitions: 2,
        chunks_v4: 5,
        chunks_v6: 4,
        access_buckets: 1,
        block_words: 1,
    };
    Arc::new(Store::anonymous(&sizes).expect("a few pages"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::{
        outcome::{Counter, Event},
        platform::Platform as _,
    };

    #[test]
    fn limits_are_in_the_settings() {
        let store = store();
        let settings = store.settings();
        assert_eq!(settings.index_buckets.load(), 16);
        assert_eq!(settings.pool_limits.each_ref().map(|limit| limit.load()), [3, 2, 5, 4]);
    }

    #[test]
    fn counters_of_threads_are_added_up_by_set_and_outlive_them() {
        let store = store();
        for set in [CounterSet::Udp, CounterSet::Udp, CounterSet::Http] {
            let store = store.clone();
            std::thread::spawn(move || store.handle(set).event(Event::Connect4)).join().expect("no panic");
        }
        let index = Counter::Event(Event::Connect4).index();
        let counted: Vec<_> = store.counters().into_iter().map(|(path, sums)| (path, sums[index])).collect();
        assert_eq!(counted, [(CounterSet::Udp, 2), (CounterSet::Http, 1), (CounterSet::Expiry, 0)]);
        let kept = || store.counters.lock().expect("no panic").len();
        let (before, mine) = (kept(), store.handle(CounterSet::Expiry));
        for _ in 0..100 {
            store.handle(CounterSet::Expiry).event(Event::Connect4);
            mine.event(Event::Connect4);
        }
        assert_eq!(kept(), before + 2, "threads that have ended take no memory");
        assert_eq!(store.counters()[2].1[index], 200);
    }
}
