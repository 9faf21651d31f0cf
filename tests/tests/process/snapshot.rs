//! The snapshot of a real daemon: what it has is there after a reboot, and no disk stops it.

use super::daemon::{Daemon, Directory, Stderr};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use tracker_tests::{
    bep15::{Announce, Counts, Event, InfoHash},
    client::{UdpClient, http_scrape},
    namespace::{Namespace, Pair},
    soon,
    tracker::{Tracker, binary},
};

const NAME: &str = "swarms.snapshot";

fn torrent(number: u16) -> InfoHash {
    let mut info_hash = [0x3c; 20];
    info_hash[..2].copy_from_slice(&number.to_be_bytes());
    info_hash
}

fn start<'a>(namespace: &'a Namespace, state: &str, options: &[&str]) -> Daemon<'a> {
    let arguments = [&["run", "--state-dir", state], options].concat();
    let mut daemon = Daemon::start(namespace, Stderr::Read, &arguments);
    daemon.wait_until_it_answers("with a snapshot or without");
    // The last line of its start: until then a signal ends it at once, and nothing is written.
    daemon.wait_for_line("statistics: http://");
    daemon
}

fn stop(mut daemon: Daemon<'_>) -> String {
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
    daemon.log()
}

fn announce(client: &mut UdpClient, torrent: InfoHash, port: u16, left: u64, event: Event) -> Vec<u16> {
    let announce = Announce { left, event: event as u32, ..Announce::new(torrent, port) };
    let mut ports: Vec<_> =
        client.announce(&announce).expect("answered").peers.iter().map(std::net::SocketAddr::port).collect();
    ports.sort_unstable();
    ports
}

/// Two torrents: one with four seeders that have completed the download and three leechers, one
/// that nobody is left of.
fn fill(daemon: &Daemon<'_>) {
    let mut client = daemon.client().expect("a connection id");
    for port in 1..=4 {
        announce(&mut client, torrent(1), port, 0, Event::Completed);
    }
    for port in 11..=13 {
        announce(&mut client, torrent(1), port, 7, Event::Started);
    }
    announce(&mut client, torrent(2), 1, 0, Event::Completed);
    announce(&mut client, torrent(2), 1, 0, Event::Stopped);
}

fn scrape(daemon: &Daemon<'_>) -> Vec<Counts> {
    let mut client = daemon.client().expect("a connection id");
    client.scrape(&[torrent(1), torrent(2), torrent(3)]).expect("answered")
}

const FILLED: [Counts; 3] = [
    Counts { seeders: 4, completed: 4, leechers: 3 },
    Counts { seeders: 0, completed: 1, leechers: 0 },
    Counts { seeders: 0, completed: 0, leechers: 0 },
];

/// What is left of that without peers.
fn counted() -> [Counts; 3] {
    FILLED.map(|counts| Counts { seeders: 0, leechers: 0, ..counts })
}

/// Runs `tracker snapshot`.
fn command(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(binary().expect("a tracker"));
    command.arg("snapshot").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a tracker");
    // Whoever does not read it has closed it.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("a tracker")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn counts_and_if_wanted_peers_are_the_same_after_a_reboot() {
    let namespace = Namespace::new().expect("a namespace");
    let rows: [(&[&str], [Counts; 3]); 3] =
        [(&[], counted()), (&["--snapshot-peers"], FILLED), (&["--snapshot-interval", "off"], [Counts::default(); 3])];
    for (options, expected) in rows {
        let directory = Directory::new("reboot");
        let state = directory.0.to_str().expect("UTF-8");
        let daemon = start(&namespace, state, options);
        fill(&daemon);
        assert_eq!(scrape(&daemon), FILLED, "{options:?}");
        let log = stop(daemon);
        assert!(!log.contains("WARN"), "{options:?}: {log}");
        let path = directory.0.join(NAME);
        assert_eq!(path.exists(), !options.contains(&"off"), "{options:?}");
        if let Ok(metadata) = fs::metadata(&path) {
            assert_eq!(metadata.mode() & 0o7777, 0o600, "{options:?}");
        }
        // Several times: nothing changes.
        for _ in 0..2 {
            let daemon = start(&namespace, state, options);
            assert_eq!(scrape(&daemon), expected, "{options:?}: {}", daemon.log());
            let log = stop(daemon);
            assert!(!log.contains("WARN"), "{options:?}: {log}");
        }
        let daemon = start(&namespace, state, options);
        let mut client = daemon.client().expect("a connection id");
        // The peers that there were, and the downloads of those that are known count once.
        let peers = announce(&mut client, torrent(1), 11, 7, Event::None);
        let all = [1, 2, 3, 4, 12, 13];
        assert_eq!(peers, if expected == FILLED { &all[..] } else { &[] }, "{options:?}");
        announce(&mut client, torrent(1), 1, 0, Event::Completed);
        let again = u32::from(expected != FILLED);
        assert_eq!(scrape(&daemon)[0].completed, expected[0].completed + again, "{options:?}");
        stop(daemon);
    }
}

