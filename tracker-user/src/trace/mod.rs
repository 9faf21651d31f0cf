//! `tracker trace`: single packets, as a running tracker's XDP program sees them.
//!
//! The program writes a record of each packet into a ring buffer while a word in the settings
//! record lies ahead of its clock. The tracing process moves the word on once a second, so tracing
//! stops when the process ends, however it ends.

mod claim;
mod collect;
mod filter;
mod find;
mod line;
pub mod options;

pub use collect::{Collected, collect};
pub use filter::Filter;
pub use find::{maps_of, running_tracker};
pub use options::TraceOptions;

use crate::text::output;
use anyhow::{bail, ensure};
use aya::maps::{MapData, RingBuf};
use claim::Claim;
use line::{Clock, Names};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    io::{self, Write as _},
    mem::MaybeUninit,
    os::fd::{FromRawFd as _, OwnedFd},
    process::ExitCode,
    ptr,
    time::{Duration, Instant},
};
use tracker_common::{settings::Settings, trace::Record};

/// How often the clock of the tracker is checked.
const CHECK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// How long its clock, which ticks four times a second, may stand still.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// While this many bytes wait to be written, no more records are read.
const PENDING: usize = 64 << 10;

/// What a pipe that can be written to takes without blocking: PIPE_BUF.
const PIECE: usize = 4096;

/// Shows packets until `--count` is reached, a signal comes, or the reader of standard output has
/// gone.
///
/// # Errors
/// When there is no tracker to trace, or it ends.
pub fn run(options: &TraceOptions) -> anyhow::Result<ExitCode> {
    let signals = signals()?;
    let found = running_tracker(options.program)?;
    let claim = Claim::take(&found.settings, options.filter.wanted())?;
    let mut ring = found.ring;
    // Records from before were for another process.
    while ring.next().is_some() {}
    output::complain(&format!("tracing XDP program {}; SIGINT (Ctrl-C) ends it\n", found.program));
    let mut trace = Trace {
        options,
        settings: &found.settings,
        names: Names::default(),
        clock: Clock::now(),
        shown: 0,
        pending: Vec::new(),
    };
    let lost_before = found.settings.traces_lost.load();
    let result = trace.follow(&claim, &mut ring, &signals);
    drop(claim);
    let lost = found.settings.traces_lost.load().wrapping_sub(lost_before);
    if lost > 0 {
        output::complain(&format!(
            "{lost} packets not shown: they came faster than they were taken; --reason keeps others out from the beginning\n"
        ));
    }
    result
}

/// A file that is readable when SIGINT or SIGTERM has come.
fn signals() -> anyhow::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set in, and all calls get pointers to it while it lives.
    let (blocked, file) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in [libc::SIGINT, libc::SIGTERM] {
            libc::sigaddset(&raw mut set, signal);
        }
        let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        (blocked, libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
    };
    ensure!(blocked == 0, "cannot block signals: {}", io::Error::from_raw_os_error(blocked));
    ensure!(file >= 0, "cannot wait for signals (signalfd): {}", io::Error::last_os_error());
    // SAFETY: the call has just opened it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

struct Trace<'a> {
    options: &'a TraceOptions,
    settings: &'a Settings,
    names: Names,
    clock: Clock,
    shown: u64,
    /// What is still to be written to standard output.
    pending: Vec<u8>,
}

impl Trace<'_> {
    fn follow(
        &mut self,
        claim: &Claim<'_>,
        ring: &mut RingBuf<MapData>,
        signals: &OwnedFd,
    ) -> anyhow::Result<ExitCode> {
        let mut second = (self.settings.second.load(), Instant::now());
        loop {
            claim.renew()?;
            let now = self.settings.second.load();
            if now != second.0 {
                second = (now, Instant::now());
                self.clock = Clock::now();
            } else if second.1.elapsed() > CLOCK_TIMEOUT {
                bail!(
                    "the tracker has ended, or stands still: its clock has not moved for {} seconds",
                    CLOCK_TIMEOUT.as_secs()
                );
            }
            self.read(ring);
            if self.pending.is_empty() && self.is_done() {
                return Ok(ExitCode::SUCCESS);
            }
            let has_room = !self.is_done() && self.pending.len() < PENDING;
            let only = |wanted: bool, flags: PollFlags| if wanted { flags } else { PollFlags::empty() };
            let stdout = io::stdout();
            let mut files = [
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&stdout, only(!self.pending.is_empty(), PollFlags::OUT)),
                PollFd::new(ring, only(has_room, PollFlags::IN)),
            ];
            match poll(&mut files, Some(&CHECK_INTERVAL)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => bail!("cannot wait for packets (poll): {}", io::Error::from(error)),
            }
            let [signalled, output, _] = files.map(|file| file.revents());
            if !signalled.is_empty() {
                return Ok(output::exit_code(Ok(())));
            }
            if output.contains(PollFlags::OUT) {
                if let Err(error) = self.write() {
                    return Ok(output::exit_code(Err(error)));
                }
            } else if output.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
                // The reader has gone.
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.options.count.is_some_and(|count| self.shown >= count)
    }

    /// Reads records from the ring buffer, and keeps the lines of those that are wanted.
    fn read(&mut self, ring: &mut RingBuf<MapData>) {
        while !self.is_done() && self.pending.len() < PENDING {
            let Some(item) = ring.next() else { break };
            let Some(traced) = Record::read(&item) else { continue };
            if !self.options.filter.is_wanted(&traced) {
                continue;
            }
            let interface = self.names.of(traced.interface, self.settings);
            let line = line::line(&traced, &interface, self.clock.nanoseconds_of_day(traced.time));
            self.pending.extend_from_slice(line.as_bytes());
            self.shown += 1;
        }
    }

    /// Writes as much as does not block.
    fn write(&mut self) -> io::Result<()> {
        let length = self.pending.len().min(PIECE);
        let mut output = io::stdout().lock();
        output.write_all(&self.pending[..length])?;
        output.flush()?;
        self.pending.drain(..length);
        Ok(())
    }
}
