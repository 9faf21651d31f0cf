//! Ctrl-C, SIGTERM and SIGHUP end a program early, but not at once: it first takes away what it has
//! made. For programs that make network namespaces and start others: the playground and the
//! benchmark.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// From here on Ctrl-C, SIGTERM and SIGHUP are remembered instead of killing the process, and
/// [`wake`] can be used.
///
/// # Errors
/// When the kernel does not take a handler.
pub fn catch() -> anyhow::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        handle(signal, remember)?;
    }
    handle(WAKE, ignore)
}

/// The signal by which [`wake`] ends a system call.
const WAKE: libc::c_int = libc::SIGUSR1;

/// Lets the system call that a thread of this process is in come back with EINTR.
pub fn wake(thread: libc::pid_t) {
    // SAFETY: a system call without pointers; the handler does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, WAKE) };
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> anyhow::Result<()> {
    // SAFETY: all zero bytes is a valid sigaction; the handlers do at most an atomic store. Without
    // SA_RESTART blocking calls come back and are followed by a `check`.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot install a handler for signal {signal}"));
    }
    Ok(())
}

/// Whether this process has been asked to end.
#[must_use]
pub fn is_set() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// To be called in every loop that may take long.
///
/// # Errors
/// When this process has been asked to end.
pub fn check() -> anyhow::Result<()> {
    if is_set() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps.
///
/// # Errors
/// As soon as this process is asked to end.
pub fn sleep(duration: Duration) -> anyhow::Result<()> {
    const SLICE: Duration = Duration::from_millis(100);
    let end = Instant::now() + duration;
    loop {
        check()?;
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        thread::sleep(rest.min(SLICE));
    }
}
