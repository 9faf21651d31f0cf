//! What was measured while peers expired: before, meanwhile and afterwards.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tracker_tests::workspace;

use crate::{
    report::Machine,
    scenario::Scenario,
    statistics::{Summary, count},
};

/// What happened in one interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// The end of it, in seconds since the last peers became too old.
    pub at: f64,
    /// It lies before any peer became too old.
    #[serde(skip)]
    pub before: bool,
    pub seconds: f64,
    pub answered: u64,
    /// Peers in the replies.
    pub given: u64,
    /// Processor time of the expiry thread, in nanoseconds.
    pub expiry_time: u64,
    /// Processor time of the tracker's receive path, in nanoseconds.
    pub receive_time: u64,
    /// Peers stored at the end, as the tracker counts them.
    pub peers: u64,
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

/// The whole measurement.
#[derive(Serialize)]
pub struct Expired {
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
    /// Share of a core that the expiry thread used: of all the time, and of the interval in which
    /// it was the largest.
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
    /// Makes sense of the samples. `live` peers went on announcing.
    pub fn new(
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

    /// The table.
    pub fn text(&self) -> String {
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

    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
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
    use crate::scenario;

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
