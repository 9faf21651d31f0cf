//! The HTTP threads as a client sees them: a real server on loopback with a store in ordinary memory.

use super::{
    bencode::reading::{Value, read},
    failure::Failure,
    *,
};
use crate::{
    memory::Path,
    sizes::{self, Sizes},
    statistics::{Interfaces, http::HttpEvent},
};
use std::{
    collections::{BTreeSet, HashMap},
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Instant,
};
use tracker_common::store::{Announcement, PeerEvent, V4, V6, update};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

const INTERVAL: u32 = 1800;
const JITTER: u32 = 180;

fn store(torrents: u64) -> Arc<Store> {
    let limits = sizes::Limits { torrents, peers_v4: 4096, peers_v6: 4096 };
    let store = Arc::new(Store::anonymous(&Sizes::new(&limits).expect("small")).expect("a few pages"));
    let settings = store.settings();
    settings.minute.store(1000);
    settings.interval.store(INTERVAL);
    settings.interval_jitter.store(JITTER);
    settings.want_default.store(50);
    settings.want_max_v4.store(200);
    settings.want_max_v6.store(74);
    let mut random = Random(1);
    for key in &settings.hash_keys {
        key.store(random.next() << 32 ^ random.next());
    }
    store
}

/// A fixed sequence of numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 32) as usize % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

fn context(store: &Arc<Store>, limits: Limits) -> Arc<Context> {
    let statistics = Statistics::new(store.clone(), Arc::default(), None, Interfaces::default());
    Arc::new(Context::new(store.clone(), limits, Arc::new(statistics)))
}

struct Server {
    address: SocketAddr,
    store: Arc<Store>,
    context: Arc<Context>,
    shutdown: Shutdown,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    fn start(ip: IpAddr, store: Arc<Store>, limits: Limits) -> Self {
        let context = context(&store, limits);
        let shutdown = Shutdown::default();
        let listener = bind(SocketAddr::new(ip, 0), 1).expect("a free port");
        let address = listener.address;
        let threads = serve(vec![listener], &context, &shutdown).expect("a thread");
        Self { address, store, context, shutdown, threads }
    }

    fn plain() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), store(1000), Limits::default())
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    fn get(&self, target: &str) -> Response {
        let mut client = self.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        let response = client.response();
        assert!(client.is_closed(), "{target}");
        response
    }

    fn announce(&self, query: &str) -> Value {
        self.get(&format!("/announce?{query}")).value()
    }

    fn counted(&self, event: HttpEvent) -> u64 {
        self.context.statistics.snapshot().http.event(event)
    }

    /// Waits until something is so: connections end a little after their clients have seen the end.
    fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < PATIENCE, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.begin();
        for thread in self.threads.drain(..) {
            let result = thread.join();
            assert!(thread::panicking() || result.is_ok(), "an HTTP thread panicked");
        }
    }
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug)]
struct Response {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Response {
    fn value(&self) -> Value {
        read(&self.body, true).unwrap_or_else(|| panic!("not bencode: {}", String::from_utf8_lossy(&self.body)))
    }

    fn failure(&self) -> String {
        let value = self.value();
        String::from_utf8(value.bytes("failure reason").expect("a failure").to_vec()).expect("text")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("TCP");
        Self { stream, received: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is open");
    }

    /// False at the end of the connection.
    fn receive(&mut self) -> bool {
        let mut space = [0; 65536];
        match self.stream.read(&mut space) {
            Ok(count) => {
                self.received.extend_from_slice(&space[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// Whether the server closes the connection without sending anything more.
    fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.receive()
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.receive(), "closed after {:?}", String::from_utf8_lossy(&self.received));
        }
        self.received.drain(..count).collect()
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2);
                return String::from_utf8(line[..end].to_vec()).expect("ASCII");
            }
            assert!(self.receive(), "closed after {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    fn head(&mut self) -> Response {
        let status_line = self.line();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {status_line}"));
        let mut headers = HashMap::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Response { status, headers, body: Vec::new() };
            }
            let (name, value) = line.split_once(": ").expect("a header line");
            assert_eq!(headers.insert(name.to_lowercase(), value.to_owned()), None, "{name} appears twice");
        }
    }

