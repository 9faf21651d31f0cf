//! How many peers a driver leaves room for in a reply: on a veth pair, and on the network cards of a guest of
//! `cargo xtask kernels`, each card in a namespace of its own. The rows that are printed are the table of docs/operation.md.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
};
use tracker_tests::{
    bep15::{Announce, InfoHash},
    cards::{Cards, KINDS, Kind},
    client::UdpClient,
    namespace::{Namespace, Pair},
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 6969;

/// Peers of the swarm of each family: more than any reply holds.
const MEMBERS: [(bool, u16); 2] = [(true, 210), (false, 84)];

/// What is asked for, by family: usual, and the most that a reply can hold.
const WANTED: [(bool, i32); 4] = [(true, 50), (true, 200), (false, 50), (false, 74)];

/// Clients that ask, and what they ask together. Several, so that several queues have something to do.
const CLIENTS: u8 = 4;
const ANNOUNCES: u64 = CLIENTS as u64 * WANTED.len() as u64;

/// The least that comes back where there is as little room as a veth pair has, or generic XDP on packets that were copied.
fn fitting(ipv4: bool) -> usize {
    if ipv4 { 45 } else { 15 }
}

fn server(ipv4: bool) -> SocketAddr {
    let address: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
    SocketAddr::new(address, PORT)
}

fn torrent(ipv4: bool) -> InfoHash {
    [u8::from(ipv4); 20]
}

/// The running kernel's major and minor version.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

/// What the tracker is told, and what it has to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Sockets; what all others are compared with.
    Off,
    Native,
    Generic,
    /// `auto` where the driver has no native XDP: generic.
    AutoGeneric,
}

impl Mode {
    fn asked(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::AutoGeneric => "auto",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Native => "native",
            Self::Generic | Self::AutoGeneric => "generic",
        }
    }
}

/// Two hosts and what joins them.
struct Site<'a> {
    name: &'a str,
    server: &'a Namespace,
    client: &'a Namespace,
    interface: &'a str,
    cards: Option<&'a Cards>,
    /// Whether replies of native XDP have all the peers that those of sockets have.
    whole: bool,
    /// Whether packets come by several queues.
    queues: bool,
}

impl<'a> Site<'a> {
    fn of_cards(kind: &'a Kind, cards: &'a Cards) -> Self {
        let Cards { server, client, server_interface: interface, .. } = cards;
        let queues = kind.queues > 1;
        Self { name: kind.name, server, client, interface, cards: Some(cards), whole: true, queues }
    }

    fn of_pair(pair: &'a Pair) -> Self {
        let (server, client, interface) = (&pair.server, &pair.client, Pair::SERVER_INTERFACE);
        Self { name: "veth", server, client, interface, cards: None, whole: false, queues: false }
    }

    fn connected(&self, number: u8, ipv4: bool) -> Result<UdpClient, String> {
        let address: IpAddr = if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() };
        UdpClient::connected(self.client, SocketAddr::new(address, 0), server(ipv4)).map_err(text)
    }

    /// The interrupts of each queue.
    fn interrupts(&self) -> Result<Vec<u64>, String> {
        self.cards.map_or(Ok(Vec::new()), |cards| cards.interrupts().map_err(text))
    }

    /// Fills a swarm of each family, asks, and looks who has answered.
    fn ask(&self, mode: Mode) -> Result<Given, String> {
        let options = [
            &["--interface", self.interface, "--xdp-mode", mode.asked()],
            &["--max-torrents", "1000", "--max-peers", "10000"][..],
        ];
        let tracker = Tracker::start(self.server, &options.concat()).map_err(text)?;
        if let Some(cards) = self.cards {
            cards.wait_for_links().map_err(text)?;
        }
        let metrics = || tracker.metrics(self.server).map_err(text);
        let attached = metrics()?.sum("tracker_interface_info", &[("mode", mode.expected())]);
        if mode != Mode::Off && attached != 1.0 {
            return Err(format!("XDP is not {}; the tracker says:\n{}", mode.expected(), tracker.log()));
        }
        self.fill()?;
        let (before, interrupts) = (metrics()?, self.interrupts()?);
        let peers = self.least()?;
        let (after, now) = (metrics()?, self.interrupts()?);
        let by_xdp = answered(&after, "xdp") - answered(&before, "xdp");
        let by_sockets = answered(&after, "udp_socket") - answered(&before, "udp_socket");
        if by_xdp + by_sockets != ANNOUNCES {
            return Err(format!("{by_xdp} announces answered by XDP and {by_sockets} by sockets, of {ANNOUNCES}"));
        }
        let queues = interrupts.iter().zip(&now).filter(|(before, now)| now > before).count();
        tracker.stop().map_err(text)?;
        Ok(Given { peers, by_xdp, queues })
    }

    fn fill(&self) -> Result<(), String> {
        for (ipv4, members) in MEMBERS {
            let mut one = self.connected(0, ipv4)?;
            for port in 1..=members {
                let announce = Announce { num_want: 0, ..Announce::new(torrent(ipv4), 1000 + port) };
                one.announce(&announce).map_err(text)?;
            }
        }
        Ok(())
    }

    /// The least that any client was given, for each of [`WANTED`].
    fn least(&self) -> Result<[usize; WANTED.len()], String> {
        let mut least = [usize::MAX; WANTED.len()];
        for number in 1..=CLIENTS {
            for ((ipv4, wanted), least) in WANTED.into_iter().zip(&mut least) {
                let announce = Announce { num_want: wanted, ..Announce::new(torrent(ipv4), 7000) };
                let given = self.connected(number, ipv4)?.announce(&announce).map_err(text)?.peers;
                let unique: BTreeSet<_> = given.iter().collect();
                if unique.len() != given.len() || unique.iter().any(|peer| peer.is_ipv4() != ipv4) {
                    return Err(format!("{wanted} wanted: a peer twice, or one of the other family"));
                }
                *least = given.len().min(*least);
            }
        }
        Ok(least)
    }

    /// A row of the table, and what is wrong with it, compared with the replies of sockets.
    fn row(&self, mode: Mode, sockets: Given) -> Option<String> {
        let judged = self.ask(mode).and_then(|given| {
            print(self.name, mode, given);
            judge(self.whole, self.queues, mode, given, sockets)
        });
        judged.err().map(|error| format!("{}, {}: {error}", self.name, mode.asked()))
    }
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// The number of peers in the replies to [`WANTED`], how many of the [`ANNOUNCES`] were answered by XDP, and how many queues
/// have received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    peers: [usize; WANTED.len()],
    by_xdp: u64,
    queues: usize,
}

