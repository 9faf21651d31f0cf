//! Two cores at once, against each of them alone: with nothing to do, with requests that touch no
//! store, in different swarms, and in the same ones.
//!
//! Each core has a harness with maps of its own, so what they share is the tracker's alone, and what
//! the machine itself has once for both: its cache of the third level, its memory, and its host.
//! The first row tells how much of the latter there is to be had.

use std::{sync::Barrier, thread, time::Duration};

use anyhow::{Context as _, bail, ensure};
use aya::programs::{ProgramFd, Xdp};
use bench_ebpf::{Client, Load, Progress, Visit};
use tracker_tests::{client, interrupt};

use super::calls::{Counters, NEW_TORRENT, REPEAT, time};
use crate::{
    connect::connect,
    cores,
    generator::CLIENTS,
    object::Object,
    plan::BenchPlan,
    request::{self, Event, Request},
    scenario::{NUM_WANT, Scenario},
    statistics::Summary,
    testbed::Testbed,
};

/// Calls of each core per round.
const CALLS: u32 = 10 * REPEAT;

/// Where there is only one swarm, the second core's own.
const SECOND_SWARM: u32 = NEW_TORRENT + 2;

/// How often what was passed on is announced again.
const PASSES: u32 = 3;

/// What the cores do.
struct Row {
    title: &'static str,
    request: Request,
    /// Clients show connection ids that the tracker did not give.
    wrong_connection: bool,
    /// A program without anything to do takes the tracker's place.
    nothing: bool,
    /// Each core announces into swarms of its own.
    apart: bool,
}

const fn row(title: &'static str, request: Request) -> Row {
    Row { title, request, wrong_connection: false, nothing: false, apart: true }
}

const ANNOUNCE: Request = Request::Announce { num_want: NUM_WANT, event: Event::None };

const ROWS: [Row; 5] = [
    Row { nothing: true, ..row("no tracker: announces are built, and that is all", ANNOUNCE) },
    row("connects", Request::Connect),
    Row { wrong_connection: true, ..row("announces with a wrong connection id", ANNOUNCE) },
    row("announces, each core into swarms of its own", ANNOUNCE),
    Row { apart: false, ..row("announces, both cores into the same swarms", ANNOUNCE) },
];

/// What there is to be room for beside the scenario's peers, in torrents and peers.
pub fn spare(scenario: &Scenario) -> (u32, u32) {
    if scenario.torrents == 1 { (1, scenario.peers) } else { (0, 0) }
}

/// The peers of each of two cores, of different swarms; of one swarm both have the same members.
fn apart(population: &[Visit]) -> [Vec<Visit>; 2] {
    let first = population.first().map_or(0, |visit| visit.torrent);
    if population.iter().all(|visit| visit.torrent == first) {
        let second = population.iter().map(|visit| Visit { torrent: SECOND_SWARM, ..*visit });
        return [population.to_vec(), second.collect()];
    }
    let (even, odd) = population.iter().partition(|visit| visit.torrent % 2 == 0);
    [even, odd]
}

/// The same peers for both; each begins at another place.
fn together(population: &[Visit]) -> [Vec<Visit>; 2] {
    let mut second = population.to_vec();
    second.rotate_left(population.len() / 2);
    [population.to_vec(), second]
}

/// A core and what it calls the tracker with.
struct Side {
    object: Object,
    core: usize,
}

/// Two cores.
pub struct TwoCores<'a> {
    sides: [Side; 2],
    testbed: &'a Testbed,
    interface: u32,
    scenario: &'a Scenario,
    load: Load,
}

