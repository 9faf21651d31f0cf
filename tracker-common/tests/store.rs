//! The swarm store against a simple model of it, a map of sets: whatever is announced in whatever
//! order, the store knows the same peers and counts as the model does. And many threads at once,
//! whose sum has to be exact when they are done.

use proptest::prelude::*;
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::atomic::{AtomicBool, Ordering},
};
use tracker_common::{
    host::{HostPlatform, HostSizes, HostStore},
    id::{InfoHash, PartitionId, SwarmId},
    outcome::{Counter, Event, REFRESH_AGES, StoreError},
    platform::{Platform, SwarmRef},
    store::{
        family::{Family, V4, V6},
        filter::PeerFilter,
        hash::TorrentKey,
        index,
        layout::{ChunkV4, Counts, Occupancy, Partition, Swarm},
        list::{List, chunks_for},
        membership::{Announce, PeerEvent},
        owner::Owner,
        partition::capacity,
        refresh::refresh,
        sample::{PARTITIONS_READ_MAX, Sample, Wanted, chunks_at_once, from_one_partition, look_ahead, sample},
        scope::{self, EVERYTHING},
        slot::{COMPLETED, LEECHER, Slots},
        sweep::{Ages, Batch, SweepReport, sweep},
        upsert,
    },
};

/// A peer goes after this many minutes.
const PEER_TIMEOUT: u32 = 45;

/// Minutes without a sweep, at most.
const UNSWEPT: u32 = 400;
/// An empty torrent goes after this many minutes.
const IDLE: u32 = 60;
/// An empty torrent with completed downloads goes after this many minutes.
const IDLE_COMPLETED: u32 = 300;

/// Enough for everything that is done here.
const ROOMY: HostSizes =
    HostSizes { index_buckets: 64, swarms: 64, partitions: 2048, chunks_v4: 8192, chunks_v6: 8192 };

/// The families with what the tests need beyond [`Family`].
trait Peers: Family<Key: Ord + Debug + Send + Sync> {
    /// Peer number so and so.
    fn peer(number: u32) -> Self::Key;
    /// Peer number so and so with an address that is so near ([`scope::visible`]).
    fn near_peer(nearness: u32, number: u32) -> Self::Key;
    /// The peer in the compact form.
    fn read(compact: &[u8]) -> Self::Key;
    /// This family's peers in the model.
    fn of(torrent: &mut Torrent) -> &mut BTreeMap<Self::Key, Known>;
}

impl Peers for V4 {
    fn peer(number: u32) -> u64 {
        // Ports repeat and addresses repeat, but not both together.
        V4::key((0x0a00_0000 + number / 3).to_be_bytes(), (1 + number % 3 * 20000) as u16)
    }

    fn near_peer(nearness: u32, number: u32) -> u64 {
        let network = [[9, 9], [192, 168], [169, 254], [127, 0]][nearness as usize];
        // Another third byte for each: a refresh leaves peers that resemble another to the store.
        V4::key([network[0], network[1], (number >> 8) as u8 | (nearness << 4) as u8, number as u8], 6881)
    }

    fn read(compact: &[u8]) -> u64 {
        let (address, port) = compact.split_at(4);
        V4::key(address.try_into().expect("4 bytes"), u16::from_be_bytes(port.try_into().expect("2 bytes")))
    }

    fn of(torrent: &mut Torrent) -> &mut BTreeMap<u64, Known> {
        &mut torrent.v4
    }
}

impl Peers for V6 {
    fn peer(number: u32) -> [u64; 3] {
        let address = 0x2001_0db8_0000_0000_0000_0000_0000_0000_u128 | u128::from(number / 3) << (number % 2 * 64);
        V6::key(address.to_be_bytes(), (1 + number % 3 * 20000) as u16)
    }

    fn near_peer(nearness: u32, number: u32) -> [u64; 3] {
        // There is one IPv6 address of this host, with many ports.
        let address = [0x2001_0db8 << 96, 0xfd00 << 112, 0xfe80 << 112, 0_u128][nearness as usize];
        let (host, port) = if nearness == 3 { (1, number as u16 + 1) } else { (u128::from(number + 1), 6881) };
        V6::key((address | host).to_be_bytes(), port)
    }

    fn read(compact: &[u8]) -> [u64; 3] {
        let (address, port) = compact.split_at(16);
        V6::key(address.try_into().expect("16 bytes"), u16::from_be_bytes(port.try_into().expect("2 bytes")))
    }

    fn of(torrent: &mut Torrent) -> &mut BTreeMap<[u64; 3], Known> {
        &mut torrent.v6
    }
}

/// A peer in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    seeder: bool,
    completed: bool,
    minute: u32,
}

/// A torrent in the model.
#[derive(Clone, Debug, Default)]
struct Torrent {
    v4: BTreeMap<u64, Known>,
    v6: BTreeMap<[u64; 3], Known>,
    completed: u32,
    active: u32,
}

impl Torrent {
    fn counts(&self) -> Counts {
        let all = || self.v4.values().chain(self.v6.values());
        let count = |seeder| all().filter(|known| known.seeder == seeder).count() as u32;
        Counts { seeders: count(true), leechers: count(false), completed: self.completed }
    }
}

/// A torrent's counts.
fn counts(platform: &HostPlatform<'_>, info_hash: &InfoHash) -> Counts {
    let cx = platform.context();
    index::counts(&cx, &TorrentKey::new(cx.settings, info_hash))
}

/// A torrent's swarm.
fn find(platform: &HostPlatform<'_>, info_hash: &InfoHash) -> Option<SwarmId> {
    let cx = platform.context();
    index::find(&cx, &TorrentKey::new(cx.settings, info_hash)).map(|swarm| swarm.id)
}

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0xa5; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

