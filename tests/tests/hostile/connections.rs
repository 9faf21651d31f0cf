//! HTTP connections that keep the daemon busy in every way but the right one.

use crate::{
    honest::{announce, client, is_announce_reply, server},
    packets::bytes,
    site::{Site, UNIMPRESSED, duration, is_long, scaled},
    socket::{connect_from, connect_meanly, pipelined, raise_file_limit, reset},
};
use fastrand::Rng;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{bep15::Announce, client::UdpClient, namespace::Pair, packet::Frame, patience, raw::RawSocket};

/// As many connections as the daemon keeps open by default, and half as many again.
const MANY: usize = 6000;

/// Opens connections as fast as they can be had, sends the same on each, and keeps them until the
/// time is over; those that the daemon ends are opened anew.
fn hold(site: &Site, most: usize, bytes: &[u8], mut more: impl FnMut(&mut TcpStream) -> bool) -> usize {
    let begun = Instant::now();
    let mut held: Vec<TcpStream> = Vec::new();
    let mut opened = 0;
    // Opening them takes longer on a busy machine, and is the point of it.
    while opened < most || begun.elapsed() < duration() {
        for _ in 0..100 {
            if held.len() < most
                && let Some(mut stream) = connect_meanly(&site.pair.client)
            {
                let _ = stream.write(bytes);
                held.push(stream);
                opened += 1;
            }
        }
        if opened >= most {
            held.retain_mut(&mut more);
            thread::sleep(Duration::from_millis(20));
        }
    }
    opened
}

