//! Connections of TCP, with options that the standard library does not know.

use crate::honest::{client, server};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use tracker_tests::{namespace::Namespace, patience};

/// A connection from one of the clients' addresses, made in the clients' namespace.
pub fn connect_from(number: u8) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(client(number, true), 0).into())?;
    socket.connect_timeout(&server(true).into(), patience(Duration::from_secs(10)))?;
    Ok(socket.into())
}

/// A connection that takes as little as the kernel lets it, and that nothing waits for. All are of
/// one address.
pub fn connect_meanly(namespace: &Namespace) -> Option<TcpStream> {
    let stream = namespace.run(|| TcpStream::connect(server(true))).ok()?;
    SockRef::from(&stream).set_recv_buffer_size(1).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Ends a connection by a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

/// Lets this process open as many as an attack takes.
pub fn raise_file_limit() {
    let limit = libc::rlimit { rlim_cur: 16_384, rlim_max: 16_384 };
    // SAFETY: `limit` is valid to read from.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Requests whose replies fill all buffers.
pub fn pipelined() -> Vec<u8> {
    let hashes: String = (0..60).map(|number| format!("&info_hash={number:020}")).collect();
    format!("GET /scrape?{hashes} HTTP/1.1\r\n\r\n").repeat(40).into_bytes()
}
