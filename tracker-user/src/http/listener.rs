//! Listening sockets of the HTTP threads.

use super::socket_buffers;
use crate::listen::{self, Bound, Endpoint, Inherited, Transport, socket_option};
use anyhow::Context as _;
use socket2::{Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, BorrowedFd},
};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How many seconds the kernel waits for a client's first bytes before it hands over a connection
/// without any.
const DEFER_SECONDS: libc::c_int = 1;

/// A listening address with a socket for each thread.
pub struct Listener {
    /// The address and port.
    pub address: SocketAddr,
    /// Whether this host does not have the address yet.
    pub missing: bool,
    pub(super) sockets: Vec<TcpListener>,
}

impl Listener {
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
    let listener = |bound: Bound| Listener {
        address: bound.address,
        missing: bound.missing,
        sockets: bound.sockets.into_iter().map(Into::into).collect(),
    };
    Ok(listen::bind_all::<Http>(endpoints, threads, inherited)?.into_iter().map(listener).collect())
}

/// The same for one address.
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
        assert_ne!(listener.address.port(), 0);
        for socket in &listener.sockets {
            assert_eq!(socket.local_addr().expect("bound"), listener.address);
        }
        let error = bind(listener.address, 1).err().expect("the port is taken");
        assert!(format!("{error:#}").contains("another process has TCP port"), "{error:#}");
    }
}
