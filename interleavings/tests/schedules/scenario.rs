//! Scenarios: what is there before, what each thread does, and what has to be there afterwards.

use crate::check::{Patience, check};
use interleaved::{
    host::{HostPlatform, HostSizes, HostStore},
    id::{InfoHash, SwarmId},
    outcome::{Counter, Event, StoreError},
    platform::{Context, Platform},
    store::{
        family::{Family, V4, V6},
        filter::PeerFilter,
        hash::TorrentKey,
        index,
        layout::{Counts, Swarm},
        list::{List, chunks_for},
        membership::{Announce, PeerEvent},
        owner::Owner,
        sample::{Wanted, sample},
        scope::EVERYTHING,
        slot::{LEECHER, Slots},
        sweep::{Ages, Batch, sweep},
        upsert,
    },
};
use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    rand::{RngCore as _, thread_rng},
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
    thread::{scope, yield_now},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A peer goes after this many minutes, an empty torrent after [`IDLE`].
const PEER_TIMEOUT: u32 = 45;
const IDLE: u32 = 60;
const AGES: Ages = Ages { peer_timeout: PEER_TIMEOUT, idle: IDLE, idle_completed: IDLE };

/// What is done. The first number is that of the torrent, the second that of a peer.
#[derive(Clone, Copy, Debug)]
pub enum Do {
    /// A leecher announces.
    Add(u32, u32),
    /// A row of so many leechers does.
    AddMany(u32, u32, u32),
    /// A seeder announces.
    Seed(u32, u32),
    /// A leecher becomes a seeder, or a new one comes with that event.
    Complete(u32, u32),
    /// A peer stops.
    Leave(u32, u32),
    /// A row of so many peers does.
    LeaveMany(u32, u32, u32),
    /// A row of so many torrents, from the first number on, each with its peer 1.
    Torrents(u32, u32),
    /// A peer is given so many of a torrent's.
    Sample(u32, u32, u32),
    /// Minutes pass.
    Tick(u32),
    /// A sweep.
    Sweep,
}

/// What one thread does.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Step by step.
    pub steps: &'static [Do],
    /// Whether it gives up when a lock is held for long, and begins anew as a thread that waits.
    pub xdp: bool,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The store's.
    pub sizes: HostSizes,
    /// What its keys follow from, where it matters what is stored where; 0 for any.
    pub seed: u64,
    /// Done alone, before.
    pub before: &'static [Do],
    /// Done at once.
    pub threads: &'static [Thread],
    /// How many peers may be gone in the end because others took their slots.
    pub evicts: usize,
}

impl Scenario {
    /// One in which nothing happens.
    pub const fn in_torrent(sizes: HostSizes) -> Self {
        Self { sizes, seed: 0, before: &[], threads: &[], evicts: 0 }
    }
}

/// The families with what is needed beyond [`Family`].
pub trait Peers: Family<Key: Ord + Debug + Send + Sync> {
    /// A peer by number. Half of it and half of another are nobody.
    fn peer(number: u32) -> Self::Key;
    /// The peer in the compact form.
    fn read(compact: &[u8]) -> Self::Key;
}

impl Peers for V4 {
    fn peer(number: u32) -> u64 {
        V4::key((0x0900_0000 + number * 0x0101).to_be_bytes(), 6881)
    }

    fn read(compact: &[u8]) -> u64 {
        let (address, port) = compact.split_at(4);
        V4::key(address.try_into().expect("4 bytes"), u16::from_be_bytes(port.try_into().expect("2 bytes")))
    }
}

impl Peers for V6 {
    fn peer(number: u32) -> [u64; 3] {
        let address = 0x2001_0db8_0000_0000_0000_0000_0000_0000_u128 | u128::from(number) << 64 | u128::from(number);
        V6::key(address.to_be_bytes(), 6881 + number as u16)
    }

    fn read(compact: &[u8]) -> [u64; 3] {
        let (address, port) = compact.split_at(16);
        V6::key(address.try_into().expect("16 bytes"), u16::from_be_bytes(port.try_into().expect("2 bytes")))
    }
}

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0xa5; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

