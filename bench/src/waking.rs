//! `cargo xtask bench waking`: what the latency at a steady load consists of.
//!
//! Below full load the kernel's thread that polls the tracker's interface falls asleep whenever
//! nothing is left to do. Waking it takes a while, in which requests pile up, and those have to
//! wait for one another. So each load is measured as it is, and with a thread of the lowest
//! priority that keeps the tracker's core from sleeping; how often the polling thread went to sleep
//! tells how many requests there were each time. The bare reflector at the same rate shows what
//! is not the tracker's.

use std::{
    fs, hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tracker_tests::interrupt;

use crate::{
    cores::{self, Thread},
    generator::Run,
    options::{ComparisonOptions, find_scenarios},
    plan::BenchPlan,
    scenario::Scenario,
    session::Session,
    system::System,
};

/// Shares of what the tracker can do that are sent.
const SHARES: [f64; 3] = [0.25, 0.5, 0.75];
/// How long the client's end waits before it looks for replies.
const MODERATIONS: [Duration; 2] = [Duration::ZERO, Duration::from_micros(20)];

pub fn run(options: &ComparisonOptions) -> anyhow::Result<()> {
    let plan = options.plan()?;
    let scenarios = match options.scenarios.as_slice() {
        [] => ["connect", "swarm-1k", "swarm-64k"].map(str::to_owned).to_vec(),
        chosen => chosen.to_vec(),
    };
    let scenarios = find_scenarios(&scenarios)?;
    plan.begin()?;
    for scenario in scenarios {
        measure(scenario, &plan)?;
    }
    Ok(())
}

fn measure(scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<()> {
    let tracker = Session::prepare(System::Native, scenario, 0, plan, None)?;
    let reflector = Session::prepare(System::Reflector, scenario, 1, plan, tracker.reply_bytes)?;
    let mut sessions = [reflector, tracker];
    println!("{} ({}), microseconds", scenario.title, scenario.name);
    println!(
        "  {:>4} {:>9} {:>10}  {:<20}{:>8}{:>8}{:>8}{:>9}{:>9}   {:>8}{:>8}{:>8}",
        "load", "requests", "moderation", "", "p50", "p90", "p99", "at once", "busy", "p50", "p90", "p99"
    );
    println!("  {:>95}", "core kept awake:");
    for moderation in MODERATIONS {
        let full = sessions[1].with_priority(|session| session.full_load(scenario, plan, moderation))?;
        for share in SHARES {
            for session in &mut sessions {
                let rate = share * full;
                let times = plan.times;
                let (asleep, wakes) = session.with_priority(|session| {
                    let threads = session.polling_threads()?;
                    let before = sleeps(&threads);
                    let run = session.steady(scenario, rate, moderation, times)?;
                    Ok((run, sleeps(&threads) - before))
                })?;
                let awake = keep_awake(plan.cores.tracker, || {
                    session.with_priority(|session| session.steady(scenario, rate, moderation, times))
                })?;
                let seconds = (times.warm_up + times.measured).as_secs_f64();
                println!(
                    "  {:>3.0}% {:>7.0}/s {:>7} µs  {:<20}{}{:>9.1}{:>8.0}%   {}",
                    100.0 * share,
                    rate,
                    moderation.as_micros(),
                    session.system.name(),
                    quantiles(&asleep),
                    rate * seconds / (wakes.max(1) as f64),
                    100.0 * asleep.usage.core_busy,
                    quantiles(&awake)
                );
            }
        }
    }
    println!();
    Ok(())
}

fn quantiles(run: &Run) -> String {
    format!(
        "{:>8.1}{:>8.1}{:>8.1}",
        run.latency_microseconds(0.5),
        run.latency_microseconds(0.9),
        run.latency_microseconds(0.99)
    )
}

/// How often threads have gone to sleep by themselves so far.
fn sleeps(threads: &[Thread]) -> u64 {
    let of = |thread: &Thread| {
        let text = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    threads.iter().filter_map(of).sum()
}

/// Does something while a core is kept from sleeping.
fn keep_awake<T>(core: usize, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let spinner = scope.spawn(|| -> anyhow::Result<()> {
            cores::pin(0, core)?;
            cores::yield_to_all().context("cannot have the lowest priority")?;
            while !done.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
            Ok(())
        });
        let result = body();
        done.store(true, Ordering::Relaxed);
        let kept = spinner.join().map_err(|_| anyhow::anyhow!("the thread that keeps the core awake panicked"))?;
        interrupt::check()?;
        kept.and(result)
    })
}
