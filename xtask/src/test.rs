//! `cargo xtask test`: every test, with what the in-kernel and network tests need.

use std::{env, num::NonZero, path::PathBuf, process, thread};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    build_ebpf, command, debian,
    ebpf_package::EbpfPackage,
    needs::{self, InstallOptions, Other, Package, Probe},
    toolchain, workspace,
};

/// Cargo's profile for tests.
pub const TEST_PROFILE: &str = "tests";

/// The variable by which tests find the daemon's binary.
const DAEMON_VARIABLE: &str = "TRACKER_DAEMON";

/// The variable by which the test runner is told how many tests to run at once.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// The package that runs the store by model checkers.
const INTERLEAVINGS: &str = "interleavings";

/// A library that tells a program another time.
pub const WALL_CLOCK: Package =
    Package { name: "faketime", probe: Probe::Program("faketime"), reason: "a wall clock that jumps" };

/// What tests run besides the tracker itself.
const NEEDS: [Package; 14] = [
    needs::NAMESPACES,
    needs::NATS,
    WALL_CLOCK,
    Package { name: "aria2", probe: Probe::Program("aria2c"), reason: "a real client" },
    Package { name: "chromium", probe: Probe::Program("chromium"), reason: "a browser for the operator's page" },
    Package { name: "tmux", probe: Probe::Program("tmux"), reason: "a terminal for tracker top" },
    Package { name: "curl", probe: Probe::Program("curl"), reason: "a real client by proxies, Unix sockets and TLS" },
    Package { name: "openssl", probe: Probe::Program("openssl"), reason: "certificates, and a client of TLS" },
    Package { name: "opentracker", probe: Probe::Program("opentracker"), reason: "another tracker to compare with" },
    Package { name: "iptables", probe: Probe::Program("iptables"), reason: "firewalls, for tracker doctor" },
    Package { name: "prometheus", probe: Probe::Program("promtool"), reason: "scraping, rules, names of metrics" },
    Package { name: "transmission-cli", probe: Probe::Program("transmission-cli"), reason: "a real client" },
    Package {
        name: "python3-libtorrent",
        probe: Probe::PythonModule("libtorrent"),
        reason: "a real client's library, announcing and scraping",
    },
    Package {
        name: "python3-jsonschema",
        probe: Probe::PythonModule("jsonschema"),
        reason: "the description of the admin API against its answers",
    },
];

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut cargo = prepare("the tests", &NEEDS, options.install)?;
    cargo
        .args(["test", "--workspace", "--exclude", "tracker-ebpf", "--exclude", INTERLEAVINGS, "--exclude", "seam"])
        .args(["--profile", TEST_PROFILE, "--no-fail-fast"])
        .args(&options.filter);
    let tests = command::run(&mut cargo);
    // By themselves: what the model checkers depend on has features that the daemon does not want.
    let mut interleavings = command::cargo();
    interleavings.args(["test", "--package", INTERLEAVINGS, "--profile", TEST_PROFILE]).args(&options.filter);
    tests.and(command::run(&mut interleavings))
}

/// Provides what tests need, builds the daemon, and returns a `cargo` whose tests find both.
///
/// # Errors
/// When something is missing or does not build.
pub fn prepare(purpose: &str, needs: &[Package], install: InstallOptions) -> anyhow::Result<process::Command> {
    ensure!(
        debian::is_root(),
        "the tests load eBPF programs and create network namespaces: run this as root, for example with \
         `sudo --preserve-env=PATH,HOME cargo xtask test` (`cargo test` alone runs what needs no privileges)"
    );
    let toolchain: &[Other<'_>] = if builds_object() { &[&toolchain::missing] } else { &[] };
    needs::provide(purpose, needs, toolchain, install)?;
    let object = object_to_test()?;

    // `cargo test` builds a package's binaries only for that package's own tests. Not the released
    // daemon, which differs by link-time optimisation alone, and for which everything that it
    // depends on would be compiled a second time.
    command::run(command::cargo().args(["build", "--profile", TEST_PROFILE, "--package", "tracker"]))?;
    let daemon = workspace::target_dir().join(TEST_PROFILE).join("tracker");
    let mut cargo = command::cargo();
    cargo.env(workspace::OBJECT_VARIABLE, object).env(DAEMON_VARIABLE, daemon);
    if env::var_os(THREADS_VARIABLE).is_none() {
        // Most of them wait most of the time: for a daemon, a deadline, a link.
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        cargo.env(THREADS_VARIABLE, (2 * cores).to_string());
    }
    Ok(cargo)
}

/// Whether the tests load an object that is built for them: in CI, unless the caller names one.
fn builds_object() -> bool {
    env::var_os(workspace::OBJECT_VARIABLE).is_none() && env::var("CI").is_ok_and(|value| value == "true")
}

/// The object that the tests load: in CI one built from the sources right now, else the committed
/// one, which must be up to date. One that the caller names is taken as it is.
fn object_to_test() -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os(workspace::OBJECT_VARIABLE) {
        let named = std::path::absolute(named).context("cannot make the object's path absolute")?;
        eprintln!("testing the object {}", named.display());
        return Ok(named);
    }
    for package in EbpfPackage::ALL {
        build_ebpf::check_committed(package)?;
    }
    if builds_object() {
        let fresh = workspace::target_dir().join("ebpf/fresh/tracker.bpf.o");
        build_ebpf::build(EbpfPackage::TrackerEbpf, &fresh)?;
        build_ebpf::compare_with_committed(EbpfPackage::TrackerEbpf, &fresh)?;
        return Ok(fresh);
    }
    Ok(EbpfPackage::TrackerEbpf.committed_object())
}
