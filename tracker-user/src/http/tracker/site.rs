//! The tracker as a [`Site`]: which request is answered by which module, and what is counted.

use super::{
    announce, bencode,
    counters::{TrackerCounters, TrackerEvent, TrackerRegistry},
    failure::Failure,
    full_scrape::{FullScrape, FullScrapeLimits, ScrapeStream, time_limit},
    proxy_warning::ProxyWarning,
    query,
    route::{Route, route},
    scrape,
    snapshot::Snapshots,
};
use crate::{
    http::{
        permits::Permits,
        request::Request,
        site::{Answer, Site, Stream},
    },
    store::{CounterSet, Handle, Store},
};
use arc_swap::ArcSwap;
use std::{net::IpAddr, rc::Rc, sync::Arc};
use tracker_common::{
    id::InfoHash,
    outcome::{Counter, Event, RequestReason},
    platform::Platform as _,
};

/// What all threads share of the tracker's site.
pub struct Tracker {
    store: Arc<Store>,
    limits: Arc<ArcSwap<FullScrapeLimits>>,
    counters: TrackerRegistry,
    /// Full scrapes under way.
    full_scrapes: Arc<Permits>,
    /// What they are made from.
    snapshots: Snapshots,
    proxy_warning: ProxyWarning,
}

impl Tracker {
    /// The tracker over `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, limits: Arc<ArcSwap<FullScrapeLimits>>, counters: TrackerRegistry) -> Arc<Self> {
        Arc::new(Self {
            store,
            limits,
            counters,
            full_scrapes: Arc::default(),
            snapshots: Snapshots::default(),
            proxy_warning: ProxyWarning::default(),
        })
    }

    /// The site for one thread.
    #[must_use]
    pub fn site(self: &Arc<Self>) -> TrackerSite {
        TrackerSite {
            memory: Rc::new(self.store.handle(CounterSet::Http)),
            counters: self.counters.thread(),
            hashes: Vec::new(),
            peers: announce::CompactPeers::default(),
            tracker: self.clone(),
        }
    }
}

/// The site in one thread.
pub struct TrackerSite {
    tracker: Arc<Tracker>,
    memory: Rc<Handle>,
    counters: Arc<TrackerCounters>,
    hashes: Vec<InfoHash>,
    peers: announce::CompactPeers,
}

/// A reply whose body has been written.
const DONE: Answer = Answer::Body { content_type: bencode::MEDIA_TYPE };

impl Site for TrackerSite {
    fn respond(&mut self, request: &Request<'_>, source: IpAddr, body: &mut Vec<u8>) -> Option<Answer> {
        let (event, result) = match route(request.path, request.query)? {
            Route::Announce => (TrackerEvent::Announce, self.announce(request, source, body)),
            Route::Scrape => match query::scrape(request.query, &mut self.hashes) {
                Ok(()) if self.hashes.is_empty() => (TrackerEvent::FullScrape, self.full_scrape(request, source)),
                Ok(()) => (TrackerEvent::Scrape, self.scrape(source, body)),
                Err(failure) => (TrackerEvent::Scrape, Err(failure)),
            },
        };
        self.counters.count(event);
        Some(result.unwrap_or_else(|failure| {
            self.counters.failure(failure);
            self.memory.event(if source.is_ipv4() { Event::Error4 } else { Event::Error6 });
            Answer::Refused(failure.refusal())
        }))
    }

    fn count_reply_bytes(&mut self, bytes: usize) {
        self.memory.count(Counter::Event(Event::ReplyBytes), bytes as u64);
    }

    fn tick(&mut self) {
        self.tracker.snapshots.release();
    }
}

impl TrackerSite {
    fn announce(&mut self, request: &Request<'_>, source: IpAddr, body: &mut Vec<u8>) -> Result<Answer, Failure> {
        if let Some(header) = request.proxy {
            self.counters.count(TrackerEvent::Proxied);
            self.tracker.proxy_warning.announce(header, source);
        }
        let result = announce::answer(&self.memory, source, request.query, &mut self.peers, body);
        if result == Err(Failure::PortZero) {
            self.memory.reason(RequestReason::PortZero);
        }
        result.map(|()| DONE)
    }

    fn scrape(&mut self, source: IpAddr, body: &mut Vec<u8>) -> Result<Answer, Failure> {
        scrape::answer(&self.memory, &self.hashes, body);
        self.memory.event(if source.is_ipv4() { Event::Scrape4 } else { Event::Scrape6 });
        Ok(DONE)
    }

    fn full_scrape(&self, request: &Request<'_>, source: IpAddr) -> Result<Answer, Failure> {
        let store = &self.tracker.store;
        let limits = self.tracker.limits.load();
        if !limits.enabled {
            return Err(Failure::FullScrapeOff);
        }
        let mut stream: Option<Box<dyn Stream>> = None;
        if !request.head {
            let permit = self.tracker.full_scrapes.take(source, limits.clients)?;
            let torrents = self.tracker.snapshots.share(store)?;
            let scrape = FullScrape::new(request.encoding, request.chunks, torrents, permit)?;
            let limit = time_limit(store.pools().swarms.used(), limits.rate, limits.timeout);
            stream = Some(Box::new(ScrapeStream::new(scrape, limit, self.memory.clone(), self.counters.clone())));
        }
        Ok(Answer::Stream { content_type: bencode::MEDIA_TYPE, stream })
    }
}
