//! The decision table: what is sent, what has to come of it, which counter moves, and what is
//! stored before and after.
//!
//! Rows about BEP 15 ([`Scope::Datagram`]) hold on every backend: through the XDP program, through
//! the daemon's sockets, and through the host build of the same code. Rows about headers
//! ([`Scope::Frame`]) are for the XDP program alone. Each row has a torrent of its own, so rows can
//! be run one after the other on the same store.

use crate::{
    bep15::{self, Announce, Counts, Event, InfoHash, Reply, header},
    packet::{self, Checksum, Frame, Mac, Tag},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
};

/// The tracker's MAC address.
pub const TRACKER_MAC: Mac = [0x02, 0, 0, 0, 0x69, 0x01];
/// The tracker's addresses; on backends that have addresses at all, everything else in their /24
/// and /64 is clients'.
pub const TRACKER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 18, 77, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1))];
/// The tracker's UDP port.
pub const TRACKER_PORT: u16 = 6969;
/// The MAC address of all clients.
pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0x69, 0x02];

/// The tracker's answer to an announce without further wishes: seconds until the next one.
pub const INTERVAL: RangeInclusive<i64> = 1620..=1980;
/// Most info_hashes answered in one scrape.
pub const SCRAPE_MAX: usize = 74;

/// The requester: host number, UDP port and the port it announces.
const REQUESTER: (u16, u16, u16) = (9, 50009, 6881);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

use Family::{V4, V6};

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [V4, V6];

    fn other(self) -> Self {
        match self {
            V4 => V6,
            V6 => V4,
        }
    }

    /// The tracker's address and port.
    #[must_use]
    pub fn tracker(self) -> SocketAddr {
        SocketAddr::new(TRACKER[self as usize], TRACKER_PORT)
    }

    /// The address of a client. Host 1 is the tracker.
    #[must_use]
    pub fn host(self, number: u16) -> IpAddr {
        match self {
            V4 => Ipv4Addr::new(198, 18, 77, u8::try_from(number).expect("254 hosts are enough")).into(),
            V6 => Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number).into(),
        }
    }

    /// Most peers in a UDP reply.
    #[must_use]
    pub fn max_numwant(self) -> usize {
        match self {
            V4 => 200,
            V6 => 67,
        }
    }

    fn label(self, event: &str) -> String {
        let family = match self {
            V4 => "ipv4",
            V6 => "ipv6",
        };
        format!("{event}_{family}")
    }
}

/// A peer, as known by its address and the port it announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and announced port.
    pub address: SocketAddr,
    /// Whether it has everything.
    pub seeder: bool,
    /// The event it announces.
    pub event: Event,
}

/// Peer `number` of a family; all different, none the requester.
fn peer(family: Family, number: u16, seeder: bool) -> Peer {
    let address = SocketAddr::new(family.host(20 + number % 200), 7000 + number);
    Peer { address, seeder, event: Event::None }
}

/// Peers that do not have everything.
fn leechers(family: Family, numbers: RangeInclusive<u16>) -> Vec<Peer> {
    numbers.map(|number| peer(family, number, false)).collect()
}

/// Peers that have everything.
fn seeders(family: Family, numbers: RangeInclusive<u16>) -> Vec<Peer> {
    numbers.map(|number| peer(family, number, true)).collect()
}

fn addresses(peers: &[Peer]) -> BTreeSet<SocketAddr> {
    peers.iter().map(|peer| peer.address).collect()
}

/// The requester of a family as a peer.
fn requester(family: Family) -> Peer {
    Peer { address: SocketAddr::new(family.host(REQUESTER.0), REQUESTER.2), seeder: false, event: Event::None }
}

/// Which connection id a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// The one that was issued to its source.
    Right,
    /// That one with a bit changed.
    Wrong,
    /// One that was issued to another address.
    OfAnother,
    /// One that was issued to its source four minutes ago.
    Expired,
}

/// On which backends a row can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On all.
    Datagram,
    /// On all whose clock can be moved.
    Clock,
    /// Where frames are seen as they are.
    Frame,
}

/// What an XDP program does with a packet that it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `XDP_PASS`: the kernel goes on with it.
    Passed,
    /// `XDP_DROP`.
    Dropped,
}

/// The peers of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// These and no others.
    All(BTreeSet<SocketAddr>),
    /// Exactly this many distinct members of this set.
    Some(usize, BTreeSet<SocketAddr>),
}

