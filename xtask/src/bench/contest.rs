//! One scenario: every contestant is started in an arena of its own, filled with the same peers, and measured in turn,
//! round after round, while the others sleep.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Serialize;

use super::{
    arena::Arena,
    connect,
    contestant::{Contestant, Programs, Running},
    cores::{Cores, Footprint, Urgency},
    generator::{CLIENTS, Generator, Run, Times},
    interrupt,
    request::{Event, Request},
    scenario::{Scenario, WANT},
};

/// Connection ids are renewed when they are older: BEP 15 lets trackers forget them after two minutes.
const CONNECTION_AGE: Duration = Duration::from_secs(40);
/// How long connecting all clients may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long a contestant may take from its start to its first answer.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Of the requests sent, so many have to be answered for a rate to count as sustained.
const SUSTAINED: f64 = 0.99;

/// How a contestant's speed is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A fixed number of requests is always on its way: every reply is turned into the next request
    Closed,
    /// The highest steady rate at which 99 % of the requests are answered
    Search,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub cores: Cores,
    pub rounds: usize,
    pub times: Times,
    pub method: Method,
    /// Requests on their way in a closed loop.
    pub window: u32,
    /// How long the client's end waits before it looks for replies.
    pub moderation: Duration,
    /// How many of 256 peers are seeders.
    pub seeders: u32,
    pub latency: bool,
    pub directory: PathBuf,
    pub programs: Programs,
}

/// One contestant's measured rounds.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub contestant: Contestant,
    pub runs: Vec<Run>,
    /// Memory before and after the peers were announced.
    pub empty: Footprint,
    pub filled: Footprint,
    /// Share of the peers' first announces that was answered.
    pub prefilled: f64,
    /// At half the rate.
    pub half_load: Option<Run>,
}

/// A contestant ready to be measured.
struct Entrant {
    contestant: Contestant,
    running: Running,
    generator: Generator,
    connected: Option<Instant>,
    /// Mean length of its replies after their UDP headers, as far as known.
    reply_bytes: Option<f64>,
    outcome: Outcome,
    arena: Arena,
}

/// Runs a UDP scenario. Contestants that cannot be started are told of and left out.
pub fn run(
    scenario: &Scenario,
    request: &Request,
    contestants: &[Contestant],
    plan: &Plan,
) -> anyhow::Result<Vec<Outcome>> {
    let mut entrants: Vec<Entrant> = Vec::new();
    // The reflector comes last, because it has to know how long replies are.
    let (reflectors, trackers): (Vec<Contestant>, Vec<Contestant>) =
        contestants.iter().partition(|&&contestant| contestant == Contestant::Reflector);
    for (number, contestant) in trackers.into_iter().chain(reflectors).enumerate() {
        interrupt::check()?;
        let reply_bytes = entrants.first().and_then(|entrant| entrant.reply_bytes);
        match Entrant::prepare(contestant, scenario, request, number, plan, reply_bytes) {
            Ok(entrant) => entrants.push(entrant),
            Err(error) => {
                interrupt::check()?;
                eprintln!("  {}: left out: {error:#}", contestant.name());
            }
        }
    }
    for round in 0..plan.rounds {
        for turn in 0..entrants.len() {
            // Another one begins in every round.
            let number = (round + turn) % entrants.len();
            let entrant = &mut entrants[number];
            let run = entrant
                .awake(|entrant| entrant.measure(scenario, plan))
                .with_context(|| format!("cannot measure {}", entrant.contestant.name()))?;
            eprintln!("  round {}: {:<22} {}", round + 1, entrant.contestant.name(), summary(&run));
            entrant.outcome.runs.push(run);
        }
    }
    if plan.latency {
        let native = entrants.iter().find(|entrant| entrant.contestant == Contestant::Native);
        let native_rate = native.map(|entrant| entrant.outcome.rate().median);
        for entrant in &mut entrants {
            // The reflector shows what the path costs at the load that it is compared with.
            let own = entrant.outcome.rate().median;
            let compared = if entrant.contestant == Contestant::Reflector { native_rate } else { None };
            let rate = 0.5 * compared.unwrap_or(own);
            // The moderation would be the better part of the latency.
            entrant.arena.set_moderation(Duration::ZERO)?;
            let run = entrant.awake(|entrant| {
                entrant.renew_connections(scenario)?;
                entrant.generator.run_open(&entrant.arena, entrant.running.process(), Some(rate), plan.times)
            })?;
            entrant.outcome.half_load = Some(run);
        }
    }
    // In the order asked for, which is that of the table.
    entrants.sort_by_key(|entrant| contestants.iter().position(|&contestant| contestant == entrant.contestant));
    Ok(entrants.into_iter().map(|entrant| entrant.outcome).collect())
}

