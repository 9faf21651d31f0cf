//! `cargo xtask test`: every test, with what the in-kernel and network tests need.

use std::{env, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    build_ebpf, command, debian,
    ebpf_package::EbpfPackage,
    requirements::{self, Probe, Requirement},
    workspace,
};

/// The variable by which tests find the daemon's binary.
const DAEMON_VARIABLE: &str = "TRACKER_DAEMON";

/// What tests run besides the tracker itself.
const REQUIREMENTS: [Requirement; 4] = [
    requirements::NAMESPACES,
    Requirement { package: "aria2", probe: Probe::Program("aria2c"), reason: "a real client" },
    Requirement { package: "transmission-cli", probe: Probe::Program("transmission-cli"), reason: "a real client" },
    Requirement {
        package: "python3-libtorrent",
        probe: Probe::PythonModule("libtorrent"),
        reason: "a real client's library, announcing and scraping",
    },
];

#[derive(Args)]
pub struct Options {
    /// Install nothing: where something is missing, say what, and end
    #[arg(long)]
    no_install: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        debian::is_root(),
        "the tests load eBPF programs and create network namespaces: run this as root, for example with \
         `sudo --preserve-env=PATH,HOME cargo xtask test` (`cargo test` alone runs what needs no privileges)"
    );
    if options.no_install {
        debian::forbid_installing();
    }
    requirements::install(&REQUIREMENTS, "the tests")?;
    let object = object_to_test()?;

    // `cargo test` builds a package's binaries only for that package's own tests.
    command::run(command::cargo().args(["build", "--release", "--package", "tracker-user"]))?;
    let mut cargo = command::cargo();
    cargo
        .args(["test", "--workspace", "--exclude", "tracker-ebpf", "--release", "--no-fail-fast"])
        .args(&options.filter)
        .env(workspace::OBJECT_VARIABLE, object)
        .env(DAEMON_VARIABLE, workspace::target_dir().join("release/tracker"));
    command::run(&mut cargo)
}

/// The object that the tests load: in CI one built from the sources right now, else the committed one, which must be up
/// to date. One that the caller names is taken as it is.
fn object_to_test() -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os(workspace::OBJECT_VARIABLE) {
        let named = std::path::absolute(named).context("cannot make the object's path absolute")?;
        eprintln!("testing the object {}", named.display());
        return Ok(named);
    }
    for package in EbpfPackage::ALL {
        build_ebpf::check_committed(package)?;
    }
    if env::var("CI").is_ok_and(|value| value == "true") {
        let fresh = workspace::target_dir().join("ebpf/fresh/tracker.bpf.o");
        build_ebpf::build(EbpfPackage::TrackerEbpf, &fresh)?;
        build_ebpf::compare_with_committed(EbpfPackage::TrackerEbpf, &fresh)?;
        return Ok(fresh);
    }
    Ok(EbpfPackage::TrackerEbpf.committed_object())
}