/// What has to come of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A connection id.
    Connect,
    /// Counts and peers.
    Announce {
        /// Peers that have everything.
        seeders: u32,
        /// Peers that do not.
        leechers: u32,
        /// Their addresses.
        peers: Peers,
    },
    /// Counts.
    Scrape(Vec<Counts>),
    /// An error message.
    Error(&'static str),
    /// No answer; with what the XDP program does to be silent.
    Nothing(Verdict),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// Where it can be run.
    pub scope: Scope,
    /// Its own torrent.
    pub torrent: InfoHash,
    /// Peers that announce themselves before.
    pub before: Vec<Peer>,
    /// The packet.
    pub frame: Frame,
    /// Bytes instead of the frame, for what is not UDP at all.
    pub bytes: Option<Vec<u8>>,
    /// What is to be written over the first 8 bytes of the payload.
    pub id: Option<Id>,
    /// What has to come of it.
    pub expected: Expected,
    /// The counter that has to move by one: the label of an event or of a reason.
    pub counter: Option<String>,
    /// Set for an answerable request that the XDP program passes on to the sockets: the counter
    /// that moves there instead.
    pub left_to_sockets: Option<&'static str>,
    /// The counts afterwards.
    pub counts: Counts,
    /// The peers afterwards, of both families.
    pub peers: BTreeSet<SocketAddr>,
}

impl Row {
    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.clone().unwrap_or_else(|| self.frame.bytes())
    }

    /// Checks a reply, and returns what of it is the same on every backend: random parts are taken
    /// out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, reply: &[u8]) -> Result<String, String> {
        let request = &self.frame.payload;
        if matches!(self.id, Some(Id::Wrong | Id::OfAnother | Id::Expired)) && reply.len() > request.len() {
            return Err(format!("{} bytes for {} that nobody has verified", reply.len(), request.len()));
        }
        let reply = Reply::parse(reply, self.frame.source.is_ipv4()).map_err(|error| format!("{error:#}"))?;
        let transaction = u32::from_be_bytes(request[12..16].try_into().expect("only whole requests are answered"));
        if reply.transaction() != transaction {
            return Err(format!("transaction {:#x} instead of {transaction:#x}", reply.transaction()));
        }
        match (&self.expected, reply) {
            (Expected::Connect, Reply::Connect { .. }) => Ok("connect".to_owned()),
            (
                Expected::Announce { seeders, leechers, peers },
                Reply::Announce { interval, seeders: has, leechers: wants, peers: given, .. },
            ) => {
                if !INTERVAL.contains(&i64::from(interval)) {
                    return Err(format!("interval {interval}"));
                }
                if (*seeders, *leechers) != (has, wants) {
                    return Err(format!("{has} seeders and {wants} leechers instead of {seeders} and {leechers}"));
                }
                let set: BTreeSet<_> = given.iter().copied().collect();
                if set.len() != given.len() {
                    return Err(format!("a peer twice: {given:?}"));
                }
                match peers {
                    Peers::All(all) if *all == set => Ok(format!("announce {has} {wants} {set:?}")),
                    Peers::Some(count, all) if set.len() == *count && set.is_subset(all) => {
                        Ok(format!("announce {has} {wants} {count} peers"))
                    }
                    Peers::All(_) | Peers::Some(..) => Err(format!("peers {set:?} instead of {peers:?}")),
                }
            }
            (Expected::Scrape(counts), Reply::Scrape { torrents, .. }) if *counts == torrents => {
                Ok(format!("scrape {torrents:?}"))
            }
            (Expected::Error(text), Reply::Error { message, .. }) if *text == message => Ok(format!("error {message}")),
            (expected, reply) => Err(format!("{reply:?} instead of {expected:?}")),
        }
    }
}

/// All rows.
#[must_use]
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        let mut table = Table { family, rows: Vec::new() };
        table.connects();
        table.announces();
        table.events();
        table.peers_given();
        table.scrapes();
        table.identities();
        table.frames();
        rows.extend(table.rows);
    }
    for (number, row) in rows.iter_mut().enumerate() {
        row.finish(u16::try_from(number).expect("few rows"));
    }
    rows
}

/// Bytes of an error text that asks for a new connection id.
const MISMATCH: &str = "Connection ID mismatch";

/// The torrent that rows are written with, before each gets one of its own.
const TORRENT: InfoHash = *b"the torrent of a row";

