//! What the kernel keeps per thread: capabilities, Landlock's rules, and whether `exec` may give more
//! privileges. To have it the same on all threads, each gets a signal whose handler does it there,
//! as the C library does for user ids. Threads that start later have what their starters have.

use super::capabilities::Kept;
use anyhow::{Context as _, ensure};
use rustix::thread::{gettid, set_no_new_privs};
use std::{
    collections::BTreeSet,
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The signal: it is not blocked anywhere, ignored by default, and nothing here has the kernel send it.
const SIGNAL: libc::c_int = libc::SIGURG;

/// How long a thread may take to handle it. One that waits for a disk takes no signals meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

// What the handler is to do, and how it went.
static RULES: AtomicI32 = AtomicI32::new(-1);
static DROPS: AtomicBool = AtomicBool::new(false);
static DONE: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicI32 = AtomicI32::new(0);

/// Restricts all threads. The others have no capabilities left, if this one is to have just those
/// that are kept.
///
/// # Errors
/// When a thread cannot be restricted.
pub(super) fn restrict_all(kept: Option<Kept>, rules: Option<&OwnedFd>) -> anyhow::Result<()> {
    let rules = rules.map_or(-1, OwnedFd::as_raw_fd);
    RULES.store(rules, Ordering::SeqCst);
    DROPS.store(kept.is_some(), Ordering::SeqCst);
    others()?;
    restrict(kept, rules)?;
    Ok(())
}

/// Restricts this thread. Async-signal-safe.
fn restrict(kept: Option<Kept>, rules: RawFd) -> io::Result<()> {
    set_no_new_privs(true)?;
    if rules >= 0 {
        // SAFETY: takes no pointer; the descriptor is open as long as its owner is borrowed.
        let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    kept.map_or(Ok(()), Kept::set)
}

extern "C" fn handle(_: libc::c_int) {
    // SAFETY: the pointer is this thread's own, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    let kept = DROPS.load(Ordering::SeqCst).then_some(Kept::NOTHING);
    if let Err(error) = restrict(kept, RULES.load(Ordering::SeqCst)) {
        FAILED.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::SeqCst);
    }
    DONE.fetch_add(1, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Has all threads but this one handle the signal.
fn others() -> anyhow::Result<()> {
    // SAFETY: all zero bytes are a valid `sigaction`; the handler calls nothing that is not allowed
    // in one, and both structs outlive the calls.
    let before = unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        let mut before = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        ensure!(libc::sigaction(SIGNAL, &raw const action, &raw mut before) == 0, io::Error::last_os_error());
        before
    };
    let result = signal_others();
    // SAFETY: as above; it was filled in by the kernel.
    unsafe { libc::sigaction(SIGNAL, &raw const before, ptr::null_mut()) };
    result?;
    match FAILED.swap(0, Ordering::SeqCst) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error).into()),
    }
}

fn signal_others() -> anyhow::Result<()> {
    let (process, own) = (std::process::id(), gettid().as_raw_nonzero().get());
    let mut signalled = BTreeSet::from([own]);
    // Until no thread is there that was not there before: one may have been started meanwhile.
    loop {
        let mut fresh = Vec::new();
        for entry in fs::read_dir("/proc/self/task").context("cannot list the threads")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            fresh.extend(number.filter(|number| !signalled.contains(number)));
        }
        if fresh.is_empty() {
            return Ok(());
        }
        for thread in fresh {
            signalled.insert(thread);
            let done = DONE.load(Ordering::SeqCst);
            // SAFETY: takes no pointer. An error means that the thread has ended.
            if unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) } != 0 {
                continue;
            }
            let deadline = Instant::now() + PATIENCE;
            while DONE.load(Ordering::SeqCst) == done {
                ensure!(Instant::now() < deadline, "thread {thread} takes no signals");
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
}
