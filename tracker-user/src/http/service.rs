//! From the bytes a client has sent to the bytes it gets: everything about HTTP that needs no socket.

use super::{
    Context, announce,
    failure::Failure,
    full_scrape::{FullScrape, patience},
    query,
    request::{self, Request},
    response::{self, Connection},
    route::{Route, route},
    scrape,
};
use crate::{
    memory::{Handle, Path},
    statistics::{
        http::{Counters, HttpEvent},
        opentracker::{self, Mode},
        page, prometheus,
    },
};
use std::{net::IpAddr, sync::Arc};
use tracker_common::{
    id::InfoHash,
    outcome::{Counter, Event, RequestReason},
    platform::Platform as _,
};

/// Replies to pipelined requests are collected up to this size before they are sent.
const BATCH: usize = 16 << 10;

/// What is to be done after the replies have been sent.
#[derive(Default)]
pub enum Next {
    /// Receive more.
    #[default]
    Receive,
    /// Answer what has been received but not used.
    Continue,
    /// Close the connection.
    Close,
    /// Close it, but see to it that the client can read the reply first, as it may not be done with sending.
    Linger,
    /// Send a full scrape; then close the connection or continue.
    Stream(Box<FullScrape>, Connection),
}

/// What has been made of the bytes received.
pub struct Turn {
    /// How many of them are done with.
    pub used: usize,
    /// What is to be done next.
    pub next: Next,
}

/// One thread's.
pub struct Service {
    memory: Handle,
    context: Arc<Context>,
    counters: Arc<Counters>,
    closing: bool,
    hashes: Vec<InfoHash>,
    space: announce::Space,
    body: Vec<u8>,
}

impl Service {
    /// For a new thread.
    #[must_use]
    pub fn new(context: Arc<Context>, counters: Arc<Counters>) -> Self {
        Self {
            memory: context.store.handle(Path::Http),
            context,
            counters,
            closing: false,
            hashes: Vec::new(),
            space: announce::Space::default(),
            body: Vec::new(),
        }
    }

    /// The store, for a full scrape under way.
    #[must_use]
    pub fn memory(&self) -> &Handle {
        &self.memory
    }

    /// From now on connections are closed after the request in hand.
    pub fn close_from_now_on(&mut self) {
        self.closing = true;
    }

    /// Answers the requests that `input` begins with, in order; the replies are appended to `out`. `source` must not be an
    /// IPv4-mapped address.
    pub fn answer(&mut self, source: IpAddr, input: &[u8], out: &mut Vec<u8>) -> Turn {
        let before = out.len();
        let turn = self.answer_all(source, input, out);
        self.memory.count(Counter::Event(Event::ReplyBytes), (out.len() - before) as u64);
        turn
    }

