//! Requests to the admin API, by its Unix socket or by TCP with a token.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};
use tracker_tests::{client::Response, namespace::Namespace};

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    Unix,
    Token(&'a str),
    Nobody,
}

/// A tracker's admin API.
pub struct Api<'a> {
    pub namespace: &'a Namespace,
    pub socket: PathBuf,
    pub address: SocketAddr,
}

impl Api<'_> {
    /// Sends bytes, and reads what comes until the connection ends.
    pub fn raw(&self, by_unix: bool, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        if by_unix {
            let mut stream = UnixStream::connect(&self.socket).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            // The server may have answered and gone before it has all.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut answer);
        } else {
            let mut stream = self.namespace.run(|| TcpStream::connect(self.address)).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut answer);
        }
        answer
    }

    /// Asks. A body is JSON.
    pub fn ask(&self, by: By<'_>, method: &str, path: &str, body: Option<&str>) -> Response {
        self.ask_with(by, (method, path), body.map(|body| ("application/json", body)))
    }

    /// Asks with a body of any type.
    pub fn ask_with(&self, by: By<'_>, (method, path): (&str, &str), body: Option<(&str, &str)>) -> Response {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let By::Token(token) = by {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some((media_type, body)) = body {
            request += &format!("Content-Type: {media_type}\r\nContent-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body.map_or("", |(_, body)| body);
        let answer = self.raw(by == By::Unix, request.as_bytes());
        Response::parse(&answer).unwrap_or_else(|error| panic!("{method} {path}: {error:#}"))
    }

    /// The body of what is asked for by the Unix socket.
    pub fn get(&self, path: &str) -> serde_json::Value {
        let response = self.ask(By::Unix, "GET", path, None);
        serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}
