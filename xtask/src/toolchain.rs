//! Which compiler and which linker build the XDP program.
//!
//! The eBPF target comes without a built `core`, so it is built along (`-Z build-std=core`), which
//! takes the compiler's own library sources and unstable options. Two kinds of toolchain have that:
//! a rustup nightly with `rust-src`, and a distribution's stable compiler with its source package,
//! told by `RUSTC_BOOTSTRAP` to accept unstable options. The compiler hands LLVM bitcode to
//! bpf-linker, which must be built with the same major version of LLVM or a newer one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    command, debian,
    needs::{Missing, Remedy},
};

/// The first major version of LLVM with the target feature `allows-misaligned-mem-access`.
const MINIMUM_LLVM: u32 = 22;

/// The bpf-linker that is installed when there is none, and the LLVM versions it has a feature
/// `llvm-<N>` for.
const BPF_LINKER_VERSION: &str = "0.13.0";
const BPF_LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A compiler, its cargo and a linker that fit each other.
pub struct Toolchain {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    /// None when clippy is not installed beside this compiler.
    pub cargo_clippy: Option<PathBuf>,
    /// Where the compiler's library sources are, as the compiler names them in debug information.
    pub library_source: PathBuf,
    /// `rustc -V`.
    pub rustc_version: String,
    /// The LLVM in rustc, for example 22.1.8.
    pub llvm_version: String,
    /// Whether unstable options have to be unlocked by `RUSTC_BOOTSTRAP`.
    pub is_stable: bool,
    pub linker: BpfLinker,
}

pub struct BpfLinker {
    pub path: PathBuf,
    pub version: String,
    /// None when LLVM is linked in statically.
    llvm_major: Option<u32>,
}

impl Toolchain {
    /// Finds a toolchain.
    ///
    /// # Errors
    /// When there is none; says what is wrong with each that was looked at.
    pub fn find() -> anyhow::Result<Self> {
        let mut rejected = Vec::new();
        for compiler in rustup_nightlies().into_iter().chain([Compiler::of_distribution()]) {
            match compiler.examine() {
                Ok(toolchain) => return Ok(toolchain),
                Err(reason) => rejected.push(format!("{}: {reason:#}", compiler.name)),
            }
        }
        bail!("{}", rejected.join("; "))
    }
}

/// What there is to be said of it when no toolchain here can build the eBPF programs.
pub fn missing() -> Option<Missing> {
    let rejected = Toolchain::find().err()?;
    Some(Missing {
        what: "a compiler and a linker for the eBPF programs (on Debian rustc-web, cargo-web, rust-web-src, \
               rust-web-clippy, g++, llvm-dev, and bpf-linker built with them)"
            .to_owned(),
        reason: format!("none here can build them ({rejected:#})"),
        remedy: Remedy::Installer {
            install,
            otherwise: format!(
                "For the eBPF programs install one of these:\n  \
                 - on Debian 12 or later with its security archive: run this command as root, it installs what it \
                 needs\n  \
                 - with rustup: `rustup toolchain install nightly --component rust-src --component clippy`; then, N being LLVM's major \
                 version in\n    `rustc +nightly -vV`, the development files of LLVM N, and\n    \
                 `LLVM_PREFIX=<prefix of LLVM N> LLVM_SYS_<N>1_PREFIX=<the same> cargo install bpf-linker --version \
                 {BPF_LINKER_VERSION} --no-default-features --features llvm-<N>`\n\
                 To build and run the tracker none of this is needed: `cargo build --release` uses the committed object."
            ),
        },
    })
}

/// A compiler that may or may not do.
struct Compiler {
    name: String,
    rustc: PathBuf,
    cargo: PathBuf,
    cargo_clippy: PathBuf,
}

impl Compiler {
    /// The distribution's own. By absolute path: earlier in PATH there may be rustup's proxies.
    fn of_distribution() -> Self {
        Self::in_directory("the distribution's compiler".to_owned(), Path::new("/usr/bin"))
    }

