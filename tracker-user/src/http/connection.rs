//! A connection that outlives its first moment: it stays open for further requests, its request comes in pieces, or its reply
//! is not taken at once. Most connections never get here; see [`super::worker`].

use super::{
    deadlines::{Doom, Wait},
    responder::Next,
    response, socket_buffers as buffers,
    tracker::failure::Failure,
    tracker::full_scrape::FullScrape,
    worker::Worker,
};
use crate::admin::http::HttpEvent;
use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Shutdown},
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf},
    net::TcpStream,
    time,
};

/// What a client may still send after an error, in bytes, before the connection is cut.
const LINGER_BYTES: usize = 256 << 10;

/// How often the time limit for taking a reply is put off while the reply is not there yet.
const RENEWAL: Duration = Duration::from_millis(100);

/// What is in hand for a connection.
#[derive(Default)]
pub struct Work {
    /// Received and not used: the beginning of a request, or pipelined requests that wait for their turn.
    pub input: Bytes,
    /// Replies not sent yet. While there are any, nothing is received and no request is answered.
    pub output: Bytes,
    /// What is to be done when they are sent.
    pub next: Next,
    /// The client has had a reply: if it sends nothing now, it is idle and not slow.
    pub answered: bool,
}

impl Work {
    /// Bytes that are held in memory for the client. Where a reply waits, the kernel has as much as it may of those before it,
    /// and of the requests behind it.
    #[must_use]
    pub fn held(&self) -> usize {
        let kernel = if self.output.is_empty() { 0 } else { 2 * buffers::TAKEN };
        self.input.len() + self.output.len() + kernel
    }
}

/// A connection with its task.
pub struct Connection {
    worker: Rc<Worker>,
    stream: TcpStream,
    source: IpAddr,
    key: u32,
    work: Work,
}

/// Ends a connection: why is counted where it is found out.
struct End;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.debts.borrow_mut().set(self.key, 0);
        self.worker.deadlines.borrow_mut().leave(self.key);
        self.worker.counters.count(HttpEvent::Ended);
    }
}

impl Connection {
    /// Takes a connection over; there is room for it among the others.
    pub fn new(worker: Rc<Worker>, stream: TcpStream, source: IpAddr, work: Work) -> Self {
        let key = worker.deadlines.borrow_mut().enter(Wait::Reading, worker.now());
        Self { worker, stream, source, key, work }
    }

