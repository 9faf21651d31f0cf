//! Packets that the kernel dropped at the sockets: their receive buffers were full, or checksums
//! wrong. The kernel counts them per socket and is asked on demand, so that receiving costs nothing
//! more.

use crate::listen::socket_option;
use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Place of the drops among the figures of `SO_MEMINFO` (`SK_MEMINFO_DROPS` of linux/sock_diag.h),
/// and how many they are.
const DROPS: usize = 8;
const FIGURES: usize = 9;

/// The drops of all sockets. Clones share them.
#[derive(Clone, Default)]
pub struct Drops(Arc<Mutex<Vec<Watched>>>);

struct Watched {
    /// Owned by the thread that serves it, and closed with that thread.
    socket: Weak<UdpSocket>,
    /// The kernel's counter when it was read last. It has 32 bits and begins anew at their end.
    last: u32,
    total: u64,
}

impl Drops {
    /// Counts those of `socket`, too.
    pub fn watch(&self, socket: &Arc<UdpSocket>) {
        let watched = Watched { socket: Arc::downgrade(socket), last: 0, total: 0 };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// All so far; those of sockets that are closed included.
    #[must_use]
    pub fn total(&self) -> u64 {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in watched.iter_mut() {
            if let Some(socket) = one.socket.upgrade()
                && let Ok(drops) = drops(&socket)
            {
                one.add(drops);
            }
        }
        watched.iter().map(|one| one.total).sum()
    }
}

impl Watched {
    fn add(&mut self, drops: u32) {
        self.total += u64::from(drops.wrapping_sub(self.last));
        self.last = drops;
    }
}

/// The kernel's counter of one socket.
fn drops(socket: &UdpSocket) -> io::Result<u32> {
    let figures: [u32; FIGURES] = socket_option::get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(figures[DROPS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    fn socket() -> Arc<UdpSocket> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        SockRef::from(&socket).set_recv_buffer_size(4096).expect("small");
        Arc::new(socket)
    }

    fn flood(socket: &UdpSocket) {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        for _ in 0..100 {
            client.send_to(&[0; 1000], socket.local_addr().expect("bound")).expect("loopback");
        }
    }

    #[test]
    fn packets_without_room_are_counted_and_stay_so_when_the_socket_is_closed() {
        let (one, other) = (socket(), socket());
        let drops = Drops::default();
        drops.watch(&one);
        drops.watch(&other);
        assert_eq!(drops.total(), 0);
        flood(&one);
        let first = drops.total();
        assert!(first > 0 && first < 100, "{first}");
        flood(&other);
        assert_eq!(drops.total(), 2 * first);
        drop(one);
        assert_eq!(drops.total(), 2 * first);
        assert_eq!(Arc::strong_count(&other), 1, "nobody keeps a socket open");
    }

    #[test]
    fn counter_of_the_kernel_may_begin_anew() {
        let mut watched = Watched { socket: Weak::new(), last: u32::MAX - 1, total: 7 };
        watched.add(3);
        watched.add(3);
        assert_eq!(watched.total, 12);
    }
}
