//! Real BitTorrent clients, each on a host of its own, that find each other through the tracker
//! alone and finish a transfer.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    namespace::{End, Namespace, connect},
    pass::Attached,
    supervised::{Ending, Printing, Supervised},
    temporary::Directory,
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 6969;

/// Debian's Python, which is the one that has Debian's libtorrent.
const PYTHON: &str = "/usr/bin/python3";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_peer.py");

/// How long a transfer may take; they take a few seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often the client that downloads is started.
const STARTS: u32 = 3;

/// What is transferred: a few megabytes that no two pieces of are alike.
fn content() -> Vec<u8> {
    (0..700_000_u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect()
}

/// A host of a client, which is joined to the tracker's host and reaches the other client through
/// it.
struct Host {
    _pass: Attached,
    namespace: Namespace,
    number: u8,
}

impl Host {
    fn new(server: &Namespace, number: u8) -> Self {
        let namespace = Namespace::new().expect("a namespace");
        let addresses = |host: u8| -> [(IpAddr, u8); 2] {
            [
                (Ipv4Addr::new(198, 18, number, host).into(), 24),
                (Ipv6Addr::new(0xfd00, 0, 0, number.into(), 0, 0, 0, host.into()).into(), 64),
            ]
        };
        let (near, far) = (addresses(1), addresses(2));
        let interface = format!("client{number}");
        connect(
            End { namespace: Some(server), interface: &interface, mac: [2, 0, 0, number, 0, 1], addresses: &near },
            End { namespace: Some(&namespace), interface: "eth0", mac: [2, 0, 0, number, 0, 2], addresses: &far },
        )
        .expect("a veth pair");
        for (gateway, _) in near {
            namespace.ip(&format!("route add default via {gateway}")).expect("a route");
        }
        let end = End { namespace: Some(&namespace), interface: "eth0", mac: [0; 6], addresses: &[] };
        let pass = end.pass().expect("an XDP program");
        Self { _pass: pass, namespace, number }
    }

    fn address(&self, ipv4: bool) -> IpAddr {
        if ipv4 {
            Ipv4Addr::new(198, 18, self.number, 2).into()
        } else {
            Ipv6Addr::new(0xfd00, 0, 0, self.number.into(), 0, 0, 0, 2).into()
        }
    }

    /// The tracker, as it is reached from here.
    fn tracker(&self, ipv4: bool) -> SocketAddr {
        let address: IpAddr = if ipv4 {
            Ipv4Addr::new(198, 18, self.number, 1).into()
        } else {
            Ipv6Addr::new(0xfd00, 0, 0, self.number.into(), 0, 0, 0, 1).into()
        };
        SocketAddr::new(address, PORT)
    }
}

/// A client's process, killed on drop.
struct Client(Supervised);

impl Client {
    fn start(command: Command) -> Self {
        Self(Supervised::start(command, Printing::Kept, Ending::AT_ONCE).expect("a client is started"))
    }

    /// Waits until `done`, or until the client has printed a line that is `line`. False if neither
    /// is so after [`PATIENCE`].
    fn wait(&self, line: &str, mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.0.output().lines().any(|said| said == line) || done() {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

/// A directory for the two ends of a transfer.
fn directory(name: &str) -> Directory {
    let directory = Directory::new(name);
    for end in ["seed", "leech"] {
        fs::create_dir(directory.path(end)).expect("a directory");
    }
    directory
}

/// The clients that download.
#[derive(Clone, Copy, Debug)]
enum Leech {
    Libtorrent,
    Aria2,
    Transmission,
}

impl Leech {
    fn command(self, host: &Host, ipv4: bool, torrent: &Path, directory: &Path) -> Command {
        match self {
            Self::Libtorrent => libtorrent(host, ipv4, torrent, directory),
            Self::Aria2 => {
                let mut command = host.namespace.command("aria2c");
                command.args([
                    "--no-conf",
                    "--enable-dht=false",
                    "--enable-dht6=false",
                    "--bt-enable-lpd=false",
                    "--enable-peer-exchange=false",
                    "--seed-time=0",
                    "--listen-port=6882",
                    "--file-allocation=none",
                ]);
                command.arg("--dir").arg(directory).arg(torrent);
                command
            }
            Self::Transmission => {
                let configuration = directory.join("transmission");
                fs::create_dir_all(&configuration).expect("a directory");
                let settings = r#"{"dht-enabled":false,"lpd-enabled":false,"pex-enabled":false,"utp-enabled":false}"#;
                fs::write(configuration.join("settings.json"), settings).expect("a file");
                let mut command = host.namespace.command("transmission-cli");
                command.arg("--config-dir").arg(&configuration).arg("--download-dir").arg(directory);
                command.args(["--port", "6882", "--no-portmap"]).arg(torrent);
                command
            }
        }
    }
}

fn libtorrent(host: &Host, ipv4: bool, torrent: &Path, directory: &Path) -> Command {
    let mut command = host.namespace.command(PYTHON);
    let listen = SocketAddr::new(host.address(ipv4), 6881).to_string();
    command.args([PEER, "share"]).arg(torrent).arg(directory).arg(listen);
    command
}

/// One client has a file, the other one wants it, and only the tracker can bring them together.
/// Gives the tracker's metrics afterwards.
fn transfer(scheme: &str, ipv4: bool, leech: Leech) -> Metrics {
    let server = Namespace::new().expect("a namespace");
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        server.set(setting, "1").expect("a router");
    }
    let (one, other) = (Host::new(&server, 1), Host::new(&server, 2));
    let options =
        ["--interface", "client1", "--interface", "client2", "--xdp-mode", "native", "--max-torrents", "1000"];
    let tracker = Tracker::start(&server, &options).expect("the tracker runs");

    let directory = directory(&format!("{scheme}-{ipv4}"));
    let content = content();
    let (file, copy) = (directory.path("seed/file"), directory.path("leech/file"));
    fs::write(&file, &content).expect("a file");
    let torrent = |host: &Host| {
        let path = directory.path(&format!("{}.torrent", host.number));
        let url = format!("{scheme}://{}/announce", host.tracker(ipv4));
        let made = Command::new(PYTHON).args([PEER, "create"]).arg(&file).arg(&url).arg(&path).output();
        let made = made.expect("Debian's Python");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    };

    let seed = Client::start(libtorrent(&one, ipv4, &torrent(&one), &directory.path("seed")));
    assert!(seed.wait("announced", || false), "{}", seed.0.output());
    // Where the one connection between the two fails, the client asks for peers again after half an
    // hour; its user would start it anew.
    let path = torrent(&other);
    let complete = (0..STARTS).any(|_| {
        let leech = Client::start(leech.command(&other, ipv4, &path, &directory.path("leech")));
        let complete = leech.wait("complete", || fs::read(&copy).is_ok_and(|copied| copied == content));
        if !complete {
            println!("the client has not got it, and said: {}", leech.0.output());
        }
        complete
    });
    assert!(complete, "nothing was transferred");
    assert!(fs::read(&copy).expect("a copy") == content, "the copy is not like the original");
    tracker.metrics(&server).expect("metrics")
}

/// Announces answered by a path.
fn announces(metrics: &Metrics, path: &str, family: &str) -> u64 {
    let labels = [("path", path), ("request", "announce"), ("family", family)];
    metrics.sum("tracker_requests_answered_total", &labels) as u64
}

#[test]
fn transfer_is_finished_by_udp_over_ipv4() {
    let metrics = transfer("udp", true, Leech::Transmission);
    assert!(announces(&metrics, "xdp", "ipv4") >= 2);
    assert_eq!(announces(&metrics, "udp_socket", "ipv4") + announces(&metrics, "http", "ipv4"), 0);
}

#[test]
fn transfer_is_finished_by_udp_over_ipv6() {
    // Neither transmission 3.00 nor aria2 1.36 knows UDP trackers over IPv6.
    let metrics = transfer("udp", false, Leech::Libtorrent);
    assert!(announces(&metrics, "xdp", "ipv6") >= 2);
    assert_eq!(announces(&metrics, "udp_socket", "ipv6") + announces(&metrics, "http", "ipv6"), 0);
}

#[test]
fn transfer_is_finished_by_http() {
    let metrics = transfer("http", true, Leech::Aria2);
    assert!(announces(&metrics, "http", "ipv4") >= 2);
    assert_eq!(announces(&metrics, "udp_socket", "ipv4") + announces(&metrics, "xdp", "ipv4"), 0);
}
