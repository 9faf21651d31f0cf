//! Who stands in front of the tracker, as real clients see it: reverse proxies, the PROXY protocol,
//! Unix sockets, TLS, and the operator's door. `curl` asks, and plain sockets where that cannot.

#[path = "front/curl.rs"]
mod curl;
#[path = "front/https.rs"]
mod https;

use curl::{Answer, Curl, at};
use std::{fs, thread, time::Duration};
use tracker_tests::{
    client::http_get,
    namespace::Namespace,
    temporary::Directory,
    tracker::{Tracker, binary},
};

/// An address that is nobody's in particular, and whose network the namespace has: a stranger's.
const STRANGER: &str = "203.0.113.5";

fn namespace() -> Namespace {
    let namespace = Namespace::new().expect("a namespace");
    namespace.ip("address add 203.0.113.1/24 dev lo").expect("an address");
    namespace
}

const ANNOUNCE: &str = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=7";

#[test]
fn the_address_of_a_client_is_what_a_named_proxy_says_and_otherwise_its_own() {
    let (namespace, directory) = (namespace(), Directory::new("front-proxies"));
    let socket = at(&directory, "http.sock");
    let unix = format!("unix:{socket}");
    let tracker = Tracker::start(
        &namespace,
        &[
            &["--http", "0.0.0.0:6969", "--http", &unix, "--proxy-from", "127.0.0.2", "--proxy-from", "unix"][..],
            &["--proxy-from", "10.0.0.0/8", "--proxy-protocol-from", "127.0.0.3", "--ip-parameter-from", "127.0.0.4"],
        ]
        .concat(),
    )
    .expect("it runs");
    let curl = Curl::new(&namespace, "http://127.0.0.1:6969");
    let unknown = Err("Nobody has told the tracker");
    // (arguments of curl, parameters, whose announce it is)
    let at_socket = ["--unix-socket", &socket, "-H"];
    type Row<'a> = (&'a [&'a str], &'a str, Result<&'a str, &'a str>);
    let rows: &[Row<'_>] = &[
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: 192.0.2.7"], "", Ok("192.0.2.7")),
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.1.1.1"], "", Ok("192.0.2.7")),
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: [::ffff:192.0.2.7]:99"], "", Ok("192.0.2.7")),
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: [2001:db8::7]:99"], "", Ok("2001:db8::7")),
        (&[at_socket[0], at_socket[1], "-H", "X-Forwarded-For: 192.0.2.8"], "", Ok("192.0.2.8")),
        (&["--interface", "127.0.0.3", "--haproxy-protocol"], "", Ok("127.0.0.3")),
        (&["--interface", "127.0.0.4"], "&ip=192.0.2.9", Ok("192.0.2.9")),
        (&["--interface", "127.0.0.4"], "&ipv4=192.0.2.9%3A99", Ok("192.0.2.9")),
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: 127.0.0.4"], "&ip=192.0.2.9", Ok("192.0.2.9")),
        (&["--interface", "127.0.0.2"], "", Ok("127.0.0.2")),
        (&["--interface", "127.0.0.9", "-H", "X-Forwarded-For: 192.0.2.7"], "", Ok("127.0.0.9")),
        (&["--interface", STRANGER, "-H", "X-Forwarded-For: 127.0.0.2"], "", Ok(STRANGER)),
        (&["--interface", STRANGER, "-H", "Forwarded: for=192.0.2.7"], "&ip=192.0.2.7", Ok(STRANGER)),
        (&["--interface", STRANGER], "&ip=192.0.2.7", Ok(STRANGER)),
        (&["--interface", "127.0.0.9"], "&ipv4=192.0.2.9%3A99&ipv6=2001:db8::7", Ok("127.0.0.9")),
        (&["--interface", "127.0.0.2", "-H", "X-Real-IP: 192.0.2.7"], "&ip=192.0.2.9", Ok("127.0.0.2")),
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: 192.0.2.7, unknown"], "", unknown),
        (&["--interface", "127.0.0.2", "-H", "X-Forwarded-For: 192.0.2.7;,\u{fc}"], "", unknown),
        (&["--unix-socket", &socket], "", unknown),
        (&["--interface", "127.0.0.3"], "", Err("does not begin with a header of the PROXY protocol")),
        (&["--interface", "127.0.0.9", "--haproxy-protocol"], "", Err("Only ")),
        (&["--interface", "127.0.0.4"], "&ip=host.example", Err("is no address of a peer")),
    ];
    for (arguments, parameters, expected) in rows {
        let answer = curl.get(&format!("{ANNOUNCE}{parameters}"), arguments);
        let taken = answer.external_ip();
        match expected {
            Ok(address) => assert_eq!(taken, address.parse().ok(), "{arguments:?} {parameters}: {answer:?}"),
            Err(reason) => assert!(answer.text().contains(reason), "{arguments:?} {parameters}: {answer:?}"),
        }
    }
    // Addresses of proxies have the limits of a share like any others: 8 peers of each at most.
    for port in 1..=12 {
        let path = format!("/announce?info_hash=bbbbbbbbbbbbbbbbbbbb&port={port}");
        for client in ["192.0.2.1", "192.0.2.2"] {
            let header = format!("X-Forwarded-For: {client}");
            assert_eq!(curl.get(&path, &["--interface", "127.0.0.2", "-H", &header]).status, 200);
        }
    }
    let answer = curl.get("/scrape?info_hash=bbbbbbbbbbbbbbbbbbbb", &[]);
    assert!(answer.text().contains("10:incompletei16e"), "{answer:?}");
    let log = tracker.log();
    assert!(log.contains("proxy at 127.0.0.9, with X-Forwarded-For"), "{log}");
    assert!(tracker.stop().expect("it runs").success());
}

