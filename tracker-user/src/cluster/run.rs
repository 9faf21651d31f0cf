//! The thread that does it all: takes what was announced here to the others, and what was announced
//! there into the store.

use super::{
    Plan, Ring,
    budget::{Budget, processor_time},
    catch_up::{Catching, Fetched, Giving},
    figures::{Dropped, Meters, add},
    intake::Intake,
    link, livesync,
    message::SHARDS,
    multicast::{Opentracker, receive},
    nodes::{CATCHING_UP, Hello, Nodes},
    outgoing::{Batches, Outgoing},
};
use crate::{
    service::{Service, Shutdown},
    store::Store,
};
use anyhow::Context as _;
use async_nats::{Client, Event, Message, Subscriber, connection::State};
use futures_util::stream::{SelectAll, select_all};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

/// From one look at what was announced here to the next.
const TICK: Duration = Duration::from_millis(10);

/// Changes that are taken out of the ring buffer at once.
const AT_ONCE: usize = 1 << 14;

/// From one word that this node is there to the next.
const HELLO: Duration = Duration::from_secs(4);

/// Messages that are kept while there is no connection: fewer than the client has room for.
const KEPT: usize = 3500;

/// How long a rest may be, so that the connection is not given up.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How long sending may take.
const SENDING: Duration = Duration::from_millis(100);

/// Announces answered since the start, and peers stored.
pub type Pulse = Box<dyn Fn() -> (u64, u64) + Send>;

/// The service.
pub struct Cluster {
    /// What is wanted.
    pub plan: Plan,
    /// The store.
    pub store: Arc<Store>,
    /// What the XDP program tells, if there is one.
    pub ring: Option<Ring>,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// How busy this node is.
    pub pulse: Pulse,
}

impl Service for Cluster {
    fn name(&self) -> String {
        "cluster".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .context("this tracker takes no part in its cluster: cannot make an event loop")?;
        let store = self.store.clone();
        let worked = runtime.block_on(self.work(shutdown)).context("this tracker takes no part in its cluster");
        // Nobody looks at what would be told.
        store.settings().tell_every.store(0);
        runtime.shutdown_timeout(Duration::from_secs(1));
        worked
    }
}

/// What NATS is listened to.
struct Link {
    changes: SelectAll<Subscriber>,
    hellos: Subscriber,
    asks: Subscriber,
}

pub(super) struct Worker {
    pub(super) plan: Plan,
    pub(super) store: Arc<Store>,
    ring: Option<Ring>,
    pub(super) meters: Arc<Meters>,
    pulse: Pulse,
    node: u64,
    pub(super) client: Option<Client>,
    batches: Batches,
    pub(super) intake: Intake,
    pub(super) nodes: Nodes,
    /// Shards that a new node has not taken over from anybody yet.
    pub(super) wanted: u64,
    /// Whether some of them came from a node that was itself catching up: then the others are asked as well.
    pub(super) incomplete: bool,
    pub(super) listening_since: Option<Instant>,
    pub(super) catching: Option<Catching>,
    pub(super) fetched: mpsc::Sender<Fetched>,
    pub(super) giving: Giving,
    /// When it was looked last at what was announced here.
    ticked: Instant,
    /// Time of this thread that was accounted for, and how much of the time since then was spent on what
    /// was announced here.
    accounted: Duration,
    own: Duration,
    pub(super) said_hello: Option<Instant>,
    /// When the connection was lost, if it is.
    lost: Option<Instant>,
    /// Why there is none, as the client of NATS has said it last.
    told: Option<String>,
    /// Messages that wait for a connection.
    kept: usize,
    last_pulse: (Instant, u64, u32),
    opentracker: Option<Opentracker>,
}

fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl Cluster {
    async fn work(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self { plan, store, ring, meters, pulse } = self;
        let (sender, mut fetched) = mpsc::channel(1);
        let (events_sender, mut events) = mpsc::unbounded_channel();
        let node = getrandom::u64().context("no random number")?;
        let now = Instant::now();
        let (mut client, mut changes, mut hellos, mut asks) = (None, None, None, None);
        if !plan.servers.is_empty() {
            let connected = link::connect(&plan, &meters, events_sender).await?;
            let subscribed = subscribe(&plan, &connected, node).await?;
            client = Some(connected);
            (changes, hellos, asks) = (Some(subscribed.changes), Some(subscribed.hellos), Some(subscribed.asks));
        }
        let mut worker = Worker {
            node,
            client,
            batches: Batches::new(node, plan.shards, now),
            intake: Intake::new(&store, &meters, plan.shards, Budget::new(plan.budget, plan.share)),
            nodes: Nodes::default(),
            wanted: plan.shards,
            incomplete: false,
            listening_since: None,
            catching: None,
            fetched: sender,
            giving: Giving::new(plan.share),
            ticked: now,
            accounted: processor_time(),
            own: Duration::ZERO,
            said_hello: None,
            lost: None,
            told: None,
            kept: 0,
            last_pulse: (now, pulse().0, 0),
            opentracker: plan.livesync.as_ref().map(Opentracker::open).transpose()?,
            plan,
            store,
            ring,
            meters,
            pulse,
        };
        worker.store.settings().tell_every.store(worker.plan.tell_every);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut buffer = vec![0; 1 << 16];
        loop {
            tokio::select! {
                () = shutdown.token().cancelled() => break,
                _ = ticks.tick() => worker.tick().await,
                Some(event) = events.recv() => worker.event(&event),
                // Whatever waits is read before the client reads more, or it would pile up.
                message = link::next(&mut changes) => {
                    worker.message(&message);
                    for _ in 0..link::WAITING.1 {
                        let Some(message) = link::waiting(&mut changes) else { break };
                        worker.message(&message);
                        if worker.ticked.elapsed() >= TICK {
                            worker.tick().await;
                        }
                    }
                }
                message = link::next(&mut hellos) => {
                    worker.hello(&message);
                    while let Some(message) = link::waiting(&mut hellos) {
                        worker.hello(&message);
                    }
                }
                message = link::next(&mut asks) => {
                    worker.answer(message);
                    while let Some(message) = link::waiting(&mut asks) {
                        worker.answer(message);
                    }
                }
                // Until there is time, whoever fetches waits.
                Some(fetched) = fetched.recv(), if worker.intake.has_time(Instant::now()) => worker.take(fetched),
                received = receive(worker.opentracker.as_ref(), &mut buffer) => worker.livesync(received, &buffer),
            }
            worker.account();
            worker.rest(shutdown).await;
        }
        worker.gather().await;
        worker.send_due(Instant::now() + Duration::from_secs(1)).await;
        if let Some(client) = &worker.client {
            let _ = timeout(SENDING, client.flush()).await;
        }
        Ok(())
    }
}

async fn subscribe(plan: &Plan, client: &Client, node: u64) -> anyhow::Result<Link> {
    let cannot = "cannot subscribe";
    let every = format!("{}.*", link::CHANGES);
    let subjects: Vec<_> = if plan.shards == u64::MAX {
        vec![every]
    } else {
        // The server sends nothing else.
        let shards = (0..SHARDS).filter(|shard| plan.shards >> shard & 1 != 0);
        shards.map(|shard| format!("{}.{shard}", link::CHANGES)).collect()
    };
    let mut changes = Vec::new();
    for subject in subjects {
        changes.push(client.subscribe(subject).await.context(cannot)?);
    }
    let changes = select_all(changes);
    let hellos = client.subscribe(link::HELLO).await.context(cannot)?;
    let asks = client.subscribe(format!("{}.{node:016x}", link::ASK)).await.context(cannot)?;
    Ok(Link { changes, hellos, asks })
}

impl Worker {
    async fn tick(&mut self) {
        let begin = processor_time();
        self.work().await;
        self.own += processor_time().saturating_sub(begin);
    }

    /// Accounts for the time that this thread has had: what was not for what is announced here was for
    /// what others tell.
    fn account(&mut self) {
        let now = processor_time();
        let all = now.saturating_sub(std::mem::replace(&mut self.accounted, now));
        let own = std::mem::take(&mut self.own).min(all);
        add(&self.meters.telling, own.as_nanos() as u64);
        self.intake.spend_rest_of(all - own);
    }

    /// Waits until the budget allows more. The whole thread does, so that not even the client of NATS
    /// reads: the server keeps what comes meanwhile, or closes the connection.
    async fn rest(&mut self, shutdown: &Shutdown) {
        let begin = Instant::now();
        while begin.elapsed() < LONGEST_REST && !shutdown.token().is_cancelled() {
            let rest = self.intake.rest(Instant::now());
            if rest.is_zero() {
                break;
            }
            std::thread::sleep(rest.min(TICK));
            self.tick().await;
            self.account();
        }
    }

