//! What the network card does to packets before the XDP program sees them (ethtool).

use super::netlink::Interface;
use socket2::{Domain, Socket, Type};
use std::{io, os::fd::AsRawFd as _};

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `ETHTOOL_GFLAGS` of `linux/ethtool.h`: offloads as the bits of a word.
const ETHTOOL_GFLAGS: u32 = 0x25;

/// More words than any answer has: 1024 names of features have 8192.
const LONGEST_WORDS: usize = 16 << 10;

/// `ETH_FLAG_RXVLAN`: VLAN tags are taken off packets that are received.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

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
    // `struct ethtool_value`.
    let mut value = [ETHTOOL_GFLAGS, 0];
    ethtool(interface, &mut value)?;
    Ok(value[1])
}

/// A request of `linux/ethtool.h` about an interface: a struct as words, the command first, which the
/// kernel fills in.
///
/// # Errors
/// When there is no such interface, or its driver does not know.
pub(crate) fn ethtool(interface: &str, value: &mut [u32]) -> io::Result<()> {
    // No struct that is asked for is longer, whatever the caller has room for.
    let mut whole = vec![0_u32; value.len().max(LONGEST_WORDS)];
    whole[..value.len()].copy_from_slice(value);
    // SAFETY: all zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = whole.as_mut_ptr().cast();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // Where features are set, some of which the driver leaves as they were, it says a number above zero.
    // SAFETY: request and `whole` live until the call returns; the kernel reads and writes them only
    // during it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    value.copy_from_slice(&whole[..value.len()]);
    Ok(())
}
