//! HTTP: announce, scrape and full scrape over the same store as UDP, and the statistics.
//!
//! One thread per core, each with its own listening sockets, its own runtime and its own handle on the store; threads share
//! nothing else. The way of a request:
//!
//! | module | does |
//! |---|---|
//! | [`listener`] | the listening sockets |
//! | [`worker`] | a thread: accepts, receives, sends; most connections begin and end here |
//! | [`connection`] | connections that stay open, or come or go in pieces |
//! | [`deadlines`] | how long they may |
//! | [`debts`], [`buffers`] | how much memory they and the kernel may hold |
//! | [`memory`] | the sum of it, for people |
//! | [`service`] | from received bytes to the bytes to send |
//! | [`request`], [`response`] | HTTP |
//! | [`route`] | what a path asks for, old announce URLs included |
//! | [`proxy`] | a proxy in front, and that it does harm |
//! | [`query`] | what an announce or a scrape says |
//! | [`announce`], [`scrape`], [`full_scrape`] | their answers |
//! | [`permits`], [`snapshot`] | who may have a full scrape, and its torrents in order |
//! | [`failure`] | every reason for not giving one, and what the client is told |
//! | [`bencode`] | how answers are written |

pub mod announce;
pub mod bencode;
pub mod buffers;
pub mod connection;
pub mod deadlines;
pub mod debts;
pub mod failure;
pub mod full_scrape;
pub mod listener;
pub mod memory;
pub mod permits;
pub mod proxy;
pub mod query;
pub mod request;
pub mod response;
pub mod route;
pub mod scrape;
pub mod service;
pub mod snapshot;
pub mod worker;

#[cfg(test)]
mod tests;

pub use listener::{Http, Listener, bind, bind_all};

use crate::{
    service::{Service, Services, Shutdown},
    statistics::Statistics,
    store::Store,
};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use std::{net::TcpListener, sync::Arc, time::Duration};

/// What clients may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that stay open, all threads together. When they are that many, the one idle for longest makes room for a
    /// new one. Connections that are answered at once and closed do not count.
    pub connections: usize,
    /// Bytes that all connections together may hold: replies that wait to be taken, requests that are not complete.
    pub held_bytes: usize,
    /// From the first byte of a request, or the beginning of the connection, until the request is complete.
    pub header_timeout: Duration,
    /// From one request to the next.
    pub idle_timeout: Duration,
    /// Until the client has taken a reply.
    pub write_timeout: Duration,
    /// Whether `/scrape` without an info_hash lists all torrents.
    pub full_scrape: bool,
    /// How many clients are sent this list at a time.
    pub full_scrapes: usize,
    /// How long a client may take for it; if it is long, as long as it takes at [`Limits::full_scrape_rate`].
    pub full_scrape_timeout: Duration,
    /// Torrents per second that a client has to take of it.
    pub full_scrape_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            held_bytes: 16 << 20,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(15),
            full_scrape: true,
            full_scrapes: 2,
            full_scrape_timeout: Duration::from_secs(15),
            full_scrape_rate: 100_000,
        }
    }
}

/// What all HTTP threads share.
pub struct Context {
    store: Arc<Store>,
    limits: Arc<ArcSwap<Limits>>,
    statistics: Arc<Statistics>,
    /// Full scrapes under way.
    full_scrapes: Arc<permits::Permits>,
    /// What they are made from.
    snapshots: snapshot::Snapshots,
    proxy: proxy::Warning,
}

impl Context {
    /// Puts it together.
    #[must_use]
    pub fn new(store: Arc<Store>, limits: Arc<ArcSwap<Limits>>, statistics: Arc<Statistics>) -> Self {
        Self {
            store,
            limits,
            statistics,
            full_scrapes: Arc::default(),
            snapshots: snapshot::Snapshots::default(),
            proxy: proxy::Warning::default(),
        }
    }
}

/// Answers on all listeners, in as many threads as a listener has sockets.
///
/// # Errors
/// When a thread cannot be started.
pub fn serve(listeners: Vec<Listener>, context: &Arc<Context>, services: &mut Services) -> anyhow::Result<()> {
    let count = listeners.iter().map(|listener| listener.sockets.len()).max().unwrap_or(0);
    let mut threads: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    for listener in listeners {
        for (thread, socket) in threads.iter_mut().zip(listener.sockets) {
            thread.push(socket);
        }
    }
    for (number, sockets) in threads.into_iter().enumerate() {
        services.spawn(HttpThread { number, sockets, context: context.clone(), threads: count })?;
    }
    Ok(())
}

/// Answers on one socket of each listener.
struct HttpThread {
    number: usize,
    sockets: Vec<TcpListener>,
    context: Arc<Context>,
    /// How many of these there are.
    threads: usize,
}

impl Service for HttpThread {
    fn name(&self) -> String {
        format!("http-{}", self.number)
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        worker::run(self.sockets, self.context, shutdown, self.threads, self.number == 0)
            .context("an HTTP thread failed")
    }
}
