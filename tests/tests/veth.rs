//! The daemon with native XDP on one end of a veth pair, clients on the other end: real packets,
//! and counters that say who has answered them.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracker_tests::{
    bep15::{self, Announce, Counts, Event, InfoHash, Reply},
    client::{UdpClient, http_announce, http_get, http_scrape},
    namespace::{End, Pair},
    packet::{Frame, QINQ, Tag, VLAN},
    raw::RawSocket,
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 6969;

/// One test at a time: two busy clients and two trackers on the two cores of a small machine would
/// wait for each other.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tracker and a host of clients.
struct Site {
    tracker: Tracker,
    pair: Pair,
    /// How many torrents were used.
    used: Cell<u32>,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    fn new() -> Self {
        Self::with(&["--xdp-mode", "native"])
    }

    fn with(options: &[&str]) -> Self {
        let turn = turn();
        let pair = Pair::new().expect("two namespaces");
        let tracker = start(&pair, options).expect("the tracker runs");
        Self { tracker, pair, used: Cell::new(0), _turn: turn }
    }

    fn metrics(&self) -> Metrics {
        self.tracker.metrics(&self.pair.server).expect("metrics")
    }

    /// One that nobody has announced.
    fn torrent(&self) -> InfoHash {
        self.used.set(self.used.get() + 1);
        torrent(1000 + self.used.get())
    }

    fn client(&self, number: u8, ipv4: bool) -> UdpClient {
        UdpClient::connected(&self.pair.client, SocketAddr::new(client(number, ipv4), 0), server(ipv4))
            .expect("a client gets a connection id")
    }
}

fn start(pair: &Pair, options: &[&str]) -> anyhow::Result<Tracker> {
    let sizes = [
        "--max-torrents",
        "10000",
        "--max-peers",
        "300000",
        "--max-peers-per-address",
        "0",
        "--max-creations-per-address",
        "0",
    ];
    Tracker::start(&pair.server, &[&["--interface", Pair::SERVER_INTERFACE], &sizes[..], options].concat())
}

fn server(ipv4: bool) -> SocketAddr {
    let address: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
    SocketAddr::new(address, PORT)
}

fn client(number: u8, ipv4: bool) -> IpAddr {
    if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() }
}

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0x3c; 20];
    info_hash[8..12].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

/// Requests of a kind that a path has answered.
fn answered(metrics: &Metrics, path: &str, request: &str) -> u64 {
    metrics.sum("tracker_requests_answered_total", &[("path", path), ("request", request)]) as u64
}

fn rejected(metrics: &Metrics, path: &str, reason: &str) -> u64 {
    metrics.reason(path, reason)
}

/// Announces ports `ports` of a client; every `seeders`th is a seeder.
fn fill(client: &mut UdpClient, info_hash: InfoHash, ports: std::ops::RangeInclusive<u16>, seeders: u16) {
    for port in ports {
        let left = u64::from(port % seeders != 0);
        let announce = Announce { left, num_want: 0, ..Announce::new(info_hash, port) };
        client.announce(&announce).expect("answered");
    }
}

fn answers_announces_and_scrapes(site: &Site) {
    for ipv4 in [true, false] {
        let info_hash = site.torrent();
        let before = site.metrics();
        let mut expected = BTreeSet::new();
        for number in 0..Pair::CLIENTS {
            let mut one = site.client(number, ipv4);
            let announced = one.announce(&Announce::new(info_hash, 7000)).expect("answered");
            assert_eq!(announced.peers.into_iter().collect::<BTreeSet<_>>(), expected);
            assert_eq!((announced.seeders, announced.leechers), (0, u32::from(number) + 1));
            expected.insert(SocketAddr::new(client(number, ipv4), 7000));
        }
        let counts = site.client(0, ipv4).scrape(&[site.torrent(), info_hash]).expect("answered");
        let all = Counts { seeders: 0, completed: 0, leechers: Pair::CLIENTS.into() };
        assert_eq!(counts, [Counts::default(), all]);
        let after = site.metrics();
        for (request, times) in [("connect", 11), ("announce", 10), ("scrape", 1)] {
            let moved = |path| answered(&after, path, request) - answered(&before, path, request);
            assert_eq!((moved("xdp"), moved("udp_socket")), (times, 0), "{request}");
        }
    }
}

#[test]
fn announces_and_scrapes_are_answered_by_xdp() {
    answers_announces_and_scrapes(&Site::new());
}

