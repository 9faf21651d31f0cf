//! The cargo command line for the eBPF target.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    command,
    ebpf_package::EbpfPackage,
    toolchain::{self, Toolchain},
    workspace,
};

pub const PROFILE: &str = "ebpf";
pub const TARGET: &str = "bpfel-unknown-none";

/// Compiler flags beyond those in the profile. They hold no path, so they are part of the record.
pub const FLAGS: [&str; 4] = [
    // Chooses the register layout in aya-ebpf's bindings. XDP programs use none of it.
    "--cfg=bpf_target_arch=\"x86_64\"",
    // 32-bit arithmetic and jumps, and atomic operations that return the old value; Linux 5.12.
    "-Ctarget-cpu=v3",
    // Without it every access to packet bytes is split into single bytes, for machines this program
    // will not run on.
    "-Ctarget-feature=+allows-misaligned-mem-access",
    // Type and line information: callbacks for bpf_loop are not loadable without.
    "-Clink-arg=--btf",
];

/// `cargo <subcommand>` for an eBPF package.
pub fn command(
    toolchain: &Toolchain,
    program: &Path,
    subcommand: &str,
    package: EbpfPackage,
) -> anyhow::Result<Command> {
    let mut cargo = Command::new(program);
    toolchain::isolate(&mut cargo);
    cargo
        .current_dir(workspace::root())
        .args([subcommand, "--locked", "--package", package.name(), "--profile", PROFILE, "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(target_dir())
        .env("CARGO", &toolchain.cargo)
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(toolchain)?);
    if toolchain.is_stable {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    Ok(cargo)
}

/// Downloads what the build needs, so that the directories to be remapped exist.
pub fn fetch(toolchain: &Toolchain) -> anyhow::Result<()> {
    let mut cargo = Command::new(&toolchain.cargo);
    toolchain::isolate(&mut cargo);
    cargo.current_dir(workspace::root()).args(["fetch", "--locked", "--quiet"]).env("RUSTC", &toolchain.rustc);
    command::run(&mut cargo)
}

/// What the build leaves: an object with BTF and DWARF.
pub fn artifact(package: EbpfPackage) -> PathBuf {
    target_dir().join(TARGET).join(PROFILE).join(package.name())
}

/// Directories of this machine and the names that stand for them in the object. Where several
/// match, the last counts.
pub fn remapped_paths(toolchain: &Toolchain) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let mut paths = vec![(toolchain::cargo_home(), "cargo")];
    let registries = toolchain::cargo_home().join("registry/src");
    if registries.is_dir() {
        let entries =
            fs::read_dir(&registries).with_context(|| format!("cannot list {}", workspace::display(&registries)))?;
        for entry in entries {
            paths.push((entry?.path(), "crates"));
        }
    }
    paths.push((toolchain.library_source.clone(), "rust"));
    if let Ok(real) = toolchain.library_source.canonicalize() {
        paths.push((real, "rust"));
    }
    // Relative names, so that LLVM still finds this workspace's sources and puts their lines into
    // the BTF, where the verifier's log shows them.
    paths.push((workspace::root(), "."));
    Ok(paths)
}

fn encoded_flags(toolchain: &Toolchain) -> anyhow::Result<OsString> {
    const SEPARATOR: &str = "\x1f";
    let mut flags = OsString::from(FLAGS.join(SEPARATOR));
    flags.push(SEPARATOR);
    flags.push("-Clinker=");
    flags.push(&toolchain.linker.path);
    for (from, to) in remapped_paths(toolchain)? {
        flags.push(SEPARATOR);
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// Apart from the rest of the workspace, because it is filled by another compiler: sharing a
/// directory would make the two rebuild each other's dependencies.
fn target_dir() -> PathBuf {
    workspace::target_dir().join("ebpf")
}
