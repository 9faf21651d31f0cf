//! `cargo xtask test`: every test, with what the in-kernel and network tests need.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{build_ebpf, command, debian, ebpf_package::EbpfPackage, workspace};

/// The variable by which tests find the daemon's binary.
const DAEMON_VARIABLE: &str = "TRACKER_DAEMON";

/// What tests run besides the tracker itself.
const REQUIREMENTS: [Requirement; 6] = [
    Requirement { package: "iproute2", probe: Probe::Program("ip"), reason: "network namespaces and veth pairs" },
    Requirement { package: "ethtool", probe: Probe::Program("ethtool"), reason: "checksum offload off on veth" },
    Requirement { package: "tcpdump", probe: Probe::Program("tcpdump"), reason: "captures of failed network tests" },
    Requirement { package: "aria2", probe: Probe::Program("aria2c"), reason: "a real client" },
    Requirement { package: "transmission-cli", probe: Probe::Program("transmission-cli"), reason: "a real client" },
    Requirement {
        package: "python3-libtorrent",
        probe: Probe::PythonModule("libtorrent"),
        reason: "a real client's library, announcing and scraping",
    },
];

struct Requirement {
    /// The Debian package.
    package: &'static str,
    probe: Probe,
    reason: &'static str,
}

enum Probe {
    Program(&'static str),
    /// For the distribution's python, /usr/bin/python3; another python does not see Debian's modules.
    PythonModule(&'static str),
}

#[derive(Args)]
pub struct Options {
    /// Run only tests whose name contains this
    filter: Option<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        debian::is_root(),
        "the tests load eBPF programs and create network namespaces: run this as root, for example with \
         `sudo --preserve-env=PATH,HOME cargo xtask test` (`cargo test` alone runs what needs no privileges)"
    );
    install_requirements()?;
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

fn install_requirements() -> anyhow::Result<()> {
    let missing = missing_requirements();
    if missing.is_empty() {
        return Ok(());
    }
    let list: String = missing.iter().map(|missing| format!("  {}: {}\n", missing.package, missing.reason)).collect();
    if !debian::can_install() {
        bail!("the tests need what these Debian packages hold; install them or their like:\n{list}");
    }
    eprintln!("installing what the tests need:\n{list}");
    debian::update()?;
    debian::install(&missing.iter().map(|missing| missing.package).collect::<Vec<_>>())?;
    let still_missing: Vec<_> = missing_requirements().iter().map(|missing| missing.package).collect();
    ensure!(
        still_missing.is_empty(),
        "{} installed, but what the tests look for in them is not there",
        still_missing.join(", ")
    );
    Ok(())
}

fn missing_requirements() -> Vec<&'static Requirement> {
    REQUIREMENTS.iter().filter(|requirement| !requirement.probe.succeeds()).collect()
}

impl Probe {
    fn succeeds(&self) -> bool {
        match self {
            Self::Program(name) => command::find(name, &[Path::new("/usr/sbin"), Path::new("/sbin")]).is_some(),
            Self::PythonModule(name) => {
                command::output(Command::new("/usr/bin/python3").args(["-c", &format!("import {name}")])).is_ok()
            }
        }
    }
}