/// Single announces, in order: what becomes of a peer is `None` when it has left.
fn announces(steps: &[Do]) -> Vec<(u32, u32, Option<bool>, PeerEvent)> {
    let one = |step: &Do| -> Vec<_> {
        match *step {
            Do::Add(torrent, peer) => vec![(torrent, peer, Some(false), PeerEvent::None)],
            Do::AddMany(torrent, first, count) => {
                (first..first + count).map(|peer| (torrent, peer, Some(false), PeerEvent::None)).collect()
            }
            Do::Seed(torrent, peer) => vec![(torrent, peer, Some(true), PeerEvent::None)],
            Do::Complete(torrent, peer) => vec![(torrent, peer, Some(true), PeerEvent::Completed)],
            Do::Leave(torrent, peer) => vec![(torrent, peer, None, PeerEvent::Stopped)],
            Do::LeaveMany(torrent, first, count) => {
                (first..first + count).map(|peer| (torrent, peer, None, PeerEvent::Stopped)).collect()
            }
            Do::Torrents(first, count) => {
                (first..first + count).map(|torrent| (torrent, 1, Some(false), PeerEvent::None)).collect()
            }
            Do::Sample(..) | Do::Tick(_) | Do::Sweep => Vec::new(),
        }
    };
    steps.iter().flat_map(one).collect()
}

/// What may be there in the end: of each torrent and peer, the states that are right.
type Expected = BTreeMap<(u32, u32), BTreeSet<Option<bool>>>;

fn expected(scenario: &Scenario) -> Expected {
    let mut minute = 0;
    let mut before: BTreeMap<(u32, u32), (Option<bool>, u32)> = BTreeMap::new();
    for step in scenario.before {
        if let Do::Tick(minutes) = step {
            minute += minutes;
        }
        for (torrent, peer, state, _) in announces(&[*step]) {
            before.insert((torrent, peer), (state, minute));
        }
    }
    let sweeps = scenario.threads.iter().flat_map(|thread| thread.steps).any(|step| matches!(step, Do::Sweep));
    let mut all: Expected = BTreeMap::new();
    for (peer, (state, announced)) in before {
        let stays = !sweeps || minute - announced < PEER_TIMEOUT;
        all.insert(peer, BTreeSet::from([state.filter(|_| stays)]));
    }
    let mut touched = BTreeSet::new();
    for thread in scenario.threads {
        let last: BTreeMap<_, _> =
            announces(thread.steps).into_iter().map(|(torrent, peer, state, _)| ((torrent, peer), state)).collect();
        for (peer, state) in last {
            let states = all.entry(peer).or_default();
            if touched.insert(peer) {
                states.clear();
            }
            states.insert(state);
        }
    }
    all
}

/// Runs one scenario under many schedules.
pub fn explore<F: Peers>(name: &'static str, scenario: Scenario) {
    let expected = Arc::new(expected(&scenario));
    run(name, move || once::<F>(&scenario, &expected));
}

