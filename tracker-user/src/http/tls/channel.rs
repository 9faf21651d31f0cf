//! A connection as the rest of the engine sees it: a stream of bytes, with or without TLS.

use crate::http::io::send;
use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A connection. That of a Unix socket is a `TcpStream` as well: the system calls are the same.
pub enum Channel {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<Begun>>),
}

impl Channel {
    /// The socket.
    #[must_use]
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(&stream.get_ref().0.stream),
        }
    }

    /// Sends what goes at once; `last` as for [`send`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing does, and those of `send`.
    pub fn try_send(&mut self, bytes: &[u8], last: bool) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_io(Interest::WRITABLE, || send(SockRef::from(&*stream), bytes, last)),
            Self::Tls(stream) => send_encrypted(stream, bytes),
        }
    }

    /// The same, even if the runtime does not know yet that there is room.
    ///
    /// # Errors
    /// As for [`try_send`](Self::try_send).
    pub fn send_at_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => send(SockRef::from(&*stream), bytes, false),
            Self::Tls(stream) => send_encrypted(stream, bytes),
        }
    }

    /// Whether something has been taken and not sent.
    #[must_use]
    pub fn holds_output(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Whether the end of the connection has to be said besides closing it.
    #[must_use]
    pub fn says_its_end(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

fn send_encrypted(stream: &mut TlsStream<Begun>, bytes: &[u8]) -> io::Result<usize> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut *stream).poll_write(&mut context, bytes) {
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        Poll::Ready(sent) => {
            // What does not go now is flushed by whoever waits for it.
            if let Poll::Ready(Err(error)) = Pin::new(stream).poll_flush(&mut context) {
                return Err(error);
            }
            sent
        }
    }
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, space),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, space),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A connection of which some bytes have been received already.
pub struct Begun {
    /// These.
    pub received: Bytes,
    /// The rest.
    pub stream: TcpStream,
}

impl AsyncRead for Begun {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { received, stream } = self.get_mut();
        if received.is_empty() {
            return Pin::new(stream).poll_read(context, space);
        }
        let count = received.len().min(space.remaining());
        space.put_slice(&received[..count]);
        received.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
