//! One scenario: every system is started in a testbed of its own, filled with the same peers, and measured in turn,
//! round after round, while the others sleep.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bench_ebpf::{Replies, Visit};
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    connect,
    cores::{Accounts, Cores, Footprint, Thread, Urgency},
    generator::{CLIENTS, Generator, Run, Times},
    http::{self, HttpLoad},
    interrupt,
    request::{Event, Request},
    scenario::{Kind, Scenario, WANT},
    system::{Programs, Running, System},
    testbed::Testbed,
};

/// Connection ids are renewed when they are older: BEP 15 lets trackers forget them after two minutes.
const CONNECTION_AGE: Duration = Duration::from_secs(40);
/// How long connecting all clients may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long a system may take from its start to its first answer.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Of the requests sent, so many have to be answered for a rate to count as sustained.
const SUSTAINED: f64 = 0.99;

/// How a system's speed is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A fixed number of requests is always on its way: every reply is turned into the next request
    Closed,
    /// The highest steady rate at which 99 % of the requests are answered
    Search,
}

#[derive(Clone, Debug)]
pub struct BenchPlan {
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
    /// So much more than the scenario has there is to be room for in this tracker: torrents, and peers.
    pub spare: (u32, u32),
    /// Further options of this tracker.
    pub tracker_options: Vec<String>,
}

/// One system's measured rounds.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub system: System,
    pub runs: Vec<Run>,
    /// Memory before and after the peers were announced.
    pub empty: Footprint,
    pub filled: Footprint,
    /// Share of the peers' first announces that was answered.
    pub prefilled: f64,
    /// Peers stored after that, as far as it tells.
    pub stored: Option<u64>,
    /// At half the rate.
    pub half_load: Option<Run>,
}

/// A system ready to be measured.
pub struct Session {
    system: System,
    running: Running,
    load: Load,
    connected: Option<Instant>,
    /// Mean length of its replies after their UDP headers, as far as known.
    reply_bytes: Option<f64>,
    outcome: Outcome,
    testbed: Testbed,
}

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
            // The reflector, which comes last, shows what the path costs at the load that it is compared with.
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
    if run.refilled > 0 {
        text += &format!(", {} replaced", run.refilled);
    }
    if run.invalid() > 0 {
        text += &format!("; invalid replies: {:?}", run.replies);
    }
    text
}

/// Where the requests come from.
enum Load {
    Udp(Box<Generator>, Request),
    Http(HttpLoad),
}

impl Session {
    pub fn prepare(
        system: System,
        scenario: &Scenario,
        number: usize,
        plan: &BenchPlan,
        reply_bytes: Option<f64>,
    ) -> anyhow::Result<Self> {
        let testbed = Testbed::create(number, plan.cores)?;
        testbed.set_moderation(plan.moderation)?;
        let load = match scenario.load {
            Kind::Udp(request) => {
                let visits = if scenario.needs_peers() { scenario.peers } else { 1 };
                let mut generator = Generator::new(&testbed, plan.cores, visits)?;
                generator.set_seeders(plan.seeders);
                generator.verify_checksums(system.computes_checksums());
                scenario.populate(generator.maps().population());
                Load::Udp(Box::new(generator), request)
            }
            Kind::Http { keep_alive } => {
                let mut population = vec![Visit::default(); scenario.peers as usize];
                scenario.populate(&mut population);
                Load::Http(HttpLoad::new(population, keep_alive)?)
            }
        };
        let directory = plan.directory.join(format!("{}-{}", scenario.name, system.identifier()));
        let running = Running::start(system, scenario, &testbed, plan, &directory)?;
        let outcome = Outcome {
            system,
            runs: Vec::new(),
            empty: Footprint::default(),
            filled: Footprint::default(),
            prefilled: 1.0,
            stored: None,
            half_load: None,
        };
        let mut session = Self { system, running, load, connected: None, reply_bytes, outcome, testbed };
        if system == System::Reflector {
            session.reflect(scenario)?;
        } else {
            session.fill(scenario, plan)?;
        }
        session.running.set_urgency(Urgency::Idle)?;
        Ok(session)
    }

