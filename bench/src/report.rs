//! The results: as a table for people, as JSON for programs.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;
use tracker_tests::{command, workspace};

use crate::{
    energy,
    generator::Run,
    plan::{BenchPlan, Method},
    scenario::Scenario,
    session::Outcome,
    statistics::{Summary, count, paired_difference, paired_ratio},
    system::System,
};

/// Everything that was measured, and on what.
#[derive(Serialize)]
pub struct Report {
    pub machine: Machine,
    pub method: Method,
    pub window: u32,
    pub moderation_microseconds: u64,
    pub rounds: usize,
    pub seconds_per_round: f64,
    /// Per cent of the peers; where it is not said, what the scenario has.
    pub seeders: Option<u32>,
    /// How energy is known: `rapl` and `perf` are measurements of the whole processor, `estimate` is made
    /// from the processor time of the system alone.
    pub energy: &'static str,
    pub scenarios: Vec<Results>,
}

#[derive(Serialize)]
pub struct Machine {
    pub kernel: String,
    pub processor: String,
    pub cores: usize,
    /// Versions of the other trackers, as far as they say.
    pub versions: Vec<String>,
}

/// One scenario.
#[derive(Serialize)]
pub struct Results {
    pub name: &'static str,
    pub title: &'static str,
    pub torrents: u32,
    pub peers: u32,
    #[serde(rename = "contestants")]
    pub systems: Vec<Row>,
}

/// One system in one scenario.
#[derive(Serialize)]
pub struct Row {
    #[serde(skip)]
    pub system: System,
    pub name: &'static str,
    /// Valid replies per second.
    pub answered_per_second: Summary,
    /// Valid replies per second of processor time, receive path included.
    pub answered_per_core_second: Summary,
    /// The same, round by round.
    pub rounds: Vec<f64>,
    /// How much of that processor time was spent in the system's own process.
    pub process_share: f64,
    /// How much of the tracker's core was in use.
    pub core_busy: f64,
    /// Joules per valid reply, by [`Report::energy`].
    pub joules_per_reply: f64,
    pub answered_share: f64,
    pub peers_per_reply: f64,
    pub reply_bytes: f64,
    /// Replies that were not what they should be.
    pub invalid: u64,
    /// Share of the peers' first announces that was answered.
    pub prefilled: f64,
    pub largest_swarm: u64,
    /// Peers stored after that, as far as it tells.
    pub stored_peers: Option<u64>,
    /// Bytes, with all peers announced.
    pub memory_process: u64,
    pub memory_maps: u64,
    /// Bytes before any peer was.
    pub memory_empty: u64,
    pub half_load: Option<HalfLoad>,
    /// What the processor counted on the tracker's core per answer, in the order of
    /// [`crate::hardware::NAMES`]: cycles, instructions, cache misses, misses of the data TLB.
    pub hardware: [Option<f64>; 4],
}

/// A steady load of half of what a system can do in a closed loop, or of less if that much was not
/// answered.
#[derive(Serialize)]
pub struct HalfLoad {
    pub requests_per_second: f64,
    pub answered_share: f64,
    /// Time from request to reply, in nanoseconds.
    pub median: Option<Summary>,
    pub p99: Option<Summary>,
    /// The 99th percentiles, round by round.
    pub rounds: Vec<f64>,
}

impl HalfLoad {
    fn new(runs: &[Run]) -> Option<Self> {
        let quantiles =
            |share| -> Vec<f64> { runs.iter().filter_map(|run| Some(run.latency_quantile(share)? as f64)).collect() };
        let summary = |values: &[f64]| (!values.is_empty()).then(|| Summary::of(values.iter().copied()));
        let median = |figure: fn(&Run) -> f64| Summary::of(runs.iter().map(figure)).median;
        let rounds = quantiles(0.99);
        (!runs.is_empty()).then(|| Self {
            requests_per_second: median(|run| run.sent as f64 / run.usage.seconds),
            answered_share: median(Run::answered_share),
            median: summary(&quantiles(0.5)),
            p99: summary(&rounds),
            rounds,
        })
    }
}

impl Report {
    pub fn new(plan: &BenchPlan) -> Self {
        Self {
            machine: Machine::this(),
            method: plan.method,
            window: plan.window,
            moderation_microseconds: plan.moderation.as_micros() as u64,
            rounds: plan.rounds,
            seconds_per_round: plan.times.measured.as_secs_f64(),
            seeders: plan.seeders,
            energy: energy::method().label(),
            scenarios: Vec::new(),
        }
    }

    pub fn add(&mut self, scenario: &Scenario, outcomes: &[Outcome]) {
        self.scenarios.push(Results {
            name: scenario.name,
            title: scenario.title,
            torrents: scenario.torrents,
            peers: scenario.peers,
            systems: outcomes.iter().map(Row::new).collect(),
        });
    }

    /// Whether any system was measured.
    pub fn has_results(&self) -> bool {
        self.scenarios.iter().any(|results| !results.systems.is_empty())
    }

    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the results as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", workspace::display(path)))
    }

    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let mut lines = vec![
            [
                "scenario",
                "system",
                "answered/s",
                "spread",
                "per core-second",
                "of reflector",
                "× best other",
                "peers/reply",
                if energy::method().is_measured() { "µJ/reply" } else { "µJ/reply, estimated" },
                "memory",
                "per peer",
                "p50, p99 at half load or less",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for results in &self.scenarios {
            for (number, row) in results.systems.iter().enumerate() {
                let title = if number == 0 { results.title } else { "" };
                lines.push(row.cells(title, results));
            }
        }
        aligned(&lines)
    }
}

