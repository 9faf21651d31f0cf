//! The log: levels that change while the tracker runs, formats, lines that repeat, and that nothing
//! in it or on the disk ties an address to a torrent.

#[path = "process/daemon.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod daemon;

use daemon::{Daemon, Directory, Stderr};
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{self, Announce, Event},
    client::{UdpClient, http_announce, http_get},
    namespace::{Namespace, Pair},
    soon,
    tracker::{Tracker, binary},
};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn levels_change_with_the_configuration_and_wrong_ones_change_nothing() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("levels");
    let path = directory.0.join("tracker.toml");
    let write = |text: &str| fs::write(&path, text).expect("a file");
    write("log = \"warn\"\n");
    let mut daemon = Daemon::start(&namespace, Stderr::Read, &["run", "--config", text(&path)]);
    daemon.wait_until_it_answers("before");
    // What the tracker says before it has read how much is wanted is not among it.
    assert!(!daemon.log().contains("is running"), "{}", daemon.log());
    let rows = [
        ("log = \"info\"\n", Some("changed: log")),
        ("log = \"info,control=error\"\n", None),
        ("log = \"daemon=debug,http=warn\"\n", Some("changed: log")),
        ("log = \"daemon=loud\"\n", Some("\"loud\" is no level")),
        ("log = \"web=debug\"\n", Some("\"web\" is no part of the tracker")),
        ("", Some("changed: log")),
    ];
    for (configuration, expected) in rows {
        write(configuration);
        let before = daemon.log().len();
        daemon.signal(libc::SIGHUP);
        match expected {
            Some(line) => daemon.wait_for_line_after(before, line),
            None => {
                // Lines are in order: one that comes later is there, and this one is not.
                std::thread::sleep(Duration::from_millis(300));
                assert!(!daemon.log()[before..].contains("in force"), "{}", daemon.log());
            }
        }
    }
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
}

#[test]
fn every_line_is_an_object_if_machines_read_them() {
    let namespace = Namespace::new().expect("a namespace");
    let mut daemon = Daemon::start(&namespace, Stderr::Read, &["run", "--log-format", "json", "--log", "debug"]);
    daemon.wait_until_it_answers("it runs");
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
    let mut levels = BTreeSet::new();
    for line in daemon.log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        levels.insert(object["level"].as_str().expect("a level").to_owned());
        assert!(object["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(object["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}");
        assert!(object["target"].as_str().is_some(), "{line}");
    }
    assert!(levels.contains("info") && daemon.log().contains("is running"), "{}", daemon.log());

    // The reason why it does not start, too.
    let arguments = ["run", "--log-format", "json", "--udp", "off", "--http", "off"];
    let mut daemon = Daemon::start(&namespace, Stderr::Read, &arguments);
    assert!(!daemon.wait().success());
    let log = daemon.log();
    let object: serde_json::Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert!(object["message"].as_str().is_some_and(|message| message.contains("nothing to do")), "{log}");
    assert_eq!(object["level"], "error");
}