/// A frame from a socket leaves the program little room behind it and some in front of it. What
/// fits is given, and where that would be fewer peers than a client is given by default, the
/// sockets answer.
fn replies_have_the_peers_that_are_usual(mode: &str) {
    let site = Site::with(&["--xdp-mode", mode]);
    for (ipv4, most) in [(true, 200), (false, 67)] {
        let info_hash = torrent(u32::from(ipv4));
        fill(&mut site.client(0, ipv4), info_hash, 1000..=1299, 4);
        let members: BTreeSet<_> = (1000..=1299).map(|port| SocketAddr::new(client(0, ipv4), port)).collect();
        let mut one = site.client(1, ipv4);
        for want in (0..=201).chain([1000, i32::MAX, -1, -1, -1]) {
            let before = site.metrics();
            let announce = Announce { num_want: want, ..Announce::new(info_hash, 7000) };
            let announced = one.announce(&announce).expect("answered");
            let wanted = if want < 0 { USUAL } else { most.min(want as usize) };
            let peers: BTreeSet<_> = announced.peers.iter().copied().collect();
            assert_eq!(peers.len(), announced.peers.len(), "a peer twice");
            assert!(peers.is_subset(&members), "foreign peers");
            assert!(peers.len() <= wanted && peers.len() >= wanted.min(USUAL), "{} peers of {wanted}", peers.len());
            assert_eq!((announced.seeders, announced.leechers), (75, 226));
            let after = site.metrics();
            let by = |path| answered(&after, path, "announce") - answered(&before, path, "announce");
            let given = |metrics: &Metrics| metrics.sum("tracker_peers_given_total", &[]) as usize;
            assert_eq!(given(&after) - given(&before), peers.len(), "counted are those that were given");
            assert_eq!(by("xdp") + by("udp_socket"), 1, "{want} wanted: counted once, by who has answered");
            let moved = |reason| rejected(&after, "xdp", reason) - rejected(&before, "xdp", reason);
            assert_eq!((by("udp_socket"), moved("no_room")), (by("udp_socket"), by("udp_socket")), "{want} wanted");
            let shortened = |metrics: &Metrics| metrics.sum("tracker_replies_shortened_total", &[]) as u64;
            assert_eq!(shortened(&after) - shortened(&before), u64::from(peers.len() < wanted));
        }
    }
}

/// Peers in the reply to an announce without `num_want`.
const USUAL: usize = 50;

#[test]
fn replies_have_the_peers_that_are_usual_in_native_mode() {
    replies_have_the_peers_that_are_usual("native");
}

#[test]
fn replies_have_the_peers_that_are_usual_in_generic_mode() {
    replies_have_the_peers_that_are_usual("generic");
}

#[test]
fn peers_of_private_networks_are_given_to_those_of_private_networks() {
    let site = Site::new();
    site.pair.client.ip(&format!("address add 10.9.0.2/24 dev {}", Pair::CLIENT_INTERFACE)).expect("an address");
    site.pair.server.ip(&format!("route add 10.9.0.0/24 dev {}", Pair::SERVER_INTERFACE)).expect("a route");
    let (public, private) = (client(0, true), IpAddr::from([10, 9, 0, 2]));
    let client_at = |address| {
        UdpClient::connected(&site.pair.client, SocketAddr::new(address, 0), server(true)).expect("a connection id")
    };
    for size in [2, 60] {
        let info_hash = torrent(size);
        let ports = 1000..=999 + size as u16;
        let at = |address| ports.clone().map(move |port| SocketAddr::new(address, port)).collect::<BTreeSet<_>>();
        for address in [public, private] {
            fill(&mut client_at(address), info_hash, ports.clone(), 4);
        }
        for (requester, expected) in [(public, at(public)), (private, &at(public) | &at(private))] {
            let mut one = client_at(requester);
            let own = SocketAddr::new(requester, 1000);
            let mut seen = BTreeSet::new();
            for _ in 0..20 {
                let announced = one.announce(&Announce::new(info_hash, 1000)).expect("answered");
                let given: BTreeSet<_> = announced.peers.into_iter().collect();
                assert!(given.is_subset(&expected) && !given.contains(&own), "{requester} was given {given:?}");
                assert_eq!(given.len(), (expected.len() - 1).min(USUAL), "{requester}, {size} of each");
                assert_eq!(announced.seeders + announced.leechers, 2 * size);
                seen.extend(given);
            }
            assert_eq!(seen.len(), expected.len() - 1, "{requester} sees all in the end");
        }
    }
    let metrics = site.metrics();
    assert_eq!(answered(&metrics, "udp_socket", "announce"), rejected(&metrics, "xdp", "no_room"));
    assert!(answered(&metrics, "xdp", "announce") > 100);
}