/// All peers that the store knows in a swarm, with their flags: read from the records themselves.
fn stored<F: Peers>(platform: &HostPlatform<'_>, id: SwarmId) -> BTreeMap<F::Key, u64> {
    let swarm = platform.swarm(id).expect("a swarm that was found");
    let mut peers = BTreeMap::new();
    let mut take = |slots: Slots<'_, F>, count: usize| {
        for slot in (0..count).map(|number| slots.slot(number)).filter(|slot| slot.is_occupied()) {
            let twice = peers.insert(slot.key(), slot.flags());
            assert_eq!(twice, None, "a peer has two slots");
        }
    };
    let Some(header) = F::directory(swarm) else {
        take(F::record(swarm), F::RECORD_SLOTS);
        return peers;
    };
    let mut counted = 0;
    for chunks in lists::<F>(platform, id) {
        for (slots, peers) in chunks {
            counted += peers;
            // The peers of a list stand without gaps.
            for number in 0..F::CHUNK_SLOTS {
                assert_eq!(slots.slot(number as usize).is_occupied(), number < peers, "slot {number} of {peers}");
            }
            take(slots, F::CHUNK_SLOTS as usize);
        }
    }
    assert_eq!(counted as usize, peers.len(), "peers counted by their lists");
    assert_eq!(counted, header.peers, "peers counted by the swarm");
    peers
}

/// The chunks of each list of a family, each with the number of peers that are in it.
fn lists<'p, F: Family>(platform: &'p HostPlatform<'_>, id: SwarmId) -> Vec<Vec<(Slots<'p, F>, u32)>> {
    fn chunks<'p, F: Family>(platform: &'p HostPlatform<'_>, list: &impl List<F>) -> Vec<(Slots<'p, F>, u32)> {
        let chunk = |index| {
            let number = list.chunk_id(index).expect("the number of a chunk");
            let Occupancy { peers, leechers } = list.occupancy();
            let slots: Slots<'_, F> = F::chunk(platform, number).expect("a chunk of a list");
            for slot in 0..F::CHUNK_SLOTS {
                let place = index * F::CHUNK_SLOTS + slot;
                let flags = slots.slot(slot as usize).flags();
                assert_eq!(flags & LEECHER != 0, place < leechers, "slot {place}, {leechers} leechers of {peers}");
            }
            (slots, (peers - index * F::CHUNK_SLOTS).min(F::CHUNK_SLOTS))
        };
        (0..chunks_for::<F>(list.peers())).map(chunk).collect()
    }
    let swarm = platform.swarm(id).expect("a swarm that was found");
    if F::is_list(swarm) {
        assert_eq!(partitions::<F>(platform, id).count(), 0, "a list has no partition");
        vec![chunks(platform, swarm)]
    } else {
        partitions::<F>(platform, id).map(|partition| chunks(platform, partition)).collect()
    }
}

fn partitions<'p, F: Family>(platform: &'p HostPlatform<'_>, swarm: SwarmId) -> impl Iterator<Item = &'p Partition> {
    let fresh = platform.store().pools().partitions.fresh.load();
    (0..fresh)
        .filter_map(|number| platform.partition(PartitionId::new(number)))
        .filter(move |partition| partition.owner.load() == swarm.stored() && partition.index.load() & V6::TAG == F::TAG)
}

/// A store and the model of it.
struct World<'s> {
    platform: HostPlatform<'s>,
    model: BTreeMap<InfoHash, Torrent>,
    /// Whether memory can run out.
    tight: bool,
    /// The minute of the last sweep.
    swept: u32,
}

impl<'s> World<'s> {
    fn new(store: &'s HostStore, seed: u64, tight: bool) -> Self {
        let swept = store.settings().minute.load();
        Self { platform: store.platform(seed), model: BTreeMap::new(), tight, swept }
    }

    fn minute(&self) -> u32 {
        self.platform.store().settings().minute.load()
    }

    fn counter(&self, counter: Counter) -> u64 {
        self.platform.counted(counter)
    }

    fn announce<F: Peers>(&mut self, info_hash: InfoHash, peer: F::Key, seeder: bool, event: PeerEvent) {
        let minute = self.minute();
        let evicted = self.evicted();
        let result = upsert::announce::<_, F>(
            &self.platform.context(),
            &Announce { info_hash: &info_hash, peer, seeder, event, owner: Owner::NONE },
        )
        .map(|swarm| swarm.is_some());
        if self.evicted() != evicted {
            assert!(self.tight, "somebody was evicted");
            self.forget_evicted(info_hash);
        }

        let known_torrent = self.model.contains_key(&info_hash);
        match result {
            Ok(false) => {
                assert!(
                    !known_torrent && event == PeerEvent::Stopped,
                    "only a stop in an unknown torrent finds nothing"
                );
                return;
            }
            Ok(true) => assert!(known_torrent || event != PeerEvent::Stopped, "a stop has created a torrent"),
            Err(StoreError::TorrentsFull) => {
                assert!(self.tight && !known_torrent, "a torrent was refused");
                return;
            }
            Err(reason) => {
                assert!(
                    self.tight && matches!(reason, StoreError::MemoryFull | StoreError::AddressBusy),
                    "refused: {reason:?}"
                );
                // The torrent may have been made before there was no room for the peer.
                if find(&self.platform, &info_hash).is_some() {
                    self.model.entry(info_hash).or_default().active = minute;
                }
                return;
            }
        }
        let torrent = self.model.entry(info_hash).or_default();
        torrent.active = minute;
        let peers = F::of(torrent);
        if event == PeerEvent::Stopped {
            peers.remove(&peer);
        } else {
            let before = peers.get(&peer).copied();
            let became = seeder && before.is_none_or(|before| !before.seeder);
            let counted = before.is_some_and(|before| before.completed);
            let completes = event == PeerEvent::Completed && became && !counted;
            peers.insert(peer, Known { seeder, completed: counted || completes, minute });
            torrent.completed += u32::from(completes);
        }
        if self.evicted() != evicted {
            let swarm = find(&self.platform, &info_hash).expect("stored");
            // A swarm with partitions makes room for its next split when the peer is stored, and that may be at
            // the price of any of its own.
            let splits =
                self.platform.context().swarm(swarm).is_some_and(|swarm| F::partitions(swarm.record).is_some());
            assert!(splits || stored::<F>(&self.platform, swarm).contains_key(&peer));
            self.forget_missing::<F>(info_hash);
        }
        let expected = self.model[&info_hash].counts();
        assert_eq!(counts(&self.platform, &info_hash), expected, "after {event:?} of {peer:?}");
    }

