//! The program for network cards. `cargo xtask offload`: the daemon with a simulated card, in a
//! virtual machine whose kernel has one (`netdevsim`), which no distribution's has; it is built from
//! Debian's sources the first time. Whether a real card would take the program is
//! `card_rules`'s to say.

mod source;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Deserialize;

use crate::{
    card_rules, command,
    ebpf_package::EbpfPackage,
    kernels::{
        self,
        guest::{End, Guest},
        package::Kernel,
    },
    needs::{self, InstallOptions},
    test::TEST_PROFILE,
    workspace,
};

/// Tests that are run in the guest, and which of them: those with the card, and what takes VLAN interfaces,
/// which not every machine has.
const TESTS: [(&str, &str); 3] = [("offload", ""), ("tune", "vlan"), ("doctor", "vlan")];

#[derive(Args)]
pub struct Options {
    /// Only build the kernel, which takes a quarter of an hour on two processors the first time
    #[arg(long)]
    build_only: bool,
    /// Seconds after which the guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit: u64,
    #[command(flatten)]
    install: InstallOptions,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let figures = card_rules::check_file(&EbpfPackage::TrackerOffload.committed_object())?;
    eprintln!(
        "the program for cards keeps the rules of nfp: {} instructions, {} bytes of stack, {} maps",
        figures.instructions, figures.stack, figures.maps
    );
    let needs: Vec<_> = kernels::NEEDS.into_iter().chain(source::NEEDS).collect();
    needs::provide("a virtual machine with a simulated card", &needs, &[&kernels::qemu::missing], options.install)?;
    let directory = workspace::target_dir().join("offload");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", workspace::display(&directory)))?;
    let kernel = source::kernel(&directory)?;
    if options.build_only {
        return Ok(());
    }
    let tests = test_binaries()?;
    let share = directory.join("results");
    if share.exists() {
        fs::remove_dir_all(&share).with_context(|| format!("cannot remove {}", workspace::display(&share)))?;
    }
    fs::create_dir_all(&share).with_context(|| format!("cannot create {}", workspace::display(&share)))?;
    fs::write(share.join("job.sh"), job(&tests)).context("cannot write the guest's job")?;
    try_out(&kernel, &share, Duration::from_secs(options.limit))
}

/// Runs the rows, and says what came of them.
fn try_out(kernel: &Kernel, share: &Path, limit: Duration) -> anyhow::Result<()> {
    let mut guest = Guest::start(kernel, share, &[], limit, |qemu| Command::new(qemu))?;
    let end = guest.wait(|| {})?;
    let printed = fs::read_to_string(share.join("offload.log")).unwrap_or_default();
    eprintln!("{printed}");
    ensure!(end == End::Off, "the guest {end}; its last lines:\n{}", guest.last_lines());
    let status = fs::read_to_string(share.join("offload.status")).unwrap_or_default();
    ensure!(status.trim() == "0", "rows went wrong in the guest, which ended with status {}", status.trim());
    // What the kernel has to say of its own, such as a program that was left on a card.
    let complaints: Vec<_> = guest
        .console()
        .lines()
        .filter(|line| line.contains("WARNING") || line.contains("BUG:"))
        .map(str::to_owned)
        .collect();
    ensure!(complaints.is_empty(), "the guest's kernel complains:\n{}", complaints.join("\n"));
    eprintln!("Linux {} with netdevsim: passed, {:.0} s", kernel.release, guest.age().as_secs_f64());
    Ok(())
}

/// What the guest runs.
fn job(tests: &[PathBuf]) -> String {
    let mut job = format!(
        "# Written by `cargo xtask offload`; run in a guest.\ncd '{root}'\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export TRACKER_DAEMON='{daemon}' TRACKER_TESTS_PATIENCE=6 RUST_BACKTRACE=0\n\
         ulimit -n 65536\n\
         mount -t debugfs debugfs /sys/kernel/debug\nstatus=0\n",
        root = workspace::root().display(),
        daemon = workspace::target_dir().join(TEST_PROFILE).join("tracker").display(),
    );
    for (test, (_, filter)) in tests.iter().zip(TESTS) {
        let test = test.display();
        let _infallible = writeln!(
            job,
            "timeout -k 5 840 '{test}' {filter} --include-ignored --test-threads=1 >> /run/share/offload.log 2>&1 < /dev/null \
             || status=$?"
        );
    }
    job + "echo $status > /run/share/offload.status\n"
}

/// A line of what cargo prints with `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds the daemon and the rows; the latter in the order of [`TESTS`].
fn test_binaries() -> anyhow::Result<Vec<PathBuf>> {
    command::run(command::cargo().args(["build", "--profile", TEST_PROFILE, "--package", "tracker"]))?;
    let binary = |(test, _): (&str, &str)| {
        let mut cargo = command::cargo();
        cargo.args(["test", "--profile", TEST_PROFILE, "--package", "tracker-tests", "--test", test, "--no-run"]);
        let messages = command::output(cargo.args(["--quiet", "--message-format=json"]))?;
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
        messages.filter_map(|message| message.executable).next_back().context("cargo has built no test")
    };
    TESTS.into_iter().map(binary).collect()
}
