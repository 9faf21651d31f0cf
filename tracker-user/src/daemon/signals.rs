//! Signals. SIGTERM and SIGINT stop the tracker, SIGHUP has it read its configuration again, SIGUSR2
//! has another one take its place. Signals that have no meaning here, but would end a process by
//! default, are logged and ignored.
//!
//! All of them are blocked in all threads from the start, and one thread waits for them, so none
//! can come too early. SIGQUIT and the signals of faults keep their meaning: they end the process
//! at once, with a core dump where those are on.

use super::log::{LAST_LINES, Log};
use anyhow::{Context as _, ensure};
use std::{
    io,
    mem::MaybeUninit,
    process, ptr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};
use tracing::{info, warn};

/// What stops the tracker.
const STOPPING: [(libc::c_int, &str); 2] = [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT")];

/// What has another one take its place.
const REPLACING: (libc::c_int, &str) = (libc::SIGUSR2, "SIGUSR2");

/// Signals without a meaning here. By default they would end the process.
const MEANINGLESS: [(libc::c_int, &str); 7] = [
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
];

/// What the tracker is asked to do by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop.
    Stop,
    /// To read its configuration again.
    Reload,
    /// To let the program at its path take its place.
    Replace,
}

/// How far the tracker is when a signal is to stop it.
mod phase {
    pub const STARTING: u8 = 0;
    pub const RUNNING: u8 = 1;
    pub const STOPPING: u8 = 2;
}

/// The signals of this process, blocked in this thread and all that it starts from now on.
pub struct Blocked(libc::sigset_t);

/// The signals of this process; a thread waits for them.
pub struct Signals {
    phase: Arc<AtomicU8>,
    asked: Receiver<Asked>,
    go_on: Sender<()>,
}

impl Blocked {
    /// Blocks them. Has to be called before any other thread is started.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn new() -> anyhow::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset fills the set in, and all calls get pointers to it while it lives.
        let (set, error) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
            for signal in STOPPING
                .iter()
                .chain(&MEANINGLESS)
                .map(|(signal, _)| *signal)
                .chain(real_time)
                .chain([libc::SIGHUP, REPLACING.0])
            {
                libc::sigaddset(&raw mut set, signal);
            }
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()))
        };
        ensure!(error == 0, "cannot block signals: {}", io::Error::from_raw_os_error(error));
        // A file that may not grow is an error for the writer and no reason to end. (The kernel
        // sends SIGXFSZ to the thread that writes, so the thread that waits for signals would not
        // see it. Rust's runtime ignores SIGPIPE.) SAFETY: no handler is installed.
        let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        ensure!(before != libc::SIG_ERR, "cannot ignore SIGXFSZ: {}", io::Error::last_os_error());
        Ok(Self(set))
    }

    /// Starts the thread that waits for them. Until [`Signals::end_in_order`] is called, a signal to
    /// stop ends the process, after the lines of `log` are written.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch(self, log: Log) -> anyhow::Result<Signals> {
        let phase = Arc::new(AtomicU8::new(phase::STARTING));
        let (sender, asked) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel();
        let watcher = Watcher { set: self.0, phase: phase.clone(), ask: sender, gone_on, log };
        let run = move || watcher.run();
        thread::Builder::new()
            .name("signals".into())
            .spawn(run)
            .context("cannot start the thread that waits for signals")?;
        Ok(Signals { phase, asked, go_on })
    }
}

