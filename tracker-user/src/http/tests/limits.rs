//! What clients may take of time and room.

use super::*;

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
    server.until("connections stay", |server| server.http().engine.open() == 0);
}

#[test]
fn each_of_pipelined_requests_has_its_own_time() {
    let limits = Limits { header_timeout: Duration::from_millis(1500), ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    let mut client = server.connect();
    let start = Instant::now();
    // Whatever is received ends within the next request.
    client.send(b"GET /stats?mode=ver");
    while start.elapsed() < Duration::from_secs(4) {
        thread::sleep(Duration::from_millis(500));
        client.send(b"sion HTTP/1.1\r\n\r\nGET /stats?mode=ver");
        assert_eq!(client.response().status, 200, "after {:?}", start.elapsed());
    }
    assert_eq!(client.response().status, 408, "the last one never ends");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_sends_empty_lines_is_idle() {
    let limits = Limits {
        header_timeout: Duration::from_millis(600),
        idle_timeout: Duration::from_millis(1800),
        ..Limits::default()
    };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    // (what comes with a request, what comes later)
    for (with, later) in [("\r\n", ""), ("\n\r\n", ""), ("", "\r\n"), ("\r\n", "\n")] {
        let mut client = server.connect();
        client.send(format!("GET /stats?mode=version HTTP/1.1\r\n\r\n{with}").as_bytes());
        assert_eq!(client.response().status, 200);
        let start = Instant::now();
        thread::sleep(Duration::from_millis(900));
        client.send(later.as_bytes());
        assert!(client.is_closed(), "silently, after {with:?} and {later:?}");
        let open = start.elapsed();
        let expected = Duration::from_millis(1500)..Duration::from_millis(2500);
        assert!(expected.contains(&open), "{with:?} and {later:?} put nothing off: {open:?}");
    }
    assert_eq!((server.counted(HttpEvent::HeaderTimeout), server.counted(HttpEvent::IdleTimeout)), (0, 4));
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), many_torrents(200_000), limits);
    let mut client = server.connect();
    client.send(b"GET /scrape HTTP/1.1\r\n\r\n");
    server.until("nobody is cut off", |server| server.counted(HttpEvent::WriteTimeout) == 1);
    server.until("the connection stays", |server| server.http().engine.open() == 0);
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
fn who_has_most_connections_makes_room_for_others() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    // All of them wait for their client to take what it has asked for, and none is idle.
    let taker = |_| {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        // So that the kernel takes next to nothing for it.
        socket.set_recv_buffer_size(1).expect("a socket");
        socket.connect(&server.address.into()).expect("the server listens");
        let mut client = Client::with(socket.into());
        client.send("GET /metrics HTTP/1.1\r\n\r\n".repeat(100).as_bytes());
        client
    };
    let _takers: Vec<Client> = (0..4).map(taker).collect();
    server.until("they are not accepted", |server| server.counted(HttpEvent::Accepted) == 4);
    thread::sleep(Duration::from_millis(50));
    // The same client gets no more of them.
    let mut refused = server.connect();
    refused.send(b"GET /sta");
    assert_eq!(refused.response().status, 503);
    assert_eq!((server.counted(HttpEvent::Evicted), server.counted(HttpEvent::Refused)), (0, 1));
    // Others do, also where their requests come in pieces.
    let mut others = Vec::new();
    for (number, evicted) in [(2, 1), (3, 2)] {
        let mut other = server.connect_from([127, 0, 0, number]);
        other.send(b"GET /stats?mode=ver");
        server.until("nobody makes room", |server| server.counted(HttpEvent::Evicted) == evicted);
        other.send(b"sion HTTP/1.1\r\n\r\n");
        assert_eq!(other.response().status, 200);
        // It stays, idle, and is the first to go.
        others.push(other);
    }
    assert_eq!(server.counted(HttpEvent::Refused), 1);
}

#[test]
fn who_has_most_connections_ends_no_slow_request_of_others() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    let accepted = |count| server.until("it is not accepted", |server| server.counted(HttpEvent::Accepted) == count);
    let mut slow = server.connect_from([127, 0, 0, 2]);
    slow.send(b"GET /stats?mode=ver");
    accepted(1);
    let mut many = Vec::new();
    for count in 2..30 {
        let mut client = server.connect();
        client.send(b"GET /sta");
        many.push(client);
        accepted(count);
    }
    slow.send(b"sion HTTP/1.1\r\n\r\n");
    assert_eq!(slow.response().status, 200);
    // Two of them have room. Of the others, each is told so.
    let refused = server.counted(HttpEvent::Refused);
    assert_eq!(refused, 26);
    assert_eq!(many.pop().expect("some").response().status, 503);
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
