//! Real drivers: the network cards of a guest of `cargo xtask kernels`, each in a namespace of its own. What a driver leaves
//! around a packet decides how many peers fit into a reply; the rows that are printed are the table of docs/operation.md.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
};
use tracker_tests::{
    bep15::{Announce, InfoHash},
    cards::{Cards, KINDS, Kind},
    client::UdpClient,
    namespace::Pair,
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 6969;

/// Peers of the swarm of each family: more than any reply holds.
const MEMBERS: [(bool, u16); 2] = [(true, 210), (false, 84)];

/// What is asked for, by family: usual, and the most that a reply can hold.
const WANTED: [(bool, i32); 4] = [(true, 50), (true, 200), (false, 50), (false, 74)];

/// The least that comes back where a driver leaves as little room as generic XDP on copied packets has.
fn fitting(ipv4: bool) -> usize {
    if ipv4 { 45 } else { 15 }
}

fn server(ipv4: bool) -> SocketAddr {
    let address: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
    SocketAddr::new(address, PORT)
}

fn client(cards: &Cards, number: u8, ipv4: bool) -> Result<UdpClient, String> {
    let address: IpAddr = if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() };
    UdpClient::connected(&cards.client, SocketAddr::new(address, 0), server(ipv4)).map_err(|error| format!("{error:#}"))
}

/// The running kernel's major and minor version.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

/// Whether a reply of a mode has all the peers that the sockets would give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Sockets; what all others are compared with.
    Off,
    /// Every reply has to be whole.
    Native,
    /// A reply may lack room.
    Generic,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The number of peers in the replies to [`WANTED`], how many of the [`ANNOUNCES`] were answered by XDP, and how many queues
/// have received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    peers: [usize; WANTED.len()],
    by_xdp: u64,
    queues: usize,
}

/// Clients that ask, and what they ask together.
const CLIENTS: u8 = 4;
const ANNOUNCES: u64 = CLIENTS as u64 * WANTED.len() as u64;

fn answered(metrics: &Metrics, path: &str) -> u64 {
    metrics.sum("tracker_requests_answered_total", &[("path", path), ("request", "announce")]) as u64
}

/// Fills a swarm of each family, asks, and looks who has answered.
fn ask(cards: &Cards, mode: Mode) -> Result<Given, String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    let options = [
        &["--interface", cards.server_interface.as_str(), "--xdp-mode", mode.name()],
        &["--max-torrents", "1000", "--max-peers", "10000"][..],
    ];
    let tracker = Tracker::start(&cards.server, &options.concat()).map_err(text)?;
    cards.wait_for_links().map_err(text)?;
    let metrics = || tracker.metrics(&cards.server).map_err(text);
    let shown = metrics()?.sum("tracker_interface_info", &[("mode", mode.name())]);
    if mode != Mode::Off && shown != 1.0 {
        return Err(format!("XDP is not attached in this mode; the tracker says:\n{}", tracker.log()));
    }
    for (ipv4, members) in MEMBERS {
        let mut one = client(cards, 0, ipv4)?;
        for port in 1..=members {
            let announce = Announce { num_want: 0, ..Announce::new(torrent(ipv4), 1000 + port) };
            one.announce(&announce).map_err(text)?;
        }
    }
    let (before, interrupts) = (metrics()?, cards.interrupts().map_err(text)?);
    let mut peers = [0; WANTED.len()];
    // Several clients, so that several queues have something to do.
    for number in 1..=CLIENTS {
        for ((ipv4, wanted), peers) in WANTED.into_iter().zip(&mut peers) {
            let announce = Announce { num_want: wanted, ..Announce::new(torrent(ipv4), 7000) };
            let given = client(cards, number, ipv4)?.announce(&announce).map_err(text)?.peers;
            let unique: BTreeSet<_> = given.iter().collect();
            if unique.len() != given.len() || unique.iter().any(|peer| peer.is_ipv4() != ipv4) {
                return Err(format!("{wanted} wanted: a peer twice, or one of the other family"));
            }
            // The least of all: each has to be whole.
            *peers = if number == 1 { given.len() } else { given.len().min(*peers) };
        }
    }
    let after = metrics()?;
    let by_xdp = answered(&after, "xdp") - answered(&before, "xdp");
    let by_sockets = answered(&after, "udp_socket") - answered(&before, "udp_socket");
    if by_xdp + by_sockets != ANNOUNCES {
        return Err(format!("{by_xdp} announces answered by XDP and {by_sockets} by sockets, of {ANNOUNCES}"));
    }
    let now = cards.interrupts().map_err(text)?;
    let queues = interrupts.iter().zip(&now).filter(|(before, now)| now > before).count();
    tracker.stop().map_err(text)?;
    Ok(Given { peers, by_xdp, queues })
}

fn torrent(ipv4: bool) -> InfoHash {
    [u8::from(ipv4); 20]
}