/// How many schedules a test has tried, told also when it fails.
struct Tried(&'static str, Arc<AtomicU64>, Instant);

impl Drop for Tried {
    fn drop(&mut self) {
        let tried = self.1.load(Ordering::Relaxed);
        eprintln!("{}: {tried} schedules in {:.1} s", self.0, self.2.elapsed().as_secs_f64());
    }
}

fn run(name: &'static str, body: impl Fn() + Send + Sync + Clone + 'static) {
    let seconds = std::env::var("INTERLEAVINGS_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1.0);
    let tried = Tried(name, Arc::default(), Instant::now());
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(3_000_000);
    config.max_time = Some(Duration::from_secs_f64(seconds / 4.0));
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    let explore = |scheduler: Box<dyn Scheduler + Send>| {
        let (body, count) = (body.clone(), tried.1.clone());
        Runner::new(scheduler, config.clone()).run(move || {
            count.fetch_add(1, Ordering::Relaxed);
            body();
        });
    };
    explore(Box::new(RandomScheduler::new(usize::MAX)));
    for depth in [2, 3, 5] {
        explore(Box::new(PctScheduler::new(depth, usize::MAX)));
    }
}

/// One schedule.
fn once<F: Peers>(scenario: &Scenario, expected: &Expected) {
    let any = thread_rng().next_u64();
    let store = HostStore::new(&scenario.sizes, if scenario.seed == 0 { any } else { scenario.seed });
    let alone = store.platform(thread_rng().next_u64());
    let present = Present::new(expected);
    for step in scenario.before {
        take::<F, 0>(&alone.context(), *step, &present);
    }
    let completed = AtomicU64::new(alone.events(Event::Completed));
    let evicted = AtomicU64::new(alone.events(Event::Evicted));
    let on = seam::with(seam::Checker::Shuttle);
    scope(|scope| {
        for thread in scenario.threads {
            let (store, present, completed, evicted) = (&store, &present, &completed, &evicted);
            let seed = thread_rng().next_u64();
            scope.spawn(move || {
                let (waits, limited) = (store.platform(seed), store.limited_platform::<2>(!seed));
                for step in thread.steps {
                    if !thread.xdp || !take::<F, 2>(&limited.context(), *step, present) {
                        take::<F, 0>(&waits.context(), *step, present);
                    }
                }
                let count = |event| waits.events(event) + limited.counted(Counter::Event(event));
                completed.fetch_add(count(Event::Completed), Ordering::Relaxed);
                evicted.fetch_add(count(Event::Evicted), Ordering::Relaxed);
            });
        }
    });
    drop(on);
    let report = check(&alone.context(), Patience::STILL);
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    let evicted = evicted.into_inner() as usize;
    assert!(evicted <= scenario.evicts, "{evicted} peers were evicted");
    compare::<F>(&alone, expected, evicted, completed.into_inner());
    end(&store, &alone);
}

/// Does a step. False if it was given up.
fn take<F: Peers, const TRIES: u32>(cx: &Context<'_, HostPlatform<'_, TRIES>>, step: Do, present: &Present) -> bool {
    match step {
        Do::Sample(number, asker, count) => sampled::<F, TRIES>(cx, number, asker, count, present),
        Do::Tick(minutes) => cx.settings.minute.store(cx.minute() + minutes),
        Do::Sweep => {
            let report = sweep(cx, &Batch { first: 0, end: u32::MAX, ages: AGES }, |_: &Swarm, _| {});
            assert_eq!(report.recounted, 0, "counts had drifted");
        }
        Do::Add(..)
        | Do::AddMany(..)
        | Do::Seed(..)
        | Do::Complete(..)
        | Do::Leave(..)
        | Do::LeaveMany(..)
        | Do::Torrents(..) => {
            for (number, peer, state, event) in announces(&[step]) {
                let announce = Announce {
                    info_hash: &torrent(number),
                    peer: F::peer(peer),
                    seeder: state == Some(true),
                    event,
                    owner: Owner::NONE,
                };
                match upsert::announce::<_, F>(cx, &announce) {
                    Ok(_) => {}
                    Err(StoreError::Contended) if TRIES > 0 => return false,
                    Err(error) => panic!("{step:?}: {error:?}"),
                }
            }
        }
    }
    true
}

/// Whom a sample may hold, and who cannot be in it twice: a peer that leaves and comes back while
/// peers are collected may well be met at both places.
struct Present {
    known: BTreeMap<u32, BTreeSet<u32>>,
    moving: BTreeSet<(u32, u32)>,
}

impl Present {
    fn new(expected: &Expected) -> Self {
        let mut known: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (torrent, peer) in expected.keys() {
            known.entry(*torrent).or_default().insert(*peer);
        }
        let moving = expected.iter().filter(|(_, states)| states.len() > 1).map(|(peer, _)| *peer).collect();
        Self { known, moving }
    }
}

fn sampled<F: Peers, const TRIES: u32>(
    cx: &Context<'_, HostPlatform<'_, TRIES>>,
    number: u32,
    asker: u32,
    count: u32,
    present: &Present,
) {
    let Some(swarm) = index::find(cx, &TorrentKey::new(cx.settings, &torrent(number))) else { return };
    let wanted = Wanted { count, filter: PeerFilter::new(true, EVERYTHING), exclude: F::peer(asker) };
    let Some(sample) = sample::<_, F>(cx, swarm, &wanted) else { return };
    let bytes = cx.platform.bytes(sample.start, sample.count * F::PEER_BYTES).expect("inside the scratch space");
    // The record may have passed to another torrent meanwhile.
    let of: BTreeMap<F::Key, u32> = present.known.values().flatten().map(|peer| (F::peer(*peer), *peer)).collect();
    let mut seen = BTreeSet::new();
    for peer in bytes.chunks(F::PEER_BYTES as usize).map(F::read) {
        let Some(peer) = of.get(&peer) else { panic!("{peer:x?} is nobody") };
        assert_ne!(*peer, asker, "the asker was told of itself");
        let twice = !seen.insert(*peer);
        assert!(!twice || present.moving.contains(&(number, *peer)), "peer {peer} is there twice");
    }
}

/// Compares what is stored with what has to be.
fn compare<F: Peers>(platform: &HostPlatform<'_>, expected: &Expected, evicted: usize, completed: u64) {
    let cx = platform.context();
    let (mut missing, mut downloads) = (0, 0);
    let torrents: BTreeSet<u32> = expected.keys().map(|(torrent, _)| *torrent).collect();
    for number in torrents {
        let found = index::find(&cx, &TorrentKey::new(cx.settings, &torrent(number)));
        let mut there = found.map(|swarm| stored::<F>(platform, swarm.id)).unwrap_or_default();
        let counts = found.map_or(Counts::default(), |swarm| swarm.record.counts());
        assert_eq!((counts.seeders + counts.leechers) as usize, there.len(), "torrent {number}");
        downloads += u64::from(counts.completed);
        for ((_, peer), states) in expected.range((number, 0)..=(number, u32::MAX)) {
            let state = there.remove(&F::peer(*peer)).map(|flags| flags & LEECHER == 0);
            if state.is_none() && !states.contains(&None) {
                missing += 1;
                assert!(missing <= evicted, "peer {peer} of torrent {number} is lost");
            } else {
                assert!(states.contains(&state), "peer {peer} of torrent {number}: {state:?}, not {states:?}");
            }
        }
        assert!(there.is_empty(), "torrent {number} has peers that never came: {:x?}", there.keys());
    }
    assert_eq!(downloads, completed, "downloads completed");
}

/// All peers in a swarm with their flags.
fn stored<F: Peers>(platform: &HostPlatform<'_>, id: SwarmId) -> BTreeMap<F::Key, u64> {
    fn of_list<F: Peers>(platform: &HostPlatform<'_>, list: &impl List<F>, take: &mut impl FnMut(Slots<'_, F>, usize)) {
        for index in 0..chunks_for::<F>(list.peers()) {
            let slots = F::chunk(platform, list.chunk_id(index).expect("a chunk")).expect("in range");
            take(slots, F::CHUNK_SLOTS as usize);
        }
    }
    let swarm = platform.swarm(id).expect("a swarm that was found");
    let mut peers = BTreeMap::new();
    let mut take = |slots: Slots<'_, F>, count: usize| {
        for slot in (0..count).map(|number| slots.slot(number)).filter(|slot| slot.is_occupied()) {
            assert_eq!(peers.insert(slot.key(), slot.flags()), None, "a peer has two slots");
        }
    };
    match F::directory(swarm) {
        None => take(F::record(swarm), F::RECORD_SLOTS),
        Some(header) if header.is_list() => of_list::<F>(platform, swarm, &mut take),
        Some(header) => {
            for index in 0..header.partitions {
                let id = interleaved::store::directory::find::<_, F>(platform, swarm, index, header.partitions);
                let partition = platform.partition(id.expect("an entry")).expect("in range");
                of_list::<F>(platform, partition, &mut take);
            }
        }
    }
    peers
}

