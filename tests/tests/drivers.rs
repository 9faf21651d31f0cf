//! How many peers a driver leaves room for in a reply: on a veth pair, and on the network cards of
//! a guest of `cargo xtask kernels`. The rows that are printed are the table of docs/operation/requirements.md.

use std::{collections::BTreeSet, fs, net::SocketAddr};
use tracker_tests::{
    bep15::{Announce, InfoHash},
    cards::{KINDS, Link},
    client::UdpClient,
    namespace::Namespace,
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 6969;

/// Peers of the swarm of each family: more than any reply holds.
const MEMBERS: [(bool, u16); 2] = [(true, 210), (false, 84)];

/// What is asked for, by family: usual, and the most that a reply can hold.
const WANTED: [(bool, i32); 4] = [(true, 50), (true, 200), (false, 50), (false, 74)];

/// Clients that ask, and what they ask together. Several, so that several queues have something to
/// do.
const CLIENTS: u8 = 4;
const ANNOUNCES: u64 = CLIENTS as u64 * WANTED.len() as u64;

/// The least that comes back where there is as little room as a veth pair has, or generic XDP on
/// packets that were copied.
fn fitting(ipv4: bool) -> usize {
    if ipv4 { 45 } else { 15 }
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

/// A link and what is expected of it.
struct Row {
    number: u8,
    name: &'static str,
    link: Link,
    /// Whether there is native XDP; then a reply by it has all the peers that one by sockets has,
    /// unless it is a veth pair.
    native: bool,
    is_veth: bool,
    /// Whether packets come by several queues.
    queues: bool,
}

impl Row {
    /// Veth first, then all kinds of cards.
    fn all(server: &Namespace) -> Vec<Self> {
        let number = u8::try_from(KINDS.len()).expect("few kinds");
        let link = Link::of_veth(number, server).expect("a veth pair");
        let mut rows = vec![Self { number, name: "veth", link, native: true, is_veth: true, queues: false }];
        for (number, kind) in (0..).zip(&KINDS) {
            let link = Link::of_cards(number, server).unwrap_or_else(|error| panic!("{}: {error:#}", kind.name));
            let native = kind.native_since.is_some_and(|since| kernel() >= since);
            rows.push(Self { number, name: kind.name, link, native, is_veth: false, queues: kind.queues > 1 });
        }
        rows
    }

    fn connected(&self, client: u8, ipv4: bool) -> Result<UdpClient, String> {
        let source = SocketAddr::new(Link::client(self.number, ipv4, client), 0);
        let server = SocketAddr::new(Link::server(self.number, ipv4), PORT);
        UdpClient::connected(&self.link.client, source, server).map_err(text)
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

    /// Asks over this link, and looks who has answered.
    fn ask(&self, metrics: impl Fn() -> Result<Metrics, String>) -> Result<Given, String> {
        let interrupts = || self.link.interrupts().map_err(text);
        let (before, earlier) = (metrics()?, interrupts()?);
        let peers = self.least()?;
        let (after, later) = (metrics()?, interrupts()?);
        let by_xdp = answered(&after, "xdp") - answered(&before, "xdp");
        let by_sockets = answered(&after, "udp_socket") - answered(&before, "udp_socket");
        if by_xdp + by_sockets != ANNOUNCES {
            return Err(format!("{by_xdp} announces answered by XDP and {by_sockets} by sockets, of {ANNOUNCES}"));
        }
        Ok(Given { peers, by_xdp, queues: earlier.iter().zip(&later).filter(|(before, now)| now > before).count() })
    }
}

/// Starts the tracker on the links of `rows`, fills it, and asks over each. Prints a row of the
/// table for each that has answered, and gives what each was given, or what went wrong.
fn run(server: &Namespace, asked: &str, rows: &[&Row]) -> Vec<Result<Given, String>> {
    let mut options = vec![
        "--xdp-mode",
        asked,
        "--max-torrents",
        "1000",
        "--max-peers",
        "10000",
        "--path-mtu-v6",
        "1400",
        "--max-peers-per-address",
        "0",
        "--max-creations-per-address",
        "0",
    ];
    for row in rows {
        options.extend(["--interface", row.link.server_interface.as_str()]);
    }
    let tracker = Tracker::start(server, &options).unwrap_or_else(|error| panic!("--xdp-mode {asked}: {error:#}"));
    rows.iter().for_each(|row| row.link.wait(server).unwrap_or_else(|error| panic!("{}: {error:#}", row.name)));
    let metrics = || tracker.metrics(server).map_err(text);
    rows[0].fill().unwrap_or_else(|error| panic!("the tracker cannot be filled: {error}"));
    let results = rows.iter().map(|row| {
        let expected = if asked == "auto" && row.native { "native" } else { "generic" };
        let labels = [("interface", row.link.server_interface.as_str()), ("mode", expected)];
        if asked != "off" && metrics()?.sum("tracker_interface_info", &labels) != 1.0 {
            return Err(format!("XDP is not {expected}; the tracker says:\n{}", tracker.log()));
        }
        let given = row.ask(metrics)?;
        let (name, mode) = if asked == "off" { ("any", "off") } else { (row.name, expected) };
        let Given { peers: [v4, v4_most, v6, v6_most], by_xdp, .. } = given;
        println!("| {name} | {mode} | {v4} | {v4_most} | {v6} | {v6_most} | {by_xdp} of {ANNOUNCES} |");
        Ok(given)
    });
    let results = results.collect();
    tracker.stop().expect("the tracker ends on SIGTERM");
    results
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// The number of peers in the replies to [`WANTED`], how many of the [`ANNOUNCES`] were answered by
/// XDP, and how many queues have received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    peers: [usize; WANTED.len()],
    by_xdp: u64,
    queues: usize,
}

fn answered(metrics: &Metrics, path: &str) -> u64 {
    metrics.sum("tracker_requests_answered_total", &[("path", path), ("request", "announce")]) as u64
}

/// What is wrong with replies, compared with those of sockets. `whole` says whether every reply has
/// to have as many peers.
fn judge(whole: bool, queues: bool, given: Given, sockets: Given) -> Result<(), String> {
    if queues && given.queues < 2 {
        return Err(format!("packets came by {} queues", given.queues));
    }
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

#[test]
#[ignore = "needs the network cards of a guest of `cargo xtask kernels`"]
fn replies_have_the_peers_that_drivers_leave_room_for() {
    println!("\n| interface | XDP | 50 IPv4 | 200 IPv4 | 50 IPv6 | 74 IPv6 | by XDP |");
    println!("|---|---|---|---|---|---|---|");
    let server = Namespace::new().expect("a namespace");
    let rows = Row::all(&server);
    // What sockets answer does not depend on the driver.
    let sockets = run(&server, "off", &[&rows[0]]).remove(0).expect("sockets answer");
    let mut wrong = Vec::new();
    // In mode auto each interface has the best that its driver can; generic XDP then for those that
    // have shown native.
    let native: Vec<_> = rows.iter().filter(|row| row.native).collect();
    for (asked, rows) in [("auto", rows.iter().collect()), ("generic", native)] {
        for (row, given) in rows.iter().zip(run(&server, asked, &rows)) {
            let whole = asked == "auto" && row.native && !row.is_veth;
            if let Err(error) = given.and_then(|given| judge(whole, row.queues, given, sockets)) {
                wrong.push(format!("{}, {asked}: {error}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn short_replies_are_wrong_where_they_have_to_be_whole() {
    let sockets = Given { peers: [50, 200, 50, 67], by_xdp: 0, queues: 0 };
    for (whole, several, peers, by_xdp, queues, right) in [
        (true, false, [50, 200, 50, 67], 16, 1, true),
        (true, false, [50, 199, 50, 67], 16, 1, false),
        (true, false, [50, 200, 50, 15], 16, 1, false),
        (true, false, [50, 200, 50, 67], 15, 1, false),
        // A veth pair, or generic XDP.
        (false, false, [50, 45, 15, 15], 16, 1, true),
        (false, false, [50, 200, 50, 67], 4, 0, true),
        (false, false, [50, 44, 15, 15], 16, 1, false),
        (false, false, [50, 200, 50, 14], 8, 1, false),
        (false, false, [50, 201, 50, 67], 8, 1, false),
        (false, false, [50, 200, 50, 67], 0, 1, false),
        // Several queues.
        (true, true, [50, 200, 50, 67], 16, 2, true),
        (true, true, [50, 200, 50, 67], 16, 1, false),
        (false, true, [50, 200, 50, 67], 16, 0, false),
    ] {
        let given = Given { peers, by_xdp, queues };
        let judged = judge(whole, several, given, sockets);
        assert_eq!(judged.is_ok(), right, "{whole} {several} {given:?}: {judged:?}");
    }
}