#[test]
fn lines_that_repeat_are_held_back_and_counted() {
    let namespace = Namespace::new().expect("a namespace");
    let mut daemon = Daemon::start(&namespace, Stderr::Read, &["run"]);
    daemon.wait_until_it_answers("it runs");
    let ignored = |log: &str| log.matches("SIGUSR1").count();
    for _ in 0..40 {
        let before = ignored(&daemon.log());
        daemon.signal(libc::SIGUSR1);
        // One after the other, as several of a signal are one.
        let deadline = Instant::now() + Duration::from_millis(100);
        while ignored(&daemon.log()) == before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(ignored(&daemon.log()), 5, "{}", daemon.log());
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
    let log = daemon.log();
    let last = log.lines().rfind(|line| line.contains("SIGUSR1")).expect("a line");
    assert!(last.ends_with("(repeated 35 times)"), "{log}");
    assert_eq!(ignored(&log), 6, "{log}");
}

#[test]
fn journal_gets_levels_and_fields() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("journal");
    let path = directory.0.join("socket");
    let journal = UnixDatagram::bind(&path).expect("a socket");
    journal.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && touch /run/systemd/journal/socket && \
         mount --bind {} /run/systemd/journal/socket",
        text(&path)
    );
    let mut daemon = Daemon::start_after(&namespace, &script, Stderr::Read, &["run", "--log-format", "journald"]);
    let mut bytes = [0; 8192];
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains("is running")) {
        let length = journal.recv(&mut bytes).expect("a line");
        lines.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
    for line in &lines {
        let fields: Vec<_> = line.lines().filter_map(|field| field.split_once('=')).map(|(name, _)| name).collect();
        assert_eq!(&fields[..4], ["PRIORITY", "SYSLOG_IDENTIFIER", "TARGET", "MESSAGE"], "{line}");
        assert!(
            line.starts_with("PRIORITY=6\nSYSLOG_IDENTIFIER=tracker\n") || line.starts_with("PRIORITY=4\n"),
            "{line}"
        );
    }
    assert!(!daemon.log().contains("is running"), "{}", daemon.log());

    // Without a journal lines go where people may find them.
    let arguments = ["run", "--log-format", "journald"];
    let mut daemon = Daemon::start_after(&namespace, "mount -t tmpfs none /run", Stderr::Read, &arguments);
    daemon.wait_for_line("there is no journal");
    daemon.wait_for_line("is running");
}

const TRACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Pair::SERVER_V4), 6969);

/// Addresses and torrents that are nowhere else in the log.
fn clients() -> Vec<IpAddr> {
    (0..Pair::CLIENTS).flat_map(|number| [Pair::client_v4(number).into(), Pair::client_v6(number).into()]).collect()
}

fn torrent(number: u8) -> [u8; 20] {
    std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ number.wrapping_add(0x5a))
}

const TORRENTS: std::ops::Range<u8> = 1..30;

/// How a torrent may be written.
fn spellings(info_hash: [u8; 20]) -> Vec<String> {
    let hex: String = info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let escaped: String = info_hash.iter().map(|byte| format!("%{byte:02x}")).collect();
    vec![hex.to_uppercase(), escaped.to_uppercase(), format!("{info_hash:?}"), hex, escaped]
}

/// What of `text` tells of somebody: torrents, and addresses.
fn told(text: &str) -> (Vec<String>, Vec<IpAddr>) {
    let torrents = TORRENTS.flat_map(|number| spellings(torrent(number)));
    let named = |text: &str, address: &IpAddr| {
        let address = address.to_string();
        // Not as the beginning of another one.
        text.match_indices(&address).any(|(at, _)| {
            let next = text[at + address.len()..].chars().next();
            next.is_none_or(|next| !next.is_ascii_hexdigit() && next != '.')
        })
    };
    (
        torrents.filter(|spelling| text.contains(spelling.as_str())).collect(),
        clients().into_iter().filter(|address| named(text, address)).collect(),
    )
}

#[test]
fn what_tells_of_somebody_is_found() {
    let hex = &spellings(torrent(3))[3];
    for (line, torrents, addresses) in [
        ("nothing", 0, 0),
        ("198.18.0.2:7000 is odd", 0, 1),
        ("198.18.0.20 is somebody else", 0, 0),
        ("[fd00:0:0:1::2]:7000", 0, 1),
        ("from 198.18.0.11", 0, 1),
        (&format!("torrent {hex}"), 1, 0),
        (&format!("{hex} 198.18.0.3, 198.18.0.4"), 1, 2),
    ] {
        let (these, those) = told(line);
        assert_eq!((these.len(), those.len()), (torrents, addresses), "{line}");
    }
}