    fn response(&mut self) -> Response {
        let mut response = self.head();
        if let Some(length) = response.headers.get("content-length") {
            response.body = self.take(length.parse().expect("a number"));
        } else if response.headers.contains_key("transfer-encoding") {
            loop {
                let size = usize::from_str_radix(&self.line(), 16).expect("a chunk size");
                response.body.extend(self.take(size));
                assert_eq!(self.line(), "");
                if size == 0 {
                    break;
                }
            }
        } else {
            while self.receive() {}
            response.body = std::mem::take(&mut self.received);
        }
        response
    }
}

const HASH: &str = "aaaaaaaaaaaaaaaaaaaa";

fn peers(value: &Value, key: &str, stride: usize) -> BTreeSet<Vec<u8>> {
    let bytes = value.bytes(key).unwrap_or_else(|| panic!("no {key} in {value:?}"));
    assert!(bytes.len().is_multiple_of(stride));
    let peers: BTreeSet<_> = bytes.chunks(stride).map(<[u8]>::to_vec).collect();
    assert_eq!(peers.len(), bytes.len() / stride, "a peer appears twice");
    peers
}

fn loopback(port: u16) -> Vec<u8> {
    [&[127, 0, 0, 1][..], &port.to_be_bytes()].concat()
}

fn fill_v4(store: &Arc<Store>, count: u16, seeder: bool) {
    let handle = store.handle(Path::Http);
    for number in 0..count {
        let peer = V4::key([10, 0, (number >> 8) as u8, number as u8], 1000 + number);
        let info_hash = HASH.as_bytes().try_into().expect("20 bytes");
        update::<_, V4>(&handle, &Announcement { info_hash, peer, seeder, event: PeerEvent::None }).expect("room");
    }
}

fn fill_v6(store: &Arc<Store>, count: u16, seeder: bool) {
    let handle = store.handle(Path::Http);
    for number in 0..count {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).octets();
        let info_hash = HASH.as_bytes().try_into().expect("20 bytes");
        let announcement = Announcement { info_hash, peer: V6::key(ip, 1000 + number), seeder, event: PeerEvent::None };
        update::<_, V6>(&handle, &announcement).expect("room");
    }
}

#[test]
fn a_swarm_comes_together() {
    let server = Server::plain();
    let first = server.announce(&format!("info_hash={HASH}&peer_id=-XX0001-123456789012&port=1&left=5&event=started"));
    assert_eq!(first.number("complete"), Some(0));
    assert_eq!(first.number("incomplete"), Some(1));
    assert_eq!(first.number("downloaded"), Some(0));
    assert_eq!(first.bytes("peers"), Some(&b""[..]), "never the asker itself, but always there");
    assert_eq!(first.get("peers6"), None);
    assert_eq!(first.bytes("external ip"), Some(&[127, 0, 0, 1][..]));
    assert_eq!(first.number("min interval"), Some(u64::from(INTERVAL / 2)));

    let second = server.announce(&format!("info_hash={HASH}&port=2&left=0"));
    assert_eq!((second.number("complete"), second.number("incomplete")), (Some(1), Some(1)));
    assert_eq!(peers(&second, "peers", 6), BTreeSet::from([loopback(1)]));

    let seeder = server.announce(&format!("info_hash={HASH}&port=3&left=0"));
    assert_eq!(peers(&seeder, "peers", 6), BTreeSet::from([loopback(1)]), "a seeder gets no seeders");

    let completed = server.announce(&format!("info_hash={HASH}&port=1&left=0&event=completed"));
    assert_eq!((completed.number("complete"), completed.number("downloaded")), (Some(3), Some(1)));
    let again = server.announce(&format!("info_hash={HASH}&port=1&left=0&event=completed"));
    assert_eq!(again.number("downloaded"), Some(1), "counted once");

    let stopped = server.announce(&format!("info_hash={HASH}&port=2&event=stopped"));
    assert_eq!(stopped.number("complete"), Some(2));
    assert_eq!(stopped.bytes("peers"), Some(&b""[..]));
    let unknown = server.announce("info_hash=bbbbbbbbbbbbbbbbbbbb&port=2&event=stopped");
    assert_eq!(unknown.number("incomplete"), Some(0));
    assert_eq!(server.store.pools().swarms.used(), 1, "unknown torrents are not created by leaving them");

    let paused = server.announce(&format!("info_hash={HASH}&port=9&left=7&event=paused"));
    assert_eq!(paused.number("incomplete"), Some(1));
}