/// Requests as raw frames, as a client behind a VLAN sends them.
struct RawClient {
    socket: RawSocket,
    frame: Frame,
}

impl RawClient {
    fn new(site: &Site, ipv4: bool) -> Self {
        let socket = RawSocket::open(&site.pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
        // An address that no socket of this host has, so that nobody here says that the port is
        // closed.
        let source = SocketAddr::new(client(0, ipv4), 45_678);
        Self { socket, frame: Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, server(ipv4)) }
    }

    fn ask(&mut self, payload: Vec<u8>) -> Reply {
        self.frame.payload = payload;
        self.socket.send(&self.frame.bytes()).expect("sent");
        let answer = self.socket.receive(|datagram| datagram.destination == self.frame.source).expect("answered");
        answer.check_answers(&self.frame).expect("an answer to this request");
        Reply::parse(&answer.payload, self.frame.source.is_ipv4()).expect("a reply")
    }

    fn connect(&mut self) -> u64 {
        let reply = self.ask(bep15::connect(1));
        let Reply::Connect { transaction: 1, connection_id } = reply else { panic!("{reply:?}") };
        connection_id
    }

    fn announce(&mut self, announce: &Announce) -> Vec<SocketAddr> {
        let reply = self.ask(announce.bytes());
        let Reply::Announce { peers, .. } = reply else { panic!("{reply:?}") };
        peers
    }
}

fn answers_tagged_frames_with_their_tag(site: &Site) {
    let before = answered(&site.metrics(), "udp_socket", "announce");
    for ipv4 in [true, false] {
        let info_hash = site.torrent();
        fill(&mut site.client(1, ipv4), info_hash, 1000..=1019, 4);
        let mut one = RawClient::new(site, ipv4);
        for control in [0x0001, 0x0fff, 0x6123] {
            one.frame.tags = vec![Tag { protocol: VLAN, control }];
            let connection_id = one.connect();
            // As many as fit in front: nobody here could answer what is passed on.
            for want in [0, 1, 7, 15] {
                let announce = Announce { connection_id, num_want: want, ..Announce::new(info_hash, 7000) };
                assert_eq!(one.announce(&announce).len(), want as usize);
            }
        }
        assert_eq!(answered(&site.metrics(), "udp_socket", "announce"), before);
    }
}

#[test]
fn tagged_frames_are_answered_with_their_tag() {
    answers_tagged_frames_with_their_tag(&Site::new());
}

fn leaves_some_to_the_sockets(site: &Site) {
    let torrents = [site.torrent(), site.torrent()];
    for ipv4 in [true, false] {
        let info_hash = torrents[usize::from(ipv4)];
        let mut one = site.client(2, ipv4);
        fill(&mut one, info_hash, 1000..=1009, 4);
        let before = site.metrics();
        // More than fits into one packet: the kernel cuts it into fragments and puts them together
        // again.
        let counts = one.scrape(&[info_hash; 100]).expect("answered");
        let swarm = site.client(2, ipv4).scrape(&[info_hash]).expect("answered")[0];
        assert_eq!(counts, [swarm; 74]);
        let after = site.metrics();
        assert_eq!(answered(&after, "udp_socket", "scrape") - answered(&before, "udp_socket", "scrape"), 1);

        // Checksums that nobody finishes, as between virtual machines.
        site.pair.client_end().offload_checksums(true).expect("ethtool");
        let announced = one.announce(&Announce::new(info_hash, 7000)).expect("answered");
        assert_eq!(announced.peers.len(), 10);
        site.pair.client_end().offload_checksums(false).expect("ethtool");
        let last = site.metrics();
        assert_eq!(answered(&last, "udp_socket", "announce") - answered(&after, "udp_socket", "announce"), 1);
        assert_eq!(rejected(&last, "xdp", "checksum_wrong") - rejected(&after, "xdp", "checksum_wrong"), 1);
    }
    // Over IPv4 also with options in the header: no-operations.
    let mut one = RawClient::new(site, true);
    let connection_id = one.connect();
    one.frame.options = vec![1; 4];
    let before = site.metrics();
    let peers = one.announce(&Announce { connection_id, ..Announce::new(torrents[1], 7001) });
    let after = site.metrics();
    assert_eq!(peers.len(), 11);
    assert_eq!(answered(&after, "udp_socket", "announce") - answered(&before, "udp_socket", "announce"), 1);
    assert_eq!(rejected(&after, "xdp", "ip_options") - rejected(&before, "xdp", "ip_options"), 1);
}

