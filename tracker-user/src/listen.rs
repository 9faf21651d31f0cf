//! What to do when an address cannot be listened on.

use anyhow::anyhow;
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

/// Says what to do when `address` cannot be listened on for `protocol` (UDP or HTTP).
#[must_use]
pub fn explain(error: io::Error, protocol: &str, address: SocketAddr) -> anyhow::Error {
    let port = address.port();
    let (transport, show) = if protocol == "UDP" { ("UDP", "u") } else { ("TCP", "t") };
    let kind = error.kind();
    let advice = if kind == ErrorKind::AddrInUse {
        format!(
            ": another process has {transport} port {port} (`ss -ln{show}p 'sport = :{port}'` shows which); stop it, or \
             choose another port with --{}",
            protocol.to_lowercase()
        )
    } else if kind == ErrorKind::AddrNotAvailable {
        ": no interface of this host has that address (see `ip address`)".into()
    } else if kind == ErrorKind::PermissionDenied {
        ": ports below 1024 take root or CAP_NET_BIND_SERVICE".into()
    } else {
        String::new()
    };
    anyhow!(error).context(format!("cannot listen on {protocol} {address}{advice}"))
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

    #[test]
    fn address_of_another_host_is_said() {
        // TEST-NET-1 of RFC 5737.
        let error = udp::bind(SocketAddr::from(([192, 0, 2, 1], 0)), 1).err().expect("not ours");
        assert!(is_family_missing(&error));
        assert!(format!("{error:#}").contains("ip address"), "{error:#}");
    }
}