impl Results {
    fn reflector(&self) -> Option<&Row> {
        self.systems.iter().find(|row| row.system == System::Reflector)
    }

    /// The best of the trackers that are not ours, per core-second.
    fn best_other(&self) -> Option<&Row> {
        self.systems
            .iter()
            .filter(|row| row.system.is_other())
            .max_by(|a, b| a.answered_per_core_second.median.total_cmp(&b.answered_per_core_second.median))
    }
}

impl Row {
    fn new(outcome: &Outcome) -> Self {
        let runs = &outcome.runs;
        let median = |figure: fn(&Run) -> f64| Summary::of(runs.iter().map(figure)).median;
        Self {
            system: outcome.system,
            name: outcome.system.name(),
            answered_per_second: outcome.rate(),
            answered_per_core_second: outcome.per_core_second(),
            rounds: runs.iter().map(Run::per_core_second).collect(),
            process_share: median(|run| {
                let all = run.usage.process_time + run.usage.receive_time;
                run.usage.process_time as f64 / all.max(1) as f64
            }),
            core_busy: median(|run| run.usage.core_busy),
            joules_per_reply: median(|run| run.usage.joules / run.replies.answered.max(1) as f64),
            answered_share: median(Run::answered_share),
            peers_per_reply: median(Run::peers_per_reply),
            reply_bytes: median(|run| run.replies.bytes as f64 / run.replies.answered.max(1) as f64),
            invalid: runs.iter().map(Run::invalid).sum(),
            hardware: std::array::from_fn(|event| {
                let each = runs
                    .iter()
                    .filter_map(|run| Some(run.hardware[event]? as f64 / run.replies.answered.max(1) as f64));
                let each: Vec<f64> = each.collect();
                (!each.is_empty()).then(|| Summary::of(each).median)
            }),
            prefilled: outcome.prefilled,
            largest_swarm: runs.iter().map(|run| run.replies.largest_swarm).max().unwrap_or(0),
            stored_peers: outcome.stored,
            memory_process: outcome.filled.process,
            memory_maps: outcome.filled.maps,
            memory_empty: outcome.empty.total(),
            half_load: HalfLoad::new(&outcome.half_load),
        }
    }

    fn cells(&self, title: &str, results: &Results) -> Vec<String> {
        let rate = self.answered_per_second;
        let per_core = self.answered_per_core_second.median;
        let ratio =
            |of: Option<&Row>| of.map_or(String::new(), |of| format!("{:.2}", paired_ratio(&self.rounds, &of.rounds)));
        let is_reflector = self.system == System::Reflector;
        let memory = self.memory_process + self.memory_maps;
        let peers = self.stored_peers.map_or(f64::from(results.peers), |stored| stored as f64);
        vec![
            title.to_owned(),
            self.name.to_owned(),
            count(rate.median) + if self.invalid > 0 { " (!)" } else { "" },
            format!("{} – {}", count(rate.lowest), count(rate.highest)),
            count(per_core),
            if is_reflector { String::new() } else { ratio(results.reflector()) },
            if is_reflector || self.system.is_other() { String::new() } else { ratio(results.best_other()) },
            format!("{:.1}", self.peers_per_reply),
            format!("{:.1}", self.joules_per_reply * 1e6),
            if is_reflector { String::new() } else { format!("{:.1} MiB", memory as f64 / f64::from(1 << 20)) },
            if is_reflector || results.peers < 1_000 {
                String::new()
            } else {
                let incomplete = self.stored_peers.is_some_and(|stored| stored != u64::from(results.peers));
                format!("{:.1} B", memory as f64 / peers) + if incomplete { " (!)" } else { "" }
            },
            self.half_load.as_ref().map_or(String::new(), |load| {
                let microseconds = |time: Option<Summary>| {
                    time.map_or_else(|| "–".to_owned(), |time| format!("{:.0}", time.median / 1e3))
                };
                // Only these two are measured at the same load.
                let beside = match results.reflector().and_then(|row| row.half_load.as_ref()) {
                    Some(reflector) if self.system == System::Native => {
                        let more = paired_difference(&load.rounds, &reflector.rounds);
                        format!(" (reflector {:+.0})", more / 1e3)
                    }
                    _ => String::new(),
                };
                format!("{}, {} µs{beside}", microseconds(load.median), microseconds(load.p99))
            }),
        ]
    }
}

impl Machine {
    pub fn this() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let version = |program: &str, arguments: &[&str]| -> Option<String> {
            let text = command::output(std::process::Command::new(program).args(arguments)).ok()?;
            Some(format!("{program} {}", text.trim()))
        };
        Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            processor: processor.trim_start_matches(['\t', ' ', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            versions: version("dpkg-query", &["-W", "-f=${Package} ${Version}", "opentracker"])
                .map(|text| text.trim_start_matches("dpkg-query ").to_owned())
                .into_iter()
                .collect(),
        }
    }
}

/// A Markdown table with its columns aligned.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            // Words to the left, figures to the right.
            let _infallible =
                if column < 2 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let end = if column < 2 { '-' } else { ':' };
                let _infallible = write!(text, "|{}{end}", "-".repeat(width + 1));
            }
            text.push_str("|\n");
        }
    }
    text
}
