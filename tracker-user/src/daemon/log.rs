//! The log. A thread of its own writes the lines to standard error or the journal, so that logging
//! never stops or ends the tracker, whatever standard error is: a full pipe, a pipe without a reader,
//! a full disk, a lost terminal.
//!
//! A line is lost if it cannot be written, or if the queue is full while the writer waits. Lost
//! lines are counted, and the count is logged as soon as a line can be written again.

use super::journal::Journal;
use crate::{
    logging::{self, Destination},
    text::plural,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};
use tracing::Level;

/// The size of the queue in bytes: some thousand lines.
const QUEUE_BYTES: usize = 1 << 20;

/// How often the writer tries to report lost lines when there are no other lines.
const RETRY: Duration = Duration::from_secs(1);

/// How long the last lines of the log may take when the process ends.
pub const LAST_LINES: Duration = Duration::from_secs(2);

/// The queue of lines. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    journal: Journal,
    /// A line has come.
    arrived: Condvar,
    /// All lines have been written or lost.
    settled: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<(Destination, Vec<u8>)>,
    bytes: usize,
    /// Lines that have not fitted since the writer took lines last.
    lost: u64,
    /// The writer has taken lines and is not done with them.
    is_writing: bool,
}

impl Queue {
    fn push(&mut self, destination: Destination, line: Vec<u8>) {
        // After a lost line, all lines are lost until the writer takes lines again: so the count
        // appears in the log where they are missing.
        if self.lost > 0 || self.bytes + line.len() > QUEUE_BYTES {
            self.lost += 1;
        } else {
            self.bytes += line.len();
            self.lines.push_back((destination, line));
        }
    }
}

