//! What a run of the generator gives: accounts taken at its beginning and its end.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bench_ebpf::Replies;

use super::source::Source;
use crate::{
    cores::{Accounts, Thread, Usage},
    hardware::{self, Counters},
    statistics::quantile,
};

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What one run gave.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub usage: Usage,
    pub sent: u64,
    pub replies: Replies,
    /// Closed loop: requests that had to be replaced, because they or their replies were lost.
    pub refilled: u64,
    /// Histogram of the time from request to reply; see `bench_ebpf::latency_bucket`.
    pub latency: Vec<u64>,
    /// What the processor counted on the tracker's core.
    pub hardware: hardware::Counts,
}

impl Run {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.replies.answered as f64 / self.usage.seconds
    }

    /// Answered share of what was sent.
    pub fn answered_share(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.replies.answered as f64 / self.sent as f64 }
    }

    /// Answers per second of processor time, receive path included.
    pub fn per_core_second(&self) -> f64 {
        self.replies.answered as f64 * 1e9 / (self.usage.process_time + self.usage.receive_time).max(1) as f64
    }

    pub fn peers_per_reply(&self) -> f64 {
        self.replies.peers as f64 / self.replies.answered.max(1) as f64
    }

    /// Replies whose checksum was looked at.
    pub fn sampled(&self) -> u64 {
        let replies = &self.replies;
        replies.right_checksum + replies.left_checksum + replies.wrong_checksum
    }

    /// Replies that were not what they should be.
    pub fn invalid(&self) -> u64 {
        let replies = &self.replies;
        replies.errors
            + replies.wrong_action
            + replies.wrong_length
            + replies.wrong_transaction
            + replies.wrong_checksum
    }

    /// The latency, in nanoseconds, that `share` of the sampled replies did not exceed.
    pub fn latency_quantile(&self, share: f64) -> Option<u64> {
        quantile(&self.latency, share)
    }

    /// The same in microseconds, for people; not a number without samples.
    pub fn latency_microseconds(&self, share: f64) -> f64 {
        self.latency_quantile(share).map_or(f64::NAN, |time| time as f64 / 1e3)
    }
}

/// Takes the accounts at the beginning and the end of the measured time, while the caller keeps
/// the load up.
pub struct Measuring {
    started: Instant,
    times: Times,
    process: Option<Thread>,
    polling: Vec<Thread>,
    before: Option<Snapshot>,
    after: Option<Snapshot>,
    counters: Option<Counters>,
}

impl Measuring {
    pub fn new(times: Times, process: Option<Thread>, polling: Vec<Thread>) -> Self {
        Self { started: Instant::now(), times, process, polling, before: None, after: None, counters: None }
    }

    /// To be called every few milliseconds, until it says false.
    pub fn go_on(&mut self, source: &Source) -> anyhow::Result<bool> {
        let elapsed = self.started.elapsed();
        if self.before.is_none() && elapsed >= self.times.warm_up {
            self.counters = Counters::open(source.cores.tracker).ok();
            self.before = Some(self.snapshot(source)?);
        } else if self.before.is_some() && elapsed >= self.times.warm_up + self.times.measured {
            self.after = Some(self.snapshot(source)?);
        }
        Ok(self.after.is_none())
    }

    fn snapshot(&self, source: &Source) -> anyhow::Result<Snapshot> {
        Snapshot::take(source, self.process, &self.polling, self.counters.as_ref())
    }

    pub fn run(self) -> anyhow::Result<Run> {
        let (before, after) = self.before.zip(self.after).context("the run was not measured to its end")?;
        Ok(after.since(&before))
    }
}

/// Everything that is counted, at one moment.
struct Snapshot {
    accounts: Accounts,
    sent: u64,
    replies: Replies,
    refilled: u64,
    latency: Vec<u64>,
    hardware: hardware::Counts,
}

impl Snapshot {
    fn take(
        source: &Source,
        process: Option<Thread>,
        polling: &[Thread],
        counters: Option<&Counters>,
    ) -> anyhow::Result<Self> {
        // The histogram takes a thousand system calls: before the clock is read.
        let latency = source.maps.latency(source.cores.load)?;
        Ok(Self {
            sent: source.progress()?.sequence,
            replies: source.replies()?,
            refilled: source.refilled,
            accounts: Accounts::take(source.cores.tracker, process, polling)?,
            hardware: counters.map(Counters::read).unwrap_or_default(),
            latency,
        })
    }

    fn since(self, before: &Self) -> Run {
        let (now, then) = (self.replies, before.replies);
        Run {
            usage: self.accounts.since(before.accounts),
            sent: self.sent - before.sent,
            replies: Replies {
                answered: now.answered - then.answered,
                peers: now.peers - then.peers,
                bytes: now.bytes - then.bytes,
                errors: now.errors - then.errors,
                wrong_action: now.wrong_action - then.wrong_action,
                wrong_length: now.wrong_length - then.wrong_length,
                wrong_transaction: now.wrong_transaction - then.wrong_transaction,
                wrong_checksum: now.wrong_checksum - then.wrong_checksum,
                right_checksum: now.right_checksum - then.right_checksum,
                left_checksum: now.left_checksum - then.left_checksum,
                largest_swarm: now.largest_swarm,
                outstanding: now.outstanding,
                passed: now.passed - then.passed,
            },
            refilled: self.refilled - before.refilled,
            hardware: hardware::since(self.hardware, before.hardware),
            latency: self.latency.iter().zip(&before.latency).map(|(now, then)| now - then).collect(),
        }
    }
}
