//! HTTP load: announces over many connections at once, each with one request on its way, from one
//! thread with epoll.
//!
//! New connections: every request has a connection of its own, which the tracker closes after its
//! reply. Keep-alive: a connection is used until the tracker closes it; one that always does is
//! measured all the same, with new connections.

use std::{
    fmt::Write as _,
    io, mem,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bench_ebpf::{Visit, info_hash};
use tracker_tests::interrupt;

use crate::{
    scenario::NUM_WANT,
    testbed::{Family, TRACKER_PORT},
};

/// Connections at a time. Each has a source address of its own.
pub const CONNECTIONS: usize = 128;
/// A connection on which nothing has happened for this long is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was answered, and what was not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Valid announce replies.
    pub answered: u64,
    /// Peers in them.
    pub peers: u64,
    /// Bytes of them, with their headers.
    pub bytes: u64,
    /// Replies that were none: another status, a failure reason, no peers.
    pub invalid: u64,
    /// Connections that were refused, broke off or fell silent.
    pub broken: u64,
    /// Connections made.
    pub connections: u64,
    /// How often all of the population has been visited. Connections are not equally fast, so that
    /// takes more requests than there are peers.
    pub rounds: u32,
}

pub struct HttpLoad {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    keep_alive: bool,
    population: Vec<Visit>,
    pub counts: Counts,
    /// The first reply that was not valid, to be shown.
    pub example: Option<String>,
}

struct Connection {
    socket: Option<OwnedFd>,
    source: Ipv4Addr,
    /// Next element of the population; connection n has every [`CONNECTIONS`]th from the nth on.
    position: usize,
    /// How often it has come to the end of its part of the population.
    rounds: u32,
    request: String,
    sent: usize,
    received: Vec<u8>,
    /// A request before this one was answered on the same connection.
    reused: bool,
    last: Instant,
}

impl HttpLoad {
    /// To be called, and used, inside the client's namespace.
    pub fn new(population: Vec<Visit>, keep_alive: bool) -> anyhow::Result<Self> {
        // SAFETY: a system call without pointers, which returns a new file descriptor.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }.context("cannot create an epoll")?;
        let mut connections = Vec::new();
        for number in 0..CONNECTIONS {
            let IpAddr::V4(source) = Family::V4.client_address(number as u32 + 1) else { bail!("not an IPv4 address") };
            connections.push(Connection {
                socket: None,
                source,
                position: number % population.len(),
                rounds: 0,
                request: String::with_capacity(512),
                sent: 0,
                received: Vec::with_capacity(2048),
                reused: false,
                last: Instant::now(),
            });
        }
        Ok(Self { epoll, connections, keep_alive, population, counts: Counts::default(), example: None })
    }

