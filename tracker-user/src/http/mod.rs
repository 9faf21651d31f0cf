//! An HTTP server for short requests from very many clients. It knows no path and no reply: for
//! these it asks a [`Site`].
//!
//! One thread per core, each with its own listening sockets, its own runtime and its own instance
//! of every site; threads share nothing else. The way of a request:
//!
//! | module | does |
//! |---|---|
//! | [`listener`] | the listening sockets |
//! | [`binding`] | which sites answer on which listeners |
//! | [`worker`] | a thread: accepts connections; most begin and end here |
//! | [`connection`] | connections that stay open, or come or go in pieces |
//! | [`io`] | receives, answers and sends; what the connections of a thread share |
//! | [`limits`] | what clients may take |
//! | [`deadlines`] | how long connections may wait |
//! | [`shares`] | who makes room when no more connections may be open |
//! | [`held_memory`], [`socket_buffers`] | how much memory they and the kernel may hold |
//! | [`responder`] | from received bytes to the bytes to send |
//! | [`request`], [`target`], [`response`] | HTTP itself |
//! | [`site`] | what a site is |
//! | [`failure`] | what is refused, and how clients are told |
//! | [`encoder`], [`permits`] | what a site needs for a body that it makes while it is sent |
//! | [`proxy`] | reverse proxies in front: who is believed, and for whom they ask |
//! | [`tls`] | HTTPS |
//! | [`counters`] | what is counted |
//!
//! [`tracker`] is the site for BitTorrent clients; the operator's is [`crate::admin`]. Which of
//! them answers on which listener is decided by [`crate::daemon::sites`].

pub mod binding;
pub mod connection;
pub mod counters;
pub mod deadlines;
pub mod encoder;
pub mod failure;
pub mod held_memory;
pub mod io;
pub mod limits;
pub mod listener;
pub mod permits;
pub mod proxy;
pub mod request;
pub mod responder;
pub mod response;
pub mod shares;
pub mod site;
pub mod socket_buffers;
pub mod target;
pub mod tls;
pub mod tracker;
pub mod worker;

#[cfg(test)]
mod tests;

pub use binding::Binding;
pub use limits::Limits;
pub use listener::{Http, Listener, bind, bind_all, bind_private, bind_unix};
pub use proxy::{Trust, Visitor};
pub use site::{Answer, MakeSite, Site};

use crate::service::Services;
use arc_swap::ArcSwap;
use counters::HttpRegistry;
use socket2::Socket;
use std::sync::Arc;
use tls::rates::Rates;

/// Answers on the listeners of all bindings, in as many threads as a listener has sockets.
///
/// # Errors
/// When a thread cannot be started.
pub fn serve(
    mut bindings: Vec<Binding>,
    limits: Arc<ArcSwap<Limits>>,
    counters: HttpRegistry,
    services: &mut Services,
) -> anyhow::Result<()> {
    let mut threads: Vec<Vec<(usize, Socket)>> = Vec::new();
    for (number, binding) in bindings.iter_mut().enumerate() {
        for listener in std::mem::take(&mut binding.listeners) {
            if threads.len() < listener.sockets.len() {
                threads.resize_with(listener.sockets.len(), Vec::new);
            }
            for (thread, socket) in threads.iter_mut().zip(listener.sockets) {
                thread.push((number, socket));
            }
        }
    }
    let shared =
        Arc::new(worker::Shared { bindings, limits, counters, handshakes: Rates::default(), threads: threads.len() });
    for (number, listeners) in threads.into_iter().enumerate() {
        services.spawn(worker::HttpThread { number, listeners, shared: shared.clone() })?;
    }
    Ok(())
}
