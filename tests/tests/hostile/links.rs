//! Interfaces and addresses that come, go and change faster than anybody needs.

use crate::{
    honest::{PORT, client, server},
    site::{Expected, Site, UNIMPRESSED, scaled},
};
use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{self, Announce, Reply},
    client::UdpClient,
    namespace::{End, Namespace, Pair, connect},
    patience,
};

/// A link that is down serves nobody.
const AROUND: Expected = Expected { during: &[], ..UNIMPRESSED };

/// Does many things by `ip`, and goes on where one fails.
fn batch(namespace: &Namespace, lines: &str) {
    let mut ip = namespace.command("ip");
    ip.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ip = ip.spawn().expect("ip");
    ip.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("written");
    ip.wait().expect("ended");
}

/// Waits until both families are answered.
fn until_answered(site: &Site, what: &str) {
    let deadline = Instant::now() + patience(Duration::from_secs(20));
    for ipv4 in [true, false] {
        let answered = || {
            let source = SocketAddr::new(client(5, ipv4), 0);
            let client = UdpClient::new(&site.pair.client, source, server(ipv4))?;
            client.socket().set_read_timeout(Some(Duration::from_millis(300)))?;
            client.exchange(&bep15::connect(1))
        };
        while let Err(error) = answered() {
            assert!(Instant::now() < deadline, "{what}: nobody answers: {error:#}\n{}", site.tracker.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn links_that_go_down_and_up_serve_again() {
    let site = Site::new();
    let interface = Pair::SERVER_INTERFACE;
    site.pair.server.set(&format!("ipv6/conf/{interface}/keep_addr_on_down"), "1").expect("a setting");
    let times = scaled(20, 300);
    // Addresses go and come, and each change is told; the most often that is looked at is ten times
    // a second.
    site.attack("down and up", Expected { lines: scaled(40, 400), ..AROUND }, || {
        for number in 0..times {
            site.pair.server.ip(&format!("link set {interface} down")).expect("down");
            if number % 10 == 9 {
                thread::sleep(Duration::from_millis(150));
            }
            site.pair.server.ip(&format!("link set {interface} up")).expect("up");
        }
        let _ = site.pair.server.ip(&format!("route add default via {}", Pair::client_v4(0)));
        until_answered(&site, "down and up");
    });
}

#[test]
fn every_mtu_is_served_as_far_as_the_mode_allows() {
    for mode in &["native", "generic"][..scaled(1, 2)] {
        let site = Site::with(&["--xdp-mode", mode], |_| ());
        ask_in_fragments(&site);
        site.attack(&format!("MTUs, {mode}"), Expected { lines: 40, ..AROUND }, || {
            for mtu in [1280, 3000, 9000, 65_535, 1500, 68, 576, 1499, 1500] {
                // A driver refuses what a program cannot have in one piece.
                let set = site.pair.server.ip(&format!("link set {} mtu {mtu}", Pair::SERVER_INTERFACE));
                let both = site.pair.client.ip(&format!("link set {} mtu {mtu}", Pair::CLIENT_INTERFACE));
                println!("MTU {mtu}, {mode}: {}", if set.is_ok() && both.is_ok() { "taken" } else { "refused" });
                // Below 1280 bytes there is no IPv6, and its addresses are gone.
                if mtu >= 1280 {
                    restore(&site);
                    until_answered(&site, &format!("MTU {mtu}, {mode}"));
                }
            }
        });
    }
}

/// Gives both ends what IPv6 they had.
fn restore(site: &Site) {
    for (namespace, interface) in
        [(&site.pair.server, Pair::SERVER_INTERFACE), (&site.pair.client, Pair::CLIENT_INTERFACE)]
    {
        let _ = namespace.set(&format!("ipv6/conf/{interface}/accept_dad"), "0");
    }
    let mut lines = String::new();
    for number in 0..Pair::CLIENTS {
        let _ = writeln!(lines, "address replace {}/64 dev {}", Pair::client_v6(number), Pair::CLIENT_INTERFACE);
    }
    batch(&site.pair.client, &lines);
    batch(&site.pair.server, &format!("address replace {}/64 dev {}\n", Pair::SERVER_V6, Pair::SERVER_INTERFACE));
}

/// A request that the MTU does not let through whole.
fn ask_in_fragments(site: &Site) {
    // 1496 bytes do not fit a packet of 1500.
    let torrents = [[7; 20]; 74];
    for ipv4 in [true, false] {
        let source = SocketAddr::new(client(4, ipv4), 0);
        let client = UdpClient::connected(&site.pair.client, source, server(ipv4)).expect("an id");
        let reply = client.exchange(&bep15::scrape(client.connection_id(), 9, &torrents)).expect("an answer");
        assert!(matches!(reply, Reply::Scrape { torrents, .. } if torrents.len() == 74));
    }
}

#[test]
fn interfaces_that_come_and_go_by_the_hundred_disturb_nobody() {
    let site = Site::new();
    let (times, pairs) = scaled((2, 50), (6, 250));
    // What changes faster than it can be listed is said, but not each time.
    site.attack("interfaces", Expected { lines: 10, ..UNIMPRESSED }, || {
        for _ in 0..times {
            let mut lines = String::new();
            for number in 0..pairs {
                let (b, c) = (number / 256, number % 256);
                let _ = writeln!(lines, "link add many{number} type veth peer name more{number}");
                let _ = writeln!(lines, "address add 10.{b}.{c}.1/32 dev many{number}");
                let _ = writeln!(lines, "link set many{number} up");
            }
            for number in 0..pairs {
                let _ = writeln!(lines, "link delete many{number}");
            }
            batch(&site.pair.server, &lines);
        }
    });
}

#[test]
fn thousands_of_addresses_are_served_and_said_in_a_few_lines() {
    let site = Site::new();
    let count = scaled(2000, 10_000);
    let lines = |what: &str| {
        let line = |number: u32| {
            let [_, b, c, d] = number.to_be_bytes();
            format!("address {what} 10.{b}.{c}.{d}/32 dev {}\n", Pair::SERVER_INTERFACE)
        };
        (0..count).map(line).collect::<String>()
    };
    let bytes = site.tracker.log().len();
    site.attack("addresses", Expected { lines: 40, ..UNIMPRESSED }, || {
        batch(&site.pair.server, &lines("add"));
        // Those that there is no room for in the program are answered by sockets.
        site.pair.client.ip(&format!("route add 10.0.0.0/8 via {}", Pair::SERVER_V4)).expect("a route");
        let [_, b, c, d] = u32::to_be_bytes(count - 1);
        let last: SocketAddr = ([10, b, c, d], PORT).into();
        let source = SocketAddr::new(client(5, true), 0);
        UdpClient::connected(&site.pair.client, source, last).expect("the last address answers");
        // While there are many, one that changes must not cost much each time.
        for _ in 0..scaled(10, 100) {
            batch(&site.pair.server, &format!("address add 10.255.0.1/32 dev {}\n", Pair::SERVER_INTERFACE));
            thread::sleep(Duration::from_millis(20));
            batch(&site.pair.server, &format!("address delete 10.255.0.1/32 dev {}\n", Pair::SERVER_INTERFACE));
        }
        batch(&site.pair.server, &lines("delete"));
    });
    let more = site.tracker.log().len() - bytes;
    println!("addresses: {more} bytes of log");
    assert!(more < 100_000, "{more} bytes of log");
    // The first ones stay those of the program.
    let xdp = |site: &Site| site.metrics().sum("tracker_requests_answered_total", &[("path", "xdp")]);
    let before = xdp(&site);
    let source = SocketAddr::new(client(5, true), 0);
    UdpClient::connected(&site.pair.client, source, server(true)).expect("an answer");
    assert!(xdp(&site) > before, "sockets answer: {}", site.tracker.log());
}

/// A driver takes no program with such frames, so this is for the mode that takes anything.
#[test]
fn jumbo_frames_are_answered() {
    let site = Site::with(&["--xdp-mode", "generic", "--interface", "jumbo0"], |_| ());
    let (tracker, host) = (Ipv4Addr::new(198, 19, 0, 1), Ipv4Addr::new(198, 19, 0, 2));
    let end = |namespace, interface, number, address: &'static [(IpAddr, u8)]| End {
        namespace: Some(namespace),
        interface,
        mac: [0x02, 0, 0, 0, 0, number],
        addresses: address,
    };
    const SERVER: &[(IpAddr, u8)] = &[(IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1)), 24)];
    const CLIENT: &[(IpAddr, u8)] = &[(IpAddr::V4(Ipv4Addr::new(198, 19, 0, 2)), 24)];
    let (one, other) = (end(&site.pair.server, "jumbo0", 0x31, SERVER), end(&site.pair.client, "jumbo1", 0x32, CLIENT));
    connect(one, other).expect("a cable");
    for end in [one, other] {
        let namespace = end.namespace.expect("set above");
        namespace.ip(&format!("link set {} mtu 9000", end.interface)).expect("a large MTU");
    }
    let deadline = Instant::now() + patience(Duration::from_secs(20));
    while !site.pair.server.ip("link show jumbo0").expect("it is there").contains("xdpgeneric") {
        assert!(Instant::now() < deadline, "{}", site.tracker.log());
        thread::sleep(Duration::from_millis(20));
    }
    // Options of BEP 41 that say nothing, as many as a frame of 9000 bytes has room for.
    let mut client = UdpClient::connected(&site.pair.client, (host, 0).into(), (tracker, PORT).into()).expect("an id");
    for bytes in [0, 1000, 2500, 8000] {
        let announce = Announce { options: vec![1; bytes], ..Announce::new([3; 20], 6881) };
        client.announce(&announce).unwrap_or_else(|error| panic!("{bytes} bytes of options: {error:#}"));
    }
}