    fn in_directory(name: String, bin: &Path) -> Self {
        Self { name, rustc: bin.join("rustc"), cargo: bin.join("cargo"), cargo_clippy: bin.join("cargo-clippy") }
    }

    /// Checks that this compiler can build the XDP program and finds a linker for it. The error
    /// says what is missing.
    fn examine(&self) -> anyhow::Result<Toolchain> {
        for program in [&self.rustc, &self.cargo] {
            ensure!(program.is_file(), "{} is missing", program.display());
        }
        let verbose_version = self.rustc(&["-vV"])?;
        let rustc_version = verbose_version.lines().next().unwrap_or_default().to_owned();
        let llvm_version = llvm_version(&verbose_version)?;
        let llvm_major = major(&llvm_version)?;
        ensure!(
            llvm_major >= MINIMUM_LLVM,
            "{rustc_version} has LLVM {llvm_version}, but the target feature allows-misaligned-mem-access needs LLVM \
             {MINIMUM_LLVM}"
        );

        let sysroot = self.rustc(&["--print", "sysroot"])?;
        let library_source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        ensure!(
            library_source.join("library/core/Cargo.toml").is_file(),
            "the library sources are missing from {} (rustup component rust-src, Debian package rust-web-src)",
            library_source.display()
        );

        let linker = BpfLinker::find()?;
        if let Some(linker_llvm_major) = linker.llvm_major {
            ensure!(
                linker_llvm_major >= llvm_major,
                "{} is built with LLVM {linker_llvm_major} and cannot read the bitcode of {rustc_version}, which has LLVM \
                 {llvm_major}",
                linker.path.display()
            );
        }
        Ok(Toolchain {
            rustc: self.rustc.clone(),
            cargo: self.cargo.clone(),
            cargo_clippy: Some(self.cargo_clippy.clone()).filter(|path| path.is_file()),
            library_source,
            is_stable: !rustc_version.contains("-nightly"),
            rustc_version,
            llvm_version,
            linker,
        })
    }

    fn rustc(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut rustc = Command::new(&self.rustc);
        isolate(&mut rustc);
        command::output(rustc.args(arguments))
    }
}

/// The nightlies that rustup has already installed. Never downloads one.
fn rustup_nightlies() -> Vec<Compiler> {
    // Without rustup there are none, which is not an error.
    let Ok(list) = command::output(Command::new("rustup").args(["toolchain", "list"])) else { return Vec::new() };
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| name.starts_with("nightly"))
        .filter_map(|name| {
            let mut which = Command::new("rustup");
            which.args(["which", "--toolchain", name, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
            let rustc = PathBuf::from(command::output(&mut which).ok()?.trim());
            Some(Compiler::in_directory(format!("rustup toolchain {name}"), rustc.parent()?))
        })
        .collect()
}

impl BpfLinker {
    fn find() -> anyhow::Result<Self> {
        let path = command::find("bpf-linker", &[&cargo_home().join("bin")]).context("bpf-linker is not installed")?;
        let version = command::output(isolate(Command::new(&path).arg("--version")))?;
        let version = version.trim().trim_start_matches("bpf-linker ").to_owned();
        let program = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { llvm_major: linked_llvm_major(&program), path, version })
    }
}

/// Where cargo keeps its registry and what it installs.
pub fn cargo_home() -> PathBuf {
    match env::var_os("CARGO_HOME") {
        Some(dir) => dir.into(),
        None => PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
    }
}

/// Takes everything out of the environment of `command` by which the cargo or rustup that started
/// this task would direct another toolchain: the choice of compiler, flags, wrappers, package
/// variables, and the path to its shared libraries. What leads to registries (CARGO_HOME,
/// CARGO_HTTP_*, CARGO_NET_*, CARGO_REGISTRIES_*) stays.
pub fn isolate(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_"];
    command::remove_variables(command, |name| {
        let directs_a_build = name == "LD_LIBRARY_PATH" || name.starts_with("CARGO") || name.starts_with("RUST");
        directs_a_build && !KEPT.iter().any(|kept| name.starts_with(kept))
    });
    command
}

