//! `cargo xtask bench expiry`: whether the removal of millions of peers keeps up, and what announces notice of it.
//!
//! The daemon runs in a testbed as in a comparison, with XDP in the driver and a peer timeout of two minutes, and is filled with
//! peers. Then only a few of them go on announcing, in a closed loop, a hundred in each of a hundred swarms, so that replies
//! are as long before as after, and announces go to swarms that are being swept. All others become too old within one tick
//! of the tracker's clock, which counts ages in minutes: in earnest a tracker has the whole timeout for them. Expiry keeps
//! up if it is done with them before the timeout has passed once more.
//!
//! # Where the daemon runs
//!
//! A comparison ties the daemon to the tracker's core, because processor time per answer is what is compared. Nobody ties a
//! daemon down in earnest: the XDP program runs where the network card's interrupts are, and the scheduler puts the daemon's
//! threads where there is time. So here the daemon has all cores. It has ordinary priority, and so has the thread that
//! receives for the tracker, as the kernel's own ksoftirqd has on a core that does nothing but receive. That thread stays on
//! the tracker's core and is as busy as can be. Making the load does not fill the other core, and there expiry finds its
//! time: on a machine of two cores it shares that one with the load, and a load that is held up shows as fewer answers, but
//! not as fewer per core-second.
//!
//! With `--share-core` the daemon has the tracker's core only, as if all cores of a machine were at their limit. Every
//! moment that expiry runs is then one without answers, and what counts is how long these are.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use bench_ebpf::{Replies, Visit};
use clap::Args;
use serde::Serialize;
use tracker_tests::workspace;

use crate::{
    Setup,
    comparison::{BenchPlan, Session, Summary},
    cores::{self, Thread},
    interrupt,
    report::{Machine, count},
    scenario::{self, Scenario, shuffle},
    system::{Running, System},
    testbed::Testbed,
};

/// At most so many swarms have peers that go on announcing, each at most so many: twice as many as a reply holds.
const LIVE_TORRENTS: u32 = 100;
const LIVE_MEMBERS: u32 = 100;
/// A loop begins this long before the first of its figures counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// Connection ids are renewed when they are older; the loop stands still meanwhile.
const CONNECTION_AGE: Duration = Duration::from_secs(80);
/// How fast peers are announced at least, for guessing how long it takes. Per second.
const FILL_RATE: f64 = 500_000.0;

#[derive(Args)]
pub struct Options {
    /// A tenth of the swarms and of the peers, and shorter times before and after
    #[arg(long)]
    quick: bool,
    /// Swarms [default: 10000, quick 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    torrents: Option<u32>,
    /// IPv4 peers in all of them together [default: 10000000, quick 1000000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    peers: Option<u32>,
    /// Seconds after which peers are to be gone; the tracker counts whole minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(61..))]
    peer_timeout: u64,
    /// How often to look
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(50..))]
    sample: u64,
    /// How long to measure before peers expire and after they have [default: 15, quick 5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Let the daemon have the tracker's core only
    #[arg(long)]
    share_core: bool,
    #[command(flatten)]
    setup: Setup,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let (torrents, peers, seconds) = if options.quick { (1_000, 1_000_000, 5.0) } else { (10_000, 10_000_000, 15.0) };
    let around = Duration::try_from_secs_f64(options.seconds.unwrap_or(seconds)).context("not a time: --seconds")?;
    let scenario = scenario::announce(
        "expiry",
        "peers that expire",
        options.torrents.unwrap_or(torrents),
        options.peers.unwrap_or(peers),
    );
    let live = live(&scenario);
    ensure!(
        live.len() < scenario.peers as usize,
        "of {} peers in {} torrents all would go on announcing; give more with --peers",
        scenario.peers,
        scenario.torrents
    );
    let minutes = options.peer_timeout.div_ceil(60);
    ensure!(
        around.as_secs_f64() < (minutes as f64 - 1.0) * 60.0,
        "peers would expire before the {around:?} are over that are to be measured before; give a longer --peer-timeout"
    );
    let plan = BenchPlan {
        tracker_options: ["--interval", "60", "--interval-jitter", "0", "--peer-timeout"]
            .map(str::to_owned)
            .into_iter()
            .chain([options.peer_timeout.to_string()])
            .collect(),
        ..options.setup.plan()?
    };
    crate::begin(&plan)?;

    await_room_in_minute(Duration::from_secs_f64(5.0 + f64::from(scenario.peers) / FILL_RATE))?;
    let first = minute()?;
    let mut session = Session::prepare(System::Native, &scenario, 0, &plan, None)?;
    let last = minute()?;
    if first != last {
        eprintln!("  the peers were announced in {} different minutes, and will expire in as many", last - first + 1);
    }
    let timeout = Timeout { first: at_minute(first + minutes)?, last: at_minute(last + minutes)? };
    let samples = watch(&mut session, &scenario, &live, &plan, options, &timeout, around)?;
    let result = Expired::new(&scenario, live.len(), minutes * 60, options.share_core, samples)?;
    println!("{}", result.text());
    let path = options.setup.output().join("expiry.json");
    result.write_json(&path)?;
    eprintln!("wrote {}", workspace::display(&path));
    Ok(())
}

