//! What a listening socket is bound to.

use super::address;
use socket2::{Socket, Type};
use std::{fmt, net::SocketAddr, path::PathBuf};

/// What a listening socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address and port of UDP.
    Udp(SocketAddr),
    /// An address and port of TCP.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Place {
    /// That of a socket; `None` if it is of another kind.
    #[must_use]
    pub fn of(socket: &Socket) -> Option<Self> {
        let (kind, bound) = (socket.r#type().ok()?, socket.local_addr().ok()?);
        match (bound.as_socket().map(address::canonical), bound.as_pathname()) {
            (Some(address), _) if kind == Type::DGRAM => Some(Self::Udp(address)),
            (Some(address), _) if kind == Type::STREAM => Some(Self::Tcp(address)),
            (None, Some(path)) if kind == Type::STREAM => Some(Self::Unix(path.to_owned())),
            (Some(_) | None, _) => None,
        }
    }

    /// Whether a socket at one of two places can be in the way of one at the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp(one), Self::Udp(other)) | (Self::Tcp(one), Self::Tcp(other)) => address::overlap(*one, *other),
            (Self::Udp(_) | Self::Tcp(_) | Self::Unix(_), _) => false,
        }
    }

    /// The address and port, if it is of the internet.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(address) | Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "UDP {address}"),
            Self::Tcp(address) => write!(f, "HTTP {address}"),
            Self::Unix(path) => write!(f, "HTTP unix:{}", path.display()),
        }
    }
}