    /// Peers and torrents that have given way to others.
    fn evicted(&self) -> [u64; 2] {
        [Event::Evicted, Event::TorrentEvicted].map(|event| self.counter(Counter::Event(event)))
    }

    /// The model does not say whom the store has to evict from other swarms than that which was
    /// announced to.
    fn forget_evicted(&mut self, announced: InfoHash) {
        let others: Vec<_> = self.model.keys().filter(|torrent| **torrent != announced).copied().collect();
        for torrent in others {
            if find(&self.platform, &torrent).is_none() {
                // Nobody of several networks.
                let gone = self.model.remove(&torrent).expect("of the model");
                let networks: BTreeSet<_> = gone.v4.keys().map(|peer| peer & 0xff_ffff).collect();
                let sites: BTreeSet<_> = gone.v6.keys().map(|peer| peer[0] & 0xffff_ffff_ffff).collect();
                assert!(networks.len() <= 1 && sites.len() <= 1, "{gone:?} gave way");
                continue;
            }
            self.forget_missing::<V4>(torrent);
            self.forget_missing::<V6>(torrent);
        }
    }

    /// Whoever is not there has given way; there is no telling who it has to be.
    fn forget_missing<F: Peers>(&mut self, torrent: InfoHash) {
        let there = stored::<F>(&self.platform, find(&self.platform, &torrent).expect("stored"));
        F::of(self.model.get_mut(&torrent).expect("stored")).retain(|peer, _| there.contains_key(peer));
    }

    fn sweep(&mut self) -> SweepReport {
        let minute = self.minute();
        self.swept = minute;
        let mut report = SweepReport::default();
        // In batches, as the daemon does it.
        let end = SwarmId::at(self.platform.store().settings().index_buckets.load(), 0).number();
        for first in (0..end).step_by(7) {
            let ages = Ages { peer_timeout: PEER_TIMEOUT, idle: IDLE, idle_completed: IDLE_COMPLETED };
            let batch = Batch { first, end: first + 7, ages };
            let part = sweep(&self.platform.context(), &batch, |_: &Swarm, _| {});
            report.torrents += part.torrents;
            report.expired += part.expired;
            report.removed += part.removed;
            report.recounted += part.recounted;
        }
        assert_eq!(report.recounted, 0, "counts had drifted");

        let mut expired = 0;
        for torrent in self.model.values_mut() {
            let before = torrent.v4.len() + torrent.v6.len();
            torrent.v4.retain(|_, known| minute - known.minute < PEER_TIMEOUT);
            torrent.v6.retain(|_, known| minute - known.minute < PEER_TIMEOUT);
            expired += before - torrent.v4.len() - torrent.v6.len();
        }
        assert_eq!(report.expired, expired as u64, "expired");
        let mut removed = 0;
        self.model.retain(|info_hash, torrent| {
            let limit = if torrent.completed == 0 { IDLE } else { IDLE_COMPLETED };
            let idle = torrent.v4.is_empty() && torrent.v6.is_empty() && minute - torrent.active >= limit;
            // A swarm that was big shrinks step by step, so its record may go with a later sweep.
            let gone = find(&self.platform, info_hash).is_none();
            assert!(idle || !gone, "a torrent is gone that nobody had to remove");
            removed += u64::from(gone);
            !gone
        });
        assert_eq!(report.removed, removed, "removed");
        assert_eq!(report.torrents, self.model.len() as u64, "torrents");
        report
    }

    fn sample<F: Peers>(&mut self, info_hash: InfoHash, asker: F::Key, want: u32, seeders: bool) {
        let Some(number) = find(&self.platform, &info_hash) else { return };
        let given = given::<F>(&self.platform, number, want, seeders, asker);
        let peers = F::of(self.model.get_mut(&info_hash).expect("stored"));
        let mut seen = BTreeSet::new();
        for peer in &given {
            let known = peers.get(peer).unwrap_or_else(|| panic!("{peer:?} is not in the swarm"));
            assert!(seeders || !known.seeder, "a seeder was told of a seeder");
            assert_ne!(*peer, asker, "the asker was told of itself");
            assert!(seen.insert(*peer), "{peer:?} is there twice");
        }
        let eligible = peers.iter().filter(|(peer, known)| **peer != asker && (seeders || !known.seeder)).count();
        let possible = eligible.min(want.min(F::NUMWANT_LIMIT) as usize);
        assert!(given.len() <= possible, "{} peers instead of {possible}", given.len());
        // As long as all chunks can be looked at, nobody who could be given is missing.
        let lists = lists::<F>(&self.platform, number);
        let (count, longest) = (lists.len() as u32, lists.iter().map(Vec::len).max().unwrap_or(0) as u32);
        if count <= 1 || count * longest.div_ceil(chunks_at_once(F::VERSION)) <= PARTITIONS_READ_MAX {
            assert_eq!(given.len(), possible, "{count} partitions of up to {longest} chunks");
        }
    }