/// When peers become too old: those announced first, and those announced last. The tracker's clock, which began to run at a
/// whole second, may be a second late.
struct Timeout {
    first: Instant,
    last: Instant,
}

/// What happened in one interval.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    /// The end of it, in seconds since the last peers became too old.
    at: f64,
    /// It lies before any peer became too old.
    #[serde(skip)]
    before: bool,
    seconds: f64,
    answered: u64,
    /// Peers in the replies.
    given: u64,
    /// Processor time of the expiry thread, in nanoseconds.
    expiry_time: u64,
    /// Processor time of the tracker's receive path, in nanoseconds.
    receive_time: u64,
    /// Peers stored at the end, as the tracker counts them.
    peers: u64,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    fn per_core_second(&self) -> f64 {
        self.answered as f64 * 1e9 / self.receive_time.max(1) as f64
    }

    fn share(&self) -> f64 {
        self.expiry_time as f64 / 1e9 / self.seconds
    }
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

/// Those who go on announcing.
fn live(scenario: &Scenario) -> Vec<Visit> {
    let members = (scenario.peers / scenario.torrents).min(LIVE_MEMBERS);
    let mut live: Vec<_> = (0..scenario.torrents.min(LIVE_TORRENTS))
        .flat_map(|torrent| (0..members).map(move |member| Visit { torrent, member }))
        .collect();
    shuffle(&mut live);
    live
}

/// Lets the live ones announce from `around` before the first peers become too old until `around` after the last of them are
/// gone.
fn watch(
    session: &mut Session,
    scenario: &Scenario,
    live: &[Visit],
    plan: &BenchPlan,
    options: &Options,
    timeout: &Timeout,
    around: Duration,
) -> anyhow::Result<Vec<Sample>> {
    let (_, generator, running) = session.parts(scenario)?;
    let process = running.process().context("the tracker is not running")?;
    let expiry = cores::thread_named(process, "expiry")?;
    cores::release(process)?;
    if options.share_core {
        cores::pin_all(process, plan.cores.tracker)?;
    }
    generator.replace_population(live)?;
    let begin = timeout.first - around;
    let wait = begin.saturating_duration_since(Instant::now());
    eprintln!("  waiting {:.0} s for the peers to become old", wait.as_secs_f64());
    interrupt::sleep(wait)?;

    let interval = Duration::from_millis(options.sample);
    // What has not gone after twice the timeout will not.
    let limit = timeout.last + Duration::from_secs(2 * options.peer_timeout);
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

fn read(replies: &Replies, process: Thread, expiry: Thread, polling: &[Thread]) -> Reading {
    Reading {
        time: Instant::now(),
        answered: replies.answered,
        given: replies.peers,
        expiry_time: cores::thread_time(process, expiry),
        receive_time: polling.iter().map(|&thread| cores::process_time(thread)).sum(),
    }
}

fn stored(running: &Running, testbed: &Testbed) -> anyhow::Result<u64> {
    running.stored_peers(testbed).context("the tracker does not say by HTTP how many peers it has")
}

/// Seconds from `from` to `to`, negative if that was earlier.
fn seconds_between(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}

fn since_epoch() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is set to a time before 1970")
}

