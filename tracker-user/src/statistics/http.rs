//! What HTTP has counted: the engine, the tracker's site and the operator's.

use super::api::{ApiRegistry, ApiSums};
use crate::http::{
    counters::{Counters, HttpRegistry, HttpSums, LabelledCount, Registry, Sums, counted},
    failure::{HttpFailure, Refusal, Retry},
    tracker::counters::{TrackerEvent, TrackerRegistry, TrackerSums, WantedCounts, WantedSums},
};
use std::sync::Arc;
use tracker_common::labelled;

labelled! {
    /// A request of the operator's.
    AdminEvent from (0) {
        Statistics = "stats", "requests for /stats";
        Metrics = "metrics", "requests for /metrics";
        Health = "health", "requests for /health";
        Page = "page", "requests for the operator's page";
        Public = "public_page", "requests for the page that strangers see";
        Figures = "figures", "requests for /stats.json and /history.json";
        Events = "events", "requests for /events";
        Other = "other", "other requests";
    }
}

labelled! {
    /// Why a request of the operator's is not answered as asked.
    AdminFailure from (0) {
        StatisticsModeUnknown = "statistics_mode_unknown",
            "No such mode of the statistics; there are peer, conn, scrp, udp4, tcp4, torr, fscr, completed, top10, top100, \
             renew, herr, everything, version, syncs, numwants, s24s, tpbs, statedump, busy, fulllog and woodpeckers";
        StatisticsFormatUnknown = "statistics_format_unknown",
            "No such format of the torrents; there are bin, ben, url, txt and txtp";
        StatisticsUnavailable = "statistics_unavailable", "This is not counted here";
        StatisticsForAnnounce = "statistics_for_announce", "These are statistics; announce to another path";
        Forbidden = "operator_forbidden", "These pages are for the operator, and not for your address";
        NameForeign = "operator_name_foreign",
            "These pages are for the operator; a browser is shown them under the address or the own name of this host, or \
             with a token, but not under this name";
        EventsBusy = "events_busy", "As many are told of events as may be; try again in a minute";
        TokenWrong = "operator_token_wrong", "These pages are for the operator, and the token is not the one";
    }
}

counted!(AdminEvent, AdminFailure);

impl AdminFailure {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        match self {
            AdminFailure::EventsBusy => Refusal { status: 503, text: self.text(), retry: Retry::Minutes(1) },
            AdminFailure::StatisticsUnavailable => Refusal { status: 500, text: self.text(), retry: Retry::Never },
            AdminFailure::StatisticsModeUnknown
            | AdminFailure::StatisticsFormatUnknown
            | AdminFailure::StatisticsForAnnounce => Refusal { status: 400, text: self.text(), retry: Retry::Never },
            AdminFailure::Forbidden | AdminFailure::NameForeign => {
                Refusal { status: 403, text: self.text(), retry: Retry::Never }
            }
            AdminFailure::TokenWrong => Refusal { status: 401, text: self.text(), retry: Retry::Never },
        }
    }
}

/// Counters of the operator's site in one thread.
pub type AdminCounters = Counters<AdminEvent, AdminFailure>;

/// Those of all threads.
pub type AdminRegistry = Registry<AdminEvent, AdminFailure>;

/// The counters of all threads.
#[derive(Clone, Default)]
pub struct Registries {
    /// Of the engine.
    pub engine: HttpRegistry,
    /// Of the site for BitTorrent clients.
    pub tracker: TrackerRegistry,
    /// Of the site for the operator.
    pub admin: AdminRegistry,
    /// Announces by the number of peers that they want.
    pub wanted: Arc<WantedCounts>,
    /// Of the admin API.
    pub api: ApiRegistry,
}

impl Registries {
    /// The counters of all threads, added up.
    #[must_use]
    pub fn sums(&self) -> HttpTotals {
        HttpTotals {
            engine: self.engine.sums(),
            tracker: self.tracker.sums(),
            admin: self.admin.sums(),
            wanted: Box::new(self.wanted.sums()),
            api: self.api.sums(),
        }
    }
}

