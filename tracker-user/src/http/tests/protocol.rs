//! HTTP itself: what is understood, what is refused, and what becomes of the connection.

use super::*;

#[test]
fn failures_are_bencoded() {
    let full = store(1);
    let handle = full.handle(CounterSet::Http);
    // One with peers of two networks gives way to nobody.
    for peer in [V4::key([10, 0, 0, 1], 1), V4::key([10, 9, 0, 1], 1)] {
        let announcement = Announce {
            info_hash: b"bbbbbbbbbbbbbbbbbbbb",
            peer,
            seeder: false,
            event: PeerEvent::None,
            owner: Owner::NONE,
        };
        upsert::announce::<_, V4>(&handle.context(), &announcement).expect("room");
    }
    let server = Server::with(
        Ipv4Addr::LOCALHOST.into(),
        full,
        Limits::default(),
        FullScrapeLimits { enabled: false, ..FullScrapeLimits::default() },
    );
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
            "/nothing?info_hash=a",
            404,
            "No such path; a tracker has /announce and /scrape, and for its operator /stats and /metrics",
            Some("never"),
        ),
        ("/stats?mode=nothing", 400, AdminFailure::StatisticsModeUnknown.text(), Some("never")),
    ];
    for (target, status, reason, retry) in rows {
        let response = server.get(target);
        assert_eq!(response.status, status, "{target}");
        assert_eq!(response.failure(), reason, "{target}");
        match retry {
            Some(never) => assert_eq!(response.value().string("retry in"), Some(never.as_bytes()), "{target}"),
            None => assert_eq!(response.value().number("retry in"), Some(30), "{target}"),
        }
    }
    let snapshot = server.statistics.snapshot();
    assert_eq!(snapshot.http.tracker.failure(Failure::TrackerFull), 1);
    assert_eq!(snapshot.http.tracker.failure(Failure::InfoHashMissing), 2);
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
    server.until("connections linger", |server| server.http().engine.open() == 0);
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
        let http = server.http().engine;
        http.event(HttpEvent::Accepted) == 3 && http.open() == 0
    });
    assert_eq!(server.http().engine.failure(HttpFailure::RequestIncomplete), 1);
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
    let sending = thread::spawn(move || sender.write_all("GET /stats.txt HTTP/1.1\r\n\r\n".repeat(count).as_bytes()));
    for _ in 0..count {
        assert!(client.response().text().starts_with("tracker "));
    }
    sending.join().expect("no panic").expect("open");
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
    let mut responder = Context::new(vec![], &store(16), FullScrapeLimits::default()).responder();
    let source = IpAddr::from(Ipv4Addr::LOCALHOST);
    let good =
        format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0\r\n\r\n");
    let mut random = fastrand::Rng::with_seed(2);
    let mut out = Vec::new();
    for turn in 0..100_000 {
        // Anything, or two requests with a few bytes changed.
        let mut input: Vec<u8> = if turn % 3 == 0 {
            (0..random.usize(..300)).map(|_| random.u8(..)).collect()
        } else {
            good.repeat(2).into_bytes()
        };
        for _ in 0..random.usize(..5) {
            let place = random.usize(..input.len() + 1);
            match random.usize(..3) {
                0 => input.insert(place, random.u8(..)),
                1 if place < input.len() => input[place] = random.u8(..),
                _ => input.truncate(place.max(20)),
            }
        }
        out.clear();
        let turn = responder.answer(Source::Address(source), &input, &mut out);
        assert!(turn.used <= input.len());
        let answered = turn.used > request::empty_lines(&input);
        assert_eq!(answered, out.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&input));
    }
}
