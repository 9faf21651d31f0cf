//! Blocked addresses, through the XDP program and the host build: which sources are answered, against
//! a naive search through what is blocked.

use crate::{
    SIZES,
    backends::{Backend, Outcome, host::Host, xdp::XdpProgram},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tracker::store::{Store, sizes::Sizes};
use tracker_common::admission::blocklist::{Point, other_base, words_for, write};
use tracker_tests::{
    bep15,
    decision_table::{CLIENT_MAC, Family, TRACKER_MAC, Verdict},
    packet::Frame,
};

/// Points of either version of IP.
const POINTS: usize = 3000;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    /// Half of them close together, so that searches have many steps.
    fn points(&mut self, begin: u128, width: u32) -> Vec<Point<u128>> {
        let mut points = vec![(0, 0)];
        for number in 0..POINTS as u32 - 1 {
            let bits = if number % 2 == 0 { width } else { 13 };
            let random = u128::from(self.next()) << 64 | u128::from(self.next());
            points.push((begin + (random >> (128 - bits)), (self.next() % 17) as u8));
        }
        points.sort_unstable();
        points.dedup_by_key(|(address, _)| *address);
        points
    }
}

fn list_of(points: &[Point<u128>], address: u128) -> u8 {
    points.iter().rev().find(|(from, _)| *from <= address).map_or(0, |(_, list)| *list)
}

fn sources_are_dropped_by_the_lists_in_force(backend: &mut dyn Backend, store: &Store, seed: u64) {
    let mut random = Random(seed);
    let settings = store.settings();
    let six = 0x2001_0db8 << 96;
    // Twice, so that both generations are used.
    for _ in 0..2 {
        let (v4, v6) = (random.points(10 << 24, 30), random.points(six, 96));
        let short: Vec<_> = v4.iter().map(|(address, list)| (*address as u32, *list)).collect();
        let base = other_base(settings.block_words.load(), settings.blocked.load(), v4.len(), v6.len());
        let base = base.expect("room");
        assert!(write(|number| store.block_word(number), base, &short, &v6));
        settings.blocked.store(base);
        for round in 0..1500 {
            let (points, family) = if round % 2 == 0 { (&v4, Family::V4) } else { (&v6, Family::V6) };
            // At a border, beside it, or anywhere.
            let near = points[random.next() as usize % (points.len() - 1) + 1].0;
            let address = match round % 8 {
                0 | 1 => near,
                2 | 3 => near - 1,
                4 | 5 => near + 1,
                _ if family == Family::V4 => (10 << 24) + u128::from(random.next() >> 34),
                _ => six + u128::from(random.next()),
            };
            let source: IpAddr = match family {
                Family::V4 => Ipv4Addr::from_bits(address as u32).into(),
                Family::V6 => Ipv6Addr::from_bits(address).into(),
            };
            let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, SocketAddr::new(source, 7000), family.tracker());
            frame.payload = bep15::connect(7);
            let outcome = backend.send(&frame, &frame.bytes()).expect("handled");
            let listed = list_of(points, address) != 0;
            match outcome {
                Outcome::Answered(_) => assert!(!listed, "{source} was answered"),
                Outcome::Silence | Outcome::Unanswered(Verdict::Dropped) => assert!(listed, "{source} was dropped"),
                Outcome::Unanswered(Verdict::Passed) => panic!("{source} was passed on"),
            }
        }
    }
    let counters = backend.counters();
    let answered = counters["connect_ipv4"] + counters["connect_ipv6"];
    assert!(answered > 100 && counters["blocked"] > 100, "{counters:?}");
    assert_eq!(answered + counters["blocked"], 3000);
}

#[test]
fn random_sources_are_blocked_as_a_naive_search_says() {
    let block_words = u32::try_from(words_for(POINTS, POINTS)).expect("few");
    let sizes = Sizes { block_words, ..SIZES };
    let mut host = Host::new(&sizes);
    let store = host.handle.store().clone();
    sources_are_dropped_by_the_lists_in_force(&mut host, &store, 1);
    let mut xdp = XdpProgram::load(&sizes).expect("the XDP program is loaded");
    let store = xdp.store.clone();
    sources_are_dropped_by_the_lists_in_force(&mut xdp, &store, 2);
}
