//! Every row of the decision table, on every backend; and all backends have to give the same
//! answers, to the rows as well as to whatever else may come.

mod backends;
#[path = "conformance/blocked.rs"]
mod blocked;
#[path = "conformance/card.rs"]
mod card;
#[path = "conformance/fairness.rs"]
mod fairness;
#[path = "conformance/keys.rs"]
mod keys;
#[path = "conformance/limits.rs"]
mod limits;

use backends::{Backend, Outcome, Runner, host::Host, sockets::Sockets, xdp::XdpProgram};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};
use tracker::store::sizes::Sizes;
use tracker_tests::{
    bep15::{self, Announce, Counts, Reply},
    decision_table::{self, CLIENT_MAC, Family, TRACKER_MAC},
    packet::Frame,
};

/// Enough for all rows.
const SIZES: Sizes = Sizes {
    index_buckets: 128,
    swarms: 2000,
    partitions: 1000,
    chunks_v4: 4000,
    chunks_v6: 4000,
    access_buckets: 16,
    block_words: 1,
};

/// The answers to the rows that hold on every backend, by the rows' names.
type Answers = BTreeMap<String, String>;

fn run(mut backend: impl Backend) -> Answers {
    Runner::new(&mut backend).run(&decision_table::all())
}

fn through_xdp() -> Answers {
    run(XdpProgram::load(&SIZES).expect("the XDP program is loaded"))
}

fn through_sockets() -> Answers {
    run(Sockets::new().expect("the daemon runs"))
}

fn through_host_build() -> Answers {
    run(Host::new(&SIZES))
}

#[test]
fn rows_hold_for_the_xdp_program() {
    through_xdp();
}

#[test]
fn rows_hold_for_the_daemons_sockets() {
    through_sockets();
}

#[test]
fn rows_hold_for_the_host_build() {
    through_host_build();
}

#[test]
fn all_backends_give_the_same_answers() {
    let (host, sockets, xdp) = (through_host_build(), through_sockets(), through_xdp());
    assert_eq!(host, sockets);
    let left_to_sockets: Vec<_> =
        decision_table::all().into_iter().filter(|row| row.left_to_sockets.is_some()).map(|row| row.name).collect();
    for (name, answer) in host.iter().filter(|(name, _)| !left_to_sockets.contains(name)) {
        assert_eq!(xdp.get(name), Some(answer), "{name}");
    }
}

/// More peers than there is room for, and not so many of one IPv6 /64 that they are refused.
const MANY: u16 = 105;

/// A tracker with room for one torrent and very few peers.
fn full(backend: &mut dyn Backend) {
    let mut runner = Runner::new(backend);
    for family in Family::BOTH {
        let host = |number| SocketAddr::new(family.host(number), 40_000);
        let mut announce = Announce::new([7; 20], 1);
        for number in 2..=MANY {
            announce.connection_id = runner.connect(host(number)).expect("connected");
            let reply = runner.ask(host(number), announce.bytes()).expect("answered");
            assert!(matches!(reply, Reply::Announce { .. }), "{reply:?}");
        }
        let other = Announce { info_hash: [8; 20], ..announce.clone() };
        let reply = runner.ask(host(MANY), other.bytes()).expect("answered");
        assert_eq!(reply, Reply::Error { transaction: 0, message: "Tracker is full".to_owned() });

        // Those that came last are there, and counted exactly.
        let scrape = bep15::scrape(announce.connection_id, 0, &[announce.info_hash, other.info_hash]);
        let Reply::Scrape { torrents, .. } = runner.ask(host(MANY), scrape).expect("answered") else {
            panic!("no reply to a scrape")
        };
        announce.num_want = 74;
        let Reply::Announce { leechers, peers, .. } = runner.ask(host(MANY), announce.bytes()).expect("answered")
        else {
            panic!("no reply to an announce")
        };
        assert_eq!(torrents, [Counts { leechers, ..Counts::default() }, Counts::default()]);
        assert!(
            (3..2 * u32::from(MANY)).contains(&leechers) && !peers.is_empty(),
            "{leechers} peers, {} of them given",
            peers.len()
        );
    }
    let counters = runner.counters();
    assert!(counters["peer_evicted"] > 0 && counters["torrents_full"] == 2, "{counters:?}");
}

#[test]
fn full_tracker_refuses_torrents_and_replaces_peers() {
    let sizes = Sizes {
        index_buckets: 16,
        swarms: 1,
        partitions: 4,
        chunks_v4: 3,
        chunks_v6: 3,
        access_buckets: 1,
        block_words: 1,
    };
    full(&mut Host::new(&sizes));
    full(&mut XdpProgram::load(&sizes).expect("the XDP program is loaded"));
}

/// A datagram that is a request, or has been one.
#[derive(Clone, Debug)]
struct Datagram {
    ipv6: bool,
    host: u16,
    right_id: bool,
    kind: Kind,
    damage: Damage,
}

