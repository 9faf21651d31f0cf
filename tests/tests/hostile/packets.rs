//! Floods of packets: from invented addresses, with invented ids, broken in every way; and right
//! ones, from somebody who has shown that he receives at his address and asks for what nobody else
//! does.

use crate::{
    honest::{PORT, client, server},
    site::{Expected, Site, UNIMPRESSED, duration, scaled},
};
use fastrand::Rng;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{self, Announce},
    client::UdpClient,
    namespace::Pair,
    packet::{Checksum, Frame, QINQ, TCP, Tag, VLAN},
    raw::RawSocket,
    tracker::Metrics,
};

/// Packets per second of a flood.
const RATE: f64 = 15_000.0;

pub fn bytes<const N: usize>(random: &mut Rng) -> [u8; N] {
    std::array::from_fn(|_| random.u8(..))
}

/// A frame from nobody, which asks for an id.
fn invented(random: &mut Rng) -> Frame {
    let ipv4 = random.usize(..2) == 0;
    let address: IpAddr = if ipv4 {
        // Neither this network nor a loopback address.
        let [_, b, c, d] = bytes(random);
        Ipv4Addr::new(11 + random.usize(..80) as u8, b, c, d).into()
    } else {
        let [a, b, c, d, e, f] = bytes::<6>(random).map(u16::from);
        Ipv6Addr::new(0x2001, 0xdb8, a, b, c, d, e, f).into()
    };
    let source = SocketAddr::new(address, 1024 + random.usize(..60_000) as u16);
    let payload = bep15::connect(random.u64(..) as u32);
    Frame { payload, ..Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, server(ipv4)) }
}

/// An announce of anything.
fn anything(random: &mut Rng) -> Announce {
    let announce = Announce::new(bytes(random), 1 + random.usize(..65_535) as u16);
    Announce {
        transaction: random.u64(..) as u32,
        left: random.u64(..) % 2,
        event: random.usize(..4) as u32,
        num_want: random.u64(..) as i32,
        ..announce
    }
}

fn announce(random: &mut Rng) -> Vec<u8> {
    let connection_id = random.u64(..);
    let payload = Announce { connection_id, ..anything(random) }.bytes();
    Frame { payload, ..invented(random) }.bytes()
}

fn scrape(random: &mut Rng) -> Vec<u8> {
    let torrents: Vec<_> = (0..random.usize(..74)).map(|_| bytes(random)).collect();
    let payload = bep15::scrape(random.u64(..), random.u64(..) as u32, &torrents);
    Frame { payload, ..invented(random) }.bytes()
}

/// Bytes that are no request, or none any more.
fn noise(random: &mut Rng) -> Vec<u8> {
    let mut payload = match random.usize(..3) {
        0 => bep15::connect(random.u64(..) as u32),
        1 => anything(random).bytes(),
        _ => Vec::new(),
    };
    payload.resize([0, 1, 15, 16, 17, 97, 98, 99, 400, 1400][random.usize(..10)], 0x5a);
    for _ in 0..random.usize(..4) {
        let at = random.usize(..payload.len().max(1));
        if let Some(byte) = payload.get_mut(at) {
            *byte ^= random.u64(..) as u8;
        }
    }
    Frame { payload, ..invented(random) }.bytes()
}

