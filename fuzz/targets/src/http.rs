//! The bytes of an HTTP connection, through the whole site without a socket: whatever they are and
//! however they are cut, the same is answered, in proper HTTP, and to BitTorrent clients in bencode.

use crate::input::Input;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};
use tracker::{
    admin::access::Access,
    config::live::Handles,
    daemon::{doors::Doors, sites},
    http::{
        Trust,
        failure::HttpFailure,
        request::LONGEST,
        responder::{Answered, Next, Responder},
        tracker::FullScrapeLimits,
    },
    listen::{Networks, Source},
    statistics::{LatestStatus, Statistics},
    store::{Store, sizes::Sizes},
};
use tracker_tests::bencode::Value;

const SIZES: Sizes = Sizes {
    index_buckets: 4,
    swarms: 60,
    partitions: 8,
    chunks_v4: 32,
    chunks_v6: 32,
    access_buckets: 1,
    block_words: 1,
};

/// A server for one connection.
struct Server {
    responder: Responder,
    source: IpAddr,
    /// Received, and not yet used.
    received: Vec<u8>,
    sent: Vec<u8>,
    closed: bool,
}

impl Server {
    fn new(source: IpAddr) -> Self {
        let store = Arc::new(Store::anonymous(&SIZES).expect("memory"));
        let settings = store.settings();
        for (number, key) in settings.hash_keys.iter().enumerate() {
            key.store(number as u64 * 2 + 1);
        }
        crate::model::configure(settings);
        // So that two servers say the same.
        settings.interval_jitter.store(0);
        let limits = FullScrapeLimits { enabled: false, ..FullScrapeLimits::default() };
        let statistics = Arc::new(Statistics::new(store.clone(), Arc::default(), None, LatestStatus::default()));
        let handles = Handles::default();
        handles.full_scrape.store(Arc::new(limits));
        let networks = |text: &str| Networks::new(&[text.parse().expect("a network")]);
        let (proxies, parameters) = (networks("10.0.0.0/8"), networks("2001:db8::/32"));
        handles.trust.store(Arc::new(Trust { proxies, parameters, ..Trust::default() }));
        // Events never end.
        handles.access.store(Arc::new(Access { networks: Networks::default(), ..Access::default() }));
        let bindings = sites::bindings(Doors::default(), &store, &handles, &statistics);
        let responder = Responder::new(&bindings[0], statistics.http.engine.thread());
        Self { responder, source, received: Vec::new(), sent: Vec::new(), closed: false }
    }

    /// Bytes arrive.
    fn receive(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.received.extend(bytes);
        loop {
            let mut out = Vec::new();
            let Answered { used, next, .. } =
                self.responder.answer(Source::Address(self.source), &self.received, &mut out);
            assert!(used <= self.received.len(), "{used} of {} bytes used", self.received.len());
            self.received.drain(..used);
            self.sent.extend(&out);
            match next {
                Next::Receive => break,
                Next::Continue => assert!(used > 0 && !out.is_empty(), "it goes on without having done anything"),
                Next::Close | Next::Linger => {
                    self.closed = true;
                    return;
                }
                Next::Stream(..) => panic!("full scrapes are off"),
            }
        }
        assert!(self.received.len() < LONGEST, "{} bytes are kept and not refused", self.received.len());
    }

    /// The client sends nothing more.
    fn end(&mut self) {
        if !self.closed && !self.received.is_empty() {
            self.responder.reject(HttpFailure::RequestIncomplete, &mut self.sent);
        }
    }
}

/// One response.
#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    /// Without random parts. `None` for those that tell of time.
    body: Option<Body>,
}

#[derive(Debug, PartialEq)]
enum Body {
    Bencode(Value),
    Bytes(Vec<u8>),
}

/// Reads all responses. Which of them have no body is known only to who has asked: a body looks like
/// no status line.
fn responses(mut rest: &[u8]) -> Vec<Response> {
    let mut responses = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("a head that ends");
        let head = str::from_utf8(&rest[..end]).expect("ASCII");
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let (mut length, mut media_type) = (None, "");
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header line: {line:?}"));
            match name {
                "Content-Length" => assert_eq!(length.replace(value.parse().expect("a length")), None, "twice"),
                "Content-Type" => media_type = value,
                "Connection" | "Location" | "Allow" | "WWW-Authenticate" | "Cache-Control" => {}
                "Content-Security-Policy" | "Referrer-Policy" | "X-Content-Type-Options" => {}
                other => panic!("a header {other} that nobody expects"),
            }
        }
        let length: usize = length.expect("a Content-Length");
        let head_only = length > 0 && (rest.is_empty() || rest.starts_with(b"HTTP/1.1 "));
        let (body, after) = rest.split_at(if head_only { 0 } else { length });
        rest = after;
        let body = match media_type {
            "text/plain" if body.is_empty() => Some(Body::Bytes(Vec::new())),
            "text/plain" => Value::parse(body).ok().map(|value| Body::Bencode(without_chance(value))),
            _ => None,
        };
        if matches!(status, 400..=499 | 503 | 505) && !head_only {
            assert!(matches!(body, Some(Body::Bencode(_))), "status {status} with {media_type}");
        }
        responses.push(Response { status, body });
    }
    responses
}