fn answered(metrics: &Metrics, path: &str) -> u64 {
    metrics.sum("tracker_requests_answered_total", &[("path", path), ("request", "announce")]) as u64
}

fn print(name: &str, mode: Mode, given: Given) {
    let Given { peers: [v4, v4_most, v6, v6_most], by_xdp, .. } = given;
    println!("| {name} | {} | {v4} | {v4_most} | {v6} | {v6_most} | {by_xdp} of {ANNOUNCES} |", mode.expected());
}

/// What is wrong with replies, compared with those of sockets.
fn judge(whole: bool, queues: bool, mode: Mode, given: Given, sockets: Given) -> Result<(), String> {
    if queues && given.queues < 2 {
        return Err(format!("packets came by {} queues", given.queues));
    }
    let whole = whole && mode == Mode::Native;
    for ((ipv4, wanted), (given, most)) in WANTED.into_iter().zip(given.peers.into_iter().zip(sockets.peers)) {
        let enough = if whole { most } else { most.min(fitting(ipv4)) };
        if given < enough || given > most {
            return Err(format!("{given} peers of {wanted} wanted; sockets give {most}"));
        }
    }
    if given.by_xdp == 0 || whole && given.by_xdp != ANNOUNCES {
        return Err(format!("{} of {ANNOUNCES} were answered by XDP", given.by_xdp));
    }
    Ok(())
}

fn modes(kind: &Kind) -> Vec<Mode> {
    let native = kind.native_since.is_some_and(|since| kernel() >= since);
    [(native, Mode::Native), (native && kind.generic_too, Mode::Generic), (!native, Mode::AutoGeneric)]
        .into_iter()
        .filter_map(|(tried, mode)| tried.then_some(mode))
        .collect()
}

#[test]
#[ignore = "needs the network cards of a guest of `cargo xtask kernels`"]
fn replies_have_the_peers_that_drivers_leave_room_for() {
    println!("\n| interface | XDP | 50 IPv4 | 200 IPv4 | 50 IPv6 | 74 IPv6 | by XDP |");
    println!("|---|---|---|---|---|---|---|");
    let pair = Pair::new().expect("two namespaces");
    let veth = Site::of_pair(&pair);
    // What sockets answer does not depend on the driver.
    let sockets = veth.ask(Mode::Off).unwrap_or_else(|error| panic!("sockets: {error}"));
    print("any", Mode::Off, sockets);
    let mut wrong: Vec<String> =
        [Mode::Native, Mode::Generic].iter().filter_map(|&mode| veth.row(mode, sockets)).collect();
    for (number, kind) in (0..).zip(&KINDS) {
        let cards = Cards::take(number).unwrap_or_else(|error| panic!("{}: {error:#}", kind.name));
        let site = Site::of_cards(kind, &cards);
        wrong.extend(modes(kind).into_iter().filter_map(|mode| site.row(mode, sockets)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn short_replies_are_wrong_where_they_have_to_be_whole() {
    let sockets = Given { peers: [50, 200, 50, 67], by_xdp: 0, queues: 0 };
    for (whole, several, mode, peers, by_xdp, queues, right) in [
        (true, false, Mode::Native, [50, 200, 50, 67], 16, 1, true),
        (true, false, Mode::Native, [50, 199, 50, 67], 16, 1, false),
        (true, false, Mode::Native, [50, 200, 50, 15], 16, 1, false),
        (true, false, Mode::Native, [50, 200, 50, 67], 15, 1, false),
        (true, false, Mode::Generic, [50, 45, 15, 15], 16, 1, true),
        (true, false, Mode::Generic, [50, 44, 15, 15], 16, 1, false),
        (true, false, Mode::AutoGeneric, [50, 200, 50, 14], 8, 1, false),
        (true, false, Mode::Generic, [50, 201, 50, 67], 8, 1, false),
        (true, false, Mode::Generic, [50, 200, 50, 67], 0, 1, false),
        // A veth pair.
        (false, false, Mode::Native, [50, 45, 15, 15], 16, 0, true),
        (false, false, Mode::Native, [50, 200, 50, 67], 4, 0, true),
        (false, false, Mode::Native, [50, 45, 14, 15], 16, 0, false),
        (false, false, Mode::Native, [50, 200, 50, 67], 0, 0, false),
        // Several queues.
        (true, true, Mode::Native, [50, 200, 50, 67], 16, 2, true),
        (true, true, Mode::Native, [50, 200, 50, 67], 16, 1, false),
    ] {
        let given = Given { peers, by_xdp, queues };
        let judged = judge(whole, several, mode, given, sockets);
        assert_eq!(judged.is_ok(), right, "{whole} {several} {mode:?} {given:?}: {judged:?}");
    }
}
