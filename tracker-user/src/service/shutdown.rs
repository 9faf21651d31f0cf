//! How threads and tasks learn that they are to end: a flag for threads that block in system calls
//! with a time limit, a condition variable for threads that sleep, a pipe for threads that poll
//! files, a token for tasks. One call sets them all.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Clones share their state.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<State>);

#[derive(Default)]
struct State {
    flag: AtomicBool,
    token: CancellationToken,
    /// The lock is taken to set the flag: a thread that has seen the flag unset is waiting for
    /// `begun` before it is signalled.
    pipes: Mutex<Vec<io::PipeWriter>>,
    begun: Condvar,
}

impl Shutdown {
    /// Tells all threads and tasks.
    pub fn begin(&self) {
        let mut pipes = self.0.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.flag.store(true, Ordering::Relaxed);
        pipes.clear();
        drop(pipes);
        self.0.begun.notify_all();
        self.0.token.cancel();
    }

    /// Whether it has begun. It costs one load, so it can be called between two batches of packets.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed)
    }

    /// Sleeps for `time`. False, and at once, when shutdown has begun or begins meanwhile.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut pipes = self.0.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.has_begun() {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            pipes = self.0.begun.wait_timeout(pipes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// For threads that wait for files: a pipe that nothing comes by, and that ends when shutdown
    /// begins.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn pipe(&self) -> io::Result<io::PipeReader> {
        let (reader, writer) = io::pipe()?;
        let mut pipes = self.0.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_begun() {
            pipes.push(writer);
        }
        Ok(reader)
    }

    /// For tasks: `token().cancelled().await`.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.0.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read as _, thread};

    #[test]
    fn sleepers_wake_at_the_end_of_their_time() {
        let shutdown = Shutdown::default();
        let begun = Instant::now();
        assert!(shutdown.sleep(Duration::from_millis(20)) && begun.elapsed() >= Duration::from_millis(20));
        assert!(shutdown.sleep(Duration::ZERO));
    }

    #[test]
    fn everybody_wakes_when_shutdown_begins() {
        const LONG: Duration = Duration::from_secs(3600);
        let shutdown = Shutdown::default();
        let mut pipe = shutdown.pipe().expect("a pipe");
        let sleeper = thread::spawn({
            let shutdown = shutdown.clone();
            move || shutdown.sleep(LONG)
        });
        let reader = thread::spawn(move || pipe.read(&mut [0]).ok());
        assert!(!shutdown.has_begun() && !shutdown.token().is_cancelled());
        shutdown.begin();
        assert_eq!((sleeper.join().ok(), reader.join().ok()), (Some(false), Some(Some(0))));
        // And later.
        assert!(shutdown.has_begun() && shutdown.token().is_cancelled());
        assert!(!shutdown.sleep(LONG) && !shutdown.sleep(Duration::ZERO));
        assert_eq!(shutdown.pipe().expect("a pipe").read(&mut [0]).ok(), Some(0));
    }
}
