//! `cargo xtask bench stages`: what an announce costs inside the XDP program, without a network.
//!
//! The daemon runs in an arena as in a contest, with XDP in the driver and all peers announced. But then its program is
//! called by another program, `stage`, in the kernel's test mode (BPF_PROG_TEST_RUN): that one builds the next request into
//! the test's packet and tail-calls the tracker's. Requests that the tracker gives up at different points tell what the
//! steps up to there cost; the time of building the request and calling an empty program is subtracted.

use std::{thread, time::Duration};

use anyhow::{Context as _, ensure};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp, loaded_programs};
use bench_ebpf::{Client, Load, Progress, Visit};

use super::{
    arena::{self, Arena},
    contest::{Entrant, Plan, Spread},
    contestant::Contestant,
    cores::{self, Urgency},
    generator::{self, CLIENTS, Times},
    interrupt,
    object::Object,
    request::{Event, Request},
    scenario::{Scenario, WANT},
};

/// What the XDP program returns for a packet that goes back.
const XDP_TX: u32 = 3;
/// Calls per system call.
const REPEAT: u32 = 200_000;

/// A request that the tracker answers after some of the steps only.
struct Stage {
    title: &'static str,
    request: Request,
    /// Clients show connection ids that the tracker did not give.
    wrong_connection: bool,
    /// Torrents that the tracker does not know.
    unknown_torrents: bool,
}

const fn announce(title: &'static str, want: i32, event: Event) -> Stage {
    Stage { title, request: Request::Announce { want, event }, wrong_connection: false, unknown_torrents: false }
}

const STAGES: &[Stage] = &[
    Stage { wrong_connection: true, ..announce("headers, checksum, connection id; refused", WANT, Event::None) },
    Stage {
        unknown_torrents: true, ..announce("… and index look-up; stopped, torrent unknown", WANT, Event::Stopped)
    },
    announce("… and peer found and refreshed; no peers wanted", 0, Event::None),
    announce("… and one peer picked", 1, Event::None),
    announce("… and 50 peers picked", WANT, Event::None),
    announce("… and 100 peers picked", 2 * WANT, Event::None),
];

/// Measures one scenario and prints its table.
pub fn run(scenario: &Scenario, plan: &Plan) -> anyhow::Result<()> {
    let mut entrant = Entrant::prepare(Contestant::Native, scenario, 0, plan, None)?;
    let in_place = in_place(&mut entrant, scenario, plan)?;
    let (arena, generator, running) = entrant.parts(scenario)?;
    running.set_urgency(Urgency::Idle)?;
    let number = arena::attached_program(&arena.tracker, &arena.tracker_interface)?;
    let tracker = program(number)?;

    let mut bench = Stages::new(arena, scenario, *generator.load(), generator.maps().population())?;
    let clients = super::connect::connect(arena, scenario.family, CLIENTS, Duration::from_secs(20))?;
    bench.object.maps.set_clients(&clients)?;

    println!("{} ({}), nanoseconds per request", scenario.title, scenario.name);
    println!("  {:<52} {:>8} {:>8}", "", "so far", "step");
    let mut before = 0.0;
    for stage in STAGES {
        interrupt::check()?;
        let so_far = bench.cost(stage, &clients, &tracker, plan)?;
        println!("  {:<52} {:>8.0} {:>8.0}", stage.title, so_far.median, so_far.median - before);
        before = so_far.median;
    }
    let connect = Stage { title: "", request: Request::Connect, wrong_connection: false, unknown_torrents: false };
    println!("  {:<52} {:>8.0}", "connect", bench.cost(&connect, &clients, &tracker, plan)?.median);
    println!("  {:<52} {in_place:>8.0}", "announce on the veth pair, as the kernel counts it");

    let (one, two) = bench.scaling(&tracker, plan)?;
    println!(
        "  in all, with the request built: one core {:.2} M announces/s, two cores {:.2} M, {:.2} times as many\n",
        one / 1e6,
        two / 1e6,
        two / one
    );
    Ok(())
}

/// Mean run time of the tracker's program under a full load, by the kernel's own statistics. Reading the clock twice per
/// packet is part of it.
fn in_place(entrant: &mut Entrant, scenario: &Scenario, plan: &Plan) -> anyhow::Result<f64> {
    let (arena, generator, running) = entrant.parts(scenario)?;
    running.set_urgency(Urgency::Measured)?;
    let number = arena::attached_program(&arena.tracker, &arena.tracker_interface)?;
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime)
        .context("cannot switch the kernel's statistics on BPF programs on (Linux 5.8)")?;
    let look = || -> anyhow::Result<(f64, u64)> {
        let information = information(number)?;
        Ok((information.run_time().as_nanos() as f64, information.run_count()))
    };
    let before = look()?;
    let times = Times { warm_up: Duration::from_millis(50), measured: plan.times.measured };
    generator.run_closed(arena, running.process(), plan.window, times)?;
    let after = look()?;
    Ok((after.0 - before.0) / (after.1 - before.1).max(1) as f64)
}

struct Stages<'a> {
    object: Object,
    arena: &'a Arena,
    scenario: &'a Scenario,
    load: Load,
    interface: u32,
}

