//! What the connections of a thread share, and how they receive, answer and send.

use super::{
    counters::{HttpCounters, HttpEvent},
    deadlines::{Deadlines, EndReason},
    failure::HttpFailure,
    held_memory::HeldMemory,
    request::LONGEST,
    responder::{Next, Responder},
    shares::Shares,
    socket_buffers,
};
use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    net::IpAddr,
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
    /// Its address, not IPv4-mapped.
    pub source: IpAddr,
    /// Which of the bindings it has connected to.
    pub binding: usize,
}

/// What is kept for a connection.
#[derive(Default)]
pub struct Buffers {
    /// Received and not used: the beginning of a request, or pipelined requests that wait for their
    /// turn.
    pub input: Bytes,
    /// Replies not sent yet. While there are any, nothing is received and no request is answered.
    pub output: Bytes,
    /// What is to be done when they are sent.
    pub next: Next,
    /// The client has had a reply: if it sends nothing now, it is idle and not slow.
    pub answered: bool,
}

impl Buffers {
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
    pub fn received(
        &self,
        buffers: &mut Buffers,
        client: Client,
        count: usize,
        send: impl FnOnce(&[u8], bool) -> io::Result<usize>,
    ) {
        self.counters.add(HttpEvent::ReceivedBytes, count as u64);
        let space = &mut *self.receive_space.borrow_mut();
        let kept = buffers.input.len();
        space[..kept].copy_from_slice(&buffers.input);
        let input = &space[..kept + count];

        let used = self.answer(buffers, client, input, send);
        // Just as much memory as it takes; an idle connection holds none.
        buffers.input = Bytes::copy_from_slice(&input[used..]);
    }

    /// Goes on with requests that were received earlier.
    pub fn resume(&self, buffers: &mut Buffers, client: Client, send: impl FnOnce(&[u8], bool) -> io::Result<usize>) {
        let mut input = std::mem::take(&mut buffers.input);
        let used = self.answer(buffers, client, &input, send);
        input.advance(used);
        buffers.input = input;
    }

    /// Answers the requests in `input` and tries to send the replies. Returns how much of it is
    /// done with.
    fn answer(
        &self,
        buffers: &mut Buffers,
        client: Client,
        input: &[u8],
        send: impl FnOnce(&[u8], bool) -> io::Result<usize>,
    ) -> usize {
        let out = &mut *self.send_space.borrow_mut();
        out.clear();
        let answered = self.responder(client).borrow_mut().answer(client.source, input, out);
        buffers.next = answered.next;
        if out.is_empty() {
            return answered.used;
        }
        buffers.answered = true;
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
        answered.used
    }

    /// Sends a last reply, if that can be done at once. `last`: as for [`send`].
    pub fn reject(&self, client: Client, failure: HttpFailure, socket: SockRef<'_>, last: bool) {
        let reply = &mut *self.send_space.borrow_mut();
        reply.clear();
        self.responder(client).borrow_mut().reject(failure, reply);
        if let Ok(count) = send(socket, reply, last) {
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