#[test]
fn what_xdp_passes_on_is_answered_by_the_sockets() {
    leaves_some_to_the_sockets(&Site::new());
}

/// Frames that the kernel does not deliver are not answered, and do not stop anything.
#[test]
fn odd_frames_are_neither_answered_nor_in_the_way() {
    let site = Site::new();
    let mut one = RawClient::new(&site, true);
    let connection_id = one.connect();
    let announce = Announce { connection_id, ..Announce::new(torrent(1), 7001) };
    let right = Frame { payload: announce.bytes(), ..one.frame.clone() };
    let mut odd = vec![right; 6];
    odd[0].destination_mac = [0x02, 0, 0, 0, 0, 0x77];
    odd[1].destination = SocketAddr::new(client(9, true), PORT);
    odd[2].tags = vec![Tag { protocol: QINQ, control: 1 }, Tag { protocol: VLAN, control: 2 }];
    odd[3].fragment = 0x2000;
    odd[4].ip_checksum = tracker_tests::packet::Checksum::Wrong;
    odd[5].udp_checksum = tracker_tests::packet::Checksum::Wrong;
    for frame in &odd {
        one.socket.send(&frame.bytes()).expect("sent");
    }
    // Would any of them have been answered, it would be the first to arrive here; and the torrent
    // would be known.
    let reply = one.ask(bep15::scrape(connection_id, 0x77, &[torrent(1)]));
    assert_eq!(reply, Reply::Scrape { transaction: 0x77, torrents: vec![Counts::default()] });
}

#[test]
fn swarm_of_two_thousand_is_counted_exactly_and_given_at_random() {
    let site = Site::new();
    for ipv4 in [true, false] {
        let info_hash = torrent(u32::from(ipv4));
        for number in 0..Pair::CLIENTS {
            fill(&mut site.client(number, ipv4), info_hash, 1000..=1199, 5);
        }
        let mut seen = BTreeSet::new();
        for port in 0..100 {
            let mut one = site.client(0, ipv4);
            let announced = one.announce(&Announce::new(info_hash, 2000 + port)).expect("answered");
            assert_eq!((announced.seeders, announced.leechers), (400, 1601));
            seen.extend(announced.peers);
            let stop = Announce { event: Event::Stopped as u32, ..Announce::new(info_hash, 2000 + port) };
            assert_eq!(one.announce(&stop).expect("answered").peers, []);
        }
        // 100 announces of 50 would see 92 % of it if they were independent.
        assert!(seen.len() > 1800, "100 announces saw {} of 2000", seen.len());
        let expected = Counts { seeders: 400, completed: 0, leechers: 1600 };
        assert_eq!(site.client(3, ipv4).scrape(&[info_hash]).expect("answered"), [expected]);
        assert_eq!(http_scrape(&site.pair.client, server(ipv4), &[info_hash]).expect("answered"), [expected]);
    }
    let metrics = site.metrics();
    assert_eq!(answered(&metrics, "udp_socket", "announce"), rejected(&metrics, "xdp", "no_room"));
}

/// Announces in flight at a time: fewer than a veth's queue holds.
const IN_FLIGHT: usize = 32;