impl Row {
    /// Gives the row a torrent and a transaction id of its own.
    fn finish(&mut self, number: u16) {
        let [high, low] = number.to_be_bytes();
        let mut torrent = TORRENT;
        // Spread over the whole of it, as real ones are.
        for (at, byte) in torrent.iter_mut().enumerate() {
            *byte = byte.wrapping_mul(31).wrapping_add(high ^ low.wrapping_mul(u8::try_from(at).expect("20") * 2 + 7));
        }
        torrent[..2].copy_from_slice(&[high, low]);
        self.torrent = torrent;
        let payload = &mut self.frame.payload;
        let mut at = 16;
        while at + 20 <= payload.len() {
            if payload[at..at + 20] == TORRENT {
                payload[at..at + 20].copy_from_slice(&torrent);
            }
            at += 20;
        }
        if let Some(transaction) = payload.get_mut(12..16) {
            transaction.copy_from_slice(&[0x7a, 0xc7, high, low]);
        }
        self.name = format!("{} ({})", self.name, if self.frame.source.is_ipv4() { "IPv4" } else { "IPv6" });
    }

    fn counter(&mut self, label: impl Into<String>) -> &mut Self {
        self.counter = Some(label.into());
        self
    }

    /// The state before.
    fn before(&mut self, peers: Vec<Peer>) -> &mut Self {
        let count = |seeder| peers.iter().filter(|peer| peer.seeder == seeder).count().try_into().expect("few peers");
        self.counts = Counts { seeders: count(true), leechers: count(false), completed: 0 };
        self.peers = addresses(&peers);
        self.before = peers;
        self
    }

    /// The state after, if it is another one; a reply to an announce has its counts.
    fn after(&mut self, after_seeders: u32, after_leechers: u32, completed: u32, peers: &[Peer]) -> &mut Self {
        self.counts = Counts { seeders: after_seeders, completed, leechers: after_leechers };
        self.peers = addresses(peers);
        if let Expected::Announce { seeders, leechers, .. } = &mut self.expected {
            (*seeders, *leechers) = (after_seeders, after_leechers);
        }
        self
    }

    /// Nothing is answered; the XDP program passes the packet on.
    fn passed(&mut self, reason: &str) -> &mut Self {
        self.expected = Expected::Nothing(Verdict::Passed);
        self.counter(reason)
    }

    /// Nothing is answered; the XDP program drops the packet.
    fn dropped(&mut self, reason: &str) -> &mut Self {
        self.expected = Expected::Nothing(Verdict::Dropped);
        self.counter(reason)
    }
}

struct Table {
    family: Family,
    rows: Vec<Row>,
}

