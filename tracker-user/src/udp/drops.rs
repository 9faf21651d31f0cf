//! Packets that the kernel dropped at the sockets: their receive buffers were full, or checksums
//! wrong. The kernel counts them per socket and is asked on demand, so that receiving costs nothing
//! more.

use crate::listen::socket_option;
use rustix::net::sockopt::socket_cookie;
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
    /// Tells the kernel's sockets apart, if it says.
    cookie: Option<u64>,
    /// Owned by the threads that serve it, and closed with them. One that is another user's has
    /// several.
    descriptors: Vec<Weak<UdpSocket>>,
    /// The kernel's counter when it was read last. It has 32 bits and begins anew at their end.
    last: u32,
    total: u64,
}

impl Drops {
    /// Counts those of `socket` from now on, too. What it has counted before is of the tracker that had it.
    pub fn watch(&self, socket: &Arc<UdpSocket>) {
        let (cookie, descriptor) = (socket_cookie(socket).ok(), Arc::downgrade(socket));
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match watched.iter_mut().find(|one| cookie.is_some() && one.cookie == cookie) {
            Some(one) => one.descriptors.push(descriptor),
            None => {
                let last = drops(socket).unwrap_or(0);
                watched.push(Watched { cookie, descriptors: vec![descriptor], last, total: 0 });
            }
        }
    }

    /// All so far; those of sockets that are closed included.
    #[must_use]
    pub fn total(&self) -> u64 {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in watched.iter_mut() {
            if let Some(socket) = one.descriptors.iter().find_map(Weak::upgrade)
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
        // The tracker that goes on with it.
        let next = Drops::default();
        next.watch(&other);
        assert_eq!(next.total(), 0);
        flood(&other);
        assert!(next.total() > 0);
    }

    #[test]
    fn packets_are_counted_once_that_a_socket_of_several_threads_had_no_room_for() {
        let one = socket();
        let other = Arc::new(one.try_clone().expect("a descriptor"));
        let (drops, once) = (Drops::default(), Drops::default());
        drops.watch(&one);
        drops.watch(&other);
        once.watch(&other);
        flood(&one);
        let first = once.total();
        assert!(first > 0 && drops.total() == first, "{} {first}", drops.total());
        // By whichever thread is left.
        drop(one);
        flood(&other);
        assert!(once.total() > first && drops.total() == once.total());
    }

    #[test]
    fn counter_of_the_kernel_may_begin_anew() {
        let mut watched = Watched { cookie: None, descriptors: Vec::new(), last: u32::MAX - 1, total: 7 };
        watched.add(3);
        watched.add(3);
        assert_eq!(watched.total, 12);
    }
}
