//! Which site answers on which HTTP listener.

use super::doors::Doors;
use crate::{
    admin::site::{AdminSite, Door, Shared},
    config::live::Handles,
    http::{
        Binding, Listener, MakeSite,
        site::{Refusal, TEXT},
        tracker::{Tracker, failure},
    },
    statistics::Statistics,
    store::Store,
};
use std::sync::Arc;

/// What a client is told whose path the operator's site does not know.
const NOT_FOUND: &str = "No such path; here are /, /stats, /stats.json, /history.json, /events, /metrics and /health";

/// The tracker on its listeners and the operator's pages on theirs; both on the same if the operator
/// has none.
#[must_use]
pub fn bindings(doors: Doors, store: &Arc<Store>, handles: &Handles, statistics: &Arc<Statistics>) -> Vec<Binding> {
    let http = &statistics.http;
    let tracker = Tracker::new(store.clone(), handles.full_scrape.clone(), http.tracker.clone(), http.wanted.clone());
    let shared = Shared::new(handles.access.clone(), statistics.clone(), tracker.clone(), doors.ports());
    let make_tracker: MakeSite = Arc::new(move || Box::new(tracker.site()));
    let admin = |door| -> MakeSite {
        let shared = shared.clone();
        Arc::new(move || Box::new(AdminSite::new(door, shared.clone())))
    };
    let Doors { public, secure, certificates, operator, api: _, udp: _ } = doors;
    let door = if operator.is_empty() { Door::Shared } else { Door::Public };
    let tracker = |listeners: Vec<Listener>, tls| Binding {
        listeners,
        // Announces come first: there are more of them, and old announce URLs may have any form.
        sites: vec![make_tracker.clone(), admin(door)],
        tls,
        trust: handles.trust.clone(),
        refusal_format: failure::write,
        not_found: failure::NOT_FOUND,
    };
    let mut bindings = vec![tracker(public, None)];
    if !secure.is_empty() {
        bindings.push(tracker(secure, certificates));
    }
    if !operator.is_empty() {
        bindings.push(Binding {
            listeners: operator,
            sites: vec![admin(Door::Operator)],
            tls: None,
            trust: handles.trust.clone(),
            refusal_format: plain,
            not_found: NOT_FOUND,
        });
    }
    bindings
}

/// Appends a refusal as people read it, and returns its media type.
fn plain(refusal: &Refusal, body: &mut Vec<u8>) -> &'static str {
    body.extend_from_slice(refusal.text.as_bytes());
    body.push(b'\n');
    TEXT
}
