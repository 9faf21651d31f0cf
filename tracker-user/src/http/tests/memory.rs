//! What clients that do not take their replies, or do not finish their requests, may hold in
//! memory.

use super::*;

#[test]
fn no_request_is_answered_while_a_reply_waits() {
    const REQUESTS: u64 = 20_000;
    let server = Server::plain();
    let mut client = server.connect();
    let mut sender = client.stream.try_clone().expect("a descriptor");
    let request = format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n\r\n");
    let sending = thread::spawn(move || {
        for _ in 0..REQUESTS / 100 {
            sender.write_all(request.repeat(100).as_bytes()).expect("open");
        }
    });
    // It goes on for as long as somebody else has to wait for the replies, and no further.
    let mut before = u64::MAX;
    server.until("there is no end of it", |server| {
        thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, server.counted_by_tracker(TrackerEvent::Announce)) == before
    });
    assert!((1..2000).contains(&before), "{before} requests are answered though nobody reads");
    let received = server.counted(HttpEvent::ReceivedBytes);
    assert!(received < 2 * 8192 + before * 70, "{received} bytes are read for {before} requests");
    for _ in 0..REQUESTS {
        assert_eq!(client.response().status, 200);
    }
    sending.join().expect("no panic");
    assert_eq!(server.counted_by_tracker(TrackerEvent::Announce), REQUESTS);
    assert_eq!(server.counted(HttpEvent::MemoryExceeded), 0);
}

#[test]
fn who_holds_most_goes_first() {
    let limits = Limits { held_bytes: 256 << 10, ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    // Small debts first: the beginnings of requests.
    let mut small: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            client.send(format!("GET /stats?mode=version&x={}", "x".repeat(5000)).as_bytes());
            client
        })
        .collect();
    server.until("they do not come", |server| server.counted(HttpEvent::ReceivedBytes) >= 20 * 5000);
    assert_eq!(server.counted(HttpEvent::MemoryExceeded), 0);
    // Then large ones: pages that nobody takes.
    let mut large: Vec<Client> = (0..6)
        .map(|_| {
            let mut client = server.connect();
            client.send("GET /metrics HTTP/1.1\r\n\r\n".repeat(100).as_bytes());
            client
        })
        .collect();
    server.until("nobody has to go", |server| server.counted(HttpEvent::MemoryExceeded) > 0);
    thread::sleep(Duration::from_millis(100));
    let indebted = server.counted(HttpEvent::MemoryExceeded);
    let line = format!("tracker_http_connections_aborted_total{{reason=\"indebted\"}} {indebted}\n");
    assert!(server.get("/metrics").text().contains(&line));
    for client in &mut small {
        client.send(b" HTTP/1.1\r\n\r\n");
        assert_eq!(client.response().status, 200, "those who hold little stay");
    }
    // Those that were not cut get all they asked for.
    assert!(indebted < 6, "all had to go");
    let whole = large.iter_mut().filter_map(|client| {
        while client.received.windows(7).filter(|bytes| bytes == b"HTTP/1.").count() < 100 {
            let mut space = [0; 65536];
            let count = client.stream.read(&mut space).unwrap_or(0);
            client.received.extend_from_slice(&space[..count]);
            if count == 0 {
                return None;
            }
        }
        Some(())
    });
    assert_eq!(whole.count() as u64, 6 - indebted);
    assert_eq!(server.counted(HttpEvent::MemoryExceeded), indebted);
}

#[test]
fn beginnings_of_requests_count_as_well_and_their_senders_are_told() {
    let limits = Limits { held_bytes: 256 << 10, ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    let mut clients: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = server.connect();
            client.send(format!("GET /announce?x={}", "x".repeat(8000)).as_bytes());
            client
        })
        .collect();
    server.until("they do not come", |server| server.counted(HttpEvent::ReceivedBytes) >= 60 * 8000);
    // 32 of them are 256 KiB.
    server.until("nobody has to go", |server| server.counted(HttpEvent::MemoryExceeded) == 60 - 32);
    let mut told = 0;
    for client in &mut clients {
        client.stream.set_nonblocking(true).expect("a socket");
        let mut space = [0; 4096];
        if let Ok(count) = client.stream.read(&mut space) {
            assert!(space[..count].starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&space[..count]));
            told += 1;
        }
    }
    assert_eq!(told, 60 - 32);
    // A request that comes as a whole is held by nobody.
    assert_eq!(server.get("/stats?mode=version").status, 200);
}

#[test]
fn a_connection_that_owes_nothing_is_never_cut() {
    let limits = Limits { held_bytes: 0, ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            client.send(b"GET /stats?mode=everything HTTP/1.1\r\n\r\n");
            assert_eq!(client.response().status, 200);
        }
    }
    assert_eq!(server.counted(HttpEvent::MemoryExceeded), 0);
}
