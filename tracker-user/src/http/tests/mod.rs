//! The HTTP threads as a client sees them: a real server on loopback with a store in ordinary
//! memory.

mod announce;
mod bindings;
mod doors;
mod events;
mod limits;
mod memory;
mod paths;
mod protocol;
mod proxy;
mod rates;
mod scrape;
mod snapshot;
mod statistics;

use super::{
    counters::HttpEvent,
    failure::HttpFailure,
    responder::Responder,
    tracker::{FullScrapeLimits, counters::TrackerEvent, failure::Failure},
    *,
};
use crate::{
    config::live::Handles,
    daemon::{doors::Doors, sites},
    listen::Source,
    service::Shutdown,
    statistics::{
        LatestStatus, Statistics,
        http::{AdminFailure, HttpTotals},
    },
    store::{
        CounterSet, Store,
        sizes::{self, Sizes},
    },
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeSet, HashMap},
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tracker_common::store::{
    family::{V4, V6},
    membership::{Announce, PeerEvent},
    owner::Owner,
    upsert,
};
use tracker_tests::bencode::Value;

/// What is asked of a bencoded value.
trait Lookup {
    /// The number under a key of a dictionary; `None` for negative ones too, as a tracker has none
    /// to tell.
    fn number(&self, key: &str) -> Option<u64>;

    /// The bytes under a key of a dictionary.
    fn string(&self, key: &str) -> Option<&[u8]>;
}

impl Lookup for Value {
    fn number(&self, key: &str) -> Option<u64> {
        self.integer(key).ok().and_then(|number| number.try_into().ok())
    }

    fn string(&self, key: &str) -> Option<&[u8]> {
        self.bytes(key).ok()
    }
}

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

const INTERVAL: u32 = 1800;
const JITTER: u32 = 180;

fn store(torrents: u64) -> Arc<Store> {
    let capacity = sizes::Capacity { torrents, peers_v4: 4096, peers_v6: 4096 };
    let store = Arc::new(Store::anonymous(&Sizes::new(&capacity).expect("small")).expect("a few pages"));
    let settings = store.settings();
    settings.minute.store(1000);
    settings.interval.store(INTERVAL);
    settings.interval_jitter.store(JITTER);
    settings.default_numwant.store(50);
    settings.max_numwant_v4.store(200);
    settings.max_numwant_v6.store(74);
    let mut random = fastrand::Rng::with_seed(1);
    for key in &settings.hash_keys {
        key.store(random.u64(..));
    }
    store
}

/// The shared sites, and what they count.
struct Context {
    statistics: Arc<Statistics>,
    handles: Handles,
    bindings: Vec<Binding>,
}

impl Context {
    fn new(listeners: Vec<Listener>, store: &Arc<Store>, full_scrape: FullScrapeLimits) -> Self {
        let handles = Handles::default();
        handles.full_scrape.store(Arc::new(full_scrape));
        let statistics = Arc::new(Statistics::new(store.clone(), Arc::default(), None, LatestStatus::default()));
        let bindings = sites::bindings(Doors { public: listeners, ..Doors::default() }, store, &handles, &statistics);
        Self { statistics, handles, bindings }
    }

    /// What one thread answers with.
    fn responder(&self) -> Responder {
        Responder::new(&self.bindings[0], self.statistics.http.engine.thread())
    }
}

struct Server {
    address: SocketAddr,
    store: Arc<Store>,
    statistics: Arc<Statistics>,
    handles: Handles,
    /// Ends with this.
    _services: Services,
}

impl Server {
    fn start(ip: IpAddr, store: Arc<Store>, limits: Limits) -> Self {
        Self::with(ip, store, limits, FullScrapeLimits::default())
    }

    fn with(ip: IpAddr, store: Arc<Store>, limits: Limits, full_scrape: FullScrapeLimits) -> Self {
        let mut services = Services::default();
        let listener = bind(SocketAddr::new(ip, 0), 1).expect("a free port");
        let address = listener.place.address().expect("of the internet");
        let Context { statistics, handles, bindings } = Context::new(vec![listener], &store, full_scrape);
        let limits = Arc::new(ArcSwap::from_pointee(limits));
        serve(bindings, limits, statistics.http.engine.clone(), &mut services).expect("a thread");
        Self { address, store, statistics, handles, _services: services }
    }

    /// What HTTP has counted.
    fn http(&self) -> HttpTotals {
        self.statistics.http.sums()
    }

    fn plain() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), store(1000), Limits::default())
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A client at another address of the loopback interface.
    fn connect_from(&self, source: [u8; 4]) -> Client {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127.0.0.0/8 is there");
        socket.connect(&self.address.into()).expect("the server listens");
        Client::with(socket.into())
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
        self.http().engine.event(event)
    }

    fn counted_by_tracker(&self, event: TrackerEvent) -> u64 {
        self.http().tracker.event(event)
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
        Value::parse(&self.body).expect("bencode")
    }

    fn failure(&self) -> String {
        let value = self.value();
        String::from_utf8(value.string("failure reason").expect("a failure").to_vec()).expect("text")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self::with(TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens"))
    }

    fn with(stream: TcpStream) -> Self {
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
    let bytes = value.string(key).unwrap_or_else(|| panic!("no {key} in {value:?}"));
    assert!(bytes.len().is_multiple_of(stride));
    let peers: BTreeSet<_> = bytes.chunks(stride).map(<[u8]>::to_vec).collect();
    assert_eq!(peers.len(), bytes.len() / stride, "a peer appears twice");
    peers
}

fn loopback(port: u16) -> Vec<u8> {
    [&[127, 0, 0, 1][..], &port.to_be_bytes()].concat()
}

fn fill_v4(store: &Arc<Store>, count: u16, seeder: bool) {
    let handle = store.handle(CounterSet::Http);
    for number in 0..count {
        let peer = V4::key([10, 0, (number >> 8) as u8, number as u8], 1000 + number);
        let info_hash = HASH.as_bytes().try_into().expect("20 bytes");
        upsert::announce::<_, V4>(
            &handle.context(),
            &Announce { info_hash, peer, seeder, event: PeerEvent::None, owner: Owner::NONE },
        )
        .expect("room");
    }
}

fn fill_v6(store: &Arc<Store>, count: u16, seeder: bool) {
    let handle = store.handle(CounterSet::Http);
    for number in 0..count {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).octets();
        let info_hash = HASH.as_bytes().try_into().expect("20 bytes");
        let announcement = Announce {
            info_hash,
            peer: V6::key(ip, 1000 + number),
            seeder,
            event: PeerEvent::None,
            owner: Owner::NONE,
        };
        upsert::announce::<_, V6>(&handle.context(), &announcement).expect("room");
    }
}

fn many_torrents(count: u32) -> Arc<Store> {
    let store = store(count.into());
    let handle = store.handle(CounterSet::Http);
    for number in 0..count {
        let mut info_hash = [0x5a; 20];
        info_hash[3..7].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
        let announcement = Announce {
            info_hash: &info_hash,
            peer: V4::key([10, 0, 0, 1], 1),
            seeder: number.is_multiple_of(2),
            event: PeerEvent::None,
            owner: Owner::NONE,
        };
        upsert::announce::<_, V4>(&handle.context(), &announcement).expect("room");
    }
    store
}
