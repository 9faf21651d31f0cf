//! `cargo xtask kernels`: the XDP program on the kernels that its users have.
//!
//! Each of Debian's kernels is started in a virtual machine without hardware support (qemu's TCG),
//! whose files are those of this machine, read-only, with a file system in memory upon them. So
//! what was built here runs there, and nothing has to be installed in a guest. What it prints and
//! how it ends comes back through a directory, part by part; a guest that panics or does not come
//! to an end is recognised and told of.
//!
//! Hardware support is not used even where there is some: guests hang with it on some of the
//! machines this has to run on.

pub mod binaries;
mod drivers;
mod features;
pub mod guest;
mod image;
mod initramfs;
pub mod package;
mod part;
pub mod qemu;
mod report;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;

use self::{
    drivers::Cards,
    guest::Guest,
    package::Kernel,
    part::{Files, Part},
    report::Outcome,
};
use crate::{
    budget, debian,
    needs::{self, InstallOptions, Missing, Other, Package, Probe, Remedy},
    test::TEST_PROFILE,
    verification::Verification,
    verify, workspace,
};

/// The series of kernels that are tried when none is named: those of Debian 12 and 13.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// What guests are made with, besides kernels and qemu.
pub const NEEDS: [Package; 6] = [
    Package { name: "busybox-static", probe: Probe::Program("busybox"), reason: "what a guest begins with" },
    Package { name: "kmod", probe: Probe::Program("depmod"), reason: "the modules of a kernel" },
    Package { name: "cpio", probe: Probe::Program("cpio"), reason: "the archive that a guest begins with" },
    Package { name: "xz-utils", probe: Probe::Program("xz"), reason: "kernels that are compressed" },
    Package { name: "zstd", probe: Probe::Program("zstd"), reason: "kernels that are compressed" },
    needs::NAMESPACES,
];

#[derive(Args)]
pub struct Options {
    /// Kernels: a series, of which Debian's newest is taken (6.12), or the name of one (6.1.0-49)
    /// [default: 6.1 6.12]
    versions: Vec<String>,
    /// The object to try [default: what TRACKER_EBPF_OBJECT names, else the committed object]
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
    /// Do only this; may be given several times
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Compare the verifier's figures with the committed ones and fail when a program has grown
    #[arg(long)]
    budget: bool,
    /// Make the verifier's figures in the guests the committed ones
    #[arg(long, conflicts_with = "budget")]
    record: bool,
    /// Seconds after which a guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit: u64,
    /// Cargo's profile for the programs that run in the guests
    #[arg(long, value_name = "NAME", default_value = TEST_PROFILE)]
    profile: String,
    #[command(flatten)]
    install: InstallOptions,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let directory = workspace::target_dir().join("kernels");
    let wanted: Vec<&str> = match options.versions.as_slice() {
        [] => SERIES.to_vec(),
        versions => versions.iter().map(String::as_str).collect(),
    };
    let missing: Vec<_> = wanted.iter().map(|wanted| || missing_kernel(wanted, &directory)).collect();
    let missing: Vec<Other<'_>> =
        missing.iter().map(|missing| missing as Other<'_>).chain([&qemu::missing as Other<'_>]).collect();
    needs::provide("the virtual machines", &NEEDS, &missing, options.install)?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", workspace::display(&directory)))?;
    let _lock = lock(&directory)?;

    let kernels: Vec<Kernel> =
        wanted.iter().map(|wanted| Kernel::take(wanted, &directory)).collect::<Result<_, _>>()?;
    let parts: BTreeSet<Part> =
        if options.only.is_empty() { Part::ALL.into() } else { options.only.iter().copied().collect() };
    let parts: Vec<Part> = parts.into_iter().collect();
    let files = binaries::build(&parts, verify::object_to_load(options.object.clone()), &options.profile)?;

    features::check(&files.object)?;

    let limit = Duration::from_secs(options.limit);
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let (files, parts, directory) = (&files, parts.as_slice(), directory.as_path());
        let guests: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(move || run_guest(kernel, parts, files, directory, limit)))
            .collect();
        let joined = guests.into_iter().map(|guest| guest.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))));
        joined.collect::<anyhow::Result<_>>()
    })?;
    show(&outcomes, &files.object, parts.contains(&Part::Verify), &directory)?;

    report::ensure_passed(&outcomes)?;
    for verification in outcomes.iter().filter_map(|outcome| outcome.verification.as_ref()) {
        if options.record {
            budget::record(verification)?;
        }
        if options.budget {
            budget::compare(verification)?;
        }
    }
    Ok(())
}

