//! Why an announce or a scrape is refused, and how a BitTorrent client is told (BEP 31).
//!
//! What is wrong with the tracker protocol is said in a bencoded dictionary with status 200, because clients show its
//! `failure reason` to their user and many never look into a reply with another status. What is wrong with the HTTP itself
//! has an HTTP status, and the same dictionary as its body.

use super::bencode;
use crate::http::{
    counters::counted,
    failure::{Refusal, Retry},
    permits::Denied,
};
use tracker_common::outcome::StoreError;

/// What a client is told whose path neither the tracker nor the operator's site knows.
pub const NOT_FOUND: &str = "No such path; a tracker has /announce, /scrape, /stats and /metrics";

counted! {
    /// Why an announce or a scrape is not answered as asked.
    Failure {
        InfoHashMissing = "info_hash_missing", "info_hash is missing";
        InfoHashMalformed = "info_hash_malformed", "info_hash is not 20 bytes, percent-encoded";
        InfoHashRepeated = "info_hash_repeated", "An announce is for one info_hash only";
        PortMissing = "port_missing", "port is missing";
        PortMalformed = "port_malformed", "port is not a number from 1 to 65535";
        PortZero = "port_zero", "Port 0 is not valid";
        LeftMalformed = "left_malformed", "left is not a number";
        NumWantMalformed = "numwant_malformed", "numwant is not a number";
        FullScrapeOff = "full_scrape_off", "This tracker gives no full scrapes; name an info_hash";
        FullScrapeBusy = "full_scrape_busy", "Other full scrapes are under way";
        FullScrapeRepeated = "full_scrape_repeated", "A full scrape to your address is still under way";
        TrackerFull = "tracker_full", "Tracker is full";
        Internal = "internal", "The tracker could not handle this request";
    }
}

impl Failure {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        let retry = match self {
            Failure::InfoHashMissing
            | Failure::InfoHashMalformed
            | Failure::InfoHashRepeated
            | Failure::PortMissing
            | Failure::PortMalformed
            | Failure::PortZero
            | Failure::LeftMalformed
            | Failure::NumWantMalformed
            | Failure::FullScrapeOff => Retry::Never,
            Failure::FullScrapeBusy | Failure::FullScrapeRepeated => Retry::Minutes(1),
            Failure::TrackerFull => Retry::Minutes(30),
            Failure::Internal => Retry::Minutes(5),
        };
        Refusal { status: 200, text: self.text(), retry }
    }

    /// What an HTTP client is told when the store would not take its announce.
    #[must_use]
    pub const fn of_store(error: StoreError) -> Self {
        match error {
            StoreError::TorrentsFull | StoreError::MemoryFull => Failure::TrackerFull,
            StoreError::Contended | StoreError::Internal => Failure::Internal,
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Repeated => Failure::FullScrapeRepeated,
            Denied::Busy => Failure::FullScrapeBusy,
        }
    }
}

/// Appends a refusal as BitTorrent clients understand it, and returns its media type.
pub fn write(refusal: &Refusal, out: &mut Vec<u8>) -> &'static str {
    out.extend_from_slice(b"d14:failure reason");
    bencode::string(out, refusal.text.as_bytes());
    match refusal.retry {
        Retry::Never => out.extend_from_slice(b"8:retry in5:never"),
        Retry::Minutes(minutes) => {
            out.extend_from_slice(b"8:retry in");
            bencode::integer(out, minutes.into());
        }
        Retry::Unspecified => {}
    }
    out.push(b'e');
    bencode::MEDIA_TYPE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_numbered_in_the_order_of_the_list() {
        for (number, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, number);
        }
    }
}