#[test]
fn strangers_do_not_see_what_is_the_operators() {
    let (namespace, directory) = (namespace(), Directory::new("front-doors"));
    let (token, socket) = (at(&directory, "token"), at(&directory, "admin.sock"));
    fs::write(&token, "0123456789abcdef0123\n").expect("writable");
    let (right, wrong) = ("Authorization: Bearer 0123456789abcdef0123", "Authorization: Bearer 0123456789abcdef0124");
    let own = format!("unix:{socket}");
    let with_token = ["--admin-token-file", &token];
    let full = ["--full-scrape-from", "127.0.0.9", "--full-scrape-pause", "5m"];
    // (options, rows of who asks what and the status)
    type Row<'a> = (&'a str, &'a [&'a str], u16);
    let by_default: &[Row<'_>] = &[
        ("/stats", &[], 200),
        ("/metrics", &["--interface", "127.0.0.77"], 200),
        ("/health", &["--interface", STRANGER], 200),
        (ANNOUNCE, &["--interface", STRANGER], 200),
        ("/stats", &["--interface", STRANGER], 403),
        ("/stats?mode=everything", &["--interface", STRANGER], 403),
        ("/metrics", &["--interface", STRANGER], 403),
        ("/", &["--interface", STRANGER], 200),
        ("/operator", &["--interface", STRANGER], 403),
        ("/stats.json", &["--interface", STRANGER], 403),
        ("/events", &["--interface", STRANGER], 403),
        ("/metrics", &["--interface", STRANGER, "-H", right], 403),
        ("/metrics", &["--interface", STRANGER, "-H", "X-Forwarded-For: 127.0.0.1"], 403),
        ("/metrics", &["-H", "X-Forwarded-For: 127.0.0.1"], 403),
    ];
    let token_rows: &[Row<'_>] = &[
        ("/metrics", &["--interface", STRANGER, "-H", right], 200),
        ("/operator", &["--interface", STRANGER, "-u", "any:0123456789abcdef0123"], 200),
        ("/operator", &["--interface", STRANGER, "-u", "any:0123456789abcdef0124"], 401),
        ("/stats", &[], 200),
        ("/metrics", &["--interface", STRANGER], 401),
        ("/metrics", &["--interface", STRANGER, "-H", wrong], 401),
    ];
    let door_rows: &[Row<'_>] = &[
        ("/stats", &["--unix-socket", &socket], 200),
        ("/health", &["--unix-socket", &socket], 200),
        ("/health", &["--interface", STRANGER], 200),
        (ANNOUNCE, &["--interface", STRANGER], 200),
        (ANNOUNCE, &["--unix-socket", &socket], 404),
        ("/metrics", &[], 404),
        ("/", &[], 200),
        ("/stats.json", &[], 404),
        ("/stats", &["--interface", STRANGER], 404),
        ("/stats", &["-H", right], 404),
    ];
    let scrape_rows: &[Row<'_>] = &[("/stats", &[], 200), ("/scrape", &[], 200)];
    for (options, rows) in
        [(&[][..], by_default), (&with_token, token_rows), (&["--admin", &own], door_rows), (&full, scrape_rows)]
    {
        let mut command = namespace.command(binary().expect("a tracker"));
        command.args(["run", "--pin-path", "off", "--http-threads", "2", "--http", "0.0.0.0:6969"]).args(options);
        let tracker = curl::Running::start(&namespace, command);
        let curl = Curl::new(&namespace, "http://127.0.0.1:6969");
        for (path, arguments, status) in rows {
            let answer = curl.get(path, arguments);
            assert_eq!(answer.status, *status, "{options:?}: {path} by {arguments:?}: {answer:?}");
            assert!(*status == 200 || !answer.text().contains("torrents"), "{answer:?}");
        }
        if options == full {
            let scrape = |source: &str| -> Answer { curl.get("/scrape", &["--interface", source]) };
            assert!(scrape("127.0.0.1").text().contains("not for your address"));
            assert!(scrape("127.0.0.9").text().contains("5:files"));
            assert!(scrape("127.0.0.9").text().contains("a short time ago"));
        }
        tracker.stop();
    }
}

