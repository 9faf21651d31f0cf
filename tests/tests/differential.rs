//! The same random history of announces and scrapes over the wire to Debian's opentracker and to
//! this tracker, by XDP and by sockets. Both have to do what the same small model says; where they
//! differ a row of [`DECISIONS`] says so and why. A row that makes no difference any more fails.
//!
//! Debian's opentracker is built without IPv6, and for whitelists.

use fastrand::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
};
use tracker_tests::{
    bencode::Value,
    bep15::{Announce, Counts, InfoHash},
    client::{Announced, UdpClient, http_announce, http_get, http_scrape},
    namespace::Pair,
    opentracker,
    supervised::Supervised,
    temporary::Directory,
    tracker::Tracker,
};

/// What happens.
const STEPS: usize = 3000;
/// Chance.
const SEED: u64 = 0x5eed_0010;
/// Torrents; the last one is large.
const TORRENTS: usize = 6;
/// Addresses of clients, and ports at each: fewer than a tracker may bound.
const CLIENTS: u8 = 40;
const PORTS: u16 = 6;
/// So many addresses and ports there are in small torrents.
const SMALL: (u8, u16) = (10, 4);

const PORT: u16 = 6969;

/// What the two decide differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Decision {
    Itself,
    SeedersForSeeders,
    CompletedBySeeder,
    DefaultByUdp,
    LeftBeyond32Bits,
    ScrapeAsAsked,
    UnknownLeftOut,
    AsManyAsFit,
}

use Decision::{
    AsManyAsFit, CompletedBySeeder, DefaultByUdp, Itself, LeftBeyond32Bits, ScrapeAsAsked, SeedersForSeeders,
    UnknownLeftOut,
};

/// What opentracker does, and why this tracker does not. docs/architecture.md has the same table.
const DECISIONS: [(Decision, &str, &str); 8] = [
    (Itself, "tells a peer of itself", "it cannot connect to itself, and the place is another's"),
    (SeedersForSeeders, "tells seeders of seeders", "they have nothing to give each other"),
    (
        CompletedBySeeder,
        "counts `completed` of a known peer that was a seeder already",
        "a download is counted once, when a peer becomes a seeder",
    ),
    (LeftBeyond32Bits, "reads 32 bits of `left` by HTTP", "a peer that lacks 4 GiB would be a seeder"),
    (
        ScrapeAsAsked,
        "answers a scrape by HTTP in the order it was asked in, and repeats what is repeated",
        "keys of a bencoded dictionary are sorted and unique (BEP 3)",
    ),
    (
        AsManyAsFit,
        "gives as many peers as are wanted, whatever the packet has room for",
        "a reply by XDP is as long as the driver has room for, and not below --default-numwant",
    ),
    (UnknownLeftOut, "leaves unknown torrents out of a scrape by HTTP", "they have zeros, as by UDP"),
    (DefaultByUdp, "gives 200 peers by UDP to who does not say how many", "--default-numwant holds for both"),
];

/// One step of the history.
#[derive(Clone, Debug)]
enum Step {
    Announce { http: bool, torrent: usize, client: u8, port: u16, left: u64, event: u32, wanted: i32 },
    Scrape { http: bool, torrents: Vec<usize> },
}

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

fn history() -> Vec<Step> {
    let mut random = Rng::with_seed(SEED);
    let step = |random: &mut Rng| {
        let http = random.usize(..5) == 0;
        if random.usize(..8) == 0 {
            let count = 1 + random.usize(..TORRENTS + 1);
            let mut torrents: Vec<_> = (0..count).map(|_| random.usize(..TORRENTS + 1)).collect();
            if http {
                // Else opentracker's reply is no bencode: see `Decision::ScrapeAsAsked`.
                torrents.sort_unstable();
                torrents.dedup();
            }
            return Step::Scrape { http, torrents };
        }
        let torrent = if random.usize(..3) == 0 { TORRENTS - 1 } else { random.usize(..TORRENTS - 1) };
        let (clients, ports) = if torrent == TORRENTS - 1 { (CLIENTS, PORTS) } else { SMALL };
        Step::Announce {
            http,
            torrent,
            // A connection by TCP comes from the first address.
            client: if http { 0 } else { random.u8(..clients) },
            port: 7000 + random.u16(..ports),
            left: pick(random, &[0, 1, 1 << 40]),
            event: pick(random, &[0, 0, 0, 2, 2, 1, 1, 3]),
            wanted: pick(random, &[-1, -1, 0, 1, 7, 50, 199, 200, 300]),
        }
    };
    (0..STEPS).map(|_| step(&mut random)).collect()
}

