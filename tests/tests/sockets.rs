//! The daemon's own sockets, without XDP: which addresses they can be bound to and when, what they
//! answer and what they do not, and what is said when something is lost.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tracker_tests::{
    bep15::{self, Announce, InfoHash, Reply},
    client::{UdpClient, http_announce, http_get},
    namespace::{Namespace, Pair},
    packet::Frame,
    raw::RawSocket,
    soon,
    supervised::{Ending, Printing, Supervised},
    tracker::{Metrics, Tracker, binary},
};

/// What is waited for is there within a moment; far more than that is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where [`Tracker::start`] waits for an answer.
const HTTP: &str = "127.0.0.1:6969";

/// One test at a time, as in `veth.rs`.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a tracker without XDP; `options` are separated by spaces.
fn start(namespace: &Namespace, options: &str) -> anyhow::Result<Tracker> {
    let small = [
        "--xdp-mode",
        "off",
        "--max-torrents",
        "1000",
        "--max-peers",
        "10000",
        "--max-peers-per-address",
        "0",
        "--max-creations-per-address",
        "0",
    ];
    let options: Vec<&str> = small.into_iter().chain(options.split_whitespace()).collect();
    Tracker::start(namespace, &options)
}

/// What a tracker says that does not start.
fn refusal(namespace: &Namespace, options: &str) -> String {
    let mut command = namespace.command(binary().expect("the tracker is built"));
    command.args(["run", "--xdp-mode", "off"]).args(options.split_whitespace());
    let mut child = Supervised::start(command, Printing::Kept, Ending::AT_ONCE).expect("it starts");
    let status = child.wait(PATIENCE).expect("it ends");
    let said = child.output();
    // 2 is for options that cannot even be read.
    assert!(matches!(status.code(), Some(1 | 2)), "a tracker ran with {options}; it said:\n{said}");
    said
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// Whether a client gets an answer by UDP, from the address that it asks.
fn answers(namespace: &Namespace, source: &str, tracker: SocketAddr) -> bool {
    let Ok(socket) = namespace.enter(|| Ok(UdpSocket::bind(source)?)) else { return false };
    let quick = Some(Duration::from_millis(500));
    let mut reply = [0; 100];
    socket.connect(tracker).is_ok()
        && socket.set_read_timeout(quick).is_ok()
        && socket.send(&bep15::connect(7)).is_ok()
        && socket.recv(&mut reply).is_ok_and(|length| length == 16)
}

fn any(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
}

fn torrent(number: u8) -> InfoHash {
    [number; 20]
}

fn rejected(metrics: &Metrics, reason: &str) -> u64 {
    metrics.sum("tracker_requests_rejected_total", &[("path", "udp_socket"), ("reason", reason)]) as u64
}

#[test]
fn port_is_free_as_soon_as_the_tracker_has_ended() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    for _ in 0..6 {
        let tracker = start(&host, "--udp 127.0.0.1:7003 --udp [::1]:7003 --udp 0.0.0.0:7004").expect("it starts");
        // Something in flight in every way of serving.
        for at in ["127.0.0.1:7003", "[::1]:7003", "127.0.0.1:7004"].map(address) {
            assert!(answers(&host, any(at), at), "{at}");
        }
        assert!(tracker.stop().expect("it was running").success());
        for at in ["127.0.0.1:7003", "[::1]:7003", "0.0.0.0:7004"] {
            host.enter(|| Ok(UdpSocket::bind(at)?)).expect(at);
        }
        host.enter(|| Ok(TcpListener::bind("[::]:6969")?)).expect("HTTP");
    }
}

#[test]
fn port_is_free_at_once_when_a_tracker_is_stopped_while_it_starts() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    // Many, so that the first one answers long before the start is over.
    let all: Vec<_> = (1..=40).map(|number| address(&format!("127.0.0.{number}:7003"))).collect();
    for _ in 0..3 {
        let mut command = host.command(binary().expect("the tracker is built"));
        command.args(["run", "--xdp-mode", "off", "--pin-path", "off", "--max-torrents", "1000"]);
        for at in &all {
            command.args(["--udp", &at.to_string()]);
        }
        let mut child = Supervised::start(command, Printing::Kept, Ending::AT_ONCE).expect("it starts");
        soon("an answer", || answers(&host, "127.0.0.1:0", all[0]));
        child.signal(libc::SIGTERM).expect("it runs");
        assert!(child.wait(PATIENCE).expect("it ends").success());
        for at in &all {
            host.enter(|| Ok(UdpSocket::bind(at)?)).unwrap_or_else(|error| panic!("{at}: {error}: {}", child.output()));
        }
    }
}

