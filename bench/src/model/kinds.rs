//! Kinds of requests, and what one of each takes on average.

use anyhow::{Context as _, ensure};
use bench_ebpf::{Client, Visit, is_seeder};

use super::{
    frames::{Frames, Reply},
    observer::Counts,
    tracker::{Tracker, XDP_TX},
};
use crate::{
    generator::CLIENTS,
    request::{Event, Request},
    scenario::{Kind as Load, NUM_WANT, Scenario},
};

/// Requests that are alike.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// How it is called in the results.
    pub name: &'static str,
    pub request: Request,
    who: Who,
    /// Minutes that have passed since the peers announced last.
    minutes: u32,
    /// Other trackers, if there are any, are told of known peers so often.
    tell_every: u32,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Peers that the tracker knows.
    Known,
    /// Leechers among them, of which each says that it is a seeder.
    Leechers,
    /// The same, with connection ids that it did not give.
    Stranger,
    /// Peers of torrents that it does not know.
    Unknown,
}

/// Minutes after which other trackers are told again that a peer is there, as the daemon's default is.
const TELL_EVERY: u32 = 10;

const fn announce(name: &'static str, num_want: i32) -> Kind {
    let request = Request::Announce { num_want, event: Event::None };
    Kind { name, request, who: Who::Known, minutes: 0, tell_every: TELL_EVERY }
}

const fn scrape(name: &'static str, hashes: u32) -> Kind {
    Kind { request: Request::Scrape { hashes }, ..announce(name, 0) }
}

const CONNECT: Kind = Kind { request: Request::Connect, ..announce("connect", 0) };

/// The last ones of the peers that fill the store.
pub const NEW_PEER: Kind = Kind {
    request: Request::Announce { num_want: NUM_WANT, event: Event::Started },
    ..announce("new peer, 50 wanted", 0)
};

/// What the first announces of all other peers are like: nobody looks at them.
const FILLING: Request = Request::Announce { num_want: 0, event: Event::Started };

/// The kind that most requests of most trackers are of.
pub const USUAL: &str = "known peer, 50 wanted";

const ANNOUNCES: &[Kind] = &[
    CONNECT,
    Kind { who: Who::Stranger, ..announce("refused: wrong connection id", NUM_WANT) },
    Kind {
        who: Who::Unknown,
        request: Request::Announce { num_want: NUM_WANT, event: Event::Stopped },
        ..announce("stopped, torrent unknown", 0)
    },
    announce("known peer, 0 wanted", 0),
    announce("known peer, 1 wanted", 1),
    announce(USUAL, NUM_WANT),
    announce("known peer, 100 wanted", 2 * NUM_WANT),
    Kind { minutes: 1, ..announce("known peer, 50 wanted, minute later", NUM_WANT) },
];

/// What other trackers are told of, and what they are not: how they are called, and the kinds.
pub const CHANGES: &[Kind] = &[
    announce(USUAL, NUM_WANT),
    // In windows without an end.
    Kind { minutes: 1, tell_every: u32::MAX, ..announce("the same a minute later", NUM_WANT) },
    Kind { minutes: TELL_EVERY, ..announce("the same 10 minutes later", NUM_WANT) },
    Kind {
        who: Who::Leechers,
        request: Request::Announce { num_want: NUM_WANT, event: Event::Completed },
        ..announce("completed, 50 wanted", NUM_WANT)
    },
    Kind { request: Request::Announce { num_want: 0, event: Event::Stopped }, ..announce("stopped, known", 0) },
];

/// Of [`CHANGES`]: a known peer's announce of which nobody is told, and one that is told of.
pub const KNOWN: (usize, usize) = (1, 2);

const SCRAPES: &[Kind] = &[CONNECT, scrape("scrape of 1", 1), scrape("scrape of 74", 74)];

/// The kinds that say something of a scenario, besides [`NEW_PEER`].
pub fn of(scenario: &Scenario) -> &'static [Kind] {
    match scenario.load {
        Load::Udp(Request::Scrape { .. }) => SCRAPES,
        Load::Udp(_) | Load::Http { .. } => ANNOUNCES,
    }
}

/// What requests of one kind took.
pub struct Result {
    pub kind: Kind,
    /// How many there were.
    pub requests: u64,
    pub counts: Counts,
    /// How often each instruction was executed.
    pub executed: Vec<u64>,
    /// Peers in the replies.
    pub peers: u64,
    /// Requests that were not answered as they should have been.
    pub failed: u64,
}

/// One scenario's tracker, and where it is in its population.
pub struct Course<'a> {
    pub tracker: Tracker,
    scenario: &'a Scenario,
    seeders: u32,
    clients: Vec<Client>,
    visits: Vec<Visit>,
    position: usize,
    transaction: u32,
    /// Whether other trackers are told of changes.
    tells: bool,
}

