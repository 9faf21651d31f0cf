//! An HTTP thread: it accepts connections, answers them, and watches over those that stay open.
//!
//! Most clients connect for one request, which has arrived by the time the connection is accepted:
//! the listening sockets ask the kernel to wait for it. Such a connection is accepted, read,
//! answered and closed in four system calls. It is never registered with the runtime, and has no
//! task and no memory of its own. Only a connection that stays open becomes a [`Connection`].

use super::{
    binding::Binding,
    connection::Connection,
    counters::{HttpEvent, HttpRegistry},
    deadlines::{EndReason, Wait},
    failure::HttpFailure,
    io::{Buffers, ThreadState, milliseconds, send},
    limits::Limits,
    responder::{Next, Responder},
    socket_buffers,
    tls::{Certificates, channel::Channel, handshake::Handshake, rates::Rates},
};
use crate::{
    listen::Source,
    service::{Service, Shutdown},
};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use socket2::{SockRef, Socket};
use std::{
    io::{self, ErrorKind},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
    task::LocalSet,
    time,
};

/// Bytes that the connections of a thread may hold however many threads there are: one reply of
/// every kind.
const MIN_HELD_BYTES: usize = 256 << 10;

/// Connections accepted before others get their turn.
const ACCEPT_BATCH: usize = 64;

/// The resolution of time limits.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two calls of [`Responder::tick`]: a second.
const TICKS_PER_SECOND: u32 = 4;

/// How long requests under way may take when the tracker shuts down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// How long a connection may linger after an error.
const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// Pause after the system had no file descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// What all threads are given.
pub struct Shared {
    /// The sites and where they answer.
    pub bindings: Vec<Binding>,
    /// What clients may take, all threads together.
    pub limits: Arc<ArcSwap<Limits>>,
    /// What the engine counts.
    pub counters: HttpRegistry,
    /// Who has begun TLS handshakes lately.
    pub handshakes: Rates,
    /// How many threads there are.
    pub threads: usize,
}

/// A thread to be started.
pub struct HttpThread {
    /// Its number.
    pub number: usize,
    /// Its listening sockets, each with the number of the binding that it belongs to.
    pub listeners: Vec<(usize, Socket)>,
    /// What all threads are given.
    pub shared: Arc<Shared>,
}

impl Shared {
    /// Whether a client may begin a TLS handshake now, which is counted.
    fn may_begin_handshake(&self, client: Source) -> bool {
        let limits = self.limits.load();
        let Limits { handshakes_per_minute, prefix_v6, .. } = **limits;
        handshakes_per_minute == 0
            || limits.unlimited.contains(client)
            || self.handshakes.admit(client, handshakes_per_minute, prefix_v6)
    }
}

impl Service for HttpThread {
    fn name(&self) -> String {
        format!("http-{}", self.number)
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self { number, listeners, shared } = self;
        run(listeners, shared, number == 0, shutdown).context("an HTTP thread failed")
    }
}

fn run(
    listeners: Vec<(usize, Socket)>,
    shared: Arc<Shared>,
    is_first: bool,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().context(
            "cannot make the event loop of an HTTP thread: is the number of open files (ulimit -n) exhausted?",
        )?;
    let held_limit = (shared.limits.load().held_bytes / shared.threads).max(MIN_HELD_BYTES);
    let counters = shared.counters.thread();
    let responders = shared.bindings.iter().map(|binding| Responder::new(binding, counters.clone())).collect();
    let worker = Rc::new(Worker { state: Rc::new(ThreadState::new(responders, counters, held_limit)), shared });
    LocalSet::new().block_on(&runtime, worker.serve(listeners, is_first, shutdown))
}

/// A running thread.
struct Worker {
    state: Rc<ThreadState>,
    shared: Arc<Shared>,
}