/// Frames whose headers are broken.
fn broken(random: &mut Rng) -> Vec<u8> {
    let mut frame = invented(random);
    let ipv4 = frame.source.is_ipv4();
    let checksum = [Checksum::Wrong, Checksum::Zero, Checksum::Unfinished][random.usize(..3)];
    match random.usize(..16) {
        0 => frame.cut = random.usize(..60),
        1 => frame.padding = random.usize(..1400),
        2 => frame.payload.resize(1452 - random.usize(..40), 0),
        3 if ipv4 => frame.options = vec![random.u64(..) as u8; 4 * random.usize(..11)],
        4 => frame.fragment = random.u64(..) as u16,
        5 => frame.udp_checksum = checksum,
        6 => frame.ip_checksum = checksum,
        7 => frame.tags = vec![Tag { protocol: VLAN, control: random.u64(..) as u16 }; 1 + random.usize(..8)],
        8 => {
            frame.tags = vec![
                Tag { protocol: QINQ, control: random.u64(..) as u16 },
                Tag { protocol: VLAN, control: random.u64(..) as u16 },
            ];
        }
        9 => frame.ether_type = Some(random.u64(..) as u16),
        10 => frame.version = Some(random.usize(..16) as u8),
        11 => frame.header_words = Some(random.usize(..16) as u8),
        12 => frame.ip_length = random.usize(..60_000) as i32 - 24,
        13 => frame.udp_length = random.usize(..60_000) as i32 - 24,
        14 => frame.protocol = random.u64(..) as u8,
        _ => frame.extension = Some(random.u64(..) as u8),
    }
    let mut bytes = frame.bytes();
    if random.usize(..4) == 0 {
        // Behind the MAC addresses, so that it goes to the tracker's host all the same.
        let at = 12 + random.usize(..bytes.len().saturating_sub(12).max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << random.usize(..8);
        }
    }
    bytes
}

/// Beginnings of packets whose rest never comes, and ends of such that never began.
fn fragment(random: &mut Rng) -> Vec<u8> {
    let more = 0x2000 * (random.usize(..2) as u16);
    let mut frame = invented(random);
    while frame.source.is_ipv6() {
        frame = invented(random);
    }
    frame.payload = vec![0x5a; 8 * (1 + random.usize(..150))];
    frame.fragment = more | random.usize(..0x1fff) as u16;
    frame.bytes()
}

/// What a flood has sent.
#[derive(Debug, Default)]
struct Sent {
    frames: u64,
    bytes: u64,
}