/// What is wrong with replies, compared with those of the sockets.
fn judge(kind: &Kind, mode: Mode, given: Given, sockets: Given) -> Result<(), String> {
    if kind.queues > 1 && given.queues < 2 {
        return Err(format!("{} of {} queues have received", given.queues, kind.queues));
    }
    for ((ipv4, wanted), (given, whole)) in WANTED.into_iter().zip(given.peers.into_iter().zip(sockets.peers)) {
        let enough = match mode {
            Mode::Off | Mode::Native => whole,
            Mode::Generic => whole.min(fitting(ipv4)),
        };
        if given < enough || given > whole {
            return Err(format!("{given} peers of {wanted} wanted; sockets give {whole}"));
        }
    }
    match mode {
        Mode::Off => Ok(()),
        Mode::Native if given.by_xdp != ANNOUNCES => {
            Err(format!("only {} of {ANNOUNCES} were answered by XDP", given.by_xdp))
        }
        Mode::Native => Ok(()),
        Mode::Generic if given.by_xdp == 0 => Err("nothing was answered by XDP".to_owned()),
        Mode::Generic => Ok(()),
    }
}

fn modes(kind: &Kind) -> Vec<Mode> {
    let native = kind.native_since.is_some_and(|since| kernel() >= since);
    let generic = !native || kind.generic_too;
    [(native, Mode::Native), (generic, Mode::Generic)]
        .into_iter()
        .filter_map(|(tried, mode)| tried.then_some(mode))
        .collect()
}

/// Where native XDP is not to be had, the tracker says so, and does not pretend.
fn is_refused(cards: &Cards) -> Result<(), String> {
    let options = ["--interface", cards.server_interface.as_str(), "--xdp-mode", "native"];
    match Tracker::start(&cards.server, &options) {
        Ok(_) => Err("native XDP works, which was not expected: correct the table of kinds".to_owned()),
        Err(error) if format!("{error:#}").contains("native") => Ok(()),
        Err(error) => Err(format!("native XDP is refused without a word of it: {error:#}")),
    }
}

/// A row of the table.
fn print(name: &str, mode: Mode, given: Given) {
    let Given { peers: [v4, v4_most, v6, v6_most], by_xdp, .. } = given;
    println!("| {name} | {} | {v4} | {v4_most} | {v6} | {v6_most} | {by_xdp} of {ANNOUNCES} |", mode.name());
}

/// Everything that can be said of one kind; gives what was wrong.
fn run(kind: &Kind, cards: &Cards, sockets: Given) -> Vec<String> {
    let mut wrong = Vec::new();
    if !modes(kind).contains(&Mode::Native)
        && let Err(error) = is_refused(cards)
    {
        wrong.push(format!("{}: {error}", kind.name));
    }
    for mode in modes(kind) {
        let judged = ask(cards, mode).and_then(|given| {
            print(kind.name, mode, given);
            judge(kind, mode, given, sockets)
        });
        if let Err(error) = judged {
            wrong.push(format!("{}, {}: {error}", kind.name, mode.name()));
        }
    }
    wrong
}

#[test]
#[ignore = "needs the network cards of a guest of `cargo xtask kernels`"]
fn replies_are_whole_on_real_drivers() {
    let mut wrong = Vec::new();
    println!("\n| card | XDP | 50 IPv4 | 200 IPv4 | 50 IPv6 | 74 IPv6 | by XDP |");
    println!("|---|---|---|---|---|---|---|");
    let mut sockets = None;
    for (number, kind) in (0..).zip(&KINDS) {
        let cards = Cards::take(number).unwrap_or_else(|error| panic!("{}: {error:#}", kind.name));
        // What sockets answer does not depend on the card.
        let sockets = *sockets.get_or_insert_with(|| {
            let given = ask(&cards, Mode::Off).unwrap_or_else(|error| panic!("sockets on {}: {error}", kind.name));
            print("any", Mode::Off, given);
            given
        });
        wrong.extend(run(kind, &cards, sockets));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn short_replies_are_wrong_where_they_have_to_be_whole() {
    let one = KINDS.iter().find(|kind| kind.queues == 1).expect("a card with one queue");
    let several = KINDS.iter().find(|kind| kind.queues > 1).expect("a card with several queues");
    let sockets = Given { peers: [50, 200, 50, 67], by_xdp: 0, queues: 1 };
    for (kind, mode, peers, by_xdp, queues, right) in [
        (one, Mode::Native, [50, 200, 50, 67], 16, 1, true),
        (one, Mode::Native, [50, 199, 50, 67], 16, 1, false),
        (one, Mode::Native, [50, 200, 50, 15], 16, 1, false),
        (one, Mode::Native, [50, 200, 50, 67], 15, 1, false),
        (one, Mode::Generic, [50, 45, 15, 15], 16, 1, true),
        (one, Mode::Generic, [50, 44, 15, 15], 16, 1, false),
        (one, Mode::Generic, [50, 200, 50, 14], 8, 1, false),
        (one, Mode::Generic, [50, 201, 50, 67], 8, 1, false),
        (one, Mode::Generic, [50, 200, 50, 67], 0, 1, false),
        (several, Mode::Native, [50, 200, 50, 67], 16, 2, true),
        (several, Mode::Native, [50, 200, 50, 67], 16, 1, false),
    ] {
        let judged = judge(kind, mode, Given { peers, by_xdp, queues }, sockets);
        assert_eq!(judged.is_ok(), right, "{} {mode:?} {peers:?} {by_xdp} {queues}: {judged:?}", kind.name);
    }
}
