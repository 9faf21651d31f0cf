//! One scenario: every system is started in a session of its own, filled with the same peers, and
//! measured in turn, round after round, while the others sleep.

use std::time::Duration;

use anyhow::Context as _;
use tracker_tests::interrupt;

use crate::{
    generator::Run,
    hardware,
    plan::BenchPlan,
    scenario::{Kind, Scenario},
    session::{Outcome, Session},
    system::System,
};

/// Runs a scenario. Systems that cannot be started are named and left out.
pub fn run(scenario: &Scenario, systems: &[System], plan: &BenchPlan) -> anyhow::Result<Vec<Outcome>> {
    let mut sessions: Vec<Session> = Vec::new();
    // The reflector comes last, because it has to know how long replies are.
    let (reflectors, trackers): (Vec<System>, Vec<System>) =
        systems.iter().partition(|&&system| system == System::Reflector);
    for (number, system) in trackers.into_iter().chain(reflectors).enumerate() {
        interrupt::check()?;
        let reply_bytes = sessions.first().and_then(|session| session.reply_bytes);
        match Session::prepare(system, scenario, number, plan, reply_bytes) {
            Ok(session) => sessions.push(session),
            Err(error) => {
                interrupt::check()?;
                eprintln!("  {}: left out: {error:#}", system.name());
            }
        }
    }
    for round in 0..plan.rounds {
        for turn in 0..sessions.len() {
            // Another one begins in every round.
            let number = (round + turn) % sessions.len();
            let session = &mut sessions[number];
            let run = session
                .with_priority(|session| session.measure(scenario, plan))
                .with_context(|| format!("cannot measure {}", session.system.name()))?;
            eprintln!("  round {}: {:<21} {}", round + 1, session.system.name(), summary(&run));
            session.outcome.runs.push(run);
        }
    }
    if plan.latency && matches!(scenario.load, Kind::Udp(_)) {
        measure_latency(&mut sessions, scenario, plan)?;
    }
    // In the order asked for, which is that of the table.
    sessions.sort_by_key(|session| systems.iter().position(|&system| system == session.system));
    Ok(sessions.into_iter().map(|session| session.outcome).collect())
}

/// Measures the latency of all of them at half of what they can do, round after round as well: it has
/// phases like everything else.
fn measure_latency(sessions: &mut [Session], scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<()> {
    // The reflector shows what the path costs at the very load of native XDP, and right after that.
    let mut order: Vec<usize> = (0..sessions.len()).collect();
    order.sort_by_key(|&number| {
        let system = sessions[number].system;
        (system != System::Native, system != System::Reflector)
    });
    let mut rates = Vec::new();
    for &number in &order {
        let session = &mut sessions[number];
        let rate = match (session.system, rates.first()) {
            (System::Reflector, Some(&native)) => native,
            _ => session.with_priority(|session| session.half_rate(scenario, plan))?,
        };
        rates.push(rate);
    }
    for round in 0..plan.rounds {
        for (&number, &rate) in order.iter().zip(&rates) {
            let session = &mut sessions[number];
            let run = session.with_priority(|session| session.steady(scenario, rate, Duration::ZERO, plan.times))?;
            eprintln!(
                "  latency {}: {:<21} {rate:>10.0}/s, {:.0} µs median, {:.0} µs p99, {:.1} % answered",
                round + 1,
                session.system.name(),
                run.latency_microseconds(0.5),
                run.latency_microseconds(0.99),
                100.0 * run.answered_share()
            );
            session.outcome.half_load.push(run);
        }
    }
    Ok(())
}

fn summary(run: &Run) -> String {
    let mut text = format!(
        "{:>10.0}/s {:>10.0} per core-second, {:>5.1} peers per reply, {:>5.1} % answered",
        run.rate(),
        run.per_core_second(),
        run.peers_per_reply(),
        100.0 * run.answered_share()
    );
    text += &hardware::text(run.hardware, run.replies.answered);
    if run.refilled > 0 {
        text += &format!(", {} replaced", run.refilled);
    }
    if run.replies.left_checksum > 0 {
        text += &format!(", {} of {} sampled by sockets", run.replies.left_checksum, run.sampled());
    }
    if run.invalid() > 0 {
        text += &format!("; invalid replies: {:?}", run.replies);
    }
    text
}
