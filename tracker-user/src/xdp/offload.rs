//! What the network card does to packets before the XDP program sees them (ethtool).

use super::netlink::Interface;
use socket2::{Domain, Socket, Type};
use std::{io, os::fd::AsRawFd as _};

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `ETHTOOL_GFLAGS` of `linux/ethtool.h`: offloads as the bits of a word.
const ETHTOOL_GFLAGS: u32 = 0x25;

/// `ETH_FLAG_RXVLAN`: VLAN tags are taken off packets that are received.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether the card takes VLAN tags off (`ethtool -k`: rx-vlan-offload). One that cannot be asked
/// is taken not to.
#[must_use]
pub fn takes_vlan_tags_off(interface: &Interface) -> bool {
    match flags(&interface.name) {
        Ok(flags) => flags & ETH_FLAG_RXVLAN != 0,
        Err(error) => {
            tracing::debug!("cannot ask {} for its offloads (ioctl SIOCETHTOOL): {error}", interface.name);
            false
        }
    }
}

fn flags(interface: &str) -> io::Result<u32> {
    let mut value = Value { command: ETHTOOL_GFLAGS, data: 0 };
    // SAFETY: all zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: request and value live until the call returns; the kernel reads and writes them only
    // during it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}