/// Of peers their number stays: which are given, and in which order, is chance.
fn without_chance(value: Value) -> Value {
    let Value::Dictionary(mut entries) = value else { return value };
    for key in ["peers", "peers6"] {
        if let Some(peers) = entries.get_mut(key.as_bytes()) {
            let count = match peers {
                Value::Bytes(bytes) => {
                    let size = if key == "peers" { 6 } else { 18 };
                    assert!(bytes.len().is_multiple_of(size), "{} bytes of peers", bytes.len());
                    let unique: std::collections::BTreeSet<_> = bytes.chunks(size).collect();
                    assert_eq!(unique.len(), bytes.len() / size, "a peer twice");
                    unique.len()
                }
                Value::List(list) => list.len(),
                Value::Integer(_) | Value::Dictionary(_) => panic!("{key} is {peers:?}"),
            };
            *peers = Value::Integer(count as i64);
        }
    }
    Value::Dictionary(entries)
}

/// A byte for the client, one for the number of cuts, two for each, and what is sent.
///
/// # Panics
/// When it is answered in another way if it is cut, or not properly.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let client = input.byte();
    let source: IpAddr = match client % 3 {
        0 => Ipv4Addr::new(198, 51, 100, client).into(),
        1 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, client.into()).into(),
        _ => Ipv4Addr::new(10, 0, 0, client).into(),
    };
    let cuts: Vec<_> = (0..input.byte() % 9).map(|_| usize::from(input.word())).collect();
    let sent = input.0;
    let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (sent.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(sent.len());

    let (mut whole, mut pieces) = (Server::new(source), Server::new(source));
    whole.receive(sent);
    whole.end();
    let mut from = 0;
    for to in cuts {
        pieces.receive(&sent[from..to]);
        from = to;
    }
    pieces.end();
    let (whole_said, pieces_said) = (responses(&whole.sent), responses(&pieces.sent));
    assert_eq!(whole.closed, pieces.closed, "{whole_said:?} {pieces_said:?}");
    assert_eq!(whole_said.len(), pieces_said.len(), "{whole_said:?} {pieces_said:?}");
    for (whole, pieces) in whole_said.into_iter().zip(pieces_said) {
        // What is wrong in two ways is refused for what is seen first.
        let refused = |status| matches!(status, 400..=499 | 505);
        if !(refused(whole.status) && refused(pieces.status)) {
            assert_eq!(whole, pieces);
        }
    }
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    const HASH: &str = "%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: tracker:6969\r\nUser-Agent: x/1\r\n\r\n");
    let announce = |more: &str| get(&format!("/announce?info_hash={HASH}&peer_id=-TT0001-abcdefghijkl{more}"));
    let many: String = (1..20).map(|port| announce(&format!("&port={port}&left={}", port % 3))).collect();
    let texts = [
        announce("&port=6881&left=0&event=completed&numwant=50&compact=1"),
        announce("&port=6881&ip=192.0.2.7&ipv4=192.0.2.8:99&ipv6=%5B2001:db8::7%5D:99"),
        announce("&port=6881").replace("User-Agent: x/1", "X-Forwarded-For: 192.0.2.7, [2001:db8::7]:80, 10.0.0.1"),
        [announce("&port=1&left=1"), announce("&port=2&left=0&compact=0"), announce("&port=3&event=stopped")].concat(),
        many,
        get(&format!("/scrape?info_hash={HASH}&info_hash=aaaaaaaaaaaaaaaaaaaa")),
        [get("/scrape"), get("/nothing"), get("//announc%65?port=1"), get("/a?"), get("/?info_hash=1")].concat(),
        format!("HEAD /announce?info_hash={HASH}&port=5 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"),
        format!(
            "GET HTTP://tracker:6969/announce?info_hash={HASH}&port=5 HTTP/1.1\r\nAccept-Encoding: gzip;q=0, zstd\r\n\r\n"
        ),
        "GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n".to_owned(),
        "GET /announce HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "GET /announce HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        "POST /announce HTTP/9.9\r\n\r\n".to_owned(),
        "GET /a\0b HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nVia: x\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(300)),
        "\r\n\r\nGET /stats HTTP/1.1\n\nGET /metrics HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1".to_owned(),
    ];
    let cuts = [&[0_u8, 0][..], &[1, 2, 5, 0, 30, 0], &[2, 4, 1, 0, 90, 0, 91, 0, 200, 1]];
    texts.iter().zip(cuts.iter().cycle()).map(|(text, cuts)| [cuts, text.as_bytes()].concat()).collect()
}