#[test]
fn tracker_that_was_killed_is_followed_by_another_at_once() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    for _ in 0..4 {
        let tracker = start(&host, "--udp 127.0.0.1:7003 --udp-threads 2").expect("it starts");
        // SAFETY: takes no pointer; the child has not been waited for, so the number is its own.
        unsafe { libc::kill(tracker.process().cast_signed(), libc::SIGKILL) };
        drop(tracker);
        start(&host, "--udp 127.0.0.1:7003 --udp-threads 2").expect("it starts");
    }
}

#[test]
fn taken_port_is_waited_for_and_not_for_long() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    for options in ["--udp 127.0.0.1:7003", "--udp 0.0.0.0:7003", "--http 127.0.0.1:6969 --http 127.0.0.1:7003"] {
        let bind =
            || host.enter(|| Ok((UdpSocket::bind("127.0.0.1:7003")?, TcpListener::bind("127.0.0.1:7003")?))).ok();
        let hold = || {
            let mut held = bind();
            soon("a free port", || {
                held = held.take().or_else(bind);
                held.is_some()
            });
            held
        };
        let held = hold();
        let said = refusal(&host, options);
        assert!(said.contains("another process has") && said.contains("port 7003"), "{said}");
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(400));
            drop(held);
        });
        let tracker = start(&host, options).expect(options);
        holder.join().expect("no panic");
        tracker.stop().expect("it was running");
    }
}

#[test]
fn wildcard_and_named_addresses_share_a_port_and_a_second_tracker_gets_none() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    for threads in ["1", "2"] {
        for (addresses, asked) in [
            (&["0.0.0.0:7005", "127.0.0.2:7005"][..], &["127.0.0.1:7005", "127.0.0.2:7005"][..]),
            (&["127.0.0.2:7005", "0.0.0.0:7005"], &["127.0.0.1:7005", "127.0.0.2:7005"]),
            (&["[::]:7005", "[::1]:7005"], &["[::1]:7005"]),
            (&["[::1]:7005", "[::]:7005", "0.0.0.0:7005", "127.0.0.1:7005"], &["[::1]:7005", "127.0.0.1:7005"]),
        ] {
            let mut options = format!("--udp-threads {threads} --http-threads {threads} --http {HTTP}");
            for address in addresses {
                options += &format!(" --udp {address} --http {address}");
            }
            let tracker = start(&host, &options).expect("both can be had");
            for &asked in asked {
                assert!(answers(&host, any(address(asked)), address(asked)), "UDP {asked} of {addresses:?}");
                http_announce(&host, address(asked), &Announce::new(torrent(1), 1)).expect(asked);
            }
            // At once, as each of them waits for the port for a while.
            thread::scope(|scope| {
                for protocol in ["udp", "http"] {
                    for address in addresses {
                        let other = if protocol == "udp" { "--http 127.0.0.1:6970" } else { "--udp off" };
                        let host = &host;
                        scope.spawn(move || {
                            let said = refusal(host, &format!("--{protocol} {address} {other}"));
                            assert!(said.contains("another process has") && said.contains("port 7005"), "{said}");
                        });
                    }
                }
            });
            tracker.stop().expect("it was running");
        }
    }
}

#[test]
fn addresses_named_twice_are_bound_once_and_it_is_said() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    let options = format!("--udp 127.0.0.1:7005 --udp 127.0.0.1:7005 --http {HTTP} --http {HTTP}");
    let tracker = start(&host, &options).expect("it starts");
    let log = tracker.log();
    for said in ["UDP 127.0.0.1:7005 is named more than once", "HTTP 127.0.0.1:6969 is named more than once"] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
    assert!(answers(&host, "127.0.0.1:0", address("127.0.0.1:7005")));
}

