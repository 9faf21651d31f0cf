//! What the connections of a thread share, and how they receive, answer and send.

use super::{
    counters::{HttpCounters, HttpEvent},
    deadlines::{Deadlines, EndReason},
    failure::HttpFailure,
    held_memory::HeldMemory,
    proxy::protocol,
    request::LONGEST,
    responder::{Next, Responder},
    shares::Shares,
    socket_buffers,
};
use crate::listen::Source;
use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes received at once, with the beginning of a request that was kept: there is always room
/// behind one, as a request that fills all of it is refused. No more, since what is not used is
/// kept for as long as the client does not take its replies.
const RECEIVE_BYTES: usize = LONGEST;

/// A client of one connection.
#[derive(Clone, Copy)]
pub struct Client {
    /// Where the connection comes from, which may be a proxy; with the PROXY protocol, what that
    /// has said.
    pub peer: Source,
    /// Who has sent the last request.
    pub seen: Source,
    /// Which of the bindings it has connected to.
    pub binding: usize,
    /// A header of the PROXY protocol is still to come.
    pub expects_header: bool,
}

/// What is kept for a connection.
pub struct Buffers {
    /// Who it is with.
    pub client: Client,
    /// Received and not used: the beginning of a request, or pipelined requests that wait for their
    /// turn.
    pub input: Bytes,
    /// Replies not sent yet. While there are any, nothing is received and no request is answered.
    pub output: Bytes,
    /// What is to be done when they are sent.
    pub next: Next,
    /// The client has had a reply: if it sends nothing now, it is idle and not slow.
    pub answered: bool,
    /// It has had one since it was last waited for. What it waits for now has begun since, be it a
    /// request of which some is in `input`.
    pub begins: bool,
}

impl Buffers {
    /// For a new connection.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            input: Bytes::new(),
            output: Bytes::new(),
            next: Next::default(),
            answered: false,
            begins: false,
        }
    }

    /// Bytes that are held in memory for the client. Where a reply waits, the kernel has as much as
    /// it may of those before it, and of the requests behind it.
    #[must_use]
    pub fn held(&self) -> usize {
        let kernel = if self.output.is_empty() { 0 } else { 2 * socket_buffers::TAKEN };
        self.input.len() + self.output.len() + kernel
    }
}

/// A thread's state, shared by its connections.
pub struct ThreadState {
    /// Answers, by binding.
    pub responders: Vec<RefCell<Responder>>,
    /// The open connections, by what they wait for.
    pub deadlines: RefCell<Deadlines>,
    /// How many of them each client has.
    pub shares: RefCell<Shares>,
    /// The same of TLS handshakes under way.
    pub handshakes: RefCell<Shares>,
    /// What they hold in memory.
    pub held: RefCell<HeldMemory>,
    /// What the engine counts.
    pub counters: Arc<HttpCounters>,
    /// Where everything is received; what is to be kept is copied away before others run.
    pub receive_space: RefCell<Box<[u8]>>,
    /// Where replies are built.
    send_space: RefCell<Vec<u8>>,
    started: Instant,
    now: Cell<u64>,
}

impl ThreadState {
    /// For a thread whose connections may hold `held_limit` bytes together.
    #[must_use]
    pub fn new(responders: Vec<Responder>, counters: Arc<HttpCounters>, held_limit: usize) -> Self {
        Self {
            responders: responders.into_iter().map(RefCell::new).collect(),
            deadlines: RefCell::default(),
            shares: RefCell::default(),
            handshakes: RefCell::default(),
            held: RefCell::new(HeldMemory::new(held_limit)),
            counters,
            receive_space: RefCell::new(vec![0; RECEIVE_BYTES].into()),
            send_space: RefCell::default(),
            started: Instant::now(),
            now: Cell::new(0),
        }
    }

    /// Milliseconds since the thread began, as of the last [`update_now`](Self::update_now).
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Looks at the clock.
    pub fn update_now(&self) {
        self.now.set(milliseconds(self.started.elapsed()));
    }

    /// A client that has just connected to a binding.
    #[must_use]
    pub fn client(&self, peer: Source, binding: usize) -> Client {
        let expects_header = self.responders[binding].borrow().expects_header(peer);
        Client { peer, seen: peer, binding, expects_header }
    }

    /// What answers a client.
    #[must_use]
    pub fn responder(&self, client: Client) -> &RefCell<Responder> {
        &self.responders[client.binding]
    }

