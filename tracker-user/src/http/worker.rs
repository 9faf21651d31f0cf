//! An HTTP thread: it accepts connections, answers them, and watches over those that stay open.
//!
//! Most clients connect for one request, which has arrived by the time the connection is accepted (the listening sockets ask
//! the kernel to wait for it). Such a connection is accepted, received from, answered and closed in four system calls: it
//! is never made known to the runtime, gets no task and no memory of its own. Only what remains open becomes a
//! [`Connection`].

use super::{
    Context,
    connection::{Connection, Work, send},
    deadlines::{Deadlines, Doom, Wait},
    debts::Debts,
    failure::Failure,
    request::LONGEST,
    service::{Next, Service},
};
use crate::{
    shutdown::Shutdown,
    statistics::http::{Counters, HttpEvent},
};
use anyhow::Context as _;
use bytes::{Buf as _, Bytes};
use socket2::{SockRef, Socket};
use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    net::{IpAddr, TcpListener},
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
use tracker_common::{
    outcome::{Counter, Event},
    platform::Platform as _,
};

/// Bytes received at once, with the beginning of a request that was kept: there is always room behind one, as a request that
/// fills all of it is refused. No more, since what is not used is kept for as long as the client does not take its replies.
const RECEIVE_BYTES: usize = LONGEST;

/// Bytes that the connections of a thread may hold however many threads there are: one reply of every kind.
const HELD_LEAST: usize = 256 << 10;

/// Connections accepted before others get their turn.
const ACCEPT_BATCH: usize = 64;

/// How exactly time limits are kept.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two samples of the statistics: a second.
const TICKS_PER_SAMPLE: u32 = 4;

/// How long requests under way may take when the tracker shuts down.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection may linger after an error.
const LINGER_PATIENCE: Duration = Duration::from_secs(2);

/// Pause after the system had no file descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A thread's state, shared by its tasks.
pub struct Worker {
    pub(super) service: RefCell<Service>,
    pub(super) deadlines: RefCell<Deadlines>,
    pub(super) debts: RefCell<Debts>,
    pub(super) counters: Arc<Counters>,
    /// Where everything is received; what is to be kept is copied away before others run.
    pub(super) receive_space: RefCell<Box<[u8]>>,
    /// Where replies are built.
    send_space: RefCell<Vec<u8>>,
    context: Arc<Context>,
    started: Instant,
    now: Cell<u64>,
    /// How many connections this thread may keep open.
    most: usize,
}

/// Runs a thread until shutdown.
///
/// # Errors
/// When the runtime cannot be made.
pub fn run(
    listeners: Vec<TcpListener>,
    context: Arc<Context>,
    shutdown: &Shutdown,
    threads: usize,
    samples: bool,
) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().context(
            "cannot make the event loop of an HTTP thread: is the number of open files (ulimit -n) exhausted?",
        )?;
    let counters = context.statistics.http_counters();
    let worker = Rc::new(Worker {
        service: RefCell::new(Service::new(context.clone(), counters.clone())),
        deadlines: RefCell::default(),
        debts: RefCell::new(Debts::new((context.limits.held_bytes / threads).max(HELD_LEAST))),
        counters,
        receive_space: RefCell::new(vec![0; RECEIVE_BYTES].into()),
        send_space: RefCell::default(),
        most: (context.limits.connections / threads).max(1),
        context,
        started: Instant::now(),
        now: Cell::new(0),
    });
    LocalSet::new().block_on(&runtime, worker.serve(listeners, shutdown, samples))
}

