//! The program for network cards in front of the one in the driver: together they answer as the one
//! in the driver does alone.

use crate::{
    SIZES,
    backends::{Backend, Outcome, Runner, both::Both, xdp::XdpProgram},
};
use std::net::SocketAddr;
use tracker::store::sizes::Sizes;
use tracker_common::{
    admission::blocklist::{other_base, words_for, write},
    limits::table::Kind,
};
use tracker_tests::{
    bep15,
    decision_table::{self, CLIENT_MAC, Family, TRACKER_MAC, Verdict},
    packet::Frame,
};

#[test]
fn both_programs_together_answer_as_the_drivers_does_alone() {
    let mut alone = XdpProgram::load(&SIZES).expect("the XDP program is loaded");
    let mut both = Both::load(&SIZES).expect("both programs are loaded");
    let rows = decision_table::all();
    let expected = Runner::new(&mut alone).run(&rows);
    let answers = Runner::new(&mut both).run(&rows);
    assert_eq!(answers, expected);
    assert!(both.done.iter().all(|done| *done > 10), "the card has answered, dropped, passed on: {:?}", both.done);
}

fn connect(both: &mut Both, source: SocketAddr) -> Outcome {
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, family.tracker());
    frame.payload = bep15::connect(7);
    both.send(&frame, &frame.bytes()).expect("no more than that")
}

#[test]
fn addresses_that_are_blocked_alone_are_dropped_in_the_card() {
    let mut both =
        Both::load(&Sizes { block_words: words_for(8, 8) as u32, ..SIZES }).expect("both programs are loaded");
    let settings = both.driver.store.settings();
    let at = |last: u32| u32::from_be_bytes([10, 1, 2, 0]) + last;
    // 10.1.2.3 alone; 10.1.2.8 and .9; 10.1.2.11 on one list and .12 on another.
    let points = [(0, 0), (at(3), 1), (at(4), 0), (at(8), 1), (at(10), 0), (at(11), 1), (at(12), 2), (at(13), 0)];
    let base = other_base(settings.block_words.load(), 0, points.len(), 0).expect("room");
    assert!(write(|number| both.driver.store.block_word(number), base, &points, &[]));
    settings.blocked.store(base);
    both.blocked.follow(&both.driver.store.clone());
    assert_eq!(both.blocked.addresses, [at(3).swap_bytes()]);
    // (address, dropped by the card, dropped by the driver)
    for (last, card, driver) in [(2, 0, 0), (3, 1, 1), (4, 0, 0)] {
        let before = both.done;
        let source = SocketAddr::new(std::net::Ipv4Addr::from(at(last)).into(), 40_000);
        let outcome = connect(&mut both, source);
        let dropped = u64::from(matches!(outcome, Outcome::Unanswered(Verdict::Dropped)));
        assert_eq!((both.done[1] - before[1], dropped), (card, driver), "{source}: {outcome:?}");
    }
    // Not any more.
    both.driver.store.settings().blocked.store(0);
    both.blocked.follow(&both.driver.store.clone());
    let outcome = connect(&mut both, SocketAddr::new(std::net::Ipv4Addr::from(at(3)).into(), 40_000));
    assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
}

#[test]
fn a_card_answers_no_connects_that_it_could_not_count() {
    let mut both = Both::load(&SIZES).expect("both programs are loaded");
    for family in Family::BOTH {
        let source = SocketAddr::new(family.host(77), 40_000);
        for (limits, answered) in [(0, 1), (Kind::Connect.bit(), 0), (Kind::Announce.bit(), 1)] {
            both.driver.store.settings().limits.store(limits);
            let before = both.done[0];
            connect(&mut both, source);
            assert_eq!(both.done[0] - before, answered, "{family:?}, {limits}");
        }
        both.driver.store.settings().limits.store(0);
    }
}

#[test]
fn ids_of_a_card_are_good_where_one_is_switched_on_and_nowhere_else() {
    let mut both = Both::load(&SIZES).expect("both programs are loaded");
    for family in Family::BOTH {
        let source = SocketAddr::new(family.host(78), 40_000);
        let id = Runner::new(&mut both).connect(source).expect("connected");
        let scrape = || bep15::scrape(id, 7, &[[9; 20]]);
        let ask = |both: &mut Both| Runner::new(both).ask(source, scrape()).expect("answered");
        assert!(matches!(ask(&mut both), bep15::Reply::Scrape { .. }));
        both.driver.store.settings().card.store(0);
        assert!(matches!(ask(&mut both), bep15::Reply::Error { .. }));
        both.driver.store.settings().card.store(1);
        let settings = both.driver.store.settings();
        settings.second.store(settings.second.load() + 181);
        assert!(matches!(ask(&mut both), bep15::Reply::Error { .. }), "too old");
    }
}