/// Lets everybody expire and every torrent go; then no memory may be in use.
fn end(store: &HostStore, platform: &HostPlatform<'_>) {
    let pools = store.pools();
    let used = || [pools.swarms.used(), pools.partitions.used(), pools.chunks_v4.used(), pools.chunks_v6.used()];
    for _ in 0..8 {
        store.settings().minute.store(store.settings().minute.load() + 100);
        sweep(&platform.context(), &Batch { first: 0, end: u32::MAX, ages: AGES }, |_: &Swarm, _| {});
        if used() == [0; 4] {
            break;
        }
    }
    assert_eq!(used(), [0; 4], "swarms, partitions, chunks still in use by nobody");
    let report = check(&platform.context(), Patience::STILL);
    assert!(report.faults.is_empty(), "in the end: {:#?}", report.faults);
}

/// Who has what: no record may be had by two.
#[derive(Default)]
pub struct Held(Mutex<BTreeSet<u32>>);

impl Held {
    /// Somebody has got it.
    pub fn have(&self, number: u32) {
        assert!(self.0.lock().expect("no panic").insert(number), "{number} was given to two");
    }

    /// Somebody is giving it back.
    pub fn lose(&self, number: u32) {
        assert!(self.0.lock().expect("no panic").remove(&number), "{number} was nobody's");
    }
}

/// Runs threads of any kind on a small store under many schedules.
pub fn explore_threads<W: FnOnce() + Send + 'static>(
    name: &'static str,
    prepare: impl Fn(&'static HostStore, &'static Held) -> [W; 3] + Send + Sync + Clone + 'static,
) {
    run(name, move || {
        let sizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 1, chunks_v4: 8, chunks_v6: 1 };
        // Threads of shuttle want what lives for ever. It is freed when they have ended.
        let (store, held) = (Box::into_raw(Box::new(HostStore::new(&sizes, 1))), Box::into_raw(Box::<Held>::default()));
        // SAFETY: both are freed below, after the last thread that uses them.
        let workers = unsafe { prepare(&*store, &*held) };
        let on = seam::with(seam::Checker::Shuttle);
        let threads = workers.map(shuttle::thread::spawn);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        drop(on);
        // SAFETY: made above by `Box::into_raw`; the threads have ended.
        let (store, _) = unsafe { (Box::from_raw(store), Box::from_raw(held)) };
        let report = check(&store.platform(1).context(), Patience::STILL);
        assert!(report.faults.is_empty(), "{:#?}", report.faults);
        assert_eq!(store.pools().chunks_v4.used(), 0, "records that nobody has");
        yield_now();
    });
}
