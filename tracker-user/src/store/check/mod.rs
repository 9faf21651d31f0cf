//! The store's checker: whether everything in it hangs together. Every chunk, partition and record
//! is free, never used yet, or reachable exactly once; counts are those of the peers; nobody is
//! there twice. It reads only, takes no lock, and runs beside a tracker that goes on.
//!
//! So that it tells no lies about a store that changes meanwhile:
//!
//! * A **swarm** is looked at between two looks at its lock, its counts and its header. Whoever
//!   changes a peer holds a lock, and has changed one of these when it lets go. So what was seen
//!   between two equal looks, with all locks free, was there at one moment (`swarm`).
//! * What needs the **whole store** (who has a chunk, whom a bucket was too full for) cannot be seen
//!   at one moment. It is looked at in several passes, and only what is wrong in each of them is
//!   told. A chunk that changes its owner in every pass at just the wrong moment is not seen.
//!
//! | module | looks at |
//! |---|---|
//! | `swarm` | a swarm, its counts and peers |
//! | `reach` | which records a swarm has |
//! | `free` | the lists of free records |
//!
//! Written from the layout, not with the algorithms that it checks. Knows [`tracker_common`] alone,
//! so that the tests that run the store by a model checker can use it.

mod free;
mod reach;
mod swarm;

pub use free::PoolUse;

use reach::Reached;
use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};
use swarm::Settled;
use tracker_common::{
    id::SwarmId,
    platform::{Context, Platform, SwarmRef},
    store::{
        hash::TorrentKey,
        index,
        layout::{BUCKET_SWARMS, SWARM_ALIVE},
    },
};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A lock that was held at every look.
    LockHeld,
    /// A number beyond the end of its array, or of a record that was never handed out.
    NumberWrong,
    /// A record that is neither free nor reachable.
    Leaked,
    /// A record that is reachable twice, or free and reachable.
    UsedTwice,
    /// A list of free records that is broken, or longer or shorter than its counter says.
    FreeListWrong,
    /// A record of the index in use without a torrent.
    Unfinished,
    /// A tag that is not its torrent's.
    TagWrong,
    /// A torrent that a search does not find.
    TorrentLost,
    /// A bucket that counts more or fewer torrents that passed it than there are.
    PassedWrong,
    /// The number of torrents in the allocator.
    TorrentsWrong,
    /// A header that cannot be one, or counts other peers than there are.
    HeaderWrong,
    /// A partition that is not what its directory says.
    OwnerWrong,
    /// A slot that should have a peer and has none, or the other way round.
    GapWrong,
    /// A seeder among leechers, or a leecher among seeders.
    OrderWrong,
    /// Counts of a swarm that are not those of its peers.
    CountsWrong,
    /// A peer without a port.
    PeerWrong,
    /// A peer that is in a swarm twice.
    PeerTwice,
    /// A peer in a partition that its hash does not lead to.
    PartitionWrong,
    /// A peer of a scope that its list does not own up to.
    ScopeWrong,
}

impl Kind {
    /// Its name, for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::LockHeld => "lock_held",
            Kind::NumberWrong => "number_wrong",
            Kind::Leaked => "leaked",
            Kind::UsedTwice => "used_twice",
            Kind::FreeListWrong => "free_list_wrong",
            Kind::Unfinished => "unfinished",
            Kind::TagWrong => "tag_wrong",
            Kind::TorrentLost => "torrent_lost",
            Kind::PassedWrong => "passed_wrong",
            Kind::TorrentsWrong => "torrents_wrong",
            Kind::HeaderWrong => "header_wrong",
            Kind::OwnerWrong => "owner_wrong",
            Kind::GapWrong => "gap_wrong",
            Kind::OrderWrong => "order_wrong",
            Kind::CountsWrong => "counts_wrong",
            Kind::PeerWrong => "peer_wrong",
            Kind::PeerTwice => "peer_twice",
            Kind::PartitionWrong => "partition_wrong",
            Kind::ScopeWrong => "scope_wrong",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What kind of thing.
    pub kind: Kind,
    /// Where, and how.
    pub what: String,
}

