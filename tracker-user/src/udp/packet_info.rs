//! The control message of a packet (`IP_PKTINFO`, `IPV6_PKTINFO`): to which address it was sent,
//! and by which interface it came. It is sent with the reply, which then leaves from that address.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A control message, taken apart.
enum PacketInfo {
    /// `struct in_pktinfo`
    V4 {
        /// The destination of the packet.
        destination: Ipv4Addr,
        /// The address that a reply leaves from: the destination, if that is an address of this
        /// host alone.
        local: Ipv4Addr,
        /// Where in the control message `local` is.
        local_at: usize,
        /// Where in the control message the interface's number is.
        interface_at: usize,
    },
    /// `struct in6_pktinfo`
    V6 {
        /// The destination of the packet.
        destination: Ipv6Addr,
        /// Where in the control message the interface's number is.
        interface_at: usize,
    },
}

/// Reads the first control message, and the only one that these sockets ask for.
fn parse(control: &[u8]) -> Option<PacketInfo> {
    // Its header is as long as `CMSG_LEN(0)`.
    // SAFETY: no memory is touched.
    let data = unsafe { libc::CMSG_LEN(0) } as usize;
    let number =
        |at: usize| -> Option<libc::c_int> { Some(libc::c_int::from_ne_bytes(*control.get(at..)?.first_chunk()?)) };
    let level = number(mem::offset_of!(libc::cmsghdr, cmsg_level))?;
    let kind = number(mem::offset_of!(libc::cmsghdr, cmsg_type))?;
    match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let address = |at| -> Option<Ipv4Addr> {
                let bytes: [u8; 4] = *control.get(at..)?.first_chunk()?;
                Some(bytes.into())
            };
            let local_at = data + mem::offset_of!(libc::in_pktinfo, ipi_spec_dst);
            Some(PacketInfo::V4 {
                destination: address(data + mem::offset_of!(libc::in_pktinfo, ipi_addr))?,
                local: address(local_at)?,
                local_at,
                interface_at: data + mem::offset_of!(libc::in_pktinfo, ipi_ifindex),
            })
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let at = data + mem::offset_of!(libc::in6_pktinfo, ipi6_addr);
            let bytes: [u8; 16] = *control.get(at..)?.first_chunk()?;
            let interface_at = data + mem::offset_of!(libc::in6_pktinfo, ipi6_ifindex);
            Some(PacketInfo::V6 { destination: bytes.into(), interface_at })
        }
        _ => None,
    }
}

/// Whether a packet was sent to a unicast address of this host. Its control message is changed so
/// that it can be sent with the reply: from that address, but by the interface that the routes say.
///
/// A broadcast or multicast reaches every wildcard socket on every host of a network. Answering it
/// would multiply packets with a forged source.
pub fn accept(control: &mut [u8]) -> bool {
    let (own, interface_at) = match parse(control) {
        // The kernel has looked up a route for the packet. If the route is not one to this host
        // alone, `local` is another address, to answer from. Of a packet that came before the socket
        // was asked for control messages, as one of systemd's may, the kernel has kept no route:
        // `local` is unspecified, and only the address itself can be checked. The reply is to leave
        // from that; the kernel refuses to send it if that is a broadcast address after all.
        Some(PacketInfo::V4 { destination, local, local_at, interface_at }) => {
            if local.is_unspecified()
                && let Some(local) = control.get_mut(local_at..local_at + 4)
            {
                local.copy_from_slice(&destination.octets());
            }
            let unrouted = local.is_unspecified() && !destination.is_multicast() && !destination.is_broadcast();
            (local == destination || unrouted, interface_at)
        }
        Some(PacketInfo::V6 { destination, interface_at }) => {
            if destination.is_unicast_link_local() {
                // A link-local address means nothing without its interface.
                return true;
            }
            (!destination.is_multicast(), interface_at)
        }
        // A socket of one unicast address, which gets no other packets.
        None => return true,
    };
    if let Some(number) = control.get_mut(interface_at..interface_at + 4) {
        number.fill(0);
    }
    own
}

