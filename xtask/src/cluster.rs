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

/// The variable by which the test knows that there is time.
const LONG_VARIABLE: (&str, &str) = ("TRACKER_TESTS_CLUSTER", "long");

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut cargo = test::prepare("the cluster", &[needs::NAMESPACES, needs::NATS, NFTABLES], options.install)?;
    cargo
        .args(["test", "--package", "tracker-tests", "--test", "cluster", "--profile", test::TEST_PROFILE])
        .args(["what_one_tracker_is_told_all_know", "--", "--nocapture"])
        .env(LONG_VARIABLE.0, LONG_VARIABLE.1);
    command::run(&mut cargo)
}
