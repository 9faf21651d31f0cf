//! Scrapes of some torrents and of all.

use super::*;

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
            let value = Value::parse(&body).expect("sorted bencode");
            let Some(Value::Dictionary(files)) = value.get("files") else { panic!("no files") };
            assert_eq!(files.len(), count);
            let seeders: u64 = files.values().filter_map(|file| file.number("complete")).sum();
            assert_eq!(seeders, count.div_ceil(2) as u64);
            assert_eq!(client.response().status, 200, "the connection goes on after it");
        }
        let mut client = server.connect();
        client.send(b"GET /scrape HTTP/1.0\r\n\r\n");
        let response = client.response();
        assert_eq!(response.headers.get("transfer-encoding"), None);
        let value = Value::parse(&response.body).expect("sorted bencode until the connection is closed");
        assert!(matches!(value.get("files"), Some(Value::Dictionary(files)) if files.len() == count));
    }
}

#[test]
fn full_scrapes_are_limited_and_stall_nobody() {
    let server = Server::with(
        Ipv4Addr::LOCALHOST.into(),
        many_torrents(100_000),
        Limits::default(),
        FullScrapeLimits { clients: 2, ..FullScrapeLimits::default() },
    );
    let ask = |last: u8, target: &str| {
        let mut client = server.connect_from([127, 0, 0, last]);
        client.send(format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes());
        client
    };
    // Two clients that do not read what they asked for.
    let mut slow: Vec<Client> = (2..4).map(|last| ask(last, "/scrape")).collect();
    for client in &mut slow {
        assert!(client.head().headers.contains_key("transfer-encoding"));
    }
    for (last, reason) in [
        (2, "A full scrape to your address is still under way"),
        (3, "A full scrape to your address is still under way"),
        (4, "Other full scrapes are under way"),
        (1, "Other full scrapes are under way"),
    ] {
        let value = ask(last, "/scrape").response().value();
        assert_eq!(value.string("failure reason"), Some(reason.as_bytes()), "127.0.0.{last}");
        assert_eq!(value.number("retry in"), Some(1));
    }
    for port in 1..100 {
        server.announce(&format!("info_hash={HASH}&port={port}"));
    }
    // Named torrents can be asked for meanwhile, by everybody.
    assert!(ask(2, &format!("/scrape?info_hash={HASH}")).response().value().get("files").is_some());
    drop(slow);
    server.until("permits are not given back", |_| {
        [2, 3, 4].iter().all(|last| ask(*last, "/scrape").head().headers.contains_key("transfer-encoding"))
    });
}

#[test]
fn a_full_scrape_that_is_read_too_slowly_ends() {
    let full_scrape =
        FullScrapeLimits { timeout: Duration::from_millis(700), rate: 1_000_000, ..FullScrapeLimits::default() };
    let server = Server::with(Ipv4Addr::LOCALHOST.into(), many_torrents(100_000), Limits::default(), full_scrape);
    // It reads on and on, which is enough for every other limit, but not all in time.
    let mut slow = server.connect();
    slow.send(b"GET /scrape HTTP/1.1\r\n\r\n");
    slow.head();
    let mut taken = 0;
    let mut space = [0; 64];
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match slow.stream.read(&mut space) {
            Ok(0) => break,
            Ok(count) => taken += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
        thread::sleep(Duration::from_millis(2));
        if server.counted_by_tracker(TrackerEvent::FullScrapeTimeout) == 1 {
            break;
        }
    }
    assert!(taken < 1 << 20, "all of it has been read: {taken} bytes");
    server.until("the permit has no end", |server| server.counted_by_tracker(TrackerEvent::FullScrapeTimeout) == 1);
    assert_eq!(server.counted(HttpEvent::WriteTimeout), 0);
    assert!(server.get("/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa").value().get("files").is_some());
    server.until("the permit is not given back", |server| {
        let mut client = server.connect();
        client.send(b"GET /scrape HTTP/1.0\r\n\r\n");
        !client.head().headers.contains_key("content-length")
    });
}
