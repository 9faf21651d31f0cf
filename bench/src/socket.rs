//! `cargo xtask bench socket`: load through ordinary sockets, against any tracker, from anywhere,
//! without privileges.
//!
//! One thread sends and receives in batches (`sendmmsg`, `recvmmsg`) over a few sockets, each of
//! which connects as BEP 15 says before anything else. In a closed loop every reply is answered by
//! the next request, and what is not answered within a second is lost; with a rate, requests leave
//! at that rate, answered or not. It measures itself as much as the tracker: on one machine with
//! it, a fast tracker is not the limit.

use std::{
    collections::HashMap,
    io, mem,
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bench_ebpf::{LATENCY_BUCKETS, Visit, latency_bucket};
use clap::{Args, ValueEnum};
use tracker_tests::interrupt;

use crate::{
    connect::is_passing,
    request::{Event, Request, hash_bytes},
    scenario,
    statistics::{count, quantile},
};

/// Messages per system call.
const BATCH: usize = 64;
/// Longest reply that is looked at.
const REPLY_BYTES: usize = 2048;
/// A request not answered for so long is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a connect is repeated, and how long each time is waited.
const CONNECT_TRIES: u32 = 5;
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// Connection ids are renewed after this time.
const CONNECTION_AGE: Duration = Duration::from_secs(50);

#[derive(Args)]
pub struct Options {
    /// The tracker
    #[arg(long, value_name = "HOST:PORT")]
    target: String,
    #[arg(long, value_enum, default_value = "announce")]
    request: Kind,
    /// Requests per second; without it, as many as are answered
    #[arg(long)]
    rate: Option<f64>,
    /// Requests on their way when there is no rate
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// How long to measure, after one pass through the peers
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Torrents
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    torrents: u32,
    /// Peers, told apart by the port they announce; each torrent can have 32768
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    peers: u32,
    /// Peers wanted in an announce
    #[arg(long, default_value_t = 50, allow_negative_numbers = true)]
    want: i32,
    /// info_hashes in a scrape
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=74))]
    hashes: u32,
    /// Sockets, each with a port of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    sockets: u32,
    /// Do not announce all peers once before the measurement
    #[arg(long)]
    no_prefill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Connect,
    Announce,
    Scrape,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.peers.div_ceil(options.torrents) <= 32_768,
        "{} peers in {} torrents are more than 32768 per torrent",
        options.peers,
        options.torrents
    );
    interrupt::catch()?;
    let target = options
        .target
        .to_socket_addrs()
        .with_context(|| format!("cannot find {}", options.target))?
        .next()
        .with_context(|| format!("{} has no address", options.target))?;
    let mut sockets = (0..options.sockets).map(|_| Socket::connect(target)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut client = Client::new(options);

    if options.request != Kind::Connect && !options.no_prefill {
        let start = Instant::now();
        client.request = Request::Announce { num_want: 0, event: Event::Started };
        let window = options.window.min(options.peers);
        let total = u64::from(options.peers);
        client.drive(&mut sockets, target, None, window, |client| Ok(client.counts.sent >= total))?;
        eprintln!(
            "{} peers announced in {:.1} s, {:.2} % answered",
            options.peers,
            start.elapsed().as_secs_f64(),
            100.0 * client.counts.answered as f64 / client.counts.sent as f64
        );
    }

    client.request = match options.request {
        Kind::Connect => Request::Connect,
        Kind::Announce => Request::Announce { num_want: options.want, event: Event::None },
        Kind::Scrape => Request::Scrape { hashes: options.hashes },
    };
    client.counts = Counts::default();
    client.latency.fill(0);
    let start = Instant::now();
    let end = start + Duration::try_from_secs_f64(options.seconds).context("not a time: --seconds")?;
    client.drive(&mut sockets, target, options.rate, options.window, |_| Ok(Instant::now() >= end))?;
    client.print(start.elapsed().as_secs_f64());
    Ok(())
}

/// What was sent and received.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    answered: u64,
    peers: u64,
    bytes: u64,
    errors: u64,
    invalid: u64,
    lost: u64,
}

struct Client {
    request: Request,
    population: Vec<Visit>,
    position: usize,
    sequence: u32,
    /// When requests were sent, by transaction id.
    open: HashMap<u32, Instant>,
    counts: Counts,
    latency: Vec<u64>,
    peer_bytes: usize,
}

/// One socket, and its connection id.
struct Socket {
    socket: UdpSocket,
    connection_id: [u8; 8],
    connected: Instant,
}

impl Client {
    fn new(options: &Options) -> Self {
        let mut population: Vec<Visit> = (0..options.peers)
            .map(|number| Visit { torrent: number % options.torrents, member: number / options.torrents })
            .collect();
        scenario::shuffle(&mut population);
        Self {
            request: Request::Connect,
            population,
            position: 0,
            sequence: 0,
            open: HashMap::new(),
            counts: Counts::default(),
            latency: vec![0; LATENCY_BUCKETS as usize],
            peer_bytes: 6,
        }
    }

