//! How often one source may ask, on every backend.

use crate::{
    SIZES,
    backends::{Backend, Outcome, Runner, host::Host, sockets::Sockets, xdp::XdpProgram},
};
use std::net::SocketAddr;
use tracker::config::limits::RequestLimits;
use tracker_tests::{
    bep15::{self, Announce, Reply},
    decision_table::{CLIENT_MAC, Family, TRACKER_MAC},
    packet::Frame,
};

/// Requests that a source may send in a minute: so few that none is added while a test runs.
const ANNOUNCES: u32 = 3;
const SCRAPES: u32 = 2;
const CONNECTS: u32 = 4;

/// Wrong connection ids that are told of in a second.
const ERRORS: u32 = 5;

const OPTIONS: [&str; 8] =
    ["--limit-announces", "3", "--limit-scrapes", "2", "--limit-errors", "5", "--unlimited", "198.18.77.99"];

fn limits(connects: u32) -> RequestLimits {
    RequestLimits {
        per_minute: [connects, ANNOUNCES, SCRAPES],
        errors: ERRORS,
        unlimited: vec!["198.18.77.99/32".parse().expect("a network")],
        ..RequestLimits::default()
    }
}

/// Whether a request is answered, and whether with an error.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Right,
    Error,
    None,
}

fn send(backend: &mut dyn Backend, source: SocketAddr, request: Vec<u8>) -> Answer {
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, family.tracker());
    frame.payload = request;
    match backend.send(&frame, &frame.bytes()).expect("sent") {
        Outcome::Answered(reply) => match Reply::parse(&reply, source.is_ipv4()).expect("a reply") {
            Reply::Error { .. } => Answer::Error,
            Reply::Connect { .. } | Reply::Announce { .. } | Reply::Scrape { .. } => Answer::Right,
        },
        Outcome::Silence => Answer::None,
        Outcome::Unanswered(verdict) => {
            assert_eq!(verdict, tracker_tests::decision_table::Verdict::Dropped, "dropped, not passed on");
            Answer::None
        }
    }
}

/// How many of so many requests are answered as asked.
fn answered(backend: &mut dyn Backend, source: SocketAddr, request: &[u8], count: u32) -> u32 {
    (0..count).filter(|_| send(backend, source, request.to_vec()) == Answer::Right).count() as u32
}

fn sources_may_ask_so_often(backend: &mut dyn Backend) {
    let address = |family: Family, number| SocketAddr::new(family.host(number), 40_000);
    let (one, other, v6) = (address(Family::V4, 20), address(Family::V4, 21), address(Family::V6, 20));
    let unlimited = address(Family::V4, 99);
    let mut runner = Runner::new(backend);
    let ids = [one, other, v6, unlimited].map(|source| runner.connect(source).expect("connected"));
    let before = runner.counters();
    let announce = |id, port| Announce { connection_id: id, ..Announce::new([9; 20], port) }.bytes();
    let scrape = |id| bep15::scrape(id, 1, &[[9; 20]]);
    let mut refused = (0, 0);
    // Whoever invents addresses uses nobody's share up.
    for number in 0..40 {
        let told = send(backend, other, announce(ids[1] ^ 1, number));
        assert!(told != Answer::Right, "an invented id is good");
    }
    for (name, source, id, announced, scraped) in [
        ("one", one, ids[0], ANNOUNCES, SCRAPES),
        ("the same from another port", SocketAddr::new(one.ip(), 40_001), ids[0], 0, 0),
        ("another one, in whose name others have asked", other, ids[1], ANNOUNCES, SCRAPES),
        ("the same number by IPv6", v6, ids[2], ANNOUNCES, SCRAPES),
        ("another one of its network", SocketAddr::new(Family::V6.host(21), 40_000), 0, 0, 0),
        ("one for whom there is no limit", unlimited, ids[3], 30, 30),
    ] {
        let id = if id == 0 { Runner::new(backend).connect(source).expect("connected") } else { id };
        assert_eq!(answered(backend, source, &announce(id, 6881), 30), announced, "announces: {name}");
        assert_eq!(answered(backend, source, &scrape(id), 30), scraped, "scrapes: {name}");
        refused = (refused.0 + 30 - u64::from(announced), refused.1 + 30 - u64::from(scraped));
    }
    let after = backend.counters();
    let counted = |label: &str| after[label] - before[label];
    assert_eq!((counted("rate_limited_announce"), counted("rate_limited_scrape")), refused);
    assert_eq!(counted("connection_id_wrong") + counted("error_held_back"), 40);
}

/// Errors of a second, where the clock stands still.
fn errors_are_told_so_often(backend: &mut dyn Backend) {
    let before = backend.counters();
    let mut told = 0;
    for number in 0..40 {
        let source = SocketAddr::new(Family::V4.host(100 + number), 40_000);
        let request = if number % 2 == 0 { Announce::new([9; 20], 1).bytes() } else { bep15::scrape(5, 1, &[[9; 20]]) };
        told += u32::from(send(backend, source, request) == Answer::Error);
    }
    let after = backend.counters();
    assert_eq!(told, ERRORS);
    assert_eq!(after["connection_id_wrong"] - before["connection_id_wrong"], u64::from(ERRORS));
    assert_eq!(after["error_held_back"] - before["error_held_back"], u64::from(40 - ERRORS));
    // An error that somebody has asked for under his own address is not among these.
    let source = SocketAddr::new(Family::V4.host(90), 40_000);
    let connection_id = Runner::new(backend).connect(source).expect("connected");
    let no_port = Announce { connection_id, ..Announce::new([9; 20], 0) };
    assert_eq!(send(backend, source, no_port.bytes()), Answer::Error);
}

fn connects_are_answered_so_often(backend: &mut dyn Backend) {
    let source = |number| SocketAddr::new(Family::V4.host(number), 40_000);
    let before = backend.counters()["rate_limited_connect"];
    for (number, expected) in [(30, CONNECTS), (30, 0), (31, CONNECTS)] {
        assert_eq!(answered(backend, source(number), &bep15::connect(1), 10), expected);
    }
    assert_eq!(backend.counters()["rate_limited_connect"] - before, u64::from(30 - 2 * CONNECTS));
    // A minute later.
    let clock = backend.clock().expect("the settings");
    clock.second.store(clock.second.load() + 60);
    assert_eq!(answered(backend, source(30), &bep15::connect(1), 10), CONNECTS);
    // And without limits.
    RequestLimits::default().apply(backend.clock().expect("the settings"));
    assert_eq!(answered(backend, source(30), &bep15::connect(1), 10), 10);
}

fn with_the_clock(backend: &mut dyn Backend) {
    limits(0).apply(backend.clock().expect("the settings"));
    sources_may_ask_so_often(backend);
    let clock = backend.clock().expect("the settings");
    clock.second.store(clock.second.load() + 2);
    errors_are_told_so_often(backend);
    limits(CONNECTS).apply(backend.clock().expect("the settings"));
    connects_are_answered_so_often(backend);
}

#[test]
fn limits_per_source_hold_for_the_xdp_program() {
    with_the_clock(&mut XdpProgram::load(&SIZES).expect("the XDP program is loaded"));
}

#[test]
fn limits_per_source_hold_for_the_host_build() {
    with_the_clock(&mut Host::new(&SIZES));
}

#[test]
fn limits_per_source_hold_for_the_daemons_sockets() {
    sources_may_ask_so_often(&mut Sockets::with(&OPTIONS).expect("the daemon runs"));
}