fn torrent(number: usize) -> InfoHash {
    let mut info_hash = [0xd1; 20];
    info_hash[7] = number as u8;
    info_hash
}

/// A peer in the model.
#[derive(Clone, Copy, Debug)]
struct Known {
    seeder: bool,
    completed: bool,
}

/// What has to come of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Announce { seeders: u32, leechers: u32, count: usize, among: BTreeSet<SocketAddr> },
    Scrape(Vec<Counts>),
}

/// What a tracker has to do: like opentracker, but for the decisions that are this tracker's own.
#[derive(Default)]
struct Model {
    ours: bool,
    torrents: BTreeMap<usize, (BTreeMap<SocketAddr, Known>, u32)>,
    /// How often a decision has come to something else than opentracker's.
    decided: BTreeMap<Decision, u32>,
}

impl Model {
    /// This tracker's choice where the two differ, and that they do is noted.
    fn decide<T: PartialEq>(&mut self, decision: Decision, theirs: T, ours: T) -> T {
        if theirs != ours {
            *self.decided.entry(decision).or_default() += 1;
        }
        if self.ours { ours } else { theirs }
    }

    fn expect(&mut self, step: &Step) -> Expected {
        match step {
            Step::Scrape { torrents, .. } => {
                Expected::Scrape(torrents.iter().map(|torrent| self.counts(*torrent)).collect())
            }
            Step::Announce { http, torrent, client, port, left, event, wanted } => {
                let peer = SocketAddr::new(address(*client).into(), *port);
                let leaves = *event == 3;
                let seeder = *left == 0;
                let seeder = if *http { self.decide(LeftBeyond32Bits, left % (1 << 32) == 0, seeder) } else { seeder };
                if leaves {
                    if let Some((peers, _)) = self.torrents.get_mut(torrent) {
                        peers.remove(&peer);
                    }
                } else {
                    self.store(*torrent, peer, seeder, *event == 1);
                }
                let Counts { seeders, leechers, .. } = self.counts(*torrent);
                let (count, among) =
                    if leaves { (0, BTreeSet::new()) } else { self.given(*torrent, peer, seeder, (*wanted, *http)) };
                Expected::Announce { seeders, leechers, count, among }
            }
        }
    }

    fn store(&mut self, torrent: usize, peer: SocketAddr, seeder: bool, completes: bool) {
        let before = self.torrents.entry(torrent).or_default().0.get(&peer).copied();
        let counted = before.is_some_and(|known| known.completed);
        let mut counts = completes && seeder && !counted;
        if counts && before.is_some_and(|known| known.seeder) {
            counts = self.decide(CompletedBySeeder, true, false);
        }
        let (peers, completed) = self.torrents.entry(torrent).or_default();
        *completed += u32::from(counts);
        peers.insert(peer, Known { seeder, completed: counted || counts });
    }