impl<'a> TwoCores<'a> {
    /// Gives each its harness.
    pub fn new(
        testbed: &'a Testbed,
        interface: u32,
        (scenario, load): (&'a Scenario, Load),
        plan: &BenchPlan,
    ) -> anyhow::Result<Self> {
        let side = |core| -> anyhow::Result<Side> {
            let mut object = Object::load(CLIENTS, scenario.peers)?;
            object.programs.get("harness")?;
            object.programs.get("noop")?;
            Ok(Side { object, core })
        };
        Ok(Self { sides: [side(plan.cores.tracker)?, side(plan.cores.load)?], testbed, interface, scenario, load })
    }

    /// Measures, and prints a table.
    pub fn run(&mut self, population: &[Visit], tracker: &ProgramFd, plan: &BenchPlan) -> anyhow::Result<()> {
        // Connection ids get too old while other things are measured.
        let clients = connect(self.testbed, self.scenario.family, CLIENTS, Duration::from_secs(20))?;
        let own = apart(population);
        if self.scenario.torrents == 1 {
            self.announce_second(&own[1], &clients, tracker)?;
        }
        let same = together(population);
        println!("  {:<52} {:>8} {:>8} {:>8}", "two cores, million requests per second", "each", "both", "times");
        for row in &ROWS {
            let strangers = clients.iter().map(|client| Client { connection_id: [1, 2], ..*client });
            let clients = if row.wrong_connection { strangers.collect() } else { clients.clone() };
            self.prepare(row, if row.apart { &own } else { &same }, &clients, tracker)?;
            let (each, both, passed_on) = self.measure(plan)?;
            let passed_on = if passed_on == 0 || row.wrong_connection {
                String::new()
            } else {
                format!("   {passed_on} passed on")
            };
            let (each, both) = (each / 1e6, both / 1e6);
            println!("  {:<52} {each:>8.2} {both:>8.2} {:>8.2}{passed_on}", row.title, both / each);
        }
        Ok(())
    }

    /// Has the second core's own swarm in the store.
    fn announce_second(&mut self, visits: &[Visit], clients: &[Client], tracker: &ProgramFd) -> anyhow::Result<()> {
        let started = row("", Request::Announce { num_want: 0, event: Event::Started });
        let peers = u32::try_from(visits.len())?;
        self.prepare(&started, &[visits.to_vec(), visits.to_vec()], clients, tracker)?;
        let mut there = 0;
        for _ in 0..PASSES {
            self.at_once(&[1], peers)?;
            let counts =
                client::http_scrape(&self.testbed.tracker, Testbed::HTTP, &[request::hash_bytes(SECOND_SWARM)])?;
            there = counts.iter().map(|counts| counts.seeders + counts.leechers).sum();
            if there == peers {
                return Ok(());
            }
        }
        bail!("only {there} of {peers} peers of a second swarm got into the store")
    }

    /// Tells both what to do.
    fn prepare(
        &mut self,
        row: &Row,
        populations: &[Vec<Visit>; 2],
        clients: &[Client],
        tracker: &ProgramFd,
    ) -> anyhow::Result<()> {
        let load = request::request_load(&self.load, self.scenario.family, &row.request)?;
        for (side, population) in self.sides.iter_mut().zip(populations) {
            ensure!(!population.is_empty(), "a core has no peers");
            let maps = &mut side.object.maps;
            maps.population()[..population.len()].copy_from_slice(population);
            maps.set_load(&Load { visits: u32::try_from(population.len())?, ..load })?;
            maps.set_clients(clients)?;
            maps.set_progress(|_| Progress::default())?;
            if row.nothing {
                let nothing = side.object.programs.get("noop")?.fd()?.try_clone()?;
                side.object.maps.set_target(&nothing)?;
            } else {
                maps.set_target(tracker)?;
            }
        }
        self.load = load;
        Ok(())
    }

    /// Requests per second: the mean of what each core does alone, and what both do at the same time;
    /// and how many of the latter were passed on.
    fn measure(&mut self, plan: &BenchPlan) -> anyhow::Result<(f64, f64, u64)> {
        let (mut each, mut both) = (Vec::new(), Vec::new());
        let mut passed_on = 0;
        for _ in 0..plan.rounds {
            interrupt::check()?;
            each.push((self.at_once(&[0], CALLS)? + self.at_once(&[1], CALLS)?) / 2.0);
            let before = Counters::read(self.testbed)?;
            both.push(self.at_once(&[0, 1], CALLS)?);
            passed_on += Counters::read(self.testbed)?.since(before).rejected;
        }
        Ok((Summary::of(each).median, Summary::of(both).median, passed_on))
    }

    fn at_once(&mut self, chosen: &[usize], calls: u32) -> anyhow::Result<f64> {
        let mut running = Vec::new();
        for (number, side) in self.sides.iter_mut().enumerate() {
            if chosen.contains(&number) {
                let program: &Xdp = side.object.programs.get("harness")?;
                running.push((program, side.core));
            }
        }
        at_once(self.testbed, self.interface, &running, (self.load.frame_length, calls))
    }
}

/// Calls each harness on its core, all at the same time; returns calls per second, of all together.
/// `(frame_length, calls)` is how long the frames are, and how often each core calls.
pub fn at_once(
    testbed: &Testbed,
    interface: u32,
    harnesses: &[(&Xdp, usize)],
    (frame_length, calls): (u32, u32),
) -> anyhow::Result<f64> {
    let start = Barrier::new(harnesses.len());
    let on = |program: &Xdp, core: usize| -> anyhow::Result<f64> {
        let pinned = cores::pin(0, core).context("cannot tie a thread to its core");
        // Whatever happened: the other one waits.
        start.wait();
        pinned?;
        Ok(1e9 / testbed.tracker.enter(|| time(program, interface, frame_length, calls))?)
    };
    thread::scope(|scope| {
        let on = &on;
        let threads: Vec<_> = harnesses.iter().map(|&(program, core)| scope.spawn(move || on(program, core))).collect();
        let mut sum = 0.0;
        for thread in threads {
            sum += thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))??;
        }
        Ok(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn torrents(visits: &[Visit]) -> BTreeSet<u32> {
        visits.iter().map(|visit| visit.torrent).collect()
    }

    #[test]
    fn cores_that_work_apart_have_no_swarm_in_common_and_together_all() {
        // (torrents, peers)
        for (count, peers) in [(1, 1000), (2, 1000), (7, 1001), (100, 400)] {
            let population: Vec<_> =
                (0..peers).map(|number| Visit { torrent: number % count, member: number / count }).collect();
            let [one, other] = apart(&population);
            assert!(!one.is_empty() && !other.is_empty(), "{count}");
            assert!(torrents(&one).is_disjoint(&torrents(&other)), "{count}");
            let all = one.len() + other.len();
            assert_eq!(all, population.len() * if count == 1 { 2 } else { 1 }, "{count}");
            let [one, other] = together(&population);
            assert_eq!(one, population);
            assert_ne!(one[0], other[0], "{count}: each begins elsewhere");
            let sorted = |mut visits: Vec<Visit>| {
                visits.sort_by_key(|visit| (visit.torrent, visit.member));
                visits
            };
            assert_eq!(sorted(one), sorted(other), "{count}");
        }
    }
}
