//! Writing the heads of HTTP responses.
//!
//! A response has the header lines that clients need and no others: a client that announces every
//! half hour pays for each of them. `Date` is left out, as other trackers do.

use super::request::Encoding;

/// What becomes of the connection, and whether the client has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays open, as an HTTP/1.1 client expects.
    KeepAlive,
    /// It stays open, as an HTTP/1.0 client asked.
    KeepAliveHttp10,
    /// It is closed after this response.
    Close,
}

impl Connection {
    const fn line(self) -> &'static [u8] {
        match self {
            Connection::KeepAlive => b"",
            Connection::KeepAliveHttp10 => b"Connection: keep-alive\r\n",
            Connection::Close => b"Connection: close\r\n",
        }
    }
}

/// The status line, and header lines that always go with the status.
const fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        302 => b"HTTP/1.1 302 Found\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        401 => {
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n\
              WWW-Authenticate: Basic realm=\"tracker: any name, and the token as password\", charset=\"UTF-8\"\r\n"
        }
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n",
        408 => b"HTTP/1.1 408 Request Timeout\r\n",
        431 => b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        505 => b"HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => b"HTTP/1.1 500 Internal Server Error\r\n",
    }
}

/// What stands in front of a body.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Where the client is sent to.
    pub location: Option<&'static str>,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Further lines of the site's, each with its end.
    pub lines: &'static str,
    /// What becomes of the connection.
    pub connection: Connection,
}

/// Appends a response; its body only if it is not the reply to a HEAD.
#[inline]
pub fn write(out: &mut Vec<u8>, head: &Head, body: &[u8], head_only: bool) {
    out.extend_from_slice(status_line(head.status));
    if let Some(location) = head.location {
        out.extend_from_slice(b"Location: ");
        out.extend_from_slice(location.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(head.content_type.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(head.lines.as_bytes());
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(head.connection.line());
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(body);
    }
}

/// Appends the head of a response whose length is not known yet: in chunks, or until the connection
/// is closed.
pub fn write_stream_head(out: &mut Vec<u8>, head: &Head, encoding: Encoding, chunks: bool) {
    out.extend_from_slice(status_line(head.status));
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(head.content_type.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(head.lines.as_bytes());
    out.extend_from_slice(match encoding {
        Encoding::Identity => b"",
        Encoding::Gzip => b"Content-Encoding: gzip\r\n",
        Encoding::Zstd => b"Content-Encoding: zstd\r\n",
    });
    if chunks {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(head.connection.line());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{
        super::{failure::HttpFailure, site},
        *,
    };

    #[test]
    fn responses_are_written() {
        let mut out = Vec::new();
        let head = Head {
            status: 200,
            location: None,
            content_type: "text/plain",
            lines: "",
            connection: Connection::KeepAlive,
        };
        write(&mut out, &head, b"de", false);
        let head = Head { status: 404, content_type: site::TEXT, connection: Connection::Close, ..head };
        write(&mut out, &head, b"de", true);
        write(&mut out, &Head { lines: "A: b\r\nC: d\r\n", ..head }, b"", true);
        write(&mut out, &Head { status: 302, location: Some("/stats"), ..head }, b"", false);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nde\
             HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nConnection: close\r\n\r\n\
             HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nA: b\r\nC: d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n\
             HTTP/1.1 302 Found\r\nLocation: /stats\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn every_failure_has_a_status_line_of_its_own() {
        for failure in HttpFailure::ALL {
            let status = failure.refusal().status;
            let line = String::from_utf8_lossy(status_line(status));
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{failure:?}: {line}");
        }
    }
}