    /// Keeps every connection busy until `until` says that it is enough; it is asked every few
    /// milliseconds.
    pub fn run(&mut self, mut until: impl FnMut(&Counts) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        const EVENTS: usize = 128;
        // SAFETY: all zero bytes are valid events.
        let mut events: [libc::epoll_event; EVENTS] = unsafe { mem::zeroed() };
        let mut looked = Instant::now();
        loop {
            for number in 0..self.connections.len() {
                if self.connections[number].socket.is_none() {
                    self.open(number)?;
                }
            }
            // SAFETY: the events outlive the call, and their number is given.
            let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as i32, 5) };
            if ready < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error).context("cannot wait for connections");
                }
            }
            for event in events.iter().take(usize::try_from(ready).unwrap_or(0)) {
                self.advance(event.u64 as usize)?;
            }
            if looked.elapsed() > Duration::from_millis(5) {
                looked = Instant::now();
                interrupt::check()?;
                self.counts.rounds = self.connections.iter().map(|connection| connection.rounds).min().unwrap_or(0);
                if until(&self.counts)? {
                    return Ok(());
                }
                for connection in &mut self.connections {
                    if connection.socket.is_some() && connection.last.elapsed() > PATIENCE {
                        connection.socket = None;
                        self.counts.broken += 1;
                    }
                }
            }
        }
    }

    /// Closes all connections, and begins anew with the next run.
    pub fn close(&mut self) {
        for connection in &mut self.connections {
            connection.socket = None;
        }
    }

    /// Opens the connection `number` and writes its next request once it is there.
    fn open(&mut self, number: usize) -> anyhow::Result<()> {
        self.next_request(number);
        let connection = &mut self.connections[number];
        // SAFETY: system calls on a socket just made, with addresses that outlive them.
        let socket = unsafe {
            let socket =
                owned(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0))
                    .context("cannot open a TCP socket")?;
            let on: libc::c_int = 1;
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            for (level, option) in
                [(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT), (libc::IPPROTO_TCP, libc::TCP_NODELAY)]
            {
                libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size);
            }
            let source = socket_address(connection.source, 0);
            let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            if libc::bind(socket.as_raw_fd(), (&raw const source).cast(), length) != 0 {
                return Err(io::Error::last_os_error())
                    .with_context(|| format!("cannot bind a socket to {}", connection.source));
            }
            let IpAddr::V4(tracker) = Family::V4.tracker_address() else { bail!("not an IPv4 address") };
            let tracker = socket_address(tracker, TRACKER_PORT);
            if libc::connect(socket.as_raw_fd(), (&raw const tracker).cast(), length) != 0 {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINPROGRESS) {
                    return Err(error).context("cannot connect to the tracker by TCP");
                }
            }
            let mut event = libc::epoll_event {
                // Edge-triggered: one registration serves writing and reading.
                events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET | libc::EPOLLRDHUP).cast_unsigned(),
                u64: number as u64,
            };
            if libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) != 0 {
                return Err(io::Error::last_os_error()).context("cannot watch a connection");
            }
            socket
        };
        connection.socket = Some(socket);
        connection.reused = false;
        connection.last = Instant::now();
        self.counts.connections += 1;
        Ok(())
    }

    /// Writes and reads what is possible now.
    fn advance(&mut self, number: usize) -> anyhow::Result<()> {
        loop {
            let connection = &mut self.connections[number];
            let Some(socket) = &connection.socket else { return Ok(()) };
            let rest = &connection.request.as_bytes()[connection.sent..];
            if !rest.is_empty() {
                // SAFETY: the bytes outlive the call. MSG_NOSIGNAL: a closed connection is an
                // error, not a signal.
                let sent =
                    unsafe { libc::send(socket.as_raw_fd(), rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
                match usize::try_from(sent) {
                    Ok(sent) => connection.sent += sent,
                    Err(_) => {
                        if io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock {
                            self.give_up(number);
                        }
                        return Ok(());
                    }
                }
                continue;
            }
            let mut buffer = [0; 4096];
            // SAFETY: the buffer outlives the call, and its size is given.
            let received = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let closed = match usize::try_from(received) {
                Ok(0) => true,
                Ok(received) => {
                    connection.received.extend_from_slice(&buffer[..received]);
                    connection.last = Instant::now();
                    false
                }
                Err(_) => {
                    if io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock {
                        self.give_up(number);
                    }
                    return Ok(());
                }
            };
            let Some(reply) = Reply::parse(&connection.received, closed) else {
                if closed {
                    self.give_up(number);
                    return Ok(());
                }
                continue;
            };
            self.count(number, &reply);
            let connection = &mut self.connections[number];
            if closed || reply.closes || !self.keep_alive {
                // The tracker closes, as it was asked to; waiting for it would only take time. The
                // next one is opened by `run`.
                connection.socket = None;
                return Ok(());
            }
            connection.reused = true;
            self.next_request(number);
        }
    }

    /// A connection that ended without a whole reply. A tracker may close one between two requests.
    fn give_up(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        connection.socket = None;
        if !connection.reused || !connection.received.is_empty() {
            self.counts.broken += 1;
        }
    }

    fn count(&mut self, number: usize, reply: &Reply) {
        let connection = &self.connections[number];
        match reply.peers {
            Some(peers) => {
                self.counts.answered += 1;
                self.counts.peers += peers;
                self.counts.bytes += connection.received.len() as u64;
            }
            None => {
                self.counts.invalid += 1;
                self.example
                    .get_or_insert_with(|| String::from_utf8_lossy(&connection.received).chars().take(400).collect());
            }
        }
    }

    fn next_request(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        if connection.position >= self.population.len() {
            connection.position = number % self.population.len();
            connection.rounds += 1;
        }
        let visit = self.population[connection.position];
        connection.position += CONNECTIONS;
        let request = &mut connection.request;
        request.clear();
        request.push_str("GET /announce?info_hash=");
        for byte in info_hash(visit.torrent).into_iter().flat_map(u32::to_ne_bytes) {
            // As clients do it: what may stand in a URL stays as it is.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                request.push(char::from(byte));
            } else {
                let _infallible = write!(request, "%{byte:02X}");
            }
        }
        let port = 0x8000 | (visit.member & 0x7fff);
        let connection_header = if self.keep_alive { "keep-alive" } else { "close" };
        let _infallible = write!(
            request,
            "&peer_id=-XB0001-benchbenchbe&port={port}&uploaded=0&downloaded=0&left=1000&compact=1&numwant={NUM_WANT}\
             &key=bebebebe HTTP/1.1\r\nHost: tracker\r\nUser-Agent: bench\r\nConnection: {connection_header}\r\n\r\n"
        );
        connection.sent = 0;
        connection.received.clear();
    }
}

/// A whole reply.
struct Reply {
    /// Peers in it; `None` if it is not a valid answer to an announce.
    peers: Option<u64>,
    /// The connection cannot be used again.
    closes: bool,
}

impl Reply {
    /// `None` while something is missing.
    fn parse(bytes: &[u8], closed: bool) -> Option<Self> {
        let head_end = find(bytes, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = header("content-length:").and_then(|length| length.parse::<usize>().ok());
        let body = &bytes[head_end..];
        match length {
            Some(length) if body.len() < length => return None,
            None if !closed => return None,
            _ => {}
        }
        let valid = head.starts_with("http/1.") && head.get(8..13).is_some_and(|status| status.trim() == "200");
        // A bencoded dictionary with `peers` in compact form: 5:peers<length>:<6 bytes each>.
        let peers = find(body, b"5:peers").and_then(|at| {
            let rest = &body[at + 7..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let length: u64 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
            (rest.get(digits) == Some(&b':') && length.is_multiple_of(6) && rest.len() as u64 > length)
                .then_some(length / 6)
        });
        let peers = peers.filter(|_| valid && body.first() == Some(&b'd') && find(body, b"failure reason").is_none());
        let closes = header("connection:") == Some("close") || head.starts_with("http/1.0") || length.is_none();
        Some(Self { peers, closes })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn socket_address(address: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    }
}

/// # Safety
/// `result` is that of a system call that returns a new file descriptor or -1.
unsafe fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: promised by the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_when_its_length_is_there() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\nd8:intervali1800e5:peers6:\x0a\x4e\0\x01\x80\0e";
        assert!(Reply::parse(&reply[..reply.len() - 1], false).is_none());
        let whole = Reply::parse(reply, false).unwrap();
        assert_eq!((whole.peers, whole.closes), (Some(1), false));
    }

    #[test]
    fn failures_do_not_count() {
        for reply in [
            "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nd14:failure reason2:noe",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nd5:peers0:e",
        ] {
            assert_eq!(Reply::parse(reply.as_bytes(), false).unwrap().peers, None, "{reply}");
        }
    }
}
