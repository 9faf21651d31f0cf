//! What opentracker calls the reasons for which HTTP requests are refused.

use crate::{
    http::{failure::HttpFailure, tracker::failure::Failure},
    statistics::{Snapshot, http::AdminFailure},
};

/// opentracker's nine kinds of HTTP errors, and how many of ours are of that kind.
pub fn http_errors(snapshot: &Snapshot) -> [(&'static str, u64); 9] {
    let mut errors = [
        ("302 Redirect", 0),
        ("400 Parse Error", 0),
        ("400 Invalid Parameter", 0),
        ("400 Invalid Parameter (compact=0)", 0),
        ("400 Not Modest", 0),
        ("402 Payment Required", 0),
        ("403 Access Denied", 0),
        ("404 Not found", 0),
        ("500 Internal Server Error", 0),
    ];
    let http = &snapshot.http;
    for failure in HttpFailure::ALL {
        let kind = match failure {
            HttpFailure::RequestMalformed
            | HttpFailure::RequestIncomplete
            | HttpFailure::BodySent
            | HttpFailure::MethodNotAllowed
            | HttpFailure::HeaderTimeout
            | HttpFailure::HeaderTooLarge
            | HttpFailure::ProxyHeaderMalformed
            | HttpFailure::VersionUnsupported => 1,
            HttpFailure::NotFound => 7,
            HttpFailure::TooManyConnections => 8,
        };
        errors[kind].1 += http.engine.failure(*failure);
    }
    for failure in AdminFailure::ALL {
        let kind = match failure {
            AdminFailure::StatisticsModeUnknown
            | AdminFailure::StatisticsFormatUnknown
            | AdminFailure::StatisticsForAnnounce => 2,
            AdminFailure::EventsBusy => 4,
            AdminFailure::StatisticsUnavailable => 8,
            AdminFailure::Forbidden | AdminFailure::NameForeign | AdminFailure::TokenWrong => 6,
        };
        errors[kind].1 += http.admin.failure(*failure);
    }
    for failure in Failure::ALL {
        let kind = match failure {
            Failure::InfoHashMissing
            | Failure::InfoHashMalformed
            | Failure::InfoHashRepeated
            | Failure::PortMissing
            | Failure::PortMalformed
            | Failure::PortZero
            | Failure::LeftMalformed
            | Failure::NumWantMalformed
            | Failure::AddressMalformed
            | Failure::AddressUnknown => 2,
            Failure::FullScrapeBusy
            | Failure::FullScrapeRepeated
            | Failure::FullScrapeTooSoon
            | Failure::RateLimited => 4,
            Failure::FullScrapeOff | Failure::FullScrapeForbidden | Failure::NotAllowed | Failure::AddressBlocked => 6,
            Failure::TrackerFull | Failure::AddressBusy | Failure::Internal => 8,
        };
        errors[kind].1 += http.tracker.failure(*failure);
    }
    errors
}
