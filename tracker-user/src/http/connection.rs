//! A connection that outlives its first moment: it stays open for further requests, its request
//! comes in pieces, or its reply is not taken at once. Most connections never get here; see
//! [`super::worker`].

use super::{
    counters::HttpEvent,
    deadlines::{EndReason, Wait},
    failure::HttpFailure,
    io::{Buffers, ThreadState},
    responder::Next,
    response,
    site::Stream,
    socket_buffers,
    tls::channel::Channel,
};
use crate::listen::Source;
use bytes::{Buf as _, Bytes};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time,
};

/// What a client may still send after an error, in bytes, before the connection is cut.
const LINGER_BYTES: usize = 256 << 10;

/// While a reply is being made, the time limit for taking it is put off this often.
const DEADLINE_RENEWAL: Duration = Duration::from_millis(100);

/// A connection with its task.
pub struct Connection {
    state: Rc<ThreadState>,
    channel: Channel,
    /// Among the thread's deadlines and in its account of held memory.
    key: u32,
    /// Whose connection it counts as.
    counted: Source,
    buffers: Buffers,
}

/// The connection is to be closed. The reason has been counted where it was found.
struct End;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.held.borrow_mut().set(self.key, 0);
        self.state.shares.borrow_mut().leave(self.key);
        self.state.deadlines.borrow_mut().leave(self.key);
        self.state.counters.count(HttpEvent::Ended);
    }
}

impl Connection {
    /// Takes a connection over; there is room for it among the others.
    pub fn new(state: Rc<ThreadState>, channel: Channel, buffers: Buffers) -> Self {
        let key = state.deadlines.borrow_mut().enter(Wait::Reading, state.now());
        let counted = buffers.client.seen;
        state.shares.borrow_mut().enter(key, counted.key());
        Self { state, channel, key, counted, buffers }
    }