#[test]
fn what_xdp_has_counted_is_there_after_a_reboot() {
    let directory = Directory::new("xdp");
    let state = directory.0.to_str().expect("UTF-8");
    let pair = Pair::new().expect("two namespaces");
    let server = (Pair::SERVER_V4, 6969).into();
    let options = [
        "--state-dir",
        state,
        "--snapshot-peers",
        "--max-torrents",
        "1000",
        "--max-peers",
        "10000",
        "--max-peers-per-address",
        "0",
        "--max-creations-per-address",
        "0",
    ];
    let interface = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native"];
    let tracker = Tracker::start(&pair.server, &[&options[..], &interface].concat()).expect("it runs");
    let mut client = UdpClient::connected(&pair.client, (Pair::client_v4(0), 0).into(), server).expect("an id");
    for port in 1..=300 {
        announce(&mut client, torrent(1), port, u64::from(port % 2), Event::Completed);
    }
    let expected = [Counts { seeders: 150, completed: 150, leechers: 150 }];
    assert_eq!(client.scrape(&[torrent(1)]).expect("answered"), expected);
    let metrics = tracker.metrics(&pair.server).expect("metrics");
    let by_xdp = [("path", "xdp"), ("request", "announce")];
    assert!(metrics.sum("tracker_requests_answered_total", &by_xdp) >= 300.0, "XDP has answered");
    tracker.stop().expect("ends on SIGTERM");
    let tracker = Tracker::start(&pair.server, &options).expect("it runs");
    assert_eq!(http_scrape(&pair.client, server, &[torrent(1)]).expect("answered"), expected);
    tracker.stop().expect("ends on SIGTERM");
}

#[test]
fn what_was_written_at_an_interval_survives_a_kill() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("kill");
    let state = directory.0.to_str().expect("UTF-8");
    let options = ["--snapshot-interval", "1s", "--snapshot-peers"];
    let mut daemon = start(&namespace, state, &options);
    fill(&daemon);
    let written = || printed(&command(&["export", "--format", "json", "--state-dir", state], ""));
    soon("no snapshot is written", || directory.0.join(NAME).exists() && written().contains("\"leechers\":3"));
    daemon.signal(libc::SIGKILL);
    daemon.wait();
    let daemon = start(&namespace, state, &options);
    assert_eq!(scrape(&daemon), FILLED, "{}", daemon.log());
    stop(daemon);
    // From now on without addresses: the old file goes at once.
    let daemon = start(&namespace, state, &["--snapshot-interval", "1h"]);
    soon("there are addresses still", || !written().contains("seeders"));
    assert_eq!(scrape(&daemon), counted());
    stop(daemon);
}