/// Whatever clients do, good and bad, by all ways.
fn be_busy(pair: &Pair, round: u8) {
    for number in 0..Pair::CLIENTS {
        let source = SocketAddr::from((Pair::client_v4(number), 0));
        let mut client = UdpClient::connected(&pair.client, source, TRACKER).expect("a connection id");
        for torrent in TORRENTS.map(torrent) {
            let port = 7000 + u16::from(number) * 8 + u16::from(round);
            let event = if number % 3 == 0 { Event::Completed } else { Event::Started };
            let left = if number % 3 == 0 { 0 } else { 1 << 33 };
            let announce = Announce { event: event as u32, left, ..Announce::new(torrent, port) };
            // Some are on no list.
            let _ = client.announce(&announce);
            if number < 3 {
                let _ = http_announce(&pair.client, TRACKER, &announce);
            }
        }
        let _ = client.scrape(&TORRENTS.map(torrent).collect::<Vec<_>>());
        // A wrong id, port 0, and nonsense.
        let wrong = Announce { connection_id: 1, ..Announce::new(torrent(1), 7000) };
        let _ = client.exchange(&wrong.bytes());
        let _ = client.announce(&Announce::new(torrent(1), 0));
        let _ = client.send(&bep15::header(client.connection_id(), 9, 7));
        let _ = client.send(&[0; 5]);
    }
    let hash: String = torrent(2).iter().map(|byte| format!("%{byte:02x}")).collect();
    for path in [
        format!("/announce?info_hash={hash}&port=0&peer_id=aaaaaaaaaaaaaaaaaaaa"),
        format!("/announce?info_hash={hash}&port=many"),
        format!("/announce?info_hash={hash}&info_hash={hash}&port=1"),
        format!("/announce?info_hash={hash}"),
        format!("/scrape?info_hash={hash}"),
        "/scrape".into(),
        "/announce?info_hash=%zz".into(),
        "/nowhere".into(),
        "/stats".into(),
    ] {
        let _ = http_get(Some(&pair.client), TRACKER, &path);
    }
    for nonsense in [
        format!(
            "GET /announce?info_hash={hash}&peer_id=aaaaaaaaaaaaaaaaaaaa&port=7000 HTTP/1.1\r\nX-Forwarded-For: 198.18.0.3\r\n\r\n"
        ),
        format!("GET /announce?info_hash={hash} HTTP/9.9\r\n\r\n"),
        format!("POST /announce?info_hash={hash} HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        format!("GET /{} HTTP/1.1\r\n\r\n", hash.repeat(300)),
        "\0\0\0\0".into(),
    ] {
        let stream = pair.client.run(|| TcpStream::connect(TRACKER));
        let _ = stream.and_then(|mut stream| stream.write_all(nonsense.as_bytes()));
    }
}

#[test]
fn nothing_in_the_log_or_on_the_disk_ties_an_address_to_a_torrent() {
    let pair = Pair::new().expect("two namespaces");
    let directory = Directory::new("deniability");
    let (state, config, list) = (directory.0.join("state"), directory.0.join("t.toml"), directory.0.join("denied"));
    let denied = |number: u8| fs::write(&list, format!("{}\n", spellings(torrent(number))[3])).expect("a file");
    denied(5);
    fs::write(&config, format!("log = \"debug\"\ndeny-list = [{list:?}]\nmax-torrents = 20\n")).expect("a file");
    let arguments = ["--config", text(&config), "--state-dir", text(&state), "--interface", Pair::SERVER_INTERFACE];
    let tracker = Tracker::start(&pair.server, &arguments).expect("it runs");
    for round in 0..3 {
        be_busy(&pair, round);
        denied(6 + round);
        tracker.signal_until(libc::SIGHUP, "is in force").expect("it is read");
    }
    let metrics = tracker.metrics(&pair.server).expect("metrics");
    for path in ["xdp", "http"] {
        let labels = [("path", path), ("request", "announce")];
        assert!(metrics.sum("tracker_requests_answered_total", &labels) > 50.0, "{path} is busy: {metrics:?}");
    }
    // Warnings of what happened, among them that the tracker is full.
    soon("it is warned of", || tracker.log().contains(" WARN "));
    let log = tracker_end(tracker);
    let tells: Vec<_> =
        log.lines().map(|line| (line, told(line))).filter(|(_, told)| *told != (vec![], vec![])).collect();
    // Who stands in front of the clients has to be named, or nobody could put it right.
    let is_proxy = |line: &str, (torrents, _): &(Vec<String>, Vec<IpAddr>)| {
        line.contains("through a proxy at") && torrents.is_empty()
    };
    assert!(tells.len() == 1 && tells.iter().all(|(line, told)| is_proxy(line, told)), "{tells:#?}");
    assert!(log.contains("XDP answers") && log.contains("DEBUG"), "{log}");

    let files: Vec<_> = fs::read_dir(&state).expect("it is there").flatten().map(|entry| entry.path()).collect();
    assert!(files.iter().any(|path| path.ends_with("swarms.snapshot")), "{files:?}");
    let counted = log.lines().rfind(|line| line.contains("the snapshot")).expect("it is said what is in it");
    assert!(counted.contains(" and 0 peers"), "{counted}");
    let exported = Command::new(binary().expect("a tracker"))
        .args(["snapshot", "export", "--format", "json", "--snapshot", text(&state.join("swarms.snapshot"))])
        .arg(directory.0.join("exported"))
        .status();
    assert!(exported.expect("it runs").success());
    let exported = fs::read_to_string(directory.0.join("exported")).expect("a file");
    let (torrents, addresses) = told(&exported);
    assert!(!torrents.is_empty() && addresses.is_empty(), "torrents are there, and nobody else: {exported}");
    for path in files {
        let bytes = fs::read(&path).expect("a file");
        for address in clients() {
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let is_there = bytes.windows(octets.len()).any(|window| window == octets);
            assert!(!is_there, "{address} is in {}", path.display());
        }
    }
}

/// The log of a tracker that has ended.
fn tracker_end(tracker: Tracker) -> String {
    tracker.signal(libc::SIGTERM).expect("it runs");
    let mut log = String::new();
    soon("it ends", || {
        log = tracker.log();
        log.contains(" stopped\n")
    });
    log
}

#[test]
fn completed_downloads_are_told_if_wanted_and_never_of_whom() {
    let pair = Pair::new().expect("two namespaces");
    let directory = Directory::new("completed");
    let config = directory.0.join("t.toml");
    fs::write(&config, "").expect("a file");
    let arguments = ["--config", text(&config), "--interface", Pair::SERVER_INTERFACE];
    let tracker = Tracker::start(&pair.server, &arguments).expect("it runs");
    be_busy(&pair, 0);
    fs::write(&config, "log-completed = true\n").expect("a file");
    tracker.signal(libc::SIGHUP).expect("it runs");
    soon("it is read", || tracker.log().contains("changed: log-completed"));
    // One sweep knows what there was.
    let sweeps = || tracker.metrics(&pair.server).expect("metrics").sum("tracker_store_walk_cpu_seconds_count", &[]);
    let before = sweeps();
    soon("it has swept", || sweeps() >= before + 2.0);
    assert!(!tracker.log().contains("event=completed"), "{}", tracker.log());
    let client = |number| SocketAddr::from((Pair::client_v4(number), 0));
    for number in 0..2 {
        let mut client = UdpClient::connected(&pair.client, client(number), TRACKER).expect("a connection id");
        let announce = Announce { event: Event::Completed as u32, left: 0, ..Announce::new(torrent(1), 9000) };
        client.announce(&announce).expect("an answer");
    }
    let expected = format!("event=completed info_hash={} downloads=2", spellings(torrent(1))[3]);
    soon("it is told", || tracker.log().contains(&expected));
    let log = tracker_end(tracker);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("event=completed")).collect();
    assert!(lines.iter().all(|line| told(line).1.is_empty()), "{lines:?}");
}
