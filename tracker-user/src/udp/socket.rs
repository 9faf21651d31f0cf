//! How a UDP socket is set up.

use super::PATIENCE;
use crate::listen::Transport;
use socket2::{Protocol, Socket, Type};
use std::{io, net::SocketAddr, os::fd::AsRawFd as _};

/// What a burst may pile up while a thread is not running. The kernel grants what `net.core.rmem_max` allows, unless the
/// process may do as it likes.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// UDP sockets, as [`bind_all`](crate::listen::bind_all) needs to know them.
pub enum Udp {}

impl Transport for Udp {
    const NAME: &'static str = "UDP";
    const TYPE: Type = Type::DGRAM;
    const PROTOCOL: Protocol = Protocol::UDP;

    fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
        if address.ip().is_unspecified() {
            // Otherwise only one address can have been asked, and no packet need say which.
            let (level, option) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            set(socket, level, option, 1)?;
        }
        // What does not fit the way is refused by the kernel, and shortened (module `shorten`).
        if address.is_ipv6() {
            // A flow label is computed anew for every packet (SipHash); the XDP program's replies have none either.
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL, 0)?;
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
        } else {
            // "Don't fragment", as in the XDP program's replies. A packet that nobody may fragment needs no identification
            // number, and drawing one is among the dearest things that the kernel does for a small packet.
            set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
        }
        // Without the right to exceed the system's limit, ask for as much as it allows.
        if set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER as libc::c_int).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        // A send waits for room in the interface's queue, but not for ever.
        socket.set_write_timeout(Some(PATIENCE))
    }

    fn begin(_: &Socket) -> io::Result<()> {
        Ok(())
    }
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
