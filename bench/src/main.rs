//! `cargo xtask bench`: this tracker against others, side by side, on one core.
//!
//! # What is measured
//!
//! Every system under test runs in a network namespace of its own, joined to the client's namespace by a veth pair
//! ([`testbed`]). One core belongs to it: its process and the kernel thread that polls its end of the pair. Another core
//! makes the load and validates the replies. Nothing else is tied to the first core, so *per core-second* counts the
//! whole way of a packet through the machine, not just the tracker's own part of it.
//!
//! Clients connect as BEP 15 says, through sockets ([`connect`]). Announces are built by an XDP program ([`generator`]), and
//! replies are validated by another: action, transaction id, length, of one in 64 also the checksum where it is computed.
//! What is not valid does not count as an answer.
//!
//! # How
//!
//! By default in a closed loop: a fixed number of requests is always on its way, and each reply is turned into the next
//! request at once. Nothing is lost, no system is starved by a flood, and each is as busy as it can be. The alternative
//! (`--method search`) looks for the highest steady rate at which 99 % are answered.
//!
//! All systems of a scenario are started and filled with the same peers first; then they are measured in turn, round
//! after round, each round beginning with another one. The table has medians and the spread.

// In place of the standard macros, everywhere in this program.
#[macro_use(println, eprintln)]
extern crate tracker_tests;

mod buffers;
mod comparison;
mod connect;
mod cores;
mod expiry;
mod generator;
mod http;
mod object;
mod plot;
mod profile;
mod report;
mod request;
mod scenario;
mod socket;
mod system;
mod testbed;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tracker_tests::{interrupt, workspace};

use self::{
    comparison::{BenchPlan, Method},
    cores::Cores,
    generator::Times,
    report::Report,
    scenario::{SCENARIOS, Scenario},
    system::{Programs, System},
};

/// Measure this tracker against others on one core, in network namespaces (root)
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    args_conflicts_with_subcommands = true,
    after_help = "With --no-install, wherever it is given, nothing is installed: what is missing is listed"
)]
struct Options {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    comparison: Box<ComparisonOptions>,
}

#[derive(Subcommand)]
enum Task {
    /// List scenarios and the systems to compare, and how to get those that are missing
    List,
    /// What an announce costs inside the XDP program, step by step, and on two cores at once
    #[command(alias = "stages")]
    Profile(Box<ComparisonOptions>),
    /// Whether the removal of millions of peers keeps up, and what announces notice of it
    Expiry(expiry::Options),
    /// Load through ordinary sockets, against any tracker and without privileges
    Socket(socket::Options),
}

/// What every measurement in namespaces needs to know.
#[derive(Args)]
struct Setup {
    /// Requests on their way in a closed loop
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u32).range(1..=250))]
    window: u32,
    /// How long the client's end waits before it looks for replies, as a network card's interrupt moderation does. Without
    /// it every reply costs the tracker's core an interrupt of the other core
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

#[derive(Args)]
struct ComparisonOptions {
    /// Only this scenario; may be given several times
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
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
    /// Seeders among the peers, in per cent. None by default: trackers differ in what they tell a seeder, and replies of
    /// different length could not be compared
    #[arg(long, default_value_t = 0, value_name = "PER CENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    seeders: u32,
    /// Do not measure the latency at half load
    #[arg(long)]
    no_latency: bool,
    #[command(flatten)]
    setup: Setup,
    #[command(flatten)]
    programs: Programs,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `{error:?}`, which adds a backtrace: the errors say themselves what failed.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    match &options.task {
        None => compare(&options.comparison),
        Some(Task::Profile(options)) => profile(options),
        Some(Task::Expiry(options)) => expiry::run(options),
        Some(Task::Socket(options)) => socket::run(options),
        Some(Task::List) => {
            list(&options.comparison.programs);
            Ok(())
        }
    }
}

fn list(programs: &Programs) {
    println!("scenarios:");
    for scenario in SCENARIOS {
        println!("  {:<10} {}", scenario.name, scenario.title);
    }
    println!("systems:");
    for system in System::ALL {
        let state = match system.find(programs, None) {
            Ok(Some(path)) => workspace::display(&path),
            Ok(None) => "part of the benchmark".to_owned(),
            Err(remedy) => remedy,
        };
        println!("  {:<14} {}: {state}", system.identifier(), system.name());
    }
}

fn profile(options: &ComparisonOptions) -> anyhow::Result<()> {
    let plan = BenchPlan { spare: profile::SPARE, ..plan(options)? };
    let scenarios = match options.scenarios.as_slice() {
        [] => ["small", "zipf", "swarm-1k", "swarm-64k", "swarm-1m"].map(str::to_owned).to_vec(),
        chosen => chosen.to_vec(),
    };
    let scenarios = find_scenarios(&scenarios)?;
    begin(&plan)?;
    for scenario in scenarios {
        profile::run(scenario, &plan)?;
    }
    Ok(())
}

