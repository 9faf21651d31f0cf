//! `cargo xtask bench telling`: what it costs inside the XDP program that other trackers are told of an
//! announce.
//!
//! Two daemons, one of which takes part in a cluster: its server is nowhere, but what is told is put
//! into the ring buffer, taken out and packed all the same. In each round the same peers become
//! seeders, or leechers again, so each announce changes something, and the two differ in nothing but
//! that one tells of it. They take turns within a round.

use std::{thread, time::Duration};

use anyhow::Context as _;
use aya::programs::ProgramFd;
use bench_ebpf::{Load, Progress};
use tracker_tests::{interrupt, tracker::Metrics};

use super::{Profiler, calls::time, program};
use crate::{
    connect,
    cores::{self, Urgency},
    generator::CLIENTS,
    plan::BenchPlan,
    request::{self, Event, Request},
    scenario::{NUM_WANT, Scenario},
    session::Session,
    statistics::Summary,
    system::System,
    testbed,
};

/// Announces per system call: what they tell has room in the ring buffer.
const AT_ONCE: u32 = 10_000;
/// How often in a round.
const TIMES: u32 = 10;
/// From one of these to the next: the daemon empties the ring buffer.
const PAUSE: Duration = Duration::from_millis(60);

/// One of the two daemons.
struct Side<'a> {
    profiler: Profiler<'a>,
    program: ProgramFd,
}

/// Measures one scenario and prints what was found.
pub fn run(scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<()> {
    let mut sessions = Vec::new();
    for (number, name) in ["alone", "telling"].into_iter().enumerate() {
        let mut plan = BenchPlan { directory: plan.directory.join(name), ..plan.clone() };
        if number == 1 {
            let options = ["--cluster", "nats://127.0.0.1", "--cluster-node", "bench"];
            plan.tracker_options.extend(options.map(str::to_owned));
        }
        sessions.push(Session::prepare(System::Native, scenario, number, &plan, None)?);
    }
    let mut sides = Vec::new();
    for session in &mut sessions {
        let (testbed, generator, running) = session.parts(scenario)?;
        // Or it would not empty the ring buffer in time where others want its core.
        running.set_urgency(Urgency::Measured)?;
        let program = program(testbed::attached_program(&testbed.tracker, &testbed.tracker_interface)?)?;
        let mut profiler = Profiler::new(testbed, scenario, *generator.load(), generator.maps().population())?;
        let clients = connect::connect(testbed, scenario.family, CLIENTS, Duration::from_secs(20))?;
        profiler.object.maps.set_clients(&clients)?;
        sides.push(Side { profiler, program });
    }
    // Filling the store has told of many.
    let before = sides[1].lost()?;
    let mut costs = [Vec::new(), Vec::new()];
    // All are leechers after the first round, which is not counted.
    for round in 0..=plan.rounds {
        interrupt::check()?;
        let mut taken = [0.0; 2];
        for turn in 0..2 {
            let at = (round + turn) % 2;
            taken[at] = sides[at].round(round % 2 == 1, plan)?;
        }
        if round > 0 {
            costs.iter_mut().zip(taken).for_each(|(costs, taken)| costs.push(taken));
        }
    }
    let lost = sides[1].lost()? - before;
    let ratios = Summary::of(costs[0].iter().zip(&costs[1]).map(|(alone, telling)| telling / alone));
    let [alone, telling] = costs.map(Summary::of);
    println!("{} ({}), nanoseconds per announce that changes something", scenario.title, scenario.name);
    println!("  nobody is told {:>8.0}", alone.median);
    println!("  others are told {:>7.0}", telling.median);
    println!(
        "  {:.3} times as long (median of the rounds; {:.3} to {:.3}); {lost} of {} changes found the ring buffer full",
        ratios.median,
        ratios.lowest,
        ratios.highest,
        (plan.rounds as u32 + 1) * AT_ONCE * TIMES,
    );
    Ok(())
}

impl Side<'_> {
    /// Nanoseconds per announce, when all peers that announce become seeders, or leechers.
    fn round(&mut self, seeders: bool, plan: &BenchPlan) -> anyhow::Result<f64> {
        let request = Request::Announce { num_want: NUM_WANT, event: Event::None };
        let load = Load { seeders: if seeders { 256 } else { 0 }, ..self.profiler.load };
        let load = request::request_load(&load, self.profiler.scenario.family, &request)?;
        let maps = &mut self.profiler.object.maps;
        maps.set_load(&load)?;
        maps.set_progress(|_| Progress::default())?;
        let noop = self.profiler.object.programs.get("noop")?.fd()?.try_clone()?;
        cores::pin(0, plan.cores.tracker).context("cannot move to the tracker's core")?;
        self.profiler.object.maps.set_target(&noop)?;
        let empty = self.time(load.frame_length)?;
        self.profiler.object.maps.set_progress(|_| Progress::default())?;
        self.profiler.object.maps.set_target(&self.program)?;
        let mut sum = 0.0;
        for _ in 0..TIMES {
            sum += self.time(load.frame_length)? - empty;
            thread::sleep(PAUSE);
        }
        cores::pin(0, plan.cores.load).context("cannot move back to the load's core")?;
        Ok(sum / f64::from(TIMES))
    }

    fn time(&mut self, frame_length: u32) -> anyhow::Result<f64> {
        let (testbed, interface) = (self.profiler.testbed, self.profiler.interface);
        let program = self.profiler.object.programs.get("harness")?;
        testbed.tracker.enter(|| time(program, interface, frame_length, AT_ONCE))
    }

    /// Changes that nobody was told of.
    fn lost(&self) -> anyhow::Result<f64> {
        let metrics = Metrics::parse(&self.profiler.testbed.get("/metrics")?)?;
        Ok(metrics.sum("tracker_cluster_dropped_total", &[("reason", "lost")]))
    }
}
