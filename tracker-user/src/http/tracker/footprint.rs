//! What HTTP takes of memory at most, for people: `tracker sizes` prints it.

use super::{FullScrapeLimits, snapshot};
use crate::{
    http::{limits::Limits, socket_buffers},
    text::human_bytes,
};
use std::fmt;

/// Bytes that a connection which stays open takes of the process besides what it
/// [holds](Limits::held_bytes): its task, its registration, its place among the others. Measured
/// with thousands of them.
const CONNECTION: u64 = 3 << 10;

/// Bytes that a TLS session takes besides, measured likewise: by itself, and if its client keeps back
/// the end of a record (16 KiB) and takes none of what waits to be sent (as much).
const SESSION: u64 = 9 << 10;
const FULL_SESSION: u64 = 48 << 10;

/// Bytes that a handshake takes whose client has sent all of a first message but its end: rustls takes
/// 64 KiB of it.
const HANDSHAKE: u64 = 68 << 10;

/// See the module's text.
pub struct Footprint<'a> {
    /// What clients may take.
    pub limits: &'a Limits,
    /// What they may take of full scrapes.
    pub full_scrape: &'a FullScrapeLimits,
    /// Torrents there is room for.
    pub torrents: u64,
}

impl Footprint<'_> {
    /// Bytes of the connections themselves.
    fn connections(&self) -> u64 {
        self.limits.connections as u64 * CONNECTION
    }

    /// Bytes of the order of a full scrape.
    fn order(&self) -> u64 {
        if self.full_scrape.enabled { self.torrents * size_of::<snapshot::Entry>() as u64 } else { 0 }
    }
}

impl fmt::Display for Footprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { connections, held_bytes, handshakes, .. } = self.limits;
        let sessions = *connections as u64 * FULL_SESSION;
        let at_rest = human_bytes(*connections as u64 * SESSION);
        let rows = [
            (self.connections(), format!("{connections} connections that stay open (--http-connections)")),
            (*held_bytes as u64, "replies not taken, requests not complete; who holds most goes first".to_owned()),
            (sessions, format!("with --https, if all of those hold back what they can; {at_rest} otherwise")),
            (*handshakes as u64 * HANDSHAKE, format!("{handshakes} TLS handshakes (--https-handshakes), likewise")),
            (self.order(), "the order of a full scrape, while somebody is sent one".to_owned()),
        ];
        writeln!(f, "Besides, HTTP takes at most")?;
        for (bytes, what) in &rows {
            writeln!(f, "{:>12}  {what}", human_bytes(*bytes))?;
        }
        write!(
            f,
            "{:>12}  in the kernel for each connection: {} to be sent, {} received and not read",
            human_bytes(2 * socket_buffers::TAKEN as u64),
            human_bytes(socket_buffers::TAKEN as u64),
            human_bytes(socket_buffers::TAKEN as u64)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_limits() {
        let limits = Limits { connections: 2048, held_bytes: 8 << 20, handshakes: 100, ..Limits::default() };
        let full_scrape = FullScrapeLimits::default();
        let text = Footprint { limits: &limits, full_scrape: &full_scrape, torrents: 2_000_000 }.to_string();
        for part in [
            "6.0 MiB  2048 connections",
            "8.0 MiB  replies not taken",
            "96.0 MiB  with --https, if all of those hold back what they can; 18.0 MiB otherwise",
            "6.6 MiB  100 TLS handshakes",
            "45.8 MiB  the order",
            "64.0 KiB  in the kernel",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let off = FullScrapeLimits { enabled: false, ..full_scrape };
        let text = Footprint { limits: &limits, full_scrape: &off, torrents: 2_000_000 }.to_string();
        assert!(text.contains(" 0 B  the order"), "{text}");
    }
}