#[test]
fn a_disk_that_cannot_be_written_is_warned_of_once_and_tried_again() {
    let namespace = Namespace::new().expect("a namespace");
    // What a shell does before it becomes the daemon, in a mount namespace of its own; $D is the
    // state directory. What the log says, and what mends it, seen from outside.
    type Row = (&'static str, &'static str, &'static str, Option<fn(&Path)>);
    let rows: [Row; 4] = [
        (
            "a full disk",
            "mount -t tmpfs -o size=64k none $D; head -c 99999 /dev/zero >$D/full",
            "No space left",
            Some(|at| fs::remove_file(at.join("full")).expect("it is there")),
        ),
        (
            "a full disk with an old snapshot",
            "mount -t tmpfs -o size=64k none $D; $T snapshot import --state-dir $D $L; head -c 99999 /dev/zero >$D/full",
            "No space left",
            Some(|at| fs::remove_file(at.join("full")).expect("it is there")),
        ),
        ("a directory that is read only", "mount -t tmpfs -o ro none $D", "Read-only", None),
        (
            "a directory in its place",
            "mount -t tmpfs none $D; mkdir -p $D/swarms.lock/x",
            "directory",
            Some(|at| fs::remove_dir_all(at.join("swarms.lock")).expect("it is there")),
        ),
    ];
    for (name, script, said, mend) in rows {
        let directory = Directory::new("disk");
        let lines = Directory::new("lines");
        let lines = lines.0.join("lines");
        fs::write(&lines, format!("{}:1:1\n", "3c".repeat(20))).expect("a file");
        let state = directory.0.to_str().expect("UTF-8");
        let binary = binary().expect("a tracker");
        let script = format!("D={state}; T={}; L={}; {script}", binary.display(), lines.display());
        let arguments = ["run", "--state-dir", state, "--snapshot-interval", "1s"];
        let mut daemon = Daemon::start_after(&namespace, &script, Stderr::Read, &arguments);
        daemon.wait_until_it_answers(name);
        let mut client = daemon.client().expect("a connection id");
        for number in 0..400 {
            announce(&mut client, torrent(number), 1, 0, Event::Completed);
        }
        daemon.wait_for_line("swarms.snapshot cannot be written");
        daemon.wait_for_line(said);
        // Twice more.
        thread::sleep(Duration::from_millis(2500));
        daemon.wait_until_it_answers(name);
        let log = daemon.log();
        assert_eq!(log.matches("swarms.snapshot cannot be written").count(), 1, "{name}: {log}");
        let at = daemon.root().join(directory.0.strip_prefix("/").expect("absolute"));
        if name.contains("old") {
            // The old one is as it was.
            let old = printed(&command(&["export", "--snapshot", at.join(NAME).to_str().expect("UTF-8")], ""));
            assert_eq!(old.lines().count(), 1, "{name}: {old}");
        }
        if let Some(mend) = mend {
            mend(&at);
            daemon.wait_for_line("can be written again");
            let now = printed(&command(&["export", "--snapshot", at.join(NAME).to_str().expect("UTF-8")], ""));
            assert!(now.lines().count() >= 400, "{name}: {now}");
        }
        stop(daemon);
    }
}

#[test]
fn a_file_that_is_none_is_reported_set_aside_and_never_fatal() {
    let namespace = Namespace::new().expect("a namespace");
    for (contents, said) in [
        (&b""[..], "is empty"),
        (b"hello", "is no snapshot of this tracker"),
        (b"\x93swarms\n\x07\x00\x00\x00", "is damaged in its header"),
    ] {
        let directory = Directory::new("damaged");
        let state = directory.0.to_str().expect("UTF-8");
        fs::write(directory.0.join(NAME), contents).expect("a file");
        let daemon = start(&namespace, state, &[]);
        fill(&daemon);
        let log = stop(daemon);
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(said), "{said}: {log}");
        let aside = fs::read_dir(&directory.0).expect("it is there").flatten().map(|entry| entry.path());
        let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".aside-")).collect();
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!(fs::read(&aside[0]).expect("a file"), contents);
        let daemon = start(&namespace, state, &[]);
        assert_eq!(scrape(&daemon), counted());
        stop(daemon);
    }
}

#[test]
fn opentrackers_state_is_taken_over_and_given_back() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("import");
    let state = directory.0.join("made");
    let state = state.to_str().expect("UTF-8");
    assert!(!command(&["import", "-", "--state-dir", state], "nothing").status.success(), "nothing is there yet");
    fs::create_dir(state).expect("a directory");
    let hash = |number| torrent(number).map(|byte| format!("{byte:02X}")).concat();
    let lines = format!("{}:100:4\n{}:90:1\nrubbish\n", hash(1), hash(2));
    let imported = command(&["import", "-", "--state-dir", state], &lines);
    assert!(printed(&imported).contains("2 torrents came in, 0 were there before; 1 line was wrong"), "{imported:?}");
    assert!(String::from_utf8_lossy(&imported.stderr).contains("standard input, line 3: "), "{imported:?}");
    let daemon = start(&namespace, state, &[]);
    assert_eq!(scrape(&daemon), counted(), "{}", daemon.log());
    let refused = command(&["import", "-", "--state-dir", state], &lines);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"), "{refused:?}");
    stop(daemon);
    let exported = printed(&command(&["export", "--state-dir", state], ""));
    let mut lines: Vec<_> = exported.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2, "{exported}");
    assert!(lines[0].starts_with(&hash(1)) && lines[0].ends_with(":4"), "{exported}");
    let json = printed(&command(&["export", "-", "--format", "json", "--state-dir", state], ""));
    assert!(json.lines().all(|line| line.starts_with("{\"info_hash\":\"") && line.ends_with('}')), "{json}");
    for wrong in [&["export", "--state-dir", "/nonexistent"][..], &["export", "--snapshot", "/dev/null"], &["export"]] {
        assert!(!command(wrong, "").status.success(), "{wrong:?}");
    }
}
