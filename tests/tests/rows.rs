//! Every row of the table, on every way a request can take; and all ways have to give the same answers.

mod ways;

use std::collections::BTreeMap;
use tracker_tests::rows;
use tracker_user::sizes::Sizes;
use ways::{Runner, Way, host::Host, sockets::Sockets, xdp::XdpProgram};

/// Enough for all rows.
const SIZES: Sizes = Sizes { index_buckets: 1024, swarms: 2000, partitions: 1000, chunks_v4: 4000, chunks_v6: 4000 };

/// The answers to the rows that hold on every way, by the rows' names.
type Answers = BTreeMap<String, String>;

fn run(mut way: impl Way) -> Answers {
    Runner::new(&mut way).run(&rows::all())
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
fn all_ways_give_the_same_answers() {
    let (host, sockets, xdp) = (through_host_build(), through_sockets(), through_xdp());
    assert_eq!(host, sockets);
    let left_to_sockets: Vec<_> =
        rows::all().into_iter().filter(|row| row.left_to_sockets.is_some()).map(|row| row.name).collect();
    for (name, answer) in host.iter().filter(|(name, _)| !left_to_sockets.contains(name)) {
        assert_eq!(xdp.get(name), Some(answer), "{name}");
    }
}