    /// Sees it through to its end.
    pub async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), End> {
        self.send_output().await?;
        match std::mem::take(&mut self.work.next) {
            Next::Receive => self.receive().await,
            Next::Continue => {
                // Others may have been waiting while a batch of pipelined requests was answered.
                tokio::task::yield_now().await;
                let Self { worker, stream, source, work, .. } = self;
                worker.resume(work, *source, |bytes, last| {
                    stream.try_io(Interest::WRITABLE, || send(SockRef::from(&*stream), bytes, last))
                });
                Ok(())
            }
            Next::Close => Err(End),
            Next::Linger => self.linger().await,
            Next::Stream(scrape, connection) => {
                self.stream(*scrape).await?;
                self.work.next = if connection == response::Connection::Close { Next::Close } else { Next::Continue };
                Ok(())
            }
        }
    }

    fn wait_for(&self, wait: Wait, renew: bool) {
        self.worker.deadlines.borrow_mut().set(self.key, wait, renew, self.worker.now());
    }

    /// Receives, and answers what has become complete.
    async fn receive(&mut self) -> Result<(), End> {
        self.worker.owes(self.key, self.work.held());
        let nothing_asked = self.work.input.is_empty();
        if nothing_asked && self.work.answered {
            self.wait_for(Wait::Idle, true);
        } else {
            self.wait_for(Wait::Reading, false);
        }
        let Self { worker, stream, key, work, .. } = self;
        let received = poll_fn(|context| {
            if let Some(doom) = worker.deadlines.borrow_mut().doom_or_park(*key, context.waker()) {
                return Poll::Ready(Err(doom));
            }
            let space = &mut *worker.receive_space.borrow_mut();
            // What is left of earlier goes in front; it is less than a request may have.
            let mut space = ReadBuf::new(&mut space[work.input.len()..]);
            let result = ready!(Pin::new(&mut *stream).poll_read(context, &mut space));
            Poll::Ready(Ok(result.map(|()| space.filled().len())))
        })
        .await;
        match received {
            Ok(Ok(0)) => {
                if !nothing_asked {
                    self.reject(Failure::RequestIncomplete);
                }
                Err(End)
            }
            Ok(Ok(count)) => {
                let Self { worker, stream, source, work, .. } = self;
                worker.received(work, *source, count, |bytes, last| {
                    stream.try_io(Interest::WRITABLE, || send(SockRef::from(&*stream), bytes, last))
                });
                Ok(())
            }
            Ok(Err(_)) => Err(End),
            Err(doom) => {
                if !nothing_asked {
                    self.reject(match doom {
                        Doom::Timeout => Failure::HeaderTimeout,
                        Doom::Eviction => Failure::TooManyConnections,
                    });
                }
                Err(End)
            }
        }
    }

    /// Sends a last reply, if that can be done at once.
    fn reject(&self, failure: Failure) {
        let mut reply = Vec::new();
        self.worker.service.borrow_mut().reject(failure, &mut reply);
        // A client that takes nothing is not owed anything. The runtime may not know yet that there is room; and the kernel must
        // not wait for the end of the connection, which is a reset if the client has sent more meanwhile.
        if let Ok(count) = send(SockRef::from(&self.stream), &reply, false) {
            self.worker.counters.add(HttpEvent::SentBytes, count as u64);
        }
    }

    /// Sends what is in hand.
    async fn send_output(&mut self) -> Result<(), End> {
        if self.work.output.is_empty() {
            return Ok(());
        }
        self.worker.owes(self.key, self.work.held());
        // One deadline for all of it: a client must not hold it in memory by taking a byte now and then.
        self.wait_for(Wait::Writing, true);
        let Self { worker, stream, key, work, .. } = self;
        let result = poll_fn(|context| {
            while work.output.has_remaining() {
                if worker.deadlines.borrow_mut().doom_or_park(*key, context.waker()).is_some() {
                    return Poll::Ready(Err(End));
                }
                let count = ready!(Pin::new(&mut *stream).poll_write(context, &work.output))?;
                worker.counters.add(HttpEvent::SentBytes, count as u64);
                work.output.advance(count);
            }
            Poll::Ready(Ok(()))
        })
        .await;
        if result.is_err() {
            self.abort();
        }
        self.work.output = Bytes::new();
        result
    }

    /// Makes and sends the body of a full scrape, within the time that the client has for it.
    async fn stream(&mut self, scrape: FullScrape) -> Result<(), End> {
        buffers::unbind(&SockRef::from(&self.stream));
        if let Ok(result) = time::timeout(scrape.patience(), self.stream_body(scrape)).await {
            buffers::rebind(&SockRef::from(&self.stream));
            return result;
        }
        self.worker.counters.count(HttpEvent::FullScrapeTimeout);
        self.abort();
        Err(End)
    }

    async fn stream_body(&mut self, mut scrape: FullScrape) -> Result<(), End> {
        // Meanwhile the client waits for us and not we for the client.
        let ready = loop {
            self.wait_for(Wait::Writing, true);
            if let Ok(ready) = time::timeout(RENEWAL, scrape.is_ready()).await {
                break ready;
            }
        };
        if !ready {
            return Err(End);
        }
        loop {
            let (slice, last) = scrape.slice(self.worker.service.borrow().memory())?;
            self.worker.count_full_scrape(slice.len());
            self.work.output = slice;
            self.send_output().await?;
            if last {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Sees to it that the kernel does not go on trying to deliver what the client does not take.
    fn abort(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Waits until the client has closed its side. A connection that is closed while the client is still sending is reset, and
    /// the reset may overtake the reply.
    async fn linger(&mut self) -> Result<(), End> {
        self.wait_for(Wait::Lingering, true);
        SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
        let Self { worker, stream, key, .. } = self;
        let mut discarded = 0;
        poll_fn(|context| {
            while discarded < LINGER_BYTES {
                if worker.deadlines.borrow_mut().doom_or_park(*key, context.waker()).is_some() {
                    break;
                }
                let space = &mut *worker.receive_space.borrow_mut();
                let mut space = ReadBuf::new(space);
                if ready!(Pin::new(&mut *stream).poll_read(context, &mut space)).is_err() || space.filled().is_empty() {
                    break;
                }
                discarded += space.filled().len();
            }
            Poll::Ready(())
        })
        .await;
        Err(End)
    }
}

/// Sends without waiting. `last`: the connection is closed right afterwards, and the kernel may put the end of the
/// connection into the same packet; it holds the bytes back until then.
pub fn send(socket: SockRef<'_>, bytes: &[u8], last: bool) -> io::Result<usize> {
    socket.send_with_flags(bytes, libc::MSG_NOSIGNAL | if last { libc::MSG_MORE } else { 0 })
}
