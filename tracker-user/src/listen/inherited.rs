//! Listening sockets that this process was started with: of the tracker before it, or of systemd
//! (`sd_listen_fds(3)`: numbers from 3 on, as many as LISTEN_FDS says). What has arrived in them
//! waits to be answered, so a restart refuses nobody.

use super::Place;
use anyhow::Context as _;
use rustix::{fs::fstat, process::geteuid};
use socket2::Socket;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Place, Socket)>);

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

    pub(super) fn new(sockets: impl Iterator<Item = Socket>) -> Self {
        let mut inherited = Vec::new();
        for socket in sockets {
            match Place::of(&socket) {
                Some(place) => inherited.push((place, socket)),
                None => {
                    tracing::warn!("a file that LISTEN_FDS speaks of is no socket to answer by: it is closed");
                }
            }
        }
        Self(inherited)
    }

    /// Closes those that would keep sockets from being bound where the tracker is to listen. These are
    /// on the wildcard, or beside it, and not wanted themselves; or another user's, which can share
    /// their port with none. Returns what they were bound to.
    pub fn make_way(&mut self, wanted: &[Place]) -> Vec<Place> {
        let mut closed = Vec::new();
        // What is closed may have to be bound anew, and others be in the way of that.
        while let Some(number) = self.0.iter().position(|(place, socket)| self.is_in_the_way(place, socket, wanted)) {
            let (place, _) = self.0.swap_remove(number);
            if !closed.contains(&place) {
                closed.push(place);
            }
        }
        closed
    }

    fn is_in_the_way(&self, place: &Place, socket: &Socket, wanted: &[Place]) -> bool {
        let mut others = wanted.iter().filter(|other| place.overlaps(other));
        if wanted.contains(place) {
            let is_there = |other: &Place| self.0.iter().any(|(place, _)| place == other);
            is_of_another_user(socket) && others.any(|other| !is_there(other))
        } else {
            others.next().is_some()
        }
    }

    /// Those that are bound there.
    pub(super) fn take(&mut self, place: &Place) -> Vec<Socket> {
        self.0.extract_if(.., |(bound, _)| bound == place).map(|(_, socket)| socket).collect()
    }

    /// Closes those that nobody has taken. Returns what they were bound to.
    pub fn close(self) -> Vec<Place> {
        self.0.into_iter().map(|(place, _)| place).collect()
    }
}

/// Whether another user has opened a socket, as root has those of systemd: the kernel lets only those
/// of one user share a port (`SO_REUSEPORT`).
fn is_of_another_user(socket: &Socket) -> bool {
    fstat(socket).is_ok_and(|opened| opened.st_uid != geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{TcpListener, UdpSocket},
        os::unix::net::{UnixListener, UnixStream},
    };

    #[test]
    fn sockets_are_found_by_type_and_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (tcp_address, udp_address) = (tcp.local_addr().expect("bound"), udp.local_addr().expect("bound"));
        let (pair, _other) = UnixStream::pair().expect("a pair");
        let second = tcp.try_clone().expect("a descriptor");
        let path = std::env::temp_dir().join(format!("tracker-inherited-{}", std::process::id()));
        let unix = UnixListener::bind(&path).expect("a path");
        let sockets = [tcp.into(), udp.into(), Socket::from(OwnedFd::from(pair)), second.into(), unix.into()];
        let mut inherited = Inherited::new(sockets.into_iter());
        assert!(inherited.take(&Place::Udp(tcp_address)).is_empty());
        assert_eq!(inherited.take(&Place::Tcp(tcp_address)).len(), 2);
        assert!(inherited.take(&Place::Tcp(tcp_address)).is_empty());
        assert!(inherited.take(&Place::Unix("/nonexistent".into())).is_empty());
        assert_eq!(inherited.take(&Place::Unix(path.clone())).len(), 1);
        assert_eq!(inherited.close(), [Place::Udp(udp_address)]);
        std::fs::remove_file(path).expect("it is there");
    }
}
