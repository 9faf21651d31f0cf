//! A session: one system under test, started in a testbed of its own and filled with peers, ready
//! to be measured.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bench_ebpf::Visit;

use crate::{
    connect,
    cores::{Footprint, Thread, Urgency},
    generator::{CLIENTS, Generator, Run, Times},
    http::{self, HttpLoad},
    measure::{SUSTAINED, measure_http, search},
    plan::{BenchPlan, Method},
    request::{Event, Request},
    scenario::{self, Kind, NUM_WANT, Scenario},
    statistics::Summary,
    system::{RunningSystem, System},
    testbed::Testbed,
};

/// Connection ids are renewed when they are older: BEP 15 lets trackers forget them after two
/// minutes.
const CONNECTION_AGE: Duration = Duration::from_secs(40);
/// How long connecting all clients may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long a system may take from its start to its first answer.
const START_LIMIT: Duration = Duration::from_secs(90);

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
    /// At half the rate, round by round.
    pub half_load: Vec<Run>,
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

/// A system ready to be measured.
pub struct Session {
    pub system: System,
    running: RunningSystem,
    load: Load,
    connected: Option<Instant>,
    /// Mean length of its replies after their UDP headers, as far as known.
    pub reply_bytes: Option<f64>,
    pub outcome: Outcome,
    testbed: Testbed,
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
                generator.set_seeders(plan.seeders.unwrap_or(scenario.seeders) * 256 / 100);
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
        let running = RunningSystem::start(system, scenario, &testbed, plan, &directory)?;
        let outcome = Outcome {
            system,
            runs: Vec::new(),
            empty: Footprint::default(),
            filled: Footprint::default(),
            prefilled: 1.0,
            stored: None,
            half_load: Vec::new(),
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
        generator.set_request(scenario.family, request)?;
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
            // In another order than they came in: a tracker that lays torrents into memory as they
            // come would find the next one beside the one before.
            scenario::shuffle(generator.maps().population());
            generator.set_request(scenario.family, request)?;
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
                let started = Request::Announce { num_want: NUM_WANT, event: Event::Started };
                generator.set_request(scenario.family, &started)?;
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

    /// The testbed, the generator and the system, for measurements of other kinds.
    pub fn parts(&mut self, scenario: &Scenario) -> anyhow::Result<(&Testbed, &mut Generator, &RunningSystem)> {
        self.renew_connections(scenario)?;
        let Load::Udp(generator, _) = &mut self.load else { bail!("{} is not a UDP scenario", scenario.name) };
        Ok((&self.testbed, generator, &self.running))
    }

    /// Calls `body` while the system has priority. At other times it is idle, so that it does not
    /// disturb the measurement of another one.
    pub fn with_priority<T>(&mut self, body: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.running.ensure_alive()?;
        self.running.set_urgency(Urgency::Measured)?;
        let result = body(self);
        self.running.set_urgency(Urgency::Idle)?;
        result
    }

    /// Measures one round.
    pub fn measure(&mut self, scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<Run> {
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

    /// How many requests per second a system answers in a closed loop, when the client's end waits so
    /// long before it looks for replies.
    pub fn full_load(&mut self, scenario: &Scenario, plan: &BenchPlan, moderation: Duration) -> anyhow::Result<f64> {
        let short = Times { warm_up: Duration::from_millis(100), measured: plan.times.measured / 2 };
        self.testbed.set_moderation(moderation)?;
        self.renew_connections(scenario)?;
        let process = self.running.process();
        let Load::Udp(generator, _) = &mut self.load else { bail!("latency is measured by UDP only") };
        Ok(generator.run_closed(&self.testbed, process, plan.window, short)?.rate())
    }

    /// Sends `rate` requests per second, when the client's end waits so long before it looks for
    /// replies.
    pub fn steady(
        &mut self,
        scenario: &Scenario,
        rate: f64,
        moderation: Duration,
        times: Times,
    ) -> anyhow::Result<Run> {
        self.testbed.set_moderation(moderation)?;
        self.renew_connections(scenario)?;
        let process = self.running.process();
        let Load::Udp(generator, _) = &mut self.load else { bail!("latency is measured by UDP only") };
        generator.run_open(&self.testbed, process, Some(rate), times)
    }

    /// The threads that poll the tracker's interface.
    pub fn polling_threads(&self) -> anyhow::Result<Vec<Thread>> {
        self.testbed.pin()
    }

    /// A steady load that is answered: half of what it can do, in requests per second, or a part of
    /// that.
    pub fn half_rate(&mut self, scenario: &Scenario, plan: &BenchPlan) -> anyhow::Result<f64> {
        // Without moderation, which would be the better part of the latency. A tracker can do less
        // without it, and half of what it could do before may be all that it can do now.
        let full = self.full_load(scenario, plan, Duration::ZERO)?;
        // A steady load wakes a tracker more often than a closed loop does, which some cannot keep
        // up with: what waits in a socket's buffer says nothing of the tracker.
        let mut rate = 0.5 * full;
        for _ in 0..3 {
            let run = self.steady(scenario, rate, Duration::ZERO, plan.times)?;
            // The load's core may not get that far either.
            rate = rate.min(run.sent as f64 / run.usage.seconds);
            if run.answered_share() >= SUSTAINED {
                break;
            }
            rate /= 2.0;
        }
        Ok(rate)
    }
}
