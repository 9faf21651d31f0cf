//! Which sites answer on which listeners.

use super::{failure::RefusalFormat, listener::Listener, proxy::Trust, site::MakeSite, tls::Certificates};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Listeners, and the sites that answer there.
pub struct Binding {
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// The sites. A request is answered by the first of them that knows its path.
    pub sites: Vec<MakeSite>,
    /// With what TLS is spoken there, if it is.
    pub tls: Option<Arc<Certificates>>,
    /// Whom to believe what they say about addresses.
    pub trust: Arc<ArcSwap<Trust>>,
    /// How clients are told that they are refused.
    pub refusal_format: RefusalFormat,
    /// What a client is told whose path no site knows.
    pub not_found: &'static str,
}
