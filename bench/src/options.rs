//! Options that several measurements have, and what they mean.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tracker_tests::workspace;

use crate::{
    cores::Cores,
    generator::Times,
    plan::{BenchPlan, Method, Programs},
    scenario::{SCENARIOS, Scenario},
    system::System,
};

/// Options of every measurement in namespaces.
#[derive(Args)]
pub struct Setup {
    /// Requests on their way in a closed loop
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u32).range(1..=250))]
    window: u32,
    /// How long the client's end waits before it looks for replies, as a network card's interrupt
    /// moderation does. Without it every reply costs the tracker's core an interrupt of the other
    /// core
    #[arg(long, default_value_t = 50, value_name = "MICROSECONDS")]
    moderation: u64,
    /// The core of the system under test
    #[arg(long, default_value_t = 0, value_name = "CORE")]
    tracker_core: usize,
    /// The core of everything else
    #[arg(long, default_value_t = 1, value_name = "CORE")]
    load_core: usize,
    /// Where results and logs go [default: bench in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Options of measurements that take scenarios.
#[derive(Args)]
pub struct ComparisonOptions {
    /// Only this scenario; may be given several times. `list` names them all, also those that are
    /// measured only when they are named here
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<String>,
    /// Only this system; may be given several times
    #[arg(long = "system", alias = "contestant", value_enum, value_name = "NAME")]
    systems: Vec<System>,
    /// Fewer and shorter rounds, and only the scenarios that fill quickly
    #[arg(long)]
    quick: bool,
    /// How often every system is measured [default: 5, quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a measurement takes [default: 2, quick 0.5]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    #[arg(long, value_enum, default_value = "closed")]
    method: Method,
    /// Seeders among the peers, in per cent. None by default, but in the scenario `seeders`: trackers
    /// differ in what they tell a seeder, and replies of different length could not be compared
    #[arg(long, value_name = "PER CENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    seeders: Option<u32>,
    /// Do not measure the latency at half load
    #[arg(long)]
    no_latency: bool,
    #[command(flatten)]
    pub setup: Setup,
    #[command(flatten)]
    pub programs: Programs,
}

impl ComparisonOptions {
    /// The plan that these options make.
    pub fn plan(&self) -> anyhow::Result<BenchPlan> {
        let (rounds, seconds) = if self.quick { (2, 0.5) } else { (5, 2.0) };
        Ok(BenchPlan {
            rounds: self.rounds.unwrap_or(rounds),
            times: Times {
                warm_up: Duration::from_millis(200),
                measured: Duration::try_from_secs_f64(self.seconds.unwrap_or(seconds))
                    .context("not a time: --seconds")?,
            },
            method: self.method,
            seeders: self.seeders,
            latency: !self.no_latency,
            programs: self.programs.clone(),
            ..self.setup.plan()?
        })
    }

    /// The scenarios that were chosen; all without a choice, or with `--quick` those that fill
    /// quickly.
    pub fn chosen_scenarios(&self) -> anyhow::Result<Vec<&'static Scenario>> {
        if self.scenarios.is_empty() {
            return Ok(SCENARIOS
                .iter()
                .filter(|scenario| !scenario.is_extra && (!self.quick || scenario.peers <= 1_000_000))
                .collect());
        }
        find_scenarios(&self.scenarios)
    }

    /// The systems that were chosen, or all, without those that are not installed.
    pub fn installed_systems(&self) -> Vec<System> {
        let chosen = if self.systems.is_empty() { System::USUAL } else { &self.systems };
        let is_here = |system: &&System| match system.find(&self.programs, None) {
            Ok(_) => true,
            Err(remedy) => {
                eprintln!("without {}: {remedy}", system.name());
                false
            }
        };
        chosen.iter().filter(is_here).copied().collect()
    }
}

impl Setup {
    /// A plan in which everything else is as it is by default.
    pub fn plan(&self) -> anyhow::Result<BenchPlan> {
        let cores = Cores { tracker: self.tracker_core, load: self.load_core };
        ensure!(cores.tracker != cores.load, "the tracker's core and the load's core must not be the same");
        Ok(BenchPlan {
            cores,
            rounds: 1,
            times: Times { warm_up: Duration::from_millis(200), measured: Duration::from_secs(1) },
            method: Method::Closed,
            window: self.window,
            moderation: Duration::from_micros(self.moderation),
            seeders: None,
            latency: false,
            directory: self.output().join("systems"),
            programs: Programs::default(),
            spare: (0, 0),
            tracker_options: Vec::new(),
        })
    }

    /// The directory for results and logs.
    pub fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| workspace::target_dir().join("bench"))
    }
}

/// The scenarios of these names.
pub fn find_scenarios(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    let all = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .map(|name| match SCENARIOS.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => Ok(scenario),
            None => bail!("there is no scenario `{name}`; there are {}", all()),
        })
        .collect()
}
