//! The operator's site: the page, its figures and events, `/stats` for opentracker's tools, `/stats.txt`,
//! `/metrics`, for who may see them ([`Access`]); and for everybody `/health` and a page that says how to
//! use the tracker.

use super::{
    access::Access,
    opentracker::{
        self, Mode, Page,
        networks::{Networks, NetworksStream},
    },
    page, prometheus,
    web::{
        self,
        events::{self, EventStream},
        public::{self, Ports, PublicPage, Said},
    },
};
use crate::{
    http::{
        proxy::Visitor,
        request::{Encoding, Request},
        site::{Answer, Refusal, Site, Stream, TEXT},
        target::{decoded, parameters, segments},
        tracker::{Format, Tracker, counters::TrackerCounters, site::Sender},
    },
    statistics::{
        Statistics,
        figures::Figures,
        http::{AdminCounters, AdminEvent, AdminFailure},
    },
    store::CounterSet,
};
use arc_swap::ArcSwap;
use serde::Serialize;
use std::{rc::Rc, sync::Arc, time::Duration};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Statistics,
    Text,
    Figures,
    History,
    Events,
    Metrics,
    Health,
    /// The operator's page, whoever asks.
    Operator,
    /// That or the one for strangers.
    Root,
}

/// Finds out; `None` if it is nothing of this site's. `path` is still percent-encoded.
fn route(path: &[u8]) -> Option<Route> {
    let path = decoded(path);
    let mut segments = segments(&path);
    let only = match (segments.next(), segments.next()) {
        (None, _) => return Some(Route::Root),
        (Some(only), None) => only.to_ascii_lowercase(),
        (Some(_), Some(_)) => return None,
    };
    Some(match &*only {
        b"stats" => Route::Statistics,
        b"stats.txt" => Route::Text,
        b"stats.json" => Route::Figures,
        b"history.json" => Route::History,
        b"events" => Route::Events,
        b"metrics" => Route::Metrics,
        b"health" => Route::Health,
        b"operator" => Route::Operator,
        _ => return None,
    })
}

/// Which of the pages a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// All, and for the operator alone.
    Operator,
    /// All; strangers come here as well.
    Shared,
    /// Those for strangers.
    Public,
}

/// What the sites of all threads share.
pub struct Shared {
    /// Who may see the pages.
    pub access: Arc<ArcSwap<Access>>,
    /// What they show.
    pub statistics: Arc<Statistics>,
    /// What lists torrents.
    pub tracker: Arc<Tracker>,
    /// The ports that strangers are told of.
    pub ports: Ports,
    networks: Networks,
}

impl Shared {
    /// Of these.
    #[must_use]
    pub fn new(
        access: Arc<ArcSwap<Access>>,
        statistics: Arc<Statistics>,
        tracker: Arc<Tracker>,
        ports: Ports,
    ) -> Arc<Self> {
        Arc::new(Self { access, statistics, tracker, ports, networks: Networks::default() })
    }
}

/// The site in one thread.
pub struct AdminSite {
    door: Door,
    shared: Arc<Shared>,
    counters: Arc<AdminCounters>,
    /// Full scrapes are counted wherever they were asked for.
    full_scrapes: Arc<TrackerCounters>,
}

/// What a query of the statistics asks for, as opentracker understands it: what comes last counts.
struct Asked {
    page: Option<Page>,
    format: Option<Format>,
}

impl Asked {
    fn parse(query: &[u8]) -> Result<Self, AdminFailure> {
        let mut asked = Self { page: None, format: None };
        for (key, value) in parameters(query) {
            match key {
                b"mode" => asked.page = Some(Page::named(value).ok_or(AdminFailure::StatisticsModeUnknown)?),
                b"format" => asked.format = Some(Format::named(value).ok_or(AdminFailure::StatisticsFormatUnknown)?),
                // The address was taken for an announce URL.
                b"info_hash" => return Err(AdminFailure::StatisticsForAnnounce),
                _ => {}
            }
        }
        Ok(asked)
    }
}

impl AdminSite {
    /// For a new thread; `ports` are those that strangers are told of.
    #[must_use]
    pub fn new(door: Door, shared: Arc<Shared>) -> Self {
        let (counters, full_scrapes) = (shared.statistics.http.admin.thread(), shared.statistics.http.tracker.thread());
        Self { door, shared, counters, full_scrapes }
    }

    fn statistics(&self, request: &Request<'_>, visitor: &Visitor, body: &mut Vec<u8>) -> Result<Answer, AdminFailure> {
        let Asked { page, format } = Asked::parse(request.query)?;
        let content_type = opentracker::CONTENT_TYPE;
        let page = match page {
            None if request.asks_for("text/html") => return Ok(Answer::Redirect { location: "/" }),
            None => Page::Figures(Mode::Peer),
            Some(page) => page,
        };
        if let Some(format) = page.format(format) {
            let stream = self.torrents(request, visitor, format);
            return Ok(stream.map_or_else(Answer::Refused, |stream| Answer::encoded(content_type, request, stream)));
        }
        match page {
            Page::Figures(mode) => {
                body.extend_from_slice(opentracker::write(&self.shared.statistics.snapshot(), mode).as_bytes());
                Ok(Answer::Body { content_type })
            }
            Page::Networks => {
                let stream = self.networks(request).map_err(|error| {
                    tracing::warn!("the networks with most peers cannot be counted: {error}");
                    AdminFailure::StatisticsUnavailable
                })?;
                Ok(Answer::encoded(content_type, request, stream))
            }
            Page::Unavailable | Page::Torrents | Page::State => Err(AdminFailure::StatisticsUnavailable),
        }
    }