    /// How many peers are given, and among which.
    fn given(
        &mut self,
        torrent: usize,
        asker: SocketAddr,
        seeder: bool,
        (wanted, http): (i32, bool),
    ) -> (usize, BTreeSet<SocketAddr>) {
        let peers = self.torrents[&torrent].0.clone();
        let wanted = match usize::try_from(wanted) {
            Ok(wanted) => wanted.min(200),
            Err(_) if http => 50,
            Err(_) => self.decide(DefaultByUdp, 200, 50),
        };
        let among = |itself, seeders: bool| -> BTreeSet<_> {
            let eligible = |(peer, known): &(&SocketAddr, &Known)| {
                (itself || **peer != asker) && (seeders || !seeder || !known.seeder)
            };
            peers.iter().filter(eligible).map(|(peer, _)| *peer).collect()
        };
        let all = among(true, true);
        let without = self.decide(Itself, all, among(false, true));
        let others = without.iter().filter(|peer| **peer != asker);
        let leechers: BTreeSet<_> =
            without.iter().filter(|peer| !seeder || **peer != asker && !peers[*peer].seeder).copied().collect();
        let differ = seeder && others.count() > leechers.len();
        let among = if differ { self.decide(SeedersForSeeders, without, leechers) } else { without };
        (wanted.min(among.len()), among)
    }

    fn counts(&self, torrent: usize) -> Counts {
        let Some((peers, completed)) = self.torrents.get(&torrent) else { return Counts::default() };
        let count = |seeder| peers.values().filter(|known| known.seeder == seeder).count() as u32;
        Counts { seeders: count(true), completed: *completed, leechers: count(false) }
    }
}

fn address(client: u8) -> Ipv4Addr {
    Pair::client_v4(client)
}

/// A tracker, and clients that talk to it.
struct Site<T> {
    name: &'static str,
    model: Model,
    by_xdp: bool,
    clients: BTreeMap<u8, UdpClient>,
    _tracker: T,
    pair: Pair,
}

fn server() -> SocketAddr {
    SocketAddr::new(Pair::SERVER_V4.into(), PORT)
}

impl<T> Site<T> {
    fn new(name: &'static str, ours: bool, start: impl FnOnce(&Pair) -> T) -> Self {
        let pair = Pair::new().expect("two namespaces");
        for client in Pair::CLIENTS..CLIENTS {
            let add = format!("address add {}/24 dev {}", address(client), Pair::CLIENT_INTERFACE);
            pair.client.ip(&add).expect("one address more");
        }
        let tracker = start(&pair);
        Self {
            name,
            model: Model { ours, ..Model::default() },
            by_xdp: name.ends_with("XDP"),
            clients: BTreeMap::new(),
            _tracker: tracker,
            pair,
        }
    }

    fn client(&mut self, number: u8) -> &mut UdpClient {
        let Self { clients, pair, .. } = self;
        clients.entry(number).or_insert_with(|| {
            UdpClient::connected(&pair.client, SocketAddr::new(address(number).into(), 0), server())
                .expect("a connection id")
        })
    }

    /// Lets a step happen, and says what is not as expected.
    fn take(&mut self, step: &Step) -> Result<(), String> {
        let expected = self.model.expect(step);
        match (step, &expected) {
            (Step::Scrape { http, torrents }, expected) => {
                let Expected::Scrape(counts) = expected else { unreachable!("a scrape") };
                let torrents: Vec<_> = torrents.iter().map(|number| torrent(*number)).collect();
                let told = self.scrape(*http, &torrents)?;
                if told == *counts { Ok(()) } else { Err(format!("{}: {told:?} instead of {counts:?}", self.name)) }
            }
            (Step::Announce { http, torrent: number, client, port, left, event, wanted }, expected) => {
                let Expected::Announce { seeders, leechers, count, among } = expected else {
                    unreachable!("an announce")
                };
                let announce = Announce {
                    left: *left,
                    event: *event,
                    num_want: *wanted,
                    ..Announce::new(torrent(*number), *port)
                };
                let told = self.announce(*http, *client, &announce)?;
                let given: BTreeSet<_> = told.peers.iter().copied().collect();
                if (told.seeders, told.leechers) != (*seeders, *leechers) {
                    return Err(format!("{}: {told:?}; expected {seeders} and {leechers}", self.name));
                }
                let mut count = *count;
                if self.by_xdp && !http && (50..count).contains(&given.len()) {
                    *self.model.decided.entry(AsManyAsFit).or_default() += 1;
                    count = given.len();
                }
                let right = given.len() == count && told.peers.len() == count && given.is_subset(among);
                if right { Ok(()) } else { Err(format!("{}: {told:?}; expected {count} of {among:?}", self.name)) }
            }
        }
    }

