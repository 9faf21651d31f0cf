//! Supervision of child processes: each is started, waited for until it is ready, stopped by its
//! own id, and ended at the latest when its handle is dropped. What it prints is kept.

use crate::interrupt;
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a child is looked at while it is waited for.
const INTERVAL: Duration = Duration::from_millis(10);

/// How many of the last lines of a file are shown in an error.
const SHOWN: usize = 15;

/// Where a child's standard output and standard error go.
#[derive(Clone, Debug)]
pub enum Printing {
    /// To those of this process.
    Inherited,
    /// To this process, which reads both all the time; see [`Supervised::output`].
    Kept,
    /// Into this file, both of them.
    File(PathBuf),
    /// Where the command says.
    AsPrepared,
}

/// A stream that a child prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Output,
    /// Its standard error.
    Error,
}

/// How a child is made to end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The signal that it gets when the thread that started it ends first, as it does when this
    /// process is killed.
    pub orphaned: libc::c_int,
    /// How long it may take to end after SIGTERM before it is killed. Zero: it is killed at once.
    pub grace: Duration,
}

impl Ending {
    /// For what has nothing to put in order.
    pub const AT_ONCE: Self = Self { orphaned: libc::SIGKILL, grace: Duration::ZERO };

    /// For what takes something away when it ends, as the tracker does with its XDP program.
    #[must_use]
    pub const fn after(grace: Duration) -> Self {
        Self { orphaned: libc::SIGTERM, grace }
    }
}

