//! Who may stop a peer, and have its download counted, on every backend: whoever has its key.

use crate::{
    SIZES,
    backends::{Backend, Runner, host::Host, sockets::Sockets, xdp::XdpProgram},
};
use std::net::SocketAddr;
use tracker_tests::{
    bep15::{Announce, Counts, Event, Reply, scrape},
    decision_table::Family,
};

/// Keys of a user, of somebody behind the same address, and of a client that says none.
const OWN: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const ANOTHER: [u8; 4] = [0x55, 0x66, 0x77, 0x88];
const NONE: [u8; 4] = [0; 4];

const SEEDER: u64 = 0;
const LEECHER: u64 = 9;

/// What is announced, one after the other; minutes before it, and then: seeders, leechers and downloads.
type Steps = &'static [(u32, [u8; 4], Event, u64, [u32; 3])];

/// Names, and steps of one peer beside five others in a torrent of its own.
const ROWS: [(&str, Steps); 9] = [
    (
        "its owner stops it",
        &[(0, OWN, Event::Started, LEECHER, [0, 1, 0]), (0, OWN, Event::Stopped, LEECHER, [0, 0, 0])],
    ),
    (
        "its owner completes it",
        &[(0, OWN, Event::Started, LEECHER, [0, 1, 0]), (0, OWN, Event::Completed, SEEDER, [1, 0, 1])],
    ),
    (
        "another one does not stop it, and not by guessing on",
        &[
            (0, OWN, Event::Started, LEECHER, [0, 1, 0]),
            (0, ANOTHER, Event::Stopped, LEECHER, [0, 1, 0]),
            (0, NONE, Event::Stopped, LEECHER, [0, 1, 0]),
            (0, OWN, Event::Stopped, LEECHER, [0, 1, 0]),
            (0, OWN, Event::None, LEECHER, [0, 1, 0]),
            (0, OWN, Event::Stopped, LEECHER, [0, 1, 0]),
        ],
    ),
    (
        "another one does not have its download counted",
        &[(0, OWN, Event::Started, LEECHER, [0, 1, 0]), (0, ANOTHER, Event::Completed, SEEDER, [1, 0, 0])],
    ),
    (
        "who sends no key may do everything that he may alone",
        &[
            (0, NONE, Event::Started, LEECHER, [0, 1, 0]),
            (0, NONE, Event::Completed, SEEDER, [1, 0, 1]),
            (0, NONE, Event::Stopped, SEEDER, [0, 0, 1]),
        ],
    ),
    (
        "a peer of nobody becomes that of the first key",
        &[
            (0, NONE, Event::Started, LEECHER, [0, 1, 0]),
            (0, OWN, Event::None, LEECHER, [0, 1, 0]),
            (0, ANOTHER, Event::Stopped, LEECHER, [0, 1, 0]),
        ],
    ),
    (
        "a client that was started anew is its own with its next announce",
        &[
            (0, OWN, Event::Started, LEECHER, [0, 1, 0]),
            (1, ANOTHER, Event::Started, LEECHER, [0, 1, 0]),
            (27, ANOTHER, Event::Completed, SEEDER, [1, 0, 1]),
            (1, ANOTHER, Event::Stopped, SEEDER, [0, 0, 1]),
        ],
    ),
    (
        "nobody takes over a peer that goes on announcing",
        &[
            (0, OWN, Event::Started, LEECHER, [0, 1, 0]),
            (20, ANOTHER, Event::None, LEECHER, [0, 1, 0]),
            (10, OWN, Event::None, LEECHER, [0, 1, 0]),
            (20, ANOTHER, Event::None, LEECHER, [0, 1, 0]),
            (0, ANOTHER, Event::Stopped, LEECHER, [0, 1, 0]),
        ],
    ),
    (
        "a contested peer is its owner's again with his next announce",
        &[
            (0, OWN, Event::Started, LEECHER, [0, 1, 0]),
            (1, ANOTHER, Event::Stopped, LEECHER, [0, 1, 0]),
            (28, OWN, Event::None, LEECHER, [0, 1, 0]),
            (0, OWN, Event::Stopped, LEECHER, [0, 0, 0]),
        ],
    ),
];

/// Runs the rows in torrents that have so many other peers, which decide where a peer is kept.
fn rows(backend: &mut dyn Backend, others: u16) {
    for (number, (name, steps)) in (0..).zip(ROWS) {
        for (family, kind) in [(Family::V4, 1), (Family::V6, 2)] {
            run(backend, name, steps, family, others, [number, kind, others as u8, (others >> 8) as u8]);
        }
    }
}

fn run(backend: &mut dyn Backend, name: &str, steps: Steps, family: Family, others: u16, mark: [u8; 4]) {
    let has_clock = backend.clock().is_some();
    if !has_clock && steps.iter().any(|step| step.0 != 0) {
        return;
    }
    let mut info_hash = [0x4b; 20];
    info_hash[..4].copy_from_slice(&mark);
    let source = SocketAddr::new(family.host(60), 40_000);
    let ask = |backend: &mut dyn Backend, announce: &Announce| {
        let mut runner = Runner::new(backend);
        let connection_id = runner.connect(source).expect("connected");
        let reply = runner.ask(source, Announce { connection_id, num_want: 0, ..announce.clone() }.bytes());
        assert!(matches!(reply, Ok(Reply::Announce { .. })), "{name}: {reply:?}");
        let reply = runner.ask(source, scrape(connection_id, 7, &[info_hash])).expect("answered");
        let Reply::Scrape { torrents, .. } = reply else { panic!("{name}: {reply:?}") };
        torrents[0]
    };
    for port in 1..=others {
        ask(backend, &Announce { left: LEECHER, ..Announce::new(info_hash, 1000 + port) });
    }
    for (step, (minutes, key, event, left, [seeders, leechers, completed])) in steps.iter().enumerate() {
        if let Some(clock) = backend.clock() {
            clock.second.store(clock.second.load() + minutes * 60);
            clock.minute.store(clock.second.load() / 60);
        }
        let announce = Announce { key: *key, event: *event as u32, left: *left, ..Announce::new(info_hash, 6881) };
        let counts = ask(backend, &announce);
        let expected = Counts { seeders: *seeders, completed: *completed, leechers: leechers + u32::from(others) };
        assert_eq!(counts, expected, "{name}: step {step}, {family:?}, {others} others");
    }
}

/// In the record, in a list, and in partitions.
const OTHERS: [u16; 3] = [0, 20, 400];

#[test]
fn peers_are_stopped_and_counted_by_their_owners_in_the_xdp_program() {
    let mut backend = XdpProgram::load(&SIZES).expect("the XDP program is loaded");
    OTHERS.into_iter().for_each(|others| rows(&mut backend, others));
}

#[test]
fn peers_are_stopped_and_counted_by_their_owners_in_the_host_build() {
    let mut backend = Host::new(&SIZES);
    OTHERS.into_iter().for_each(|others| rows(&mut backend, others));
    let wrong = backend.counters()["peer_key_wrong"];
    assert!(wrong > 0, "what is not taken is counted");
}

#[test]
fn peers_are_stopped_and_counted_by_their_owners_by_the_daemons_sockets() {
    rows(&mut Sockets::new().expect("the daemon runs"), 3);
}