/// Minutes since 1970, by which the tracker tells ages.
fn minute() -> anyhow::Result<u64> {
    Ok(since_epoch()?.as_secs() / 60)
}

/// When a minute that is to come begins.
fn at_minute(minute: u64) -> anyhow::Result<Instant> {
    let from_now = Duration::from_secs(minute * 60).checked_sub(since_epoch()?);
    Ok(Instant::now() + from_now.context("filling took longer than the peer timeout; give a longer --peer-timeout")?)
}

/// Waits for the next minute if less than `needed` is left of this one, so that peers announced one after the other get the
/// same age.
fn await_room_in_minute(needed: Duration) -> anyhow::Result<()> {
    let left = Duration::from_secs(60) - Duration::from_nanos((since_epoch()?.as_nanos() % 60_000_000_000) as u64);
    if left < needed && needed < Duration::from_secs(60) {
        eprintln!("waiting {:.0} s for a new minute", left.as_secs_f64());
        // The tracker's clock may be late by a second.
        interrupt::sleep(left + Duration::from_secs(1))?;
    }
    Ok(())
}

/// The whole measurement.
#[derive(Serialize)]
struct Expired {
    machine: Machine,
    torrents: u32,
    peers: u32,
    live_peers: usize,
    peer_timeout_seconds: u64,
    share_core: bool,
    /// From the time the last peers became too old until all were gone.
    seconds_until_gone: f64,
    /// Processor time that the expiry thread used meanwhile.
    expiry_seconds: f64,
    before: Phase,
    during: Phase,
    after: Phase,
    samples: Vec<Sample>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Phase {
    intervals: usize,
    answered_per_second: Summary,
    /// Per second of the tracker's receive path.
    answered_per_core_second: Summary,
    peers_per_reply: f64,
    /// Share of a core that the expiry thread used: of all the time, and of the interval in which it was the largest.
    expiry_share: f64,
    largest_expiry_share: f64,
}

impl Phase {
    fn of(samples: &[Sample]) -> Self {
        let seconds: f64 = samples.iter().map(|sample| sample.seconds).sum();
        let sum = |figure: fn(&Sample) -> u64| samples.iter().map(figure).sum::<u64>();
        let (answered, given) = (sum(|sample| sample.answered), sum(|sample| sample.given));
        let used = sum(|sample| sample.expiry_time);
        Self {
            intervals: samples.len(),
            answered_per_second: Summary::of(samples.iter().map(Sample::rate)),
            answered_per_core_second: Summary::of(samples.iter().map(Sample::per_core_second)),
            peers_per_reply: given as f64 / answered.max(1) as f64,
            expiry_share: if seconds > 0.0 { used as f64 / 1e9 / seconds } else { 0.0 },
            largest_expiry_share: samples.iter().map(Sample::share).fold(0.0, f64::max),
        }
    }
}

impl Expired {
    fn new(
        scenario: &Scenario,
        live: usize,
        peer_timeout: u64,
        share_core: bool,
        samples: Vec<Sample>,
    ) -> anyhow::Result<Self> {
        let left = samples.last().context("nothing was measured")?.peers;
        let (before, rest) = samples.split_at(samples.partition_point(|sample| sample.before));
        let Some(end) = rest.iter().position(|sample| sample.peers <= live as u64) else {
            bail!(
                "of {} peers that became too old {} are still there {:.0} s later, more than twice the peer timeout",
                scenario.peers as usize - live,
                left - live as u64,
                samples.last().map_or(0.0, |sample| sample.at)
            );
        };
        ensure!(left == live as u64, "only {left} peers are left of {live} that went on announcing");
        let (during, after) = rest.split_at(end + 1);
        Ok(Self {
            machine: Machine::this(),
            torrents: scenario.torrents,
            peers: scenario.peers,
            live_peers: live,
            peer_timeout_seconds: peer_timeout,
            share_core,
            seconds_until_gone: rest[end].at,
            expiry_seconds: during.iter().map(|sample| sample.expiry_time).sum::<u64>() as f64 / 1e9,
            before: Phase::of(before),
            during: Phase::of(during),
            after: Phase::of(after),
            samples,
        })
    }

