//! One scenario: every system is started in a session of its own, filled with the same peers, and
//! measured in turn, round after round, while the others sleep.

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
        let mut native = None;
        for session in &mut sessions {
            // The reflector, which comes last, shows what the path costs at the load that it is
            // compared with.
            let given = if session.system == System::Reflector { native } else { None };
            let run = session.with_priority(|session| session.half_load(scenario, plan, given))?;
            if session.system == System::Native {
                native = Some(run.sent as f64 / run.usage.seconds);
            }
            session.outcome.half_load = Some(run);
        }
    }
    // In the order asked for, which is that of the table.
    sessions.sort_by_key(|session| systems.iter().position(|&system| system == session.system));
    Ok(sessions.into_iter().map(|session| session.outcome).collect())
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
