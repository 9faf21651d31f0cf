//! Watches a session while its peers expire: some of them go on announcing, in a closed loop.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bench_ebpf::{Replies, Visit};
use tracker_tests::interrupt;

use super::result::Sample;
use crate::{
    cores::{self, Thread},
    plan::BenchPlan,
    scenario::Scenario,
    session::Session,
    system::RunningSystem,
    testbed::Testbed,
};

/// A loop begins this long before the first of its figures counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// Connection ids are renewed when they are older; the loop stands still meanwhile.
const CONNECTION_AGE: Duration = Duration::from_secs(80);

/// When peers become too old: those announced first, and those announced last. The tracker's clock,
/// which began to run at a whole second, may be a second late.
pub struct Timeout {
    pub first: Instant,
    pub last: Instant,
}

/// How a session is watched while its peers expire.
pub struct Watch<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a BenchPlan,
    /// The peers that go on announcing.
    pub live: &'a [Visit],
    pub timeout: Timeout,
    /// How long to measure before peers expire, and after they have.
    pub around: Duration,
    /// How often to look.
    pub interval: Duration,
    /// When peers that have not gone never will, counted from the time the last ones became too
    /// old.
    pub patience: Duration,
    /// The daemon has the tracker's core only.
    pub share_core: bool,
}

impl Watch<'_> {
    /// Lets the live peers announce from `around` before the first peers become too old until
    /// `around` after the last of them are gone.
    pub fn run(&self, session: &mut Session) -> anyhow::Result<Vec<Sample>> {
        let Self { scenario, plan, live, timeout, around, interval, .. } = self;
        let (around, interval) = (*around, *interval);
        let (_, generator, running) = session.parts(scenario)?;
        let process = running.process().context("the tracker is not running")?;
        let expiry = cores::thread_named(process, "expiry")?;
        cores::release(process)?;
        if self.share_core {
            cores::pin_all(process, plan.cores.tracker)?;
        }
        generator.replace_population(live)?;
        let begin = timeout.first - around;
        let wait = begin.saturating_duration_since(Instant::now());
        eprintln!("  waiting {:.0} s for the peers to become old", wait.as_secs_f64());
        interrupt::sleep(wait)?;

        let limit = timeout.last + self.patience;
        let mut samples: Vec<Sample> = Vec::new();
        let mut gone: Option<Instant> = None;
        let enough = |gone: Option<Instant>| gone.map_or(limit, |gone| gone + around);
        while Instant::now() < enough(gone) {
            session.connect_anew(scenario)?;
            let (testbed, generator, running) = session.parts(scenario)?;
            let polling = testbed.pin()?;
            for &thread in &polling {
                cores::set_nice(thread, 0).context("cannot set the nice value of a polling thread")?;
            }
            let start = Instant::now();
            let mut before: Option<Reading> = None;
            generator.watch_closed(testbed, plan.window, |replies| {
                let now = Instant::now();
                let since = before.map_or(start, |before| before.time);
                let due = if before.is_none() { WARM_UP } else { interval };
                if now - since < due {
                    return Ok(true);
                }
                let reading = read(&replies, process, expiry, &polling);
                if let Some(before) = before {
                    let peers = stored(running, testbed)?;
                    samples.push(Sample {
                        at: seconds_between(timeout.last, reading.time),
                        before: reading.time <= timeout.first,
                        seconds: (reading.time - before.time).as_secs_f64(),
                        answered: reading.answered - before.answered,
                        given: reading.given - before.given,
                        expiry_time: reading.expiry_time - before.expiry_time,
                        receive_time: reading.receive_time - before.receive_time,
                        peers,
                    });
                    if gone.is_none() && peers <= live.len() as u64 {
                        gone = Some(now);
                    }
                }
                before = Some(reading);
                Ok(now < enough(gone) && now - start < CONNECTION_AGE)
            })?;
        }
        Ok(samples)
    }
}

fn read(replies: &Replies, process: Thread, expiry: Thread, polling: &[Thread]) -> Reading {
    Reading {
        time: Instant::now(),
        answered: replies.answered,
        given: replies.peers,
        expiry_time: cores::thread_time(process, expiry),
        receive_time: polling.iter().map(|&thread| cores::process_time(thread)).sum(),
    }
}

fn stored(running: &RunningSystem, testbed: &Testbed) -> anyhow::Result<u64> {
    running.stored_peers(testbed).context("the tracker does not say by HTTP how many peers it has")
}

/// Seconds from `from` to `to`, negative if that was earlier.
fn seconds_between(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}

/// Figures whose differences make a sample.
#[derive(Clone, Copy)]
struct Reading {
    time: Instant,
    answered: u64,
    given: u64,
    expiry_time: u64,
    receive_time: u64,
}
