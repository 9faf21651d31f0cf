//! Why an HTTP request was not answered as asked: for each case a metric label, the HTTP status, the sentence the client is
//! told, and when it may come back (BEP 31).
//!
//! What is wrong with the tracker protocol is said in a bencoded dictionary with status 200, because clients show its
//! `failure reason` to their user and many never look into a reply with another status. What is wrong with the HTTP itself
//! has an HTTP status, and the same dictionary as its body.

use super::bencode;
use tracker_common::outcome::StoreError;

/// BEP 31: when a client may repeat its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again, always.
    Never,
    /// After so many minutes.
    Minutes(u8),
    /// Not said: the client does as it sees fit.
    Unsaid,
}

/// Declares the failures.
macro_rules! failures {
    ($($variant:ident = $label:literal, $status:literal, $retry:expr, $text:literal;)*) => {
        /// Why a request was not answered as asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Failure { $(#[doc = $text] $variant,)* }

        impl Failure {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Failure] = &[$(Failure::$variant,)*];

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Failure::$variant => $label,)* }
            }

            /// The HTTP status code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Failure::$variant => $status,)* }
            }

            /// When the client may come back.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Failure::$variant => $retry,)* }
            }

            /// What the client is told.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Failure::$variant => $text,)* }
            }
        }
    };
}

failures! {
    RequestMalformed = "request_malformed", 400, Retry::Never, "Malformed HTTP request";
    RequestIncomplete = "request_incomplete", 400, Retry::Unsaid, "HTTP request ended before it was complete";
    BodySent = "body_sent", 400, Retry::Never, "HTTP requests to a tracker have no body";
    NotFound = "not_found", 404, Retry::Never, "No such path; a tracker has /announce, /scrape, /stats and /metrics";
    MethodNotAllowed = "method_not_allowed", 405, Retry::Never, "Only GET and HEAD are allowed";
    HeaderTimeout = "header_timeout", 408, Retry::Unsaid, "HTTP request took too long to arrive";
    HeaderTooLarge = "header_too_large", 431, Retry::Never, "HTTP request is too large";
    TooManyConnections = "too_many_connections", 503, Retry::Minutes(5), "Tracker has too many connections";
    VersionUnsupported = "version_unsupported", 505, Retry::Never, "Only HTTP/1.0 and HTTP/1.1 are spoken here";
    StatisticsModeUnknown = "statistics_mode_unknown", 400, Retry::Never,
        "No such mode of the statistics; there are peer, conn, scrp, udp4, tcp4, torr, fscr, completed, top10, top100, \
         renew, herr, everything and version";
    InfoHashMissing = "info_hash_missing", 200, Retry::Never, "info_hash is missing";
    InfoHashMalformed = "info_hash_malformed", 200, Retry::Never, "info_hash is not 20 bytes, percent-encoded";
    InfoHashRepeated = "info_hash_repeated", 200, Retry::Never, "An announce is for one info_hash only";
    PortMissing = "port_missing", 200, Retry::Never, "port is missing";
    PortMalformed = "port_malformed", 200, Retry::Never, "port is not a number from 1 to 65535";
    PortZero = "port_zero", 200, Retry::Never, "Port 0 is not valid";
    LeftMalformed = "left_malformed", 200, Retry::Never, "left is not a number";
    NumWantMalformed = "numwant_malformed", 200, Retry::Never, "numwant is not a number";
    FullScrapeOff = "full_scrape_off", 200, Retry::Never, "This tracker gives no full scrapes; name an info_hash";
    FullScrapeBusy = "full_scrape_busy", 200, Retry::Minutes(1), "Other full scrapes are under way";
    FullScrapeRepeated = "full_scrape_repeated", 200, Retry::Minutes(1),
        "A full scrape to your address is still under way";
    TrackerFull = "tracker_full", 200, Retry::Minutes(30), "Tracker is full";
    Internal = "internal", 200, Retry::Minutes(5), "The tracker could not handle this request";
}

impl Failure {
    /// What an HTTP client is told when the store would not take its announce.
    #[must_use]
    pub const fn of_store(error: StoreError) -> Self {
        match error {
            StoreError::TorrentsFull | StoreError::MemoryFull => Failure::TrackerFull,
            StoreError::Contended | StoreError::Internal => Failure::Internal,
        }
    }

    /// Appends the bencoded reply.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"d14:failure reason");
        bencode::string(out, self.text().as_bytes());
        match self.retry() {
            Retry::Never => out.extend_from_slice(b"8:retry in5:never"),
            Retry::Minutes(minutes) => {
                out.extend_from_slice(b"8:retry in");
                bencode::integer(out, minutes.into());
            }
            Retry::Unsaid => {}
        }
        out.push(b'e');
    }
}

#[cfg(test)]
mod tests {
    use super::{super::bencode::reading::read, *};

    #[test]
    fn every_failure_is_a_dictionary_with_its_reason() {
        for failure in Failure::ALL {
            let mut out = Vec::new();
            failure.write(&mut out);
            let reply = read(&out, true).unwrap_or_else(|| panic!("{failure:?} is not bencode: {out:?}"));
            assert_eq!(reply.bytes("failure reason"), Some(failure.text().as_bytes()));
            match failure.retry() {
                Retry::Never => assert_eq!(reply.bytes("retry in"), Some(&b"never"[..])),
                Retry::Minutes(minutes) => assert_eq!(reply.number("retry in"), Some(minutes.into())),
                Retry::Unsaid => assert_eq!(reply.get("retry in"), None),
            }
        }
    }

    #[test]
    fn labels_are_unique_and_fit_metrics() {
        let mut labels: Vec<_> = Failure::ALL.iter().map(|failure| failure.label()).collect();
        for label in &labels {
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Failure::ALL.len());
    }

    #[test]
    fn counters_are_numbered_in_the_order_of_the_list() {
        for (number, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, number);
        }
    }
}
