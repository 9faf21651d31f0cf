//! From the bytes that a client has sent to the bytes that it gets: everything about HTTP that
//! needs no socket.

use super::{
    binding::Binding,
    counters::HttpCounters,
    failure::{HttpFailure, Refusal},
    proxy::{Trust, Visitor},
    request::{self, Request},
    response::{self, Connection, Head},
    site::{Answer, RefusalFormat, Site, Stream, TEXT},
};
use crate::listen::Source;
use arc_swap::ArcSwap;
use std::sync::Arc;

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
    /// Close it, but see to it that the client can read the reply first, as it may not be done with
    /// sending.
    Linger,
    /// Send a body that is made meanwhile; then close the connection or continue.
    Stream(Box<dyn Stream>, Connection),
}

/// What has been made of the bytes received.
pub struct Answered {
    /// How many of them are done with.
    pub used: usize,
    /// What is to be done next.
    pub next: Next,
    /// Who has sent the last of the requests: a proxy asks for one client after the other.
    pub seen: Option<Source>,
}

/// Answers for the sites of a binding, in one thread.
pub struct Responder {
    sites: Vec<Box<dyn Site>>,
    trust: Arc<ArcSwap<Trust>>,
    refusal_format: RefusalFormat,
    not_found: &'static str,
    counters: Arc<HttpCounters>,
    closing: bool,
    /// The body of the reply in hand; used again and again.
    body: Vec<u8>,
}

impl Responder {
    /// Makes the sites of a binding for the thread that calls.
    #[must_use]
    pub fn new(binding: &Binding, counters: Arc<HttpCounters>) -> Self {
        Self {
            sites: binding.sites.iter().map(|make| make()).collect(),
            trust: binding.trust.clone(),
            refusal_format: binding.refusal_format,
            not_found: binding.not_found,
            counters,
            closing: false,
            body: Vec::new(),
        }
    }

    /// From now on connections are closed after the request in hand.
    pub fn close_from_now_on(&mut self) {
        self.closing = true;
    }

    /// To be called once a second, in the first thread.
    pub fn tick(&mut self) {
        for site in &mut self.sites {
            site.tick();
        }
    }

    /// Whether connections from there begin with a header of the PROXY protocol.
    #[must_use]
    pub fn expects_header(&self, peer: Source) -> bool {
        self.trust.load().protocol.contains(peer)
    }

    /// Answers the requests that `input` begins with, in order; the replies are appended to `out`.
    /// They come from `peer`, which may be a proxy.
    pub fn answer(&mut self, peer: Source, input: &[u8], out: &mut Vec<u8>) -> Answered {
        let before = out.len();
        let answered = self.answer_all(peer, input, out);
        for site in &mut self.sites {
            site.count_reply_bytes(out.len() - before);
        }
        answered
    }

    fn answer_all(&mut self, peer: Source, input: &[u8], out: &mut Vec<u8>) -> Answered {
        let trust = self.trust.load();
        let believed = trust.proxies.contains(peer).then_some(&**trust);
        let mut answered = Answered { used: 0, next: Next::Receive, seen: None };
        loop {
            // Not kept: a client that has sent nothing but these is idle.
            answered.used += request::empty_lines(&input[answered.used..]);
            if answered.used == input.len() {
                break;
            }
            if out.len() >= BATCH {
                answered.next = Next::Continue;
                break;
            }
            match request::parse(&input[answered.used..], believed) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    answered.used += request.length;
                    let named = request.claim.source();
                    let source = named.unwrap_or(peer);
                    answered.seen = Some(source);
                    let veiled = named.is_none() && request.proxy.is_some();
                    let names_addresses = !veiled && trust.parameters.contains(source);
                    let visitor = Visitor { source, veiled, names_addresses };
                    answered.next = self.respond(&request, &visitor, out);
                    if !matches!(answered.next, Next::Receive) {
                        break;
                    }
                }
                Err(failure) => {
                    self.reject(failure, out);
                    answered.used = input.len();
                    answered.next = Next::Linger;
                }
            }
        }
        answered
    }

    /// Appends the reply to what is no proper request. The connection has to be closed after it.
    pub fn reject(&mut self, failure: HttpFailure, out: &mut Vec<u8>) {
        self.counters.failure(failure);
        self.refuse(&failure.refusal(), Connection::Close, false, out);
    }

    /// Appends a refusal.
    fn refuse(&mut self, refusal: &Refusal, connection: Connection, head_only: bool, out: &mut Vec<u8>) {
        self.body.clear();
        let content_type = (self.refusal_format)(refusal, &mut self.body);
        let head = Head { status: refusal.status, location: None, content_type, lines: "", connection };
        response::write(out, &head, &self.body, head_only);
    }

    /// Appends the reply to one request.
    fn respond(&mut self, request: &Request<'_>, visitor: &Visitor, out: &mut Vec<u8>) -> Next {
        let connection = match (request.keep_alive && !self.closing, request.chunks) {
            (true, true) => Connection::KeepAlive,
            (true, false) => Connection::KeepAliveHttp10,
            (false, _) => Connection::Close,
        };
        self.body.clear();
        let Self { sites, body, .. } = self;
        match sites.iter_mut().find_map(|site| site.respond(request, visitor, body)) {
            Some(Answer::Body { content_type }) => {
                let head = Head { status: 200, location: None, content_type, lines: "", connection };
                response::write(out, &head, &self.body, request.head);
            }
            Some(Answer::Document { content_type, lines }) => {
                let head = Head { status: 200, location: None, content_type, lines, connection };
                response::write(out, &head, &self.body, request.head);
            }
            Some(Answer::Redirect { location }) => {
                let head = Head { status: 302, location: Some(location), content_type: TEXT, lines: "", connection };
                response::write(out, &head, b"", request.head);
            }
            Some(Answer::Refused(refusal)) => self.refuse(&refusal, connection, request.head, out),
            Some(Answer::Stream { content_type, encoding, lines, stream }) => {
                // Without chunks nothing but the end of the connection tells the client where the
                // body ends.
                let connection = if request.chunks { connection } else { Connection::Close };
                let head = Head { status: 200, location: None, content_type, lines, connection };
                response::write_stream_head(out, &head, encoding, request.chunks);
                return stream.map_or_else(|| after(connection), |stream| Next::Stream(stream, connection));
            }
            None => {
                self.counters.failure(HttpFailure::NotFound);
                let refusal = Refusal { text: self.not_found, ..HttpFailure::NotFound.refusal() };
                self.refuse(&refusal, connection, request.head, out);
            }
        }
        after(connection)
    }
}

/// What follows a reply.
fn after(connection: Connection) -> Next {
    if connection == Connection::Close { Next::Close } else { Next::Receive }
}
