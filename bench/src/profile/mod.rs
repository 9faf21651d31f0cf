//! `cargo xtask bench profile`: what an announce costs inside the XDP program, without a network.
//!
//! The daemon runs in a testbed as in a comparison, with XDP in the driver and all peers announced.
//! But then its program is called by another program, `harness`, in the kernel's test mode
//! (BPF_PROG_TEST_RUN): that one builds the next request into the test's packet and tail-calls the
//! tracker's. Requests that the tracker gives up at different points tell what the steps up to
//! there cost; the time of building the request and calling an empty program is subtracted.
//!
//! Two cores at once do the same ([`two_cores`]). What of it the program would pass on to the
//! sockets, because the other core held what it needed, is counted: it is neither answered nor
//! stored here. Afterwards both announce new peers into one new swarm, first different ones and then
//! the same ones, and every peer has to be there once: by the daemon's counters, in its totals, and
//! in a scrape.

pub mod builds;
mod calls;
pub mod telling;
mod two_cores;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use aya::programs::{ProgramFd, Xdp, loaded_programs};
use bench_ebpf::{Client, Load, Progress, Visit};
use tracker_tests::{client, interrupt};

use self::{
    calls::{Counters, NEW_TORRENT, REPEAT, time},
    two_cores::{TwoCores, at_once},
};
use crate::{
    cores::{self, Urgency},
    generator::{CLIENTS, Times},
    object::Object,
    plan::BenchPlan,
    request::{self, Event, Request},
    scenario::{NUM_WANT, Scenario},
    session::Session,
    statistics::Summary,
    system::System,
    testbed::{self, Testbed},
};

/// New peers that each of two cores announces into a new swarm.
const NEW_PEERS: u32 = 100_000;

/// Room for new swarms and the peers in them, see [`BenchPlan::spare`].
pub fn spare(scenario: &Scenario) -> (u32, u32) {
    let (torrents, peers) = two_cores::spare(scenario);
    (torrents + 2, peers + 3 * NEW_PEERS)
}

/// A request that the tracker answers after some of the steps only.
struct Step {
    title: &'static str,
    request: Request,
    /// Clients show connection ids that the tracker did not give.
    wrong_connection: bool,
    /// Torrents that the tracker does not know.
    unknown_torrents: bool,
}

const fn announce(title: &'static str, num_want: i32, event: Event) -> Step {
    Step { title, request: Request::Announce { num_want, event }, wrong_connection: false, unknown_torrents: false }
}

const STEPS: &[Step] = &[
    Step { wrong_connection: true, ..announce("headers, checksum, connection id; refused", NUM_WANT, Event::None) },
    Step {
        unknown_torrents: true,
        ..announce("… and index look-up; stopped, torrent unknown", NUM_WANT, Event::Stopped)
    },
    announce("… and peer found and refreshed; no peers wanted", 0, Event::None),
    announce("… and one peer picked", 1, Event::None),
    announce("… and 50 peers picked", NUM_WANT, Event::None),
    announce("… and 100 peers picked", 2 * NUM_WANT, Event::None),
];

