//! Which addresses can be listened on, and how they are written.

use super::advise;
use crate::xdp::netlink;
use anyhow::anyhow;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Reads `ADDRESS:PORT`. The scope of an IPv6 address may be an interface's number or its name:
/// `[fe80::1%eth0]:6969`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the text.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some((mut address, name)) = with_interface_name(text) {
        let interfaces = netlink::interfaces().map_err(|error| format!("names an interface, but {error:#}"))?;
        let interface = interfaces.iter().find(|interface| interface.name == name);
        let interface = interface
            .ok_or_else(|| format!("names the interface {name}, which this host does not have (see `ip link`)"))?;
        address.set_scope_id(interface.index);
        return Ok(address.into());
    }
    let port = text.rsplit_once(':').map_or("6969", |(_, port)| port);
    Err(format!(
        "is not ADDRESS:PORT with a numeric address, such as 0.0.0.0:{port}, [::]:{port}, 192.0.2.1:{port} or \
         [fe80::1%eth0]:{port}"
    ))
}

/// Splits `[ADDRESS%NAME]:PORT` into address and name.
fn with_interface_name(text: &str) -> Option<(SocketAddrV6, &str)> {
    let (address, rest) = text.split_once('%')?;
    let (name, port) = rest.split_once("]:")?;
    let address = format!("{address}]:{port}").parse().ok()?;
    (!name.is_empty()).then_some((address, name))
}

/// The canonical form of an address: IPv4 as IPv4, and a scope only on link-local addresses.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = address
        && v6.ip().is_unicast_link_local()
    {
        return SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into();
    }
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether a socket on one of two addresses can be in the way of one on the other: one of them is the
/// wildcard of the other's family, with the same port.
#[must_use]
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one != other
        && one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Makes sure that a canonical address is a unicast address, which only one host can have.
///
/// # Errors
/// When it is a multicast or broadcast address, or a link-local one without its interface.
/// `protocol` is UDP or HTTP.
pub fn check(address: SocketAddr, protocol: &str) -> anyhow::Result<()> {
    let for_many = "requests to it reach many hosts or sockets at a time, and each would answer; name an address of one \
                    interface (see `ip address`), or 0.0.0.0 or [::] for all of them";
    let advice = match address {
        _ if address.ip().is_multicast() => format!("that is a multicast address: {for_many}"),
        SocketAddr::V4(v4) if v4.ip().is_broadcast() || is_subnet_broadcast(v4) => {
            format!("that is a broadcast address: {for_many}")
        }
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => format!(
            "a link-local address needs its interface: write [{}%INTERFACE]:{} (`ip -6 address` shows which)",
            v6.ip(),
            v6.port()
        ),
        SocketAddr::V4(_) | SocketAddr::V6(_) => return Ok(()),
    };
    Err(anyhow!(advise(protocol, address, &advice)))
}

/// Whether packets to an IPv4 address are broadcast on one of the subnets that this host knows.
fn is_subnet_broadcast(address: SocketAddrV4) -> bool {
    let connect = |broadcast| -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_broadcast(broadcast)?;
        // This sends nothing. The kernel looks up the route, and refuses a broadcast route to a
        // socket without SO_BROADCAST.
        socket.connect(&SockAddr::from(address))
    };
    connect(false).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) && connect(true).is_ok()
}

/// Whether this host has the address, and may use it by now.
#[must_use]
pub fn is_there(address: SocketAddr) -> bool {
    let mut address = address;
    address.set_port(0);
    Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .and_then(|socket| socket.bind(&address.into()))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_may_be_named_in_addresses() {
        let lo = netlink::interfaces().expect("netlink").into_iter().find(|interface| interface.loopback);
        let lo = lo.expect("every host has a loopback interface").index;
        let scoped = |scope| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().expect("an address"), 1, 0, scope));
        for (text, expected) in [
            ("192.0.2.1:80", Some("192.0.2.1:80".parse().expect("an address"))),
            ("[::]:6969", Some("[::]:6969".parse().expect("an address"))),
            ("[fe80::1%lo]:1", Some(scoped(lo))),
            ("[fe80::1%7]:1", Some(scoped(7))),
            ("[fe80::1%no-such-one]:1", None),
            ("[fe80::1%]:1", None),
            ("[fe80::1%lo]", None),
            ("[fe80::1%lo]:65536", None),
            ("fe80::1%lo:1", None),
            ("192.0.2.1%lo:1", None),
            ("[192.0.2.1%lo]:1", None),
            ("localhost:1", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_written_in_one_way() {
        for (address, expected) in [
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("[2001:db8::1%3]:80", "[2001:db8::1]:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
            ("[::]:80", "[::]:80"),
        ] {
            assert_eq!(canonical(address.parse().expect(address)).to_string(), expected);
        }
    }

    #[test]
    fn only_a_wildcard_overlaps_with_addresses_of_its_family_and_port() {
        for (one, other, expected) in [
            ("0.0.0.0:80", "192.0.2.1:80", true),
            ("[::]:80", "[2001:db8::1]:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "192.0.2.1:81", false),
            ("0.0.0.0:0", "192.0.2.1:0", false),
            ("0.0.0.0:80", "[2001:db8::1]:80", false),
            ("0.0.0.0:80", "[::]:80", false),
            ("192.0.2.1:80", "192.0.2.2:80", false),
        ] {
            let (one, other) = (one.parse().expect(one), other.parse().expect(other));
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn only_unicast_addresses_can_be_listened_on() {
        for (address, wrong) in [
            ("255.255.255.255:1", "broadcast"),
            // The loopback interface has 127.0.0.1/8.
            ("127.255.255.255:1", "broadcast"),
            ("224.0.0.1:1", "multicast"),
            ("239.255.255.250:1", "multicast"),
            ("[ff02::1]:1", "multicast"),
            ("[ff02::1%1]:1", "multicast"),
            ("[fe80::1]:1", "[fe80::1%INTERFACE]:1"),
        ] {
            let error = check(address.parse().expect(address), "HTTP").expect_err(address).to_string();
            assert!(error.contains(wrong) && error.contains(&format!("HTTP {address}")), "{error}");
        }
        for address in ["0.0.0.0:1", "127.0.0.1:1", "127.255.255.254:1", "203.0.113.255:1", "[::]:1", "[fe80::1%1]:1"] {
            check(address.parse().expect(address), "UDP").expect(address);
        }
    }

    #[test]
    fn addresses_of_others_are_not_there() {
        for (address, expected) in [("127.0.0.9:1", true), ("0.0.0.0:1", true), ("203.0.113.1:1", false)] {
            assert_eq!(is_there(address.parse().expect(address)), expected, "{address}");
        }
    }
}