#[test]
fn hundred_thousand_announces_into_a_thousand_swarms_are_counted_exactly() {
    const TORRENTS: u32 = 1000;
    const ANNOUNCES: u32 = 100_000;
    let site = Site::new();
    let before = site.metrics();
    let mut clients: Vec<_> = (0..Pair::CLIENTS).map(|number| site.client(number, number.is_multiple_of(2))).collect();
    let mut model: Vec<BTreeMap<SocketAddr, bool>> = vec![BTreeMap::new(); TORRENTS as usize];
    let mut completed = vec![0; TORRENTS as usize];
    let mut number = 0;
    while number < ANNOUNCES {
        let client_number = (number / IN_FLIGHT as u32 % u32::from(Pair::CLIENTS)) as u8;
        let one = &mut clients[usize::from(client_number)];
        let source = client(client_number, client_number.is_multiple_of(2));
        let batch = number..ANNOUNCES.min(number + IN_FLIGHT as u32);
        for number in batch.clone() {
            // Mixed so that every swarm sees every client, and most peers come back as something
            // else.
            let mixed = number.wrapping_mul(0x9e37_79b9);
            let swarm = mixed % TORRENTS;
            let port = 1 + (mixed >> 12) as u16 % 40;
            let event = match mixed >> 20 & 7 {
                0 => Event::Stopped,
                1 => Event::Completed,
                2 => Event::Started,
                _ => Event::None,
            };
            let seeder = event == Event::Completed || mixed >> 24 & 3 == 0;
            let announce = Announce {
                connection_id: one.connection_id(),
                transaction: number,
                left: u64::from(!seeder),
                event: event as u32,
                ..Announce::new(torrent(swarm), port)
            };
            one.send(&announce.bytes()).expect("sent");
            let peers = &mut model[swarm as usize];
            let peer = SocketAddr::new(source, port);
            if event == Event::Stopped {
                peers.remove(&peer);
            } else {
                let was_seeder = peers.insert(peer, seeder).unwrap_or(false);
                completed[swarm as usize] += u32::from(event == Event::Completed && !was_seeder);
            }
        }
        let mut missing: BTreeSet<_> = batch.clone().collect();
        for _ in batch {
            let reply = one.receive().expect("no announce is lost");
            assert!(matches!(reply, Reply::Announce { .. }) && missing.remove(&reply.transaction()), "{reply:?}");
        }
        number += IN_FLIGHT as u32;
    }
    let after = site.metrics();
    let moved = |path| answered(&after, path, "announce") - answered(&before, path, "announce");
    assert_eq!(
        (moved("xdp") + moved("udp_socket"), moved("udp_socket")),
        (ANNOUNCES.into(), rejected(&after, "xdp", "no_room"))
    );
    assert_eq!(after.sum("tracker_peers_evicted_total", &[]), 0.0, "there is room for everybody");

    let expected: Vec<Counts> = model
        .iter()
        .zip(completed)
        .map(|(peers, completed)| {
            let seeders = peers.values().filter(|seeder| **seeder).count() as u32;
            Counts { seeders, completed, leechers: peers.len() as u32 - seeders }
        })
        .collect();
    let torrents: Vec<_> = (0..TORRENTS).map(torrent).collect();
    for (torrents, expected) in torrents.chunks(50).zip(expected.chunks(50)) {
        // A second completion of a peer counts only if it was not counted before, which the model
        // does not know.
        let by_udp = clients[0].scrape(torrents).expect("answered");
        let by_http = http_scrape(&site.pair.client, server(true), torrents).expect("answered");
        assert_eq!(by_udp, by_http);
        for (scraped, expected) in by_udp.iter().zip(expected) {
            assert_eq!((scraped.seeders, scraped.leechers), (expected.seeders, expected.leechers));
            assert!(scraped.completed <= expected.completed && scraped.completed > 0);
        }
    }
}

#[test]
fn peers_by_udp_and_by_http_are_one_swarm() {
    // The IPv6 addresses here are those of a private network.
    let site = Site::with(&["--xdp-mode", "native", "--give-local-peers"]);
    let info_hash = torrent(1);
    let mut expected = BTreeSet::new();
    for (number, ipv4) in [(0, true), (1, false), (2, true), (3, false)] {
        site.client(number, ipv4).announce(&Announce::new(info_hash, 7000)).expect("answered");
        expected.insert(SocketAddr::new(client(number, ipv4), 7000));
    }
    // The source address of an HTTP client is the first of the interface.
    for ipv4 in [true, false] {
        let announced =
            http_announce(&site.pair.client, server(ipv4), &Announce::new(info_hash, 8000)).expect("answered");
        let own = |peer: &&SocketAddr| peer.port() != 8000;
        let given: BTreeSet<_> = announced.peers.iter().filter(own).copied().collect();
        assert_eq!(given, expected);
        assert_eq!(announced.seeders + announced.leechers, if ipv4 { 5 } else { 6 });
    }
    let by_udp = site.client(0, true).announce(&Announce::new(info_hash, 7000)).expect("answered");
    let given: BTreeSet<_> = by_udp.peers.into_iter().map(|peer| peer.port()).collect();
    assert_eq!((given, by_udp.leechers), (BTreeSet::from([7000, 8000]), 6));
    let stop = Announce { event: Event::Stopped as u32, ..Announce::new(info_hash, 8000) };
    http_announce(&site.pair.client, server(true), &stop).expect("answered");
    http_announce(&site.pair.client, server(false), &stop).expect("answered");
    let counts = Counts { seeders: 0, completed: 0, leechers: 4 };
    assert_eq!(site.client(0, true).scrape(&[info_hash]).expect("answered"), [counts]);
}