impl Worker {
    async fn serve(
        self: Rc<Self>,
        listeners: Vec<TcpListener>,
        shutdown: &Shutdown,
        samples: bool,
    ) -> anyhow::Result<()> {
        let mut accepting = Vec::new();
        for listener in listeners {
            // SAFETY: the listener owns its descriptor, and is owned by the registration until that is dropped.
            let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }
                .context("cannot watch a listening HTTP socket for connections")?;
            accepting.push(tokio::task::spawn_local(self.clone().accept(listener)));
        }
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut count = 0_u32;
        while !shutdown.has_begun() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.token().cancelled() => {}
            }
            self.tick();
            if samples && count.is_multiple_of(TICKS_PER_SAMPLE) {
                self.context.statistics.sample();
                self.context.snapshots.release();
            }
            count = count.wrapping_add(1);
        }
        for task in accepting {
            task.abort();
        }
        self.service.borrow_mut().close_from_now_on();
        let end = Instant::now() + SHUTDOWN_PATIENCE;
        while !self.deadlines.borrow().is_empty() && Instant::now() < end {
            while self.end_oldest(Wait::Idle, u64::MAX, Doom::Eviction) {}
            time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Milliseconds since the thread began, as of the last tick.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Looks at the clock, and ends connections that have waited too long.
    fn tick(&self) {
        self.now.set(milliseconds(self.started.elapsed()));
        let limits = &self.context.limits;
        for wait in Wait::ALL {
            let (patience, event) = match wait {
                Wait::Idle => (limits.idle_timeout, Some(HttpEvent::IdleTimeout)),
                Wait::Reading => (limits.header_timeout, Some(HttpEvent::HeaderTimeout)),
                Wait::Writing => (limits.write_timeout, Some(HttpEvent::WriteTimeout)),
                Wait::Lingering => (LINGER_PATIENCE, None),
            };
            let Some(latest) = self.now().checked_sub(milliseconds(patience)) else { continue };
            while self.end_oldest(wait, latest, Doom::Timeout) {
                if let Some(event) = event {
                    self.counters.count(event);
                }
            }
        }
    }

    /// Ends the connection that has been waiting longest, if it began at `latest` or before. False if there is none.
    fn end_oldest(&self, wait: Wait, latest: u64, doom: Doom) -> bool {
        let mut deadlines = self.deadlines.borrow_mut();
        let oldest = deadlines.oldest(wait, latest);
        if let Some(key) = oldest {
            deadlines.doom(key, doom);
        }
        oldest.is_some()
    }

    /// Ends the connection that is worth least: the one idle for longest, or, if none is, the one whose request has been
    /// arriving for longest. False if there is neither.
    fn evict(&self) -> bool {
        let evicted = [Wait::Idle, Wait::Reading].iter().any(|&wait| self.end_oldest(wait, u64::MAX, Doom::Eviction));
        if evicted {
            self.counters.count(HttpEvent::Evicted);
        }
        evicted
    }

    /// A connection holds so many bytes now. If that is too much for all together, those that hold most are ended.
    pub(super) fn owes(&self, key: u32, bytes: usize) {
        let mut deadlines = self.deadlines.borrow_mut();
        if deadlines.is_doomed(key) {
            return;
        }
        let mut debts = self.debts.borrow_mut();
        debts.set(key, bytes);
        while let Some(largest) = debts.pop_excess() {
            deadlines.doom(largest, Doom::Eviction);
            self.counters.count(HttpEvent::Indebted);
        }
    }

    /// Accepts connections for ever.
    async fn accept(self: Rc<Self>, listener: AsyncFd<TcpListener>) {
        let mut warned: Option<Instant> = None;
        loop {
            // Fails only when the runtime is being shut down.
            let Ok(mut ready) = listener.readable().await else { return };
            for accepted in 1..=ACCEPT_BATCH {
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                match ready.try_io(|listener| SockRef::from(listener.get_ref()).accept4(flags)) {
                    Ok(Ok((socket, address))) => {
                        if let Some(address) = address.as_socket() {
                            self.welcome(socket, address.ip().to_canonical());
                        }
                    }
                    // Nobody is waiting any more; the guard has noted it.
                    Err(_) => break,
                    Ok(Err(error)) if is_of_the_connection(&error) => {}
                    Ok(Err(error)) => {
                        self.counters.count(HttpEvent::AcceptFailed);
                        if warned.is_none_or(|warned| warned.elapsed() > Duration::from_secs(60)) {
                            warned = Some(Instant::now());
                            tracing::warn!(
                                "cannot accept an HTTP connection: {error}; raise the limit of open files (ulimit -n, LimitNOFILE=) or lower --http-connections"
                            );
                        }
                        if self.evict() {
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

    /// Begins with a connection: answers what has arrived with it.
    fn welcome(self: &Rc<Self>, socket: Socket, source: IpAddr) {
        self.counters.count(HttpEvent::Accepted);
        let mut work = Work::default();
        let received = {
            let space = &mut *self.receive_space.borrow_mut();
            io::Read::read(&mut &socket, space)
        };
        let open = match received {
            Ok(0) => false,
            Ok(count) => {
                self.received(&mut work, source, count, |bytes, last| send(SockRef::from(&socket), bytes, last));
                !(work.output.is_empty() && matches!(work.next, Next::Close))
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if !(open && self.keep(socket, source, work)) {
            self.counters.count(HttpEvent::Ended);
        }
    }

    /// Makes a connection one of those that stay open. False: there was no room, and it is closed.
    fn keep(self: &Rc<Self>, socket: Socket, source: IpAddr, work: Work) -> bool {
        if self.deadlines.borrow().waiting() >= self.most && !self.evict() {
            // All others are being sent to. A client that has had its reply can do without the connection.
            if !work.answered {
                self.refuse(&socket);
            }
            return false;
        }
        match TcpStream::from_std(socket.into()) {
            Ok(stream) => {
                tokio::task::spawn_local(Connection::new(self.clone(), stream, source, work).run());
                true
            }
            Err(error) => {
                tracing::debug!("cannot watch an HTTP connection: {error}");
                self.counters.count(HttpEvent::AcceptFailed);
                false
            }
        }
    }

    /// Tells a client that there are too many others.
    fn refuse(&self, socket: &Socket) {
        self.counters.count(HttpEvent::Refused);
        let reply = &mut *self.send_space.borrow_mut();
        reply.clear();
        self.service.borrow_mut().reject(Failure::TooManyConnections, reply);
        if let Ok(count) = send(SockRef::from(socket), reply, true) {
            self.counters.add(HttpEvent::SentBytes, count as u64);
        }
    }

    /// `count` bytes have been received behind those in `work.input`: answers what is complete now.
    pub(super) fn received(
        &self,
        work: &mut Work,
        source: IpAddr,
        count: usize,
        send: impl FnOnce(&[u8], bool) -> io::Result<usize>,
    ) {
        self.counters.add(HttpEvent::ReceivedBytes, count as u64);
        let space = &mut *self.receive_space.borrow_mut();
        let kept = work.input.len();
        space[..kept].copy_from_slice(&work.input);
        let input = &space[..kept + count];

        let used = self.answer(work, source, input, send);
        // Just as much memory as it takes; an idle connection holds none.
        work.input = Bytes::copy_from_slice(&input[used..]);
    }

    /// Goes on with requests that were received earlier.
    pub(super) fn resume(&self, work: &mut Work, source: IpAddr, send: impl FnOnce(&[u8], bool) -> io::Result<usize>) {
        let mut input = std::mem::take(&mut work.input);
        let used = self.answer(work, source, &input, send);
        input.advance(used);
        work.input = input;
    }

    /// Answers the requests in `input` and tries to send the replies. Returns how much of it is done with.
    fn answer(
        &self,
        work: &mut Work,
        source: IpAddr,
        input: &[u8],
        send: impl FnOnce(&[u8], bool) -> io::Result<usize>,
    ) -> usize {
        let out = &mut *self.send_space.borrow_mut();
        out.clear();
        let turn = self.service.borrow_mut().answer(source, input, out);
        work.next = turn.next;
        if out.is_empty() {
            return turn.used;
        }
        work.answered = true;
        match send(out, matches!(work.next, Next::Close)) {
            Ok(sent) => {
                self.counters.add(HttpEvent::SentBytes, sent as u64);
                work.output = Bytes::copy_from_slice(&out[sent.min(out.len())..]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                work.output = Bytes::copy_from_slice(out);
            }
            // The client is gone.
            Err(_) => work.next = Next::Close,
        }
        turn.used
    }

    /// Counts what is sent of a full scrape, which the service does not see.
    pub(super) fn count_full_scrape(&self, bytes: usize) {
        self.counters.add(HttpEvent::FullScrapeBytes, bytes as u64);
        self.service.borrow().memory().count(Counter::Event(Event::ReplyBytes), bytes as u64);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Errors of `accept` that say something about one connection, or about the network, and not about this process.
fn is_of_the_connection(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
