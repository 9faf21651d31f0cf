//! Listening addresses: which there can be ([`address`]), how their sockets are bound
//! ([`bind_all`], [`unix`]) or taken over ([`Inherited`]), options of sockets, what to do when one
//! cannot be listened on, and networks that clients come from ([`network`]).

pub mod address;
mod bind;
mod inherited;
pub mod network;
mod place;
pub mod socket_option;
pub mod unix;

pub use bind::{Bound, Transport, bind_all};
pub use inherited::Inherited;
pub use network::{Network, Networks, Source};
pub use place::Place;

use anyhow::anyhow;
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// It is a default: if the host lacks the address family, the tracker goes on without it.
    pub optional: bool,
}

/// Says what to do when `address` cannot be listened on for `protocol` (UDP or HTTP).
#[must_use]
pub fn explain(error: io::Error, protocol: &str, address: SocketAddr) -> anyhow::Error {
    let port = address.port();
    let (transport, show) = if protocol == "UDP" { ("UDP", "u") } else { ("TCP", "t") };
    let kind = error.kind();
    let advice = if kind == ErrorKind::AddrInUse {
        format!(
            "another process has {transport} port {port} (`ss -ln{show}p 'sport = :{port}'` shows which); stop it, or \
             choose another port with --{}",
            protocol.to_lowercase()
        )
    } else if kind == ErrorKind::AddrNotAvailable {
        "no interface of this host has that address (see `ip address`)".into()
    } else if error.raw_os_error() == Some(libc::ENODEV) {
        "this host has no interface of that number (see `ip link`)".into()
    } else if kind == ErrorKind::PermissionDenied {
        "ports below 1024 take root or CAP_NET_BIND_SERVICE".into()
    } else {
        String::new()
    };
    anyhow!(error).context(advise(protocol, address, &advice))
}

/// That an address cannot be listened on, and what to do.
fn advise(protocol: &str, address: SocketAddr, advice: &str) -> String {
    let separator = if advice.is_empty() { "" } else { ": " };
    format!("cannot listen on {protocol} {address}{separator}{advice}")
}

/// Whether the error says that the host lacks the address family.
#[must_use]
pub fn is_family_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp;

    #[test]
    fn port_in_use_is_said_with_advice() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = udp::bind(loopback, 2).expect("any port");
        let error = format!("{:#}", udp::bind(first.address, 2).err().expect("taken"));
        assert!(error.contains("ss -lnup") && error.contains("--udp"), "{error}");
    }
}
