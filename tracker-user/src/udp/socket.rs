//! How a UDP socket is set up.

use super::RECEIVE_TIMEOUT;
use crate::listen::{Place, Transport, socket_option};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Protocol, Socket, Type};
use std::{fs, io, net::SocketAddr, os::fd::AsFd};

/// Bytes for a burst that arrives while a thread is not running. The kernel grants what
/// `net.core.rmem_max` allows, unless the process has CAP_NET_ADMIN.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// Sets how many bytes the receive buffer has, or as many as the system allows: more takes
/// CAP_NET_ADMIN.
pub(super) fn set_receive_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    if sockopt::set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    Ok(())
}

/// Whether receive buffers are longer than the system allows without CAP_NET_ADMIN.
#[must_use]
pub fn has_longer_buffers_than_allowed() -> bool {
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|text| text.trim().parse().ok());
    limit.is_none_or(|limit: usize| limit < RECEIVE_BUFFER)
}

/// UDP sockets, as [`bind_all`](crate::listen::bind_all) needs to know them.
pub enum Udp {}

impl Transport for Udp {
    const NAME: &'static str = "UDP";
    const TYPE: Type = Type::DGRAM;
    const PROTOCOL: Protocol = Protocol::UDP;

    fn place(address: SocketAddr) -> Place {
        Place::Udp(address)
    }

    fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
        if address.ip().is_unspecified() {
            // On other sockets there is only one address that packets can have been sent to.
            let (level, option) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            socket_option::set(socket, level, option, 1)?;
            if address.is_ipv6() {
                // Or nothing leaves from an address that only a route says is this host's (`ip -6
                // route add local`). Nobody else chooses from which: what came has been asked of it.
                socket.set_freebind_v6(true)?;
            }
        }
        // The kernel refuses a reply that does not fit the path; it is shortened (module
        // `shorten`).
        if address.is_ipv6() {
            // A flow label is computed anew for every packet (SipHash); the XDP program's replies
            // have none either.
            socket_option::set(socket, libc::IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL, 0)?;
            sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?;
        } else {
            // "Don't fragment", as in the XDP program's replies. A packet that may not be
            // fragmented needs no identification number, and drawing one is among the dearest
            // things that the kernel does for a small packet.
            sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?;
        }
        set_receive_buffer(socket, RECEIVE_BUFFER)?;
        socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
        // A send waits for room in the interface's queue, but not for ever.
        socket.set_write_timeout(Some(RECEIVE_TIMEOUT))
    }

    fn begin(_: &Socket) -> io::Result<()> {
        Ok(())
    }
}
