//! `tracker trace`: single packets, as a running tracker's XDP program sees them.
//!
//! The program writes a record of each packet into a ring buffer while a word in the settings record lies ahead of its clock. This
//! moves the word on once a second, so that nothing stays on, whatever becomes of it.

mod claim;
mod find;
mod line;
mod options;

pub use options::TraceOptions;

use crate::text::output;
use anyhow::{bail, ensure};
use aya::maps::{MapData, RingBuf};
use claim::Claim;
use line::{Clock, Names};
use std::{
    io::{self, ErrorKind, Write as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::ExitCode,
    ptr,
    time::{Duration, Instant},
};
use tracker_common::{
    outcome::{FrameReason, Reason},
    settings::Settings,
    trace::{Outcome, Record, Traced},
};

/// How often the tracker is looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long its clock, which ticks four times a second, may stand still.
const STANDSTILL: Duration = Duration::from_secs(3);

/// No more records are read while so many bytes wait to be written.
const PENDING: usize = 64 << 10;

/// What a pipe that can be written to takes without blocking: PIPE_BUF.
const PIECE: usize = 4096;

/// What is not the tracker's business, and mostly is most of what comes. Shown only when it is asked for by name: what is shown over
/// a network connection makes packets itself.
const OTHERS: [Reason; 3] =
    [Reason::Frame(FrameReason::NotIp), Reason::Frame(FrameReason::NotUdp), Reason::Frame(FrameReason::NotForUs)];

/// Shows packets until there were as many as asked for, a signal comes, or nobody reads on.
///
/// # Errors
/// When there is no tracker to trace, or it ends.
pub fn run(options: &TraceOptions) -> anyhow::Result<ExitCode> {
    let signals = signals()?;
    let found = find::tracker(options.program)?;
    let claim = Claim::take(&found.settings, wanted(&options.reason))?;
    let mut ring = found.ring;
    // What came before is nobody's any more.
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

/// Bits of the outcomes that the program is to tell of.
fn wanted(outcomes: &[Outcome]) -> u64 {
    let bits = |outcomes: &mut dyn Iterator<Item = Outcome>| outcomes.fold(0, |bits, outcome| bits | outcome.bit());
    if outcomes.is_empty() {
        bits(&mut Outcome::all().filter(|outcome| !OTHERS.map(Outcome::Refused).contains(outcome)))
    } else {
        bits(&mut outcomes.iter().copied())
    }
}

/// SIGINT and SIGTERM as a file that can be read when one has come.
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
    // SAFETY: the call has just opened it, for nobody else.
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
            } else if second.1.elapsed() > STANDSTILL {
                bail!(
                    "the tracker has ended, or stands still: its clock has not moved for {} seconds",
                    STANDSTILL.as_secs()
                );
            }
            self.read(ring);
            if self.pending.is_empty() && self.is_done() {
                return Ok(ExitCode::SUCCESS);
            }
            let readable = if self.is_done() || self.pending.len() >= PENDING { -1 } else { ring.as_raw_fd() };
            let output = if self.pending.is_empty() { 0 } else { libc::POLLOUT };
            let mut files = [
                libc::pollfd { fd: signals.as_raw_fd(), events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: libc::STDOUT_FILENO, events: output, revents: 0 },
                libc::pollfd { fd: readable, events: libc::POLLIN, revents: 0 },
            ];
            let count = files.len() as libc::nfds_t;
            // SAFETY: the array has so many elements and outlives the call.
            let ready = unsafe { libc::poll(files.as_mut_ptr(), count, TICK.as_millis() as libc::c_int) };
            if ready < 0 {
                let error = io::Error::last_os_error();
                ensure!(error.kind() == ErrorKind::Interrupted, "cannot wait for packets (poll): {error}");
                continue;
            }
            if files[0].revents != 0 {
                return Ok(output::exit_code(Ok(())));
            }
            let there = files[1].revents;
            if there & libc::POLLOUT != 0 {
                if let Err(error) = self.write() {
                    return Ok(output::exit_code(Err(error)));
                }
            } else if there & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
                // Nobody will read what is still to come.
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.options.count.is_some_and(|count| self.shown >= count)
    }

    /// Reads what there is, as far as it is wanted.
    fn read(&mut self, ring: &mut RingBuf<MapData>) {
        while !self.is_done() && self.pending.len() < PENDING {
            let Some(item) = ring.next() else { break };
            let Some(traced) = Record::read(&item) else { continue };
            if !self.is_wanted(&traced) {
                continue;
            }
            let interface = self.names.of(traced.interface, self.settings);
            let line = line::line(&traced, &interface, self.clock.nanoseconds_of_day(traced.time));
            self.pending.extend_from_slice(line.as_bytes());
            self.shown += 1;
        }
    }

    fn is_wanted(&self, traced: &Traced<'_>) -> bool {
        let source = traced.flow.map(|[source, _]| source.ip());
        let hashes = traced.request.map_or(&[][..], |request| request.info_hashes);
        // What the program was told may have come a moment too late for it.
        wanted(&self.options.reason) & traced.outcome.bit() != 0
            && self.options.source.is_none_or(|wanted| source == Some(wanted))
            && self.options.info_hash.is_none_or(|wanted| hashes.contains(&wanted))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::outcome::{Event, RequestReason};

    #[test]
    fn traffic_of_others_is_shown_by_name_only() {
        let bit = |reason| Outcome::Refused(reason).bit();
        for reason in OTHERS {
            assert_eq!(wanted(&[]) & bit(reason), 0, "{reason:?}");
            assert_eq!(wanted(&[Outcome::Refused(reason)]), bit(reason));
        }
        for reason in
            [RequestReason::ConnectionIdWrong.into(), FrameReason::ChecksumWrong.into(), FrameReason::NoRoom.into()]
        {
            assert_ne!(wanted(&[]) & bit(reason), 0, "{reason:?}");
        }
        assert_ne!(wanted(&[]) & Outcome::Answered(Event::Announce6).bit(), 0);
    }
}
