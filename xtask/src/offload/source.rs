//! A kernel with `netdevsim`, from Debian's sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, ensure};

use crate::{
    command, debian,
    kernels::package::Kernel,
    needs::{Package, Probe},
    workspace,
};

/// Debian's package of the sources.
const SOURCES: &str = "linux-source-6.12";

/// What is in the kernel.
const CONFIGURATION: &str = include_str!("guest.config");

/// What a kernel is built with.
pub const NEEDS: [Package; 7] = [
    Package { name: "gcc", probe: Probe::Program("gcc"), reason: "a kernel of its own" },
    Package { name: "make", probe: Probe::Program("make"), reason: "a kernel of its own" },
    Package { name: "flex", probe: Probe::Program("flex"), reason: "a kernel of its own" },
    Package { name: "bison", probe: Probe::Program("bison"), reason: "a kernel of its own" },
    Package { name: "bc", probe: Probe::Program("bc"), reason: "a kernel of its own" },
    Package { name: "pahole", probe: Probe::Program("pahole"), reason: "the types of that kernel" },
    Package { name: "libelf-dev", probe: Probe::Header("libelf.h"), reason: "a kernel of its own" },
];

/// The kernel; built in `directory` unless it is there with this configuration.
pub fn kernel(directory: &Path) -> anyhow::Result<Kernel> {
    let root = directory.join("kernel");
    let (image, made_with, release) = (root.join("boot/vmlinux"), root.join("configuration"), root.join("release"));
    let is_there = || image.is_file() && fs::read_to_string(&made_with).is_ok_and(|text| text == CONFIGURATION);
    if !is_there() {
        build(directory, &root)?;
        fs::write(&made_with, CONFIGURATION).context("cannot note the kernel's configuration")?;
    }
    let release = fs::read_to_string(&release).context("cannot read the kernel's release")?;
    Ok(Kernel::without_modules(release.trim().to_owned(), root))
}

fn build(directory: &Path, root: &Path) -> anyhow::Result<()> {
    let sources = sources(directory)?;
    let build = directory.join("build");
    fs::create_dir_all(&build).with_context(|| format!("cannot create {}", workspace::display(&build)))?;
    let configuration = directory.join("guest.config");
    fs::write(&configuration, CONFIGURATION).context("cannot write the kernel's configuration")?;
    let make = |targets: &[&str]| {
        let mut make = Command::new("nice");
        make.args(["-n", "10", "make", "-s", "-C"])
            .arg(&sources)
            .arg(format!("O={}", build.display()))
            .arg(format!("KCONFIG_ALLCONFIG={}", configuration.display()))
            .arg(format!("-j{}", thread::available_parallelism().map_or(1, usize::from)))
            .args(targets);
        make
    };
    eprintln!("building a kernel with netdevsim: minutes, the first time only");
    command::run(&mut make(&["allnoconfig"]))?;
    ensure_configured(&build)?;
    command::run(&mut make(&["bzImage"]))?;
    let release = command::output(&mut make(&["--no-print-directory", "kernelrelease"]))?;
    fs::create_dir_all(root.join("boot")).context("cannot make a place for the kernel")?;
    fs::copy(build.join("arch/x86/boot/bzImage"), root.join("boot/vmlinux")).context("cannot copy the kernel")?;
    fs::write(root.join("release"), release).context("cannot note the kernel's release")
}

/// Everything that was asked for is in it: what lacks something else would be left out without a
/// word.
fn ensure_configured(build: &Path) -> anyhow::Result<()> {
    let made = fs::read_to_string(build.join(".config")).context("cannot read the kernel's configuration")?;
    let missing: Vec<_> = CONFIGURATION
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !made.lines().any(|made| made == *line))
        .collect();
    ensure!(missing.is_empty(), "the kernel's configuration lacks {}: has it been renamed?", missing.join(", "));
    Ok(())
}

/// The sources, downloaded and unpacked.
fn sources(directory: &Path) -> anyhow::Result<PathBuf> {
    let unpacked = directory.join("unpacked");
    let sources = unpacked.join("usr/src").join(SOURCES);
    if sources.join("Makefile").is_file() {
        return Ok(sources);
    }
    if debian::is_root() {
        debian::update()?;
    }
    command::run(Command::new("apt-get").args(["download", SOURCES]).current_dir(directory))
        .with_context(|| format!("cannot download {SOURCES}"))?;
    let package = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SOURCES))
                && path.extension().is_some_and(|extension| extension == "deb")
        })
        .with_context(|| format!("apt has downloaded no {SOURCES}"))?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
    let archive = format!("{SOURCES}.tar.xz");
    command::run(Command::new("tar").args(["xf", &archive]).current_dir(unpacked.join("usr/src")))?;
    // A half of them would be taken for all.
    ensure!(sources.join("Makefile").is_file(), "{archive} holds no sources of a kernel");
    Ok(sources)
}
