//! `cargo xtask bench`: this tracker against others, side by side, on one core.

mod arena;
mod buffers;
mod connect;
mod contest;
mod contestant;
mod cores;
mod generator;
mod http;
mod interrupt;
mod netns;
mod object;
mod request;
mod scenario;

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use self::{
    contest::{Method, Plan},
    contestant::Contestant,
    cores::Cores,
    generator::Times,
    scenario::SCENARIOS,
};
use crate::workspace;

#[derive(Args)]
pub struct Options {
    /// Measure only these scenarios
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Measure only these contestants
    #[arg(long = "contestant", value_enum, value_name = "NAME")]
    contestants: Vec<Contestant>,
    #[arg(long, value_enum, default_value = "closed")]
    method: Method,
    #[arg(long, default_value_t = 192)]
    window: u32,
    #[arg(long, default_value_t = 50)]
    moderation: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long)]
    latency: bool,
    #[command(flatten)]
    programs: contestant::Programs,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    interrupt::catch()?;
    netns::remove_stale();
    let cores = Cores { tracker: 0, load: 1 };
    cores::pin(0, cores.load).context("cannot tie the benchmark to the load's core")?;
    cores::set_nice(0, cores::FAVOURED)?;
    let contestants = if options.contestants.is_empty() { Contestant::ALL } else { &options.contestants };
    let plan = Plan {
        cores,
        rounds: options.rounds,
        times: Times { warm_up: Duration::from_millis(300), measured: Duration::from_secs_f64(options.seconds) },
        method: options.method,
        window: options.window,
        seeders: 0,
        moderation: Duration::from_micros(options.moderation),
        latency: options.latency,
        directory: workspace::target_dir().join("bench/run"),
        programs: options.programs.clone(),
    };
    for scenario in SCENARIOS {
        if !options.scenarios.is_empty() && !options.scenarios.iter().any(|name| name == scenario.name) {
            continue;
        }
        eprintln!("{}: {}", scenario.name, scenario.title);
        let playing: Vec<_> = contestants.iter().copied().filter(|contestant| contestant.plays(scenario)).collect();
        for outcome in contest::run(scenario, &playing, &plan)? {
            eprintln!(
                "{:<22} {:>10.0}/s {:>10.0} per core-s  memory {:?} {:?} p99 {:?}",
                outcome.contestant.name(),
                outcome.rate().median,
                outcome.per_core_second().median,
                outcome.empty,
                outcome.filled,
                outcome.half_load.as_ref().and_then(|r| r.latency_quantile(0.99))
            );
        }
    }
    Ok(())
}