    /// Compares everything that is stored with the model.
    fn check(&mut self) {
        for (info_hash, torrent) in &mut self.model {
            assert_eq!(counts(&self.platform, info_hash), torrent.counts());
            let number = find(&self.platform, info_hash).expect("a torrent of the model is stored");
            check_peers::<V4>(&self.platform, number, torrent);
            check_peers::<V6>(&self.platform, number, torrent);
        }
        let pools = self.platform.store().pools();
        assert_eq!(pools.swarms.used() as usize, self.model.len(), "swarm records in use");
        let owned =
            (0..pools.partitions.fresh.load()).filter_map(|number| self.platform.partition(PartitionId::new(number)));
        let owned = owned.filter(|partition| partition.owner.load() != 0).count();
        assert_eq!(pools.partitions.used() as usize, owned, "partitions in use");
    }

    /// Lets everybody expire and every torrent go; then no memory may be in use.
    fn end(&mut self) {
        for _ in 0..400 {
            if self.model.is_empty() {
                break;
            }
            self.advance(100);
            self.sweep();
        }
        self.check();
        assert!(self.model.is_empty(), "{} torrents never go", self.model.len());
        let pools = self.platform.store().pools();
        let used = [&pools.partitions, &pools.chunks_v4, &pools.chunks_v6].map(|pool| pool.used());
        assert_eq!((pools.swarms.used(), used), (0, [0; 3]), "swarms, partitions, chunks still in use by nobody");
    }

    fn advance(&self, minutes: u32) {
        let settings = self.platform.store().settings();
        settings.minute.store(settings.minute.load() + minutes);
    }
}

fn check_peers<F: Peers>(platform: &HostPlatform<'_>, number: SwarmId, torrent: &mut Torrent) {
    let there = stored::<F>(platform, number);
    let model = F::of(torrent);
    assert_eq!(there.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
    for (peer, flags) in there {
        let known = model[&peer];
        assert_eq!((flags & LEECHER == 0, flags & COMPLETED != 0), (known.seeder, known.completed), "{peer:?}");
    }
}

/// A sample, read from the compact form.
fn given<F: Peers>(
    platform: &HostPlatform<'_>,
    swarm: SwarmId,
    count: u32,
    seeders: bool,
    exclude: F::Key,
) -> Vec<F::Key> {
    let cx = platform.context();
    let swarm = cx.swarm(swarm).expect("a swarm that was found");
    let wanted = Wanted { count, filter: PeerFilter::new(seeders, EVERYTHING), exclude };
    read::<F>(platform, sample::<_, F>(&cx, swarm, &wanted).expect("as many tries as it takes"))
}

/// A known peer is refreshed and gets a sample: as the daemon does it, or as the XDP program does,
/// which gives a sample up that takes more than one partition.
fn refreshed<F: Peers>(
    platform: &HostPlatform<'_>,
    announce: &Announce<'_, F::Key>,
    wanted: &Wanted<F::Key>,
    xdp: bool,
) -> Vec<F::Key> {
    let cx = platform.context();
    let torrent = TorrentKey::new(cx.settings, announce.info_hash);
    let swarm: SwarmRef<'_> = index::find(&cx, &torrent).expect("stored");
    let directory = F::directory(swarm.record);
    if xdp {
        look_ahead::<_, F>(&cx, swarm, directory);
    }
    refresh::<_, F>(&cx, swarm, directory, &torrent, announce).expect("a known peer");
    let quick = if xdp { from_one_partition::<_, F>(&cx, swarm, wanted) } else { None };
    let sample = quick.or_else(|| sample::<_, F>(&cx, swarm, wanted)).expect("as many tries as it takes");
    read::<F>(platform, sample)
}

fn read<F: Peers>(platform: &HostPlatform<'_>, sample: Sample) -> Vec<F::Key> {
    let compact = platform.bytes(sample.start, sample.count * F::PEER_BYTES).expect("inside the scratch space");
    compact.chunks(F::PEER_BYTES as usize).map(F::read).collect()
}

/// Something that happens to the store.
#[derive(Clone, Debug)]
enum Step {
    /// One announce.
    Announce { torrent: u32, ipv6: bool, peer: u32, seeder: bool, event: PeerEvent },
    /// A run of peers announces or stops.
    Many { torrent: u32, ipv6: bool, first: u32, count: u32, seeders: u32, stop: bool },
    /// Somebody asks for peers.
    Sample { torrent: u32, ipv6: bool, asker: u32, want: u32, seeders: bool },
    /// Time passes.
    Advance(u32),
    /// Expiry.
    Sweep,
}

impl Step {
    fn take(&self, world: &mut World<'_>) {
        match *self {
            Step::Announce { torrent: number, ipv6, peer, seeder, event } => {
                let info_hash = torrent(number);
                if ipv6 {
                    world.announce::<V6>(info_hash, V6::peer(peer), seeder, event);
                } else {
                    world.announce::<V4>(info_hash, V4::peer(peer), seeder, event);
                }
            }
            Step::Many { torrent: number, ipv6, first, count, seeders, stop } => {
                let event = if stop { PeerEvent::Stopped } else { PeerEvent::None };
                for peer in first..first + count {
                    let seeder = peer % 10 < seeders;
                    let one = Step::Announce { torrent: number, ipv6, peer, seeder, event };
                    one.take(world);
                }
            }
            Step::Sample { torrent: number, ipv6, asker, want, seeders } => {
                let info_hash = torrent(number);
                if ipv6 {
                    world.sample::<V6>(info_hash, V6::peer(asker), want.min(100), seeders);
                } else {
                    world.sample::<V4>(info_hash, V4::peer(asker), want, seeders);
                }
            }
            Step::Advance(minutes) => {
                // Ages have so many bits: whoever is not swept for longer is taken for a young peer.
                if world.minute() + minutes - world.swept >= UNSWEPT {
                    world.sweep();
                }
                world.advance(minutes);
            }
            Step::Sweep => {
                world.sweep();
            }
        }
    }
}

fn events() -> impl Strategy<Value = PeerEvent> {
    prop_oneof![
        3 => Just(PeerEvent::None),
        1 => Just(PeerEvent::Started),
        2 => Just(PeerEvent::Completed),
        2 => Just(PeerEvent::Stopped),
    ]
}

/// Steps among `torrents` torrents and `peers` peers each, of which up to `many` come or go at
/// once.
fn steps(torrents: u32, peers: u32, many: u32, length: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (0..torrents, any::<bool>(), 0..peers, any::<bool>(), events())
            .prop_map(|(torrent, ipv6, peer, seeder, event)| Step::Announce { torrent, ipv6, peer, seeder, event }),
        4 => (0..torrents, any::<bool>(), 0..peers, 1..=many, 0..=10_u32, any::<bool>())
            .prop_map(|(torrent, ipv6, first, count, seeders, stop)| Step::Many { torrent, ipv6, first, count, seeders, stop }),
        10 => (0..torrents, any::<bool>(), 0..peers, 0..=200_u32, any::<bool>())
            .prop_map(|(torrent, ipv6, asker, want, seeders)| Step::Sample { torrent, ipv6, asker, want, seeders }),
        4 => (0..PEER_TIMEOUT).prop_map(Step::Advance),
        3 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..length)
}

