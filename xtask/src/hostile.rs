//! `cargo xtask hostile`: the attacks of `tests/tests/hostile.rs` for longer, and with more of
//! everything, than `cargo xtask test` has time for; with what was counted.

use clap::Args;

use crate::{
    command,
    needs::{self, InstallOptions},
    test,
};

/// The variable by which the tests know that there is time.
const LONG_VARIABLE: (&str, &str) = ("TRACKER_TESTS_HOSTILE", "long");

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Run only attacks whose test's name contains this
    filter: Option<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let needs = [needs::NAMESPACES, test::WALL_CLOCK];
    let mut cargo = test::prepare("the attacks", &needs, options.install)?;
    cargo
        .args([
            "test",
            "--package",
            "tracker-tests",
            "--test",
            "hostile",
            "--profile",
            test::TEST_PROFILE,
            "--no-fail-fast",
        ])
        .args(&options.filter)
        .args(["--", "--nocapture", "--test-threads", "1"])
        .env(LONG_VARIABLE.0, LONG_VARIABLE.1);
    command::run(&mut cargo)
}
