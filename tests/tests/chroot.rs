//! A tracker whose root directory is another one, with all that goes on afterwards: XDP on a veth pair, pins,
//! a reload, snapshots, a takeover, and the end; and what is refused because it could not.

use anyhow::{Result, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tracker_tests::{
    bep15::{Announce, InfoHash, Reply},
    client::UdpClient,
    namespace::Pair,
    soon,
    temporary::Directory,
    tracker::Tracker,
    workspace::OBJECT_VARIABLE,
};

const HASH: InfoHash = [0x5d; 20];

/// A root directory with file systems of its own, unmounted on drop.
struct Root {
    mounts: Vec<PathBuf>,
    directory: Directory,
}

impl Root {
    fn new(name: &str) -> Self {
        let directory = Directory::new(name);
        fs::create_dir(directory.path("lists")).expect("writable");
        fs::write(directory.path("lists/deny"), "").expect("writable");
        Self { mounts: Vec::new(), directory }
    }

    fn mount(&mut self, kind: &str, name: &str) -> Result<()> {
        let path = self.directory.path(name);
        fs::create_dir(&path)?;
        ensure!(Command::new("mount").args(["-t", kind, kind]).arg(&path).status()?.success(), "{name}");
        self.mounts.push(path);
        Ok(())
    }

    fn name(&self, name: &str) -> String {
        self.directory.path(name).to_str().expect("UTF-8").into()
    }

    fn root(&self) -> String {
        self.name("").trim_end_matches('/').into()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for path in &self.mounts {
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// Starts a tracker with the object that is a part of it: any other is outside of the new root.
fn start(pair: &Pair, options: &[&str], prepare: impl FnOnce(&mut Command)) -> Result<Tracker> {
    Tracker::start_in(&pair.server, options, |command| {
        command.env_remove(OBJECT_VARIABLE);
        prepare(command);
    })
}

fn client(pair: &Pair) -> UdpClient {
    let server = SocketAddr::new(Pair::SERVER_V4.into(), 6969);
    UdpClient::connected(&pair.client, SocketAddr::new(Pair::client_v4(0).into(), 0), server).expect("an id")
}

#[test]
fn everything_goes_on_in_another_root() {
    let mut root = Root::new("chroot");
    root.mount("proc", "proc").expect("root");
    root.mount("sysfs", "sys").expect("root");
    root.mount("bpf", "bpf").expect("root");
    let pair = Pair::new().expect("two namespaces");
    let (directory, config, state, pins) =
        (root.root(), root.name("tracker.toml"), root.name("state"), root.name("bpf/t"));
    fs::write(
        &config,
        format!("interval = 1000\ninterval-jitter = 0\ndeny-list = [\"{}\"]\n", root.name("lists/deny")),
    )
    .expect("writable");
    let options = [
        &["--chroot", &directory, "--in-place-upgrade=off", "--config", &config, "--state-dir", &state][..],
        &["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--pin-path", &pins, "--max-torrents", "1000"],
    ]
    .concat();
    for user in [&[][..], &["--user", "nobody"]] {
        let tracker = start(&pair, &[&options[..], user].concat(), |_| ()).expect("it runs");
        let link = fs::read_link(format!("/proc/{}/root", tracker.process())).expect("a process");
        assert_eq!(link, Path::new(&directory));
        let metrics = || tracker.metrics(&pair.server).expect("metrics");
        let mut client = client(&pair);
        assert_eq!(client.announce(&Announce::new(HASH, 1)).expect("an answer").interval, 1000);
        assert!(metrics().sum("tracker_requests_answered_total", &[("path", "xdp")]) > 0.0);
        assert!(metrics().sum("process_open_fds", &[]) > 0.0, "it has /proc");
        // All that a reload reads.
        fs::write(root.name("lists/deny"), format!("{}\n", "5d".repeat(20))).expect("writable");
        fs::write(&config, fs::read_to_string(&config).expect("there").replace("1000", "900")).expect("writable");
        tracker.signal(libc::SIGHUP).expect("it runs");
        soon("it reloads", || tracker.log().contains("the configuration is in force; changed: interval"));
        let refused = Announce { connection_id: client.connection_id(), ..Announce::new(HASH, 1) };
        soon(
            "the list holds",
            || matches!(client.exchange(&refused.bytes()), Ok(Reply::Error { message, .. }) if message == "Torrent is not allowed"),
        );
        fs::write(root.name("lists/deny"), "").expect("writable");
        fs::write(&config, fs::read_to_string(&config).expect("there").replace("900", "1000")).expect("writable");
        // The next one takes over what this one has pinned, and meanwhile XDP answers.
        assert!(tracker.stop().expect("it ran").success());
        assert!(
            Path::new(&state).join("connection.key").exists() && Path::new(&state).join("swarms.snapshot").exists()
        );
        client.connect().expect("XDP goes on");
    }
    let tracker = start(&pair, &options, |_| ()).expect("it runs");
    soon("taken over", || tracker.log().contains("taken over from the tracker before"));
    assert!(tracker.stop().expect("it ran").success());
}

#[test]
fn what_could_not_go_on_is_refused() {
    let (mut root, other) = (Root::new("chroot-refused"), Root::new("chroot-other"));
    let pair = Pair::new().expect("two namespaces");
    root.mount("bpf", "bpf").expect("root");
    let (directory, pins, list) = (root.root(), root.name("bpf/t"), other.name("lists/deny"));
    let base = ["--chroot", &directory, "--in-place-upgrade=off", "--max-torrents", "1000"];
    let interface = ["--interface", Pair::SERVER_INTERFACE, "--pin-path", &pins];
    let rows: [(&str, Vec<&str>, &str); 5] = [
        ("an upgrade", vec!["--chroot", &directory], "takes --in-place-upgrade=off"),
        ("a list", [&base[..], &["--deny-list", &list]].concat(), "is outside of --chroot"),
        ("state", [&base[..], &["--state-dir", "/var/lib/elsewhere"]].concat(), "--state-dir"),
        ("XDP", [&base[..], &interface].concat(), "mount -t proc proc"),
        ("no directory", vec!["--chroot", "/nonexistent", "--in-place-upgrade=off"], "cannot look at /nonexistent"),
    ];
    for (name, options, part) in rows {
        let error = start(&pair, &options, |_| ()).err().unwrap_or_else(|| panic!("{name}"));
        assert!(format!("{error:#}").contains(part), "{name}: {error:#}");
    }
    assert!(!Path::new(&pins).exists(), "nothing is left pinned");
    let prepare = |command: &mut Command| {
        command.env("NOTIFY_SOCKET", "/run/no-such-socket");
    };
    let error = start(&pair, &base, prepare).map(drop).expect_err("not found");
    assert!(format!("{error:#}").contains("RootDirectory="), "{error:#}");
}
