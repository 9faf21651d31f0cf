//! The hosts: trackers with their clients, and the one with the NATS server.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{Announce, Event, InfoHash},
    client::UdpClient,
    command,
    namespace::{End, Namespace, Pair, connect},
    supervised::{Ending, Printing, Supervised},
    tracker::{Metrics, Tracker},
};

/// Trackers.
pub const NODES: usize = 3;

/// How long anything may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(40);

const NATS: u16 = 4222;

/// Waits until something is so.
pub fn eventually<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + tracker_tests::patience(PATIENCE);
    loop {
        if let Some(value) = is() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: this has not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A tracker, its host and a host of clients.
pub struct Site {
    pub tracker: Tracker,
    pub pair: Pair,
}

impl Site {
    /// Starts a tracker with XDP.
    pub fn start(pair: Pair, number: usize, options: &[&str]) -> Self {
        Self::start_in_mode(pair, number, "native", options)
    }

    /// Starts one with XDP in this mode.
    pub fn start_in_mode(pair: Pair, number: usize, mode: &str, options: &[&str]) -> Self {
        let name = format!("node{number}");
        let usual = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", mode, "--cluster-node", &name];
        let sizes = ["--max-torrents", "10000", "--max-peers", "100000", "--max-peers-per-address", "0"];
        let more = ["--max-creations-per-address", "0"];
        let tracker = Tracker::start(&pair.server, &[&usual[..], &sizes, &more, options].concat()).expect("it runs");
        Self { tracker, pair }
    }

    /// A client that has a connection id.
    pub fn client(&self, number: u8, v6: bool) -> UdpClient {
        let (own, tracker): (IpAddr, IpAddr) = if v6 {
            (Pair::client_v6(number).into(), Pair::SERVER_V6.into())
        } else {
            (Pair::client_v4(number).into(), Pair::SERVER_V4.into())
        };
        UdpClient::connected(&self.pair.client, SocketAddr::new(own, 0), SocketAddr::new(tracker, 6969)).expect("an id")
    }

    /// Announces a client's port; whom it is told of.
    pub fn announce(&self, client: u8, info_hash: &InfoHash, port: u16, seeder: bool, event: Event) -> Vec<SocketAddr> {
        let left = if seeder { 0 } else { 9 };
        let announce = Announce { left, event: event as u32, ..Announce::new(*info_hash, port) };
        self.client(client, false).announce(&announce).expect("answered").peers
    }

    /// The same over IPv6.
    pub fn announce_v6(&self, client: u8, info_hash: &InfoHash, port: u16) {
        self.client(client, true).announce(&Announce::new(*info_hash, port)).expect("answered");
    }

    /// Seeders, leechers and downloads.
    pub fn counts(&self, info_hash: &InfoHash) -> (u32, u32, u32) {
        let counts = self.client(9, false).scrape(&[*info_hash]).expect("answered")[0];
        (counts.seeders, counts.leechers, counts.completed)
    }

    /// Peers of all these torrents.
    pub fn peers(&self, torrents: &[InfoHash]) -> u32 {
        let counts = self.client(9, false).scrape(torrents).expect("answered");
        counts.iter().map(|counts| counts.seeders + counts.leechers).sum()
    }

    pub fn metrics(&self) -> Metrics {
        self.tracker.metrics(&self.pair.server).expect("metrics")
    }

    /// What it has dropped, by reason.
    pub fn dropped(&self) -> BTreeMap<String, f64> {
        let of = |sample: &str| {
            let labels = sample.strip_prefix("tracker_cluster_dropped_total{reason=\"")?;
            Some(labels.trim_end_matches("\"}").to_owned())
        };
        self.metrics().0.iter().filter_map(|(sample, value)| Some((of(sample)?, *value))).collect()
    }
}

/// All of them.
pub struct Farm {
    pub sites: [Option<Site>; NODES],
    /// Hosts without a tracker.
    pairs: [Option<Pair>; NODES],
    servers: [Option<Supervised>; 2],
    pub bus: Namespace,
}

impl Farm {
    /// The hosts, and a server.
    pub fn new() -> Self {
        let mut farm = Self::without_server();
        farm.start_server();
        farm
    }

    /// The hosts alone.
    pub fn without_server() -> Self {
        let bus = Namespace::new().expect("a namespace");
        let pairs = std::array::from_fn(|number| {
            let pair = Pair::new().expect("namespaces");
            let (here, there) = (format!("bus{number}"), "bus");
            let address = |last| IpAddr::from(Ipv4Addr::new(10, 9, number as u8, last));
            let mac = |last| [0x02, 0, 0, 9, number as u8, last];
            let one = End { namespace: Some(&bus), interface: &here, mac: mac(1), addresses: &[(address(1), 24)] };
            let other =
                End { namespace: Some(&pair.server), interface: there, mac: mac(2), addresses: &[(address(2), 24)] };
            connect(one, other).expect("a cable");
            Some(pair)
        });
        Self { sites: [const { None }; NODES], pairs, servers: [None, None], bus }
    }

    pub fn start_server(&mut self) {
        self.start_server_with(0, &["--addr", "0.0.0.0", "--port", "4222"]);
    }

    /// One of two servers, at the port of its number.
    pub fn start_server_with(&mut self, number: u16, options: &[&str]) {
        let server = start_nats(&self.bus, NATS + number, options);
        self.servers[usize::from(number)] = Some(server);
    }

    /// kill -9.
    pub fn kill_server(&mut self) {
        self.kill_server_of(0);
    }

    /// The same of one of two.
    pub fn kill_server_of(&mut self, number: u16) {
        drop(self.servers[usize::from(number)].take());
    }

    pub fn start(&mut self, number: usize, options: &[&str]) {
        let server = format!("nats://10.9.{number}.1");
        self.start_with(number, &[&["--cluster", &server][..], options].concat());
    }

    /// With all options.
    pub fn start_with(&mut self, number: usize, options: &[&str]) {
        let pair = self.pair(number);
        self.sites[number] = Some(Site::start(pair, number, options));
    }

    /// A host without a tracker, for one.
    pub fn pair(&mut self, number: usize) -> Pair {
        self.pairs[number].take().expect("a host without a tracker")
    }

    /// kill -9.
    pub fn kill(&mut self, number: usize) {
        let Site { tracker, pair } = self.sites[number].take().expect("a tracker");
        tracker.kill().expect("it runs");
        self.pairs[number] = Some(pair);
    }

    pub fn site(&self, number: usize) -> &Site {
        self.sites[number].as_ref().expect("a tracker")
    }

    /// Waits until these have heard of each other.
    pub fn eventually_connected(&self, numbers: &[usize]) {
        for number in numbers {
            eventually("all are connected", || {
                let metrics = self.site(*number).metrics();
                (metrics.sum("tracker_cluster_nodes", &[]) as usize == numbers.len() - 1).then_some(())
            });
        }
    }

    /// So many of a hundred packets between a tracker and the server are lost, in both directions.
    pub fn lose(&self, number: usize, percent: u32) {
        let nft = |rules: &str| {
            let mut nft = self.bus.command("nft");
            command::output(nft.arg(rules)).expect("nftables");
        };
        let table = format!("inet loss{number}");
        nft(&format!("add table {table}; delete table {table}"));
        if percent > 0 {
            let share = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
            let rule = |hook: &str, interface: &str| {
                format!(
                    "add chain {table} {hook} {{ type filter hook {hook} priority 0; }}; \
                     add rule {table} {hook} {interface} bus{number} {share} drop;"
                )
            };
            nft(&format!("add table {table}; {} {}", rule("input", "iifname"), rule("output", "oifname")));
        }
    }

    /// Publishes something, as somebody else may.
    pub fn publish(&self, subject: &str, payload: &[u8]) {
        let mut bus = self.bus();
        assert!(bus.publish(subject, payload) && bus.is_heard(), "the server hung up");
    }

    /// Somebody else's connection to the server.
    pub fn bus(&self) -> Bus {
        let stream = self.bus.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, NATS))).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut bus = Bus { writer: stream.try_clone().expect("a socket"), reader: BufReader::new(stream) };
        bus.writer.write_all(b"CONNECT {\"verbose\":false}\r\n").expect("sent");
        bus
    }
}