/// A kernel that is not there yet.
fn missing_kernel(wanted: &str, directory: &Path) -> Option<Missing> {
    (!Kernel::is_unpacked(wanted, directory)).then(|| Missing {
        what: format!("Debian's kernel {wanted}"),
        reason: format!("what the guests run; unpacked in {}, not installed", workspace::display(directory)),
        remedy: Remedy::Download,
    })
}

/// One run at a time: the results are written to the same places.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", workspace::display(&path)))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another `cargo xtask kernels` with this target directory");
        file.lock().with_context(|| format!("cannot lock {}", workspace::display(&path)))?;
    }
    Ok(file)
}

/// Runs one kernel from start to end.
fn run_guest(
    kernel: &Kernel,
    parts: &[Part],
    files: &Files,
    directory: &Path,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let share = directory.join("results").join(&kernel.release);
    if share.exists() {
        fs::remove_dir_all(&share).with_context(|| format!("cannot remove {}", workspace::display(&share)))?;
    }
    fs::create_dir_all(&share).with_context(|| format!("cannot create {}", workspace::display(&share)))?;
    fs::write(share.join("job.sh"), part::script(kernel, parts, files)).context("cannot write the guest's job")?;

    let release = kernel.release.as_str();
    let cards = parts.contains(&Part::Drivers).then(Cards::new).transpose()?;
    let options = cards.as_ref().map_or(&[][..], Cards::options);
    let wrap = |qemu: &Path| cards.as_ref().map_or_else(|| Command::new(qemu), |cards| cards.command(qemu));
    let mut guest = Guest::start(kernel, &share, options, limit, wrap)
        .with_context(|| format!("cannot start a guest with Linux {release}"))?;
    let mut told = BTreeSet::new();
    let end = guest.wait(|| {
        for &part in parts {
            if share.join(part.status()).exists() && told.insert(part) {
                let judged = report::read(part, &share);
                let how = judged.result.map_or_else(|why| format!("FAILED: {why}"), |()| "passed".to_owned());
                eprintln!(
                    "Linux {release}: {} {how}, {:.1} s",
                    part.name(),
                    judged.times.map_or(0.0, |times| times.took)
                );
            }
        }
    })?;
    let verification = share.join("verify.json");
    Ok(Outcome {
        release: release.to_owned(),
        end,
        took: guest.age(),
        processor_time: guest.processor_time(),
        parts: parts.iter().map(|&part| (part, report::read(part, &share))).collect(),
        verification: verification.exists().then(|| Verification::read(&verification)).transpose()?,
        console: guest.last_lines(),
        complaints: report::complaints(&guest.console()),
        share,
    })
}

/// Prints everything; the figures of the running kernel beside those of the guests.
fn show(outcomes: &[Outcome], object: &Path, verified: bool, directory: &Path) -> anyhow::Result<()> {
    for outcome in outcomes {
        if let Some(verification) = &outcome.verification {
            verification.print_refused(&outcome.share);
        }
        report::print_failures(outcome);
        report::print_drivers(outcome);
    }
    if verified {
        let running =
            debian::is_root().then(|| Verification::measure(object, &directory.join("results/running"))).transpose()?;
        let guests = outcomes.iter().filter_map(|outcome| outcome.verification.as_ref());
        report::print_figures(&guests.chain(&running).collect::<Vec<_>>());
    }
    report::print_times(outcomes);
    ensure!(!outcomes.is_empty(), "no kernel was named");
    Ok(())
}