impl<'a> Stages<'a> {
    fn new(arena: &'a Arena, scenario: &'a Scenario, load: Load, population: &[Visit]) -> anyhow::Result<Self> {
        let mut object = Object::load(CLIENTS, u32::try_from(population.len())?)?;
        object.maps.population().copy_from_slice(population);
        object.programs.get("stage")?;
        object.programs.get("nothing")?;
        let interface = arena.tracker.enter(|| arena::interface_number(&arena.tracker_interface))?;
        Ok(Self { object, arena, scenario, load, interface })
    }

    /// What a stage costs beyond building the request.
    fn cost(&mut self, stage: &Stage, clients: &[Client], tracker: &ProgramFd, plan: &Plan) -> anyhow::Result<Spread> {
        const UNKNOWN: u32 = 1 << 31;
        let load = generator::request_load(&self.load, self.arena, self.scenario.family, &stage.request)?;
        self.object.maps.set_load(&load)?;
        if stage.wrong_connection {
            let strangers: Vec<Client> =
                clients.iter().map(|client| Client { connection_id: [1, 2], ..*client }).collect();
            self.object.maps.set_clients(&strangers)?;
        }
        let set_unknown = |visits: &mut [Visit]| visits.iter_mut().for_each(|visit| visit.torrent ^= UNKNOWN);
        if stage.unknown_torrents {
            set_unknown(self.object.maps.population());
        }
        self.object.maps.set_progress(|_| Progress::default())?;
        let nothing = self.object.programs.get("nothing")?.fd()?.try_clone()?;
        let mut costs = Vec::new();
        cores::pin(0, plan.cores.tracker).context("cannot move to the tracker's core")?;
        // A first run warms up.
        for round in 0..=plan.rounds {
            interrupt::check()?;
            self.object.maps.set_target(&nothing)?;
            let empty = self.time(load.frame_length)?;
            self.object.maps.set_target(tracker)?;
            let full = self.time(load.frame_length)?;
            if round > 0 {
                costs.push(full - empty);
            }
        }
        cores::pin(0, plan.cores.load).context("cannot move back to the load's core")?;
        if stage.unknown_torrents {
            set_unknown(self.object.maps.population());
        }
        if stage.wrong_connection {
            self.object.maps.set_clients(clients)?;
        }
        Ok(Spread::of(costs))
    }

    /// Mean nanoseconds per call of `stage`.
    fn time(&mut self, frame_length: u32) -> anyhow::Result<f64> {
        let (arena, interface) = (self.arena, self.interface);
        let program: &Xdp = self.object.programs.get("stage")?;
        arena.tracker.enter(|| time(program, interface, frame_length, REPEAT))
    }

    /// Calls per second on one core, and on two at the same time.
    fn scaling(&mut self, tracker: &ProgramFd, plan: &Plan) -> anyhow::Result<(f64, f64)> {
        let request = Request::Announce { want: WANT, event: Event::None };
        let load = generator::request_load(&self.load, self.arena, self.scenario.family, &request)?;
        self.object.maps.set_load(&load)?;
        self.object.maps.set_target(tracker)?;
        // Each goes through the population from another place on.
        let (visits, first) = (load.visits, plan.cores.tracker);
        self.object.maps.set_progress(|cpu| Progress {
            position: if cpu == first { 0 } else { visits / 2 },
            ..Progress::default()
        })?;
        let (arena, interface) = (self.arena, self.interface);
        let program: &Xdp = self.object.programs.get("stage")?;
        let calls = 10 * REPEAT;
        let on = |core: usize| -> anyhow::Result<f64> {
            cores::pin(0, core).context("cannot tie a thread to its core")?;
            Ok(1e9 / arena.tracker.enter(|| time(program, interface, load.frame_length, calls))?)
        };
        let both = || -> anyhow::Result<f64> {
            thread::scope(|scope| {
                let threads = [plan.cores.tracker, plan.cores.load].map(|core| scope.spawn(move || on(core)));
                let mut sum = 0.0;
                for thread in threads {
                    sum += thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))??;
                }
                Ok(sum)
            })
        };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            interrupt::check()?;
            one.push(thread::scope(|scope| {
                let thread = scope.spawn(|| on(plan.cores.tracker));
                thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))?
            })?);
            two.push(both()?);
        }
        Ok((Spread::of(one).median, Spread::of(two).median))
    }
}

/// Mean nanoseconds per call.
fn time(program: &Xdp, interface: u32, frame_length: u32, repeat: u32) -> anyhow::Result<f64> {
    let ctx: Vec<u8> = [0, frame_length, 0, interface, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let data = vec![0; frame_length as usize];
    let options = TestRunOptions { data_in: Some(&data), ctx_in: Some(&ctx), repeat, ..TestRunOptions::new() };
    let result = program.test_run(options).context("cannot run the program in test mode (BPF_PROG_TEST_RUN)")?;
    ensure!(result.return_value == XDP_TX, "the tracker did not answer: it returned {}", result.return_value);
    Ok(result.duration.as_nanos() as f64)
}

fn information(number: u32) -> anyhow::Result<aya::programs::ProgramInfo> {
    let mut all = loaded_programs().filter_map(Result::ok);
    all.find(|program| program.id() == number).with_context(|| format!("BPF program {number} is gone"))
}

fn program(number: u32) -> anyhow::Result<ProgramFd> {
    information(number)?.fd().context("cannot get hold of the tracker's XDP program")
}
