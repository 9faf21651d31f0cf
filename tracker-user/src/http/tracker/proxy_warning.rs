//! Warns of a reverse proxy in front of the tracker. Its address is stored as that of every peer
//! behind it, and given to all others; the headers in which it names its clients are not believed,
//! since everybody can write them, unless the operator says that this proxy is to be believed. So he
//! is told.

use crate::listen::Source;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Between two warnings.
const PAUSE: Duration = Duration::from_secs(60);

/// Warns, but not with every announce; shared by all threads.
pub struct ProxyWarning {
    started: Instant,
    /// Milliseconds from `started` to the next warning.
    next: AtomicU64,
}

impl Default for ProxyWarning {
    fn default() -> Self {
        Self { started: Instant::now(), next: AtomicU64::new(0) }
    }
}

impl ProxyWarning {
    /// An announce has come from `source` with this header.
    pub fn announce(&self, header: &str, source: Source) {
        if self.is_due(self.started.elapsed()) {
            tracing::warn!(
                "HTTP announces come through a proxy at {}, with {header}: its clients are stored and given to others as \
                 peers at its address, where nobody reaches them. If it is yours, name it by --proxy-from, and the header \
                 by --proxy-header if it is not X-Forwarded-For; else let clients reach the tracker's port itself \
                 (tracker_http_proxied_announces_total counts these announces)",
                source.address().map_or_else(|| "a Unix socket".to_owned(), |address| address.to_string())
            );
        }
    }

    /// Whether this is the first call for a while.
    fn is_due(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let later = now.saturating_add(PAUSE.as_millis() as u64);
        now >= next && self.next.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_a_minute_apart() {
        let warning = ProxyWarning::default();
        let rows =
            [(0, true), (0, false), (59_999, false), (60_000, true), (60_001, false), (500_000, true), (1, false)];
        for (now, due) in rows {
            assert_eq!(warning.is_due(Duration::from_millis(now)), due, "after {now} ms");
        }
    }
}
