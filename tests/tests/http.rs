//! What thousands of HTTP connections that behave badly may cost the daemon.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};
use tracker_tests::{client::http_get, namespace::Namespace, tracker::Tracker};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);

/// As many connections as the daemon keeps open by default, with a few left for others.
const CONNECTIONS: usize = 4000;

/// What `tracker sizes` says that all connections together may hold.
const BUDGET: f64 = (16 << 20) as f64;

/// What it says of each connection, whatever it holds.
const PER_CONNECTION: f64 = 3072.0;

/// What a measurement of the resident memory is off by: memory that has been given back stays with
/// the process for a while.
const TOLERANCE: f64 = (4 << 20) as f64;

/// A connection that takes as little as the kernel lets it.
fn connect(namespace: &Namespace) -> TcpStream {
    let stream = namespace.run(|| TcpStream::connect(SERVER)).expect("the tracker listens");
    let bytes: libc::c_int = 1;
    // SAFETY: the pointer and the length are those of `bytes`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
    stream.set_nonblocking(true).expect("a socket");
    stream
}

fn raise_file_limit() {
    let limit = libc::rlimit { rlim_cur: 16_384, rlim_max: 16_384 };
    // SAFETY: `limit` is valid to read from.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Resident memory of the daemon in bytes.
fn resident(tracker: &Tracker) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", tracker.process())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

#[test]
fn connections_that_take_nothing_or_never_finish_cost_what_is_documented() {
    raise_file_limit();
    let hashes: String = (0..60).map(|number| format!("&info_hash={number:020}")).collect();
    // (what they do, what each sends, whether some are cut)
    let rows = [
        ("pipeline and never read", format!("GET /scrape?{hashes} HTTP/1.1\r\n\r\n").repeat(40), true),
        ("begin a request", format!("GET /announce?x={}", "x".repeat(8000)), true),
        ("have been answered and stay", "GET /stats?mode=version HTTP/1.1\r\n\r\n".into(), false),
    ];
    for (name, bytes, cut) in rows {
        let namespace = Namespace::new().expect("root");
        let options = ["--max-torrents", "1000", "--max-peers", "1000", "--http-threads", "2"];
        let tracker = Tracker::start(&namespace, &options).expect("the tracker runs");
        let before = resident(&tracker);
        let mut most: f64 = 0.0;
        let mut connections = Vec::new();
        for number in 0..CONNECTIONS {
            let mut stream = connect(&namespace);
            // What does not fit now need not come.
            let _ = stream.write(bytes.as_bytes());
            connections.push(stream);
            if number % 100 == 0 {
                most = most.max(resident(&tracker) - before);
            }
        }
        // The daemon closes these connections after 10 seconds; until then they hold what they
        // can. A client that behaves is answered, though not at once: thousands of requests came
        // before its own.
        let start = Instant::now();
        let mut answered = false;
        while start.elapsed() < Duration::from_secs(4) || !answered {
            most = most.max(resident(&tracker) - before);
            let reply = http_get(Some(&namespace), SERVER, "/announce?info_hash=bbbbbbbbbbbbbbbbbbbb&port=1");
            answered = reply.is_ok_and(|reply| reply.status == 200);
            assert!(answered || start.elapsed() < Duration::from_secs(60), "{name}: nobody else is answered");
        }
        most = most.max(resident(&tracker) - before);
        let allowed = BUDGET + CONNECTIONS as f64 * PER_CONNECTION + TOLERANCE;
        println!("{name}: {:.1} MiB of {:.1}", most / f64::from(1 << 20), allowed / f64::from(1 << 20));
        assert!(most <= allowed, "{name}: {most} bytes more than before, {allowed} allowed");
        let indebted = tracker
            .metrics(&namespace)
            .expect("metrics")
            .sum("tracker_http_connections_aborted_total", &[("reason", "indebted")]);
        assert_eq!(indebted > 0.0, cut, "{name}: {indebted} were cut");
        if !cut {
            let mut space = [0; 4096];
            assert!(
                connections.iter_mut().all(|stream| stream.read(&mut space).is_ok_and(|count| count > 0)),
                "{name}"
            );
        }
        assert!(tracker.stop().expect("it runs").success());
    }
}