    async fn work(&mut self) {
        self.gather().await;
        let now = Instant::now();
        self.ticked = now;
        self.send_due(now).await;
        if let Some(opentracker) = &mut self.opentracker {
            opentracker.send_due(now).await;
        }
        if self.is_connected() && self.said_hello.is_none_or(|said| now.duration_since(said) >= HELLO) {
            self.say_hello().await;
            self.meters.set_nodes(self.nodes.figures(now));
            self.catch_up(now);
        } else if self.wanted != 0 && self.catching.is_none() {
            self.catch_up(now);
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// Takes what was announced here.
    async fn gather(&mut self) {
        // Of a peer that has changed in both since the last time, nothing says which was first.
        let mut changes = self.store.changes.take();
        if let Some(ring) = &mut self.ring {
            ring.take(&mut changes, AT_ONCE);
        }
        if changes.is_empty() {
            return;
        }
        let (now, time) = (Instant::now(), milliseconds());
        for change in &changes {
            self.intake.remember(change);
            if self.client.is_some()
                && let Some(message) = self.batches.add(change, now, time)
            {
                self.send(message).await;
            }
            if let Some(opentracker) = &mut self.opentracker {
                add(&self.meters.livesync_sent, 1);
                opentracker.add(change).await;
            }
        }
    }

    async fn send_due(&mut self, now: Instant) {
        for message in self.batches.due(now, milliseconds()) {
            self.send(message).await;
        }
    }

    async fn send(&mut self, message: Outgoing) {
        let Some(client) = self.client.clone() else { return };
        let Outgoing { shard, bytes, changes } = message;
        let length = bytes.len() as u64;
        // While there is no connection, the client keeps some. The rest is missed by its numbers, and
        // asked for.
        let connected = self.is_connected();
        let room = connected || self.kept < KEPT;
        self.kept = if connected { 0 } else { self.kept + 1 };
        let sent = room && {
            let publish = client.publish(format!("{}.{shard}", link::CHANGES), bytes.into());
            timeout(SENDING, publish).await.is_ok_and(|published| published.is_ok())
        };
        if sent {
            add(&self.meters.messages_sent, 1);
            add(&self.meters.bytes_sent, length);
            add(&self.meters.sent, changes as u64);
        } else {
            self.meters.refuse(Dropped::Disconnected, changes as u64);
        }
    }

    async fn say_hello(&mut self) {
        let now = Instant::now();
        let (announces, peers) = (self.pulse)();
        let (since, before, _) = self.last_pulse;
        let seconds = now.duration_since(since).as_secs();
        if let Some(load) = announces.saturating_sub(before).checked_div(seconds) {
            self.last_pulse = (now, announces, load.min(u64::from(CATCHING_UP) - 1) as u32);
        }
        let load = if self.wanted != 0 || self.catching.is_some() { CATCHING_UP } else { self.last_pulse.2 };
        let name = self.plan.node.clone();
        let hello = Hello { node: self.node, shards: self.plan.shards, peers, load, name };
        self.said_hello = Some(now);
        if let Some(client) = &self.client {
            let _ = timeout(SENDING, client.publish(link::HELLO, hello.encode().into())).await;
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                self.meters.connected.store(true, Ordering::Relaxed);
                self.listening_since.get_or_insert_with(Instant::now);
                self.said_hello = None;
                self.told = None;
                if let Some(lost) = self.lost.take() {
                    for node in self.nodes.all_mut() {
                        node.was_silent = Some(node.was_silent.unwrap_or_default().max(lost.elapsed()));
                    }
                }
                info!("connected to the cluster as {}", self.plan.node);
            }
            Event::Disconnected | Event::Closed => {
                self.meters.connected.store(false, Ordering::Relaxed);
                add(&self.meters.disconnections, 1);
                self.lost.get_or_insert_with(Instant::now);
                warn!("the connection to the cluster is lost: what is announced here, others learn later");
            }
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {}
            Event::ServerError(error) => warn!("the cluster's server says: {error}"),
            Event::ClientError(error) => {
                let error = error.to_string();
                if !link::is_told(&error) && self.told.as_ref() != Some(&error) {
                    warn!("the connection to the cluster: {error}");
                    self.told = Some(error);
                }
            }
        }
    }

    fn message(&mut self, message: &Message) {
        let now = Instant::now();
        if let Some(header) = self.intake.message(&message.payload, now) {
            add(&self.meters.gaps, self.nodes.message(&header, milliseconds()));
        }
    }

    fn hello(&mut self, message: &Message) {
        let Some(hello) = Hello::decode(&message.payload) else {
            self.meters.refuse(Dropped::Foreign, 1);
            return;
        };
        let (node, has_peers, name) = (hello.node, hello.peers > 0, hello.name.clone());
        if node != self.node && self.nodes.hello(hello, Instant::now()) {
            info!("{name} takes part in the cluster");
            // It is new, and wants to know who is there. It has nothing yet.
            self.said_hello = None;
            if !has_peers {
                self.nodes.all_mut().filter(|known| known.hello.node == node).for_each(|known| known.is_known = true);
            }
        }
    }

    fn livesync(&mut self, received: Option<(usize, std::net::SocketAddr)>, buffer: &[u8]) {
        let (Some((length, sender)), Some(opentracker)) = (received, &self.opentracker) else { return };
        if !livesync::is_named(&opentracker.plan.from, sender.ip()) {
            self.meters.refuse(Dropped::Foreign, 1);
            return;
        }
        match livesync::parse(opentracker.id, &buffer[..length]) {
            Ok(changes) => {
                add(&self.meters.livesync_received, changes.len() as u64);
                self.intake.changes(&changes, Instant::now());
            }
            Err(livesync::Wrong::Own) => {}
            Err(livesync::Wrong::Foreign | livesync::Wrong::Sender) => self.meters.refuse(Dropped::Foreign, 1),
        }
    }
}

const _: () = assert!(SHARDS == u64::BITS as usize);
