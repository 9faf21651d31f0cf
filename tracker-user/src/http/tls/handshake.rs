//! From a connection that has been accepted to a TLS session.
//!
//! A handshake costs the server far more than the client, so there are few at a time. When there are
//! as many as there may be, one of the client that has most makes room, or the oldest; and each has
//! to be done within a time. One client begins only so many a minute ([`super::rates`]). A header of the
//! PROXY protocol comes before it.

use super::{
    certificates::Certificates,
    channel::{Begun, Channel},
};
use crate::{
    http::{
        counters::HttpEvent,
        deadlines::Wait,
        failure::HttpFailure,
        io::{Buffers, ThreadState},
        proxy::protocol,
    },
    listen::Source,
};
use bytes::{Bytes, BytesMut};
use std::{future::poll_fn, pin::Pin, rc::Rc, task::Poll};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

/// What the session may hold of replies that have not been sent, in bytes.
const BUFFER: usize = 16 << 10;

/// A place among the handshakes of a thread; given back when it is dropped.
struct Turn {
    state: Rc<ThreadState>,
    key: u32,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.state.handshakes.borrow_mut().leave(self.key);
        self.state.deadlines.borrow_mut().leave(self.key);
    }
}

/// A handshake that has its turn from when it is made.
pub struct Handshake {
    turn: Turn,
    stream: TcpStream,
    buffers: Buffers,
}

impl Handshake {
    /// There is room for it among the others.
    pub fn new(state: Rc<ThreadState>, stream: TcpStream, buffers: Buffers) -> Self {
        let key = state.deadlines.borrow_mut().enter(Wait::Handshake, state.now());
        state.handshakes.borrow_mut().enter(key, buffers.client.peer.key());
        Self { turn: Turn { state, key }, stream, buffers }
    }

    /// Does it, if its client may begin one; `None` if nothing has come of it, which has been counted.
    pub async fn run(
        mut self,
        certificates: &Certificates,
        may_begin: impl FnOnce(Source) -> bool,
    ) -> Option<(Channel, Buffers)> {
        let received = if self.buffers.client.expects_header { self.header().await? } else { Bytes::new() };
        if !may_begin(self.buffers.client.peer) {
            self.turn.state.counters.count(HttpEvent::HandshakeLimited);
            return None;
        }
        let Self { turn, stream, buffers } = self;
        let (state, key) = (turn.state.clone(), turn.key);
        let mut accepting = TlsAcceptor::from(certificates.config()).accept(Begun { received, stream });
        let accepted = poll_fn(|context| {
            if state.deadlines.borrow_mut().poll_end(key, context.waker()).is_some() {
                return Poll::Ready(None);
            }
            Pin::new(&mut accepting).poll(context).map(Some)
        })
        .await;
        drop(turn);
        match accepted? {
            Ok(mut stream) => {
                state.counters.count(HttpEvent::Handshakes);
                stream.get_mut().1.set_buffer_limit(Some(BUFFER));
                Some((Channel::Tls(Box::new(stream)), buffers))
            }
            Err(_) => {
                state.counters.count(HttpEvent::HandshakeFailed);
                None
            }
        }
    }

    /// Reads the header of the PROXY protocol. Returns what has come behind it.
    async fn header(&mut self) -> Option<Bytes> {
        let Self { turn: Turn { state, key }, stream, buffers } = self;
        let mut input = BytesMut::new();
        loop {
            let count = poll_fn(|context| {
                if state.deadlines.borrow_mut().poll_end(*key, context.waker()).is_some() {
                    return Poll::Ready(0);
                }
                let space = &mut *state.receive_space.borrow_mut();
                let mut space = ReadBuf::new(space);
                Pin::new(&mut *stream).poll_read(context, &mut space).map(|result| {
                    input.extend_from_slice(space.filled());
                    if result.is_ok() { space.filled().len() } else { 0 }
                })
            })
            .await;
            if count == 0 {
                return None;
            }
            state.counters.add(HttpEvent::ReceivedBytes, count as u64);
            match protocol::read(&input) {
                Ok(None) => {}
                Ok(Some(header)) => {
                    let client = &mut buffers.client;
                    client.expects_header = false;
                    client.peer = header.source.unwrap_or(client.peer);
                    client.seen = client.peer;
                    if !state.deadlines.borrow().is_ending(*key) {
                        state.handshakes.borrow_mut().pass(*key, client.peer.key());
                    }
                    return Some(input.freeze().slice(header.length..));
                }
                Err(protocol::Malformed) => {
                    state.counters.failure(HttpFailure::ProxyHeaderMalformed);
                    return None;
                }
            }
        }
    }
}