fn summary(run: &Run) -> String {
    let mut text = format!(
        "{:>10.0}/s {:>10.0} per core-second, {:>5.1} peers per reply, {:>5.1} % answered",
        run.rate(),
        run.per_core_second(),
        run.peers_per_reply(),
        100.0 * run.answered_share()
    );
    if run.refilled > 0 {
        text += &format!(", {} replaced", run.refilled);
    }
    if run.invalid() > 0 {
        text += &format!("; invalid replies: {:?}", run.replies);
    }
    text
}

impl Entrant {
    fn prepare(
        contestant: Contestant,
        scenario: &Scenario,
        request: &Request,
        number: usize,
        plan: &Plan,
        reply_bytes: Option<f64>,
    ) -> anyhow::Result<Self> {
        let arena = Arena::create(number, plan.cores)?;
        arena.set_moderation(plan.moderation)?;
        let visits = if scenario.needs_peers() { scenario.peers } else { 1 };
        let mut generator = Generator::new(&arena, plan.cores, visits)?;
        generator.set_seeders(plan.seeders);
        generator.verify_checksums(contestant.computes_checksums());
        scenario.populate(generator.maps().population());
        let directory = plan.directory.join(format!("{}-{}", scenario.name, contestant.identifier()));
        let running = Running::start(contestant, scenario, &arena, plan.cores, &plan.programs, &directory)?;
        let outcome = Outcome {
            contestant,
            runs: Vec::new(),
            empty: Footprint::default(),
            filled: Footprint::default(),
            prefilled: 1.0,
            half_load: None,
        };
        let mut entrant = Self { contestant, running, generator, connected: None, reply_bytes, outcome, arena };
        if contestant == Contestant::Reflector {
            entrant.reflect(scenario, request)?;
        } else {
            entrant.fill(scenario, request, plan)?;
        }
        entrant.running.set_urgency(Urgency::Idle)?;
        Ok(entrant)
    }

    fn reflect(&mut self, scenario: &Scenario, request: &Request) -> anyhow::Result<()> {
        self.generator.set_request(&self.arena, scenario.family, request)?;
        self.generator.maps().set_clients(&connect::unconnected(scenario.family, CLIENTS))?;
        let payload = scenario.reflected_payload(self.reply_bytes);
        eprintln!("  {}: replies of {payload} bytes", self.contestant.name());
        self.running.reflect(&self.arena, self.generator.load(), payload)
    }