    /// Serves it until its end.
    pub async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    /// Has it count as a connection of who has sent the last request.
    fn count(&mut self) {
        let seen = self.buffers.client.seen;
        if seen != self.counted {
            self.counted = seen;
            // What has been told to end is nobody's any more.
            if !self.state.deadlines.borrow().is_ending(self.key) {
                self.state.shares.borrow_mut().pass(self.key, seen.key());
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        self.count();
        self.send_output().await?;
        match std::mem::take(&mut self.buffers.next) {
            Next::Receive => self.receive().await,
            Next::Continue => {
                // Others may have been waiting while a batch of pipelined requests was answered.
                tokio::task::yield_now().await;
                let Self { state, channel, buffers, .. } = self;
                state.resume(buffers, |bytes, last| channel.try_send(bytes, last));
                Ok(())
            }
            Next::Close => self.say_end().await,
            Next::Linger => self.linger().await,
            Next::Stream(body, connection) => {
                self.stream(body).await?;
                self.buffers.next =
                    if connection == response::Connection::Close { Next::Close } else { Next::Continue };
                Ok(())
            }
        }
    }

    fn wait_for(&self, wait: Wait, renew: bool) {
        self.state.deadlines.borrow_mut().set(self.key, wait, renew, self.state.now());
    }

    /// Receives, and answers what has become complete.
    async fn receive(&mut self) -> Result<(), End> {
        self.state.set_held(self.key, self.buffers.held());
        let nothing_asked = self.buffers.input.is_empty();
        // Each request has its own time, whatever came with its beginning. Empty lines between two
        // are no request, and put nothing off.
        let begins = std::mem::take(&mut self.buffers.begins);
        let wait = if nothing_asked && self.buffers.answered { Wait::Idle } else { Wait::Reading };
        self.wait_for(wait, begins);
        let Self { state, channel, key, buffers, .. } = self;
        let received = poll_fn(|context| {
            if let Some(reason) = state.deadlines.borrow_mut().poll_end(*key, context.waker()) {
                return Poll::Ready(Err(reason));
            }
            let space = &mut *state.receive_space.borrow_mut();
            // What is left of earlier goes in front; it is less than a request may have.
            let mut space = ReadBuf::new(&mut space[buffers.input.len()..]);
            let result = ready!(Pin::new(&mut *channel).poll_read(context, &mut space));
            Poll::Ready(Ok(result.map(|()| space.filled().len())))
        })
        .await;
        match received {
            Ok(Ok(0)) => {
                if !nothing_asked {
                    self.reject(HttpFailure::RequestIncomplete);
                }
                Err(End)
            }
            Ok(Ok(count)) => {
                let Self { state, channel, buffers, .. } = self;
                state.received(buffers, count, |bytes, last| channel.try_send(bytes, last));
                Ok(())
            }
            Ok(Err(_)) => Err(End),
            Err(reason) => {
                if !nothing_asked {
                    self.reject(match reason {
                        EndReason::Timeout => HttpFailure::HeaderTimeout,
                        EndReason::Eviction => HttpFailure::TooManyConnections,
                    });
                }
                Err(End)
            }
        }
    }

    /// Sends a last reply, if that can be done at once: a client that takes nothing need not be
    /// told. The runtime may not know yet that there is room. The kernel must not wait for the end
    /// of the connection, which is a reset if the client has sent more meanwhile.
    fn reject(&mut self, failure: HttpFailure) {
        let Self { state, channel, buffers, .. } = self;
        state.reject(buffers.client, failure, |bytes| channel.send_at_once(bytes));
    }

    /// Sends the replies that wait.
    async fn send_output(&mut self) -> Result<(), End> {
        if self.buffers.output.is_empty() && !self.channel.holds_output() {
            return Ok(());
        }
        self.state.set_held(self.key, self.buffers.held());
        // One deadline for all of it: a client must not hold it in memory by taking a byte now and
        // then.
        self.wait_for(Wait::Writing, true);
        let Self { state, channel, key, buffers, .. } = self;
        let result = poll_fn(|context| {
            while buffers.output.has_remaining() {
                if state.deadlines.borrow_mut().poll_end(*key, context.waker()).is_some() {
                    return Poll::Ready(Err(End));
                }
                let count = ready!(Pin::new(&mut *channel).poll_write(context, &buffers.output))?;
                state.counters.add(HttpEvent::SentBytes, count as u64);
                buffers.output.advance(count);
            }
            if state.deadlines.borrow_mut().poll_end(*key, context.waker()).is_some() {
                return Poll::Ready(Err(End));
            }
            Pin::new(&mut *channel).poll_flush(context).map_err(End::from)
        })
        .await;
        if result.is_err() {
            self.abort();
        }
        self.buffers.output = Bytes::new();
        result
    }

    /// Makes and sends a body, within the time that the client has for it.
    async fn stream(&mut self, mut body: Box<dyn Stream>) -> Result<(), End> {
        let is_long = body.is_long();
        if is_long {
            socket_buffers::unbind(&self.channel.socket());
        }
        if let Ok(result) = time::timeout(body.time_limit(), self.stream_body(&mut *body)).await {
            if is_long {
                socket_buffers::rebind(&self.channel.socket());
            }
            return result;
        }
        body.timed_out();
        self.abort();
        Err(End)
    }

    async fn stream_body(&mut self, body: &mut dyn Stream) -> Result<(), End> {
        loop {
            // Meanwhile the client waits for us and not we for the client.
            let ready = loop {
                self.wait_for(Wait::Writing, true);
                if let Ok(ready) = time::timeout(DEADLINE_RENEWAL, body.ready()).await {
                    break ready;
                }
            };
            if !ready {
                return Err(End);
            }
            let (piece, last) = body.next()?;
            self.buffers.output = piece;
            self.send_output().await?;
            if last {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Makes the kernel drop what the client does not take, instead of trying to deliver it.
    fn abort(&self) {
        let _ = self.channel.socket().set_linger(Some(Duration::ZERO));
    }

    /// Says the end of the connection, where closing it does not, and has it closed.
    async fn say_end(&mut self) -> Result<(), End> {
        if self.channel.says_its_end() {
            self.wait_for(Wait::Lingering, true);
            self.shut_down().await?;
        }
        Err(End)
    }

    /// Says that nothing more is sent.
    async fn shut_down(&mut self) -> Result<(), End> {
        let Self { state, channel, key, .. } = self;
        poll_fn(|context| {
            if state.deadlines.borrow_mut().poll_end(*key, context.waker()).is_some() {
                return Poll::Ready(Err(End));
            }
            Pin::new(&mut *channel).poll_shutdown(context).map_err(End::from)
        })
        .await
    }

    /// Waits until the client has closed its side. A connection that is closed while the client is
    /// still sending is reset, and the reset may overtake the reply.
    async fn linger(&mut self) -> Result<(), End> {
        self.wait_for(Wait::Lingering, true);
        self.shut_down().await?;
        let Self { state, channel, key, .. } = self;
        let mut discarded = 0;
        poll_fn(|context| {
            while discarded < LINGER_BYTES {
                if state.deadlines.borrow_mut().poll_end(*key, context.waker()).is_some() {
                    break;
                }
                let space = &mut *state.receive_space.borrow_mut();
                let mut space = ReadBuf::new(space);
                if ready!(Pin::new(&mut *channel).poll_read(context, &mut space)).is_err() || space.filled().is_empty()
                {
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