impl Signals {
    /// From now on a signal to stop does not end the process, but [`Signals::wait`]: what serves by
    /// now has to give its sockets back. The kernel takes an io_uring apart some time after the end
    /// of its process, and until then its port is taken.
    pub fn end_in_order(&self) {
        let _ = self.phase.compare_exchange(phase::STARTING, phase::RUNNING, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Waits for a signal that asks for something. One that came during the start is not lost.
    pub fn wait(&self) -> Asked {
        self.end_in_order();
        // An error would mean that the other thread has ended, which it never does.
        self.asked.recv().unwrap_or(Asked::Stop)
    }
}

impl Signals {
    /// No other tracker takes the place of this one after all: signals are waited for again.
    pub fn go_on(&self) {
        // An error would mean that the other thread has ended.
        let _ = self.go_on.send(());
    }
}

struct Watcher {
    set: libc::sigset_t,
    phase: Arc<AtomicU8>,
    ask: Sender<Asked>,
    gone_on: Receiver<()>,
    log: Log,
}

impl Watcher {
    fn run(&self) {
        // Who is to be replaced has to be there first: asked for during the start, it waits.
        let mut waits = false;
        loop {
            if waits && self.phase.load(Ordering::SeqCst) != phase::STARTING {
                waits = false;
                self.replace();
            }
            let mut details = MaybeUninit::<libc::siginfo_t>::zeroed();
            let moment = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let timeout = if waits { &raw const moment } else { ptr::null() };
            // SAFETY: the pointers outlive the call; the last one may be null, for no end of time.
            let signal = unsafe { libc::sigtimedwait(&raw const self.set, details.as_mut_ptr(), timeout) };
            if signal < 0 {
                let error = io::Error::last_os_error();
                if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) {
                    warn!("cannot wait for signals: {error}");
                    thread::sleep(Duration::from_secs(1));
                }
                continue;
            }
            // SAFETY: all zero bytes are a valid `siginfo_t`, and the call has filled it in. The
            // sender is valid when a process has sent the signal, which a code of 0 or less says.
            let sender = unsafe {
                let details = details.assume_init();
                if details.si_code <= 0 { format!(" from process {}", details.si_pid()) } else { String::new() }
            };
            match STOPPING.iter().find(|(stopping, _)| *stopping == signal) {
                Some((_, name)) => self.stop(name, &sender),
                None if signal == libc::SIGHUP => {
                    info!("SIGHUP{sender}: reading the configuration again");
                    let _ = self.ask.send(Asked::Reload);
                }
                None if signal == REPLACING.0 => {
                    info!("{}{sender}: another tracker is to take the place of this one", REPLACING.1);
                    waits = true;
                }
                None => info!("{}{sender}: ignored, it means nothing here (SIGTERM stops the tracker)", name(signal)),
            }
        }
    }

    fn replace(&self) {
        if self.phase.load(Ordering::SeqCst) == phase::RUNNING {
            let _ = self.ask.send(Asked::Replace);
            // What comes from now on is for the next one, in which it is still pending.
            let _ = self.gone_on.recv();
        } else {
            info!("{}: ignored, as the tracker is stopping", REPLACING.1);
        }
    }

    fn stop(&self, name: &str, sender: &str) {
        match self.phase.swap(phase::STOPPING, Ordering::SeqCst) {
            phase::STARTING => {
                info!("{name}{sender}: stopping before everything was started");
                // The kernel releases what has been bound, loaded or attached so far.
                self.log.settle(LAST_LINES);
                process::exit(0);
            }
            phase::RUNNING => {
                info!("{name}{sender}: stopping");
                let _ = self.ask.send(Asked::Stop);
            }
            _ => info!("{name}{sender}: already stopping"),
        }
    }
}

/// The name of a signal without a meaning.
fn name(signal: libc::c_int) -> String {
    match MEANINGLESS.iter().find(|(known, _)| *known == signal) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("SIGRTMIN+{}", signal - libc::SIGRTMIN()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_its_usual_name() {
        let rows = [(10, "SIGUSR1"), (30, "SIGPWR"), (34, "SIGRTMIN+0"), (libc::SIGRTMAX(), "SIGRTMIN+30")];
        for (signal, expected) in rows {
            assert_eq!(name(signal), expected);
        }
    }

    #[test]
    fn faults_and_job_control_are_left_alone() {
        let ours: Vec<_> = STOPPING.iter().chain(&MEANINGLESS).chain([&REPLACING]).map(|(signal, _)| *signal).collect();
        for signal in [libc::SIGQUIT, libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGTSTP, libc::SIGCHLD] {
            assert!(!ours.contains(&signal), "{signal}");
        }
    }
}
