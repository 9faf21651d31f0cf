//! From the bytes that a client has sent to the bytes that it gets: everything about HTTP that
//! needs no socket.

use super::{
    binding::Binding,
    counters::HttpCounters,
    failure::{HttpFailure, Refusal},
    request::{self, Request},
    response::{self, Connection, Head},
    site::{Answer, RefusalFormat, Site, Stream, TEXT},
};
use std::{net::IpAddr, sync::Arc};

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
}

/// Answers for the sites of a binding, in one thread.
pub struct Responder {
    sites: Vec<Box<dyn Site>>,
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

    /// Answers the requests that `input` begins with, in order; the replies are appended to `out`.
    /// `source` must not be an IPv4-mapped address.
    pub fn answer(&mut self, source: IpAddr, input: &[u8], out: &mut Vec<u8>) -> Answered {
        let before = out.len();
        let answered = self.answer_all(source, input, out);
        for site in &mut self.sites {
            site.count_reply_bytes(out.len() - before);
        }
        answered
    }

    fn answer_all(&mut self, source: IpAddr, input: &[u8], out: &mut Vec<u8>) -> Answered {
        let mut used = 0;
        while used < input.len() {
            if out.len() >= BATCH {
                return Answered { used, next: Next::Continue };
            }
            match request::parse(&input[used..]) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    used += request.length;
                    match self.respond(&request, source, out) {
                        Next::Receive => {}
                        next @ (Next::Continue | Next::Close | Next::Linger | Next::Stream(..)) => {
                            return Answered { used, next };
                        }
                    }
                }
                Err(failure) => {
                    self.reject(failure, out);
                    return Answered { used: input.len(), next: Next::Linger };
                }
            }
        }
        Answered { used, next: Next::Receive }
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
        let head = Head { status: refusal.status, location: None, content_type, connection };
        response::write(out, &head, &self.body, head_only);
    }

    /// Appends the reply to one request.
    fn respond(&mut self, request: &Request<'_>, source: IpAddr, out: &mut Vec<u8>) -> Next {
        let connection = match (request.keep_alive && !self.closing, request.chunks) {
            (true, true) => Connection::KeepAlive,
            (true, false) => Connection::KeepAliveHttp10,
            (false, _) => Connection::Close,
        };
        self.body.clear();
        let Self { sites, body, .. } = self;
        match sites.iter_mut().find_map(|site| site.respond(request, source, body)) {
            Some(Answer::Body { content_type }) => {
                let head = Head { status: 200, location: None, content_type, connection };
                response::write(out, &head, &self.body, request.head);
            }
            Some(Answer::Redirect { location }) => {
                let head = Head { status: 302, location: Some(location), content_type: TEXT, connection };
                response::write(out, &head, b"", request.head);
            }
            Some(Answer::Refused(refusal)) => self.refuse(&refusal, connection, request.head, out),
            Some(Answer::Stream { content_type, stream }) => {
                // Without chunks nothing but the end of the connection tells the client where the
                // body ends.
                let connection = if request.chunks { connection } else { Connection::Close };
                let head = Head { status: 200, location: None, content_type, connection };
                response::write_stream_head(out, &head, request.encoding, request.chunks);
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
