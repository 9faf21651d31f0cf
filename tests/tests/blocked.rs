//! Blocked addresses, in the real daemon: through XDP on a veth pair, by sockets and by HTTP, and
//! changed while it runs.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};
use tracker_tests::{
    bep15::{Announce, InfoHash},
    bpffs::BpfFs,
    client::{UdpClient, http_announce},
    namespace::Pair,
    temporary::File,
    tracker::{Tracker, binary},
};

const TORRENT: InfoHash = [0x5b; 20];
/// Answers come within milliseconds; so long nobody waits for one that is dropped.
const SILENCE: Duration = Duration::from_millis(300);

fn file(name: &str, text: &str) -> File {
    let file = File::new(&format!("blocked-{name}"));
    file.write(text);
    file
}

fn server(ipv4: bool) -> SocketAddr {
    if ipv4 { (Pair::SERVER_V4, 6969).into() } else { (Pair::SERVER_V6, 6969).into() }
}

fn address(number: u8, ipv4: bool) -> IpAddr {
    if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() }
}

/// The address that connections of the clients' host come from.
fn usual_address(pair: &Pair, ipv4: bool) -> IpAddr {
    let any = SocketAddr::new(if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }, 0);
    let socket = pair.client.run(|| UdpSocket::bind(any)).expect("a socket");
    socket.connect(server(ipv4)).expect("a way");
    socket.local_addr().expect("bound").ip()
}

/// The peers that a client is told of; `None` if nobody answers, as is `expected`.
fn announce(pair: &Pair, source: IpAddr, port: u16, expected: bool) -> Option<Vec<SocketAddr>> {
    let mut client =
        UdpClient::new(&pair.client, SocketAddr::new(source, 0), server(source.is_ipv4())).expect("a socket");
    if !expected {
        client.socket().set_read_timeout(Some(SILENCE)).expect("a socket");
    }
    client.connect().ok()?;
    let announced = client.announce(&Announce { num_want: 50, ..Announce::new(TORRENT, port) }).expect("answered");
    Some(announced.peers)
}

/// Has the daemon read its lists again, and waits until it says so.
fn reload(tracker: &Tracker, said: &str) {
    tracker.signal_until(libc::SIGHUP, said).expect("it is read");
}

/// `path` answers UDP, as the metrics call it.
fn lists_decide(mode: &str, path: &str) {
    let pair = Pair::new().expect("two namespaces");
    // The second client has the address that HTTP comes from.
    let [two_v4, two_v6] = [true, false].map(|ipv4| usual_address(&pair, ipv4));
    let two = |ipv4| if ipv4 { two_v4 } else { two_v6 };
    let one = |ipv4| [1, 2].map(|number| address(number, ipv4)).into_iter().find(|it| *it != two(ipv4)).expect("one");
    let p2p = file(&format!("p2p-{mode}"), "");
    let dat = file(&format!("dat-{mode}"), "");
    let allow = file(&format!("allow-{mode}"), "");
    let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", mode, "--max-torrents", "1000", "--max-peers"];
    let lists =
        ["10000", "--block-addresses", p2p.path(), "--block-addresses", dat.path(), "--allow-addresses", allow.path()];
    let tracker = Tracker::start(&pair.server, &[&options[..], &lists].concat()).expect("the tracker runs");
    let metrics = || tracker.metrics(&pair.server).expect("metrics");

    let name = |address: IpAddr| format!("a: name, with things:{address}-{address}\r\n");
    let level = |level: &str| format!("{two_v4} - {two_v4} , {level} , x: y\n{two_v6} - {two_v6} , {level} , x\n");
    let both = format!("{two_v4}\n{two_v6}\n");
    // (first list, second list, let in, whether the second client is blocked, by which list)
    type Row = (String, String, String, Option<usize>);
    let rows: [Row; 6] = [
        (String::new(), String::new(), String::new(), None),
        (name(two_v4) + &name(two_v6), String::new(), String::new(), Some(0)),
        (String::new(), level("000"), String::new(), Some(1)),
        (String::new(), level("200"), String::new(), None),
        (name(two_v4) + &name(two_v6), level("000"), String::new(), Some(0)),
        (name(two_v4) + &name(two_v6), level("000"), both, None),
    ];
    for (number, (first, second, let_in, blocked)) in rows.into_iter().enumerate() {
        p2p.write(&first);
        dat.write(&second);
        allow.write(&let_in);
        reload(&tracker, "blocked addresses are in force");
        for ipv4 in [true, false] {
            let family = if ipv4 { "ipv4" } else { "ipv6" };
            let before = metrics();
            let told =
                announce(&pair, one(ipv4), 7001, true).unwrap_or_else(|| panic!("row {number}, {family}: no answer"));
            // What is blocked is given to nobody, although it announced in the row before.
            let gone = blocked.is_none() || !told.iter().any(|peer| peer.ip() == two(ipv4));
            assert!(gone, "row {number}, {family}: {told:?}");
            let answer = announce(&pair, two(ipv4), 7002, blocked.is_none());
            assert_eq!(answer.is_none(), blocked.is_some(), "row {number}, {family}: {answer:?}");
            let http = http_announce(&pair.client, server(ipv4), &Announce::new(TORRENT, 7003));
            match http {
                Ok(_) => assert!(blocked.is_none(), "row {number}, {family}: answered by HTTP"),
                Err(error) => {
                    let refused = error.to_string().contains("Address is blocked");
                    assert!(refused && blocked.is_some(), "row {number}, {family}: {error:#}");
                }
            }
            let after = metrics();
            let moved = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
            for (list, file) in [&p2p, &dat].into_iter().enumerate() {
                let expected = f64::from(u8::from(blocked == Some(list)));
                for by in [path, "http"] {
                    let counted = moved("tracker_blocked_total", &[("path", by), ("list", file.path())]);
                    // A client that hears nothing tries again.
                    assert_eq!(counted >= 1.0, expected >= 1.0, "row {number}, {family}, {by}: {counted}");
                }
            }
            let reason = moved("tracker_requests_rejected_total", &[("path", path), ("reason", "blocked")]);
            assert_eq!(reason >= 1.0, blocked.is_some(), "row {number}, {family}: {reason}");
        }
    }

    // Whatever is wrong with a list leaves all as it was.
    allow.write("");
    reload(&tracker, "blocked addresses are in force");
    for (text, said) in [("1.2.3.4\nnothing of use\n", "line 2"), ("PK\u{3}\u{4}", "zip")] {
        dat.write(text);
        reload(&tracker, said);
        for ipv4 in [true, false] {
            let answers = [(one(ipv4), true), (two(ipv4), false)];
            let answers = answers.map(|(source, expected)| announce(&pair, source, 7001, expected).is_some());
            assert_eq!(answers, [true, false], "{said}");
        }
    }
    tracker.stop().expect("stops");
}

