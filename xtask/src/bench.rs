//! `cargo xtask bench`: builds the benchmark, which is a package of its own (`bench/`), and the tracker, and runs the
//! benchmark with the options given.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    command, debian,
    requirements::{self, Requirement},
    workspace,
};

/// What the benchmark runs besides trackers. None of the other trackers is installed: which of them, and how it is built,
/// is for whoever compares.
const REQUIREMENTS: [Requirement; 1] = [requirements::NAMESPACES];

#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Options of the benchmark; with --help it says which
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut build = command::cargo();
    build.args(["build", "--release", "--package", "tracker-bench"]);
    if needs_testbed(&options.options) {
        ensure!(
            debian::is_root(),
            "the benchmark loads eBPF programs and creates network namespaces: run this as root, for example with \
             `sudo --preserve-env=PATH,HOME cargo xtask bench` (`cargo xtask bench socket` needs no privileges)"
        );
        requirements::install(&REQUIREMENTS, "the benchmarks")?;
        // What is measured has to be what is in the source tree.
        build.args(["--package", "tracker-user"]);
    }
    command::run(&mut build)?;
    let benchmark = workspace::target_dir().join("release/tracker-bench");
    let error = Command::new(&benchmark).args(&options.options).exec();
    Err(error).with_context(|| format!("cannot start {}", benchmark.display()))
}

/// Whether the benchmark will make network namespaces and start trackers. Its commands are named before all options.
fn needs_testbed(options: &[String]) -> bool {
    let first = options.first().map(String::as_str);
    let asks_for_help = options.iter().any(|option| option == "--help" || option == "-h");
    !asks_for_help && !matches!(first, Some("help" | "list" | "socket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_measurements_in_namespaces_need_a_testbed() {
        for (line, needs) in [
            ("", true),
            ("--quick --scenario small", true),
            ("profile --quick", true),
            ("expiry", true),
            ("list", false),
            ("socket --target localhost:6969", false),
            ("help profile", false),
            ("--help", false),
            ("profile -h", false),
        ] {
            let options: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(needs_testbed(&options), needs, "{line}");
        }
    }
}