    fn answer_all(&mut self, source: IpAddr, input: &[u8], out: &mut Vec<u8>) -> Turn {
        let mut used = 0;
        while used < input.len() {
            if out.len() >= BATCH {
                return Turn { used, next: Next::Continue };
            }
            match request::parse(&input[used..]) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    used += request.length;
                    match self.respond(&request, source, out) {
                        Next::Receive => {}
                        next @ (Next::Continue | Next::Close | Next::Linger | Next::Stream(..)) => {
                            return Turn { used, next };
                        }
                    }
                }
                Err(failure) => {
                    self.reject(failure, out);
                    return Turn { used: input.len(), next: Next::Linger };
                }
            }
        }
        Turn { used, next: Next::Receive }
    }

    /// Appends the reply to what is no proper request. The connection has to be closed after it.
    pub fn reject(&mut self, failure: Failure, out: &mut Vec<u8>) {
        self.counters.failure(failure);
        self.body.clear();
        failure.write(&mut self.body);
        response::write(out, failure.status(), Connection::Close, response::BENCODE, &self.body, false);
    }

    /// Appends the reply to one request.
    fn respond(&mut self, request: &Request<'_>, source: IpAddr, out: &mut Vec<u8>) -> Next {
        let connection = match (request.keep_alive && !self.closing, request.chunks) {
            (true, true) => Connection::Keep,
            (true, false) => Connection::KeepOld,
            (false, _) => Connection::Close,
        };
        let next = if connection == Connection::Close { Next::Close } else { Next::Receive };
        self.body.clear();
        let (kind, result) = match route(request.path, request.query) {
            Route::Announce => (HttpEvent::Announce, self.announce(source, request)),
            Route::Scrape => match query::scrape(request.query, &mut self.hashes) {
                Ok(()) if self.hashes.is_empty() => match self.full_scrape(source, request, connection, out) {
                    Ok(next) => return next,
                    Err(failure) => (HttpEvent::FullScrape, Err(failure)),
                },
                Ok(()) => (HttpEvent::Scrape, self.scrape(source)),
                Err(failure) => (HttpEvent::Scrape, Err(failure)),
            },
            Route::Statistics => (HttpEvent::Statistics, self.statistics(request.query)),
            Route::Metrics => {
                let page = prometheus::write(&self.context.statistics.snapshot());
                self.body.extend_from_slice(page.as_bytes());
                (HttpEvent::Metrics, Ok((200, prometheus::CONTENT_TYPE)))
            }
            // A browser that was sent here by the host's name finds something to read.
            Route::Root => (HttpEvent::Other, Ok((302, response::TEXT))),
            Route::Unknown => (HttpEvent::Other, Err(Failure::NotFound)),
        };
        self.counters.count(kind);
        let (status, content_type) = result.unwrap_or_else(|failure| {
            self.counters.failure(failure);
            if matches!(kind, HttpEvent::Announce | HttpEvent::Scrape | HttpEvent::FullScrape) {
                self.memory.event(if source.is_ipv4() { Event::Error4 } else { Event::Error6 });
            }
            self.body.clear();
            failure.write(&mut self.body);
            (failure.status(), response::BENCODE)
        });
        response::write(out, status, connection, content_type, &self.body, request.head);
        next
    }

    fn announce(&mut self, source: IpAddr, request: &Request<'_>) -> Result<(u16, &'static str), Failure> {
        if let Some(header) = request.proxy {
            self.counters.count(HttpEvent::Proxied);
            self.context.proxy.announce(header, source);
        }
        let result = announce::answer(&self.memory, source, request.query, &mut self.space, &mut self.body);
        if result == Err(Failure::PortZero) {
            self.memory.reason(RequestReason::PortZero);
        }
        result.map(|()| (200, response::BENCODE))
    }

    fn scrape(&mut self, source: IpAddr) -> Result<(u16, &'static str), Failure> {
        scrape::answer(&self.memory, &self.hashes, &mut self.body)?;
        self.memory.event(if source.is_ipv4() { Event::Scrape4 } else { Event::Scrape6 });
        Ok((200, response::BENCODE))
    }

    fn statistics(&mut self, query: &[u8]) -> Result<(u16, &'static str), Failure> {
        let mode = query::parameters(query).find(|(key, _)| *key == b"mode").map(|(_, value)| value);
        let snapshot = || self.context.statistics.snapshot();
        let (page, content_type) = match mode {
            None => (page::write(&snapshot()), response::TEXT),
            Some(name) => {
                let mode = Mode::named(name).ok_or(Failure::StatisticsModeUnknown)?;
                (opentracker::write(&snapshot(), mode), "text/plain")
            }
        };
        self.body.extend_from_slice(page.as_bytes());
        Ok((200, content_type))
    }

    /// Appends the head of a full scrape.
    fn full_scrape(
        &mut self,
        source: IpAddr,
        request: &Request<'_>,
        connection: Connection,
        out: &mut Vec<u8>,
    ) -> Result<Next, Failure> {
        let limits = &self.context.limits;
        if !limits.full_scrape {
            return Err(Failure::FullScrapeOff);
        }
        // Without chunks nothing but the end of the connection tells the client where the body ends.
        let connection = if request.chunks { connection } else { Connection::Close };
        if request.head {
            self.counters.count(HttpEvent::FullScrape);
            response::write_stream_head(out, connection, request.encoding, request.chunks);
            return Ok(if connection == Connection::Close { Next::Close } else { Next::Receive });
        }
        let store = &self.context.store;
        let permit = self.context.full_scrapes.take(source, limits.full_scrapes)?;
        let torrents = self.context.snapshots.share(store)?;
        let patience = patience(store.pools().swarms.used(), limits.full_scrape_rate, limits.full_scrape_timeout);
        let scrape = FullScrape::new(request.encoding, request.chunks, torrents, patience, permit)?;
        self.counters.count(HttpEvent::FullScrape);
        response::write_stream_head(out, connection, request.encoding, request.chunks);
        Ok(Next::Stream(Box::new(scrape), connection))
    }
}
