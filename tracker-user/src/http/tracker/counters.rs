//! What the tracker counts of HTTP alone.

use super::failure::Failure;
use crate::http::counters::{Counters, Registry, Sums, counted};
use std::sync::atomic::{AtomicU64, Ordering};
use tracker_common::labelled;

labelled! {
    /// Something that happened to a request of a BitTorrent client.
    TrackerEvent from (0) {
        FullScrapeBytes = "full_scrape_bytes", "bytes of full scrapes sent";
        FullScrapeTimeout = "full_scrape_timeout", "connections closed because a full scrape was not taken in time";
        Proxied = "proxied", "announces through a proxy, whose address was stored";
        Announce = "announce", "requests for /announce";
        Scrape = "scrape", "requests for /scrape with an info_hash";
        FullScrape = "full_scrape", "requests for /scrape without one";
        FullScrapeBegun = "full_scrape_begun", "full scrapes that were begun, those of the operator included";
    }
}

counted!(TrackerEvent);

/// Those of one thread.
pub type TrackerCounters = Counters<TrackerEvent, Failure>;

/// Those of all threads.
pub type TrackerRegistry = Registry<TrackerEvent, Failure>;

/// Those of all threads, added up.
pub type TrackerSums = Sums<TrackerEvent, Failure>;

/// Most peers that clients are counted to want, as opentracker counts them.
pub const WANTED_MOST: usize = 200;

/// How many announces have wanted none, one, and so on.
pub type WantedSums = [u64; WANTED_MOST + 1];

/// Announces by the number of peers that they want; of all threads, since connections cost far more
/// than a shared counter.
pub struct WantedCounts([AtomicU64; WANTED_MOST + 1]);

impl Default for WantedCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl WantedCounts {
    /// Counts an announce that wants so many.
    pub fn count(&self, wanted: u32) {
        self.0[(wanted as usize).min(WANTED_MOST)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn sums(&self) -> WantedSums {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}