    /// Sends and receives until `enough` says so, and then waits for what is on its way.
    fn drive(
        &mut self,
        sockets: &mut [Socket],
        target: SocketAddr,
        rate: Option<f64>,
        window: u32,
        mut enough: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.peer_bytes = if target.is_ipv4() { 6 } else { 18 };
        let start = Instant::now();
        let (mut sent, mut looked, mut turn) = (0u64, Instant::now(), 0);
        let mut batch = Batch::new();
        let mut stopping: Option<Instant> = None;
        loop {
            interrupt::check()?;
            if stopping.is_none() && enough(self)? {
                stopping = Some(Instant::now());
            }
            if let Some(since) = stopping
                && (self.open.is_empty() || since.elapsed() > Duration::from_millis(200))
            {
                self.counts.lost += self.open.len() as u64;
                self.open.clear();
                return Ok(());
            }
            let due = match (stopping, rate) {
                (Some(_), _) => 0,
                (None, Some(rate)) => ((start.elapsed().as_secs_f64() * rate) as u64).saturating_sub(sent),
                (None, None) => u64::from(window).saturating_sub(self.open.len() as u64),
            };
            if due > 0 {
                turn = (turn + 1) % sockets.len();
                let socket = &mut sockets[turn];
                if socket.connected.elapsed() > CONNECTION_AGE {
                    *socket = Socket::connect(target)?;
                }
                let requests = (0..due.min(BATCH as u64)).map(|_| self.next(socket.connection_id)).collect();
                sent += batch.send(&socket.socket, requests)?;
            }
            let mut received = 0;
            for socket in sockets.iter_mut() {
                received += batch.receive(&socket.socket, |reply| self.count(reply))?;
            }
            if received == 0 && due == 0 {
                wait(sockets)?;
            }
            if looked.elapsed() > PATIENCE / 10 {
                looked = Instant::now();
                let before = self.open.len();
                self.open.retain(|_, sent| sent.elapsed() < PATIENCE);
                self.counts.lost += (before - self.open.len()) as u64;
            }
        }
    }

    fn next(&mut self, connection_id: [u8; 8]) -> Vec<u8> {
        let mut payload = self.request.payload();
        let visit = self.population[self.position];
        match self.request {
            Request::Connect => {}
            Request::Announce { .. } => {
                payload[16..36].copy_from_slice(&hash_bytes(visit.torrent));
                payload[71] = 1;
                let port = 0x8000 | (visit.member & 0x7fff) as u16;
                payload[96..98].copy_from_slice(&port.to_be_bytes());
            }
            Request::Scrape { .. } => {
                for (number, hash) in payload[16..].chunks_exact_mut(20).enumerate() {
                    let visit = self.population[(self.position + number) % self.population.len()];
                    hash.copy_from_slice(&hash_bytes(visit.torrent));
                }
            }
        }
        self.position = (self.position + 1) % self.population.len();
        if !matches!(self.request, Request::Connect) {
            payload[..8].copy_from_slice(&connection_id);
        }
        self.sequence = self.sequence.wrapping_add(1);
        payload[12..16].copy_from_slice(&self.sequence.to_be_bytes());
        self.open.insert(self.sequence, Instant::now());
        self.counts.sent += 1;
        payload
    }

    fn count(&mut self, reply: &[u8]) {
        let number = |at: usize| -> Option<u32> { reply.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes) };
        let (Some(action), Some(transaction)) = (number(0), number(4)) else {
            self.counts.invalid += 1;
            return;
        };
        let Some(sent) = self.open.remove(&transaction) else {
            self.counts.invalid += 1;
            return;
        };
        if action == 3 {
            self.counts.errors += 1;
            return;
        }
        let valid = action == self.request.action()
            && match self.request {
                Request::Connect => reply.len() == 16,
                Request::Announce { .. } => reply.len() >= 20 && (reply.len() - 20).is_multiple_of(self.peer_bytes),
                Request::Scrape { hashes } => reply.len() == 8 + 12 * hashes as usize,
            };
        if !valid {
            self.counts.invalid += 1;
            return;
        }
        self.counts.answered += 1;
        self.counts.bytes += reply.len() as u64;
        if matches!(self.request, Request::Announce { .. }) {
            self.counts.peers += ((reply.len() - 20) / self.peer_bytes) as u64;
        }
        let nanoseconds = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency[latency_bucket(nanoseconds) as usize] += 1;
    }

    fn print(&self, seconds: f64) {
        let counts = &self.counts;
        let rate = |number: u64| count(number as f64 / seconds);
        let share = 100.0 * counts.answered as f64 / counts.sent.max(1) as f64;
        println!("sent       {:>12}/s", rate(counts.sent));
        println!("answered   {:>12}/s  {share:.2} %", rate(counts.answered));
        println!("lost       {:>12}/s", rate(counts.lost));
        println!("errors     {:>12}/s", rate(counts.errors));
        println!("invalid    {:>12}/s", rate(counts.invalid));
        let each = |number: u64| number as f64 / counts.answered.max(1) as f64;
        println!("per reply  {:>12.1} peers, {:.0} bytes", each(counts.peers), each(counts.bytes));
        let quantile = |share: f64| {
            quantile(&self.latency, share).map_or_else(|| "–".to_owned(), |time| format!("{:.0} µs", time as f64 / 1e3))
        };
        println!("latency    {:>12} median, {} p99, {} p99.9", quantile(0.5), quantile(0.99), quantile(0.999));
    }
}

