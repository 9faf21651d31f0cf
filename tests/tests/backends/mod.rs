//! The backends that answer requests, and how a row of the decision table is run on any of them.

pub(crate) mod both;
pub(crate) mod host;
pub(crate) mod sockets;
pub(crate) mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};
use tracker::config::{limits::RequestLimits, live::Announces};
use tracker_common::{
    outcome::{Event, Reason},
    settings::Settings,
};
use tracker_tests::{
    bep15::{self, Announce, Reply},
    decision_table::{CLIENT_MAC, Expected, Family, Id, Peer, Row, Scope, TRACKER_MAC, Verdict},
    packet::Frame,
};

/// What came of a frame.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A datagram with this payload came back.
    Answered(Vec<u8>),
    /// Nothing came back.
    Silence,
    /// The XDP program did not answer, and did this.
    Unanswered(Verdict),
}

/// What answers requests: the XDP program, the daemon's sockets, or the host build of the same
/// code.
pub(crate) trait Backend {
    /// Sends a frame, or only its payload where there are no frames. `bytes` is the frame as it
    /// stands on the wire.
    fn send(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Outcome, String>;

    /// What has been counted so far: by the labels of events and reasons.
    fn counters(&mut self) -> BTreeMap<String, u64>;

    /// Whether it sees frames.
    fn has_frames(&self) -> bool;

    /// The settings, where the clock can be moved.
    fn clock(&self) -> Option<&Settings>;
}

/// Settings as the daemon has them by default, with a clock of our own.
pub(crate) fn configure(settings: &Settings) {
    for (number, key) in settings.hash_keys.iter().chain(&settings.connection_key).enumerate() {
        key.store((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    }
    RequestLimits::default().apply(settings);
    // Rows have few addresses.
    Announces { max_peers_per_address: 0, creations_per_address: 0, ..Announces::default() }.apply(settings);
    settings.second.store(1_000_000);
    settings.minute.store(1_000_000 / 60);
}

/// The labels of all counters with their values.
pub(crate) fn labelled(counters: &[u64]) -> BTreeMap<String, u64> {
    let labels = Event::ALL.iter().map(|event| event.label()).chain(Reason::all().map(Reason::label));
    labels.map(str::to_owned).zip(counters.iter().copied()).collect()
}

/// Runs rows on a backend.
pub(crate) struct Runner<'a> {
    backend: &'a mut dyn Backend,
    ids: HashMap<IpAddr, u64>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        Self { backend, ids: HashMap::new() }
    }

    /// Runs all rows that can be run. Gives, by the rows' names, what came of those that hold on
    /// every backend.
    ///
    /// # Panics
    /// With all rows that went wrong.
    pub(crate) fn run(&mut self, rows: &[Row]) -> BTreeMap<String, String> {
        let (mut answers, mut wrong) = (BTreeMap::new(), Vec::new());
        for row in rows {
            let runs = match row.scope {
                Scope::Datagram => true,
                Scope::Clock => self.backend.clock().is_some(),
                Scope::Frame => self.backend.has_frames(),
            };
            if !runs {
                continue;
            }
            match self.row(row) {
                Ok(answer) if row.scope == Scope::Datagram => drop(answers.insert(row.name.clone(), answer)),
                Ok(_) => {}
                Err(error) => wrong.push(format!("{}: {error}", row.name)),
            }
        }
        assert!(wrong.is_empty(), "{} of {} rows went wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
        answers
    }

    /// What the backend has counted.
    pub(crate) fn counters(&mut self) -> BTreeMap<String, u64> {
        self.backend.counters()
    }

    fn row(&mut self, row: &Row) -> Result<String, String> {
        for peer in &row.before {
            self.announce(row, peer).map_err(|error| format!("before: {error}"))?;
        }
        let mut row = row.clone();
        if let Some(id) = row.id {
            let id = self.id_for(&row, id)?;
            row.frame.payload[..8].copy_from_slice(&id.to_be_bytes());
        }
        let before = self.backend.counters();
        let outcome = self.backend.send(&row.frame, &row.bytes())?;
        let after = self.backend.counters();

        let left = row.left_to_sockets.filter(|_| self.backend.has_frames());
        if let Some(label) = left.or(row.counter.as_deref()) {
            let value = |counters: &BTreeMap<String, u64>| {
                counters.get(label).copied().ok_or_else(|| format!("there is no counter {label}"))
            };
            let moved = value(&after)? - value(&before)?;
            if moved != 1 {
                let others: Vec<_> = after.iter().filter(|(label, value)| before.get(*label) != Some(value)).collect();
                return Err(format!("counter {label} moved by {moved}; {outcome:?}; moved: {others:?}"));
            }
        }
        if left.is_some() {
            return match outcome {
                Outcome::Unanswered(Verdict::Passed) => Ok(String::new()),
                Outcome::Answered(_) | Outcome::Silence | Outcome::Unanswered(Verdict::Dropped) => {
                    Err(format!("{outcome:?} instead of passing it on"))
                }
            };
        }
        let answer = match (&row.expected, outcome) {
            (Expected::Nothing(expected), Outcome::Unanswered(verdict)) if *expected == verdict => "nothing".to_owned(),
            (Expected::Nothing(_), Outcome::Silence) => "nothing".to_owned(),
            (
                Expected::Connect | Expected::Announce { .. } | Expected::Scrape(_) | Expected::Error(_),
                Outcome::Answered(reply),
            ) => row.check(&reply)?,
            (expected, outcome) => return Err(format!("{outcome:?} instead of {expected:?}")),
        };
        self.check_stored(&row).map_err(|error| format!("afterwards: {error}"))?;
        Ok(answer)
    }

    /// Asks for the state afterwards, as a client can.
    fn check_stored(&mut self, row: &Row) -> Result<(), String> {
        self.check_counts(row)?;
        for family in Family::BOTH {
            let peers: BTreeSet<_> =
                row.peers.iter().filter(|peer| peer.is_ipv4() == (family == Family::V4)).copied().collect();
            if peers.len() > family.max_numwant() {
                continue;
            }
            let probe = SocketAddr::new(family.host(251), 40_002);
            let connection_id = self.connect(probe)?;
            let mut announce = Announce { connection_id, num_want: 200, ..Announce::new(row.torrent, 2) };
            let reply = self.ask(probe, announce.bytes())?;
            let Reply::Announce { peers: given, .. } = reply else { return Err(format!("{reply:?}")) };
            let given: BTreeSet<_> = given.into_iter().collect();
            if given != peers {
                return Err(format!("{given:?} are stored instead of {peers:?}"));
            }
            announce.event = bep15::Event::Stopped as u32;
            self.ask(probe, announce.bytes())?;
        }
        self.check_counts(row).map_err(|error| format!("{error} when the probes have left"))
    }

    fn check_counts(&mut self, row: &Row) -> Result<(), String> {
        let requester = SocketAddr::new(Family::V4.host(250), 40_001);
        let id = self.connect(requester)?;
        let reply = self.ask(requester, bep15::scrape(id, 7, &[row.torrent]))?;
        if reply == (Reply::Scrape { transaction: 7, torrents: vec![row.counts] }) {
            Ok(())
        } else {
            Err(format!("{reply:?} instead of {:?}", row.counts))
        }
    }

    fn announce(&mut self, row: &Row, peer: &Peer) -> Result<(), String> {
        let source = SocketAddr::new(peer.address.ip(), 40_000);
        let mut announce = Announce::new(row.torrent, peer.address.port());
        announce.connection_id = self.connect(source)?;
        announce.event = peer.event as u32;
        announce.num_want = 0;
        if peer.seeder {
            announce.left = 0;
        }
        let reply = self.ask(source, announce.bytes())?;
        if matches!(reply, Reply::Announce { .. }) { Ok(()) } else { Err(format!("{reply:?}")) }
    }

    fn id_for(&mut self, row: &Row, id: Id) -> Result<u64, String> {
        let family = if row.frame.source.is_ipv4() { Family::V4 } else { Family::V6 };
        // Rows about impossible sources carry an id that would be right for a possible one.
        let source = SocketAddr::new(family.host(9), 40_003);
        let another = SocketAddr::new(family.host(10), 40_003);
        Ok(match id {
            Id::Right => self.connect(source)?,
            Id::Wrong => self.connect(source)? ^ 1 << 20,
            Id::OfAnother => self.connect(another)?,
            Id::Expired => {
                let id = self.connect(source)?;
                let clock = self.backend.clock().ok_or("no clock to be moved")?;
                clock.second.store(clock.second.load() + 240);
                clock.minute.store(clock.second.load() / 60);
                self.ids.clear();
                id
            }
        })
    }

    /// A connection id for an address.
    pub(crate) fn connect(&mut self, source: SocketAddr) -> Result<u64, String> {
        if let Some(id) = self.ids.get(&source.ip()) {
            return Ok(*id);
        }
        let reply = self.ask(source, bep15::connect(0xc0))?;
        let Reply::Connect { transaction: 0xc0, connection_id } = reply else {
            return Err(format!("a connect from {source} was answered with {reply:?}"));
        };
        self.ids.insert(source.ip(), connection_id);
        Ok(connection_id)
    }

    /// Sends a request that has to be answered.
    pub(crate) fn ask(&mut self, source: SocketAddr, request: Vec<u8>) -> Result<Reply, String> {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, family.tracker());
        frame.payload = request;
        match self.backend.send(&frame, &frame.bytes())? {
            Outcome::Answered(reply) => Reply::parse(&reply, source.is_ipv4()).map_err(|error| format!("{error:#}")),
            outcome @ (Outcome::Silence | Outcome::Unanswered(_)) => Err(format!("{outcome:?} from {source}")),
        }
    }
}
