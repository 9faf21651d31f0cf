//! What clients may take.

use crate::listen::Networks;
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
    /// TLS handshakes under way, all threads together. When they are that many, one makes room for a
    /// new one.
    pub handshakes: usize,
    /// From the beginning of a connection until its TLS handshake is done.
    pub handshake_timeout: Duration,
    /// TLS handshakes that one client may begin at once, and as many again in each minute; 0 for no limit.
    pub handshakes_per_minute: u32,
    /// IPv6 addresses with so many bits in common are one client in that.
    pub prefix_v6: u32,
    /// Who may begin as many as he likes.
    pub unlimited: Networks,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            held_bytes: 16 << 20,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(15),
            handshakes: 256,
            handshake_timeout: Duration::from_secs(5),
            handshakes_per_minute: 1200,
            prefix_v6: 64,
            unlimited: Networks::default(),
        }
    }
}