#[test]
fn blocked_addresses_are_dropped_by_xdp_and_given_to_nobody() {
    lists_decide("native", "xdp");
}

#[test]
fn blocked_addresses_are_dropped_by_sockets_and_given_to_nobody() {
    lists_decide("off", "udp_socket");
}

#[test]
fn a_list_that_is_wrong_or_not_there_stops_the_start_and_the_check() {
    let pair = Pair::new().expect("two namespaces");
    let wrong = file("wrong", "192.0.2.0/24\n192.0.2.0/99\n");
    let right = file("right", "192.0.2.0/24\n");
    for (option, path, said) in [
        ("block-addresses", "/nonexistent/list", Some("/nonexistent/list")),
        ("allow-addresses", "/nonexistent/list", Some("/nonexistent/list")),
        ("block-addresses", wrong.path(), Some("line 2")),
        ("allow-addresses", wrong.path(), Some("line 2")),
        ("block-addresses", right.path(), None),
    ] {
        let configuration = file("configuration.toml", &format!("{option} = [\"{path}\"]\n"));
        let check = std::process::Command::new(binary().expect("built"))
            .args(["check", configuration.path()])
            .output()
            .expect("it runs");
        let printed = String::from_utf8_lossy(&check.stderr).into_owned();
        let Some(said) = said else {
            assert!(check.status.success(), "{option} {path}: {printed}");
            continue;
        };
        assert!(!check.status.success() && printed.contains(said), "{option} {path}: {printed}");
        let error = Tracker::start(&pair.server, &[&format!("--{option}"), path]).map(drop).expect_err("refused");
        assert!(format!("{error:#}").contains(said), "{option} {path}: {error:#}");
    }
}

#[test]
fn what_is_blocked_stays_so_without_a_daemon_and_lists_may_grow_and_shrink_at_a_takeover() {
    let pair = Pair::new().expect("two namespaces");
    let pins = BpfFs::mount().expect("a BPF file system");
    let path = pins.path();
    let list = file("takeover", &format!("{}/32\n", address(0, true)));
    let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--max-torrents", "1000"];
    let pinned = ["--pin-path", path.to_str().expect("UTF-8")];
    let start = |lists: &[&str]| {
        Tracker::start(&pair.server, &[&options[..], &pinned, lists].concat()).expect("the tracker runs")
    };
    let answered = |number, expected| announce(&pair, address(number, true), 7000 + u16::from(number), expected);
    let are = |expected: [bool; 3]| [0, 1, 2].map(|number| answered(number, expected[usize::from(number)]).is_some());

    let block = ["--block-addresses", list.path()];
    let tracker = start(&block);
    assert_eq!(are([false, true, true]), [false, true, true]);
    tracker.kill().expect("it ran");
    assert_eq!(are([false, true, true]), [false, true, true], "XDP goes on with the list");

    // The same, then more than there is room for, then none, then one again.
    let mut long = format!("{}\n", address(2, true));
    for number in 0..20_000_u32 {
        writeln!(long, "{}", Ipv4Addr::from_bits(0x0b00_0000 + 2 * number)).expect("memory");
    }
    let short = format!("{}/32\n", address(0, true));
    for (text, lists, expected) in [
        (&short, &block[..], [false, true, true]),
        (&long, &block, [true, true, false]),
        (&short, &[], [true, true, true]),
        (&short, &block, [false, true, true]),
    ] {
        list.write(text);
        let tracker = start(lists);
        assert!(tracker.log().contains("taken over"), "{}", tracker.log());
        assert_eq!(are(expected), expected, "{}", tracker.log());
        let told = answered(1, true).expect("never blocked");
        let gives = |number: u8| told.iter().any(|peer| peer.ip() == address(number, true));
        assert!(expected[0] || !gives(0), "{told:?}");
        assert!(expected[2] == gives(2), "what was stored stays, and what is blocked goes: {told:?}");
        tracker.kill().expect("it ran");
    }
}