/// A connection to a NATS server, by its protocol and nothing else.
pub struct Bus {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Bus {
    /// Publishes a message, at a subject with or without one for answers. False if the server has hung up.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> bool {
        let head = format!("PUB {subject} {}\r\n", payload.len());
        self.writer.write_all(&[head.as_bytes(), payload, b"\r\n"].concat()).is_ok()
    }

    /// Whether the server has read all that was sent.
    pub fn is_heard(&mut self) -> bool {
        self.writer.write_all(b"PING\r\n").is_ok() && (0..1000).any(|_| self.line() == "PONG")
    }

    /// Asks for all messages of a subject.
    pub fn subscribe(&mut self, subject: &str) {
        self.writer.write_all(format!("SUB {subject} 1\r\n").as_bytes()).expect("sent");
    }

    /// The next message.
    pub fn received(&mut self) -> Vec<u8> {
        loop {
            let line = self.line();
            if line == "PING" {
                self.writer.write_all(b"PONG\r\n").expect("sent");
            }
            if let Some(head) = line.strip_prefix("MSG ") {
                let length: usize = head.rsplit(' ').next().and_then(|length| length.parse().ok()).expect("a length");
                let mut payload = vec![0; length + 2];
                self.reader.read_exact(&mut payload).expect("a message");
                payload.truncate(length);
                return payload;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).expect("an answer");
        assert!(length > 0, "the server hung up");
        line.trim_end().to_owned()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // Before their namespaces.
        for site in &mut self.sites {
            drop(site.take());
        }
        self.servers.iter_mut().for_each(|server| drop(server.take()));
    }
}

/// A NATS server that listens at a port.
pub fn start_nats(namespace: &Namespace, port: u16, options: &[&str]) -> Supervised {
    let program = command::find("nats-server", &["/usr/sbin".as_ref()]).expect("nats-server (Debian's package)");
    let mut command = namespace.command(program);
    command.args(options);
    let mut server = Supervised::start(command, Printing::Kept, Ending::AT_ONCE).expect("it starts");
    server
        .wait_until_ready(PATIENCE, || {
            namespace.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).map(drop).map_err(Into::into)
        })
        .expect("it listens");
    server
}

/// A message of version 1 with a leecher, as it is documented.
pub fn version_1(address: &[u8; 4], info_hash: &InfoHash) -> Vec<u8> {
    let mut message = b"TC\x01\0".to_vec();
    message.extend_from_slice(&77_u64.to_le_bytes());
    message.extend_from_slice(&5_u32.to_le_bytes());
    message.extend_from_slice(&[info_hash[0] >> 2, 0]);
    message.extend_from_slice(&[0, 0, 1, 0]);
    message.extend_from_slice(info_hash);
    message.extend_from_slice(address);
    message.extend_from_slice(&6881_u16.to_be_bytes());
    message
}