fn plan(options: &ComparisonOptions) -> anyhow::Result<BenchPlan> {
    let (rounds, seconds) = if options.quick { (2, 0.5) } else { (5, 2.0) };
    Ok(BenchPlan {
        rounds: options.rounds.unwrap_or(rounds),
        times: Times {
            warm_up: Duration::from_millis(200),
            measured: Duration::try_from_secs_f64(options.seconds.unwrap_or(seconds))
                .context("not a time: --seconds")?,
        },
        method: options.method,
        seeders: options.seeders * 256 / 100,
        latency: !options.no_latency,
        programs: options.programs.clone(),
        ..options.setup.plan()?
    })
}

impl Setup {
    /// A plan in which everything else is as it is by default.
    fn plan(&self) -> anyhow::Result<BenchPlan> {
        let cores = Cores { tracker: self.tracker_core, load: self.load_core };
        ensure!(cores.tracker != cores.load, "the tracker's core and the load's core must not be the same");
        Ok(BenchPlan {
            cores,
            rounds: 1,
            times: Times { warm_up: Duration::from_millis(200), measured: Duration::from_secs(1) },
            method: Method::Closed,
            window: self.window,
            moderation: Duration::from_micros(self.moderation),
            seeders: 0,
            latency: false,
            directory: self.output().join("systems"),
            programs: Programs::default(),
            spare: (0, 0),
            tracker_options: Vec::new(),
        })
    }

    fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| workspace::target_dir().join("bench"))
    }
}

/// Prepares this process.
fn begin(plan: &BenchPlan) -> anyhow::Result<()> {
    interrupt::catch()?;
    cores::pin(0, plan.cores.load)
        .with_context(|| format!("cannot tie the benchmark to core {}: it needs two cores", plan.cores.load))?;
    cores::set_nice(0, cores::FAVOURED).context("cannot set the benchmark's nice value (run as root)")
}

fn compare(options: &ComparisonOptions) -> anyhow::Result<()> {
    let scenarios = chosen_scenarios(options)?;
    let plan = plan(options)?;
    let directory = options.setup.output();
    let systems = installed_systems(options);
    ensure!(!systems.is_empty(), "none of the systems chosen is installed; above is said how to install each");
    begin(&plan)?;

    let mut report = Report::new(&plan);
    let mut result = Ok(());
    for scenario in scenarios {
        eprintln!("{}: {}", scenario.name, scenario.title);
        let (playing, absent): (Vec<System>, Vec<System>) =
            systems.iter().partition(|system| system.supports(scenario));
        for system in absent {
            eprintln!("  {}: left out: it has no part in HTTP", system.name());
        }
        match comparison::run(scenario, &playing, &plan) {
            Ok(outcomes) => report.add(scenario, &outcomes),
            Err(error) => {
                // What has been measured so far is worth keeping.
                result = Err(error);
                break;
            }
        }
    }
    if !report.has_results() {
        result?;
        bail!("nothing was measured: no system took part in any scenario; above is said why each was left out");
    }
    println!("{}", report.table());
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", workspace::display(&directory)))?;
    let (json, svg) = (directory.join("results.json"), directory.join("results.svg"));
    report.write_json(&json)?;
    fs::write(&svg, plot::svg(&report)).with_context(|| format!("cannot write {}", workspace::display(&svg)))?;
    eprintln!("wrote {} and {}", workspace::display(&json), workspace::display(&svg));
    result
}

fn chosen_scenarios(options: &ComparisonOptions) -> anyhow::Result<Vec<&'static Scenario>> {
    if options.scenarios.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| !options.quick || scenario.peers <= 1_000_000).collect());
    }
    find_scenarios(&options.scenarios)
}

fn find_scenarios(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    let all = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .map(|name| match SCENARIOS.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => Ok(scenario),
            None => bail!("there is no scenario `{name}`; there are {}", all()),
        })
        .collect()
}

/// Those chosen, without those that are not installed.
fn installed_systems(options: &ComparisonOptions) -> Vec<System> {
    let chosen = if options.systems.is_empty() { System::ALL } else { &options.systems };
    let is_here = |system: &&System| match system.find(&options.programs, None) {
        Ok(_) => true,
        Err(remedy) => {
            eprintln!("without {}: {remedy}", system.name());
            false
        }
    };
    chosen.iter().filter(is_here).copied().collect()
}
