//! What clients may take.

use std::time::Duration;

/// What clients may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that stay open, all threads together. When they are that many, the one idle for
    /// longest makes room for a new one. Connections that are answered at once and closed do not
    /// count.
    pub connections: usize,
    /// Bytes that all connections together may hold: replies that wait to be taken, requests that
    /// are not complete.
    pub held_bytes: usize,
    /// From the first byte of a request, or the beginning of the connection, until the request is
    /// complete.
    pub header_timeout: Duration,
    /// From one request to the next.
    pub idle_timeout: Duration,
    /// Until the client has taken a reply.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            held_bytes: 16 << 20,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(15),
        }
    }
}