#[test]
fn named_addresses_may_come_after_the_start() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let late = ["198.18.0.200:7006", "[fd00:0:0:1::200]:7006"];
    let mut options = format!("--http {HTTP}");
    for at in late {
        options += &format!(" --udp {at} --http {at}");
    }
    let tracker = start(&pair.server, &options).expect("it starts without them");
    for at in late {
        for protocol in ["UDP", "HTTP"] {
            soon("the log line", || tracker.log().contains(&format!("{protocol} {at}: the address is not there yet")));
        }
        assert!(!answers(&pair.client, any(address(at)), address(at)), "nobody has {at}");
    }
    for (at, prefix) in [("198.18.0.200", 24), ("fd00:0:0:1::200", 64)] {
        pair.server.ip(&format!("address add {at}/{prefix} dev {}", Pair::SERVER_INTERFACE)).expect("added");
    }
    for at in late {
        soon(at, || answers(&pair.client, any(address(at)), address(at)));
        assert_eq!(http_get(Some(&pair.client), address(at), "/stats").expect(at).status, 200);
        soon("the log line", || tracker.log().contains(&format!("UDP {at}: the address is there now")));
    }
}

#[test]
fn wildcards_answer_from_addresses_that_only_a_route_says_are_this_hosts() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    for prefix in ["198.51.100.0/24", "2001:db8:1::/64"] {
        host.ip(&format!("route add local {prefix} dev lo")).expect("added");
    }
    let _tracker = start(&host, "--udp 0.0.0.0:7003 --udp [::]:7003").expect("it starts");
    for at in ["198.51.100.7:7003", "[2001:db8:1::7]:7003"].map(address) {
        assert!(answers(&host, any(at), at), "{at}");
    }
}

#[test]
fn tentative_addresses_are_waited_for() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let interface = Pair::SERVER_INTERFACE;
    for (setting, value) in [("accept_dad", "1"), ("dad_transmits", "3")] {
        pair.server.set(&format!("ipv6/conf/{interface}/{setting}"), value).expect("set");
    }
    pair.server.ip(&format!("address add fd00:0:0:1::300/64 dev {interface}")).expect("added");
    let at = address("[fd00:0:0:1::300]:7006");
    let tracker = start(&pair.server, &format!("--udp {at} --http {HTTP} --http {at}")).expect("it starts");
    soon("the log line", || tracker.log().contains("is not there yet"));
    soon("the end of the duplicate address detection", || answers(&pair.client, "[::]:0", at));
    assert_eq!(http_get(Some(&pair.client), at, "/stats").expect("HTTP").status, 200);
}

#[test]
fn link_local_addresses_are_bound_to_their_interface() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let output = pair.server.ip("-6 -o address show dev server0 scope link").expect("ip");
    let link_local = output.split_whitespace().find_map(|word| word.strip_suffix("/64")).expect("one address");
    let at = format!("[{link_local}%{}]:7006", Pair::SERVER_INTERFACE);
    let tracker = start(&pair.server, &format!("--udp {at} --udp 127.0.0.1:7006 --http {HTTP} --http {at}"));
    let tracker = tracker.expect("it starts");
    let index = pair.client.ip("-o link show dev client0").expect("ip");
    let index = index.split(':').next().expect("a number").to_owned();
    let asked = address(&format!("[{link_local}%{index}]:7006"));
    assert!(answers(&pair.client, "[::]:0", asked), "{}", tracker.log());
    assert_eq!(http_get(Some(&pair.client), asked, "/stats").expect("HTTP").status, 200);
    drop(tracker);
    for (at, said) in [
        (format!("[{link_local}]:7006"), "a link-local address needs its interface"),
        ("[fe80::1%no-such-one]:7006".into(), "names the interface no-such-one, which this host does not have"),
        ("[fe80::1%77]:7006".into(), "no interface of that number"),
    ] {
        for protocol in ["udp", "http"] {
            let refused = refusal(&pair.server, &format!("--{protocol} {at}"));
            assert!(refused.contains(said) && refused.contains(&at), "{refused}");
        }
    }
}

#[test]
fn addresses_of_many_cannot_be_listened_on() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    for (at, said) in [
        ("255.255.255.255:7006", "the address of many hosts"),
        ("198.18.0.255:7006", "broadcast address"),
        ("224.0.0.1:7006", "the address of many hosts"),
        ("[ff02::1]:7006", "the address of many hosts"),
    ] {
        for protocol in ["udp", "http"] {
            let refused = refusal(&pair.server, &format!("--{protocol} {at}"));
            assert!(refused.contains(said) && refused.contains(at), "{refused}");
        }
    }
}