fn run(sizes: &HostSizes, seed: u64, tight: bool, steps: &[Step]) {
    let store = HostStore::new(sizes, seed);
    let mut world = World::new(&store, seed, tight);
    for step in steps {
        step.take(&mut world);
    }
    world.check();
    world.end();
}

fn cases(cases: u32) -> ProptestConfig {
    // A failing case is printed whole; nothing is written into the source tree.
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn small_swarms_agree_with_the_model(seed in any::<u64>(), steps in steps(6, 12, 6, 200)) {
        run(&ROOMY, seed, false, &steps);
    }

    #[test]
    fn swarms_that_grow_out_of_their_record_and_back_agree_with_the_model(
        seed in any::<u64>(), steps in steps(3, 400, 300, 60)
    ) {
        run(&ROOMY, seed, false, &steps);
    }

    #[test]
    fn when_memory_runs_out_old_peers_give_way_and_counts_stay_exact(
        seed in any::<u64>(), swarms in 1..6_u32, partitions in 1..6_u32, chunks in 1..20_u32, steps in steps(8, 200, 150, 60)
    ) {
        let sizes = HostSizes { index_buckets: 16, swarms, partitions, chunks_v4: chunks, chunks_v6: chunks / 2 + 1 };
        run(&sizes, seed, true, &steps);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn swarms_of_thousands_agree_with_the_model(seed in any::<u64>(), steps in steps(2, 6000, 5000, 24)) {
        run(&ROOMY, seed, false, &steps);
    }
}

/// 100 000 peers in one swarm, then none.
#[test]
fn one_swarm_grows_to_a_hundred_thousand_and_shrinks_to_nothing() {
    let sizes = HostSizes { index_buckets: 16, swarms: 2, partitions: 2000, chunks_v4: 8000, chunks_v6: 16 };
    let store = HostStore::new(&sizes, 1);
    let mut world = World::new(&store, 1, false);
    let info_hash = torrent(0);
    // The model's counts are linear in the swarm's size, so it is compared at the end and not at
    // each step.
    let announce = |world: &World<'_>, number, event| {
        let announcement = Announce {
            info_hash: &info_hash,
            peer: V4::peer(number),
            seeder: number % 4 == 0,
            event,
            owner: Owner::NONE,
        };
        upsert::announce::<_, V4>(&world.platform.context(), &announcement).expect("room");
    };
    (0..100_000).for_each(|number| announce(&world, number, PeerEvent::Started));
    assert_eq!(counts(&world.platform, &info_hash), Counts { seeders: 25_000, leechers: 75_000, completed: 0 });
    let used = world.platform.store().pools().chunks_v4.used() as usize * size_of::<ChunkV4>();
    assert!(used / 100_000 <= 12, "{} bytes per peer", used as f64 / 1e5);
    (0..99_990).for_each(|number| announce(&world, number, PeerEvent::Stopped));
    let mut torrent = Torrent { active: world.minute(), ..Torrent::default() };
    for number in 99_990..100_000 {
        let known = Known { seeder: number % 4 == 0, completed: false, minute: world.minute() };
        torrent.v4.insert(V4::peer(number), known);
    }
    world.model.insert(info_hash, torrent);
    world.check();
    world.end();
}

/// Torrents come and go through the same few records.
#[test]
fn records_of_removed_torrents_are_used_again() {
    let sizes = HostSizes { index_buckets: 16, swarms: 10, partitions: 16, chunks_v4: 32, chunks_v6: 32 };
    let store = HostStore::new(&sizes, 2);
    let mut world = World::new(&store, 2, false);
    for round in 0..200 {
        for number in 0..10 {
            for peer in 0..8 {
                world.announce::<V4>(torrent(round * 10 + number), V4::peer(peer), peer % 2 == 0, PeerEvent::Started);
            }
        }
        world.check();
        for _ in 0..3 {
            world.advance(IDLE);
            world.sweep();
        }
        assert_eq!(world.model.len(), 0, "round {round}");
    }
}