/// The counters of all threads, added up.
#[derive(Clone, Debug)]
pub struct HttpTotals {
    /// Of the engine.
    pub engine: HttpSums,
    /// Of the site for BitTorrent clients.
    pub tracker: TrackerSums,
    /// Of the site for the operator.
    pub admin: Sums<AdminEvent, AdminFailure>,
    /// Announces by the number of peers that they want.
    pub wanted: Box<WantedSums>,
    /// Of the admin API.
    pub api: ApiSums,
}

impl HttpTotals {
    /// Requests by kind, whatever became of them. The last kind holds those that no site knows as
    /// well.
    #[must_use]
    pub fn requests(&self) -> Vec<LabelledCount> {
        let tracker = [TrackerEvent::Announce, TrackerEvent::Scrape, TrackerEvent::FullScrape]
            .map(|event| self.tracker.labelled(event));
        let admin = AdminEvent::ALL.iter().map(|event| self.admin.labelled(*event));
        let mut requests: Vec<_> = tracker.into_iter().chain(admin).collect();
        if let Some(other) = requests.last_mut() {
            other.count += self.engine.failure(HttpFailure::NotFound);
        }
        requests
    }

    /// Requests not answered as asked, by reason.
    #[must_use]
    pub fn failures(&self) -> Vec<LabelledCount> {
        [self.engine.failures(), self.admin.failures(), self.tracker.failures(), self.api.failures()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tracker::failure::{self, Failure};
    use tracker_tests::bencode::Value;

    #[test]
    fn requests_that_no_site_knows_are_among_the_others() {
        let registries = Registries::default();
        let (engine, admin) = (registries.engine.thread(), registries.admin.thread());
        admin.count(AdminEvent::Other);
        engine.failure(HttpFailure::NotFound);
        registries.tracker.thread().failure(Failure::Internal);
        let totals = registries.sums();
        let other = totals.requests().pop().expect("seven kinds");
        assert_eq!((other.label, other.count), ("other", 2));
        let labels = |counted: &[LabelledCount]| {
            counted.iter().filter(|counted| counted.count > 0).map(|counted| counted.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&totals.requests()), ["other"]);
        assert_eq!(labels(&totals.failures()), ["not_found", "internal"]);
    }

    fn all() -> Vec<(&'static str, Refusal)> {
        let http = HttpFailure::ALL.iter().map(|failure| (failure.label(), failure.refusal()));
        let admin = AdminFailure::ALL.iter().map(|failure| (failure.label(), failure.refusal()));
        let own = Failure::ALL.iter().map(|failure| (failure.label(), failure.refusal()));
        http.chain(admin).chain(own).collect()
    }

    #[test]
    fn every_failure_is_a_dictionary_with_its_reason() {
        for (label, refusal) in all() {
            let mut out = Vec::new();
            failure::write(&refusal, &mut out);
            let reply = Value::parse(&out).expect(label);
            assert_eq!(reply.bytes("failure reason").expect(label), refusal.text.as_bytes());
            match refusal.retry {
                Retry::Never => assert_eq!(reply.bytes("retry in").expect(label), b"never"),
                Retry::Minutes(minutes) => assert_eq!(reply.integer("retry in").expect(label), i64::from(minutes)),
                Retry::Unspecified => assert_eq!(reply.get("retry in"), None),
            }
        }
    }

    #[test]
    fn labels_are_unique_and_fit_metrics() {
        let mut labels: Vec<_> = all().iter().map(|(label, _)| *label).collect();
        for label in &labels {
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), all().len());
    }

    #[test]
    fn counters_are_numbered_in_the_order_of_the_list() {
        for (number, event) in AdminEvent::ALL.iter().enumerate() {
            assert_eq!(*event as usize, number);
        }
        for (number, event) in TrackerEvent::ALL.iter().enumerate() {
            assert_eq!(*event as usize, number);
        }
        for (number, failure) in HttpFailure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, number);
        }
    }
}