    /// A connection holds so many bytes now. If that is too much for all together, those that hold
    /// most are ended.
    pub fn set_held(&self, key: u32, bytes: usize) {
        let mut deadlines = self.deadlines.borrow_mut();
        if deadlines.is_ending(key) {
            return;
        }
        let mut held = self.held.borrow_mut();
        held.set(key, bytes);
        while let Some(largest) = held.pop_excess() {
            deadlines.end(largest, EndReason::Eviction);
            self.counters.count(HttpEvent::MemoryExceeded);
        }
    }

    /// `count` bytes have been received behind those in `buffers.input`: answers what is complete
    /// now.
    pub fn received(&self, buffers: &mut Buffers, count: usize, send: impl FnOnce(&[u8], bool) -> io::Result<usize>) {
        self.counters.add(HttpEvent::ReceivedBytes, count as u64);
        let space = &mut *self.receive_space.borrow_mut();
        let kept = buffers.input.len();
        space[..kept].copy_from_slice(&buffers.input);
        let input = &space[..kept + count];

        let used = if buffers.client.expects_header {
            self.begin(buffers, input, send)
        } else {
            self.answer(buffers, input, send)
        };
        // Just as much memory as it takes; an idle connection holds none.
        buffers.input = Bytes::copy_from_slice(&input[used..]);
    }

    /// Reads the header of the PROXY protocol that a connection begins with, and answers what comes
    /// behind it. Returns how much of the input is done with.
    fn begin(&self, buffers: &mut Buffers, input: &[u8], send: impl FnOnce(&[u8], bool) -> io::Result<usize>) -> usize {
        match protocol::read(input) {
            Ok(None) => 0,
            Ok(Some(header)) => {
                let client = &mut buffers.client;
                client.expects_header = false;
                client.peer = header.source.unwrap_or(client.peer);
                client.seen = client.peer;
                header.length + self.answer(buffers, &input[header.length..], send)
            }
            Err(protocol::Malformed) => {
                let out = &mut *self.send_space.borrow_mut();
                out.clear();
                self.responder(buffers.client).borrow_mut().reject(HttpFailure::ProxyHeaderMalformed, out);
                buffers.next = Next::Linger;
                self.send_now(buffers, out, send);
                input.len()
            }
        }
    }

    /// Goes on with requests that were received earlier.
    pub fn resume(&self, buffers: &mut Buffers, send: impl FnOnce(&[u8], bool) -> io::Result<usize>) {
        let mut input = std::mem::take(&mut buffers.input);
        let used = self.answer(buffers, &input, send);
        input.advance(used);
        buffers.input = input;
    }

    /// Answers the requests in `input` and tries to send the replies. Returns how much of it is
    /// done with.
    fn answer(
        &self,
        buffers: &mut Buffers,
        input: &[u8],
        send: impl FnOnce(&[u8], bool) -> io::Result<usize>,
    ) -> usize {
        let out = &mut *self.send_space.borrow_mut();
        out.clear();
        let client = &mut buffers.client;
        let answered = self.responder(*client).borrow_mut().answer(client.peer, input, out);
        client.seen = answered.seen.unwrap_or(client.seen);
        buffers.next = answered.next;
        if !out.is_empty() {
            buffers.answered = true;
            buffers.begins = true;
            self.send_now(buffers, out, send);
        }
        answered.used
    }

    /// Tries to send replies at once, and keeps what does not go.
    fn send_now(&self, buffers: &mut Buffers, out: &[u8], send: impl FnOnce(&[u8], bool) -> io::Result<usize>) {
        match send(out, matches!(buffers.next, Next::Close)) {
            Ok(sent) => {
                self.counters.add(HttpEvent::SentBytes, sent as u64);
                buffers.output = Bytes::copy_from_slice(&out[sent.min(out.len())..]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                buffers.output = Bytes::copy_from_slice(out);
            }
            // The client is gone.
            Err(_) => buffers.next = Next::Close,
        }
    }

    /// Sends a last reply, if that can be done at once.
    pub fn reject(&self, client: Client, failure: HttpFailure, send: impl FnOnce(&[u8]) -> io::Result<usize>) {
        let reply = &mut *self.send_space.borrow_mut();
        reply.clear();
        self.responder(client).borrow_mut().reject(failure, reply);
        if let Ok(count) = send(reply) {
            self.counters.add(HttpEvent::SentBytes, count as u64);
        }
    }
}

/// Sends without waiting. `last`: the connection is closed right afterwards, and the kernel may put
/// the end of the connection into the same packet; it holds the bytes back until then.
///
/// # Errors
/// Those of `send`.
pub fn send(socket: SockRef<'_>, bytes: &[u8], last: bool) -> io::Result<usize> {
    socket.send_with_flags(bytes, libc::MSG_NOSIGNAL | if last { libc::MSG_MORE } else { 0 })
}

/// Milliseconds, as [`ThreadState::now`] counts them.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
