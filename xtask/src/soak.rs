//! `cargo xtask soak`: the daemon under mixed load for as long as one likes, and exact accounts.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::{
    command, debian,
    needs::{self, InstallOptions},
    test, workspace,
};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// How long to go on, besides starts and checks
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How often to kill the daemon in the midst of it; takes a daemon whose maps outlive it
    #[arg(long, default_value_t = 0)]
    kills: u32,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        debian::is_root(),
        "the soak runs the tracker with XDP in network namespaces: run this as root, for example with \
         `sudo --preserve-env=PATH,HOME cargo xtask soak`"
    );
    needs::provide("the soak's network namespaces", &[needs::NAMESPACES], &[], options.install)?;
    command::run(command::cargo().args(["build", "--release", "--package", "tracker", "--bin", "tracker"]))?;
    let mut soak = command::cargo();
    soak.args([
        "test",
        "--profile",
        test::TEST_PROFILE,
        "--package",
        "tracker-tests",
        "--test",
        "soak",
        "--",
        "--nocapture",
        "--exact",
        "soak",
    ])
    .env("TRACKER_DAEMON", workspace::target_dir().join("release/tracker"))
    .env("SOAK_SECONDS", Duration::from_secs(options.minutes * 60).as_secs().to_string())
    .env("SOAK_KILLS", options.kills.to_string());
    command::run(&mut soak)
}