/// The first packet of a TCP connection that will never be. What the frame says of UDP is replaced.
fn syn(random: &mut Rng) -> Vec<u8> {
    let mut frame = invented(random);
    while frame.source.is_ipv6() {
        frame = invented(random);
    }
    // As long as a header of TCP with one option: the segment's largest size.
    frame.protocol = TCP;
    frame.payload = vec![0; 24 - 8];
    let mut bytes = frame.bytes();
    let at = bytes.len() - 24;
    random.fill(&mut bytes[at + 4..at + 8]);
    bytes[at + 8..].copy_from_slice(&[0, 0, 0, 0, 6 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    // The pseudo header: both addresses, protocol and length.
    let words =
        |bytes: &[u8]| -> u32 { bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum() };
    let mut sum = words(&bytes[at - 8..at]) + u32::from(TCP) + 24 + words(&bytes[at..]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[at + 16..at + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}

/// Sends frames at a rate. What the kernel does not take is not sent.
fn flood_for(limit: Duration, site: &Site, rate: f64, mut frame: impl FnMut(&mut Rng) -> Vec<u8>) -> Sent {
    /// In a row, with no pause.
    const BURST: u64 = 64;
    let socket = RawSocket::open(&site.pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
    let mut random = Rng::with_seed(7);
    let (begun, mut due_so_far) = (Instant::now(), 0);
    let mut sent = Sent::default();
    while begun.elapsed() < limit {
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        for _ in 0..due.saturating_sub(due_so_far).min(BURST) {
            let frame = frame(&mut random);
            if socket.send(&frame).is_ok() {
                sent.frames += 1;
                sent.bytes += frame.len() as u64;
            }
            due_so_far += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

fn flood(site: &Site, rate: f64, frame: impl FnMut(&mut Rng) -> Vec<u8>) -> Sent {
    flood_for(duration(), site, rate, frame)
}

/// Sends frames as fast as the kernel takes them, over and over again.
fn flood_without_pause(site: &Site, frames: &[Vec<u8>]) -> Sent {
    let socket = RawSocket::open(&site.pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
    let (begun, limit) = (Instant::now(), duration());
    let mut sent = Sent::default();
    let mut frames = frames.iter().cycle();
    while begun.elapsed() < limit {
        for frame in frames.by_ref().take(64) {
            if socket.send(frame).is_ok() {
                sent.frames += 1;
                sent.bytes += frame.len() as u64;
            }
        }
    }
    sent
}

type Make = fn(&mut Rng) -> Vec<u8>;

const FLOODS: [(&str, Make); 6] = [
    ("connects from invented addresses", |random| invented(random).bytes()),
    ("announces with invented ids", announce),
    ("scrapes with invented ids", scrape),
    ("noise", noise),
    ("broken headers", broken),
    ("fragments without the rest", fragment),
];

/// Bytes that the clients' interface has received.
fn received(site: &Site) -> u64 {
    let all = site.pair.client.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).expect("interfaces");
    let line = all.lines().find_map(|line| line.trim().strip_prefix("client0:")).expect("the clients' interface");
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// Torrents and peers stored.
fn stored(site: &Site) -> (f64, f64) {
    let metrics = site.metrics();
    (metrics.sum("tracker_torrents", &[]), metrics.sum("tracker_peers", &[]))
}

/// What honest clients store: one torrent by UDP, of both families, and two by HTTP.
const HONEST: (f64, f64) = (3.0, 4.0);

/// One flood after the other, or, where there is no time, all at once.
fn floods() -> Vec<(&'static str, Make)> {
    let all = ("all kinds of floods at once", (|random| FLOODS[random.usize(..FLOODS.len())].1(random)) as Make);
    scaled(vec![all], FLOODS.to_vec())
}

#[test]
fn floods_from_invented_addresses_change_nothing_for_others() {
    let site = Site::new();
    for (name, make) in floods() {
        site.attack(name, UNIMPRESSED, || {
            println!("{name}: {:?}", flood(&site, RATE, make));
        });
        assert_eq!(stored(&site), HONEST, "{name}: something of it is stored, or others are not");
    }
}

#[test]
fn floods_are_stood_by_sockets_too() {
    let site = Site::with(&["--xdp-mode", "off"], |_| ());
    for (name, make) in floods() {
        site.attack(&format!("{name}, sockets"), UNIMPRESSED, || {
            println!("{name}, sockets: {:?}", flood(&site, RATE / 3.0, make));
        });
        assert_eq!(stored(&site), HONEST, "{name}: something of it is stored, or others are not");
    }
}

/// The kernel answers these, several times each, and remembers none once there are many (SYN
/// cookies): the queue of the listening sockets is for those who mean it.
#[test]
fn connections_that_are_only_begun_keep_nobody_out() {
    let site = Site::new();
    let before = received(&site);
    site.attack("beginnings of connections", UNIMPRESSED, || {
        println!("beginnings of connections: {:?}", flood(&site, RATE, syn));
    });
    let received = received(&site) - before;
    println!("beginnings of connections: {received} bytes received");
    assert!(received > 100_000, "the kernel does not take them for what they are");
}

#[test]
fn nobody_is_sent_more_than_was_sent_in_his_name() {
    let site = Site::new();
    for (name, make) in FLOODS {
        let before = received(&site);
        let Sent { frames, bytes } = flood_for(duration() / 2, &site, RATE / 3.0, make);
        // What is still on its way.
        thread::sleep(Duration::from_millis(200));
        let received = received(&site) - before;
        println!("{name}: {frames} frames, {bytes} bytes sent, {received} received");
        // Neighbour discovery and the like.
        assert!(received <= bytes + 4096, "{name}: {received} bytes came back for {bytes}");
        assert!(frames > 100, "{name}: {frames} frames");
    }
}

#[test]
fn torrents_that_holders_of_ids_invent_lock_nobody_out_of_his_own() {
    let site = Site::new();
    let mut attackers: Vec<(SocketAddr, u64)> = Vec::new();
    for (number, ipv4) in [(0, true), (1, true), (2, false), (3, false)] {
        let source = SocketAddr::new(client(number, ipv4), PORT);
        let attacker = UdpClient::connected(&site.pair.client, source, server(ipv4)).expect("an id");
        attackers.push((source, attacker.connection_id()));
    }
    // Both are full soon, which is said once a minute.
    let expected = Expected { lines: scaled(8, 16), ..UNIMPRESSED };
    site.attack("invented torrents", expected, || {
        let sent = flood(&site, 2.0 * RATE, |random| {
            let (source, connection_id) = attackers[random.usize(..attackers.len())];
            let payload = Announce { connection_id, ..anything(random) }.bytes();
            let to = server(source.is_ipv4());
            Frame { payload, ..Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, to) }.bytes()
        });
        println!("invented torrents: {sent:?}");
    });
    let (torrents, _) = stored(&site);
    assert!(torrents > 10_000.0, "{torrents} torrents are not full");
    site.attack("ports in torrents of others", expected, || {
        flood(&site, 2.0 * RATE, |random| {
            let (source, connection_id) = attackers[random.usize(..attackers.len())];
            // The honest clients' own.
            let payload = Announce { connection_id, info_hash: [0x77; 20], ..anything(random) }.bytes();
            let to = server(source.is_ipv4());
            Frame { payload, ..Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, to) }.bytes()
        });
    });
}

/// A flood where limits per source are in force, as fast as it can be sent unless there is a `rate`:
/// connects and invented ids from addresses of nobody, and one who has an id and asks as if he were
/// alone.
fn is_stood_with_limits(name: &str, site: &Site, path: &str, rate: Option<f64>) {
    let source = SocketAddr::new(client(1, true), PORT);
    let greedy = UdpClient::connected(&site.pair.client, source, server(true)).expect("an id").connection_id();
    let before = site.metrics();
    let begun = Instant::now();
    let mut sent = Sent::default();
    let frame = |random: &mut Rng| match random.usize(..4) {
        0 => invented(random).bytes(),
        1 => announce(random),
        2 => scrape(random),
        _ => {
            let payload = Announce { connection_id: greedy, ..anything(random) }.bytes();
            Frame { payload, ..Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, server(true)) }.bytes()
        }
    };
    let mut random = Rng::with_seed(8);
    let frames: Vec<_> = (0..20_000).map(|_| frame(&mut random)).collect();
    site.attack(name, UNIMPRESSED, || {
        sent = match rate {
            Some(rate) => flood(site, rate, frame),
            None => flood_without_pause(site, &frames),
        };
    });
    let (after, seconds) = (site.metrics(), begun.elapsed().as_secs_f64());
    let refused = |reason: &str| {
        let labels = [("path", path), ("reason", reason)];
        let count = |metrics: &Metrics| metrics.sum("tracker_requests_rejected_total", &labels);
        count(&after) - count(&before)
    };
    let (told, held_back) = (refused("connection_id_wrong"), refused("error_held_back"));
    let limited = refused("rate_limited_announce");
    println!("{name}: {sent:?} in {:?}, {told} errors told, {held_back} not, {limited} announces refused", duration());
    assert!(told <= f64::from(ERRORS) * (seconds + 2.0), "{told} errors in {seconds} s");
    assert!(held_back > 0.0, "no error was held back");
    assert!(limited > 0.0, "the one who asks most is not limited");
    let (torrents, _) = stored(site);
    // What he may invent in a minute, and as much again for each that it takes.
    let most = f64::from(announces()) * (1.0 + seconds / 60.0) + HONEST.0;
    assert!(torrents <= most, "{torrents} torrents are stored, of {most}");
}

/// Announces of one source in a minute: more than honest clients, who ask two hundred times a second
/// here, send in the time that they have.
fn announces() -> u32 {
    scaled(2000, 30_000)
}

/// Wrong connection ids told of in a second.
const ERRORS: u32 = 200;

fn with_limits(mode: &str) -> Site {
    let (announces, errors) = (announces().to_string(), ERRORS.to_string());
    let limits = ["--limit-connects", "6000", "--limit-scrapes", "300", "--limit-announces", &announces];
    Site::with(&[&limits[..], &["--limit-errors", &errors, "--xdp-mode", mode]].concat(), |_| ())
}

#[test]
fn floods_are_stood_by_xdp_with_limits_per_source() {
    is_stood_with_limits("all that can be sent, limits", &with_limits("native"), "xdp", None);
}

#[test]
fn floods_are_stood_by_sockets_with_limits_per_source() {
    let rate = scaled(2.0 * RATE, 4.0 * RATE);
    is_stood_with_limits("limits, sockets", &with_limits("off"), "udp_socket", Some(rate));
}
