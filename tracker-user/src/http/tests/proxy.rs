//! A proxy in front of the tracker: its address would be everybody's.

use super::*;
use crate::listen::Networks;
use socket2::SockRef;
use std::sync::Mutex;

#[test]
fn announces_through_a_proxy_are_counted_and_its_headers_not_believed() {
    let server = Server::plain();
    // (header lines, counted)
    let rows = [
        ("", false),
        ("X-Forwarded-For: 192.0.2.7", true),
        ("x-forwarded-for: 192.0.2.7, 10.0.0.1", true),
        ("X-FORWARDED-FOR:192.0.2.7", true),
        ("X-Real-IP: 192.0.2.7", true),
        ("Forwarded: for=192.0.2.7;proto=http", true),
        ("X-Real-IP: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7", true),
        ("X-Forwarded-For:", false),
        ("X-Forwarded-For: ", false),
        ("X-Forwarded-Proto: http", false),
        ("X-Forwarded-Fox: 192.0.2.7", false),
        ("X-Real-IQ: 192.0.2.7", false),
        ("Accept-Encoding: gzip", false),
        ("Via: 1.1 proxy", false),
    ];
    let mut counted = 0;
    for (line, is_counted) in rows {
        let mut client = server.connect();
        let end = if line.is_empty() { "\r\n" } else { "\r\n\r\n" };
        client.send(format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n{line}{end}").as_bytes());
        assert_eq!(client.response().value().string("external ip"), Some(&[127, 0, 0, 1][..]), "{line}");
        counted += u64::from(is_counted);
        assert_eq!(server.counted_by_tracker(TrackerEvent::Proxied), counted, "{line}");
    }
    assert_eq!(server.store.pools().swarms.used(), 1);
    let mut client = server.connect();
    client.send(b"GET /metrics HTTP/1.1\r\n\r\n");
    let line = format!("tracker_http_proxied_announces_total {counted}\n");
    assert!(client.response().text().contains(&line));
}

/// What an announce brings: whose it was taken for, or why it was refused.
fn taken_for(context: &Context, peer: Source, query: &str, lines: &str) -> Result<IpAddr, String> {
    let mut out = Vec::new();
    let request = format!("GET /announce?info_hash={HASH}&port=7{query} HTTP/1.1\r\n{lines}\r\n");
    let answered = context.responder().answer(peer, request.as_bytes(), &mut out);
    assert_eq!(answered.used, request.len());
    let body = out.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let value = Value::parse(&out[body..]).expect("bencode");
    match value.string("external ip") {
        Some(ip) => Ok(<[u8; 4]>::try_from(ip)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(ip).map(IpAddr::from))
            .expect("an address")),
        None => Err(String::from_utf8_lossy(value.string("failure reason").expect("a failure")).into_owned()),
    }
}

