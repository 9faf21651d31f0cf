//! `cargo xtask bench`: builds the benchmark, which is a package of its own (`bench/`), and the
//! tracker, and runs the benchmark with the options given.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    command, debian,
    needs::{self, InstallOptions, Package},
    workspace,
};

/// What the benchmark runs besides trackers. None of the other trackers is installed: which of
/// them, and how it is built, is for whoever compares.
const NEEDS: [Package; 1] = [needs::NAMESPACES];

#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Options of the benchmark; with --help it says which
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let (of_xtask, options) = split(options);
    let mut build = command::cargo();
    build.args(["build", "--release", "--package", "tracker-bench"]);
    if needs_testbed(&options) {
        ensure!(
            debian::is_root(),
            "the benchmark loads eBPF programs and creates network namespaces: run this as root, for example with \
             `sudo --preserve-env=PATH,HOME cargo xtask bench` (`cargo xtask bench \
             model` and `socket` need no privileges)"
        );
        needs::provide("the benchmarks", &NEEDS, &[], of_xtask)?;
        // What is measured has to be what is in the source tree.
        build.args(["--package", "tracker"]);
    }
    command::run(&mut build)?;
    let benchmark = workspace::target_dir().join("release/tracker-bench");
    let error = Command::new(&benchmark).args(&options).exec();
    Err(error).with_context(|| format!("cannot start {}", benchmark.display()))
}

/// The options that are this task's, wherever they are given, and those that are the benchmark's.
fn split(options: &Options) -> (InstallOptions, Vec<String>) {
    let is_ours = |option: &&String| *option == "--no-install";
    let no_install = options.install.no_install || options.options.iter().any(|option| is_ours(&option));
    (InstallOptions { no_install }, options.options.iter().filter(|option| !is_ours(option)).cloned().collect())
}

/// Whether the benchmark will make network namespaces and start trackers. Its commands are named
/// before all options.
fn needs_testbed(options: &[String]) -> bool {
    let first = options.first().map(String::as_str);
    let asks_for_help = options.iter().any(|option| option == "--help" || option == "-h");
    !asks_for_help && !matches!(first, Some("help" | "list" | "model" | "socket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_install_may_be_given_anywhere() {
        // (before the benchmark's options, these, whether to install, what the benchmark gets)
        for (before, line, no_install, expected) in [
            (false, "", false, ""),
            (true, "profile --quick", true, "profile --quick"),
            (false, "profile --no-install --quick", true, "profile --quick"),
            (false, "--quick", false, "--quick"),
        ] {
            let options = line.split_whitespace().map(str::to_owned).collect();
            let (ours, others) = split(&Options { install: InstallOptions { no_install: before }, options });
            assert_eq!((ours.no_install, others.join(" ").as_str()), (no_install, expected), "{line}");
        }
    }

    #[test]
    fn only_measurements_in_namespaces_need_a_testbed() {
        for (line, needs) in [
            ("", true),
            ("--quick --scenario small", true),
            ("profile --quick", true),
            ("expiry", true),
            ("list", false),
            ("model --scenario small", false),
            ("--scenario model", true),
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