    /// Waits for the contestant to come up, and announces all peers.
    fn fill(&mut self, scenario: &Scenario, request: &Request, plan: &Plan) -> anyhow::Result<()> {
        self.wait_for_answer(scenario)?;
        self.running.enlarge_buffers()?;
        self.outcome.empty = self.running.footprint();
        if scenario.needs_peers() {
            let start = Instant::now();
            let started = Request::Announce { want: WANT, event: Event::Started };
            self.generator.set_request(&self.arena, scenario.family, &started)?;
            let mut position = 0;
            let mut answered = 0;
            while position < scenario.peers {
                self.renew_connections(scenario)?;
                answered += self.generator.prefill(&self.arena, plan.window, &mut position, CONNECTION_AGE)?;
            }
            self.outcome.prefilled = answered as f64 / f64::from(scenario.peers);
            eprintln!(
                "  {}: {} peers announced in {:.1} s, {:.2} % answered",
                self.contestant.name(),
                scenario.peers,
                start.elapsed().as_secs_f64(),
                100.0 * self.outcome.prefilled
            );
        }
        self.outcome.filled = self.running.footprint();
        self.renew_connections(scenario)?;
        self.generator.set_request(&self.arena, scenario.family, request)?;
        // A first look, which also says how long replies are.
        let short = Times { warm_up: Duration::from_millis(50), measured: Duration::from_millis(200) };
        let look = self.generator.run_closed(&self.arena, None, plan.window, short)?;
        ensure!(look.replies.answered > 0, "it does not answer: {:?}", look.replies);
        self.reply_bytes = Some(look.replies.bytes as f64 / look.replies.answered as f64);
        Ok(())
    }

    fn wait_for_answer(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            self.running.ensure_alive()?;
            match connect::connect(&self.arena, scenario.family, 1, Duration::from_millis(200)) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > START_LIMIT => {
                    return Err(error.context(format!("the end of its log:\n{}", self.running.log_end())));
                }
                Err(_) => interrupt::sleep(Duration::from_millis(50))?,
            }
        }
    }

    fn renew_connections(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let fresh = self.connected.is_some_and(|at| at.elapsed() < CONNECTION_AGE);
        if self.contestant == Contestant::Reflector || fresh {
            return Ok(());
        }
        let clients = connect::connect(&self.arena, scenario.family, CLIENTS, CONNECT_LIMIT)?;
        self.generator.maps().set_clients(&clients)?;
        self.connected = Some(Instant::now());
        Ok(())
    }

    fn awake<T>(&mut self, body: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.running.ensure_alive()?;
        self.running.set_urgency(Urgency::Measured)?;
        let result = body(self);
        self.running.set_urgency(Urgency::Idle)?;
        result
    }

    fn measure(&mut self, scenario: &Scenario, plan: &Plan) -> anyhow::Result<Run> {
        self.renew_connections(scenario)?;
        match plan.method {
            Method::Closed => self.generator.run_closed(&self.arena, self.running.process(), plan.window, plan.times),
            Method::Search => self.search(plan),
        }
    }

    /// The highest rate that is sustained, to within two per cent: from a closed loop's rate in ever smaller steps, with
    /// short runs, then confirmed by a long one.
    fn search(&mut self, plan: &Plan) -> anyhow::Result<Run> {
        let process = self.running.process();
        let short = Times { warm_up: Duration::from_millis(100), measured: plan.times.measured / 4 };
        let closed = self.generator.run_closed(&self.arena, process, plan.window, short)?;
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let mut rate = closed.rate();
        while high > low * 1.02 {
            let run = self.generator.run_open(&self.arena, process, Some(rate), short)?;
            if run.answered_share() >= SUSTAINED {
                low = rate;
            } else {
                high = rate;
            }
            // The generator itself may be at its limit.
            if (run.sent as f64 / run.seconds) < 0.97 * rate && low == rate {
                break;
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
            let run = self.generator.run_open(&self.arena, process, Some(rate), plan.times)?;
            if run.answered_share() >= SUSTAINED {
                return Ok(run);
            }
            rate *= 0.98;
            ensure!(rate > 100.0, "no rate is sustained");
        }
    }
}

/// Median and spread of a figure over the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let Some((&lowest, &highest)) = values.first().zip(values.last()) else { return Self::default() };
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 0 { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] };
        Self { median, lowest, highest }
    }
}

impl Outcome {
    /// Answers per second.
    pub fn rate(&self) -> Spread {
        Spread::of(self.runs.iter().map(Run::rate))
    }

    /// Answers per second of processor time.
    pub fn per_core_second(&self) -> Spread {
        Spread::of(self.runs.iter().map(Run::per_core_second))
    }
}
