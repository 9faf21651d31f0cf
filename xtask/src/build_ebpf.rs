//! `cargo xtask build-ebpf`: the eBPF programs, from source to the objects that are committed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;

use crate::{
    command, ebpf_cargo,
    ebpf_package::EbpfPackage,
    needs::{self, InstallOptions},
    object_file,
    record::{Record, sha256},
    source_hash::source_hash,
    toolchain::{self, Toolchain},
    workspace,
};

#[derive(Args)]
pub struct Options {
    /// Only this package instead of all
    #[arg(long)]
    package: Option<EbpfPackage>,
    /// Build nothing; fail when a committed object was not built from the sources as they are
    /// (needs no toolchain)
    #[arg(long, conflicts_with = "output")]
    check: bool,
    /// Build one package, by default tracker-ebpf, and write the object here, and its record beside
    /// it, instead of replacing the committed one. The daemon and the tests use it when
    /// TRACKER_EBPF_OBJECT names it
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    install: InstallOptions,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.check {
        needs::provide("the eBPF programs", &[], &[&toolchain::missing], options.install)?;
    }
    if let Some(output) = &options.output {
        return build(options.package.unwrap_or(EbpfPackage::TrackerEbpf), output);
    }
    for package in options.package.map_or_else(|| EbpfPackage::ALL.to_vec(), |package| vec![package]) {
        if options.check {
            check_committed(package)?;
        } else {
            build(package, &package.committed_object())?;
        }
    }
    Ok(())
}

/// Builds `package` and writes object and record. The toolchain has to be there; see
/// [`toolchain::missing`].
pub fn build(package: EbpfPackage, output: &Path) -> anyhow::Result<()> {
    let toolchain = Toolchain::find()?;
    eprintln!(
        "building {} with {} (LLVM {}) and bpf-linker {}",
        package.name(),
        toolchain.rustc_version,
        toolchain.llvm_version,
        toolchain.linker.version
    );
    ebpf_cargo::fetch(&toolchain)?;
    command::run(&mut ebpf_cargo::command(&toolchain, &toolchain.cargo, "build", package)?)?;

    let artifact = ebpf_cargo::artifact(package);
    let linked = fs::read(&artifact).with_context(|| format!("cannot read {}", workspace::display(&artifact)))?;
    let object = object_file::without_dwarf(&linked)?;
    let machine_paths = ebpf_cargo::remapped_paths(&toolchain)?.into_iter().map(|(path, _)| path);
    let home = env::var_os("HOME").map(PathBuf::from);
    object_file::ensure_without_paths(&object, machine_paths.chain(home).chain([toolchain::cargo_home()]))?;

    let record = Record {
        source_hash: source_hash(&workspace::root(), package.directory())?,
        object_hash: sha256(&object),
        rustc: toolchain.rustc_version,
        llvm: toolchain.llvm_version,
        bpf_linker: toolchain.linker.version,
        target: ebpf_cargo::TARGET.to_owned(),
        flags: ebpf_cargo::FLAGS.map(str::to_owned).to_vec(),
    };
    if let Some(directory) = output.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", workspace::display(directory)))?;
    }
    fs::write(output, &object).with_context(|| format!("cannot write {}", workspace::display(output)))?;
    record.write(&Record::path_for(output))?;
    eprintln!("wrote {} ({} bytes) and its record", workspace::display(output), object.len());
    Ok(())
}

/// Fails when the committed object of `package` is not the one that was built from the sources as
/// they are.
pub fn check_committed(package: EbpfPackage) -> anyhow::Result<()> {
    const REMEDY: &str = "run `cargo xtask build-ebpf` and commit the object together with its record";
    let object_path = package.committed_object();
    let with_remedy = |error: anyhow::Error| anyhow!("{error:#}: {REMEDY}");
    let record = Record::read(&Record::path_for(&object_path)).map_err(with_remedy)?;
    let object = fs::read(&object_path)
        .with_context(|| format!("cannot read {}", workspace::display(&object_path)))
        .map_err(with_remedy)?;
    ensure!(
        record.object_hash == sha256(&object),
        "{} is not the object that its record describes: {REMEDY}",
        package.object()
    );
    let source_hash = source_hash(&workspace::root(), package.directory())?;
    if record.source_hash != source_hash {
        bail!(
            "{} is stale: it was built from other sources (recorded hash {}, sources now {source_hash}): {REMEDY}",
            package.object(),
            record.source_hash
        );
    }
    eprintln!("{} is up to date", package.object());
    Ok(())
}

/// Says so when `fresh` differs from the committed object although the same tools built both.
pub fn compare_with_committed(package: EbpfPackage, fresh: &Path) -> anyhow::Result<()> {
    let fresh = Record::read(&Record::path_for(fresh))?;
    let committed = Record::read(&Record::path_for(&package.committed_object()))?;
    if fresh.object_hash == committed.object_hash {
        eprintln!("the fresh object is the committed one, byte by byte");
    } else if fresh.same_tools(&committed) {
        // Not an error: a distribution may patch its compiler without giving it another version.
        eprintln!("warning: the fresh object differs from the committed one, although the same versions built both");
    } else {
        eprintln!(
            "the fresh object differs from the committed one, which {} and bpf-linker {} built",
            committed.rustc, committed.bpf_linker
        );
    }
    Ok(())
}