    fn text(&self) -> String {
        let expired = self.peers as usize - self.live_peers;
        let mut text = format!(
            "{} peers in {} swarms, {} of them go on announcing; peer timeout {} s; the daemon has {}\n",
            count(self.peers.into()),
            count(self.torrents.into()),
            count(self.live_peers as f64),
            self.peer_timeout_seconds,
            if self.share_core { "the tracker's core only" } else { "all cores" }
        );
        text += &format!(
            "  {:<8} {:>9} {:>12} {:>12} {:>16} {:>12} {:>15} {:>10}\n",
            "", "intervals", "answered/s", "lowest", "per core-second", "peers/reply", "expiry's core", "at most"
        );
        for (name, phase) in [("before", self.before), ("during", self.during), ("after", self.after)] {
            text += &format!(
                "  {name:<8} {:>9} {:>12} {:>12} {:>16} {:>12.1} {:>13.1} % {:>8.1} %\n",
                phase.intervals,
                count(phase.answered_per_second.median),
                count(phase.answered_per_second.lowest),
                count(phase.answered_per_core_second.median),
                phase.peers_per_reply,
                100.0 * phase.expiry_share,
                100.0 * phase.largest_expiry_share
            );
        }
        text + &format!(
            "  {} peers were gone {:.1} s after they became too old, in {:.0} % of the peer timeout; that took {:.2} s of \
             processor time, {:.0} ns for each\n",
            count(expired as f64),
            self.seconds_until_gone,
            100.0 * self.seconds_until_gone / self.peer_timeout_seconds as f64,
            self.expiry_seconds,
            1e9 * self.expiry_seconds / expired as f64
        )
    }

    fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", workspace::display(directory)))?;
        }
        let text = serde_json::to_string_pretty(self).context("cannot write the results as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", workspace::display(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_peers_are_members_of_swarms_that_shrink() {
        // (torrents, peers, live)
        for (torrents, peers, expected) in
            [(10_000, 10_000_000, 10_000), (1_000, 1_000_000, 10_000), (10, 10_000, 1_000), (1_000, 20_000, 2_000)]
        {
            let live = live(&scenario::announce("", "", torrents, peers));
            assert_eq!(live.len(), expected, "{torrents} torrents, {peers} peers");
            assert!(live.iter().all(|visit| visit.torrent < torrents && visit.member < peers / torrents));
        }
    }

    #[test]
    fn phases_end_when_peers_begin_to_expire_and_when_all_are_gone() {
        let sample = |at: f64, answered, peers| Sample {
            at,
            before: at <= 0.0,
            seconds: 0.5,
            answered,
            given: 50 * answered,
            expiry_time: if at > 0.0 && at < 2.0 { 25_000_000 } else { 0 },
            receive_time: 400_000_000,
            peers,
        };
        let scenario = scenario::announce("", "", 10, 1_000);
        let samples = vec![
            sample(-0.5, 100, 1_000),
            sample(0.0, 110, 1_000),
            sample(0.5, 90, 1_000),
            sample(1.0, 80, 500),
            sample(1.5, 90, 100),
            sample(2.0, 120, 100),
        ];
        let expired = Expired::new(&scenario, 100, 120, false, samples.clone()).expect("all are gone");
        let phases = [expired.before, expired.during, expired.after];
        assert_eq!(phases.map(|phase| phase.intervals), [2, 3, 1]);
        assert_eq!(phases.map(|phase| phase.answered_per_second.lowest), [200.0, 160.0, 240.0]);
        // In thousandths, as sums of fractions are not exact.
        assert_eq!(phases.map(|phase| (1e3 * phase.expiry_share).round()), [0.0, 50.0, 0.0]);
        assert_eq!((expired.seconds_until_gone, expired.expiry_seconds), (1.5, 0.075));

        assert!(Expired::new(&scenario, 100, 120, false, samples[..4].to_vec()).is_err(), "some are left");
        assert!(Expired::new(&scenario, 200, 120, false, samples).is_err(), "live peers are lost");
    }
}
