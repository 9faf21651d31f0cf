//! What the kernel may hold for a connection.
//!
//! By default the kernel gives a connection up to 4 MiB for what it is to send and 6 MiB for what
//! has not been read (`net.ipv4.tcp_wmem`, `tcp_rmem`), and thousands of clients that take nothing
//! would have all of that. Nearly all replies have a few hundred bytes, and a request has 8 KiB at
//! most, so little is enough. Only a body that is made while it is sent, of which there are few, is
//! to be sent as fast as the path allows.

use crate::listen::socket_option;
use socket2::{SockRef, Socket};
use std::io;

/// Bytes for what is to be sent, and for what has not been read. The kernel takes twice that, for
/// its own records.
pub const ASKED: usize = 16 << 10;

/// What the kernel may take of memory for one of the two.
pub const TAKEN: usize = 2 * ASKED;

/// Bytes of a long body that the kernel may hold beyond what is on its way to the client.
const UNSENT: u32 = 128 << 10;

/// `SOCK_RCVBUF_LOCK`: the size for receiving stays as it was set; the one for sending does not.
/// See `socket(7)`.
const RECEIVE_LOCKED: libc::c_int = 2;

/// Bounds both for a listening socket; the connections inherit it.
///
/// # Errors
/// Those of `setsockopt`.
pub fn bound(socket: &Socket) -> io::Result<()> {
    socket.set_send_buffer_size(ASKED)?;
    socket.set_recv_buffer_size(ASKED)
}

/// Lets the kernel find the size for sending, while a long body is sent. A kernel before Linux 5.14
/// does not know how; sending is slower then, and nothing else.
pub fn unbind(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket_option::set(&**socket, libc::SOL_SOCKET, libc::SO_BUF_LOCK, RECEIVE_LOCKED);
}

/// Bounds the size for sending again after [`unbind`].
pub fn rebind(socket: &SockRef<'_>) {
    let _ = socket.set_send_buffer_size(ASKED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    };

    /// A listener, a client that reads nothing, and the connection as the listener has it.
    fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let socket = Socket::from(listener);
        bound(&socket).expect("allowed");
        let listener = TcpListener::from(socket);
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        SockRef::from(&client).set_recv_buffer_size(4096).expect("allowed");
        let (server, _) = listener.accept().expect("connected");
        server.set_nonblocking(true).expect("a socket");
        (client, server)
    }

    /// Bytes that can be sent to a client that reads nothing.
    fn fill(server: &mut TcpStream) -> usize {
        let mut sum = 0;
        loop {
            match server.write(&[0; 4096]) {
                Ok(count) => sum += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return sum;
                }
            }
        }
    }

    #[test]
    fn connections_inherit_the_bounds() {
        let (_client, mut server) = connect();
        let socket = SockRef::from(&server);
        assert_eq!(socket.send_buffer_size().expect("a size"), TAKEN);
        assert_eq!(socket.recv_buffer_size().expect("a size"), TAKEN);
        let bytes = fill(&mut server);
        assert!(bytes < 256 << 10, "{bytes} bytes");
    }

    #[test]
    fn a_long_body_has_as_much_as_the_path_takes() {
        let (mut client, server) = connect();
        let socket = SockRef::from(&server);
        unbind(&socket);
        // This one takes what it can.
        SockRef::from(&client).set_recv_buffer_size(1 << 20).expect("allowed");
        let reading = std::thread::spawn(move || {
            let mut space = vec![0; 1 << 20];
            while client.read(&mut space).expect("open") > 0 {}
        });
        server.set_nonblocking(false).expect("a socket");
        (&server).write_all(&vec![0; 8 << 20]).expect("open");
        let size = socket.send_buffer_size().expect("a size");
        assert!(size > TAKEN, "{size} bytes");
        rebind(&socket);
        assert_eq!(socket.send_buffer_size().expect("a size"), TAKEN);
        drop(server);
        reading.join().expect("no panic");
    }
}
