//! Why an announce or a scrape is refused, and how a BitTorrent client is told (BEP 31).
//!
//! What is wrong with the tracker protocol is said in a bencoded dictionary with status 200,
//! because clients show its `failure reason` to their user and many never look into a reply with
//! another status. What is wrong with the HTTP itself has an HTTP status, and the same dictionary
//! as its body.

use super::bencode;
use crate::http::{
    counters::counted,
    failure::{Refusal, Retry},
    permits::Denied,
};
use std::time::Duration;
use tracker_common::{labelled, outcome::StoreError};

/// What a client is told whose path neither the tracker nor the operator's site knows.
pub const NOT_FOUND: &str =
    "No such path; a tracker has /announce and /scrape, and for its operator /stats and /metrics";

labelled! {
    /// Why an announce or a scrape is not answered as asked.
    Failure from (0),
    /// When the client may come back.
    retry: Retry {
        InfoHashMissing = "info_hash_missing", "info_hash is missing", Retry::Never;
        InfoHashMalformed = "info_hash_malformed", "info_hash is not 20 bytes, percent-encoded", Retry::Never;
        InfoHashRepeated = "info_hash_repeated", "An announce is for one info_hash only", Retry::Never;
        PortMissing = "port_missing", "port is missing", Retry::Never;
        PortMalformed = "port_malformed", "port is not a number from 1 to 65535", Retry::Never;
        PortZero = "port_zero", "Port 0 is not valid", Retry::Never;
        LeftMalformed = "left_malformed", "left is not a number", Retry::Never;
        NumWantMalformed = "numwant_malformed", "numwant is not a number", Retry::Never;
        AddressMalformed = "address_malformed", "ip, ipv4 or ipv6 is no address of a peer", Retry::Never;
        AddressUnknown = "address_unknown", "Nobody has told the tracker the address of this peer", Retry::Never;
        FullScrapeOff = "full_scrape_off", "This tracker gives no full scrapes; name an info_hash", Retry::Never;
        FullScrapeBusy = "full_scrape_busy", "Other full scrapes are under way", Retry::Minutes(1);
        FullScrapeRepeated = "full_scrape_repeated", "A full scrape to your address is still under way",
            Retry::Minutes(1);
        FullScrapeForbidden = "full_scrape_forbidden", "Full scrapes are not for your address; name an info_hash",
            Retry::Never;
        // The rest of its pause instead, where that is known.
        FullScrapeTooSoon = "full_scrape_too_soon", "Your address has had a full scrape a short time ago",
            Retry::Minutes(5);
        NotAllowed = "not_allowed", "Torrent is not allowed", Retry::Never;
        AddressBlocked = "address_blocked", "Address is blocked", Retry::Never;
        TrackerFull = "tracker_full", "Tracker is full", Retry::Minutes(30);
        AddressBusy = "address_busy", "Nearly full, slow down", Retry::Minutes(5);
        RateLimited = "rate_limited", "Too many requests from your address, slow down", Retry::Minutes(5);
        Internal = "internal", "The tracker could not handle this request", Retry::Minutes(5);
    }
}

counted!(Failure);

impl Failure {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        Refusal { status: 200, text: self.text(), retry: self.retry() }
    }

    /// What an HTTP client is told when the store would not take its announce.
    #[must_use]
    pub const fn of_store(error: StoreError) -> Self {
        match error {
            StoreError::TorrentsFull | StoreError::MemoryFull => Failure::TrackerFull,
            StoreError::Denied | StoreError::NotAllowed => Failure::NotAllowed,
            StoreError::AddressBusy => Failure::AddressBusy,
            StoreError::Contended | StoreError::Internal => Failure::Internal,
        }
    }
}

/// A failure, and when the client may come back: for some that depends on the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is counted.
    pub failure: Failure,
    /// When the client may come back.
    pub retry: Retry,
}

impl Refused {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        Refusal { retry: self.retry, ..self.failure.refusal() }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, retry: failure.retry() }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Repeated => Failure::FullScrapeRepeated.into(),
            Denied::Busy => Failure::FullScrapeBusy.into(),
            Denied::TooSoon(rest) => Self { failure: Failure::FullScrapeTooSoon, retry: after(rest) },
        }
    }
}

/// When a client may come back that has to wait so long: BEP 31 knows minutes only.
fn after(rest: Duration) -> Retry {
    let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
    Retry::Minutes(u32::try_from(seconds.div_ceil(60)).unwrap_or(u32::MAX).max(1))
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

    #[test]
    fn who_has_to_pause_is_told_the_rest_of_it_in_minutes() {
        for (seconds, minutes) in [(0.0, 1), (0.5, 1), (60.0, 1), (60.001, 2), (299.9, 5), (86_400.0, 1440)] {
            let refused = Refused::from(Denied::TooSoon(Duration::from_secs_f64(seconds)));
            assert_eq!(refused.failure, Failure::FullScrapeTooSoon);
            assert_eq!(refused.refusal().retry, Retry::Minutes(minutes), "{seconds} s");
        }
    }
}