impl Log {
    /// A log whose lines go to standard error from now on.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_standard_error() -> io::Result<Self> {
        let log = Self::default();
        let shared = log.0.clone();
        let mut writer = Writer { sink: StandardError, lost: 0, reason: None, is_mid_line: false };
        thread::Builder::new().name("log".into()).spawn(move || {
            loop {
                shared.serve(&mut writer);
            }
        })?;
        Ok(log)
    }

    /// Adds a line, with its line break. It waits for no one but threads that add lines, too.
    pub fn line(&self, destination: Destination, line: Vec<u8>) {
        self.0.queue().push(destination, line);
        self.0.arrived.notify_one();
    }

    /// Adds a line for a thread that panics, if it gets the lock of the queue: the thread may hold
    /// the lock itself.
    pub fn line_of_a_panic(&self, text: &str) {
        let (destination, line) = logging::plain(Level::ERROR, text);
        if let Some(mut queue) = self.0.queue_before(Instant::now() + Duration::from_millis(100)) {
            queue.push(destination, line);
            self.0.arrived.notify_one();
        }
    }

    /// Waits until all lines are written or lost, but no longer than `limit`.
    pub fn settle(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let Some(mut queue) = self.0.queue_before(deadline) else { return };
        while queue.is_writing || !queue.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.0.settled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    /// The queue, also after a panic: code that holds the lock leaves the queue consistent.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, but no later than `deadline`.
    fn queue_before(&self, deadline: Instant) -> Option<MutexGuard<'_, Queue>> {
        loop {
            match self.queue.try_lock() {
                Ok(queue) => return Some(queue),
                Err(TryLockError::Poisoned(queue)) => return Some(queue.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Waits for lines and writes them.
    fn serve<S: Sink>(&self, writer: &mut Writer<S>) {
        let mut queue = self.queue();
        if queue.lines.is_empty() && queue.lost == 0 {
            queue = if writer.lost == 0 {
                self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.arrived.wait_timeout(queue, RETRY).unwrap_or_else(PoisonError::into_inner).0
            };
        }
        let lines = std::mem::take(&mut queue.lines);
        let lost = std::mem::take(&mut queue.lost);
        queue.bytes = 0;
        queue.is_writing = true;
        drop(queue);

        for (destination, line) in lines {
            match destination {
                Destination::StandardError => writer.line(&line),
                Destination::Journal => {
                    if let Err(error) = self.journal.send(&line) {
                        writer.lost += 1;
                        writer.reason = Some(error);
                    }
                }
            }
        }
        writer.lost += lost;
        writer.tell();

        self.queue().is_writing = false;
        self.settled.notify_all();
    }
}

/// How long one wait for standard error lasts at most.
const WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Where lines go.
trait Sink: Write {
    /// Waits until something may be written, after `write` has said that it would have to wait.
    fn wait(&self);
}

/// Descriptor 2 without the lock and the buffer of [`io::stderr`].
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for StandardError {
    fn wait(&self) {
        let stderr = io::stderr();
        let mut files = [PollFd::new(&stderr, PollFlags::OUT)];
        // The result does not matter: `write` is tried again.
        let _ = poll(&mut files, Some(&WAIT));
        if files[0].revents().intersects(!PollFlags::OUT) {
            // The other end is gone. If `write` does not say so, this must not become a busy loop.
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Writes lines, and counts those that are lost.
struct Writer<S> {
    sink: S,
    lost: u64,
    /// Why the last one was lost; `None` if the queue was full.
    reason: Option<io::Error>,
    /// The last write ended within a line.
    is_mid_line: bool,
}

impl<S: Sink> Writer<S> {
    fn line(&mut self, line: &[u8]) {
        self.tell();
        // While the report of lost lines cannot be written, no line can.
        if self.lost > 0 || !self.write(line) {
            self.lost += 1;
        }
    }

    /// Writes how many lines were lost, if any were.
    fn tell(&mut self) {
        if self.lost == 0 {
            return;
        }
        let lost = plural(self.lost, "log line was", "log lines were");
        let text = match &self.reason {
            Some(reason) => format!("{lost} lost here: standard error could not be written: {reason}"),
            None => format!("{lost} lost here: standard error did not take them for a while"),
        };
        let line = logging::line(Level::WARN, &text);
        if self.write(&line) {
            self.lost = 0;
            self.reason = None;
        }
    }

    /// Whether all of `line` could be written.
    fn write(&mut self, line: &[u8]) -> bool {
        if self.is_mid_line {
            if !self.write_all(b"\n") {
                return false;
            }
            self.is_mid_line = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let error = match self.sink.write(bytes) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_mid_line = !bytes.is_empty();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.sink.wait();
                    continue;
                }
                Err(error) => error,
            };
            self.reason = Some(error);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a sink does with the next writes; then it takes everything.
    struct Scripted {
        script: VecDeque<Result<usize, i32>>,
        written: String,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = match self.script.pop_front() {
                None => bytes.len(),
                Some(Ok(length)) => length,
                Some(Err(code)) => return Err(io::Error::from_raw_os_error(code)),
            };
            self.written += std::str::from_utf8(&bytes[..length]).expect("the lines are ASCII");
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Scripted {
        fn wait(&self) {}
    }

    /// What two lines look like when the sink does as `script` says. The time is left out.
    fn written(script: &[Result<usize, i32>]) -> String {
        let sink = Scripted { script: script.iter().copied().collect(), written: String::new() };
        let mut writer = Writer { sink, lost: 0, reason: None, is_mid_line: false };
        writer.line(b"first\n");
        writer.line(b"second\n");
        // Later, when there is nothing else to write, it is tried again.
        writer.tell();
        writer.tell();
        let lines = writer.sink.written.lines();
        lines.map(|line| line.split_once("  WARN ").map_or(line, |(_, rest)| rest)).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn lines_come_whole_or_are_counted_where_they_are_missing() {
        let (full, gone) = (libc::ENOSPC, libc::EPIPE);
        for (script, expected) in [
            (&[][..], "first|second"),
            (&[Ok(2), Ok(1)], "first|second"),
            (&[Err(libc::EAGAIN), Err(libc::EINTR), Ok(2), Err(libc::EAGAIN)], "first|second"),
            (
                &[Err(gone)],
                "1 log line was lost here: standard error could not be written: Broken pipe (os error 32)|second",
            ),
            (
                &[Err(gone), Err(full), Err(full)],
                "2 log lines were lost here: standard error could not be written: No space left on device (os error 28)",
            ),
            // Half a line, and then nothing more of it.
            (
                &[Ok(3), Err(full)],
                "fir|1 log line was lost here: standard error could not be written: No space left on device (os error 28)|second",
            ),
            (&[Ok(0)], "1 log line was lost here: standard error could not be written: write zero|second"),
        ] {
            assert_eq!(written(script), expected, "{script:?}");
        }
    }

    #[test]
    fn queue_is_bounded_and_counts_what_does_not_fit() {
        let log = Log::default();
        let line = [b'x'; 1000];
        for _ in 0..QUEUE_BYTES / line.len() + 10 {
            log.line(Destination::StandardError, line.to_vec());
        }
        let sink = Scripted { script: VecDeque::new(), written: String::new() };
        let mut writer = Writer { sink, lost: 0, reason: None, is_mid_line: false };
        assert!(log.0.queue().bytes <= QUEUE_BYTES);
        log.0.serve(&mut writer);
        assert!(writer.sink.written.contains("10 log lines were lost here: standard error did not take them"));
        log.line(Destination::StandardError, b"again\n".to_vec());
        log.0.serve(&mut writer);
        assert!(writer.sink.written.ends_with("again\n"));
        assert_eq!(log.0.queue().bytes, 0);
    }

    #[test]
    fn waiting_for_lines_does_not_end_because_somebody_adds_one() {
        let log = Log::default();
        log.line(Destination::StandardError, b"last\n".to_vec());
        let held = log.0.queue();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| log.settle(Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(50));
            assert!(!waiter.is_finished(), "the line is not written yet");
            drop(held);
            let sink = Scripted { script: VecDeque::new(), written: String::new() };
            log.0.serve(&mut Writer { sink, lost: 0, reason: None, is_mid_line: false });
        });
        assert!(log.0.queue().lines.is_empty());
    }

    #[test]
    fn waiting_for_lines_that_nobody_writes_ends() {
        let log = Log::default();
        log.line(Destination::StandardError, b"never written\n".to_vec());
        log.settle(Duration::from_millis(1));
        let held = log.0.queue();
        log.line_of_a_panic("the panic may have happened in here\n");
        assert_eq!(held.lines.len(), 1);
    }
}
