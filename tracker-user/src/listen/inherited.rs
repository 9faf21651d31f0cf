//! Listening sockets that this process was started with: of the tracker before it, or of systemd
//! (`sd_listen_fds(3)`: numbers from 3 on, as many as LISTEN_FDS says). What has arrived in them
//! waits to be answered, so a restart refuses nobody.

use super::address;
use anyhow::Context as _;
use socket2::{Socket, Type};
use std::{
    net::SocketAddr,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Type, SocketAddr, Socket)>);

impl Inherited {
    /// Those of this process. To be called once.
    ///
    /// # Errors
    /// When the environment speaks of files that are not there.
    pub fn of_this_process() -> anyhow::Result<Self> {
        let files = sd_notify::listen_fds().context("cannot take over the sockets that LISTEN_FDS speaks of")?;
        // SAFETY: who has started this process has opened them for it, and nothing else owns them.
        let sockets = files.map(|file| Socket::from(unsafe { OwnedFd::from_raw_fd(file) }));
        Ok(Self::new(sockets))
    }

    fn new(sockets: impl Iterator<Item = Socket>) -> Self {
        let mut inherited = Vec::new();
        for socket in sockets {
            match (socket.r#type(), socket.local_addr().ok().and_then(|address| address.as_socket())) {
                (Ok(kind), Some(address)) => inherited.push((kind, address::canonical(address), socket)),
                (Ok(_) | Err(_), _) => {
                    tracing::warn!("a file that LISTEN_FDS speaks of is no internet socket: it is closed");
                }
            }
        }
        Self(inherited)
    }

    /// Those of a type that are bound to `address`.
    pub(super) fn take(&mut self, kind: Type, address: SocketAddr) -> Vec<Socket> {
        let is_wanted =
            |(its_kind, its_address, _): &mut (Type, SocketAddr, Socket)| *its_kind == kind && *its_address == address;
        self.0.extract_if(.., is_wanted).map(|(_, _, socket)| socket).collect()
    }

    /// Closes those that nobody has taken. Returns what they were, as UDP or not and by address.
    pub fn close(self) -> Vec<(bool, SocketAddr)> {
        self.0.iter().map(|(kind, address, _)| (*kind == Type::DGRAM, *address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn sockets_are_found_by_type_and_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (tcp_address, udp_address) = (tcp.local_addr().expect("bound"), udp.local_addr().expect("bound"));
        let (pair, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let second = tcp.try_clone().expect("a descriptor");
        let sockets = [tcp.into(), udp.into(), Socket::from(OwnedFd::from(pair)), second.into()];
        let mut inherited = Inherited::new(sockets.into_iter());
        assert!(inherited.take(Type::DGRAM, tcp_address).is_empty());
        assert_eq!(inherited.take(Type::STREAM, tcp_address).len(), 2);
        assert!(inherited.take(Type::STREAM, tcp_address).is_empty());
        assert_eq!(inherited.close(), [(true, udp_address)]);
    }
}