impl Worker {
    async fn serve(
        self: Rc<Self>,
        listeners: Vec<(usize, Socket)>,
        is_first: bool,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let mut accepting = Vec::new();
        for (binding, listener) in listeners {
            // SAFETY: the listener owns its descriptor, and is owned by the registration until that
            // is dropped.
            let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }
                .context("cannot watch a listening HTTP socket for connections")?;
            accepting.push(tokio::task::spawn_local(self.clone().accept(listener, binding)));
        }
        let state = &*self.state;
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut count = 0_u32;
        while !shutdown.has_begun() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.token().cancelled() => {}
            }
            self.end_overdue();
            if is_first && count.is_multiple_of(TICKS_PER_SECOND) {
                state.responders.iter().for_each(|responder| responder.borrow_mut().tick());
            }
            count = count.wrapping_add(1);
        }
        for task in accepting {
            task.abort();
        }
        state.responders.iter().for_each(|responder| responder.borrow_mut().close_from_now_on());
        let end = Instant::now() + SHUTDOWN_LIMIT;
        while !state.deadlines.borrow().is_empty() && Instant::now() < end {
            for wait in [Wait::Idle, Wait::Handshake] {
                while self.end_oldest(wait, u64::MAX, EndReason::Eviction) {}
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Looks at the clock, and ends connections that have waited too long.
    fn end_overdue(&self) {
        self.state.update_now();
        let limits = self.shared.limits.load();
        for wait in Wait::ALL {
            let (limit, event) = match wait {
                Wait::Idle => (limits.idle_timeout, Some(HttpEvent::IdleTimeout)),
                Wait::Reading => (limits.header_timeout, Some(HttpEvent::HeaderTimeout)),
                Wait::Writing => (limits.write_timeout, Some(HttpEvent::WriteTimeout)),
                Wait::Lingering => (LINGER_LIMIT, None),
                Wait::Handshake => (limits.handshake_timeout, Some(HttpEvent::HandshakeTimeout)),
            };
            let Some(latest) = self.state.now().checked_sub(milliseconds(limit)) else { continue };
            while self.end_oldest(wait, latest, EndReason::Timeout) {
                if let Some(event) = event {
                    self.state.counters.count(event);
                }
            }
        }
    }

    /// Ends the connection that has been waiting longest, if it began at `latest` or before. False
    /// if there is none.
    fn end_oldest(&self, wait: Wait, latest: u64, reason: EndReason) -> bool {
        let mut deadlines = self.state.deadlines.borrow_mut();
        let oldest = deadlines.oldest(wait, latest);
        if let Some(key) = oldest {
            deadlines.end(key, reason);
        }
        oldest.is_some()
    }

    /// Ends the connection that is worth least, for one of `newcomer`, as far as that is known: the
    /// one idle for longest; or, if none is, the oldest of the client that has most of them,
    /// whatever it waits for; or, if the newcomer has as many, the one whose request has been
    /// arriving for longest, if it may [yield](super::shares::Shares::may_yield). False if there is
    /// none of these.
    fn evict(&self, newcomer: Option<IpAddr>) -> bool {
        let evicted = self.end_oldest(Wait::Idle, u64::MAX, EndReason::Eviction)
            || self.end_of_most(newcomer)
            || self.end_slowest(newcomer);
        if evicted {
            self.state.counters.count(HttpEvent::Evicted);
        }
        evicted
    }

    /// Ends the oldest connection of the client that has most, if that has more than the newcomer.
    fn end_of_most(&self, newcomer: Option<IpAddr>) -> bool {
        let (mut shares, mut deadlines) = (self.state.shares.borrow_mut(), self.state.deadlines.borrow_mut());
        while let Some(key) = shares.pop_for(newcomer) {
            if !deadlines.is_ending(key) {
                deadlines.end(key, EndReason::Eviction);
                return true;
            }
        }
        false
    }

    /// Ends the connection whose request has been arriving for longest, if it may yield.
    fn end_slowest(&self, newcomer: Option<IpAddr>) -> bool {
        let mut deadlines = self.state.deadlines.borrow_mut();
        let slowest = deadlines.oldest(Wait::Reading, u64::MAX);
        let Some(key) = slowest.filter(|key| self.state.shares.borrow().may_yield(*key, newcomer)) else {
            return false;
        };
        deadlines.end(key, EndReason::Eviction);
        true
    }

    /// Accepts connections until the task is aborted.
    async fn accept(self: Rc<Self>, listener: AsyncFd<Socket>, binding: usize) {
        let mut warned: Option<Instant> = None;
        loop {
            // Fails only when the runtime is being shut down.
            let Ok(mut ready) = listener.readable().await else { return };
            for accepted in 1..=ACCEPT_BATCH {
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                match ready.try_io(|listener| listener.get_ref().accept4(flags)) {
                    Ok(Ok((socket, address))) => {
                        let peer = match address.as_socket() {
                            Some(address) => Source::Address(address.ip().to_canonical()),
                            None => Source::Unix,
                        };
                        match &self.shared.bindings[binding].tls {
                            None => self.serve_new(socket, peer, binding),
                            Some(certificates) => self.shake_hands(socket, peer, binding, certificates),
                        }
                    }
                    // No further connection waits; the guard has noted it.
                    Err(_) => break,
                    Ok(Err(error)) if is_of_the_connection(&error) => {}
                    Ok(Err(error)) => {
                        self.state.counters.count(HttpEvent::AcceptFailed);
                        if warned.is_none_or(|warned| warned.elapsed() > Duration::from_secs(60)) {
                            warned = Some(Instant::now());
                            tracing::warn!(
                                "cannot accept an HTTP connection: {error}; raise the limit of open files (ulimit -n, LimitNOFILE=) or lower --http-connections"
                            );
                        }
                        if self.evict(None) {
                            // The evicted one closes itself, and leaves a descriptor for the next.
                            tokio::task::yield_now().await;
                        } else {
                            time::sleep(EXHAUSTED_PAUSE).await;
                        }
                        break;
                    }
                }
                if accepted == ACCEPT_BATCH {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Serves a new connection: answers what has arrived with it.
    fn serve_new(&self, socket: Socket, peer: Source, binding: usize) {
        self.state.counters.count(HttpEvent::Accepted);
        if peer == Source::Unix {
            // Unlike those of TCP, they inherit nothing.
            let _ = socket_buffers::bound(&socket);
        }
        let mut buffers = Buffers::new(self.state.client(peer, binding));
        let received = {
            let space = &mut *self.state.receive_space.borrow_mut();
            io::Read::read(&mut &socket, space)
        };
        let open = match received {
            Ok(0) => false,
            Ok(count) => {
                let send = |bytes: &[u8], last| send(SockRef::from(&socket), bytes, last);
                self.state.received(&mut buffers, count, send);
                !(buffers.output.is_empty() && matches!(buffers.next, Next::Close))
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if !(open && self.keep(socket, buffers)) {
            self.state.counters.count(HttpEvent::Ended);
        }
    }

    /// Serves a new connection by TLS: none of these is answered at once.
    fn shake_hands(&self, socket: Socket, peer: Source, binding: usize, certificates: &Arc<Certificates>) {
        self.state.counters.count(HttpEvent::Accepted);
        let buffers = Buffers::new(self.state.client(peer, binding));
        let room = self.make_room_for_handshake(peer) && self.make_room(peer);
        match TcpStream::from_std(socket.into()) {
            Ok(stream) if room => {
                let (state, shared, certificates) = (self.state.clone(), self.shared.clone(), certificates.clone());
                tokio::task::spawn_local(async move {
                    let handshake = Handshake::new(state.clone(), stream, buffers);
                    match handshake.run(&certificates, |client| shared.may_begin_handshake(client)).await {
                        Some((channel, buffers)) => Connection::new(state, channel, buffers).run().await,
                        None => state.counters.count(HttpEvent::Ended),
                    }
                });
            }
            Ok(_) => {
                self.state.counters.count(HttpEvent::Refused);
                self.state.counters.count(HttpEvent::Ended);
            }
            Err(error) => {
                tracing::debug!("cannot watch an HTTPS connection: {error}");
                self.state.counters.count(HttpEvent::AcceptFailed);
                self.state.counters.count(HttpEvent::Ended);
            }
        }
    }

    /// Ends a handshake if there are as many as there may be: the oldest of the client that has most,
    /// if that has more than the newcomer, or the oldest of all, if it may yield. False if there is
    /// no room.
    fn make_room_for_handshake(&self, newcomer: Source) -> bool {
        let most = self.shared.limits.load().handshakes.div_ceil(self.shared.threads).min(self.max_connections() / 2);
        let (mut handshakes, mut deadlines) = (self.state.handshakes.borrow_mut(), self.state.deadlines.borrow_mut());
        while handshakes.count() >= most.max(1) {
            let newcomer = Some(newcomer.key());
            let oldest = deadlines.oldest(Wait::Handshake, u64::MAX);
            let evicted =
                handshakes.pop_for(newcomer).or_else(|| oldest.filter(|key| handshakes.may_yield(*key, newcomer)));
            let Some(key) = evicted else { return false };
            handshakes.leave(key);
            deadlines.end(key, EndReason::Eviction);
            self.state.counters.count(HttpEvent::HandshakeEvicted);
        }
        true
    }

    /// How many connections this thread may keep open.
    fn max_connections(&self) -> usize {
        (self.shared.limits.load().connections / self.shared.threads).max(1)
    }

    /// Ends a connection if there are as many as there may be. False if there is no room.
    fn make_room(&self, newcomer: Source) -> bool {
        self.state.deadlines.borrow().waiting() < self.max_connections() || self.evict(Some(newcomer.key()))
    }

    /// Makes a connection one of those that stay open. False: there was no room, and it is closed.
    fn keep(&self, socket: Socket, buffers: Buffers) -> bool {
        let client = buffers.client;
        if !self.make_room(client.seen) {
            // All others are being sent to, and nobody has more of them. A client that has had its reply can do without the
            // connection.
            if !buffers.answered {
                self.state.counters.count(HttpEvent::Refused);
                let failure = HttpFailure::TooManyConnections;
                self.state.reject(client, failure, |bytes| send(SockRef::from(&socket), bytes, true));
            }
            return false;
        }
        // A stream is a stream: what the runtime calls is the same for Unix sockets.
        match TcpStream::from_std(socket.into()) {
            Ok(stream) => {
                tokio::task::spawn_local(Connection::new(self.state.clone(), Channel::Plain(stream), buffers).run());
                true
            }
            Err(error) => {
                tracing::debug!("cannot watch an HTTP connection: {error}");
                self.state.counters.count(HttpEvent::AcceptFailed);
                false
            }
        }
    }
}

/// Errors of `accept` that say something about one connection, or about the network, and not about
/// this process.
fn is_of_the_connection(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