/// Announces into a torrent of their own to each of the destinations, and looks for answers.
#[test]
fn requests_to_many_hosts_are_neither_answered_nor_stored_but_counted() {
    const PORT: u16 = 7007;
    const THREADS: u64 = 3;
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let wildcards = format!("--udp 0.0.0.0:{PORT} --udp [::]:{PORT}");
    let named = format!("--udp {}:{PORT} --udp [{}]:{PORT}", Pair::SERVER_V4, Pair::SERVER_V6);
    // Those of wildcards are received by `recvmmsg`, the others by io_uring.
    for (listening, counted) in
        [(wildcards.clone(), true), (named.clone(), false), (format!("{wildcards} {named}"), true)]
    {
        let options = format!("--udp-threads {THREADS} --http {HTTP} {listening}");
        let tracker = start(&pair.server, &options).expect("it starts");
        let many: [(IpAddr, [u8; 6]); 6] = [
            ("255.255.255.255".parse().expect("an address"), [0xff; 6]),
            ("198.18.0.255".parse().expect("an address"), [0xff; 6]),
            ("224.0.0.1".parse().expect("an address"), [0x01, 0, 0x5e, 0, 0, 1]),
            ("ff02::1".parse().expect("an address"), [0x33, 0x33, 0, 0, 0, 1]),
            // The same to this host alone, as its interface sees it.
            ("255.255.255.255".parse().expect("an address"), Pair::SERVER_MAC),
            ("ff02::1".parse().expect("an address"), Pair::SERVER_MAC),
        ];
        for (number, (destination, mac)) in many.into_iter().enumerate() {
            let ipv4 = destination.is_ipv4();
            let own: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
            let client: IpAddr = if ipv4 { Pair::client_v4(0).into() } else { Pair::client_v6(0).into() };
            let connection = UdpClient::connected(&pair.client, SocketAddr::new(client, 0), SocketAddr::new(own, PORT))
                .expect("an id");
            let before = rejected(&tracker.metrics(&pair.server).expect("metrics"), "not_for_us");
            let source = SocketAddr::new(client, 45_678);
            let info_hash = torrent(number as u8 + 1);
            let announce = Announce { connection_id: connection.connection_id(), ..Announce::new(info_hash, 7000) };
            let raw = RawSocket::open(&pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
            let mut frame = Frame::udp(Pair::CLIENT_MAC, mac, source, SocketAddr::new(destination, PORT));
            for payload in [bep15::connect(1), announce.bytes()] {
                frame.payload = payload;
                raw.send(&frame.bytes()).expect("sent");
            }
            // Would one of them have been answered, its answer would arrive first.
            frame.destination = SocketAddr::new(own, PORT);
            frame.destination_mac = Pair::SERVER_MAC;
            frame.payload = bep15::scrape(connection.connection_id(), 0x77, &[info_hash]);
            let delivered = |metrics: &Metrics| rejected(metrics, "not_for_us") - before;
            if counted {
                soon("the counter", || delivered(&tracker.metrics(&pair.server).expect("metrics")) == 2 * THREADS);
            } else {
                thread::sleep(Duration::from_millis(200));
            }
            raw.send(&frame.bytes()).expect("sent");
            let answer = raw.receive(|datagram| datagram.destination == source).expect("an answer");
            let reply = Reply::parse(&answer.payload, ipv4).expect("a reply");
            let nothing = Reply::Scrape { transaction: 0x77, torrents: vec![bep15::Counts::default()] };
            assert_eq!(reply, nothing, "{destination} by {mac:?}, {listening}");
            let times = if counted { 2 * THREADS } else { 0 };
            assert_eq!(delivered(&tracker.metrics(&pair.server).expect("metrics")), times, "{destination}");
        }
    }
}

/// Replies to a client behind a link whose packets have at most `mtu` bytes.
#[test]
fn replies_that_do_not_fit_the_way_are_shortened_and_arrive() {
    const PORT: u16 = 7008;
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let (server, client) = (Pair::SERVER_INTERFACE, Pair::CLIENT_INTERFACE);
    let listening = format!(
        "--udp {}:{PORT} --udp [{}]:{PORT} --udp 0.0.0.0:7009 --udp [::]:7009",
        Pair::SERVER_V4,
        Pair::SERVER_V6
    );
    let tracker = start(&pair.server, &format!("--http {HTTP} {listening} --path-mtu-v6 9000")).expect("it starts");
    for ipv4 in [true, false] {
        let own: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
        let source: IpAddr = if ipv4 { Pair::client_v4(0).into() } else { Pair::client_v6(0).into() };
        let mut one =
            UdpClient::connected(&pair.client, SocketAddr::new(source, 0), SocketAddr::new(own, PORT)).expect("an id");
        for port in 1000..1300 {
            one.announce(&Announce { num_want: 0, ..Announce::new(torrent(1), port) }).expect("answered");
        }
    }
    // By the interface and by the route: IPv6 needs 1280 bytes.
    for (by_route, mtu) in [(false, 1400), (false, 1280), (true, 1290), (false, 1000), (true, 700), (false, 68)] {
        let interface_mtu = if by_route { 1500 } else { mtu };
        pair.server.ip(&format!("link set {server} mtu {interface_mtu}")).expect("set");
        pair.client.ip(&format!("link set {client} mtu {interface_mtu}")).expect("set");
        for ipv4 in [true, false] {
            if !ipv4 && mtu < 1280 {
                continue;
            }
            let (network, overhead, size, most) =
                if ipv4 { ("198.18.0.0/24", 28, 6, 200) } else { ("fd00:0:0:1::/64", 48, 18, 74) };
            let family = if ipv4 { "-4" } else { "-6" };
            let route_mtu = if by_route { format!("mtu {mtu}") } else { String::new() };
            let kernels = if ipv4 { "" } else { "proto kernel metric 256" };
            pair.server
                .ip(&format!("{family} route replace {network} dev {server} {kernels} {route_mtu}"))
                .expect("a route");
            let own: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
            for port in [PORT, 7009] {
                let source: IpAddr = if ipv4 { Pair::client_v4(1).into() } else { Pair::client_v6(1).into() };
                let mut one =
                    UdpClient::connected(&pair.client, SocketAddr::new(source, 0), SocketAddr::new(own, port))
                        .expect("an id");
                let fitting = ((mtu - overhead - 20) / size).min(most);
                let before = tracker.metrics(&pair.server).expect("metrics");
                for repeated in 0..3 {
                    let announce = Announce { num_want: 200, ..Announce::new(torrent(1), 7000) };
                    let given = one.announce(&announce).expect("answered").peers.len();
                    assert_eq!(given, fitting, "MTU {mtu}, by route {by_route}, port {port}, time {repeated}");
                }
                let after = tracker.metrics(&pair.server).expect("metrics");
                let moved = |name| {
                    let of = |metrics: &Metrics| metrics.sum(name, &[("path", "udp_socket")]);
                    (of(&after) - of(&before)) as usize
                };
                assert_eq!(moved("tracker_replies_shortened_total"), if fitting < most { 3 } else { 0 });
                assert_eq!(moved("tracker_peers_given_total"), 3 * fitting);
                assert_eq!(moved("tracker_reply_bytes_total"), 3 * (20 + fitting * size));
                // Requests that came in fragments.
                let torrents = vec![torrent(1); 60];
                let scraped = one.scrape(&torrents).expect("answered");
                assert_eq!(scraped.len(), ((mtu - overhead - 8) / 12).min(60), "MTU {mtu}, port {port}");
                assert!(scraped.iter().all(|counts| counts.leechers == scraped[0].leechers));
            }
        }
    }
    // And whole again as soon as the way is wide.
    pair.server.ip(&format!("link set {server} mtu 1500")).expect("set");
    pair.client.ip(&format!("link set {client} mtu 1500")).expect("set");
    pair.server.ip(&format!("route replace 198.18.0.0/24 dev {server}")).expect("a route");
    let mut one = UdpClient::connected(
        &pair.client,
        SocketAddr::new(Pair::client_v4(1).into(), 0),
        SocketAddr::new(Pair::SERVER_V4.into(), PORT),
    )
    .expect("an id");
    let announce = Announce { num_want: 200, ..Announce::new(torrent(1), 7000) };
    assert_eq!(one.announce(&announce).expect("answered").peers.len(), 200);
}

#[test]
fn full_tracker_warns_once_a_minute_and_counts() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    let tracker = Tracker::start(
        &host,
        &[
            "--xdp-mode",
            "off",
            "--max-torrents",
            "2",
            "--max-peers",
            "64",
            "--max-peers-per-address",
            "0",
            "--max-creations-per-address",
            "0",
            "--udp",
            "127.0.0.1:7010",
        ],
    )
    .expect("it starts");
    let mut one = UdpClient::connected(&host, address("127.0.0.1:0"), address("127.0.0.1:7010")).expect("an id");
    let mut other = UdpClient::connected(&host, address("127.1.0.1:0"), address("127.0.0.1:7010")).expect("an id");
    // Torrents of two users do not give way.
    for number in 1..=2 {
        for client in [&mut one, &mut other] {
            client.announce(&Announce::new(torrent(number), 1)).expect("there is room");
        }
    }
    let refused = (3..=40).filter(|number| one.announce(&Announce::new(torrent(*number), 1)).is_err()).count() as u64;
    assert_eq!(refused, 38, "room for two torrents was enough for others");
    // Of so many from one address some are refused.
    for port in 2..=2000 {
        drop(one.announce(&Announce { num_want: 0, ..Announce::new(torrent(1), port) }));
    }
    let lines = |part: &str| tracker.log().matches(part).count();
    soon("the warnings", || lines("for new torrents") > 0 && lines("were evicted") > 0);
    let metrics = tracker.metrics(&host).expect("metrics");
    assert!(rejected(&metrics, "torrents_full") >= refused);
    assert!(metrics.sum("tracker_peers_evicted_total", &[]) > 0.0);
    // More of the same in the same minute is not worth another line.
    for port in 3000..=4000 {
        drop(one.announce(&Announce { num_want: 0, ..Announce::new(torrent(1), port) }));
    }
    for number in 100..=140 {
        drop(one.announce(&Announce::new(torrent(number), 1)));
    }
    thread::sleep(Duration::from_secs(3));
    assert_eq!((lines("for new torrents"), lines("were evicted")), (1, 1), "{}", tracker.log());
}

