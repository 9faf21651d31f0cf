//! A virtual machine without hardware support that runs one kernel, once.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{initramfs, package::Kernel};
use crate::command;

/// Processors of a guest, and MiB of its memory, of which files in memory may take half.
const PROCESSORS: u32 = 2;
const MEMORY: u32 = 2048;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many of the console's last lines are shown when something has gone wrong.
const SHOWN: usize = 25;

/// How a guest came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It switched itself off.
    Off,
    /// Its kernel panicked, with these words.
    Panic(String),
    /// Its time was over.
    Hung,
    /// qemu ended by itself.
    Qemu(String),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(formatter, "switched itself off"),
            Self::Panic(words) => write!(formatter, "panicked: {words}"),
            Self::Hung => write!(formatter, "did not come to an end in its time and was ended"),
            Self::Qemu(status) => write!(formatter, "was ended by qemu: {status}"),
        }
    }
}

/// A running guest; ended on drop.
pub struct Guest {
    qemu: Child,
    console: PathBuf,
    started: Instant,
    limit: Duration,
}

impl Guest {
    /// Starts `kernel` with the directory `share`, which holds the job and will hold the results. `cards` are further
    /// options for qemu; `wrap` may put qemu into a network namespace.
    pub fn start(
        kernel: &Kernel,
        share: &Path,
        cards: &[String],
        limit: Duration,
        wrap: impl FnOnce(&Path) -> Command,
    ) -> anyhow::Result<Self> {
        let initramfs = initramfs::build(kernel, share)?;
        let program = command::find("qemu-system-x86_64", &[]).context("there is no qemu-system-x86_64 in PATH")?;
        let console = share.join("console.log");
        let mut command = wrap(&program);
        command
            .args(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-machine", "q35", "-nodefaults"])
            .args(["-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-smp", &PROCESSORS.to_string(), "-m", &MEMORY.to_string()])
            .arg("-serial")
            .arg(format!("file:{}", option_value(&console)))
            .arg("-kernel")
            .arg(kernel.image())
            .arg("-initrd")
            .arg(&initramfs)
            // A panic and what would go on in spite of an error in the kernel end the guest at once. Mitigations protect
            // nobody here and cost much without hardware support.
            .args([
                "-append",
                "console=ttyS0 loglevel=4 panic=-1 oops=panic mitigations=off tsc=reliable random.trust_cpu=on",
            ])
            .arg("-virtfs")
            .arg("local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap")
            .arg("-virtfs")
            .arg(format!("local,path={},mount_tag=share,security_model=none,multidevs=remap", option_value(share)))
            .args(cards)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(share.join("qemu.log")).context("cannot write qemu's log")?);
        let qemu = command.spawn().context("cannot start qemu-system-x86_64")?;
        Ok(Self { qemu, console, started: Instant::now(), limit })
    }

    /// How long it has been running.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for its end and calls `look` meanwhile, again and again.
    pub fn wait(&mut self, mut look: impl FnMut()) -> anyhow::Result<End> {
        let status = loop {
            look();
            if let Some(status) = self.qemu.try_wait().context("cannot wait for qemu")? {
                break Some(status);
            }
            if self.age() > self.limit {
                self.qemu.kill().context("cannot end qemu")?;
                self.qemu.wait().context("cannot wait for qemu")?;
                break None;
            }
            thread::sleep(INTERVAL);
        };
        look();
        Ok(end(status, &self.console()))
    }

    /// What the guest has written to its console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// The end of it.
    pub fn last_lines(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| format!("    {line}\n")).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if matches!(self.qemu.try_wait(), Ok(None)) {
            let _ = self.qemu.kill();
            let _ = self.qemu.wait();
        }
    }
}

/// How it ended, by qemu's exit status, if it had one of its own, and what the console says.
fn end(status: Option<ExitStatus>, console: &str) -> End {
    const PANIC: &str = "Kernel panic - not syncing: ";
    if let Some(words) = console.lines().find_map(|line| line.split_once(PANIC)) {
        return End::Panic(words.1.trim().to_owned());
    }
    match status {
        None => End::Hung,
        Some(status) if status.success() => End::Off,
        Some(status) => End::Qemu(status.to_string()),
    }
}

/// A path in an option of qemu's, which are separated by commas.
fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