#[test]
fn only_proxies_that_are_named_are_believed() {
    let context = Context::new(vec![], &store(100), FullScrapeLimits::default());
    let networks = |text: &str| Networks::new(&text.split(' ').map(|one| one.parse().expect(one)).collect::<Vec<_>>());
    let trust = |header: &str| Trust {
        proxies: networks("10.0.0.0/8 2001:db8:aaaa::/48 unix"),
        header: header.parse().expect("a name"),
        ..Trust::default()
    };
    let unknown = Err(Failure::AddressUnknown.text());
    // (the header in which they are believed, who connects, header lines, whose announce it is)
    let rows = [
        ("X-Forwarded-For", "10.0.0.1", "X-Forwarded-For: 192.0.2.7", Ok("192.0.2.7")),
        ("X-Forwarded-For", "10.0.0.1", "x-forwarded-for: 1.2.3.4, [2001:db8::7]:80", Ok("2001:db8::7")),
        ("X-Forwarded-For", "10.0.0.1", "X-Forwarded-For: 192.0.2.7:81, 10.9.9.9", Ok("192.0.2.7")),
        ("X-Forwarded-For", "2001:db8:aaaa::1", "X-Forwarded-For: ::ffff:192.0.2.7", Ok("192.0.2.7")),
        (
            "X-Forwarded-For",
            "10.0.0.1",
            "X-Forwarded-For: 1.2.3.4\r\nX: y\r\nX-Forwarded-For: 192.0.2.7",
            Ok("192.0.2.7"),
        ),
        ("X-Forwarded-For", "unix", "X-Forwarded-For: 192.0.2.7", Ok("192.0.2.7")),
        ("X-Forwarded-For", "10.0.0.1", "X: y", Ok("10.0.0.1")),
        ("X-Real-IP", "10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 192.0.2.7", Ok("192.0.2.7")),
        ("Forwarded", "10.0.0.1", "Forwarded: for=\"[2001:db8::7]:1\";proto=https", Ok("2001:db8::7")),
        ("CF-Connecting-IP", "10.0.0.1", "cf-connecting-ip: 192.0.2.7", Ok("192.0.2.7")),
        ("X-Forwarded-For", "8.8.8.8", "X-Forwarded-For: 192.0.2.7", Ok("8.8.8.8")),
        ("X-Forwarded-For", "11.0.0.1", "X-Forwarded-For: 192.0.2.7, 10.0.0.1", Ok("11.0.0.1")),
        ("X-Forwarded-For", "2001:db8:aaab::1", "X-Forwarded-For: 192.0.2.7", Ok("2001:db8:aaab::1")),
        ("X-Real-IP", "10.0.0.1", "X-Forwarded-For: 192.0.2.7", Ok("10.0.0.1")),
        ("X-Forwarded-For", "10.0.0.1", "X-Forwarded-Fox: 192.0.2.7", Ok("10.0.0.1")),
        ("X-Forwarded-For", "10.0.0.1", "X-Forwarded-For: 192.0.2.7, junk", unknown),
        ("X-Forwarded-For", "10.0.0.1", "X-Forwarded-For: unknown", unknown),
        ("X-Forwarded-For", "10.0.0.1", "X-Forwarded-For: 0.0.0.0", unknown),
        ("Forwarded", "10.0.0.1", "Forwarded: for=_hidden", unknown),
        ("X-Forwarded-For", "unix", "X-Real-IP: 192.0.2.7", unknown),
        ("X-Forwarded-For", "unix", "X: y", unknown),
    ];
    for (header, peer, lines, expected) in rows {
        context.handles.trust.store(Arc::new(trust(header)));
        let peer = if peer == "unix" { Source::Unix } else { Source::of(peer.parse().expect(peer)) };
        let taken = taken_for(&context, peer, "", &format!("{lines}\r\n"));
        let expected = expected.map(|address| address.parse().expect(address)).map_err(str::to_owned);
        assert_eq!(taken, expected, "{peer:?} with {lines}");
    }
    // Nobody is believed by default.
    context.handles.trust.store(Arc::default());
    let (peer, lines) = (Source::of([127, 0, 0, 1].into()), "X-Forwarded-For: 192.0.2.7\r\n");
    assert_eq!(taken_for(&context, peer, "", lines), Ok([127, 0, 0, 1].into()));
    assert_eq!(taken_for(&context, Source::Unix, "", lines), unknown.map_err(str::to_owned).map(|_: &str| peer.key()));
}