/// Measures one scenario and prints its table.
pub fn run(scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<()> {
    let mut session = Session::prepare(System::Native, scenario, 0, plan, None)?;
    let in_place = in_place(&mut session, scenario, plan)?;
    let (testbed, generator, running) = session.parts(scenario)?;
    running.set_urgency(Urgency::Idle)?;
    let number = testbed::attached_program(&testbed.tracker, &testbed.tracker_interface)?;
    let tracker = program(number)?;

    let mut bench = Profiler::new(testbed, scenario, *generator.load(), generator.maps().population())?;
    let clients = crate::connect::connect(testbed, scenario.family, CLIENTS, Duration::from_secs(20))?;
    bench.object.maps.set_clients(&clients)?;

    println!("{} ({}), nanoseconds per request", scenario.title, scenario.name);
    println!("  {:<52} {:>8} {:>8}", "", "so far", "step");
    let mut before = 0.0;
    for step in STEPS {
        interrupt::check()?;
        let so_far = bench.cost(step, &clients, &tracker, plan)?;
        println!("  {:<52} {:>8.0} {:>8.0}", step.title, so_far.median, so_far.median - before);
        before = so_far.median;
    }
    let connect = Step { title: "", request: Request::Connect, wrong_connection: false, unknown_torrents: false };
    println!("  {:<52} {:>8.0}", "connect", bench.cost(&connect, &clients, &tracker, plan)?.median);
    println!("  {:<52} {in_place:>8.0}", "announce on the veth pair, as the kernel counts it");

    let population = bench.object.maps.population()[..scenario.peers as usize].to_vec();
    TwoCores::new(testbed, bench.interface, (scenario, bench.load), plan)?.run(&population, &tracker, plan)?;
    for (torrent, same) in [(NEW_TORRENT, false), (NEW_TORRENT + 1, true)] {
        println!("  {}", bench.join(torrent, same, &tracker, plan)?.text()?);
    }
    println!();
    Ok(())
}

/// What became of announces of new peers by two cores into one new swarm.
#[derive(Clone, Copy, Debug)]
struct Joined {
    announces: u64,
    /// Different peers among them.
    peers: u64,
    counters: Counters,
    /// Peers in the swarm, by a scrape.
    scraped: u64,
}

impl Joined {
    /// What to say of it; an error if the counts are not exact.
    fn text(&self) -> anyhow::Result<String> {
        let Counters { answered, rejected, added, removed, stored } = self.counters;
        ensure!(
            answered + rejected == self.announces
                && removed == 0
                && added == stored
                && added == self.scraped
                // A peer is missing if an announce of it was passed on, and only then.
                && added <= self.peers
                && added + rejected >= self.peers,
            "the counts are not exact after two cores announced at once: {self:?}"
        );
        Ok(format!(
            "{} announces of {} new peers into one swarm by two cores: {answered} answered, {rejected} passed on; {added} peers \
             by the counters, in the totals and in a scrape: exact",
            self.announces, self.peers
        ))
    }
}

/// Mean run time of the tracker's program under a full load, by the kernel's own statistics.
/// Reading the clock twice per packet is part of it.
fn in_place(session: &mut Session, scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<f64> {
    let (testbed, generator, running) = session.parts(scenario)?;
    running.set_urgency(Urgency::Measured)?;
    let number = testbed::attached_program(&testbed.tracker, &testbed.tracker_interface)?;
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime)
        .context("cannot switch the kernel's statistics on BPF programs on (Linux 5.8)")?;
    let look = || -> anyhow::Result<(f64, u64)> {
        let information = information(number)?;
        Ok((information.run_time().as_nanos() as f64, information.run_count()))
    };
    let before = look()?;
    let times = Times { warm_up: Duration::from_millis(50), measured: plan.times.measured };
    generator.run_closed(testbed, running.process(), plan.window, times)?;
    let after = look()?;
    Ok((after.0 - before.0) / (after.1 - before.1).max(1) as f64)
}

struct Profiler<'a> {
    object: Object,
    testbed: &'a Testbed,
    scenario: &'a Scenario,
    load: Load,
    interface: u32,
}

impl<'a> Profiler<'a> {
    fn new(testbed: &'a Testbed, scenario: &'a Scenario, load: Load, population: &[Visit]) -> anyhow::Result<Self> {
        let mut object = Object::load(CLIENTS, u32::try_from(population.len())?.max(2 * NEW_PEERS))?;
        object.maps.population()[..population.len()].copy_from_slice(population);
        object.programs.get("harness")?;
        object.programs.get("noop")?;
        let interface = testbed.tracker.enter(|| testbed::interface_number(&testbed.tracker_interface))?;
        Ok(Self { object, testbed, scenario, load, interface })
    }

    /// What a step costs beyond building the request.
    fn cost(
        &mut self,
        step: &Step,
        clients: &[Client],
        tracker: &ProgramFd,
        plan: &BenchPlan,
    ) -> anyhow::Result<Summary> {
        const UNKNOWN: u32 = 1 << 31;
        let load = request::request_load(&self.load, self.scenario.family, &step.request)?;
        self.object.maps.set_load(&load)?;
        if step.wrong_connection {
            let strangers: Vec<Client> =
                clients.iter().map(|client| Client { connection_id: [1, 2], ..*client }).collect();
            self.object.maps.set_clients(&strangers)?;
        }
        let set_unknown = |visits: &mut [Visit]| visits.iter_mut().for_each(|visit| visit.torrent ^= UNKNOWN);
        if step.unknown_torrents {
            set_unknown(self.object.maps.population());
        }
        self.object.maps.set_progress(|_| Progress::default())?;
        let noop = self.object.programs.get("noop")?.fd()?.try_clone()?;
        let mut costs = Vec::new();
        let before = Counters::read(self.testbed)?;
        cores::pin(0, plan.cores.tracker).context("cannot move to the tracker's core")?;
        // A first run warms up.
        for round in 0..=plan.rounds {
            interrupt::check()?;
            self.object.maps.set_target(&noop)?;
            let empty = self.time(load.frame_length)?;
            self.object.maps.set_target(tracker)?;
            let full = self.time(load.frame_length)?;
            if round > 0 {
                costs.push(full - empty);
            }
        }
        cores::pin(0, plan.cores.load).context("cannot move back to the load's core")?;
        let passed_on = Counters::read(self.testbed)?.since(before).rejected;
        if passed_on > 0 && !step.wrong_connection {
            let calls = (plan.rounds as u64 + 1) * u64::from(REPEAT);
            println!("  {passed_on} of {calls} requests were not answered: {}", step.title);
        }
        if step.unknown_torrents {
            set_unknown(self.object.maps.population());
        }
        if step.wrong_connection {
            self.object.maps.set_clients(clients)?;
        }
        Ok(Summary::of(costs))
    }

