//! The daemon's UDP sockets: they answer what the XDP program passes on or cannot see, with the
//! same code ([`tracker_common::bep15::datagram`]), and everything when there is no XDP program.
//!
//! Every listening address has one socket and one thread per core (`SO_REUSEPORT`: the kernel
//! spreads the clients over them). A thread receives, answers and sends in batches, and shares
//! nothing with others but the store: through io_uring where the system offers it and the socket
//! has one address (module `io_uring`), else in batches of [`BATCH`] packets with two system calls
//! each. Replies leave from the address that was asked, also on a wildcard socket (`IP_PKTINFO`).

mod answer;
mod batch;
mod drops;
mod io_uring;
mod packet_info;
mod queue;
mod replies;
mod shorten;
mod socket;

use crate::{
    listen::{self, Bound, Endpoint, Inherited},
    service::{Service, Services, Shutdown},
    store::{CounterSet, Handle, Store},
    text::human_bytes,
};
use anyhow::Context as _;
use io_uring::UringSocket;
use queue::Queue;
use rustix::net::sockopt::socket_cookie;
use socket::RECEIVE_BUFFER;
use socket2::SockRef;
use std::{
    io, mem,
    net::{SocketAddr, SocketAddrV6, UdpSocket},
    sync::Arc,
    time::Duration,
};

pub use batch::BATCH;
pub use drops::Drops;
pub use socket::{Udp, has_longer_buffers_than_allowed};

/// Room for a request. The longest that is read to its end, a scrape of 74 torrents, has 1496
/// bytes; what follows is not read.
const REQUEST_BYTES: usize = 2048;

/// How long a thread waits for packets before it checks whether it is to end.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(300);

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
pub fn bind_all(endpoints: &[Endpoint], threads: usize, inherited: &mut Inherited) -> anyhow::Result<Vec<Listener>> {
    let listener = |bound: Bound| Listener {
        address: bound.address,
        missing: bound.missing,
        sockets: bound.sockets.into_iter().map(|socket| Arc::new(socket.into())).collect(),
    };
    Ok(listen::bind_all::<Udp>(endpoints, threads, inherited)?.into_iter().map(listener).collect())
}

/// The same for one address.
#[cfg(test)]
pub(crate) fn bind(address: SocketAddr, threads: usize) -> anyhow::Result<Listener> {
    let bound = bind_all(&[Endpoint { address, optional: false }], threads, &mut Inherited::default())?;
    bound.into_iter().next().with_context(|| format!("UDP {address} was not bound"))
}

impl Listener {
    /// Has the drops of all sockets counted.
    pub fn watch(&self, drops: &Drops) {
        self.sockets.iter().for_each(|socket| drops.watch(socket));
    }

    /// Answers on all sockets, each in a thread of its own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn serve(self, store: &Arc<Store>, services: &mut Services) -> anyhow::Result<()> {
        let cookies: Vec<_> = self.sockets.iter().map(|socket| socket_cookie(socket).ok()).collect();
        for (number, socket) in self.sockets.into_iter().enumerate() {
            let is_same = |other: &&Option<u64>| other.is_some() && **other == cookies[number];
            services.spawn(Responder {
                number,
                address: self.address,
                socket,
                queue: Queue::new(cookies.iter().filter(is_same).count().max(1)),
                handle: store.handle(CounterSet::Udp),
            })?;
        }
        Ok(())
    }
}

/// Answers on one socket.
struct Responder {
    /// Which of the address's sockets this is.
    number: usize,
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    queue: Queue,
    handle: Handle,
}

impl Service for Responder {
    fn name(&self) -> String {
        format!("udp{}-{}", if self.address.is_ipv4() { 4 } else { 6 }, self.number)
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self { address, socket, queue, handle, .. } = self;
        let by_uring = if address.ip().is_unspecified() { None } else { uring(&socket) };
        let result = match by_uring {
            Some(uring) => uring.serve(&handle, queue, shutdown),
            None => batch::serve(&socket, &handle, queue, shutdown),
        };
        result.with_context(|| format!("UDP socket {address} failed and is closed"))
    }
}

/// An io_uring for a socket of one address, if the system allows it; containers often do not.
fn uring(socket: &UdpSocket) -> Option<UringSocket<'_>> {
    UringSocket::new(socket)
        .inspect_err(|error| tracing::info!("UDP by recvmmsg and sendmmsg, which is a little slower: {error:#}"))
        .ok()
}

/// Reads a socket address as the kernel writes it. Port and address are in network byte order. The
/// scope of an IPv6 address is kept: link-local ones need it.
fn socket_address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(mem::offset_of!(libc::sockaddr_in, sin_port)..)?.first_chunk()?);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let address: &[u8; 4] = name.get(mem::offset_of!(libc::sockaddr_in, sin_addr)..)?.first_chunk()?;
            Some((*address, port).into())
        }
        libc::AF_INET6 => {
            let address: &[u8; 16] = name.get(mem::offset_of!(libc::sockaddr_in6, sin6_addr)..)?.first_chunk()?;
            let scope = name.get(mem::offset_of!(libc::sockaddr_in6, sin6_scope_id)..).and_then(<[u8]>::first_chunk);
            let scope = scope.map_or(0, |scope| u32::from_ne_bytes(*scope));
            Some(SocketAddrV6::new((*address).into(), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Errors that no later call can do without.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL))
}

/// Says it when the system does not grant the sockets all the buffer that they ask for: small ones
/// lose packets in bursts.
pub fn warn_of_small_buffers(listeners: &[Listener]) {
    let Some(socket) = listeners.first().and_then(|listener| listener.sockets.first()) else { return };
    // The kernel says twice what it was asked for: bookkeeping included.
    let Ok(size) = SockRef::from(&**socket).recv_buffer_size().map(|size| size / 2) else { return };
    if size < RECEIVE_BUFFER {
        tracing::info!(
            "UDP sockets may buffer {} instead of {}: net.core.rmem_max={RECEIVE_BUFFER} (sysctl) lets them take bursts",
            human_bytes(size as u64),
            human_bytes(RECEIVE_BUFFER as u64)
        );
    }
}

#[cfg(test)]
mod tests;
