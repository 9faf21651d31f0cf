//! A virtual machine without hardware support that runs one kernel, once.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tracker_tests::supervised::{Ending, Printing, Supervised};

use super::{initramfs, package::Kernel, qemu::Qemu};

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
    qemu: Supervised,
    console: PathBuf,
    /// What qemu itself prints.
    messages: PathBuf,
    started: Instant,
    limit: Duration,
    /// Processor time so far, of all of qemu's threads.
    processor_time: Duration,
}

impl Guest {
    /// Starts `kernel` with the directory `share`, which holds the job and will hold the results.
    /// `cards` are further options for qemu; `wrap` may put qemu into a network namespace.
    pub fn start(
        kernel: &Kernel,
        share: &Path,
        cards: &[String],
        limit: Duration,
        wrap: impl FnOnce(&Path) -> Command,
    ) -> anyhow::Result<Self> {
        let initramfs = initramfs::build(kernel, share)?;
        let qemu = Qemu::find()?;
        let (console, messages) = (share.join("console.log"), share.join("qemu.log"));
        let mut command = wrap(&qemu.program);
        qemu.prepare(&mut command);
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
            // A panic and what would go on in spite of an error in the kernel end the guest at
            // once. Mitigations protect nobody here and cost much without hardware support.
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
            .stderr(fs::File::create(&messages).context("cannot write qemu's log")?);
        let qemu = Supervised::start(command, Printing::AsPrepared, Ending::AT_ONCE)
            .context("cannot start qemu-system-x86_64")?;
        Ok(Self { qemu, console, messages, started: Instant::now(), limit, processor_time: Duration::ZERO })
    }

    /// How long it has been running.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How much processor time it has taken: what does not depend on what else the machine does.
    pub fn processor_time(&self) -> Duration {
        self.processor_time
    }

    /// Waits for its end and calls `look` meanwhile, again and again.
    pub fn wait(&mut self, mut look: impl FnMut()) -> anyhow::Result<End> {
        let status = loop {
            look();
            self.processor_time = processor_time(self.qemu.id()).unwrap_or(self.processor_time);
            if let Some(status) = self.qemu.status()? {
                break Some(status);
            }
            if self.age() > self.limit {
                self.qemu.end()?;
                break None;
            }
            thread::sleep(INTERVAL);
        };
        look();
        let messages = fs::read_to_string(&self.messages).unwrap_or_default();
        Ok(end(status, &self.console(), &messages))
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

/// The time that a process has spent on processors, as long as it is there.
fn processor_time(process: u32) -> Option<Duration> {
    /// Of a second; the same on all machines (`USER_HZ`).
    const TICKS: u64 = 100;
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; behind it user and system time are words 12 and
    // 13.
    let mut words = status.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// How it ended, by qemu's exit status, if it had one of its own, by what the console says and by
/// what qemu says.
fn end(status: Option<ExitStatus>, console: &str, messages: &str) -> End {
    const PANIC: &str = "Kernel panic - not syncing: ";
    if let Some(words) = console.lines().find_map(|line| line.split_once(PANIC)) {
        return End::Panic(words.1.trim().to_owned());
    }
    match status {
        None => End::Hung,
        // qemu ends well, too, when the guest starts anew instead of switching itself off.
        Some(status) if status.success() && console.contains("reboot: Power down") => End::Off,
        Some(status) => End::Qemu(format!("{status}; {}", messages.trim())),
    }
}

/// A path in an option of qemu's, which are separated by commas.
fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn end_of_a_guest_is_recognised() {
        let (well, badly) = (ExitStatus::from_raw(0), ExitStatus::from_raw(256));
        for (status, console, messages, expected) in [
            (Some(well), "part verify\n[ 21.9] reboot: Power down\n", "", End::Off),
            (
                Some(well),
                "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n[    3.2] more",
                "",
                End::Panic("Attempted to kill init! exitcode=0x00000100".to_owned()),
            ),
            // It has panicked, but does not come to an end.
            (None, "[    3.1] Kernel panic - not syncing: oops\n", "", End::Panic("oops".to_owned())),
            (None, "part verify\n", "", End::Hung),
            // It started anew, as after a triple fault.
            (Some(well), "part verify\n", "", End::Qemu("exit status: 0; ".to_owned())),
            (Some(badly), "", "no such file\n", End::Qemu("exit status: 1; no such file".to_owned())),
        ] {
            assert_eq!(end(status, console, messages), expected, "{console}");
        }
    }

    #[test]
    fn comma_in_a_path_does_not_end_qemus_option() {
        assert_eq!(option_value(Path::new("/a,b/c")), "/a,,b/c");
    }
}