    fn scrape(&mut self, http: bool, torrents: &[InfoHash]) -> Result<Vec<Counts>, String> {
        let counts =
            if http { http_scrape(&self.pair.client, server(), torrents) } else { self.client(0).scrape(torrents) };
        counts.map_err(|error| format!("{}: {error:#}", self.name))
    }

    /// What an HTTP scrape of these torrents says; `None` if it is no bencode.
    fn raw_scrape(&self, torrents: &[usize]) -> Option<Value> {
        let mut path = "/scrape?".to_owned();
        for number in torrents {
            path += "info_hash=";
            torrent(*number).iter().for_each(|byte| write!(path, "%{byte:02x}").expect("a string"));
            path += "&";
        }
        Value::parse(&http_get(Some(&self.pair.client), server(), &path).expect("answered").body).ok()
    }

    /// Decisions that no step of the history can take without an unreadable reply.
    fn decides(&self) -> [(Decision, bool); 2] {
        let unknown = self.raw_scrape(&[TORRENTS + 1]).expect("bencode");
        let Some(Value::Dictionary(files)) = unknown.get("files") else { panic!("no files in {unknown:?}") };
        [(ScrapeAsAsked, self.raw_scrape(&[1, 0, 1]).is_none()), (UnknownLeftOut, files.is_empty())]
    }

    fn announce(&mut self, http: bool, client: u8, announce: &Announce) -> Result<Announced, String> {
        let announced = if http {
            http_announce(&self.pair.client, server(), announce)
        } else {
            self.client(client).announce(announce)
        };
        announced.map_err(|error| format!("{}: {error:#}", self.name))
    }
}

/// opentracker, which serves the torrents of this test, and one more.
fn opentracker(pair: &Pair) -> (Supervised, Directory) {
    let torrents: Vec<_> = (0..=TORRENTS + 1).map(torrent).filter(|other| *other != torrent(TORRENTS)).collect();
    let torrents = [torrents, vec![torrent(TORRENTS)]].concat();
    opentracker::start((pair, server().port()), "differential", &torrents, "").expect("opentracker runs")
}

fn tracker(pair: &Pair, mode: &str) -> Tracker {
    let options = ["--xdp-mode", mode, "--interface", Pair::SERVER_INTERFACE, "--max-torrents", "1000"];
    Tracker::start(&pair.server, &options).expect("the tracker runs")
}

#[test]
fn every_difference_from_opentracker_is_a_decision() {
    let mut other = Site::new("opentracker", false, opentracker);
    let mut xdp = Site::new("tracker, XDP", true, |pair| tracker(pair, "native"));
    let mut sockets = Site::new("tracker, sockets", true, |pair| tracker(pair, "off"));
    for (number, step) in history().iter().enumerate() {
        let wrong: Vec<_> =
            [other.take(step), xdp.take(step), sockets.take(step)].into_iter().filter_map(Result::err).collect();
        assert!(wrong.is_empty(), "step {number}, {step:?}:\n{}", wrong.join("\n"));
    }
    assert_eq!(xdp.decides(), sockets.decides());
    for ((decision, theirs), (_, ours)) in other.decides().into_iter().zip(xdp.decides()) {
        assert!(!ours, "{decision:?}: this tracker does it, too");
        *xdp.model.decided.entry(decision).or_default() += u32::from(theirs);
    }
    for (decision, does, why) in DECISIONS {
        let decided = xdp.model.decided.get(&decision).copied().unwrap_or(0);
        println!("{decided} times: opentracker {does}; not so this tracker: {why}");
        assert!(decided > 0, "{decision:?} makes no difference any more: opentracker {does}");
    }
}
