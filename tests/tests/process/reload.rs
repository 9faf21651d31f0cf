//! SIGHUP: the configuration is read again, while the tracker goes on answering.

use crate::daemon::{ANY, AT, Daemon, Directory, Stderr, fifo};
use std::{fs, path::Path};
use tracker_tests::{bep15::Announce, client::UdpClient, namespace::Namespace};

/// What a client is told: the interval, and how many peers of three others.
fn told(namespace: &Namespace) -> (i64, usize) {
    let mut client = UdpClient::connected(namespace, ANY, AT).expect("a connection id");
    let announced = client.announce(&Announce::new([1; 20], 1)).expect("an answer");
    (announced.interval, announced.peers.len())
}

#[test]
fn configuration_is_read_again_and_a_wrong_one_changes_nothing() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("reload");
    let path = directory.0.join("tracker.toml");
    let write = |text: &str| fs::write(&path, text).expect("a file");
    write("interval = 600\ninterval-jitter = 0\n");
    let mut daemon = Daemon::start(
        &namespace,
        Stderr::Read,
        &["run", "--give-local-peers", "--config", path.to_str().expect("UTF-8")],
    );
    daemon.wait_until_it_answers("before");
    let mut others = UdpClient::connected(&namespace, ANY, AT).expect("a connection id");
    for port in 2..5 {
        others.announce(&Announce::new([1; 20], port)).expect("an answer");
    }
    assert_eq!(told(&namespace), (600, 3));

    type Row = (&'static str, fn(&Path), &'static [&'static str], (i64, usize));
    let rows: [Row; 10] = [
        ("as it was", |_| {}, &["in force, and as it was"], (600, 3)),
        (
            "changed",
            |path| fs::write(path, "interval = 900\ninterval-jitter = 0\ndefault-numwant = 2\n").expect("a file"),
            &["changed: interval, default-numwant, peer-timeout"],
            (900, 2),
        ),
        (
            "changed on the command line's side",
            |path| {
                fs::write(path, "interval = 900\ninterval-jitter = 0\ngive-local-peers = false\n").expect("a file");
            },
            &["changed: default-numwant"],
            (900, 3),
        ),
        (
            "wrong",
            |path| fs::write(path, "interval = 1000\nintervall = 5\n").expect("a file"),
            &["not changed", "line 2", "is interval meant?"],
            (900, 3),
        ),
        (
            "out of range",
            |path| fs::write(path, "default-numwant = 1\ninterval = 5\n").expect("a file"),
            &["not changed", "line 2", "60 to 18000"],
            (900, 3),
        ),
        (
            "with what takes a restart",
            |path| {
                fs::write(path, "interval = 960\ninterval-jitter = 0\nmax-torrents = 7\nudp = \"off\"\n")
                    .expect("a file");
            },
            &["udp, max-torrents changed, which takes a restart", "changed: interval, peer-timeout"],
            (960, 3),
        ),
        ("no UTF-8", |path| fs::write(path, b"interval = 5\xff\n").expect("a file"), &["not changed"], (960, 3)),
        ("gone", |path| fs::remove_file(path).expect("a file"), &["not changed", "No such file"], (960, 3)),
        ("a pipe", fifo, &["not changed", "no file that could be read again"], (960, 3)),
        (
            "there again",
            |path| {
                fs::remove_file(path).expect("a pipe");
                fs::write(path, "interval = 60\ninterval-jitter = 0\n").expect("a file");
            },
            &["changed: interval"],
            (60, 3),
        ),
    ];
    for (name, prepare, lines, expected) in rows {
        prepare(&path);
        let before = daemon.log().len();
        daemon.signal(libc::SIGHUP);
        for line in lines {
            daemon.wait_for_line_after(before, line);
        }
        assert_eq!(told(&namespace), expected, "{name}: {}", &daemon.log()[before..]);
    }
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
}