#[test]
fn torrent_beyond_the_limit_is_refused_and_those_there_live_on() {
    let sizes = HostSizes { index_buckets: 16, swarms: 3, partitions: 4, chunks_v4: 4, chunks_v6: 4 };
    let store = HostStore::new(&sizes, 3);
    let world = World::new(&store, 3, false);
    let announce = |number, peer| {
        let peer = V4::peer(peer);
        let announcement =
            Announce { info_hash: &torrent(number), peer, seeder: true, event: PeerEvent::None, owner: Owner::NONE };
        upsert::announce::<_, V4>(&world.platform.context(), &announcement).map(|swarm| swarm.map(|swarm| swarm.id))
    };
    for number in 0..3 {
        // Two users each, of networks far apart.
        assert!(announce(number, 1).is_ok() && announce(number, 3000).is_ok());
    }
    assert_eq!(announce(3, 1), Err(StoreError::TorrentsFull));
    assert!(announce(2, 1).is_ok());
    assert_eq!(counts(&world.platform, &torrent(3)), Counts::default());
}

/// Peers that 40 announces of 50 should see at the least, in a swarm of this size: 90 % of all, or
/// of what 40 independent random draws would.
fn covered_at_least(size: u32) -> usize {
    let size = f64::from(size);
    let independent = if size > 500.0 { 1.0 - (1.0 - 50.0 / size).powi(40) } else { 1.0 };
    (0.9 * size * independent) as usize
}

/// Announces 40 of a swarm's peers, each of whom wants 50 others, and counts the different ones
/// that they are given: as the daemon answers, or as the XDP program does, which gives a reply up
/// that takes more than one visit.
fn coverage<F: Peers>(size: u32, seed: u64, xdp: bool) {
    let sizes = HostSizes { index_buckets: 64, swarms: 64, partitions: 2048, chunks_v4: 8192, chunks_v6: 16384 };
    let store = HostStore::new(&sizes, seed);
    let world = World::new(&store, seed, false);
    let info_hash = torrent(seed as u32);
    let announcement = |peer| Announce {
        info_hash: &info_hash,
        peer: F::peer(peer),
        seeder: false,
        event: PeerEvent::None,
        owner: Owner::NONE,
    };
    for peer in 0..size {
        upsert::announce::<_, F>(&world.platform.context(), &announcement(peer)).expect("room");
    }
    let mut seen = BTreeSet::new();
    for requester in 0..40 {
        let filter = PeerFilter::new(true, EVERYTHING);
        let wanted = Wanted { count: 50, filter, exclude: F::peer(requester) };
        let peers = refreshed::<F>(&world.platform, &announcement(requester), &wanted, xdp);
        assert_eq!(peers.len(), 50, "swarm of {size}");
        seen.extend(peers);
    }
    let least = covered_at_least(size);
    assert!(
        seen.len() >= least,
        "swarm of {size}, seed {seed}: 40 announces of 50 saw {} instead of {least}",
        seen.len()
    );
}

#[test]
fn forty_announces_of_fifty_see_what_independent_draws_would_in_swarms_of_all_sizes() {
    for size in
        [100, 130, 160, 200, 300, 400, 500, 600, 700, 800, 1000, 1500, 2000, 3000, 5000, 10_000, 30_000, 100_000]
    {
        for seed in 0..if size < 4000 { 40 } else { 3 } {
            coverage::<V4>(size, seed, false);
            coverage::<V6>(size, seed, false);
            coverage::<V4>(size, seed, true);
            coverage::<V6>(size, seed, true);
        }
    }
}

/// Which peers are given to whom in a swarm of `size` peers of each scope.
fn scopes<F: Peers>(size: u32, xdp: bool) {
    let store = HostStore::new(&ROOMY, u64::from(size));
    let world = World::new(&store, u64::from(size), false);
    let info_hash = torrent(1);
    let announcement =
        |peer| Announce { info_hash: &info_hash, peer, seeder: false, event: PeerEvent::None, owner: Owner::NONE };
    let mut members: BTreeMap<F::Key, u32> = BTreeMap::new();
    let sampled = |requester: F::Key, visible: u32, count: u32| {
        let wanted = Wanted { count, filter: PeerFilter::new(true, visible), exclude: requester };
        refreshed::<F>(&world.platform, &announcement(requester), &wanted, xdp)
    };
    for number in 0..size {
        for nearness in 0..=EVERYTHING {
            let peer = F::near_peer(nearness, number);
            upsert::announce::<_, F>(&world.platform.context(), &announcement(peer)).expect("room");
            members.insert(peer, nearness);
            if number > 0 {
                continue;
            }
            // From the first peer on that is not public: what has been given before must not be
            // what is given now.
            for (&asker, &near) in &members {
                let given: BTreeSet<_> = sampled(asker, near, 50).into_iter().collect();
                let expected: BTreeSet<_> = members
                    .iter()
                    .filter(|(peer, of)| **of <= near && **peer != asker)
                    .map(|(peer, _)| *peer)
                    .collect();
                assert_eq!(given, expected, "asker of nearness {near} among the first");
            }
        }
    }
    for near in 0..=EVERYTHING {
        let asker = F::near_peer(near, 0);
        assert_eq!(scope::visible(F::scope(asker)), near);
        let allowed = members.values().filter(|of| **of <= near).count() - 1;
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let given = sampled(asker, near, 50);
            let unique: BTreeSet<_> = given.iter().copied().collect();
            assert_eq!(unique.len(), given.len(), "a peer twice");
            assert!(!unique.contains(&asker), "the asker");
            assert!(unique.iter().all(|peer| members[peer] <= near), "{size} of each: a peer too near for {near}");
            assert!(given.len() == allowed.min(50), "{size} of each, {near}: {} of {allowed}", given.len());
            seen.extend(unique);
        }
        assert!(seen.len() * 10 >= allowed.min(400) * 9, "{size} of each, {near}: {} of {allowed} seen", seen.len());
        // Whoever is to see everybody does.
        assert!(sampled(asker, EVERYTHING, 50).len() == (members.len() - 1).min(50));
    }
}

#[test]
fn peers_are_given_to_whoever_is_as_near() {
    for size in [1, 2, 3, 10, 30, 60, 120] {
        scopes::<V4>(size, false);
        scopes::<V4>(size, true);
        scopes::<V6>(size, false);
        scopes::<V6>(size, true);
    }
}