impl Socket {
    fn connect(target: SocketAddr) -> anyhow::Result<Self> {
        let any: SocketAddr =
            if target.is_ipv4() { ([0; 4], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
        socket.connect(target).with_context(|| format!("cannot reach {target}"))?;
        socket.set_read_timeout(Some(CONNECT_WAIT))?;
        for attempt in 0..CONNECT_TRIES {
            interrupt::check()?;
            let mut request = Request::Connect.payload();
            let transaction_id = attempt.to_be_bytes();
            request[12..16].copy_from_slice(&transaction_id);
            let mut reply = [0; 64];
            // Refused, timed out, interrupted: try again.
            let Ok(length) = socket.send(&request).and_then(|_| socket.recv(&mut reply)) else { continue };
            if length == 16 && reply[..4] == [0; 4] && reply[4..8] == transaction_id {
                socket.set_nonblocking(true)?;
                let mut connection_id = [0; 8];
                connection_id.copy_from_slice(&reply[8..16]);
                return Ok(Self { socket, connection_id, connected: Instant::now() });
            }
        }
        bail!("{target} does not answer connects (BEP 15): is it a UDP tracker, and does a firewall let it through?")
    }
}

/// Waits a millisecond at most for a reply.
fn wait(sockets: &[Socket]) -> anyhow::Result<()> {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|socket| libc::pollfd { fd: socket.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // SAFETY: the descriptors outlive the call, and their number is given.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 1) };
    let error = io::Error::last_os_error();
    ensure!(result >= 0 || error.kind() == io::ErrorKind::Interrupted, "cannot wait for replies: {error}");
    Ok(())
}

/// Room for the messages of one system call.
struct Batch {
    replies: Vec<[u8; REPLY_BYTES]>,
}

impl Batch {
    fn new() -> Self {
        Self { replies: vec![[0; REPLY_BYTES]; BATCH] }
    }

    /// Sends datagrams; returns how many. What the socket does not take now is lost, as on a full
    /// network.
    fn send(&mut self, socket: &UdpSocket, mut payloads: Vec<Vec<u8>>) -> anyhow::Result<u64> {
        let mut parts: Vec<libc::iovec> = payloads
            .iter_mut()
            .map(|payload| libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() })
            .collect();
        let mut messages = headers(&mut parts);
        // SAFETY: every header points to one part, and every part to one payload, all of which
        // outlive the call.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, 0) };
        ignore_passing(sent).context("cannot send requests")?;
        Ok(payloads.len() as u64)
    }

    /// Calls `each` with every reply that is there; returns how many there were.
    fn receive(&mut self, socket: &UdpSocket, mut each: impl FnMut(&[u8])) -> anyhow::Result<usize> {
        let mut parts: Vec<libc::iovec> = self
            .replies
            .iter_mut()
            .map(|reply| libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: REPLY_BYTES })
            .collect();
        let mut messages = headers(&mut parts);
        // SAFETY: as in `send`; the parts lie within the replies.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = ignore_passing(received).context("cannot receive replies")?;
        for (reply, message) in self.replies.iter().zip(&messages).take(received) {
            each(&reply[..(message.msg_len as usize).min(REPLY_BYTES)]);
        }
        Ok(received)
    }
}

fn headers(parts: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    parts
        .iter_mut()
        .map(|part| {
            // SAFETY: all zero bytes is an empty header.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect()
}

/// The result of a system call on messages; nothing there, no room, and a port that was closed for
/// a while are no errors.
fn ignore_passing(result: libc::c_int) -> io::Result<usize> {
    if let Ok(number) = usize::try_from(result) {
        return Ok(number);
    }
    let error = io::Error::last_os_error();
    if is_passing(&error) || error.raw_os_error() == Some(libc::ENOBUFS) { Ok(0) } else { Err(error) }
}
