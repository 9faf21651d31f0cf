//! The limits that are in force, as the operator set them; those of the store are with its fill
//! ([`super::Fill`]).

use crate::http::Limits as HttpLimits;
use tracker_common::{
    limits::table::{ERRORS, FULL, Kind},
    settings::Settings,
};

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Seconds between a client's announces, as it is told.
    pub interval_seconds: u64,
    /// Most peers in a reply by UDP, to IPv4 and to IPv6.
    pub peers_per_reply: [u64; 2],
    /// Peers for a client that does not say how many it wants.
    pub default_peers_per_reply: u64,
    /// Most peers of an address in a swarm; 0 for no limit.
    pub peers_per_address: u64,
    /// Most HTTP connections.
    pub http_connections: u64,
    /// Connects, announces and scrapes of a source per minute, where there is a limit.
    pub requests_per_minute: [Option<u64>; 3],
    /// Errors that strangers are told of in a second, where there is a limit.
    pub errors_per_second: Option<u64>,
}

impl Limits {
    /// Those in force.
    #[must_use]
    pub fn of(settings: &Settings, http: &HttpLimits) -> Self {
        let in_force = settings.limits.load();
        let limit = |kind: Kind| {
            let cost = u64::from(settings.limit_costs.get(kind as usize).map_or(0, |cost| cost.load()));
            (in_force & kind.bit() != 0).then(|| FULL.checked_div(cost)).flatten()
        };
        Self {
            interval_seconds: settings.interval.load().into(),
            peers_per_reply: [&settings.max_numwant_v4, &settings.max_numwant_v6].map(|most| most.load().into()),
            default_peers_per_reply: settings.default_numwant.load().into(),
            peers_per_address: settings.max_peers_per_address.load().into(),
            http_connections: http.connections as u64,
            requests_per_minute: Kind::ALL.map(limit),
            errors_per_second: (in_force & ERRORS != 0).then(|| settings.limit_errors.load().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_in_force_are_told() {
        let (settings, http) = (Settings::default(), HttpLimits::default());
        settings.limit_costs[Kind::Announce as usize].store(u32::try_from(FULL).expect("small") / 1200);
        settings.limit_errors.store(7);
        let none = Limits::of(&settings, &http);
        assert_eq!((none.requests_per_minute, none.errors_per_second), ([None; 3], None));
        settings.limits.store(Kind::Announce.bit() | Kind::Scrape.bit() | ERRORS);
        let some = Limits::of(&settings, &http);
        assert_eq!(some.requests_per_minute, [None, Some(1200), None], "a cost of nothing is no limit");
        assert_eq!((some.errors_per_second, some.http_connections), (Some(7), 4096));
    }
}