    fn reflect(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let Load::Udp(generator, request) = &mut self.load else { bail!("the reflector reflects UDP only") };
        generator.set_request(&self.testbed, scenario.family, request)?;
        generator.maps().set_clients(&connect::unconnected(scenario.family, CLIENTS))?;
        let payload = scenario.reflected_payload(self.reply_bytes);
        eprintln!("  {}: replies of {payload} bytes", self.system.name());
        self.running.reflect(&self.testbed, generator.load(), payload)
    }

    /// Waits for the system to come up, and announces all peers.
    fn fill(&mut self, scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<()> {
        self.wait_for_answer(scenario)?;
        self.running.enlarge_buffers()?;
        self.outcome.empty = self.running.footprint();
        if scenario.needs_peers() {
            let start = Instant::now();
            let answered = self.announce_all(scenario, plan)?;
            self.outcome.prefilled = answered as f64 / f64::from(scenario.peers);
            let seconds = start.elapsed().as_secs_f64();
            self.outcome.stored = self.running.stored_peers(&self.testbed);
            eprintln!(
                "  {}: {} peers announced in {seconds:.1} s, {} not answered, {}",
                self.system.name(),
                scenario.peers,
                u64::from(scenario.peers).saturating_sub(answered),
                self.outcome.stored.map_or_else(
                    || "it does not say how many it stored".to_owned(),
                    |stored| format!("{stored} stored")
                )
            );
        }
        self.outcome.filled = self.running.footprint();
        self.renew_connections(scenario)?;
        if let Load::Udp(generator, request) = &mut self.load {
            generator.set_request(&self.testbed, scenario.family, request)?;
            // A first look, which also says how long replies are.
            let short = Times { warm_up: Duration::from_millis(50), measured: Duration::from_millis(200) };
            let look = generator.run_closed(&self.testbed, None, plan.window, short)?;
            ensure!(look.replies.answered > 0, "it does not answer: {:?}", look.replies);
            self.reply_bytes = Some(look.replies.bytes as f64 / look.replies.answered as f64);
        }
        Ok(())
    }

    /// Announces every peer once, and returns how many announces were answered.
    fn announce_all(&mut self, scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<u64> {
        let (mut position, mut answered) = (0, 0);
        if let Load::Http(http) = &mut self.load {
            let all = u64::from(scenario.peers);
            self.testbed.pin()?;
            self.testbed
                .client
                .enter(|| http.run(|counts| Ok(counts.rounds > 0 || counts.invalid + counts.broken >= all)))?;
            return Ok(all.saturating_sub(http.counts.invalid + http.counts.broken));
        }
        while position < scenario.peers {
            self.renew_connections(scenario)?;
            if let Load::Udp(generator, _) = &mut self.load {
                let started = Request::Announce { want: WANT, event: Event::Started };
                generator.set_request(&self.testbed, scenario.family, &started)?;
                answered += generator.prefill(&self.testbed, plan.window, &mut position, CONNECTION_AGE)?;
            }
        }
        Ok(answered)
    }

    fn wait_for_answer(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        const TRY: Duration = Duration::from_millis(200);
        let Self { running, load, testbed, .. } = self;
        running.wait_until_ready(START_LIMIT, || match load {
            Load::Udp(..) => connect::connect(testbed, scenario.family, 1, TRY).map(|_| ()),
            Load::Http(http) => testbed.client.enter(|| {
                let start = Instant::now();
                http.run(|counts| Ok(counts.answered > 0 || start.elapsed() > TRY))?;
                ensure!(http.counts.answered > 0, "no answer by HTTP: {:?} {:?}", http.counts, http.example);
                http.counts = http::Counts::default();
                http.example = None;
                Ok(())
            }),
        })
    }

    fn renew_connections(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let fresh = self.connected.is_some_and(|at| at.elapsed() < CONNECTION_AGE);
        if let Load::Udp(generator, _) = &mut self.load
            && self.system != System::Reflector
            && !fresh
        {
            let clients = connect::connect(&self.testbed, scenario.family, CLIENTS, CONNECT_LIMIT)?;
            generator.maps().set_clients(&clients)?;
            self.connected = Some(Instant::now());
        }
        Ok(())
    }

    /// Lets all clients connect anew, however fresh their connections are.
    pub fn connect_anew(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        self.connected = None;
        self.renew_connections(scenario)
    }

    /// For measurements of other kinds: where it is, who its clients are, and what they do.
    pub fn parts(&mut self, scenario: &Scenario) -> anyhow::Result<(&Testbed, &mut Generator, &Running)> {
        self.renew_connections(scenario)?;
        let Load::Udp(generator, _) = &mut self.load else { bail!("{} is not a UDP scenario", scenario.name) };
        Ok((&self.testbed, generator, &self.running))
    }

    fn with_priority<T>(&mut self, body: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.running.ensure_alive()?;
        self.running.set_urgency(Urgency::Measured)?;
        let result = body(self);
        self.running.set_urgency(Urgency::Idle)?;
        result
    }

    fn measure(&mut self, scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<Run> {
        self.renew_connections(scenario)?;
        let process = self.running.process();
        match &mut self.load {
            Load::Udp(generator, _) => match plan.method {
                Method::Closed => generator.run_closed(&self.testbed, process, plan.window, plan.times),
                Method::Search => search(generator, &self.testbed, process, plan),
            },
            Load::Http(http) => measure_http(http, &self.testbed, process, plan),
        }
    }

    /// A steady load that is answered: `rate` requests per second, or half of what it can do, or a part of that.
    fn half_load(&mut self, scenario: &Scenario, plan: &BenchPlan, rate: Option<f64>) -> anyhow::Result<Run> {
        // The moderation would be the better part of the latency.
        self.testbed.set_moderation(Duration::ZERO)?;
        self.renew_connections(scenario)?;
        let process = self.running.process();
        let Load::Udp(generator, _) = &mut self.load else { bail!("latency is measured by UDP only") };
        let rate = match rate {
            Some(rate) => rate,
            None => {
                // Without it a tracker can do less, and half of what it could do before may be all that it can do now.
                let short = Times { warm_up: Duration::from_millis(100), measured: plan.times.measured / 2 };
                0.5 * generator.run_closed(&self.testbed, process, plan.window, short)?.rate()
            }
        };
        let mut run = generator.run_open(&self.testbed, process, Some(rate), plan.times)?;
        // A steady load wakes a tracker more often than a closed loop does, which some cannot keep up with: what waits in a
        // socket's buffer says nothing of the tracker.
        for divisor in [2.0, 4.0, 8.0] {
            if run.answered_share() >= SUSTAINED {
                break;
            }
            run = generator.run_open(&self.testbed, process, Some(rate / divisor), plan.times)?;
        }
        Ok(run)
    }
}

fn measure_http(
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

/// The highest rate that is sustained, to within two per cent: from a closed loop's rate in ever smaller steps, with short
/// runs, then confirmed by a long one.
fn search(
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

/// Median and spread of a figure over the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Summary {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Summary {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let Some((&lowest, &highest)) = values.first().zip(values.last()) else { return Self::default() };
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { median, lowest, highest }
    }
}

impl Outcome {
    /// Answers per second.
    pub fn rate(&self) -> Summary {
        Summary::of(self.runs.iter().map(Run::rate))
    }

    /// Answers per second of processor time.
    pub fn per_core_second(&self) -> Summary {
        Summary::of(self.runs.iter().map(Run::per_core_second))
    }
}