/// How evenly peers are given, in swarms of all shapes, of whose peers so many of ten are seeders: to
/// a leecher all, to a seeder the leechers.
fn fairness<F: Peers>(size: u32, want: u32, seeders: u32, to_leecher: bool) {
    let store = HostStore::new(&ROOMY, u64::from(size));
    let world = World::new(&store, u64::from(size), false);
    let info_hash = torrent(0);
    let mut number = None;
    let is_seeder = |peer| peer % 10 < seeders;
    for peer in 0..size {
        let (seeder, event) = (is_seeder(peer), PeerEvent::None);
        let announcement = Announce { info_hash: &info_hash, peer: F::peer(peer), seeder, event, owner: Owner::NONE };
        number =
            upsert::announce::<_, F>(&world.platform.context(), &announcement).expect("room").map(|swarm| swarm.id);
    }
    let mut times: BTreeMap<F::Key, u32> =
        (0..size).filter(|peer| to_leecher || !is_seeder(*peer)).map(|peer| (F::peer(peer), 0)).collect();
    let eligible = times.len() as u32;
    let want = want.min(eligible).max(1);
    for _ in 0..eligible * 400 / want {
        for peer in given::<F>(&world.platform, number.expect("stored"), want, to_leecher, F::peer(size)) {
            *times.get_mut(&peer).expect("a peer of the swarm and of that kind") += 1;
        }
    }
    // 400 times on average. Peers are taken in runs from partitions of different sizes, so some
    // come up more often, others less; and most where partitions have few leechers, who are all that
    // a seeder is given (six sets of keys: up to 1500 times).
    let limit = if to_leecher { 1000 } else { 1600 };
    let (least, most) = (times.values().min().unwrap_or(&400), times.values().max().unwrap_or(&400));
    assert!(
        *least >= 140 && *most <= limit,
        "swarm of {size}, {seeders} of 10 seed, {want} wanted, all: {to_leecher}: given {least} to {most} times"
    );
}

#[test]
fn nobody_is_given_much_more_or_less_often_than_others() {
    for size in [6, 20, 60, 150, 500, 3000] {
        for (seeders, to_leecher) in [(0, true), (5, true), (5, false), (9, false)] {
            fairness::<V4>(size, 5, seeders, to_leecher);
            fairness::<V6>(size, 5, seeders, to_leecher);
            fairness::<V4>(size, size.min(50), seeders, to_leecher);
            fairness::<V6>(size, size.min(50), seeders, to_leecher);
        }
    }
}

/// Asks for more peers than a visit gives, in swarms whose partitions have several laps, while
/// others come and go in between.
fn interrupted<F: Peers>(size: u32, arrive: u32, leave: u32) {
    for seed in 0..200 {
        let store = HostStore::new(&ROOMY, seed);
        let other = store.platform(!seed);
        let info_hash = torrent(0);
        let announce = |peer: u32, event| {
            let announcement =
                Announce { info_hash: &info_hash, peer: F::peer(peer), seeder: false, event, owner: Owner::NONE };
            upsert::announce::<_, F>(&other.context(), &announcement).expect("room").expect("a torrent").id
        };
        let mut swarm = SwarmId::at(0, 1);
        for peer in 0..size {
            swarm = announce(peer, PeerEvent::Started);
        }
        let next = Cell::new(0);
        let between = || {
            for _ in 0..arrive {
                announce(size + next.get(), PeerEvent::Started);
                next.set(next.get() + 1);
            }
            for peer in 0..leave {
                announce(next.get() * 7 % size + peer, PeerEvent::Stopped);
                next.set(next.get() + 1);
            }
        };
        let platform = store.platform(seed).with_hook(&between);
        let cx = platform.context();
        let wanted = Wanted {
            count: F::NUMWANT_LIMIT,
            filter: PeerFilter::new(true, EVERYTHING),
            exclude: F::peer(u32::MAX >> 8),
        };
        let swarm = cx.swarm(swarm).expect("a swarm that was found");
        let sample = sample::<_, F>(&cx, swarm, &wanted).expect("as many tries as it takes");
        let given = read::<F>(&platform, sample);
        let unique: BTreeSet<_> = given.iter().collect();
        assert_eq!(
            unique.len(),
            given.len(),
            "seed {seed}, {size} peers, {arrive} arrive, {leave} leave: a peer twice"
        );
        assert!(!given.is_empty(), "nobody was given");
    }
}

#[test]
fn nobody_is_given_twice_while_others_come_and_go() {
    for (size, arrive, leave) in [(150, 0, 0), (150, 1, 0), (330, 3, 0), (150, 0, 1), (330, 2, 2), (700, 5, 0)] {
        interrupted::<V4>(size, arrive, leave);
        interrupted::<V6>(size, arrive, leave);
    }
}

