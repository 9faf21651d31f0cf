//! `cargo xtask bench`: this tracker against others, side by side, on one core.
//!
//! # What is measured
//!
//! Every system under test runs in a network namespace of its own, joined to the client's namespace
//! by a veth pair ([`testbed`]). One core belongs to it: its process and the kernel thread that
//! polls its end of the pair. Another core makes the load and validates the replies. Nothing else
//! is tied to the first core, so *per core-second* counts the whole way of a packet through the
//! machine, not just the tracker's own part of it.
//!
//! Clients connect as BEP 15 says, through sockets ([`connect`]). Announces are built by an XDP
//! program ([`generator`]), and replies are validated by another: action, transaction id, length,
//! of one in 64 also the checksum where it is computed. What is not valid does not count as an
//! answer.
//!
//! # How
//!
//! By default in a closed loop: a fixed number of requests is always on its way, and each reply is
//! turned into the next request at once. Nothing is lost, no system is starved by a flood, and each
//! is as busy as it can be. The alternative (`--method search`) looks for the highest steady rate
//! at which 99 % are answered.
//!
//! All systems of a scenario are started and filled with the same peers first; then they are
//! measured in turn, round after round, each round beginning with another one. The table has
//! medians and the spread.

// In place of the standard macros, everywhere in this program.
#[macro_use(println, eprintln)]
extern crate tracker_tests;

mod aquatic;
mod buffers;
mod calls;
mod comparison;
mod connect;
mod cores;
mod energy;
mod expiry;
mod generator;
mod guarded;
mod hardware;
mod http;
mod lists;
mod measure;
mod model;
mod object;
mod options;
mod plan;
mod plot;
mod profile;
mod report;
mod request;
mod scenario;
mod session;
mod socket;
mod statistics;
mod system;
mod testbed;
mod waking;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum as _};
use tracker_tests::workspace;

use crate::{
    hardware::Counters,
    options::{ComparisonOptions, find_scenarios},
    plan::{BenchPlan, Programs},
    report::Report,
    scenario::SCENARIOS,
    system::System,
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
    /// Which of two builds of the XDP program is faster, on one store and by turns
    Builds(Box<profile::builds::Options>),
    /// What calls cost in the XDP program on this kernel
    Calls(calls::Options),
    /// What it costs inside the XDP program that other trackers are told
    Telling(Box<ComparisonOptions>),
    /// What the latency at a steady load consists of
    Waking(Box<ComparisonOptions>),
    /// What requests take inside the XDP program, counted by an interpreter; needs no privileges
    Model(model::Options),
    /// Load through ordinary sockets, against any tracker and without privileges
    Socket(socket::Options),
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
        Some(Task::Builds(options)) => builds(options),
        Some(Task::Expiry(options)) => expiry::run(options),
        Some(Task::Calls(options)) => calls::run(options),
        Some(Task::Telling(options)) => telling(options),
        Some(Task::Waking(options)) => waking::run(options),
        Some(Task::Model(options)) => model::run(options),
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
        let when = if scenario.is_extra { " (only when it is named)" } else { "" };
        println!("  {:<10} {}{when}", scenario.name, scenario.title);
    }
    println!("systems:");
    for system in System::value_variants() {
        let state = match system.find(programs, None) {
            Ok(Some(path)) => workspace::display(&path),
            Ok(None) => "part of the benchmark".to_owned(),
            Err(remedy) => remedy,
        };
        println!("  {:<14} {}: {state}", system.identifier(), system.name());
    }
}

fn profile(options: &ComparisonOptions) -> anyhow::Result<()> {
    let plan = options.plan()?;
    let scenarios = match options.scenarios.as_slice() {
        [] => ["small", "zipf", "swarm-1k", "swarm-64k", "swarm-1m"].map(str::to_owned).to_vec(),
        chosen => chosen.to_vec(),
    };
    let scenarios = find_scenarios(&scenarios)?;
    plan.begin()?;
    for scenario in scenarios {
        profile::run(scenario, &BenchPlan { spare: profile::spare(scenario), ..plan.clone() })?;
    }
    Ok(())
}

fn builds(options: &profile::builds::Options) -> anyhow::Result<()> {
    let plan = options.comparison.plan()?;
    let scenarios = match options.comparison.scenarios.as_slice() {
        [] => ["small", "zipf", "swarm-64k"].map(str::to_owned).to_vec(),
        chosen => chosen.to_vec(),
    };
    let scenarios = find_scenarios(&scenarios)?;
    plan.begin()?;
    scenarios.into_iter().try_for_each(|scenario| profile::builds::run(scenario, options, &plan))
}

fn telling(options: &ComparisonOptions) -> anyhow::Result<()> {
    let plan = options.plan()?;
    let scenarios = match options.scenarios.as_slice() {
        [] => ["small", "swarm-64k"].map(str::to_owned).to_vec(),
        chosen => chosen.to_vec(),
    };
    let scenarios = find_scenarios(&scenarios)?;
    plan.begin()?;
    scenarios.into_iter().try_for_each(|scenario| profile::telling::run(scenario, &plan))
}

fn compare(options: &ComparisonOptions) -> anyhow::Result<()> {
    let scenarios = options.chosen_scenarios()?;
    let plan = options.plan()?;
    let directory = options.setup.output();
    let systems = options.installed_systems();
    ensure!(!systems.is_empty(), "none of the systems chosen is installed; above is said how to install each");
    plan.begin()?;
    if let Err(reason) = Counters::open(plan.cores.tracker) {
        eprintln!("{reason}");
    }

    let mut report = Report::new(&plan);
    let mut result = Ok(());
    for scenario in scenarios {
        eprintln!("{}: {}", scenario.name, scenario.title);
        let (taking_part, absent): (Vec<System>, Vec<System>) =
            systems.iter().partition(|system| system.supports(scenario));
        for system in absent {
            eprintln!("  {}: left out: it has no part in HTTP", system.name());
        }
        match comparison::run(scenario, &taking_part, &plan) {
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