#[test]
fn lost_packets_are_counted_and_said() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    // By io_uring and by system calls.
    for listening in ["127.0.0.1:7011", "0.0.0.0:7011", "[::1]:7011"] {
        let tracker = start(&host, &format!("--udp-threads 1 --udp {listening}")).expect("it starts");
        let lost = || tracker.metrics(&host).expect("metrics").sum("tracker_udp_receive_drops_total", &[]);
        assert_eq!(lost(), 0.0);
        let asked = if listening.contains('[') { address(listening) } else { address("127.0.0.1:7011") };
        let socket = host.enter(|| Ok(UdpSocket::bind(any(asked))?)).expect("a socket");
        let signal = |signal| {
            // SAFETY: takes no pointer; the child has not been waited for, so the number is its
            // own.
            unsafe { libc::kill(tracker.process().cast_signed(), signal) };
        };
        signal(libc::SIGSTOP);
        // More than its receive buffer holds: each of them takes a page and more of kernel memory.
        for _ in 0..16_000 {
            socket.send_to(&[0; 1400], asked).expect("loopback");
        }
        signal(libc::SIGCONT);
        soon("the counter", || lost() > 0.0);
        assert!(lost() < 16_000.0, "some found room");
        soon("the warning", || tracker.log().contains("UDP packets were lost"));
        let page = http_get(Some(&host), address(HTTP), "/stats.txt").expect("a page").text().expect("text");
        assert!(page.contains("packets that the kernel dropped at the sockets"), "{page}");
        assert_eq!(tracker.log().matches("UDP packets were lost").count(), 1);
    }
}

/// Loopback alone: nobody needs a second host for this.
#[test]
fn broadcast_on_loopback_is_not_answered_either() {
    let _turn = turn();
    let host = Namespace::new().expect("a namespace");
    let tracker = start(&host, "--udp 0.0.0.0:7012 --udp-threads 2").expect("it starts");
    let socket = host.enter(|| Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?)).expect("a socket");
    socket.set_broadcast(true).expect("allowed");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("more than zero");
    socket.send_to(&bep15::connect(1), "127.255.255.255:7012").expect("sent");
    socket.recv(&mut [0; 100]).expect_err("nobody answers");
    assert_eq!(rejected(&tracker.metrics(&host).expect("metrics"), "not_for_us"), 2);
    assert!(answers(&host, "127.0.0.1:0", address("127.0.0.1:7012")));
}
