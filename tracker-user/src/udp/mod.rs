//! The daemon's UDP sockets: they answer what the XDP program passes on or cannot see, with the same code
//! ([`tracker_common::datagram`]), and everything when there is no XDP program.
//!
//! Every listening address has one socket and one thread per core (`SO_REUSEPORT`: the kernel spreads the clients over them).
//! A thread receives, answers and sends in batches, and shares nothing with others but the store: through io_uring where the
//! system offers it and the socket has one address (module `io_uring`), else in batches of [`BATCH`] packets with two system calls
//! each. Replies leave from the address that was asked, also on a wildcard socket (`IP_PKTINFO`).

mod batch;
mod drops;
mod io_uring;
mod packet_info;
mod replies;
mod shorten;
mod socket;

use crate::{
    configuration::Endpoint,
    listen::{self, Bound},
    memory::{Path, Store},
    shutdown::Shutdown,
};
use anyhow::Context as _;
use io_uring::Ring;
use socket::RECEIVE_BUFFER;
use socket2::SockRef;
use std::{
    io, mem,
    net::{SocketAddr, SocketAddrV6, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};
use tracker_common::bep15::datagram::Source;

pub use batch::BATCH;
pub use drops::Drops;
pub use socket::Udp;

/// Room for a request. The longest that is read to its end, a scrape of 74 torrents, has 1496 bytes; what follows is not
/// looked at.
const REQUEST_BYTES: usize = 2048;

/// How long a thread waits for packets, and so for the end.
const PATIENCE: Duration = Duration::from_millis(300);

/// A UDP listening address with its sockets.
pub struct Listener {
    /// The address and port.
    pub address: SocketAddr,
    /// Whether this host does not have the address yet.
    pub missing: bool,
    pub(crate) sockets: Vec<Arc<UdpSocket>>,
}

/// Binds all endpoints with `threads` sockets each.
///
/// # Errors
/// As for [`listen::bind_all`].
pub fn bind_all(endpoints: &[Endpoint], threads: usize) -> anyhow::Result<Vec<Listener>> {
    let listener = |bound: Bound| Listener {
        address: bound.address,
        missing: bound.missing,
        sockets: bound.sockets.into_iter().map(|socket| Arc::new(socket.into())).collect(),
    };
    Ok(listen::bind_all::<Udp>(endpoints, threads)?.into_iter().map(listener).collect())
}

/// The same for one address.
///
/// # Errors
/// As for [`listen::bind_all`].
pub fn bind(address: SocketAddr, threads: usize) -> anyhow::Result<Listener> {
    let bound = bind_all(&[Endpoint { address, optional: false }], threads)?;
    bound.into_iter().next().with_context(|| format!("UDP {address} was not bound"))
}

impl Listener {
    /// Has the drops of all sockets counted.
    pub fn watch(&self, drops: &Drops) {
        self.sockets.iter().for_each(|socket| drops.watch(socket));
    }

    /// Answers on all sockets until shutdown, each in a thread of its own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn serve(self, store: &Arc<Store>, shutdown: &Shutdown) -> anyhow::Result<Vec<thread::JoinHandle<()>>> {
        let address = self.address;
        let start = |(number, socket): (usize, Arc<UdpSocket>)| {
            let handle = store.handle(Path::Udp);
            let shutdown = shutdown.clone();
            // The kernel shows 15 bytes of a thread's name.
            let name = format!("udp{}-{number}", if address.is_ipv4() { 4 } else { 6 });
            let run = move || {
                let by_ring = if address.ip().is_unspecified() { None } else { ring(&socket) };
                let result = match by_ring {
                    Some(ring) => ring.serve(&handle, &shutdown),
                    None => batch::serve(&socket, &handle, &shutdown),
                };
                if let Err(error) = result {
                    tracing::error!("UDP socket {address} failed and is closed: {error}");
                }
            };
            thread::Builder::new().name(name).spawn(run)
        };
        self.sockets
            .into_iter()
            .enumerate()
            .map(start)
            .collect::<io::Result<_>>()
            .with_context(|| format!("cannot start the threads of UDP {address}"))
    }
}

/// An io_uring for a socket of one address, if the system allows it; containers often do not.
fn ring(socket: &UdpSocket) -> Option<Ring<'_>> {
    Ring::new(socket)
        .inspect_err(|error| tracing::info!("UDP by recvmmsg and sendmmsg, which is a little slower: {error:#}"))
        .ok()
}

/// Reads a socket address as the kernel writes it. Port and address are in network byte order.
fn source(name: &[u8]) -> Option<Source> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(mem::offset_of!(libc::sockaddr_in, sin_port)..)?.first_chunk()?);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let address = name.get(mem::offset_of!(libc::sockaddr_in, sin_addr)..)?;
            Some(Source::V4(*address.first_chunk()?, port))
        }
        libc::AF_INET6 => {
            let address = name.get(mem::offset_of!(libc::sockaddr_in6, sin6_addr)..)?;
            Some(Source::V6(*address.first_chunk()?, port))
        }
        _ => None,
    }
}

/// The same with the scope, which link-local IPv6 addresses need.
fn socket_address(name: &[u8]) -> Option<SocketAddr> {
    match source(name)? {
        Source::V4(address, port) => Some((address, port).into()),
        Source::V6(address, port) => {
            let scope = name.get(mem::offset_of!(libc::sockaddr_in6, sin6_scope_id)..).and_then(<[u8]>::first_chunk);
            let scope = scope.map_or(0, |scope| u32::from_ne_bytes(*scope));
            Some(SocketAddrV6::new(address.into(), port, 0, scope).into())
        }
    }
}

/// Errors that no later call can do without.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL))
}

/// How large the receive buffers of `listener` have become, in bytes.
#[must_use]
pub fn receive_buffer(listener: &Listener) -> Option<usize> {
    let socket = listener.sockets.first()?;
    // The kernel says twice what it was asked for: bookkeeping included.
    SockRef::from(&**socket).recv_buffer_size().ok().map(|size| size / 2)
}

/// The buffer size that was asked for.
#[must_use]
pub const fn receive_buffer_wanted() -> usize {
    RECEIVE_BUFFER
}

#[cfg(test)]
mod tests;