    /// All torrents.
    fn torrents(
        &self,
        request: &Request<'_>,
        visitor: &Visitor,
        format: Format,
    ) -> Result<Option<Box<dyn Stream>>, Refusal> {
        let tracker = &self.shared.tracker;
        let memory = Rc::new(tracker.store().handle(CounterSet::Http));
        let sender = Sender { memory, counters: self.full_scrapes.clone(), pause: Duration::ZERO };
        tracker.list(request, visitor, format, sender).map_err(|refused| {
            self.full_scrapes.failure(refused.failure);
            refused.refusal()
        })
    }

    fn networks(&self, request: &Request<'_>) -> std::io::Result<Option<Box<dyn Stream>>> {
        if request.head {
            return Ok(None);
        }
        let share = self.shared.networks.share(self.shared.tracker.store())?;
        Ok(Some(Box::new(NetworksStream::new(share, request)?)))
    }

    /// The plain page for people.
    fn text(&self, body: &mut Vec<u8>) -> Answer {
        body.extend_from_slice(page::write(&self.shared.statistics.snapshot()).as_bytes());
        Answer::Body { content_type: TEXT }
    }

    fn metrics(&self, body: &mut Vec<u8>) -> Answer {
        body.extend_from_slice(prometheus::write(&self.shared.statistics.snapshot()).as_bytes());
        Answer::Body { content_type: prometheus::CONTENT_TYPE }
    }

    fn figures(&self, body: &mut Vec<u8>) -> Answer {
        json(&Figures::of(&self.shared.statistics.snapshot()), body)
    }

    fn history(&self, query: &[u8], body: &mut Vec<u8>) -> Answer {
        let day = parameters(query).any(|parameter| parameter == (b"span", b"day"));
        json(&self.shared.statistics.history(day), body)
    }

    fn events(&self, request: &Request<'_>) -> Result<Answer, AdminFailure> {
        let mut stream: Option<Box<dyn Stream>> = None;
        if !request.head {
            let listener = self.shared.statistics.feed.listen().ok_or(AdminFailure::EventsBusy)?;
            stream = Some(Box::new(EventStream::new(listener, request.chunks)));
        }
        let (content_type, lines) = (events::EVENTS, events::LINES);
        Ok(Answer::Stream { content_type, encoding: Encoding::Identity, lines, stream })
    }

    fn public(&self, request: &Request<'_>, counts: bool, body: &mut Vec<u8>) -> Answer {
        let said = Said {
            host: request.host,
            ports: &self.shared.ports,
            is_listed: self.shared.statistics.is_listed(),
            counts: counts.then(|| self.shared.statistics.latest()),
        };
        public::write(&said, body);
        Answer::Document { content_type: web::HTML, lines: &public::LINES }
    }

    /// What is answered to a route, who asks for it being allowed to.
    fn answer(
        &self,
        route: Route,
        request: &Request<'_>,
        visitor: &Visitor,
        body: &mut Vec<u8>,
    ) -> Result<Answer, AdminFailure> {
        match route {
            Route::Statistics if wants_json(request) => Ok(self.figures(body)),
            Route::Statistics => self.statistics(request, visitor, body),
            Route::Text => Ok(self.text(body)),
            Route::Figures => Ok(self.figures(body)),
            Route::History => Ok(self.history(request.query, body)),
            Route::Events => self.events(request),
            Route::Metrics => Ok(self.metrics(body)),
            Route::Health => {
                body.extend_from_slice(b"ok\n");
                Ok(Answer::Body { content_type: TEXT })
            }
            Route::Operator | Route::Root => {
                body.extend_from_slice(web::OPERATOR.as_bytes());
                Ok(Answer::Document { content_type: web::HTML, lines: &web::OPERATOR_LINES })
            }
        }
    }
}

/// Writes something as JSON.
fn json(value: &impl Serialize, body: &mut Vec<u8>) -> Answer {
    // Numbers, texts and lists: nothing that could fail.
    let _ = serde_json::to_writer(body, value);
    Answer::Document { content_type: "application/json", lines: web::NOT_STORED }
}

/// Whether the client asks for JSON and for no mode of opentracker's.
fn wants_json(request: &Request<'_>) -> bool {
    request.asks_for("application/json") && !parameters(request.query).any(|(key, _)| key == b"mode")
}

const fn event(route: Route) -> AdminEvent {
    match route {
        Route::Statistics | Route::Text => AdminEvent::Statistics,
        Route::Figures | Route::History => AdminEvent::Figures,
        Route::Events => AdminEvent::Events,
        Route::Metrics => AdminEvent::Metrics,
        Route::Health => AdminEvent::Health,
        Route::Operator | Route::Root => AdminEvent::Page,
    }
}

impl Site for AdminSite {
    fn respond(&mut self, request: &Request<'_>, visitor: &Visitor, body: &mut Vec<u8>) -> Option<Answer> {
        let route = route(request.path)?;
        let access = self.shared.access.load();
        let checked = match (self.door, route) {
            (_, Route::Health) => Ok(()),
            (Door::Public, Route::Root) => Err(AdminFailure::Forbidden),
            (Door::Public, _) => return None,
            (Door::Operator | Door::Shared, _) => access.check(visitor, request),
        };
        if route == Route::Root
            && self.door != Door::Operator
            && checked.is_err()
            && access.public_page != PublicPage::Off
        {
            self.counters.count(AdminEvent::Public);
            return Some(self.public(request, access.public_page == PublicPage::Counts, body));
        }
        if self.door == Door::Public && route == Route::Root {
            return None;
        }
        self.counters.count(event(route));
        let result = checked.and_then(|()| self.answer(route, request, visitor, body));
        Some(result.unwrap_or_else(|failure| {
            self.counters.failure(failure);
            Answer::Refused(failure.refusal())
        }))
    }
}
