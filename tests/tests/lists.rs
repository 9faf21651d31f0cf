//! Lists of torrents, in the real daemon: through XDP on a veth pair, by sockets and by HTTP, and
//! changed while it runs.

use std::{fmt::Write as _, fs, net::SocketAddr};
use tracker_tests::{
    bep15::{Announce, Counts, InfoHash, Reply},
    client::{UdpClient, http_announce, http_scrape},
    namespace::Pair,
    temporary::File,
    tracker::Tracker,
};

const NOT_ALLOWED: &str = "Torrent is not allowed";

/// Writes a list of torrents.
fn list(file: &File, torrents: &[InfoHash]) {
    let mut text = String::new();
    for torrent in torrents {
        torrent.iter().for_each(|byte| write!(text, "{byte:02x}").expect("memory"));
        text.push('\n');
    }
    file.write(&text);
}

fn server(ipv4: bool) -> SocketAddr {
    if ipv4 { (Pair::SERVER_V4, 6969).into() } else { (Pair::SERVER_V6, 6969).into() }
}

fn client(pair: &Pair, ipv4: bool) -> UdpClient {
    let source: SocketAddr = if ipv4 { (Pair::client_v4(0), 0).into() } else { (Pair::client_v6(0), 0).into() };
    UdpClient::connected(&pair.client, source, server(ipv4)).expect("a connection id")
}

/// What a client is told of a torrent, by UDP: nothing if it may use it.
fn refusal(client: &UdpClient, torrent: InfoHash) -> Option<String> {
    let announce = Announce { connection_id: client.connection_id(), ..Announce::new(torrent, 7000) };
    match client.exchange(&announce.bytes()).expect("answered") {
        Reply::Announce { .. } => None,
        Reply::Error { message, .. } => Some(message),
        other @ (Reply::Connect { .. } | Reply::Scrape { .. }) => panic!("an announce was answered with {other:?}"),
    }
}

/// Has the daemon read its lists again, and waits until it says so.
fn reload(tracker: &Tracker, said: &str) {
    tracker.signal_until(libc::SIGHUP, said).expect("it is read");
}

/// `path` answers UDP, as the metrics call it.
fn lists_decide(mode: &str, path: &str) {
    let [one, two, three] = [[1; 20], [2; 20], [3; 20]];
    let (allow, deny) = (File::new(&format!("allow-{mode}")), File::new(&format!("deny-{mode}")));
    list(&allow, &[one, two]);
    list(&deny, &[two]);
    let pair = Pair::new().expect("two namespaces");
    let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", mode, "--max-torrents", "1000", "--max-peers"];
    let lists = ["10000", "--allow-list", allow.path(), "--deny-list", deny.path()];
    let tracker = Tracker::start(&pair.server, &[&options[..], &lists].concat()).expect("the tracker runs");

    // (torrents allowed, torrents denied, what is said at the reload, which of the three are served)
    type Row<'a> = (&'a [InfoHash], &'a [InfoHash], &'a str, [bool; 3]);
    let rows: [Row<'_>; 6] = [
        (&[one, two], &[two], "2 torrents allowed, 1 denied", [true, false, false]),
        (&[one, two], &[], "2 torrents allowed, 0 denied", [true, true, false]),
        (&[two, three], &[], "2 torrents allowed, 0 denied; 1 removed", [false, true, true]),
        (&[one, two, three], &[three, one], "3 torrents allowed, 2 denied; 1 removed", [false, true, false]),
        (&[], &[], "0 torrents allowed, 0 denied; 1 removed", [false; 3]),
        (&[three], &[], "1 torrents allowed, 0 denied; 0 removed", [false, false, true]),
    ];
    for (number, (allowed, denied, said, served)) in rows.into_iter().enumerate() {
        list(&allow, allowed);
        list(&deny, denied);
        if number > 0 {
            reload(&tracker, said);
        }
        for ipv4 in [true, false] {
            let mut udp = client(&pair, ipv4);
            for (torrent, served) in [one, two, three].into_iter().zip(served) {
                // What is no longer allowed is gone before anybody asks for it.
                if !served {
                    assert_eq!(udp.scrape(&[torrent]).expect("answered"), [Counts::default()], "row {number}");
                }
                let before = tracker.metrics(&pair.server).expect("metrics");
                let expected = (!served).then(|| NOT_ALLOWED.to_owned());
                assert_eq!(refusal(&udp, torrent), expected, "row {number}, {torrent:?}");
                let after = tracker.metrics(&pair.server).expect("metrics");
                let moved = |name: &str, label: (&str, &str)| {
                    after.sum(name, &[("path", path), label]) - before.sum(name, &[("path", path), label])
                };
                let refused = ["denied", "not_allowed"]
                    .map(|reason| moved("tracker_requests_rejected_total", ("reason", reason)))
                    .iter()
                    .sum::<f64>();
                let answered = moved("tracker_requests_answered_total", ("request", "announce"));
                assert_eq!((answered, refused), if served { (1.0, 0.0) } else { (0.0, 1.0) }, "row {number}");
                let http = http_announce(&pair.client, server(ipv4), &Announce::new(torrent, 7001));
                match http {
                    Ok(_) => assert!(served, "row {number}: {torrent:?} by HTTP"),
                    Err(error) => assert!(!served && error.to_string().contains(NOT_ALLOWED), "{error:#}"),
                }
                let counts = http_scrape(&pair.client, server(ipv4), &[torrent]).expect("answered");
                assert_eq!(counts.iter().any(|counts| counts.leechers > 0), served, "row {number}, {torrent:?}");
            }
        }
    }

    // Whatever is wrong with a list leaves all as it was.
    for (name, prepare) in [
        ("is wrong", &(|| allow.write("not hexadecimal\n")) as &dyn Fn()),
        ("cannot read the list", &|| fs::remove_file(&allow).expect("there")),
        ("cannot read the list", &|| fs::create_dir(&allow).expect("free")),
    ] {
        prepare();
        reload(&tracker, name);
        for ipv4 in [true, false] {
            let udp = client(&pair, ipv4);
            assert_eq!([one, three].map(|torrent| refusal(&udp, torrent).is_none()), [false, true], "{name}");
        }
    }
    fs::remove_dir(&allow).expect("empty");
    tracker.stop().expect("stops");
}

#[test]
fn lists_decide_through_xdp() {
    lists_decide("native", "xdp");
}

#[test]
fn lists_decide_by_sockets() {
    lists_decide("off", "udp_socket");
}

#[test]
fn a_list_that_is_wrong_or_not_there_stops_the_start() {
    let pair = Pair::new().expect("two namespaces");
    let wrong = File::new("wrong-list");
    wrong.write("0123\n");
    for (option, path, said) in [
        ("--allow-list", "/nonexistent/list", "/nonexistent/list"),
        ("--deny-list", "/nonexistent/list", "/nonexistent/list"),
        ("--allow-list", wrong.path(), "line 1"),
        ("--deny-list", wrong.path(), "line 1"),
    ] {
        let error = Tracker::start(&pair.server, &[option, path]).map(drop).expect_err("refused");
        assert!(format!("{error:#}").contains(said), "{option} {path}: {error:#}");
    }
}
