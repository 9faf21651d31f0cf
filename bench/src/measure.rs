//! How fast a system is: by HTTP, or by the highest rate of datagrams that is sustained.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bench_ebpf::Replies;

use crate::{
    cores::{Accounts, Thread},
    generator::{Generator, Run, Times},
    http::HttpLoad,
    plan::BenchPlan,
    testbed::Testbed,
};

/// Of the requests sent, so many have to be answered for a rate to count as sustained.
pub const SUSTAINED: f64 = 0.99;

/// Measures announces by HTTP.
pub fn measure_http(
    http: &mut HttpLoad,
    testbed: &Testbed,
    process: Option<Thread>,
    plan: &BenchPlan,
) -> anyhow::Result<Run> {
    let polling = testbed.pin()?;
    testbed.client.enter(|| {
        let take = || Accounts::take(plan.cores.tracker, process, &polling);
        let wait = |http: &mut HttpLoad, duration: Duration| {
            let end = Instant::now() + duration;
            http.run(|_| Ok(Instant::now() >= end))
        };
        wait(http, plan.times.warm_up)?;
        let (then, before) = (http.counts, take()?);
        wait(http, plan.times.measured)?;
        let (now, after) = (http.counts, take()?);
        http.close();
        if let Some(example) = http.example.take() {
            eprintln!("  not valid, for example: {example}");
        }
        let answered = now.answered - then.answered;
        Ok(Run {
            usage: after.since(before),
            sent: answered + (now.invalid - then.invalid) + (now.broken - then.broken),
            replies: Replies {
                answered,
                peers: now.peers - then.peers,
                bytes: now.bytes - then.bytes,
                errors: now.invalid - then.invalid,
                ..Replies::default()
            },
            ..Run::default()
        })
    })
}

/// The highest rate that is sustained, to within two per cent: from a closed loop's rate in ever
/// smaller steps, with short runs, then confirmed by a long one.
pub fn search(
    generator: &mut Generator,
    testbed: &Testbed,
    process: Option<Thread>,
    plan: &BenchPlan,
) -> anyhow::Result<Run> {
    let short = Times { warm_up: Duration::from_millis(100), measured: plan.times.measured / 4 };
    let closed = generator.run_closed(testbed, process, plan.window, short)?;
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut rate = closed.rate();
    while high > low * 1.02 {
        let run = generator.run_open(testbed, process, Some(rate), short)?;
        // The generator itself may be at its limit.
        let at_limit = (run.sent as f64) < 0.97 * rate * run.usage.seconds;
        if run.answered_share() >= SUSTAINED {
            low = rate;
            if at_limit {
                break;
            }
        } else {
            high = rate;
        }
        rate = match (low > 0.0, high.is_finite()) {
            (true, true) => f64::midpoint(low, high),
            (true, false) => low * 1.1,
            (false, _) => high / 1.1,
        };
        ensure!(rate > 100.0, "no rate is sustained");
    }
    let mut rate = low;
    loop {
        let run = generator.run_open(testbed, process, Some(rate), plan.times)?;
        if run.answered_share() >= SUSTAINED {
            return Ok(run);
        }
        rate *= 0.98;
        ensure!(rate > 100.0, "no rate is sustained");
    }
}