impl Fault {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.what)
    }
}

/// How long to go on before something counts as wrong.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Passes through the whole store, at most: as many as there is something to confirm.
    pub passes: u32,
    /// Looks at a swarm that changes meanwhile, at most.
    pub looks: u32,
    /// Before the second look or pass; before each further one twice as long, up to
    /// `LONGEST_REST`.
    pub rest: Duration,
    /// How long a lock may be held: a thread that holds it may be waiting for a processor.
    pub stuck: Duration,
}

/// The longest rest between two looks or passes.
const LONGEST_REST: Duration = Duration::from_secs(1);

impl Patience {
    /// For a store that nobody changes meanwhile.
    pub const STILL: Self = Self { passes: 2, looks: 2, rest: Duration::ZERO, stuck: Duration::ZERO };
    /// For one that a tracker works with, also on a machine with much else to do. Nothing of this
    /// takes time where nothing is wrong.
    pub const BUSY: Self =
        Self { passes: 16, looks: 20, rest: Duration::from_millis(2), stuck: Duration::from_secs(30) };

    /// Rests before look or pass number `number`, which is not the first.
    fn rest(self, number: u32) {
        std::thread::sleep(self.rest.saturating_mul(1 << number.min(16)).min(LONGEST_REST));
    }
}

/// What a check has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Torrents.
    pub torrents: u64,
    /// Seeders.
    pub seeders: u64,
    /// Leechers.
    pub leechers: u64,
    /// IPv4 peers.
    pub peers_v4: u64,
    /// IPv6 peers.
    pub peers_v6: u64,
    /// Swarms that changed at every look, so that nothing was found out about them.
    pub restless: u64,
    /// Torrents that a search does not find because another one in the same bucket has the same
    /// tag, which can happen (`docs/architecture.md`, Index).
    pub hidden: u64,
    /// Partitions, IPv4 chunks and IPv6 chunks.
    pub pools: [PoolUse; 3],
    /// How many passes it took.
    pub passes: u32,
    /// All that is wrong.
    pub faults: Vec<Fault>,
}

/// Checks a store.
pub fn check<P: Platform>(cx: &Context<'_, P>, patience: Patience) -> Report {
    let mut report = Report::default();
    let check = Check { cx, patience };
    check.swarms(&mut report);
    let mut suspicions = check.pass(&mut report);
    report.passes = 1;
    while !suspicions.is_empty() && report.passes < patience.passes {
        patience.rest(report.passes);
        let again = check.pass(&mut report);
        suspicions.retain(|suspicion| again.contains(suspicion));
        report.passes += 1;
    }
    report.faults.extend(suspicions);
    report
}

/// A check under way.
struct Check<'c, 'm, P> {
    cx: &'c Context<'m, P>,
    patience: Patience,
}

