//! Listening sockets of the HTTP threads.

use super::buffers;
use crate::listen::explain;
use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Seconds that the kernel waits for a client's first bytes before it hands over a connection without any.
const DEFER_SECONDS: libc::c_int = 1;

/// A listening address with a socket for each thread.
pub struct Listener {
    /// The address and port.
    pub address: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

/// Listens on `address` with a socket for each of `threads` threads; the kernel spreads the clients over them.
///
/// # Errors
/// When the address is in use, not of this host, or not allowed.
pub fn bind(address: SocketAddr, threads: usize) -> anyhow::Result<Listener> {
    // With SO_REUSEPORT a second tracker of the same user would bind without an error and take half of the connections; a
    // socket without it finds out. Where the system is to choose the port, this also chooses one for all sockets.
    let probe = socket(address, false).map_err(|error| explain(error, "HTTP", address))?;
    let address = probe
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .with_context(|| format!("cannot find out the port of HTTP {address}"))?;
    drop(probe);
    let sockets = (0..threads.max(1))
        .map(|_| listen(address))
        .collect::<io::Result<_>>()
        .map_err(|error| explain(error, "HTTP", address))?;
    Ok(Listener { address, sockets })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Each family has sockets of its own.
        socket.set_only_v6(true)?;
    }
    // Connections of a daemon that ran before may still be closing.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    buffers::bound(&socket)?;
    // A connection that is accepted has its request with it, and needs no second look.
    defer_accept(&socket)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn defer_accept(socket: &Socket) -> io::Result<()> {
    let seconds = DEFER_SECONDS;
    // SAFETY: the pointer and the length are those of `seconds`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

    #[test]
    fn foreign_addresses_are_explained() {
        let error = bind(SocketAddr::from(([192, 0, 2, 1], 0)), 1).err().expect("a documentation address");
        assert!(format!("{error:#}").contains("no interface of this host"), "{error:#}");
    }
}
