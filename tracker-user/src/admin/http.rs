//! What only HTTP counts: requests by kind, failures by cause, connections and bytes.
//!
//! What HTTP has in common with UDP (announces answered, peers stored, …) is counted by
//! [`tracker_common::outcome::Event`], on the path `http`.

use crate::http::tracker::failure::Failure;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Declares the events.
macro_rules! events {
    ($($variant:ident = $label:literal, $text:literal;)*) => {
        /// Something that happened to a connection or a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum HttpEvent { $(#[doc = $text] $variant,)* }

        impl HttpEvent {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [HttpEvent] = &[$(HttpEvent::$variant,)*];

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(HttpEvent::$variant => $label,)* }
            }

            /// A few words for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(HttpEvent::$variant => $text,)* }
            }
        }
    };
}

events! {
    Announce = "announce", "requests for /announce";
    Scrape = "scrape", "requests for /scrape with an info_hash";
    FullScrape = "full_scrape", "requests for /scrape without one";
    Statistics = "stats", "requests for /stats";
    Metrics = "metrics", "requests for /metrics";
    Other = "other", "other requests";
    Accepted = "accepted", "connections accepted";
    Ended = "ended", "connections ended";
    Evicted = "evicted", "idle or slow connections closed to make room for others";
    Refused = "refused", "connections refused, because all others were busy";
    IdleTimeout = "idle_timeout", "connections closed because no further request came";
    HeaderTimeout = "header_timeout", "connections closed because a request did not arrive in time";
    WriteTimeout = "write_timeout", "connections closed because a reply was not taken in time";
    AcceptFailed = "accept_failed", "connections that the system could not hand over";
    ReceivedBytes = "received_bytes", "bytes received";
    SentBytes = "sent_bytes", "bytes sent";
    FullScrapeBytes = "full_scrape_bytes", "bytes of full scrapes sent";
    FullScrapeTimeout = "full_scrape_timeout", "connections closed because a full scrape was not taken in time";
    Indebted = "indebted", "connections closed because they held most of the memory for all";
    Proxied = "proxied", "announces through a proxy, whose address was stored";
}

const EVENTS: usize = HttpEvent::ALL.len();
const ALL: usize = EVENTS + Failure::ALL.len();

/// The counters of one thread. Only that thread writes to them.
pub struct Counters([AtomicU64; ALL]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    #[inline]
    fn add_at(&self, index: usize, by: u64) {
        // One writer: a load and a store do what a locked addition would.
        let counter = &self.0[index];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Adds to an event's counter.
    #[inline]
    pub fn add(&self, event: HttpEvent, by: u64) {
        self.add_at(event as usize, by);
    }

    /// Counts an event.
    #[inline]
    pub fn count(&self, event: HttpEvent) {
        self.add(event, 1);
    }

    /// Counts a failure.
    #[inline]
    pub fn failure(&self, failure: Failure) {
        self.add_at(EVENTS + failure as usize, 1);
    }
}

/// The counters of all threads, added up.
#[derive(Clone, Debug)]
pub struct Sums([u64; ALL]);

impl Sums {
    /// Adds them up.
    #[must_use]
    pub fn of(threads: &[Arc<Counters>]) -> Self {
        Self(std::array::from_fn(|index| {
            threads.iter().map(|thread| thread.0[index].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        }))
    }

    /// An event's count.
    #[must_use]
    pub fn event(&self, event: HttpEvent) -> u64 {
        self.0[event as usize]
    }

    /// A failure's count.
    #[must_use]
    pub fn failure(&self, failure: Failure) -> u64 {
        self.0[EVENTS + failure as usize]
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.event(HttpEvent::Accepted).saturating_sub(self.event(HttpEvent::Ended))
    }

    /// Requests of all kinds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        REQUESTS.iter().map(|kind| self.event(*kind)).sum()
    }
}

/// The events that are requests.
pub const REQUESTS: &[HttpEvent] = &[
    HttpEvent::Announce,
    HttpEvent::Scrape,
    HttpEvent::FullScrape,
    HttpEvent::Statistics,
    HttpEvent::Metrics,
    HttpEvent::Other,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let threads = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        for (number, thread) in threads.iter().enumerate() {
            thread.add(HttpEvent::Accepted, 3);
            thread.count(HttpEvent::Ended);
            thread.add(HttpEvent::Announce, number as u64);
            thread.failure(Failure::Internal);
        }
        let sums = Sums::of(&threads);
        assert_eq!(sums.open(), 4);
        assert_eq!(sums.requests(), 1);
        assert_eq!(sums.failure(Failure::Internal), 2);
        assert_eq!(sums.failure(Failure::PortZero), 0);
    }

    #[test]
    fn counters_are_numbered_in_the_order_of_the_list() {
        for (number, event) in HttpEvent::ALL.iter().enumerate() {
            assert_eq!(*event as usize, number);
        }
    }
}
