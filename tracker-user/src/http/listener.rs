//! Listening sockets of the HTTP threads.

use super::socket_buffers;
use crate::listen::{self, Bound, Endpoint, Inherited, Place, Transport, socket_option, unix};
use anyhow::Context as _;
use socket2::{Protocol, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How many seconds the kernel waits for a client's first bytes before it hands over a connection
/// without any.
const DEFER_SECONDS: libc::c_int = 1;

/// A listening address, or Unix socket, with a socket for each thread.
pub struct Listener {
    /// Where it listens.
    pub place: Place,
    /// Whether this host does not have the address yet.
    pub missing: bool,
    pub(super) sockets: Vec<Socket>,
}

impl Listener {
    /// The sockets themselves.
    #[must_use]
    pub fn into_sockets(self) -> Vec<Socket> {
        self.sockets
    }

    /// The sockets as files.
    pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }
}

/// Listens on all endpoints with a socket for each of `threads` threads; the kernel spreads the
/// clients over them.
///
/// # Errors
/// As for [`listen::bind_all`].
pub fn bind_all(endpoints: &[Endpoint], threads: usize, inherited: &mut Inherited) -> anyhow::Result<Vec<Listener>> {
    let listener =
        |bound: Bound| Listener { place: Place::Tcp(bound.address), missing: bound.missing, sockets: bound.sockets };
    Ok(listen::bind_all::<Http>(endpoints, threads, inherited)?.into_iter().map(listener).collect())
}

/// Listens on Unix sockets, each of which all threads share.
///
/// # Errors
/// As for [`unix::bind_all`], or when the process may open no more files.
pub fn bind_unix(paths: &[PathBuf], threads: usize, inherited: &mut Inherited) -> anyhow::Result<Vec<Listener>> {
    let listener = |(path, socket): (PathBuf, Socket)| -> anyhow::Result<Listener> {
        let mut sockets = vec![socket];
        for _ in 1..threads {
            sockets.push(sockets[0].try_clone().context("cannot open one more file (ulimit -n)")?);
        }
        Ok(Listener { place: Place::Unix(path), missing: false, sockets })
    };
    unix::bind_all(paths, unix::EVERYBODY, inherited)?.into_iter().map(listener).collect()
}

/// Listens on Unix sockets that only the owner and the group of their files may connect to.
///
/// # Errors
/// As for [`unix::bind_all`].
pub fn bind_private(paths: &[PathBuf], inherited: &mut Inherited) -> anyhow::Result<Vec<Listener>> {
    let listener = |(path, socket)| Listener { place: Place::Unix(path), missing: false, sockets: vec![socket] };
    Ok(unix::bind_all(paths, unix::OWNER_AND_GROUP, inherited)?.into_iter().map(listener).collect())
}

/// The same as [`bind_all`] for one address.
///
/// # Errors
/// As for [`listen::bind_all`].
pub fn bind(address: SocketAddr, threads: usize) -> anyhow::Result<Listener> {
    let bound = bind_all(&[Endpoint { address, optional: false }], threads, &mut Inherited::default())?;
    bound.into_iter().next().with_context(|| format!("HTTP {address} was not bound"))
}

/// HTTP's listening sockets, as [`listen::bind_all`] needs to know them.
pub enum Http {}

impl Transport for Http {
    const NAME: &'static str = "HTTP";
    const TYPE: Type = Type::STREAM;
    const PROTOCOL: Protocol = Protocol::TCP;

    fn place(address: SocketAddr) -> Place {
        Place::Tcp(address)
    }

    fn prepare(socket: &Socket, _: SocketAddr) -> io::Result<()> {
        // Connections of a daemon that ran before may still be closing.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket_buffers::bound(socket)?;
        // A connection that is accepted has its request with it, and needs no second look.
        socket_option::set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, DEFER_SECONDS)?;
        socket.set_nonblocking(true)
    }

    fn begin(socket: &Socket) -> io::Result<()> {
        socket.listen(BACKLOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn threads_share_a_port_that_others_do_not_get() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = bind(any, 3).expect("a free port");
        assert_eq!(listener.sockets.len(), 3);
        let address = listener.place.address().expect("of the internet");
        assert_ne!(address.port(), 0);
        for socket in &listener.sockets {
            assert_eq!(Place::of(socket), Some(listener.place.clone()));
        }
        let error = bind(address, 1).err().expect("the port is taken");
        assert!(format!("{error:#}").contains("another process has TCP port"), "{error:#}");
    }
}