/// The address that a packet was sent to, if its control message says it.
#[must_use]
pub fn destination(control: &[u8]) -> Option<IpAddr> {
    match parse(control)? {
        PacketInfo::V4 { destination, .. } => Some(destination.into()),
        PacketInfo::V6 { destination, .. } => Some(destination.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control message as the kernel writes it, of a packet that came by interface 7.
    fn message(level: libc::c_int, kind: libc::c_int, data: &[u8]) -> Vec<u8> {
        let mut control = (16 + data.len()).to_ne_bytes().to_vec();
        control.extend(level.to_ne_bytes());
        control.extend(kind.to_ne_bytes());
        control.extend(data);
        control
    }

    fn v4(local: &str, destination: &str) -> Vec<u8> {
        let octets = |address: &str| address.parse::<Ipv4Addr>().expect("an address").octets();
        let data = [&7_u32.to_ne_bytes()[..], &octets(local), &octets(destination)].concat();
        message(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
    }

    fn v6(destination: &str) -> Vec<u8> {
        let octets = destination.parse::<Ipv6Addr>().expect("an address").octets();
        message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&octets[..], &7_u32.to_ne_bytes()].concat())
    }

    #[test]
    fn only_what_was_sent_to_an_own_address_is_accepted() {
        for (control, expected) in [
            (v4("192.0.2.1", "192.0.2.1"), true),
            (v4("127.0.0.1", "127.0.0.1"), true),
            (v4("0.0.0.0", "192.0.2.1"), true),
            (v4("192.0.2.1", "192.0.2.255"), false),
            (v4("192.0.2.1", "255.255.255.255"), false),
            (v4("192.0.2.1", "224.0.0.1"), false),
            (v4("0.0.0.0", "255.255.255.255"), false),
            (v4("0.0.0.0", "239.1.2.3"), false),
            (v6("2001:db8::1"), true),
            (v6("::1"), true),
            (v6("fe80::1"), true),
            (v6("ff02::1"), false),
            (v6("ff05::2"), false),
            (Vec::new(), true),
            (v4("192.0.2.1", "192.0.2.255")[..20].to_vec(), true),
            (message(libc::SOL_SOCKET, libc::SCM_TIMESTAMP, &[0; 16]), true),
        ] {
            let mut control = control;
            assert_eq!(accept(&mut control), expected, "{control:?}");
        }
    }

    #[test]
    fn replies_may_leave_by_any_interface_but_link_local_ones() {
        for (control, at, expected) in
            [(v4("192.0.2.1", "192.0.2.1"), 16, 0), (v6("2001:db8::1"), 32, 0), (v6("fe80::1"), 32, 7)]
        {
            let mut control = control;
            accept(&mut control);
            assert_eq!(control[at..at + 4], u32::to_ne_bytes(expected), "{control:?}");
        }
    }

    #[test]
    fn replies_leave_from_the_address_that_was_asked() {
        for (control, expected) in [
            (v4("192.0.2.1", "192.0.2.1"), "192.0.2.1"),
            (v4("0.0.0.0", "192.0.2.1"), "192.0.2.1"),
            (v4("192.0.2.1", "192.0.2.255"), "192.0.2.1"),
        ] {
            let mut control = control;
            accept(&mut control);
            assert_eq!(control[20..24], expected.parse::<Ipv4Addr>().expect(expected).octets(), "{control:?}");
        }
    }

    #[test]
    fn destination_is_read() {
        for (control, expected) in [
            (v4("192.0.2.1", "192.0.2.255"), Some("192.0.2.255")),
            (v6("2001:db8::1"), Some("2001:db8::1")),
            (v6("2001:db8::1")[..31].to_vec(), None),
            (Vec::new(), None),
        ] {
            let expected = expected.map(|address| address.parse().expect("an address"));
            assert_eq!(destination(&control), expected, "{control:?}");
        }
    }
}