/// Threads, each with peers of its own in the same swarms; one more expires and asks for peers
/// meanwhile.
fn stress<F: Peers>(threads: u32, swarms: u32, peers: u32, rounds: u32) {
    let sizes = HostSizes { index_buckets: 32, swarms: 32, partitions: 512, chunks_v4: 4096, chunks_v6: 8192 };
    let store = &HostStore::new(&sizes, 7);
    let done = AtomicBool::new(false);
    let completed: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work::<F>(&store.platform(thread.into()), thread, swarms, peers, rounds)))
            .collect();
        let done = &done;
        let known: BTreeSet<_> = (0..threads * peers).map(F::peer).collect();
        let staying: BTreeSet<_> = (0..threads * peers).step_by(4).map(F::peer).collect();
        scope.spawn(move || {
            let watcher = store.platform(u64::MAX);
            let mut turn = 0;
            while !done.load(Ordering::Relaxed) {
                let ages = Ages { peer_timeout: PEER_TIMEOUT, idle: IDLE, idle_completed: IDLE };
                sweep(&watcher.context(), &Batch { first: 0, end: u32::MAX, ages }, |_, _| {});
                for swarm in 0..swarms {
                    turn += 1;
                    let Some(number) = find(&watcher, &torrent(swarm)) else { continue };
                    let asker = F::peer(turn % (threads * peers));
                    let given = given::<F>(&watcher, number, 50, true, asker);
                    assert!(!given.contains(&asker), "the asker itself");
                    assert!(given.iter().all(|peer| known.contains(peer)), "a torn peer");
                    // One that leaves and comes back while peers are collected may well be met at
                    // both places; one that is only moved to another place may not.
                    let moved: Vec<_> = given.iter().filter(|peer| staying.contains(peer)).collect();
                    let unique: BTreeSet<_> = moved.iter().collect();
                    assert_eq!(unique.len(), moved.len(), "a peer twice");
                }
            }
        });
        let completed = workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();
        done.store(true, Ordering::Relaxed);
        completed
    });

    let platform = store.platform(7);
    for swarm in 0..swarms {
        let expected: BTreeMap<F::Key, bool> = (0..threads * peers)
            .filter_map(|peer| state(swarm, peer, rounds).map(|seeder| (F::peer(peer), seeder)))
            .collect();
        let number = find(&platform, &torrent(swarm)).expect("stored");
        let there: BTreeMap<F::Key, bool> =
            stored::<F>(&platform, number).into_iter().map(|(peer, flags)| (peer, flags & LEECHER == 0)).collect();
        assert!(there == expected, "swarm {swarm}: {} peers instead of {}", there.len(), expected.len());
        let seeders = expected.values().filter(|seeder| **seeder).count() as u32;
        let leechers = expected.len() as u32 - seeders;
        let completed = completed.iter().map(|of_thread| of_thread[swarm as usize]).sum();
        assert_eq!(counts(&platform, &torrent(swarm)), Counts { seeders, leechers, completed });
    }
}

/// What a peer is after its announce in a round: gone, a leecher or a seeder. Every fourth peer
/// never leaves.
fn state(swarm: u32, peer: u32, rounds: u32) -> Option<bool> {
    if peer.is_multiple_of(4) {
        return Some(rounds.is_multiple_of(2));
    }
    match (swarm + peer * 7 + rounds * 13) % 5 {
        0 | 1 => None,
        2 | 3 => Some(false),
        _ => Some(true),
    }
}

fn work<F: Peers>(platform: &HostPlatform<'_>, thread: u32, swarms: u32, peers: u32, rounds: u32) -> Vec<u32> {
    let mut completed = vec![0; swarms as usize];
    let mut seeding = BTreeMap::new();
    for round in 0..=rounds {
        for peer in thread * peers..(thread + 1) * peers {
            for swarm in 0..swarms {
                let (seeder, event) = match state(swarm, peer, round) {
                    None => (false, PeerEvent::Stopped),
                    Some(seeder) => (seeder, if seeder { PeerEvent::Completed } else { PeerEvent::None }),
                };
                let info_hash = &torrent(swarm);
                upsert::announce::<_, F>(
                    &platform.context(),
                    &Announce { info_hash, peer: F::peer(peer), seeder, event, owner: Owner::NONE },
                )
                .expect("room");
                // Counted once for as long as the peer is known.
                let known = seeding.entry((swarm, peer)).or_insert(false);
                if event == PeerEvent::Completed && !*known {
                    *known = true;
                    completed[swarm as usize] += 1;
                } else if event == PeerEvent::Stopped {
                    *known = false;
                }
            }
        }
    }
    completed
}

#[test]
fn threads_lose_no_peer_in_small_swarms() {
    stress::<V4>(4, 20, 3, 3000);
    stress::<V6>(4, 20, 2, 3000);
}

#[test]
fn threads_lose_no_peer_in_swarms_that_grow_and_shrink() {
    stress::<V4>(4, 3, 700, 30);
    stress::<V6>(4, 3, 400, 30);
}

/// The counters have to explain what is stored.
#[test]
fn counters_add_up_to_what_is_stored() {
    let store = HostStore::new(&ROOMY, 5);
    let mut world = World::new(&store, 5, false);
    for peer in 0..1000 {
        world.announce::<V4>(torrent(peer % 5), V4::peer(peer), peer % 3 == 0, PeerEvent::Started);
        world.announce::<V6>(torrent(peer % 7), V6::peer(peer), peer % 3 == 1, PeerEvent::Started);
    }
    world.advance(PEER_TIMEOUT - 1);
    for peer in 0..500 {
        world.announce::<V4>(torrent(peer % 5), V4::peer(peer), peer % 3 == 0, PeerEvent::None);
        world.announce::<V6>(torrent(peer % 7), V6::peer(peer), false, PeerEvent::Stopped);
    }
    world.advance(1);
    world.sweep();
    let event = |event| world.counter(Counter::Event(event));
    assert_eq!((event(Event::Peer4Added), event(Event::Peer4Removed)), (1000, 500));
    assert_eq!((event(Event::Peer6Added), event(Event::Peer6Removed)), (1000, 1000));
    assert_eq!((event(Event::Expired), event(Event::TorrentCreated)), (1000, 7));
    let renewed: Vec<_> = (0..REFRESH_AGES).map(|minutes| world.counter(Counter::Refreshed(minutes as u32))).collect();
    assert_eq!((renewed[PEER_TIMEOUT as usize - 1], renewed.iter().sum()), (500, 500_u64));
    let swarm = find(&world.platform, &torrent(0)).expect("stored");
    assert!(partitions::<V4>(&world.platform, swarm).all(|partition| partition.peers() <= capacity::<V4>()));
}