/// Whether the other end still holds the connection.
fn is_open(stream: &TcpStream) -> bool {
    let mut space = [0; 1];
    !matches!(stream.peek(&mut space), Ok(0))
        && !stream.peek(&mut space).is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

#[test]
fn slow_and_silent_connections_lock_nobody_out() {
    raise_file_limit();
    let site = Site::new();
    let most = scaled(MANY, 2 * MANY);
    site.attack("connections that say nothing", UNIMPRESSED, || {
        println!("{} opened", hold(&site, most, b"", |stream| is_open(stream)));
    });
    if is_long() {
        site.attack("requests that never end", UNIMPRESSED, || {
            let slowly = |stream: &mut TcpStream| is_open(stream) && stream.write(b"x").is_ok();
            println!("{} opened", hold(&site, most, b"GET /announce?x=", slowly));
        });
    }
    let bytes = pipelined();
    site.attack("replies that nobody takes", UNIMPRESSED, || {
        println!("{} opened", hold(&site, most, &bytes, |stream| is_open(stream)));
    });
}

/// Stores many torrents: a full scrape of them does not fit the buffers of the kernel.
fn fill(site: &Site, torrents: u32) {
    let source = SocketAddr::new(client(3, true), 7777);
    let id = UdpClient::connected(&site.pair.client, source, server(true)).expect("an id").connection_id();
    let socket = RawSocket::open(&site.pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
    let mut random = Rng::with_seed(3);
    for number in 0..torrents {
        let announce = Announce { connection_id: id, ..Announce::new(bytes(&mut random), 1 + number as u16 % 1000) };
        let frame = Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, server(true));
        socket.send(&Frame { payload: announce.bytes(), ..frame }.bytes()).expect("sent");
        if number % 32 == 0 {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

#[test]
fn every_other_misuse_of_connections_is_stood() {
    raise_file_limit();
    let site = Site::new();
    byte_by_byte(&site);
    half_closed(&site);
    pipelining(&site);
    resets(&site);
    full_scrapes(&site);
}

fn full_scrapes(site: &Site) {
    fill(site, 15_000);
    let stored = site.metrics().sum("tracker_torrents", &[]);
    assert!(stored > 10_000.0, "{stored} torrents");
    site.attack("full scrapes that nobody reads", UNIMPRESSED, || {
        let bytes = b"GET /scrape HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n";
        println!("{} opened", hold(site, 1000, bytes, |stream| is_open(stream)));
    });
}

fn byte_by_byte(site: &Site) {
    site.attack("byte by byte", UNIMPRESSED, || {
        let request = announce(7);
        let mut slow: Vec<_> = (0..100).filter_map(|_| connect_meanly(&site.pair.client)).collect();
        for byte in request.chunks(1) {
            slow.iter_mut().for_each(|stream| assert_eq!(stream.write(byte).expect("taken"), 1));
            thread::sleep(Duration::from_millis(5));
        }
        for stream in slow {
            stream.set_nonblocking(false).expect("a socket");
            stream.set_read_timeout(Some(patience(Duration::from_secs(10)))).expect("a socket");
            is_announce_reply(stream).expect("an answer");
        }
    });
}

fn half_closed(site: &Site) {
    let whole = announce(6);
    // What is sent before the sending side is closed; what the reply begins with.
    let rows: [(&str, &[u8], &str); 4] = [
        ("a request", &whole, "HTTP/1.1 200 "),
        ("two requests, the second in part", b"GET /stats?mode=version HTTP/1.1\r\n\r\nGET /sta", "HTTP/1.1 200 "),
        ("half a request", &whole[..40], "HTTP/1.1 400 "),
        ("nothing", b"", ""),
    ];
    site.attack("half closed", UNIMPRESSED, || {
        let begun = Instant::now();
        while begun.elapsed() < duration() {
            for (name, bytes, begins) in rows {
                let mut stream = connect_meanly(&site.pair.client).expect("a connection");
                stream.set_nonblocking(false).expect("a socket");
                stream.set_read_timeout(Some(patience(Duration::from_secs(10)))).expect("a socket");
                stream.write_all(bytes).expect("sent");
                stream.shutdown(Shutdown::Write).expect("a connection");
                let mut reply = Vec::new();
                stream.read_to_end(&mut reply).expect("it ends");
                assert!(reply.starts_with(begins.as_bytes()), "{name}: {:?}", String::from_utf8_lossy(&reply));
            }
        }
    });
}

fn pipelining(site: &Site) {
    let bytes = announce(5);
    let kept = String::from_utf8_lossy(&bytes).replace("Connection: close\r\n", "").repeat(20).into_bytes();
    site.attack("pipelining", UNIMPRESSED, || {
        let (begun, mut space, mut replies) = (Instant::now(), vec![0; 1 << 16], 0);
        let mut all: Vec<_> = (0..50)
            .map(|_| {
                let stream = site.pair.client.run(|| connect_from(1)).expect("a connection");
                stream.set_nonblocking(true).expect("a socket");
                stream
            })
            .collect();
        while begun.elapsed() < duration() {
            for stream in &mut all {
                // A request cut in the middle would make nonsense of the rest.
                if stream.read(&mut space).is_ok_and(|count| count > 0) || replies == 0 {
                    stream.set_nonblocking(false).expect("a socket");
                    stream.write_all(&kept).expect("taken");
                    stream.set_nonblocking(true).expect("a socket");
                    replies += 1;
                }
            }
        }
        println!("{replies} times 20 requests");
    });
}

fn resets(site: &Site) {
    let whole = announce(5);
    let half = &whole[..whole.len() / 2];
    site.attack("resets", UNIMPRESSED, || {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < duration() {
            for sent in [&b""[..], half, &whole] {
                if let Some(mut stream) = connect_meanly(&site.pair.client) {
                    let _ = stream.write(sent);
                    reset(stream);
                    count += 1;
                }
            }
        }
        println!("{count} resets");
    });
}

#[test]
fn connections_by_the_thousand_do_not_fill_a_small_limit_for_others() {
    raise_file_limit();
    let site = Site::with(&["--xdp-mode", "native", "--http-connections", "50"], |_| ());
    let bytes = pipelined();
    site.attack("replies that nobody takes, room for 50", UNIMPRESSED, || {
        println!("{} opened", hold(&site, 500, &bytes, |stream| is_open(stream)));
    });
}
