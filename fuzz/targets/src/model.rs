//! A simple model of a tracker, a map of maps, and a tracker beside it: every reply has to be what
//! the model says, and at the end the same peers have to be stored.

use crate::{
    history::{self, Client, Damage, Id, Operation, Peer, Request},
    stored::{self, Kind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};
use tracker_common::{
    id::{InfoHash, PartitionId, SwarmId},
    outcome::{Event, IpVersion},
    platform::Platform,
    settings::Settings,
    store::{
        owner::Owner,
        resize::peers_per_partition,
        sweep::{Ages, Batch, SweepReport, sweep},
    },
};
use tracker_tests::bep15::{self, Counts, Reply};

/// A peer goes after this many minutes.
const PEER_TIMEOUT: u32 = 45;
/// An empty torrent goes after this many minutes.
const IDLE: u32 = 60;
/// An empty torrent with completed downloads goes after this many minutes.
const IDLE_COMPLETED: u32 = 300;

/// When it begins, in seconds.
pub const START: u32 = 600_000;
/// Seconds between announces.
pub const INTERVAL: u32 = 1800;
/// By how many they vary.
pub const JITTER: u32 = 180;
/// Peers given to who does not say.
const DEFAULT_WANTED: usize = 50;
/// Most peers given: IPv4, IPv6.
const MOST_GIVEN: [usize; 2] = [200, 67];
/// Up to so many peers of a family (IPv4, IPv6) are one list, through which every sample looks.
const ONE_LIST: [usize; 2] = [256, 128];
/// Most datagrams of one history: the longest are not the best.
const DATAGRAMS: u32 = 3000;

/// What answers.
pub trait Tracker {
    /// The store behind it.
    type Platform: Platform;

    /// A look at the store.
    fn platform(&self) -> &Self::Platform;

    /// How often an event has been counted.
    fn counted(&mut self, event: Event) -> u64;

    /// Sends a datagram: the payload of the answer, if there is one.
    fn exchange(&mut self, source: SocketAddr, payload: &[u8]) -> Option<Vec<u8>>;
}

/// A peer in the model.
#[derive(Clone, Copy, Debug)]
struct Known {
    kind: Kind,
    minute: u32,
    /// What is known of the client's key: 0 for none, [`CONTESTED`].
    owner: u64,
}

/// Somebody with another key has come.
const CONTESTED: u64 = u64::MAX;

/// A torrent in the model.
#[derive(Clone, Debug, Default)]
struct Torrent {
    peers: BTreeMap<SocketAddr, Known>,
    completed: u32,
    active: u32,
    /// The most peers there ever were: IPv4, IPv6.
    most: [usize; 2],
}

impl Torrent {
    fn counts(&self) -> Counts {
        let count = |seeder| self.peers.values().filter(|known| known.kind.seeder == seeder).count() as u32;
        Counts { seeders: count(true), completed: self.completed, leechers: count(false) }
    }

    fn of_family(&self, ipv4: bool) -> impl Iterator<Item = (&SocketAddr, &Known)> {
        self.peers.iter().filter(move |(peer, _)| peer.is_ipv4() == ipv4)
    }
}

/// Whether a peer is not that of the client with this key.
fn is_strange(known: &Known, owner: u64) -> bool {
    known.owner != 0 && known.owner != owner
}

/// What a datagram has to bring.
enum Expected {
    Nothing,
    Connect,
    Error(&'static str),
    Announce { info_hash: InfoHash, peer: SocketAddr, seeder: bool, event: u32, owner: u64, wanted: i32 },
    Scrape(Vec<InfoHash>),
}

/// How far away an address can be reached from: 0 for from everywhere, 3 for from this host.
fn nearness(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() => 3,
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(ip) if ip.is_private() => 1,
        IpAddr::V6(ip) if ip.is_loopback() => 3,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 2,
        IpAddr::V6(ip) if ip.is_unique_local() => 1,
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    }
}

/// Sets the clock and what clients are told.
pub fn configure(settings: &Settings) {
    settings.interval.store(INTERVAL);
    settings.interval_jitter.store(JITTER);
    settings.default_numwant.store(DEFAULT_WANTED as u32);
    settings.max_numwant_v4.store(MOST_GIVEN[0] as u32);
    settings.max_numwant_v6.store(MOST_GIVEN[1] as u32);
    set_clock(settings, START);
}

fn set_clock(settings: &Settings, second: u32) {
    settings.second.store(second);
    settings.minute.store(second / 60);
}

/// A tracker and the model of it.
pub struct World<T> {
    tracker: T,
    /// Whether memory can run out.
    tight: bool,
    second: u32,
    /// The ids that were issued to an address, and when.
    ids: BTreeMap<IpAddr, Vec<(u64, u32)>>,
    torrents: BTreeMap<InfoHash, Torrent>,
    datagrams: u32,
    /// Peers evicted so far, as the tracker counts them.
    evicted: u64,
}

impl<T: Tracker> World<T> {
    /// A tracker whose clock shows `second` and that knows nobody.
    pub fn new(mut tracker: T, second: u32, tight: bool) -> Self {
        let evicted = tracker.counted(Event::Evicted);
        let (ids, torrents) = (BTreeMap::new(), BTreeMap::new());
        let world = Self { tracker, tight, second, ids, torrents, datagrams: 0, evicted };
        set_clock(world.settings(), second);
        world
    }

    /// The tracker.
    pub fn tracker(&mut self) -> &mut T {
        &mut self.tracker
    }

    fn settings(&self) -> &Settings {
        self.tracker.platform().settings().expect("settings")
    }

    fn minute(&self) -> u32 {
        self.second / 60
    }

    /// Lets all of it happen.
    ///
    /// # Panics
    /// When something is not as the model says.
    pub fn run(&mut self, operations: &[Operation]) {
        for operation in operations {
            if self.is_tired() {
                break;
            }
            self.take(operation);
        }
        self.check();
    }

    /// Whether it has been enough.
    pub fn is_tired(&self) -> bool {
        self.datagrams >= DATAGRAMS
    }

    /// The tracker alone.
    pub fn into_tracker(self) -> T {
        self.tracker
    }

    /// One thing happens.
    pub fn take(&mut self, operation: &Operation) {
        match operation {
            Operation::Datagram { client, id, request, damage } => {
                let payload = self.payload(*client, *id, request, damage);
                self.datagram(client.source(), &payload);
            }
            Operation::Burst { client, count, peer } => self.burst(*client, *count, *peer),
            Operation::Seconds(seconds) => self.advance(u32::from(*seconds)),
            Operation::Minutes(minutes) => self.advance(u32::from(*minutes) * 60),
            Operation::Sweep => self.sweep(),
        }
    }

    /// The payload of a request, with the connection id that it is to carry.
    pub fn payload(&mut self, client: Client, id: Id, request: &Request, damage: &Damage) -> Vec<u8> {
        let id = match request {
            Request::Connect | Request::Raw(_) => 0,
            Request::Announce(_) | Request::Scrape { .. } => match id {
                Id::Right => self.connected(client),
                Id::Changed(bit) => self.connected(client) ^ 1 << bit,
                Id::OfAnother(client) => self.connected(client),
                Id::Oldest => self.ids.get(&client.ip()).map_or(0, |ids| ids[0].0),
                Id::Zero => 0,
            },
        };
        history::payload(request, id, damage)
    }

    fn burst(&mut self, client: Client, count: u8, peer: Peer) {
        for number in 0..u16::from(count) {
            let client = Client { number: (client.number + number) % history::CLIENTS, ..client };
            let payload = self.payload(client, Id::Right, &Request::Announce(peer), &Damage::None);
            self.datagram(client.source(), &payload);
        }
    }

    /// A valid id of a client.
    fn connected(&mut self, client: Client) -> u64 {
        let now = self.second / 60;
        let last = |ids: &Vec<(u64, u32)>| ids.last().copied();
        if let Some((id, issued)) = self.ids.get(&client.ip()).and_then(last)
            && now - issued / 60 <= 2
        {
            return id;
        }
        self.datagram(client.source(), &bep15::connect(0xc000_0002));
        self.ids[&client.ip()].last().expect("just issued").0
    }

    /// A datagram comes, and its answer has to be right.
    pub fn datagram(&mut self, source: SocketAddr, payload: &[u8]) {
        self.datagrams += 1;
        let ip = source.ip().to_canonical();
        let expected = self.expected(ip, payload);
        let reply = self.tracker.exchange(source, payload);
        let Some(bytes) = reply else {
            assert!(matches!(expected, Expected::Nothing), "no answer to {payload:02x?} from {source}");
            return;
        };
        let reply = Reply::parse(&bytes, ip.is_ipv4()).unwrap_or_else(|error| panic!("{error:#}: {bytes:02x?}"));
        assert_eq!(payload.get(12..16), Some(&reply.transaction().to_be_bytes()[..]), "transaction of {reply:?}");
        match (expected, reply) {
            (Expected::Connect, Reply::Connect { connection_id, .. }) => {
                self.ids.entry(ip).or_default().push((connection_id, self.second));
            }
            (Expected::Error(text), Reply::Error { message, .. }) => {
                assert_eq!(message, text);
                assert!(bytes.len() <= payload.len(), "{} bytes for {}", bytes.len(), payload.len());
            }
            (Expected::Scrape(torrents), Reply::Scrape { torrents: counts, .. }) => {
                let known = |info_hash| self.torrents.get(info_hash).map_or_else(Counts::default, Torrent::counts);
                assert_eq!(counts, torrents.iter().map(known).collect::<Vec<_>>(), "a scrape");
            }
            (Expected::Announce { info_hash, event, .. }, Reply::Error { message, .. }) => {
                assert!(self.tight && event != 3 && message == "Tracker is full", "{message} for event {event}");
                // The torrent may have been made before there was no room for the peer.
                if stored::find(self.tracker.platform(), &info_hash).is_some() {
                    let minute = self.minute();
                    self.torrents.entry(info_hash).or_default().active = minute;
                }
            }
            (
                Expected::Announce { info_hash, peer, seeder, event, owner, wanted },
                Reply::Announce { interval, leechers, seeders, peers, .. },
            ) => {
                assert!((INTERVAL - JITTER..=INTERVAL + JITTER).contains(&interval), "interval {interval}");
                self.announced(info_hash, peer, seeder, event, owner);
                self.forget_evicted(peer);
                let counts = self.torrents.get(&info_hash).map_or_else(Counts::default, Torrent::counts);
                assert_eq!((seeders, leechers), (counts.seeders, counts.leechers), "event {event} of {peer}");
                let wanted = if event == 3 { 0 } else { wanted };
                self.check_given(&info_hash, peer, seeder, wanted, &peers);
            }
            (_, reply) => panic!("{reply:?} to {payload:02x?}"),
        }
    }

    /// What BEP 15 and docs/architecture.md say.
    fn expected(&self, ip: IpAddr, payload: &[u8]) -> Expected {
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("4 bytes"));
        if payload.len() < 16 {
            return Expected::Nothing;
        }
        let (id, action) = (u64::from(word(0)) << 32 | u64::from(word(4)), word(8));
        if action == bep15::CONNECT {
            return if id == bep15::MAGIC { Expected::Connect } else { Expected::Nothing };
        }
        if !matches!(action, bep15::ANNOUNCE | bep15::SCRAPE) || action == bep15::ANNOUNCE && payload.len() < 98 {
            return Expected::Nothing;
        }
        let minute = self.minute();
        let valid = |&(known, issued): &(u64, u32)| known == id && minute - issued / 60 <= 2;
        if !self.ids.get(&ip).is_some_and(|ids| ids.iter().any(valid)) {
            return if payload.len() < 36 { Expected::Nothing } else { Expected::Error("Connection ID mismatch") };
        }
        if action == bep15::SCRAPE {
            let torrents = payload[16..].chunks_exact(20).take(74);
            return Expected::Scrape(torrents.map(|hash| hash.try_into().expect("20 bytes")).collect());
        }
        let port = u16::from_be_bytes([payload[96], payload[97]]);
        if port == 0 {
            return Expected::Error("Port 0 is not valid");
        }
        Expected::Announce {
            info_hash: payload[16..36].try_into().expect("20 bytes"),
            peer: SocketAddr::new(ip, port),
            seeder: payload[64..72].iter().all(|byte| *byte == 0),
            event: word(80),
            owner: Owner::new(word(88)).bits(),
            wanted: word(92).cast_signed(),
        }
    }

    /// A peer's announce has been taken.
    fn announced(&mut self, info_hash: InfoHash, peer: SocketAddr, seeder: bool, event: u32, owner: u64) {
        let minute = self.minute();
        if event == 3 {
            if let Some(torrent) = self.torrents.get_mut(&info_hash) {
                torrent.active = minute;
                match torrent.peers.get_mut(&peer) {
                    Some(known) if is_strange(known, owner) => known.owner = CONTESTED,
                    _ => drop(torrent.peers.remove(&peer)),
                }
            }
            return;
        }
        let torrent = self.torrents.entry(info_hash).or_default();
        torrent.active = minute;
        let known = torrent.peers.get(&peer);
        let before = known.map(|known| known.kind);
        let contested =
            known.is_some_and(|known| is_strange(known, owner) && minute - known.minute < (INTERVAL - JITTER) / 60);
        let owner = if contested { CONTESTED } else { owner };
        let counted = before.is_some_and(|kind| kind.completed);
        let becomes_seeder = seeder && before.is_none_or(|kind| !kind.seeder);
        let completes = event == 1 && becomes_seeder && !counted && !contested;
        torrent.completed += u32::from(completes);
        torrent.peers.insert(peer, Known { kind: Kind { seeder, completed: counted || completes }, minute, owner });
        let family = usize::from(peer.is_ipv6());
        torrent.most[family] = torrent.most[family].max(torrent.of_family(peer.is_ipv4()).count());
    }

    /// The model does not say whom the store has to evict.
    fn forget_evicted(&mut self, newcomer: SocketAddr) {
        // Where there is room for all, one look at the end is enough: counting takes its time.
        if !self.tight {
            return;
        }
        let evicted = self.newly_evicted();
        let (platform, mut gone) = (self.tracker.platform(), 0);
        self.torrents.retain(|info_hash, torrent| {
            // It has made room for another one.
            let Some(there) = stored::peers(platform, info_hash) else { return false };
            // A swarm with partitions makes room for its next split once the peer is stored, at the price of any.
            let family = usize::from(newcomer.is_ipv6());
            let version = if newcomer.is_ipv6() { IpVersion::V6 } else { IpVersion::V4 };
            let splits = torrent.most[family] > peers_per_partition(version) as usize;
            torrent.peers.retain(|peer, _| {
                let stays = there.contains_key(peer);
                assert!(stays || splits || *peer != newcomer, "the newcomer was evicted");
                gone += u64::from(!stays);
                stays
            });
            true
        });
        assert_eq!(gone, evicted, "peers that are gone");
    }

    /// How many peers were evicted since this was last asked.
    fn newly_evicted(&mut self) -> u64 {
        let all = self.tracker.counted(Event::Evicted) + self.tracker.counted(Event::Crowded);
        all - std::mem::replace(&mut self.evicted, all)
    }

    /// Checks the peers of a reply.
    fn check_given(&self, info_hash: &InfoHash, asker: SocketAddr, seeder: bool, wanted: i32, given: &[SocketAddr]) {
        let Some(torrent) = self.torrents.get(info_hash) else {
            assert!(given.is_empty(), "peers of an unknown torrent: {given:?}");
            return;
        };
        let (family, near) = (usize::from(asker.is_ipv6()), nearness(asker.ip()));
        // Over loopback all are seen, else those that are as far away or farther.
        let eligible = |peer: SocketAddr, known: &Known| {
            peer != asker && !(seeder && known.kind.seeder) && nearness(peer.ip()) <= near
        };
        let unique: BTreeSet<_> = given.iter().copied().collect();
        assert_eq!(unique.len(), given.len(), "a peer twice: {given:?}");
        for peer in given {
            let known = torrent.peers.get(peer).filter(|_| peer.is_ipv4() == asker.is_ipv4());
            assert!(known.is_some_and(|known| eligible(*peer, known)), "{peer} to {asker}: it is {known:?}");
        }
        let count = torrent.of_family(asker.is_ipv4()).filter(|(peer, known)| eligible(**peer, known)).count();
        let wanted = usize::try_from(wanted).unwrap_or(DEFAULT_WANTED).min(MOST_GIVEN[family]);
        let possible = wanted.min(count);
        assert!(given.len() <= possible, "{} peers instead of {possible}", given.len());
        if torrent.most[family] <= ONE_LIST[family] {
            assert_eq!(given.len(), possible, "peers for {asker}, who wants {wanted}");
        } else if !seeder && near == 0 {
            assert!(given.len() * 2 >= possible, "{} peers instead of {possible}", given.len());
        }
    }

    fn advance(&mut self, seconds: u32) {
        self.second += seconds;
        set_clock(self.settings(), self.second);
    }

    fn sweep(&mut self) {
        let (minute, platform) = (self.minute(), self.tracker.platform());
        let cx = stored::context(platform);
        let end = SwarmId::at(cx.settings.index_buckets.load(), 0).number();
        let ages = Ages { peer_timeout: PEER_TIMEOUT, idle: IDLE, idle_completed: IDLE_COMPLETED };
        let mut report = SweepReport::default();
        for first in (0..end).step_by(67) {
            let part = sweep(&cx, &Batch { first, end: (first + 67).min(end), ages }, |_, _| {});
            report.torrents += part.torrents;
            report.expired += part.expired;
            report.removed += part.removed;
            report.recounted += part.recounted;
        }
        assert_eq!(report.recounted, 0, "counts had drifted");
        let (mut expired, mut removed) = (0, 0);
        self.torrents.retain(|info_hash, torrent| {
            let before = torrent.peers.len();
            torrent.peers.retain(|_, known| minute - known.minute < PEER_TIMEOUT);
            expired += before - torrent.peers.len();
            let limit = if torrent.completed == 0 { IDLE } else { IDLE_COMPLETED };
            let idle = torrent.peers.is_empty() && minute - torrent.active >= limit;
            // A swarm that was big shrinks step by step, so its record may go with a later sweep.
            let gone = stored::find(platform, info_hash).is_none();
            assert!(idle || !gone, "a torrent is gone that nobody had to remove");
            removed += u64::from(gone);
            !gone
        });
        assert_eq!((report.expired, report.removed), (expired as u64, removed), "expired, removed");
        assert_eq!(report.torrents, self.torrents.len() as u64, "torrents");
    }

    /// Compares everything that is stored with the model.
    ///
    /// # Panics
    /// When it is not the same.
    pub fn check(&self) {
        let platform = self.tracker.platform();
        for (info_hash, torrent) in &self.torrents {
            let there = stored::peers(platform, info_hash).expect("a torrent of the model is stored");
            let model: BTreeMap<_, _> = torrent.peers.iter().map(|(peer, known)| (*peer, known.kind)).collect();
            assert_eq!(there, model);
        }
        let pools = platform.pools().expect("pools");
        assert_eq!(pools.swarms.used() as usize, self.torrents.len(), "swarm records in use");
        let partitions =
            (0..pools.partitions.fresh.load()).filter_map(|number| platform.partition(PartitionId::new(number)));
        let owned = partitions.filter(|partition| partition.owner.load() != 0).count();
        assert_eq!(pools.partitions.used() as usize, owned, "partitions in use");
    }

    /// Lets everybody expire and every torrent go; then no memory may be in use. Gives the second.
    ///
    /// # Panics
    /// When some is.
    pub fn end(&mut self) -> u32 {
        let evicted = self.newly_evicted();
        assert!(self.tight || evicted == 0, "{evicted} peers evicted where there is room");
        for _ in 0..400 {
            if self.torrents.is_empty() {
                break;
            }
            self.advance(100 * 60);
            self.sweep();
        }
        assert!(self.torrents.is_empty(), "{} torrents never go", self.torrents.len());
        let pools = self.tracker.platform().pools().expect("pools");
        let used = [&pools.partitions, &pools.chunks_v4, &pools.chunks_v6].map(|pool| pool.used());
        assert_eq!((pools.swarms.used(), used), (0, [0; 3]), "swarms, partitions, chunks still in use by nobody");
        self.second
    }
}