impl<'m, P: Platform> Check<'_, 'm, P> {
    /// All records of the index that are in use.
    fn records(&self) -> impl Iterator<Item = SwarmRef<'m>> {
        let mut from = 0;
        let platform = self.cx.platform;
        std::iter::from_fn(move || {
            let swarm = index::next(|number| platform.bucket(number), from, u32::MAX)?;
            from = swarm.id.number() + 1;
            Some(swarm)
        })
    }

    /// Looks at each swarm by itself.
    fn swarms(&self, report: &mut Report) {
        for swarm in self.records() {
            // Where much is wrong, each takes less time to be told.
            let stuck = self.patience.stuck / (1 + u32::try_from(report.faults.len()).unwrap_or(u32::MAX - 1));
            match self.settle(swarm, stuck) {
                Some(settled) => settled.add_to(report),
                None => report.restless += 1,
            }
        }
    }

    /// Looks at a swarm until it is sound or gone, or two looks in a row agree on what is wrong.
    /// `None` if it changes at every look. A lock that is held for longer than `stuck_after` is
    /// wrong.
    fn settle(&self, swarm: SwarmRef<'m>, stuck_after: Duration) -> Option<Settled> {
        let mut last = None;
        let mut changing = 0;
        let mut since: Option<Instant> = None;
        for look in 0.. {
            if look > 0 {
                self.patience.rest(look);
            }
            let stuck = match swarm::look(self.cx, swarm) {
                swarm::Look::Settled(settled) if settled.faults.is_empty() => return Some(settled),
                swarm::Look::Settled(settled) => {
                    // At two looks, of which each was at one moment.
                    if last.as_ref().is_some_and(|last: &Settled| last.faults == settled.faults) {
                        return Some(settled);
                    }
                    last = Some(settled);
                    since = None;
                    changing += 1;
                    None
                }
                swarm::Look::Gone => return Some(Settled::default()),
                swarm::Look::Changing => {
                    since = None;
                    changing += 1;
                    None
                }
                // Claimed for a torrent: whoever did so goes on to make it one.
                swarm::Look::Unfinished => {
                    Some(Fault::new(Kind::Unfinished, format!("{}: in use, and no torrent's", name(swarm.id))))
                }
                swarm::Look::Held(what) => Some(Fault::new(Kind::LockHeld, what)),
            };
            if let Some(fault) = stuck
                && since.get_or_insert_with(Instant::now).elapsed() >= stuck_after
            {
                return Some(Settled::wrong(fault));
            }
            if changing >= self.patience.looks {
                break;
            }
        }
        None
    }

    /// One pass over the whole store: what it looks like is wrong, if nobody has changed anything.
    fn pass(&self, report: &mut Report) -> BTreeSet<Fault> {
        let mut suspicions = BTreeSet::new();
        let mut reached = Reached::new(self.cx);
        let mut passed = vec![0_u32; self.cx.settings.index_buckets.load() as usize];
        let mut torrents = 0_u32;
        for swarm in self.records() {
            torrents += 1;
            if swarm.record.active.load() & SWARM_ALIVE == 0 {
                continue;
            }
            reached.swarm(self.cx, swarm);
            let key = TorrentKey::new(self.cx.settings, &swarm.record.info_hash());
            let (at, _) = swarm.id.place();
            let home_to_here = (0..index::PROBES).map(|probe| key.bucket(probe));
            for number in home_to_here.take_while(|&number| number != at) {
                if let Some(passed) = passed.get_mut(number as usize) {
                    *passed += 1;
                }
            }
        }
        report.pools = reached.finish(self.cx, &mut suspicions);
        if let Some(pools) = self.cx.platform.pools()
            && let used = pools.swarms.used()
            && used != torrents
        {
            let more = i64::from(used) - i64::from(torrents);
            let what = format!("the allocator counts {more:+} torrents compared with the index");
            suspicions.insert(Fault::new(Kind::TorrentsWrong, what));
        }
        self.buckets(&passed, &mut suspicions);
        suspicions
    }

    /// Compares how many torrents the buckets were too full for with what they count, and looks at
    /// their locks.
    fn buckets(&self, passed: &[u32], suspicions: &mut BTreeSet<Fault>) {
        for (number, &expected) in (0..).zip(passed) {
            let Some(bucket) = self.cx.platform.bucket(number) else {
                let what = format!("bucket {number}: beyond the end of the index");
                suspicions.insert(Fault::new(Kind::NumberWrong, what));
                return;
            };
            let header = bucket.header(number);
            if header.lock.free().is_none() {
                suspicions.insert(Fault::new(Kind::LockHeld, format!("bucket {number}: its lock is held")));
            }
            let counted = header.passed.load();
            if counted != expected {
                let more = i64::from(counted) - i64::from(expected);
                let what = format!("bucket {number}: counts {more:+} torrents that passed it, of {expected}");
                suspicions.insert(Fault::new(Kind::PassedWrong, what));
            }
            // The place before the first record's has no record.
            if header.tags[0].load() & 0xffff != 0 {
                let what = format!("bucket {number}: place 0 of {BUCKET_SWARMS} has a tag");
                suspicions.insert(Fault::new(Kind::TagWrong, what));
            }
        }
    }
}

/// A swarm record, for people.
fn name(swarm: SwarmId) -> String {
    let (bucket, place) = swarm.place();
    format!("swarm {bucket}/{place}")
}
