//! The operator's site: `/stats`, `/metrics`, and `/`, which leads to the statistics.

use super::{
    opentracker::{self, Mode},
    page, prometheus,
};
use crate::{
    http::{
        request::Request,
        site::{Answer, Site, TEXT},
        target::{decoded, parameters, segments},
    },
    statistics::{
        Statistics,
        http::{AdminCounters, AdminEvent, AdminFailure},
    },
};
use std::{net::IpAddr, sync::Arc};

/// What is asked for.
enum Route {
    Statistics,
    Metrics,
    Root,
}

/// Finds out; `None` if it is nothing of this site's. `path` is still percent-encoded.
fn route(path: &[u8]) -> Option<Route> {
    let path = decoded(path);
    let mut segments = segments(&path);
    match (segments.next(), segments.next()) {
        (None, _) => Some(Route::Root),
        (Some(only), None) if only.eq_ignore_ascii_case(b"stats") => Some(Route::Statistics),
        (Some(only), None) if only.eq_ignore_ascii_case(b"metrics") => Some(Route::Metrics),
        _ => None,
    }
}

/// The site in one thread.
pub struct AdminSite {
    statistics: Arc<Statistics>,
    counters: Arc<AdminCounters>,
}

impl AdminSite {
    /// For a new thread.
    #[must_use]
    pub fn new(statistics: Arc<Statistics>) -> Self {
        let counters = statistics.http.admin.thread();
        Self { statistics, counters }
    }

    fn statistics(&self, query: &[u8], body: &mut Vec<u8>) -> Result<Answer, AdminFailure> {
        let mode = parameters(query).find(|(key, _)| *key == b"mode").map(|(_, value)| value);
        let (page, content_type) = match mode {
            None => (page::write(&self.statistics.snapshot()), TEXT),
            Some(name) => {
                let mode = Mode::named(name).ok_or(AdminFailure::StatisticsModeUnknown)?;
                (opentracker::write(&self.statistics.snapshot(), mode), opentracker::CONTENT_TYPE)
            }
        };
        body.extend_from_slice(page.as_bytes());
        Ok(Answer::Body { content_type })
    }

    fn metrics(&self, body: &mut Vec<u8>) -> Answer {
        body.extend_from_slice(prometheus::write(&self.statistics.snapshot()).as_bytes());
        Answer::Body { content_type: prometheus::CONTENT_TYPE }
    }
}

impl Site for AdminSite {
    fn respond(&mut self, request: &Request<'_>, _source: IpAddr, body: &mut Vec<u8>) -> Option<Answer> {
        let (event, result) = match route(request.path)? {
            Route::Statistics => (AdminEvent::Statistics, self.statistics(request.query, body)),
            Route::Metrics => (AdminEvent::Metrics, Ok(self.metrics(body))),
            // A browser that was sent here by the host's name finds something to read.
            Route::Root => (AdminEvent::Other, Ok(Answer::Redirect { location: "/stats" })),
        };
        self.counters.count(event);
        Some(result.unwrap_or_else(|failure| {
            self.counters.failure(failure);
            Answer::Refused(failure.refusal())
        }))
    }
}