#[test]
fn other_addresses_are_announced_by_those_who_may() {
    let context = Context::new(vec![], &store(100), FullScrapeLimits::default());
    let networks = |text: &str| Networks::new(&[text.parse().expect(text)]);
    context.handles.trust.store(Arc::new(Trust {
        proxies: networks("10.0.0.1"),
        parameters: networks("192.0.2.0/24"),
        ..Trust::default()
    }));
    let (malformed, plain) = (Err(Failure::AddressMalformed.text()), "X: y");
    for (peer, query, lines, expected) in [
        ("192.0.2.1", "&ip=198.51.100.7", plain, Ok("198.51.100.7")),
        ("192.0.2.1", "&ip=2001%3Adb8%3A%3A7", plain, Ok("2001:db8::7")),
        ("192.0.2.1", "&ipv4=198.51.100.8:99", plain, Ok("198.51.100.8")),
        ("192.0.2.1", "&ipv6=2001:db8::7", plain, Ok("192.0.2.1")),
        ("192.0.2.1", "&ip=", plain, Ok("192.0.2.1")),
        ("10.0.0.1", "&ip=198.51.100.7", "X-Forwarded-For: 192.0.2.1", Ok("198.51.100.7")),
        ("192.0.2.1", "&ip=host.example", plain, malformed),
        ("192.0.2.1", "&ipv4=::1", plain, malformed),
        ("192.0.2.1", "&ip=0.0.0.0", plain, malformed),
        ("198.51.100.1", "&ip=192.0.2.9", plain, Ok("198.51.100.1")),
        ("198.51.100.1", "&ip=host.example&ipv4=junk", plain, Ok("198.51.100.1")),
        ("2001:db8::1", "&ipv4=192.0.2.9", plain, Ok("2001:db8::1")),
        ("192.0.2.1", "&ip=198.51.100.7", "X-Forwarded-For: 192.0.2.1", Ok("192.0.2.1")),
        ("10.0.0.1", "&ip=192.0.2.9", plain, Ok("10.0.0.1")),
        ("10.0.0.1", "&ip=192.0.2.9", "X-Forwarded-For: 198.51.100.1", Ok("198.51.100.1")),
    ] {
        let taken = taken_for(&context, Source::of(peer.parse().expect(peer)), query, &format!("{lines}\r\n"));
        let expected = expected.map(|address| address.parse().expect(address)).map_err(str::to_owned);
        assert_eq!(taken, expected, "{peer} with {query} and {lines}");
    }
}

#[test]
fn a_second_address_is_a_second_peer_but_no_second_download() {
    let server = Server::plain();
    let networks = Networks::new(&["127.0.0.0/8".parse().expect("one")]);
    server.handles.trust.store(Arc::new(Trust { parameters: networks, ..Trust::default() }));
    let both = format!("info_hash={HASH}&port=7&ipv6=%5B2001:db8::7%5D:99");
    server.announce(&both);
    let value = server.announce(&format!("{both}&event=completed&left=0"));
    assert_eq!((value.number("complete"), value.number("downloaded")), (Some(2), Some(1)));
    let other = server.announce(&format!("info_hash={HASH}&port=8"));
    assert_eq!(peers(&other, "peers", 6), [loopback(7)].into());
    assert_eq!(peers(&other, "peers6", 18).len(), 1);
    assert!(peers(&other, "peers6", 18).iter().all(|peer| peer.ends_with(&[0, 7, 0, 99])));
    let value = server.announce(&format!("{both}&event=stopped"));
    assert_eq!((value.number("complete"), value.number("incomplete")), (Some(0), Some(1)));
}