/// Installs Debian's toolchain.
fn install() -> anyhow::Result<()> {
    debian::update()?;
    debian::install(&[
        "rustc-web",
        "cargo-web",
        "rust-web-src",
        "rust-web-clippy",
        // bpf-linker links LLVM, which is C++.
        "g++",
    ])
    .context(
        "Debian's current Rust is in the packages *-web of the security archive; if they were not found, enable that \
         archive; if they conflict with the package rustc or rustup, remove that one",
    )?;

    let compiler = Compiler::of_distribution();
    let llvm = major(&llvm_version(&compiler.rustc(&["-vV"])?)?)?;
    ensure!(
        llvm >= MINIMUM_LLVM,
        "the package rustc-web has LLVM {llvm}, but LLVM {MINIMUM_LLVM} is needed: update the package lists, or use a \
         rustup nightly with rust-src"
    );
    ensure!(
        BPF_LINKER_LLVM.contains(&llvm),
        "the package rustc-web has LLVM {llvm}, for which bpf-linker {BPF_LINKER_VERSION} has no feature: take the newest \
         bpf-linker with `llvm-{llvm}` and set BPF_LINKER_VERSION and BPF_LINKER_LLVM in xtask/src/toolchain.rs"
    );
    debian::install(&[format!("llvm-{llvm}-dev")])?;
    if BpfLinker::find().is_ok_and(|linker| linker.llvm_major.is_none_or(|major| major >= llvm)) {
        return Ok(());
    }
    install_bpf_linker(&compiler, llvm)
}

fn install_bpf_linker(compiler: &Compiler, llvm: u32) -> anyhow::Result<()> {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let mut cargo = Command::new(&compiler.cargo);
    isolate(&mut cargo);
    cargo
        .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(cargo_home())
        .env("RUSTC", &compiler.rustc)
        // bpf-linker's build script reads the first. The second is read by the crate llvm-sys,
        // whose version, and with it the variable's name, is LLVM's major version followed by its
        // minor version as of the first stable release: 1.
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix);
    command::run(&mut cargo).with_context(|| format!("cannot build bpf-linker with the LLVM in {prefix}"))
}

/// LLVM's version in the output of `rustc -vV`.
fn llvm_version(verbose_version: &str) -> anyhow::Result<String> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    Ok(line.context("`rustc -vV` does not say which LLVM it has")?.trim().to_owned())
}

fn major(version: &str) -> anyhow::Result<u32> {
    let digits = version.split('.').next().unwrap_or_default();
    digits.parse().with_context(|| format!("`{version}` is not a version number"))
}

/// The major version of the shared LLVM that `program` needs. The library's name stands in the
/// program's dynamic section; distributions call it libLLVM.so.22.1 or libLLVM-22.so.
fn linked_llvm_major(program: &[u8]) -> Option<u32> {
    [b"libLLVM.so.".as_slice(), b"libLLVM-"].into_iter().find_map(|name| {
        let start = program.windows(name.len()).position(|window| window == name)? + name.len();
        let digits: Vec<u8> = program[start..].iter().copied().take_while(u8::is_ascii_digit).collect();
        String::from_utf8(digits).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_read_from_rustc() {
        let output = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_version(output).unwrap(), "22.1.8");
        assert_eq!(major("22.1.8").unwrap(), 22);
        assert!(llvm_version("rustc 1.96.0\n").is_err());
    }

    #[test]
    fn llvm_of_the_linker_is_read_from_its_library_names() {
        assert_eq!(linked_llvm_major(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(linked_llvm_major(b"\0libLLVM-19.so\0"), Some(19));
        assert_eq!(linked_llvm_major(b"\0libc.so.6\0"), None);
    }
}