/// A child process; made to end on drop.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    /// How it ended, once that is known; its id may be another process's from then on.
    ended: Option<ExitStatus>,
    ending: Ending,
    file: Option<PathBuf>,
    lines: Arc<Mutex<Vec<(Stream, String)>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Supervised {
    /// Starts `command`, with nothing on its standard input and in a process group of its own:
    /// Ctrl-C reaches this process alone, which then ends its children.
    ///
    /// # Errors
    /// When the file for what it prints cannot be made, or the program cannot be started.
    pub fn start(mut command: Command, printing: Printing, ending: Ending) -> Result<Self> {
        let mut file = None;
        match printing {
            Printing::Inherited => drop(command.stdin(Stdio::null())),
            Printing::Kept => drop(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())),
            Printing::File(path) => {
                let output = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
                command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
                file = Some(path);
            }
            Printing::AsPrepared => {}
        }
        command.process_group(0);
        // SAFETY: prctl is a plain system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, ending.orphaned) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        // What the command still has of the child's ends of pipes would keep them open.
        drop(command);
        let mut supervised = Self { child, ended: None, ending, file, lines: Arc::default(), readers: Vec::new() };
        if let Some(pipe) = supervised.child.stdout.take() {
            supervised.keep(Stream::Output, pipe);
        }
        if let Some(pipe) = supervised.child.stderr.take() {
            supervised.keep(Stream::Error, pipe);
        }
        Ok(supervised)
    }

    /// From now on keeps what comes out of `pipe` as printed to `stream`.
    pub fn keep(&mut self, stream: Stream, pipe: impl Read + Send + 'static) {
        let lines = self.lines.clone();
        self.readers.push(thread::spawn(move || {
            let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
            while let Ok(1..) = pipe.read_until(b'\n', &mut line) {
                let text = String::from_utf8_lossy(&line).into_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push((stream, text));
                line.clear();
            }
        }));
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, line by line as it came, as far as that is kept.
    #[must_use]
    pub fn output(&self) -> String {
        match &self.file {
            Some(path) => String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned(),
            None => self.lines().iter().map(|(_, line)| line.as_str()).collect(),
        }
    }

    /// What it has printed so far to one stream, as far as that is kept.
    #[must_use]
    pub fn printed(&self, stream: Stream) -> String {
        self.lines().iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.as_str()).collect()
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<(Stream, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has printed, for an error: all that is kept in memory, or the end of the file.
    fn said(&self) -> String {
        let output = self.output();
        match &self.file {
            Some(path) => {
                let lines: Vec<&str> = output.lines().collect();
                let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
                format!("; the end of its log {}:\n{end}", path.display())
            }
            None if output.is_empty() => String::new(),
            None => format!("; it said:\n{output}"),
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("cannot wait for a child process")?;
        }
        Ok(self.ended)
    }

    /// Makes sure that it still runs.
    ///
    /// # Errors
    /// When it has ended by itself; with what it has printed.
    pub fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.status()? {
            // What it said last may still be on its way.
            self.join_readers();
            bail!("it ended by itself with {status}{}", self.said());
        }
        Ok(())
    }

    /// Calls `ready` again and again until it succeeds, and returns what it gave.
    ///
    /// # Errors
    /// When the child ends, when `ready` still fails after `limit`, with its last error, or when
    /// this process is asked to end.
    pub fn wait_until_ready<T>(&mut self, limit: Duration, mut ready: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            self.ensure_running()?;
            match ready() {
                Ok(value) => return Ok(value),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("it is not ready after {limit:?}{}", self.said())));
                }
                Err(_) => interrupt::sleep(2 * INTERVAL)?,
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is known to have ended, or the kernel refuses.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        if let Some(status) = self.ended {
            bail!("it has ended with {status}{}", self.said());
        }
        let process = libc::pid_t::try_from(self.id())?;
        // SAFETY: takes no pointer; the child has not been waited for, so the id is still its own.
        if unsafe { libc::kill(process, signal) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot send a signal to a child process");
        }
        Ok(())
    }

    /// Waits for its end, and for all that it has printed.
    ///
    /// # Errors
    /// When it still runs after `limit`; with what it has printed.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.status()? {
                self.join_readers();
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("it does not end within {limit:?}{}", self.said());
            }
            thread::sleep(INTERVAL / 2);
        }
    }

    /// Waits for its end, however long that takes, and ends it when this process is asked to end.
    ///
    /// # Errors
    /// Those of [`Supervised::stop`].
    pub fn wait_or_interrupt(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            if interrupt::is_set() {
                return self.end();
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Ends it, waits for that, and for all that it has printed.
    ///
    /// # Errors
    /// When it was gone already, or had to be killed although it had its time; with what it has
    /// printed.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.ensure_running()?;
        let status = self.end();
        self.join_readers();
        status
    }

    /// Ends it, and waits for that.
    ///
    /// # Errors
    /// When it had to be killed although it had its time; with what it has printed.
    pub fn end(&mut self) -> Result<ExitStatus> {
        if !self.ending.grace.is_zero() {
            self.signal(libc::SIGTERM)?;
            let deadline = Instant::now() + self.ending.grace;
            while Instant::now() < deadline {
                if let Some(status) = self.status()? {
                    return Ok(status);
                }
                thread::sleep(INTERVAL / 2);
            }
        }
        if let Some(status) = self.status()? {
            return Ok(status);
        }
        self.child.kill().context("cannot kill a child process")?;
        let status = self.child.wait().context("cannot wait for a child process")?;
        self.ended = Some(status);
        if !self.ending.grace.is_zero() {
            bail!("it did not end within {:?} after SIGTERM and was killed{}", self.ending.grace, self.said());
        }
        Ok(status)
    }

    fn join_readers(&mut self) {
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if matches!(self.status(), Ok(None))
            && let Err(error) = self.end()
        {
            eprintln!("{error:#}");
        }
        let output = if thread::panicking() { self.output() } else { String::new() };
        if !output.is_empty() {
            eprintln!("a child process of the test that failed said:\n{output}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, ending: Ending) -> Supervised {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Supervised::start(command, Printing::Kept, ending).expect("a shell")
    }

    #[test]
    fn what_a_child_prints_is_kept_by_stream() {
        let mut child = shell("echo one; echo two >&2; printf three", Ending::AT_ONCE);
        assert!(child.wait(Duration::from_secs(30)).expect("it ends").success());
        assert_eq!(child.printed(Stream::Output), "one\nthree");
        assert_eq!(child.printed(Stream::Error), "two\n");
        assert!(child.output().contains("one\n") && child.output().contains("two\n"));
    }

    #[test]
    fn readiness_is_waited_for_and_an_early_end_is_an_error() {
        let mut tries = 0;
        let mut child = shell("exec sleep 60", Ending::AT_ONCE);
        let third = child.wait_until_ready(Duration::from_secs(30), || {
            tries += 1;
            if tries < 3 {
                bail!("not yet")
            }
            Ok(tries)
        });
        assert_eq!(third.expect("ready"), 3);
        let error = child.wait_until_ready::<()>(Duration::ZERO, || bail!("never")).expect_err("too late");
        assert!(format!("{error:#}").contains("never"), "{error:#}");

        let mut child = shell("echo sorry >&2; exit 3", Ending::AT_ONCE);
        let error = child.wait_until_ready::<()>(Duration::from_secs(30), || bail!("not yet")).expect_err("it ends");
        assert!(format!("{error:#}").contains("exit status: 3; it said:\nsorry"), "{error:#}");
        assert!(child.signal(0).is_err(), "its id may be another process's");
    }

    #[test]
    fn children_end_as_they_were_told_to() {
        // (script, grace, what `stop` says)
        for (script, grace, expected) in [
            ("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done", 30_000, Ok(Some(7))),
            ("echo up; exec sleep 60", 0, Ok(None)),
            ("trap '' TERM; echo up; while :; do sleep 0.01; done", 100, Err(())),
        ] {
            let mut child = shell(script, Ending::after(Duration::from_millis(grace)));
            let id = child.id();
            let output = child.lines.clone();
            let up = || if output.lock().expect("no panic").is_empty() { bail!("not up") } else { Ok(()) };
            child.wait_until_ready(Duration::from_secs(30), up).expect("it prints");
            assert_eq!(child.stop().map(|status| status.code()).map_err(drop), expected, "{script}");
            assert!(!std::path::Path::new("/proc").join(id.to_string()).exists(), "{script}");
        }
    }
}