impl<'a> Course<'a> {
    pub fn new(tracker: Tracker, scenario: &'a Scenario, seeders: u32, tells: bool) -> Self {
        let mut visits = vec![Visit::default(); scenario.peers as usize];
        scenario.populate(&mut visits);
        Self { tracker, scenario, seeders, clients: Vec::new(), visits, position: 0, transaction: 0, tells }
    }

    fn frames(&self, request: &Request) -> anyhow::Result<Frames> {
        Frames::new(request, self.scenario.family, self.seeders, self.clients.clone())
    }

    /// Announces all peers for the first time. The last ones are counted, after as many to warm up.
    pub fn fill(&mut self, counted: usize) -> anyhow::Result<Result> {
        self.clients = self.tracker.connect(self.scenario.family)?;
        self.tracker.tell_every(if self.tells { TELL_EVERY } else { 0 });
        let counted = counted.min(self.visits.len() / 2);
        let frames = self.frames(&FILLING)?;
        let all = self.visits.len();
        for number in 0..all - 2 * counted {
            let visit = self.visits[number];
            self.transaction += 1;
            let action = self.tracker.handle::<false>(&frames.announce(visit, self.transaction))?;
            ensure!(action == XDP_TX, "peer {number} of {all} was not taken: the program returned {action}");
            frames
                .read(self.tracker.reply(), &FILLING, self.transaction)
                .with_context(|| format!("peer {number} of {all} was not taken"))?;
        }
        self.position = all - 2 * counted;
        let result = self.requests(NEW_PEER, counted)?;
        // In another order than they came in, or every fourth peer of torrents of four would find
        // its torrent beside the one before.
        crate::scenario::shuffle(&mut self.visits);
        Ok(result)
    }

    /// Sends requests of one kind: some to warm up, then as many that are counted.
    pub fn requests(&mut self, kind: Kind, counted: usize) -> anyhow::Result<Result> {
        if kind.minutes > 0 {
            self.tracker.pass(kind.minutes);
            // Connection ids are too old soon.
            self.clients = self.tracker.connect(self.scenario.family)?;
        }
        self.tracker.tell_every(if self.tells { kind.tell_every } else { 0 });
        let clients = self.clients.clone();
        if kind.who == Who::Stranger {
            self.clients.iter_mut().for_each(|client| client.connection_id = [1, 2]);
        }
        let seeders = if kind.who == Who::Leechers { 256 } else { self.seeders };
        let frames = Frames::new(&kind.request, self.scenario.family, seeders, self.clients.clone())?;
        self.clients = clients;
        let mut result =
            Result { kind, requests: 0, counts: Counts::default(), executed: Vec::new(), peers: 0, failed: 0 };
        for measured in [false, true] {
            self.tracker.machine.observer.reset();
            for _ in 0..counted {
                let frame = self.next(&kind, &frames);
                let action = self.tracker.handle::<true>(&frame)?;
                let reply = if action == XDP_TX {
                    Some(frames.read(self.tracker.reply(), &kind.request, self.transaction)?)
                } else {
                    None
                };
                if measured {
                    match reply {
                        Some(Reply::Peers(peers)) => result.peers += peers as u64,
                        Some(Reply::Error) if kind.who == Who::Stranger => {}
                        Some(Reply::Other(_)) => {}
                        Some(Reply::Error) | None => result.failed += 1,
                    }
                    result.requests += 1;
                }
            }
        }
        let observer = &self.tracker.machine.observer;
        result.counts = observer.counts.clone();
        result.executed.clone_from(&observer.executed);
        Ok(result)
    }

    fn next(&mut self, kind: &Kind, frames: &Frames) -> Vec<u8> {
        self.transaction = self.transaction.wrapping_add(1);
        match kind.request {
            Request::Connect => frames.connect(self.transaction % CLIENTS, self.transaction),
            Request::Announce { .. } => {
                let mut visit = self.next_visit();
                // In a scenario of seeders alone there are none.
                for _ in 0..self.visits.len() {
                    if kind.who != Who::Leechers || !is_seeder(visit, self.seeders) {
                        break;
                    }
                    visit = self.next_visit();
                }
                if kind.who == Who::Unknown {
                    visit.torrent ^= 1 << 31;
                }
                frames.announce(visit, self.transaction)
            }
            Request::Scrape { hashes } => {
                let visits: Vec<_> = (0..hashes).map(|_| self.next_visit()).collect();
                frames.scrape(visits.into_iter(), self.transaction)
            }
        }
    }

    fn next_visit(&mut self) -> Visit {
        let visit = self.visits[self.position % self.visits.len()];
        self.position += 1;
        visit
    }
}