impl Table {
    /// A row that sends `payload` from the requester and expects silence.
    fn row(&mut self, name: &str, scope: Scope, payload: Vec<u8>) -> &mut Row {
        let source = SocketAddr::new(self.family.host(REQUESTER.0), REQUESTER.1);
        let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, self.family.tracker());
        frame.payload = payload;
        self.rows.push(Row {
            name: name.to_owned(),
            scope,
            torrent: TORRENT,
            before: Vec::new(),
            frame,
            bytes: None,
            id: None,
            expected: Expected::Nothing(Verdict::Passed),
            counter: None,
            left_to_sockets: None,
            counts: Counts::default(),
            peers: BTreeSet::new(),
        });
        self.rows.last_mut().expect("just pushed")
    }

    fn connect(&mut self, name: &str, payload: Vec<u8>) -> &mut Row {
        let label = self.family.label("connect");
        let row = self.row(name, Scope::Datagram, payload);
        row.expected = Expected::Connect;
        row.counter(label)
    }

    /// A row with an announce of the requester, a leecher unless `change` makes it something else, to a
    /// swarm of `before`; answered with `peers`. The requester counts.
    fn announce(
        &mut self,
        name: &str,
        before: Vec<Peer>,
        change: impl FnOnce(&mut Announce),
        peers: Peers,
    ) -> &mut Row {
        let mut announce = Announce::new(TORRENT, REQUESTER.2);
        change(&mut announce);
        let (family, label) = (self.family, self.family.label("announce"));
        let row = self.row(name, Scope::Datagram, announce.bytes());
        row.id = Some(Id::Right);
        row.before(before);
        if announce.left == 0 {
            row.counts.seeders += 1;
        } else {
            row.counts.leechers += 1;
        }
        row.peers.insert(requester(family).address);
        row.expected = Expected::Announce { seeders: row.counts.seeders, leechers: row.counts.leechers, peers };
        row.counter(label)
    }

    fn scrape(&mut self, name: &str, torrents: &[InfoHash], before: Vec<Peer>, counts: Vec<Counts>) -> &mut Row {
        let label = self.family.label("scrape");
        let row = self.row(name, Scope::Datagram, bep15::scrape(0, 0, torrents));
        row.id = Some(Id::Right);
        row.before(before);
        row.expected = Expected::Scrape(counts);
        row.counter(label)
    }

    fn connects(&mut self) {
        self.connect("connect", bep15::connect(0));
        let mut longer = bep15::connect(0);
        longer.extend([0x55; 21]);
        self.connect("connect with bytes after it", longer);

        for length in [0, 1, 8, 15] {
            let name = format!("{length} bytes of a connect");
            self.row(&name, Scope::Datagram, bep15::connect(0)[..length].to_vec()).dropped("too_short");
        }
        for (name, magic) in [
            ("connect with the magic of another protocol", 0x0417_2710_1981),
            ("connect with no magic", 0),
            ("connect with the magic in the wrong byte order", bep15::MAGIC.swap_bytes()),
        ] {
            self.row(name, Scope::Datagram, header(magic, bep15::CONNECT, 0)).dropped("bad_magic");
        }
        for action in [3, 4, 0x100, 0x0100_0000, u32::MAX] {
            let mut payload = header(0, action, 0);
            payload.extend(&Announce::new(TORRENT, REQUESTER.2).bytes()[16..]);
            let row = self.row(&format!("action {action:#x}"), Scope::Datagram, payload);
            row.id = Some(Id::Right);
            row.dropped("unknown_action");
        }
    }

    fn announces(&mut self) {
        let family = self.family;
        let none = || Peers::All(BTreeSet::new());
        self.announce("first announce of a torrent", vec![], |_| {}, none());
        self.announce("first announce by a seeder", vec![], |announce| announce.left = 0, none());
        self.announce("all bytes of `left` count", vec![], |announce| announce.left = 1 << 56, none());
        self.announce("the low bytes of `left` count", vec![], |announce| announce.left = 1, none());
        self.announce("address in the packet is not trusted", vec![], |announce| announce.ip = [192, 0, 2, 7], none());
        self.announce("peer_id does not matter", vec![], |announce| announce.peer_id = [0; 20], none());
        self.announce("announced again", vec![requester(family)], |_| {}, none()).after(0, 1, 0, &[requester(family)]);

        for (name, options) in [
            ("URL data", [&[2, 9][..], b"/announce", &[0]].concat()),
            ("no-operations and URL data", [&[1, 1, 1, 2, 4][..], b"/a?b", &[0, 0]].concat()),
            ("an unknown option", vec![0x77, 3, 1, 2, 3, 0]),
            ("an option longer than the packet", vec![2, 250, b'/']),
            ("400 bytes", vec![1; 400]),
        ] {
            let name = format!("announce with BEP 41 options: {name}");
            self.announce(&name, vec![], |announce| announce.options = options, none());
        }
        let options = vec![1; 1600];
        self.announce("announce longer than any frame", vec![], |announce| announce.options = options, none())
            .left_to_sockets = Some("too_long");

        let whole = Announce::new(TORRENT, REQUESTER.2).bytes();
        for length in [16, 20, 97] {
            let name = format!("{length} bytes of an announce");
            let row = self.row(&name, Scope::Datagram, whole[..length].to_vec());
            row.id = Some(Id::Right);
            row.dropped("too_short");
        }

        for event in [Event::None, Event::Completed, Event::Started, Event::Stopped] {
            let mut announce = Announce::new(TORRENT, 0);
            announce.event = event as u32;
            let row = self.row(&format!("port 0 with event {event:?}"), Scope::Datagram, announce.bytes());
            row.id = Some(Id::Right);
            row.expected = Expected::Error("Port 0 is not valid");
            row.counter("port_zero");
        }
    }

    fn events(&mut self) {
        let family = self.family;
        let none = || Peers::All(BTreeSet::new());
        let event = |event: Event| move |announce: &mut Announce| announce.event = event as u32;
        let seeder = |event: Event| {
            move |announce: &mut Announce| {
                announce.event = event as u32;
                announce.left = 0;
            }
        };
        let me = requester(family);
        let [known, known_seeder, completed] = [
            vec![me],
            vec![Peer { seeder: true, ..me }],
            vec![me, Peer { seeder: true, event: Event::Completed, ..me }],
        ];

        self.announce("started", vec![], event(Event::Started), none());
        self.announce("event that BEP 15 does not know is no event", vec![], |announce| announce.event = 4, none());

        self.announce("completed by a known leecher", known.clone(), seeder(Event::Completed), none()).after(
            1,
            0,
            1,
            &[me],
        );
        self.announce("completed by a peer not seen before", vec![], seeder(Event::Completed), none()).after(
            1,
            0,
            1,
            &[me],
        );
        self.announce("completed twice", completed.clone(), seeder(Event::Completed), none()).after(1, 0, 1, &[me]);
        let mut again = completed.clone();
        again.push(me);
        self.announce("completed, lost something, completed again", again, seeder(Event::Completed), none()).after(
            1,
            0,
            1,
            &[me],
        );
        self.announce(
            "completed by one who was a seeder all along",
            known_seeder.clone(),
            seeder(Event::Completed),
            none(),
        )
        .after(1, 0, 0, &[me]);
        self.announce("completed, but something is left", known.clone(), event(Event::Completed), none()).after(
            0,
            1,
            0,
            &[me],
        );
        self.announce("becomes a seeder without an event", known.clone(), seeder(Event::None), none()).after(
            1,
            0,
            0,
            &[me],
        );
        self.announce("becomes a leecher again", known_seeder.clone(), event(Event::None), none()).after(
            0,
            1,
            0,
            &[me],
        );

        let others = || [leechers(family, 0..=2), seeders(family, 3..=4)].concat();
        self.announce("stopped by a known leecher", [others(), known].concat(), event(Event::Stopped), none()).after(
            2,
            3,
            0,
            &others(),
        );
        self.announce("stopped by a known seeder", [others(), known_seeder].concat(), seeder(Event::Stopped), none())
            .after(2, 3, 0, &others());
        self.announce("stopped by an unknown peer gets no peers", others(), event(Event::Stopped), none()).after(
            2,
            3,
            0,
            &others(),
        );
        self.announce("stopped in an unknown torrent", vec![], event(Event::Stopped), none()).after(0, 0, 0, &[]);
        self.announce("completed stays counted when the peer stops", completed, event(Event::Stopped), none()).after(
            0,
            0,
            1,
            &[],
        );
    }

    fn peers_given(&mut self) {
        let family = self.family;
        let all = |peers: &[Peer]| Peers::All(addresses(peers));
        let few = [leechers(family, 0..=2), seeders(family, 3..=4)].concat();
        self.announce("leecher is told of everybody", few.clone(), |_| {}, all(&few));
        self.announce("seeder is not told of seeders", few.clone(), |announce| announce.left = 0, all(&few[..3]));
        self.announce("among seeders only, a seeder is alone", seeders(family, 0..=3), |a| a.left = 0, all(&[]));
        // The same host with another port is another peer; the same port on another host too.
        let mut alike = [requester(family); 2];
        alike[0].address.set_port(REQUESTER.2 + 1);
        alike[1].address.set_ip(family.host(REQUESTER.0 + 1));
        self.announce("own peer is address and port, not one of them", alike.to_vec(), |_| {}, all(&alike));

        let other = [leechers(family.other(), 0..=3), seeders(family.other(), 4..=5)].concat();
        self.announce(
            "both families are counted, the own is given",
            [few.clone(), other.clone()].concat(),
            |_| {},
            all(&few),
        );
        self.announce("swarm of the other family only", other, |_| {}, all(&[]));

        let want = |number: i32| move |announce: &mut Announce| announce.num_want = number;
        let many = [leechers(family, 0..=149), seeders(family, 150..=249)].concat();
        let some = |count| Peers::Some(count, addresses(&many));
        self.announce("num_want -1 is the default", many.clone(), want(-1), some(50));
        self.announce("num_want below -1 is the default", many.clone(), want(i32::MIN), some(50));
        self.announce("num_want 0 is none", few.clone(), want(0), all(&[]));
        self.announce("num_want 0 in a big swarm is none", many.clone(), want(0), all(&[]));
        self.announce("num_want 1 is one", few.clone(), want(1), Peers::Some(1, addresses(&few)));
        self.announce("num_want 1 in a big swarm is one", many.clone(), want(1), some(1));
        self.announce("num_want 3 is three", few.clone(), want(3), Peers::Some(3, addresses(&few)));
        self.announce("num_want 7 in a big swarm is seven", many.clone(), want(7), some(7));
        self.announce("num_want more than there are", few.clone(), want(60), all(&few));
        self.announce("huge num_want is capped", many.clone(), want(i32::MAX), some(family.max_numwant()));
        self.announce("num_want one above the cap", many.clone(), want(201), some(family.max_numwant()));
        self.announce(
            "seeder in a big swarm gets leechers only",
            many.clone(),
            |announce| announce.left = 0,
            Peers::Some(50, addresses(&many[..150])),
        );
        let mut known = many;
        known.push(requester(family));
        self.announce("own peer in a big swarm", known.clone(), want(i32::MAX), some_but_requester(family, &known))
            .after(100, 151, 0, &known);
    }

    fn scrapes(&mut self) {
        let family = self.family;
        let swarm = [leechers(family, 0..=2), seeders(family, 3..=4), seeders(family.other(), 5..=5)].concat();
        let here = Counts { seeders: 3, completed: 0, leechers: 3 };
        let zero = Counts::default();
        let unknown = |number: u8| [number; 20];
        self.scrape("scrape of one", &[TORRENT], swarm.clone(), vec![here]);
        self.scrape("scrape of an unknown torrent", &[TORRENT], vec![], vec![zero]);
        self.scrape(
            "scrape of known and unknown",
            &[unknown(1), TORRENT, unknown(2)],
            swarm.clone(),
            vec![zero, here, zero],
        );
        self.scrape("scrape of the same twice", &[TORRENT, TORRENT], swarm.clone(), vec![here, here]);
        let mut one_of_each = requester(family);
        one_of_each.address.set_port(9);
        let done = Peer { seeder: true, event: Event::Completed, ..one_of_each };
        self.scrape(
            "scrape after a completed download",
            &[TORRENT],
            vec![one_of_each, done],
            vec![Counts { seeders: 1, completed: 1, leechers: 0 }],
        )
        .after(1, 0, 1, &[done]);

        for count in [2, 73, 74] {
            let mut torrents: Vec<_> = (0..count).map(unknown).collect();
            let mut counts = vec![zero; torrents.len()];
            *torrents.last_mut().expect("not none") = TORRENT;
            *counts.last_mut().expect("not none") = here;
            self.scrape(&format!("scrape of {count}"), &torrents, swarm.clone(), counts);
        }
        for count in [SCRAPE_MAX + 1, 100] {
            // What is beyond the limit is not looked at.
            let torrents = vec![TORRENT; count];
            self.scrape(&format!("scrape of {count}"), &torrents, swarm.clone(), vec![here; count.min(SCRAPE_MAX)])
                .left_to_sockets = Some("too_long");
        }
        for (name, cut) in [("1 byte", 19), ("19 bytes", 1)] {
            let row = self.scrape(
                &format!("scrape with a trailing fragment of {name}"),
                &[TORRENT, unknown(3)],
                swarm.clone(),
                vec![here],
            );
            row.frame.payload.truncate(56 - cut);
        }
        // As opentracker has it. An error would be longer than the request, so whoever has no right
        // id gets nothing.
        for (name, length) in [("none", 16), ("a byte", 17), ("a fragment only", 35)] {
            let mut payload = bep15::scrape(0, 0, &[TORRENT]);
            payload.truncate(length);
            let label = self.family.label("scrape");
            let row = self.row(&format!("scrape of {name}"), Scope::Datagram, payload.clone());
            row.id = Some(Id::Right);
            row.expected = Expected::Scrape(vec![]);
            row.counter(&label);
            for id in [Id::Wrong, Id::OfAnother] {
                let row =
                    self.row(&format!("scrape of {name} with {id:?} connection id"), Scope::Datagram, payload.clone());
                row.id = Some(id);
                row.dropped("connection_id_wrong");
            }
        }
    }

    fn identities(&mut self) {
        let announce = Announce::new(TORRENT, REQUESTER.2).bytes();
        let mut stopped = Announce::new(TORRENT, REQUESTER.2);
        stopped.event = Event::Stopped as u32;
        let me = requester(self.family);
        for (id, scope) in [(Id::Wrong, Scope::Datagram), (Id::OfAnother, Scope::Datagram), (Id::Expired, Scope::Clock)]
        {
            for (name, payload, before) in [
                ("announce", announce.clone(), vec![]),
                ("stopped", stopped.bytes(), vec![me]),
                ("announce with port 0", Announce::new(TORRENT, 0).bytes(), vec![]),
                ("scrape", bep15::scrape(0, 0, &[TORRENT]), vec![me]),
                ("scrape of 74", bep15::scrape(0, 0, &[TORRENT; SCRAPE_MAX]), vec![me]),
            ] {
                let row = self.row(&format!("{name} with {id:?} connection id"), scope, payload);
                row.id = Some(id);
                row.before(before);
                row.expected = Expected::Error(MISMATCH);
                row.counter("connection_id_wrong");
            }
        }
        let mut magic = announce.clone();
        magic[..8].copy_from_slice(&bep15::MAGIC.to_be_bytes());
        for (name, payload) in [("connection id 0", announce), ("the magic as connection id", magic)] {
            let row = self.row(name, Scope::Datagram, payload);
            row.expected = Expected::Error(MISMATCH);
            row.counter("connection_id_wrong");
        }
    }

    /// A row with a right announce in a frame that `change` makes odd.
    fn odd(&mut self, name: &str, change: impl FnOnce(&mut Frame)) -> &mut Row {
        let row = self.row(name, Scope::Frame, Announce::new(TORRENT, REQUESTER.2).bytes());
        row.id = Some(Id::Right);
        change(&mut row.frame);
        row
    }

    /// The same for a frame that is odd, but answered.
    fn answered(&mut self, name: &str, change: impl FnOnce(&mut Frame)) {
        let few = [leechers(self.family, 0..=2), seeders(self.family, 3..=4)].concat();
        let peers = Peers::All(addresses(&few));
        let row = self.announce(name, few, |_| {}, peers);
        row.scope = Scope::Frame;
        change(&mut row.frame);
    }

    fn frames(&mut self) {
        let vlan = |number| Tag { protocol: packet::VLAN, control: number };
        let qinq = |number| Tag { protocol: packet::QINQ, control: number };
        self.answered("one VLAN tag", |frame| frame.tags = vec![vlan(0x6007)]);
        self.answered("a tag with VLAN number 0", |frame| frame.tags = vec![vlan(0)]);
        self.answered("hop limit 1", |frame| frame.hops = 1);
        self.answered("bytes behind the IP packet", |frame| frame.padding = 6);
        self.answered("many bytes behind the IP packet", |frame| frame.padding = 300);

        self.odd("two VLAN tags", |frame| frame.tags = vec![vlan(1), vlan(2)]).passed("vlan_stack");
        self.odd("802.1ad and 802.1Q tags", |frame| frame.tags = vec![qinq(1), vlan(2)]).passed("vlan_stack");
        self.odd("three tags", |frame| frame.tags = vec![vlan(1), vlan(2), vlan(3)]).passed("vlan_stack");
        self.odd("EtherType of something else", |frame| frame.ether_type = Some(0x88cc)).passed("not_ip");
        self.odd("EtherType of the other family", |frame| {
            frame.ether_type = Some(if frame.source.is_ipv4() { packet::IPV6 } else { packet::IPV4 });
        })
        .counter = None;
        self.odd("wrong IP version", |frame| frame.version = Some(5)).passed("ip_options");

        for (name, protocol) in
            [("TCP", packet::TCP), ("ICMP", packet::ICMP), ("ICMPv6", packet::ICMPV6), ("SCTP", 132)]
        {
            self.odd(name, |frame| frame.protocol = protocol).passed("not_udp");
        }

        self.odd("another MAC address", |frame| frame.destination_mac[5] ^= 1).passed("not_for_us");
        self.odd("broadcast MAC address", |frame| frame.destination_mac = [0xff; 6]).passed("not_for_us");
        self.odd("multicast MAC address", |frame| frame.destination_mac = [1, 0, 0x5e, 0, 0, 1]).passed("not_for_us");
        let foreign = self.family.host(2);
        self.odd("another host's address", |frame| frame.destination.set_ip(foreign)).passed("not_for_us");
        self.odd("another port", |frame| frame.destination.set_port(TRACKER_PORT + 1)).passed("not_for_us");
        self.odd("port with its bytes swapped", |frame| frame.destination.set_port(TRACKER_PORT.swap_bytes()))
            .passed("not_for_us");
        self.odd("port 0", |frame| frame.destination.set_port(0)).passed("not_for_us");

        self.odd("source port 0", |frame| frame.source.set_port(0)).passed("source_unusable");
        let unusable: &[&str] = match self.family {
            V4 => &["224.0.0.1", "239.1.2.3", "255.255.255.255", "0.0.0.0", "127.0.0.1", "240.0.0.1"],
            V6 => &["ff02::1", "ff0e::1", "::", "::1", "::ffff:198.18.77.9"],
        };
        for address in unusable {
            let source = address.parse().expect("an address");
            self.odd(&format!("from {address}"), |frame| frame.source.set_ip(source)).passed("source_unusable");
        }
        let own = self.family.tracker();
        self.odd("from the tracker's own address and port", |frame| frame.source = own).passed("source_unusable");
        self.odd("from a broadcast MAC address", |frame| frame.source_mac = [0xff; 6]).passed("source_unusable");
        self.odd("from a multicast MAC address", |frame| frame.source_mac[0] |= 1).passed("source_unusable");

        self.odd("wrong UDP checksum", |frame| frame.udp_checksum = Checksum::Wrong).passed("checksum_wrong");
        self.odd("unfinished UDP checksum", |frame| frame.udp_checksum = Checksum::Unfinished).passed("checksum_wrong");
        self.odd("UDP length one too short", |frame| frame.udp_length = -1).passed("length_mismatch");
        self.odd("UDP length one too long", |frame| frame.udp_length = 1).passed("length_mismatch");
        self.odd("UDP length below its header's", |frame| frame.udp_length = -99).passed("length_mismatch");
        self.odd("IP length one too short", |frame| frame.ip_length = -1).passed("length_mismatch");
        self.odd("IP length beyond the frame", |frame| frame.ip_length = 1).passed("length_mismatch");
        self.odd("frame cut in the payload", |frame| frame.cut = 1).passed("length_mismatch");
        self.odd("frame cut in the UDP header", |frame| frame.cut = 98 + 2).passed("length_mismatch");
        self.odd("frame cut in the IP header", |frame| frame.cut = 98 + 8 + 2).passed("header_truncated");
        self.odd("frame cut behind the Ethernet header", |frame| {
            frame.cut = frame.bytes().len() - 14;
        })
        .passed("header_truncated");
        self.odd("frame cut in the VLAN tag", |frame| {
            frame.tags = vec![vlan(7)];
            frame.cut = frame.bytes().len() - 16;
        })
        .passed("header_truncated");

        match self.family {
            V4 => self.frames_v4(),
            V6 => self.frames_v6(),
        }
    }

    fn frames_v4(&mut self) {
        self.answered("do not fragment", |frame| frame.fragment = 0x4000);
        self.answered("no UDP checksum", |frame| frame.udp_checksum = Checksum::Zero);
        self.odd("no UDP checksum, but an odd payload", |frame| {
            frame.udp_checksum = Checksum::Zero;
            frame.payload.truncate(97);
        })
        .dropped("too_short");
        self.odd("IP options", |frame| frame.options = vec![1; 4]).passed("ip_options");
        self.odd("many IP options", |frame| frame.options = vec![1; 40]).passed("ip_options");
        self.odd("IP header length below its minimum", |frame| frame.header_words = Some(4)).passed("ip_options");
        self.odd("first fragment", |frame| frame.fragment = 0x2000).passed("fragment");
        self.odd("last fragment", |frame| frame.fragment = 1).passed("fragment");
        self.odd("middle fragment", |frame| frame.fragment = 0x2000 | 64).passed("fragment");
        self.odd("fragment far behind", |frame| frame.fragment = 0x1fff).passed("fragment");
        self.odd("wrong IP checksum", |frame| frame.ip_checksum = Checksum::Wrong).passed("checksum_wrong");
        self.odd("IP checksum 0", |frame| frame.ip_checksum = Checksum::Zero).passed("checksum_wrong");
        self.odd("to all hosts", |frame| frame.destination.set_ip(Ipv4Addr::BROADCAST.into())).passed("not_for_us");
        self.odd("to a multicast group", |frame| frame.destination.set_ip(Ipv4Addr::new(224, 0, 0, 1).into()))
            .passed("not_for_us");

        let IpAddr::V4(tracker) = TRACKER[0] else { unreachable!("the first is the IPv4 address") };
        let row = self.odd("ARP", |_| {}).passed("not_ip");
        row.bytes = Some(packet::arp_request(CLIENT_MAC, Ipv4Addr::new(198, 18, 77, 9), tracker));
        for length in [14, 20] {
            let row = self.odd(&format!("Ethernet frame of {length} bytes"), |_| {});
            row.bytes = Some([&TRACKER_MAC[..], &CLIENT_MAC, &[0x08, 0x00], &[0x45; 6][..length - 14]].concat());
            row.passed("header_truncated");
        }
    }

    fn frames_v6(&mut self) {
        self.odd("no UDP checksum", |frame| frame.udp_checksum = Checksum::Zero).passed("checksum_wrong");
        for (name, number) in
            [("hop-by-hop options", 0), ("routing header", 43), ("fragment header", 44), ("destination options", 60)]
        {
            self.odd(name, |frame| frame.extension = Some(number)).passed("not_udp");
        }
        self.odd("to a multicast group", |frame| {
            frame.destination.set_ip(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into());
        })
        .passed("not_for_us");
    }
}

fn some_but_requester(family: Family, known: &[Peer]) -> Peers {
    let mut others = addresses(known);
    others.remove(&requester(family).address);
    Peers::Some(family.max_numwant(), others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_torrents_are_unique_and_negative_rows_are_as_many_as_positive() {
        let rows = all();
        let names: BTreeSet<_> = rows.iter().map(|row| row.name.clone()).collect();
        let torrents: BTreeSet<_> = rows.iter().map(|row| row.torrent).collect();
        assert_eq!((names.len(), torrents.len()), (rows.len(), rows.len()));
        let negative =
            rows.iter().filter(|row| matches!(row.expected, Expected::Nothing(_) | Expected::Error(_))).count();
        assert!(negative * 2 >= rows.len(), "{negative} of {}", rows.len());
    }

    #[test]
    fn frames_can_be_built() {
        for row in all() {
            assert!(!row.bytes().is_empty(), "{}", row.name);
        }
    }
}
