//! `cargo xtask cluster`: three trackers with XDP in namespaces, a NATS server between them, clients on
//! each: what each knows, with losses, splits and deaths. It is `tests/tests/cluster.rs` with more time.

use clap::Args;

use crate::{
    command,
    needs::{self, InstallOptions, Package, Probe},
    test,
};

/// What loses packets and splits the network.
const NFTABLES: Package = Package { name: "nftables", probe: Probe::Program("nft"), reason: "packets that are lost" };

/// The variable by which the test knows how much time there is.
const MINUTES_VARIABLE: &str = "TRACKER_TESTS_CLUSTER";

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Minutes with each of no loss, 1 % and 10 %, and of a split, which is no longer than 10: all beside
    /// each other, in networks of their own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=30))]
    minutes: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut cargo = test::prepare("the cluster", &[needs::NAMESPACES, needs::NATS, NFTABLES], options.install)?;
    cargo
        .args(["test", "--package", "tracker-tests", "--test", "cluster", "--profile", test::TEST_PROFILE])
        .args(["--", "what_one_tracker_is_told_all_know", "what_gets_lost_heals", "--include-ignored", "--nocapture"])
        .env(MINUTES_VARIABLE, options.minutes.to_string());
    command::run(&mut cargo)
}