#[derive(Clone, Debug)]
enum Kind {
    Connect,
    Announce { torrent: u8, port: u16, left: u64, event: u32, num_want: i32 },
    Scrape(Vec<u8>),
    Other(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Damage {
    None,
    Cut(usize),
    Longer(Vec<u8>),
    Changed(usize, u8),
}

fn datagrams() -> impl Strategy<Value = Datagram> {
    let announce = (0..4_u8, 0..6_u16, prop_oneof![Just(0), Just(1), any::<u64>()], 0..6_u32, -2..70_i32);
    let kind = prop_oneof![
        1 => Just(Kind::Connect),
        8 => announce.prop_map(|(torrent, port, left, event, num_want)| Kind::Announce { torrent, port, left, event, num_want }),
        3 => prop::collection::vec(0..6_u8, 0..76).prop_map(Kind::Scrape),
        1 => prop::collection::vec(any::<u8>(), 0..120).prop_map(Kind::Other),
    ];
    let damage = prop_oneof![
        6 => Just(Damage::None),
        1 => (1..60_usize).prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..300).prop_map(Damage::Longer),
        2 => (0..100_usize, 1..=255_u8).prop_map(|(at, by)| Damage::Changed(at, by)),
    ];
    (any::<bool>(), 2..6_u16, prop::bool::weighted(0.9), kind, damage)
        .prop_map(|(ipv6, host, right_id, kind, damage)| Datagram { ipv6, host, right_id, kind, damage })
}

impl Datagram {
    /// The frame, with torrents that no other case has.
    fn frame(&self, case: u32, ids: &BTreeMap<(bool, u16), u64>) -> Frame {
        let torrent = |number: u8| {
            let mut info_hash = [number; 20];
            info_hash[..4].copy_from_slice(&case.to_be_bytes());
            info_hash
        };
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        let source = SocketAddr::new(family.host(self.host), 40_000);
        let id = ids[&(self.ipv6, self.host)] ^ u64::from(!self.right_id);
        let mut payload = match &self.kind {
            Kind::Connect => bep15::connect(5),
            Kind::Announce { torrent: number, port, left, event, num_want } => {
                let announce = Announce {
                    connection_id: id,
                    left: *left,
                    event: *event,
                    num_want: *num_want,
                    ..Announce::new(torrent(*number), *port)
                };
                announce.bytes()
            }
            Kind::Scrape(torrents) => {
                let torrents: Vec<_> = torrents.iter().copied().map(torrent).collect();
                bep15::scrape(id, 6, &torrents)
            }
            Kind::Other(bytes) => bytes.clone(),
        };
        match &self.damage {
            Damage::None => {}
            Damage::Cut(by) => payload.truncate(payload.len().saturating_sub(*by)),
            Damage::Longer(bytes) => payload.extend(bytes),
            Damage::Changed(at, by) => {
                if let Some(byte) = payload.get_mut(*at) {
                    *byte ^= by;
                }
            }
        }
        let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, family.tracker());
        frame.payload = payload;
        frame
    }
}

/// A reply without its random parts. Which peers are given is random only if there are more than
/// were wanted; of those here there are never more than 50.
fn normal(reply: &[u8], ipv4: bool, wanted: i32) -> Reply {
    let mut reply = Reply::parse(reply, ipv4).expect("a reply");
    if let Reply::Announce { interval, peers, .. } = &mut reply {
        assert!(decision_table::INTERVAL.contains(&i64::from(*interval)), "interval {interval}");
        *interval = 0;
        let unique: BTreeSet<_> = peers.iter().copied().collect();
        assert_eq!(unique.len(), peers.len(), "a peer twice");
        peers.sort_unstable();
        if usize::try_from(wanted) == Ok(peers.len()) {
            let nobody = peers.first().map(|_| SocketAddr::from(([0; 4], 0)));
            peers.fill(nobody.unwrap_or(SocketAddr::from(([0; 4], 0))));
        }
    }
    reply
}

#[test]
fn random_datagrams_are_answered_alike_by_xdp_and_the_host_build() {
    let sizes = Sizes { index_buckets: 2048, swarms: 50_000, ..SIZES };
    let mut host = Host::new(&sizes);
    let xdp = RefCell::new(XdpProgram::load(&sizes).expect("the XDP program is loaded"));
    // Both have the same keys and the same clock, so an id of one is an id of the other.
    let mut ids = BTreeMap::new();
    let mut runner = Runner::new(&mut host);
    for (family, ipv6) in [(Family::V4, false), (Family::V6, true)] {
        for number in 2..6 {
            let id = runner.connect(SocketAddr::new(family.host(number), 40_000)).expect("connected");
            ids.insert((ipv6, number), id);
        }
    }
    let (host, case) = (RefCell::new(host), Cell::new(0));
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(datagrams(), 1..150), |datagrams| {
        case.set(case.get() + 1);
        let (mut host, mut xdp) = (host.borrow_mut(), xdp.borrow_mut());
        for datagram in datagrams {
            let frame = datagram.frame(case.get(), &ids);
            let word = frame.payload.get(92..96);
            let wanted = word.map_or(-1, |word| i32::from_be_bytes(word.try_into().expect("4 bytes")));
            let ipv4 = frame.source.is_ipv4();
            match (host.send(&frame, &[]), xdp.send(&frame, &frame.bytes())) {
                (Ok(Outcome::Answered(host)), Ok(Outcome::Answered(xdp))) => {
                    prop_assert_eq!(normal(&host, ipv4, wanted), normal(&xdp, ipv4, wanted), "{:?}", datagram);
                }
                (Ok(Outcome::Silence), Ok(Outcome::Unanswered(_))) => {}
                // Too long for the program; that it leaves the answer to the sockets changes what
                // is stored.
                (Ok(Outcome::Answered(_)), Ok(Outcome::Unanswered(_))) if frame.payload.len() > 1496 => break,
                (host, xdp) => prop_assert!(false, "{:?}: {:?} and {:?}", datagram, host, xdp),
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