#[test]
fn the_proxy_protocol_is_spoken_where_it_is_configured_and_nowhere_else() {
    let server = Server::plain();
    let networks = |text: &str| Networks::new(&[text.parse().expect(text)]);
    server.handles.trust.store(Arc::new(Trust {
        protocol: networks("127.0.0.2"),
        proxies: networks("10.0.0.0/8"),
        ..Trust::default()
    }));
    let v1 = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\0\x01\0\x02";
    let chained = "PROXY TCP4 10.0.0.5 10.0.0.1 4711 80\r\n";
    let announce = format!("GET /announce?info_hash={HASH}&port=7 HTTP/1.1\r\n\r\n");
    let forwarded = format!("GET /announce?info_hash={HASH}&port=7 HTTP/1.1\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n");
    let with = |header: &[u8], request: &str| [header, request.as_bytes()].concat();
    type Row = (&'static str, [u8; 4], Vec<u8>, Result<[u8; 4], u16>);
    let rows: [Row; 11] = [
        ("version 1", [127, 0, 0, 2], with(v1.as_bytes(), &announce), Ok([192, 0, 2, 7])),
        ("version 2", [127, 0, 0, 2], with(v2, &announce), Ok([192, 0, 2, 8])),
        ("a proxy behind a proxy", [127, 0, 0, 2], with(chained.as_bytes(), &forwarded), Ok([192, 0, 2, 9])),
        ("a client that lies behind a proxy", [127, 0, 0, 2], with(v1.as_bytes(), &forwarded), Ok([192, 0, 2, 7])),
        ("no header where none is expected", [127, 0, 0, 3], with(b"", &announce), Ok([127, 0, 0, 3])),
        ("version 1 where none is expected", [127, 0, 0, 3], with(v1.as_bytes(), &announce), Err(0)),
        ("version 2 where none is expected", [127, 0, 0, 3], with(v2, &announce), Err(400)),
        ("no header where one is expected", [127, 0, 0, 2], with(b"", &announce), Err(400)),
        ("two headers", [127, 0, 0, 2], with(&with(v1.as_bytes(), v1), &announce), Err(0)),
        ("junk before it", [127, 0, 0, 2], with(&with(b" ", v1), &announce), Err(400)),
        ("half of one", [127, 0, 0, 2], with(b"PROXY TCP4 192.0.2.7 10.0.0.1\r\n", &announce), Err(400)),
    ];
    for (name, source, bytes, expected) in rows {
        for size in [1, 7, bytes.len()] {
            let mut client = server.connect_from(source);
            for piece in bytes.chunks(size) {
                // What is refused need not be read to its end.
                if client.stream.write_all(piece).is_err() {
                    break;
                }
                if size == 1 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
            let response = client.response();
            let got = match response.status {
                200 => Ok(response.value().string("external ip").map(<[u8]>::to_vec)),
                // What is wrong with it first depends on how much of it has come.
                405 | 505 => Err(0),
                status => Err(status),
            };
            assert_eq!(got, expected.map(|ip| Some(ip.to_vec())), "{name}, {size} bytes at a time");
        }
    }
    assert_eq!(server.http().engine.failure(HttpFailure::ProxyHeaderMalformed), 9);
    // One that is never complete, and one without anything behind it.
    let mut client = server.connect_from([127, 0, 0, 2]);
    client.send(b"PROXY TCP4 192.0.2.7 ");
    SockRef::from(&client.stream).shutdown(std::net::Shutdown::Write).expect("connected");
    assert_eq!(client.response().status, 400);
    let mut client = server.connect_from([127, 0, 0, 2]);
    client.send(v1.as_bytes());
    SockRef::from(&client.stream).shutdown(std::net::Shutdown::Write).expect("connected");
    assert!(client.is_closed());
}

#[test]
fn connections_count_as_those_of_whom_the_proxy_asks_for() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(100), limits);
    let networks = Networks::new(&["127.0.0.2".parse().expect("one")]);
    server.handles.trust.store(Arc::new(Trust { protocol: networks, ..Trust::default() }));
    let open = |number: u8| {
        let mut client = server.connect_from([127, 0, 0, 2]);
        // Half of a request: it is not idle.
        client.send(format!("PROXY TCP4 192.0.2.{number} 10.0.0.1 1 80\r\nGET /ann").as_bytes());
        client
    };
    let mut greedy: Vec<_> = (0..3).map(|_| open(1)).collect();
    let mut modest = open(2);
    server.until("four are open", |server| server.counted(HttpEvent::Accepted) == 4);
    thread::sleep(Duration::from_millis(100));
    let mut newcomer = open(3);
    // Of who has most, the oldest.
    assert_eq!(greedy[0].response().status, 503);
    for client in [&mut greedy[1], &mut modest, &mut newcomer] {
        client.send(format!("ounce?info_hash={HASH}&port=7 HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(client.response().status, 200);
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_proxy_is_warned_of_but_not_with_every_announce() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false).finish();
    let context = Context::new(vec![], &store(16), FullScrapeLimits::default());
    let answer = |header: &str, source: Ipv4Addr| {
        let request = format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n{header}: 192.0.2.7\r\n\r\n");
        context.responder().answer(Source::Address(source.into()), request.as_bytes(), &mut Vec::new());
        String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text")
    };
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(answer("Accept", Ipv4Addr::new(10, 0, 0, 1)), "");
        let text = answer("X-Real-IP", Ipv4Addr::new(10, 0, 0, 2));
        for part in ["WARN", "X-Real-IP", "10.0.0.2", "proxy"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for _ in 0..10 {
            assert_eq!(answer("X-Forwarded-For", Ipv4Addr::new(10, 0, 0, 3)), text, "once a minute, by all threads");
        }
    });
}