    /// Mean nanoseconds per call of `harness`.
    fn time(&mut self, frame_length: u32) -> anyhow::Result<f64> {
        let (testbed, interface) = (self.testbed, self.interface);
        let program: &Xdp = self.object.programs.get("harness")?;
        testbed.tracker.enter(|| time(program, interface, frame_length, REPEAT))
    }

    /// Lets two cores announce [`NEW_PEERS`] each into a swarm that is not there yet, different
    /// peers or the same ones.
    fn join(&mut self, torrent: u32, same: bool, tracker: &ProgramFd, plan: &BenchPlan) -> anyhow::Result<Joined> {
        let request = Request::Announce { num_want: NUM_WANT, event: Event::Started };
        let load = request::request_load(&self.load, self.scenario.family, &request)?;
        let peers = if same { NEW_PEERS } else { 2 * NEW_PEERS };
        for (member, visit) in (0..peers).zip(self.object.maps.population()) {
            *visit = Visit { torrent, member };
        }
        self.object.maps.set_load(&Load { visits: peers, ..load })?;
        self.object.maps.set_target(tracker)?;
        let first = plan.cores.tracker;
        self.object.maps.set_progress(|cpu| Progress {
            position: if same || cpu == first { 0 } else { NEW_PEERS },
            ..Progress::default()
        })?;
        let before = Counters::read(self.testbed)?;
        let program: &Xdp = self.object.programs.get("harness")?;
        let both = [(program, plan.cores.tracker), (program, plan.cores.load)];
        at_once(self.testbed, self.interface, &both, (load.frame_length, NEW_PEERS))?;
        let counters = Counters::read(self.testbed)?.since(before);
        let counts = client::http_scrape(&self.testbed.tracker, Testbed::HTTP, &[request::hash_bytes(torrent)])?;
        Ok(Joined {
            announces: 2 * u64::from(NEW_PEERS),
            peers: peers.into(),
            counters,
            scraped: counts.iter().map(|counts| u64::from(counts.seeders) + u64::from(counts.leechers)).sum(),
        })
    }
}

fn information(number: u32) -> anyhow::Result<aya::programs::ProgramInfo> {
    let mut all = loaded_programs().filter_map(Result::ok);
    all.find(|program| program.id() == number).with_context(|| format!("BPF program {number} is gone"))
}

fn program(number: u32) -> anyhow::Result<ProgramFd> {
    information(number)?.fd().context("cannot get hold of the tracker's XDP program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_that_was_not_passed_on_has_to_be_there_once() {
        // (peers, answered, rejected, added, removed, stored, scraped, exact)
        for (peers, answered, rejected, added, removed, stored, scraped, exact) in [
            (200, 200, 0, 200, 0, 200, 200, true),
            (200, 190, 10, 190, 0, 190, 190, true),
            // The same peers by both cores: all are there though some announces were passed on.
            (100, 190, 10, 100, 0, 100, 100, true),
            (100, 190, 10, 89, 0, 89, 89, false),
            (100, 200, 0, 101, 0, 101, 101, false),
            (200, 200, 0, 199, 0, 199, 199, false),
            (200, 200, 0, 200, 0, 200, 199, false),
            (200, 200, 0, 200, 0, 199, 200, false),
            (200, 200, 0, 201, 1, 200, 200, false),
            (200, 199, 0, 200, 0, 200, 200, false),
        ] {
            let counters = Counters { answered, rejected, added, removed, stored };
            let joined = Joined { announces: 200, peers, counters, scraped };
            assert_eq!(joined.text().is_ok(), exact, "{joined:?}");
        }
    }
}