/// The XDP programs that `ip` shows on the tracker's interface.
fn attached(pair: &Pair) -> bool {
    let output = pair.server.command("ip").args(["link", "show", Pair::SERVER_INTERFACE]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

fn ends_without_its_program(tracker: Tracker, pair: &Pair) {
    assert!(attached(pair));
    assert!(tracker.stop().expect("ends on SIGTERM").success());
    assert!(!attached(pair), "the program is still attached");
}

fn leaves_another_program_alone(pair: &Pair) {
    let end =
        End { namespace: Some(&pair.server), interface: Pair::SERVER_INTERFACE, mac: Pair::SERVER_MAC, addresses: &[] };
    let _foreign = end.pass().expect("attached");
    let error = start(pair, &["--xdp-mode", "native"]).expect_err("somebody else's program is there");
    let error = format!("{error:#}");
    assert!(error.contains("--force") && error.contains(Pair::SERVER_INTERFACE), "{error}");
    assert!(attached(pair), "somebody else's program is gone");
}

#[test]
fn program_is_detached_at_the_end_and_another_one_is_left_alone() {
    let Site { tracker, pair, _turn, .. } = Site::new();
    ends_without_its_program(tracker, &pair);
    leaves_another_program_alone(&pair);
    let tracker = start(&pair, &["--xdp-mode", "native"]).expect("nobody is in the way");
    tracker.stop().expect("ends on SIGTERM");
}

/// What depends on the kernel, in one go: each start of the daemon has all programs verified, which
/// takes long in a virtual machine.
#[test]
#[ignore = "a run of others: for the guests of `cargo xtask kernels`"]
fn clients_and_other_programs_are_served_on_this_kernel() {
    let site = Site::new();
    answers_announces_and_scrapes(&site);
    answers_tagged_frames_with_their_tag(&site);
    leaves_some_to_the_sockets(&site);
    let Site { tracker, pair, _turn, .. } = site;
    ends_without_its_program(tracker, &pair);
    leaves_another_program_alone(&pair);
}

#[test]
fn connection_ids_and_clients_survive_a_restart() {
    let state = std::env::temp_dir().join(format!("tracker-test-state-{}", std::process::id()));
    let directory = state.to_str().expect("UTF-8").to_owned();
    let options = ["--xdp-mode", "native", "--state-dir", &directory];
    let Site { tracker, pair, _turn, .. } = Site::with(&options);
    let mut one = UdpClient::connected(&pair.client, SocketAddr::new(client(0, true), 0), server(true)).expect("id");
    tracker.stop().expect("ends on SIGTERM");
    let tracker = start(&pair, &options).expect("starts again");
    one.announce(&Announce::new(torrent(1), 7000)).expect("the id is still good");
    tracker.stop().expect("ends on SIGTERM");
    std::fs::remove_dir_all(state).expect("made by the tracker");
}

#[test]
fn statistics_are_there_for_people_and_for_opentrackers_tools() {
    let site = Site::new();
    fill(&mut site.client(0, true), torrent(1), 1000..=1009, 5);
    let get = |path: &str| {
        let response = http_get(Some(&site.pair.client), server(true), path).expect("answered");
        response.text().expect("status 200")
    };
    for page in ["/", "/stats", "/stats.txt"] {
        assert!(!get(page).is_empty(), "{page}");
    }
    for mode in [
        "peer",
        "conn",
        "scrp",
        "udp4",
        "tcp4",
        "torr",
        "completed",
        "top10",
        "top100",
        "renew",
        "everything",
        "version",
        "s24s",
        "tpbs&format=txt",
        "statedump",
        "syncs",
        "numwants",
        "fscr",
        "herr",
    ] {
        assert!(!get(&format!("/stats?mode={mode}")).is_empty(), "{mode}");
    }
}
