//! Floods of packets: from invented addresses, with invented ids, broken in every way; and right
//! ones, from somebody who has shown that he receives at his address and asks for what nobody else
//! does.

use crate::{
    honest::{PORT, client, server},
    site::{Expected, Site, UNIMPRESSED, duration, scaled},
};
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
};

/// Packets per second of a flood.
const RATE: f64 = 15_000.0;

/// Numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// A frame from nobody, which asks for an id.
fn invented(random: &mut Random) -> Frame {
    let ipv4 = random.below(2) == 0;
    let address: IpAddr = if ipv4 {
        // Neither this network nor a loopback address.
        let [_, b, c, d] = random.bytes();
        Ipv4Addr::new(11 + random.below(80) as u8, b, c, d).into()
    } else {
        let [a, b, c, d, e, f] = random.bytes::<6>().map(u16::from);
        Ipv6Addr::new(0x2001, 0xdb8, a, b, c, d, e, f).into()
    };
    let source = SocketAddr::new(address, 1024 + random.below(60_000) as u16);
    let payload = bep15::connect(random.next() as u32);
    Frame { payload, ..Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, server(ipv4)) }
}

/// An announce of anything.
fn anything(random: &mut Random) -> Announce {
    let announce = Announce::new(random.bytes(), 1 + random.below(65_535) as u16);
    Announce {
        transaction: random.next() as u32,
        left: random.next() % 2,
        event: random.below(4) as u32,
        num_want: random.next() as i32,
        ..announce
    }
}

fn announce(random: &mut Random) -> Vec<u8> {
    let connection_id = random.next();
    let payload = Announce { connection_id, ..anything(random) }.bytes();
    Frame { payload, ..invented(random) }.bytes()
}

fn scrape(random: &mut Random) -> Vec<u8> {
    let torrents: Vec<_> = (0..random.below(74)).map(|_| random.bytes()).collect();
    let payload = bep15::scrape(random.next(), random.next() as u32, &torrents);
    Frame { payload, ..invented(random) }.bytes()
}

/// Bytes that are no request, or none any more.
fn noise(random: &mut Random) -> Vec<u8> {
    let mut payload = match random.below(3) {
        0 => bep15::connect(random.next() as u32),
        1 => anything(random).bytes(),
        _ => Vec::new(),
    };
    payload.resize([0, 1, 15, 16, 17, 97, 98, 99, 400, 1400][random.below(10)], 0x5a);
    for _ in 0..random.below(4) {
        let at = random.below(payload.len().max(1));
        if let Some(byte) = payload.get_mut(at) {
            *byte ^= random.next() as u8;
        }
    }
    Frame { payload, ..invented(random) }.bytes()
}

/// Frames whose headers are broken.
fn broken(random: &mut Random) -> Vec<u8> {
    let mut frame = invented(random);
    let ipv4 = frame.source.is_ipv4();
    let checksum = [Checksum::Wrong, Checksum::Zero, Checksum::Unfinished][random.below(3)];
    match random.below(16) {
        0 => frame.cut = random.below(60),
        1 => frame.padding = random.below(1400),
        2 => frame.payload.resize(1452 - random.below(40), 0),
        3 if ipv4 => frame.options = vec![random.next() as u8; 4 * random.below(11)],
        4 => frame.fragment = random.next() as u16,
        5 => frame.udp_checksum = checksum,
        6 => frame.ip_checksum = checksum,
        7 => frame.tags = vec![Tag { protocol: VLAN, control: random.next() as u16 }; 1 + random.below(8)],
        8 => {
            frame.tags = vec![
                Tag { protocol: QINQ, control: random.next() as u16 },
                Tag { protocol: VLAN, control: random.next() as u16 },
            ];
        }
        9 => frame.ether_type = Some(random.next() as u16),
        10 => frame.version = Some(random.below(16) as u8),
        11 => frame.header_words = Some(random.below(16) as u8),
        12 => frame.ip_length = random.below(60_000) as i32 - 24,
        13 => frame.udp_length = random.below(60_000) as i32 - 24,
        14 => frame.protocol = random.next() as u8,
        _ => frame.extension = Some(random.next() as u8),
    }
    let mut bytes = frame.bytes();
    if random.below(4) == 0 {
        // Behind the MAC addresses, so that it goes to the tracker's host all the same.
        let at = 12 + random.below(bytes.len().saturating_sub(12).max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
    bytes
}

/// Beginnings of packets whose rest never comes, and ends of such that never began.
fn fragment(random: &mut Random) -> Vec<u8> {
    let more = 0x2000 * (random.below(2) as u16);
    let mut frame = invented(random);
    while frame.source.is_ipv6() {
        frame = invented(random);
    }
    frame.payload = vec![0x5a; 8 * (1 + random.below(150))];
    frame.fragment = more | random.below(0x1fff) as u16;
    frame.bytes()
}

/// What a flood has sent.
#[derive(Debug, Default)]
struct Sent {
    frames: u64,
    bytes: u64,
}

/// The first packet of a TCP connection that will never be. What the frame says of UDP is replaced.
fn syn(random: &mut Random) -> Vec<u8> {
    let mut frame = invented(random);
    while frame.source.is_ipv6() {
        frame = invented(random);
    }
    // As long as a header of TCP with one option: the segment's largest size.
    frame.protocol = TCP;
    frame.payload = vec![0; 24 - 8];
    let mut bytes = frame.bytes();
    let at = bytes.len() - 24;
    bytes[at + 4..at + 8].copy_from_slice(&random.bytes::<4>());
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
fn flood_for(limit: Duration, site: &Site, rate: f64, mut frame: impl FnMut(&mut Random) -> Vec<u8>) -> Sent {
    /// In a row, with no pause.
    const BURST: u64 = 64;
    let socket = RawSocket::open(&site.pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
    let mut random = Random(7);
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

fn flood(site: &Site, rate: f64, frame: impl FnMut(&mut Random) -> Vec<u8>) -> Sent {
    flood_for(duration(), site, rate, frame)
}

type Make = fn(&mut Random) -> Vec<u8>;

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
    let all = ("all kinds of floods at once", (|random| FLOODS[random.below(FLOODS.len())].1(random)) as Make);
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
            let (source, connection_id) = attackers[random.below(attackers.len())];
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
            let (source, connection_id) = attackers[random.below(attackers.len())];
            // The honest clients' own.
            let payload = Announce { connection_id, info_hash: [0x77; 20], ..anything(random) }.bytes();
            let to = server(source.is_ipv4());
            Frame { payload, ..Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, to) }.bytes()
        });
    });
}