#[test]
fn intervals_are_spread() {
    let server = Server::plain();
    let mut client = server.connect();
    let intervals: BTreeSet<u64> = (0..100)
        .map(|_| {
            client.send(format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n\r\n").as_bytes());
            client.response().value().number("interval").expect("an interval")
        })
        .collect();
    let range = u64::from(INTERVAL - JITTER)..=u64::from(INTERVAL + JITTER);
    assert!(intervals.iter().all(|interval| range.contains(interval)), "{intervals:?}");
    assert!(intervals.len() > 50, "{intervals:?}");
}

#[test]
fn as_many_peers_as_wanted() {
    let server = Server::plain();
    fill_v4(&server.store, 300, false);
    let rows =
        [("", 50), ("&numwant=-1", 50), ("&numwant=0", 0), ("&numwant=1", 1), ("&numwant=7", 7), ("&numwant=200", 200)];
    for (query, count) in rows.into_iter().chain([("&numwant=201", 200), ("&numwant=99999999999999999999", 200)]) {
        let value = server.announce(&format!("info_hash={HASH}&port=9{query}"));
        assert_eq!(peers(&value, "peers", 6).len(), count, "{query}");
    }
}

#[test]
fn both_families_are_given_and_each_at_least_a_quarter() {
    let store = store(1000);
    let v4 = Server::start(Ipv4Addr::LOCALHOST.into(), store.clone(), Limits::default());
    let v6 = Server::start(Ipv6Addr::LOCALHOST.into(), store.clone(), Limits::default());
    // (IPv4 peers, IPv6 peers, wanted, given to an IPv4 asker, given to an IPv6 asker); each row adds to the one before.
    let rows = [
        (0, 0, 40, (0, 0), (0, 0)),
        (2, 0, 40, (2, 0), (2, 0)),
        (2, 30, 40, (2, 30), (2, 30)),
        (2, 50, 40, (2, 38), (2, 38)),
        (60, 60, 40, (30, 10), (10, 30)),
        (60, 60, 3, (3, 0), (0, 3)),
        (60, 60, 200, (60, 60), (60, 60)),
        (200, 200, 200, (150, 50), (126, 74)),
    ];
    for (peers_v4, peers_v6, want, to_v4, to_v6) in rows {
        fill_v4(&store, peers_v4, false);
        fill_v6(&store, peers_v6, false);
        for (server, (in_v4, in_v6)) in [(&v4, to_v4), (&v6, to_v6)] {
            // The askers leave again, so that they do not disturb the figures.
            let value = server.announce(&format!("info_hash={HASH}&port=7&numwant={want}"));
            let row = format!("{peers_v4} + {peers_v6} peers, {want} wanted by {}", server.address.ip());
            assert_eq!(peers(&value, "peers", 6).len(), in_v4, "{row}");
            if server.address.is_ipv6() || in_v6 > 0 {
                assert_eq!(peers(&value, "peers6", 18).len(), in_v6, "{row}");
            } else {
                assert_eq!(value.get("peers6"), None, "{row}");
            }
            server.announce(&format!("info_hash={HASH}&port=7&event=stopped"));
        }
    }
    let value = v6.announce(&format!("info_hash={HASH}&port=7"));
    assert_eq!(value.bytes("external ip"), Some(&Ipv6Addr::LOCALHOST.octets()[..]));
    assert_eq!(value.number("incomplete"), Some(401), "both families together");
}

#[test]
fn a_peer_is_told_to_others_in_the_way_they_ask() {
    let server = Server::plain();
    fill_v4(&server.store, 1, false);
    fill_v6(&server.store, 2, true);
    let value = server.announce(&format!("info_hash={HASH}&port=9&compact=0"));
    let Some(Value::List(list)) = value.get("peers") else { panic!("no list: {value:?}") };
    let told: BTreeSet<(String, u64)> = list
        .iter()
        .map(|peer| {
            assert_eq!(peer.get("peer id"), None);
            let ip = peer.bytes("ip").expect("an address").to_vec();
            (String::from_utf8(ip).expect("text"), peer.number("port").expect("a port"))
        })
        .collect();
    let expected = [("10.0.0.0", 1000), ("2001:db8::", 1000), ("2001:db8::1", 1001)];
    assert_eq!(told, expected.map(|(ip, port)| (ip.to_owned(), port)).into());
    assert_eq!(value.get("peers6"), None);
    let seeder = server.announce(&format!("info_hash={HASH}&port=9&compact=0&left=0"));
    assert!(matches!(seeder.get("peers"), Some(Value::List(list)) if list.len() == 1), "no seeders in a list either");
}

#[test]
fn failures_are_bencoded() {
    let server =
        Server::start(Ipv4Addr::LOCALHOST.into(), store(1), Limits { full_scrape: false, ..Limits::default() });
    server.announce("info_hash=bbbbbbbbbbbbbbbbbbbb&port=1");
    let rows = [
        ("/announce", 200, "info_hash is missing", Some("never")),
        ("/announce?", 200, "info_hash is missing", Some("never")),
        ("/announce?info_hash=a&port=1", 200, "info_hash is not 20 bytes, percent-encoded", Some("never")),
        ("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa", 200, "port is missing", Some("never")),
        ("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=0", 200, "Port 0 is not valid", Some("never")),
        ("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=1", 200, "Tracker is full", None),
        ("/scrape?info_hash=", 200, "info_hash is not 20 bytes, percent-encoded", Some("never")),
        ("/scrape", 200, "This tracker gives no full scrapes; name an info_hash", Some("never")),
        (
            "/announce.php?info_hash=a",
            404,
            "No such path; a tracker has /announce, /scrape, /stats and /metrics",
            Some("never"),
        ),
        ("/stats?mode=nothing", 400, "No such mode of the statistics", Some("never")),
    ];
    for (target, status, reason, retry) in rows {
        let response = server.get(target);
        assert_eq!(response.status, status, "{target}");
        assert_eq!(response.failure(), reason, "{target}");
        match retry {
            Some(never) => assert_eq!(response.value().bytes("retry in"), Some(never.as_bytes()), "{target}"),
            None => assert_eq!(response.value().number("retry in"), Some(30), "{target}"),
        }
    }
    let snapshot = server.context.statistics.snapshot();
    assert_eq!(snapshot.http.failure(Failure::TrackerFull), 1);
    assert_eq!(snapshot.http.failure(Failure::InfoHashMissing), 2);
    assert_eq!(snapshot.event(tracker_common::outcome::Event::Error4), 8);
}

#[test]
fn what_is_no_http_is_answered_at_once_and_closed() {
    let server = Server::plain();
    let long = format!("GET /announce?{} HTTP/1.1\r\n\r\n", "x".repeat(9000));
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(9000));
    let much = format!("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(200_000));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    let rows: [(&[u8], u16); 12] = [
        (b"\r\n\r\nGET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", 400),
        (b"GET /announce\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /announce HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (much.as_bytes(), 405),
        (long.as_bytes(), 431),
        (endless.as_bytes(), 431),
        (headers.as_bytes(), 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ];
    for (bytes, status) in rows {
        let start = Instant::now();
        let mut client = server.connect();
        // A good request before the bad one is answered as usual.
        client.send(b"GET /stats?mode=version HTTP/1.1\r\n\r\n");
        client.send(bytes);
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        assert_eq!(client.response().status, 200, "{name:?}");
        let response = client.response();
        assert_eq!(response.status, status, "{name:?}");
        assert_eq!(response.headers.get("connection").map(String::as_str), Some("close"), "{name:?}");
        assert!(!response.failure().is_empty());
        assert!(client.is_closed(), "{name:?}");
        assert!(start.elapsed() < Duration::from_secs(1), "{name:?}");
    }
    // The same as the first bytes of a connection.
    for (bytes, status) in rows {
        let mut client = server.connect();
        client.send(bytes);
        assert_eq!(client.response().status, status);
        assert!(client.is_closed());
    }
    server.until("connections linger", |server| server.context.statistics.snapshot().http.open() == 0);
}

#[test]
fn an_incomplete_request_is_answered_when_the_client_is_done() {
    let server = Server::plain();
    let mut client = server.connect();
    client.send(b"GET /announce?info_hash=");
    client.stream.shutdown(std::net::Shutdown::Write).expect("open");
    assert_eq!(client.response().status, 400);
    assert!(client.is_closed());
    // A client that is done with sending still gets what it asked for.
    let mut client = server.connect();
    client.send(b"GET /stats?mode=version HTTP/1.1\r\n\r\nGET /stats?mode=torr HTTP/1.1\r\n\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).expect("open");
    assert!(client.response().text().starts_with("tracker "));
    assert!(client.response().text().starts_with("0\n"));
    assert!(client.is_closed());
    // And one that sends nothing is no failure.
    let client = server.connect();
    client.stream.shutdown(std::net::Shutdown::Write).expect("open");
    server.until("the connection stays open", |server| {
        let http = server.context.statistics.snapshot().http;
        http.event(HttpEvent::Accepted) == 3 && http.open() == 0
    });
    assert_eq!(server.context.statistics.snapshot().http.failure(Failure::RequestIncomplete), 1);
}

#[test]
fn connections_stay_open_as_their_version_says() {
    let server = Server::plain();
    let rows = [
        ("HTTP/1.1\r\n\r\n", true, None),
        ("HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", true, None),
        ("HTTP/1.1\r\nConnection: close\r\n\r\n", false, Some("close")),
        ("HTTP/1.0\r\n\r\n", false, Some("close")),
        ("HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, Some("keep-alive")),
    ];
    for (version, open, line) in rows {
        let mut client = server.connect();
        for _ in 0..if open { 3 } else { 1 } {
            client.send(format!("GET /announce?info_hash={HASH}&port=1 {version}").as_bytes());
            let response = client.response();
            assert_eq!(response.headers.get("connection").map(String::as_str), line, "{version}");
            assert!(response.value().get("peers").is_some());
        }
        if !open {
            assert!(client.is_closed(), "{version}");
        }
    }
}

#[test]
fn head_has_the_head_only() {
    let server = Server::plain();
    for target in [format!("/announce?info_hash={HASH}&port=1"), "/scrape".into(), "/stats".into(), "/nothing".into()] {
        let mut client = server.connect();
        client.send(format!("HEAD {target} HTTP/1.1\r\n\r\nGET /stats?mode=version HTTP/1.1\r\n\r\n").as_bytes());
        let head = client.head();
        assert_eq!(head.status, if target == "/nothing" { 404 } else { 200 });
        assert!(head.headers.contains_key("content-length") != head.headers.contains_key("transfer-encoding"));
        assert!(client.response().text().starts_with("tracker "), "the next response follows at once");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let server = Server::plain();
    let requests: String = (1..=300)
        .map(|port| {
            format!("GET /announce?info_hash={HASH}&port={port}&numwant=0 HTTP/1.1\r\nUser-Agent: test/1\r\nAccept: */*\r\n\r\n")
        })
        .collect();
    let ask = |cuts: &[usize]| {
        let store = store(10);
        let server = Server::start(Ipv4Addr::LOCALHOST.into(), store, Limits::default());
        let mut client = server.connect();
        let mut sender = client.stream.try_clone().expect("a descriptor");
        let bytes = requests.clone().into_bytes();
        let cuts = cuts.to_vec();
        let sending = thread::spawn(move || {
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                sender.write_all(now).expect("open");
                if later.is_empty() {
                    break;
                }
                rest = later;
            }
        });
        for count in 1..=300 {
            let value = client.response().value();
            assert_eq!(value.number("incomplete"), Some(count), "in order");
        }
        sending.join().expect("no panic");
    };
    ask(&[usize::MAX]);
    ask(&[1]);
    ask(&[7, 100, 8191, 3]);
    ask(&[16 << 10]);
    drop(server);
}

#[test]
fn replies_larger_than_a_batch_are_all_sent() {
    let server = Server::plain();
    let mut client = server.connect();
    let count = 2000;
    let mut sender = client.stream.try_clone().expect("a descriptor");
    let sending = thread::spawn(move || sender.write_all("GET /stats HTTP/1.1\r\n\r\n".repeat(count).as_bytes()));
    for _ in 0..count {
        assert!(client.response().text().starts_with("tracker "));
    }
    sending.join().expect("no panic").expect("open");
}

#[test]
fn scrapes_tell_counts_in_the_order_of_the_hashes() {
    let server = Server::plain();
    fill_v4(&server.store, 3, false);
    fill_v6(&server.store, 4, true);
    server.announce(&format!("info_hash={HASH}&port=1&left=0&event=completed"));
    let hashes = [
        "%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff%ff",
        HASH,
        "%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00",
        HASH,
    ];
    let query: Vec<String> = hashes.iter().map(|hash| format!("info_hash={hash}")).collect();
    let value = server.get(&format!("/scrape?{}", query.join("&"))).value();
    let Some(Value::Dictionary(files)) = value.get("files") else { panic!("no files: {value:?}") };
    assert_eq!(files.len(), 3);
    let counts = |hash: &[u8]| {
        let file = &files[hash];
        ["complete", "downloaded", "incomplete"].map(|key| file.number(key).expect("a count"))
    };
    assert_eq!(counts(HASH.as_bytes()), [5, 1, 3]);
    assert_eq!(counts(&[0xff; 20]), [0, 0, 0]);
    assert_eq!(counts(&[0; 20]), [0, 0, 0]);
    let flags = value.get("flags").expect("flags");
    assert_eq!(flags.number("min_request_interval"), Some(u64::from(INTERVAL / 2)));
    // More than a reply to UDP could carry.
    let query: Vec<String> = (0..200).map(|number| format!("info_hash={number:020}")).collect();
    let value = server.get(&format!("/scrape?{}", query.join("&"))).value();
    assert!(matches!(value.get("files"), Some(Value::Dictionary(files)) if files.len() == 200));
}

fn many_torrents(count: u32) -> Arc<Store> {
    let store = store(count.into());
    let handle = store.handle(Path::Http);
    for number in 0..count {
        let mut info_hash = [0x5a; 20];
        info_hash[3..7].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
        let announcement = Announcement {
            info_hash: &info_hash,
            peer: V4::key([10, 0, 0, 1], 1),
            seeder: number.is_multiple_of(2),
            event: PeerEvent::None,
        };
        update::<_, V4>(&handle, &announcement).expect("room");
    }
    store
}

#[test]
fn full_scrapes_list_every_torrent_in_every_encoding() {
    for count in [0, 1, 255, 256, 257, 3000] {
        let server = Server::start(Ipv4Addr::LOCALHOST.into(), many_torrents(count.max(1)), Limits::default());
        let count = count.max(1) as usize;
        for (accept, encoding) in [("", None), ("gzip, deflate", Some("gzip")), ("gzip, zstd", Some("zstd"))] {
            let mut client = server.connect();
            client.send(
                format!("GET /scrape HTTP/1.1\r\nAccept-Encoding: {accept}\r\n\r\nGET / HTTP/1.1\r\n\r\n").as_bytes(),
            );
            let response = client.response();
            assert_eq!(response.headers.get("transfer-encoding").map(String::as_str), Some("chunked"));
            assert_eq!(response.headers.get("content-encoding").map(String::as_str), encoding);
            let mut body = Vec::new();
            match encoding {
                None => body = response.body,
                Some("gzip") => {
                    flate2::read::GzDecoder::new(&response.body[..]).read_to_end(&mut body).map(drop).expect("gzip");
                }
                Some(_) => body = zstd::decode_all(&response.body[..]).expect("zstd"),
            }
            let value = read(&body, false).expect("bencode");
            let Some(Value::Dictionary(files)) = value.get("files") else { panic!("no files") };
            assert_eq!(files.len(), count);
            let seeders: u64 = files.values().filter_map(|file| file.number("complete")).sum();
            assert_eq!(seeders, count.div_ceil(2) as u64);
            assert_eq!(client.response().status, 302, "the connection goes on after it");
        }
        let mut client = server.connect();
        client.send(b"GET /scrape HTTP/1.0\r\n\r\n");
        let response = client.response();
        assert_eq!(response.headers.get("transfer-encoding"), None);
        let value = read(&response.body, false).expect("bencode until the connection is closed");
        assert!(matches!(value.get("files"), Some(Value::Dictionary(files)) if files.len() == count));
    }
}

#[test]
fn full_scrapes_are_limited_and_stall_nobody() {
    let server = Server::start(
        Ipv4Addr::LOCALHOST.into(),
        many_torrents(100_000),
        Limits { full_scrapes: 2, ..Limits::default() },
    );
    // Two clients that do not read what they asked for.
    let mut slow: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut slow {
        client.send(b"GET /scrape HTTP/1.1\r\nConnection: close\r\n\r\n");
        client.head();
    }
    assert_eq!(server.get("/scrape").failure(), "Other full scrapes are under way");
    assert_eq!(server.get("/scrape").value().number("retry in"), Some(1));
    for port in 1..100 {
        server.announce(&format!("info_hash={HASH}&port={port}"));
    }
    drop(slow);
    server
        .until("permits are not given back", |server| server.get("/scrape").headers.contains_key("transfer-encoding"));
}

#[test]
fn slow_clients_are_timed_out_and_told_so() {
    let limits = Limits {
        header_timeout: Duration::from_millis(600),
        idle_timeout: Duration::from_millis(900),
        ..Limits::default()
    };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    // A byte now and then does not help.
    let mut client = server.connect();
    client.send(b"GET /st");
    let mut sender = client.stream.try_clone().expect("a descriptor");
    let sending = thread::spawn(move || {
        while sender.write_all(b"a").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(client.response().status, 408);
    drop(client);
    sending.join().expect("no panic");
    assert_eq!(server.counted(HttpEvent::HeaderTimeout), 1);

    // A client that never says anything is slow, not idle.
    let mut client = server.connect();
    assert!(client.is_closed());
    assert_eq!(server.counted(HttpEvent::HeaderTimeout), 2);

    let mut client = server.connect();
    client.send(b"GET /stats?mode=version HTTP/1.1\r\n\r\n");
    client.response();
    let start = Instant::now();
    assert!(client.is_closed(), "silently: no request is left unanswered");
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(server.counted(HttpEvent::IdleTimeout), 1);
    server.until("connections stay", |server| server.context.statistics.snapshot().http.open() == 0);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), many_torrents(200_000), limits);
    let mut client = server.connect();
    client.send(b"GET /scrape HTTP/1.1\r\n\r\n");
    server.until("nobody is cut off", |server| server.counted(HttpEvent::WriteTimeout) == 1);
    server.until("the connection stays", |server| server.context.statistics.snapshot().http.open() == 0);
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), Limits { connections: 3, ..Limits::default() });
    let mut clients: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = server.connect();
            client.send(b"GET /stats?mode=version HTTP/1.1\r\n\r\n");
            assert_eq!(client.response().status, 200);
            client
        })
        .collect();
    assert!(clients[0].is_closed());
    assert!(clients[1].is_closed());
    for client in &mut clients[2..] {
        client.send(b"GET /stats?mode=version HTTP/1.1\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    // With room for nobody, a single request is still answered.
    assert_eq!(server.get("/stats?mode=version").status, 200);
    assert_eq!(server.counted(HttpEvent::Evicted), 2);
    assert_eq!(server.counted(HttpEvent::Refused), 0);
}

#[test]
fn a_slow_request_makes_room_and_a_reply_under_way_does_not() {
    let server = Server::start(
        Ipv4Addr::LOCALHOST.into(),
        many_torrents(200_000),
        Limits { connections: 1, ..Limits::default() },
    );
    let mut slow = server.connect();
    slow.send(b"GET /sta");
    server.until("the connection is not accepted", |server| server.counted(HttpEvent::Accepted) == 1);
    let mut scrape = server.connect();
    scrape.send(b"GET /scrape HTTP/1.1\r\n\r\n");
    assert_eq!(slow.response().failure(), "Tracker has too many connections");
    assert!(slow.is_closed());
    scrape.head();
    let mut refused = server.connect();
    refused.send(b"GET /sta");
    let response = refused.response();
    assert_eq!((response.status, response.failure().as_str()), (503, "Tracker has too many connections"));
    assert_eq!(response.value().number("retry in"), Some(5));
    assert!(refused.is_closed());
    // What can be answered at once needs no room.
    assert_eq!(server.get("/stats?mode=version").status, 200);
    assert_eq!((server.counted(HttpEvent::Evicted), server.counted(HttpEvent::Refused)), (1, 1));
}

#[test]
fn statistics_are_served() {
    let server = Server::plain();
    server.announce(&format!("info_hash={HASH}&port=1"));
    let page = server.get("/stats");
    assert_eq!(page.headers["content-type"], "text/plain; charset=utf-8");
    assert!(page.text().contains("1  IPv4 announce answered"), "{}", page.text());
    assert!(page.text().contains("1  IPv4 peers"), "{}", page.text());
    for (name, _) in crate::statistics::opentracker::Mode::ALL {
        let response = server.get(&format!("/stats?mode={name}"));
        assert_eq!(response.status, 200, "{name}");
    }
    assert_eq!(server.get("/stats?mode=peer").text(), "1\n0\nopentracker serving 1 torrents\nopentracker");
    let metrics = server.get("/metrics");
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let line = "tracker_requests_answered_total{path=\"http\",request=\"announce\",family=\"ipv4\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    assert_eq!(server.get("/").headers["location"], "/stats");
}

#[test]
fn shutdown_ends_idle_connections() {
    let server = Server::plain();
    let mut client = server.connect();
    client.send(b"GET /stats?mode=version HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(client.is_closed());
}

#[test]
fn arbitrary_bytes_never_trouble_the_service() {
    let context = context(&store(16), Limits::default());
    let counters = context.statistics.http_counters();
    let mut service = service::Service::new(context, counters);
    let source = IpAddr::from(Ipv4Addr::LOCALHOST);
    let good =
        format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0\r\n\r\n");
    let mut random = Random(2);
    let mut out = Vec::new();
    for turn in 0..100_000 {
        // Anything, or two requests with a few bytes changed.
        let mut input: Vec<u8> = if turn % 3 == 0 {
            (0..random.below(300)).map(|_| random.byte()).collect()
        } else {
            good.repeat(2).into_bytes()
        };
        for _ in 0..random.below(5) {
            let place = random.below(input.len() + 1);
            match random.below(3) {
                0 => input.insert(place, random.byte()),
                1 if place < input.len() => input[place] = random.byte(),
                _ => input.truncate(place.max(20)),
            }
        }
        out.clear();
        let turn = service.answer(source, &input, &mut out);
        assert!(turn.used <= input.len());
        let answered = turn.used > 0;
        assert_eq!(answered, out.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&input));
    }
}
