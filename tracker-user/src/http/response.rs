//! Writing the heads of HTTP responses.
//!
//! A response has the header lines that clients need and no others: a client that announces every half hour pays for each
//! of them. `Date` is left out, as other trackers do.

use super::{request::Encoding, tracker::bencode::digits};

/// What a body is.
pub const BENCODE: &str = "text/plain";
/// Text for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What becomes of the connection, and whether the client has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays open, as an HTTP/1.1 client expects.
    Keep,
    /// It stays open, as an HTTP/1.0 client asked.
    KeepOld,
    /// It is closed after this response.
    Close,
}

impl Connection {
    const fn line(self) -> &'static [u8] {
        match self {
            Connection::Keep => b"",
            Connection::KeepOld => b"Connection: keep-alive\r\n",
            Connection::Close => b"Connection: close\r\n",
        }
    }
}

/// The status line, and header lines that always go with the status.
const fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        302 => b"HTTP/1.1 302 Found\r\nLocation: /stats\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n",
        408 => b"HTTP/1.1 408 Request Timeout\r\n",
        431 => b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        505 => b"HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => b"HTTP/1.1 500 Internal Server Error\r\n",
    }
}

/// Appends a response; its body only if it is not the reply to a HEAD.
#[inline]
pub fn write(out: &mut Vec<u8>, status: u16, connection: Connection, content_type: &str, body: &[u8], head: bool) {
    out.extend_from_slice(status_line(status));
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(content_type.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    digits(out, body.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(connection.line());
    out.extend_from_slice(b"\r\n");
    if !head {
        out.extend_from_slice(body);
    }
}

/// Appends the head of a response whose length is not known yet: in chunks, or until the connection is closed.
pub fn write_stream_head(out: &mut Vec<u8>, connection: Connection, encoding: Encoding, chunks: bool) {
    out.extend_from_slice(status_line(200));
    out.extend_from_slice(b"Content-Type: text/plain\r\nVary: Accept-Encoding\r\n");
    out.extend_from_slice(match encoding {
        Encoding::Identity => b"",
        Encoding::Gzip => b"Content-Encoding: gzip\r\n",
        Encoding::Zstd => b"Content-Encoding: zstd\r\n",
    });
    if chunks {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(connection.line());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{super::tracker::failure::Failure, *};

    #[test]
    fn responses_are_written() {
        let mut out = Vec::new();
        write(&mut out, 200, Connection::Keep, BENCODE, b"de", false);
        write(&mut out, 404, Connection::Close, TEXT, b"de", true);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nde\
             HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn every_failure_has_a_status_line_of_its_own() {
        for failure in Failure::ALL {
            let line = String::from_utf8_lossy(status_line(failure.status()));
            assert!(line.starts_with(&format!("HTTP/1.1 {} ", failure.status())), "{failure:?}: {line}");
        }
    }
}
