//! The tracker as a [`Site`]: which request is answered by which module, and what is counted.

use super::{
    announce, bencode,
    counters::{TrackerCounters, TrackerEvent, TrackerRegistry, WantedCounts},
    failure::{Failure, Refused},
    full_scrape::{FullScrape, FullScrapeLimits, ScrapeStream, time_limit},
    listing::Format,
    proxy_warning::ProxyWarning,
    query,
    route::{Route, route},
    scrape,
    snapshot::Snapshots,
};
use crate::{
    http::{
        permits::Permits,
        proxy::Visitor,
        request::Request,
        site::{Answer, Site, Stream},
    },
    store::{CounterSet, Handle, Store},
};
use arc_swap::ArcSwap;
use std::{rc::Rc, sync::Arc, time::Duration};
use tracker_common::{
    bep15::connection_id::IpKey,
    id::InfoHash,
    limits::{self, table::Kind},
    outcome::{Counter, Event, RequestReason},
    platform::Platform as _,
};

/// What all threads share of the tracker's site.
pub struct Tracker {
    store: Arc<Store>,
    limits: Arc<ArcSwap<FullScrapeLimits>>,
    counters: TrackerRegistry,
    wanted: Arc<WantedCounts>,
    /// Full scrapes under way.
    full_scrapes: Arc<Permits>,
    /// What they are made from.
    snapshots: Snapshots,
    proxy_warning: ProxyWarning,
}

impl Tracker {
    /// The tracker over `store`.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        limits: Arc<ArcSwap<FullScrapeLimits>>,
        counters: TrackerRegistry,
        wanted: Arc<WantedCounts>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            limits,
            counters,
            wanted,
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

/// Who sends a list of all torrents.
pub struct Sender {
    /// Its access to the store.
    pub memory: Rc<Handle>,
    /// Its counters.
    pub counters: Arc<TrackerCounters>,
    /// How long a client waits from one list to the next.
    pub pause: Duration,
}

impl Tracker {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Begins a list of all torrents, for whoever may have one: so many clients are sent one at a time,
    /// and each of them one. `None` for a HEAD.
    ///
    /// # Errors
    /// When it is not that one's turn, or memory is short.
    pub fn list(
        &self,
        request: &Request<'_>,
        visitor: &Visitor,
        format: Format,
        sender: Sender,
    ) -> Result<Option<Box<dyn Stream>>, Refused> {
        if request.head {
            return Ok(None);
        }
        let limits = self.limits.load();
        let permit = self.full_scrapes.take(visitor.source.key(), limits.clients, sender.pause)?;
        let torrents = self.snapshots.share(&self.store)?;
        let scrape = FullScrape::new(request.encoding, request.chunks, format, torrents, permit)?;
        let limit = time_limit(self.store.pools().swarms.used(), limits.rate, limits.timeout);
        sender.counters.count(TrackerEvent::FullScrapeBegun);
        Ok(Some(Box::new(ScrapeStream::new(scrape, limit, sender.memory, sender.counters))))
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
    fn respond(&mut self, request: &Request<'_>, visitor: &Visitor, body: &mut Vec<u8>) -> Option<Answer> {
        let route = route(request.path, request.query)?;
        let source = visitor.source.address();
        let blocked = source.and_then(|source| announce::blocked(&self.memory, source.into()).err());
        let (event, result) = match (route, blocked) {
            (Route::Announce, Some(failure)) => (TrackerEvent::Announce, Err(failure.into())),
            (Route::Scrape, Some(failure)) => (TrackerEvent::Scrape, Err(failure.into())),
            (Route::Announce, None) => {
                (TrackerEvent::Announce, self.announce(request, visitor, body).map_err(Refused::from))
            }
            (Route::Scrape, None) => match query::scrape(request.query, &mut self.hashes) {
                Ok(()) if self.hashes.is_empty() => (TrackerEvent::FullScrape, self.full_scrape(request, visitor)),
                Ok(()) => (TrackerEvent::Scrape, self.scrape(visitor, body).map_err(Refused::from)),
                Err(failure) => (TrackerEvent::Scrape, Err(failure.into())),
            },
        };
        self.counters.count(event);
        Some(result.unwrap_or_else(|refused: Refused| {
            self.counters.failure(refused.failure);
            self.memory.event(if visitor.is_ipv4() { Event::Error4 } else { Event::Error6 });
            Answer::Refused(refused.refusal())
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
    /// Counts a request against what its source may ask for; of one without an address nothing is known.
    fn admit(&self, kind: Kind, visitor: &Visitor) -> Result<(), Failure> {
        let Some(source) = visitor.source.address() else { return Ok(()) };
        limits::admit(&self.memory.context(), kind, IpKey::from(source)).map_err(|reason| {
            self.memory.reason(reason);
            Failure::RateLimited
        })
    }

    fn announce(&mut self, request: &Request<'_>, visitor: &Visitor, body: &mut Vec<u8>) -> Result<Answer, Failure> {
        if let Some(header) = request.proxy.filter(|_| visitor.veiled) {
            self.counters.count(TrackerEvent::Proxied);
            self.tracker.proxy_warning.announce(header, visitor.source);
        }
        self.admit(Kind::Announce, visitor)?;
        let result = announce::answer(&self.memory, visitor, request.query, &mut self.peers, body);
        if result == Err(Failure::PortZero) {
            self.memory.reason(RequestReason::PortZero);
        }
        self.tracker.wanted.count(result?);
        Ok(DONE)
    }

    fn scrape(&mut self, visitor: &Visitor, body: &mut Vec<u8>) -> Result<Answer, Failure> {
        self.admit(Kind::Scrape, visitor)?;
        scrape::answer(&self.memory, &self.hashes, body);
        self.scraped(visitor);
        Ok(DONE)
    }

    /// Counts a scrape that is answered as asked, of some torrents or of all.
    fn scraped(&self, visitor: &Visitor) {
        self.memory.event(if visitor.is_ipv4() { Event::Scrape4 } else { Event::Scrape6 });
    }

    fn full_scrape(&self, request: &Request<'_>, visitor: &Visitor) -> Result<Answer, Refused> {
        self.admit(Kind::Scrape, visitor)?;
        let limits = self.tracker.limits.load();
        if !limits.enabled {
            return Err(Failure::FullScrapeOff.into());
        }
        if visitor.veiled || !limits.networks.contains(visitor.source) {
            return Err(Failure::FullScrapeForbidden.into());
        }
        let (memory, counters) = (self.memory.clone(), self.counters.clone());
        let sender = Sender { memory, counters, pause: limits.pause };
        let stream = self.tracker.list(request, visitor, Format::Scrape, sender)?;
        self.scraped(visitor);
        Ok(Answer::encoded(bencode::MEDIA_TYPE, request, stream))
    }
}
