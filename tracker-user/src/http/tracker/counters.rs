//! What the tracker counts of HTTP alone.

use super::failure::Failure;
use crate::http::counters::{Counters, Registry, Sums, counted};
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
    }
}

counted!(TrackerEvent);

/// Those of one thread.
pub type TrackerCounters = Counters<TrackerEvent, Failure>;

/// Those of all threads.
pub type TrackerRegistry = Registry<TrackerEvent, Failure>;

/// Those of all threads, added up.
pub type TrackerSums = Sums<TrackerEvent, Failure>;