#[test]
fn unix_sockets_are_handed_over_and_replaced() {
    let (namespace, directory) = (namespace(), Directory::new("front-unix"));
    let socket = at(&directory, "http.sock");
    let unix = format!("unix:{socket}");
    let options = ["--http", "0.0.0.0:6969", "--http", &unix, "--admin", "off"];
    let tracker = Tracker::start(&namespace, &options).expect("it runs");
    let curl = Curl::new(&namespace, "http://127.0.0.1:6969");
    let at = ["--unix-socket", socket.as_str()];
    assert_eq!(curl.get("/stats", &at).status, 200);
    // A second one does not take it away.
    let mut command = namespace.command(binary().expect("a tracker"));
    command.args(["run", "--pin-path", "off", "--udp", "off", "--http", &unix]);
    let other = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && said.contains("another process listens there"), "{said}");
    tracker.signal(libc::SIGUSR2).expect("it runs");
    let mut asked = 0;
    while tracker.log().matches("is running").count() < 2 {
        assert_eq!(curl.get("/health", &at).status, 200, "no request is refused");
        asked += 1;
        assert!(asked < 5000, "{}", tracker.log());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(tracker.log().contains("goes on with the socket that listened before"), "{}", tracker.log());
    assert_eq!(curl.get("/stats", &at).status, 200);
    // What a killed one leaves is no obstacle.
    tracker.kill().expect("it runs");
    let tracker = Tracker::start(&namespace, &options).expect("it runs again");
    assert_eq!(curl.get("/stats", &at).status, 200);
    http_get(Some(&namespace), ([127, 0, 0, 1], 6969).into(), "/stats").expect("by TCP as well");
    assert!(tracker.stop().expect("it runs").success());
}
