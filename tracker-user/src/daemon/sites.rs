//! Which site answers on which HTTP listener.

use crate::{
    admin::site::AdminSite,
    http::{
        Binding, Listener, MakeSite,
        tracker::{FullScrapeLimits, Tracker, failure},
    },
    statistics::Statistics,
    store::Store,
};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The tracker and the operator's pages, on the same listeners. An operator's site with listeners
/// of its own would be another binding.
#[must_use]
pub fn shared(
    listeners: Vec<Listener>,
    store: &Arc<Store>,
    limits: Arc<ArcSwap<FullScrapeLimits>>,
    statistics: &Arc<Statistics>,
) -> Vec<Binding> {
    let tracker = Tracker::new(store.clone(), limits, statistics.http.tracker.clone());
    let statistics = statistics.clone();
    let make_tracker: MakeSite = Arc::new(move || Box::new(tracker.site()));
    let make_admin: MakeSite = Arc::new(move || Box::new(AdminSite::new(statistics.clone())));
    vec![Binding {
        listeners,
        // Announces come first: there are more of them, and old announce URLs may have any form.
        sites: vec![make_tracker, make_admin],
        refusal_format: failure::write,
        not_found: failure::NOT_FOUND,
    }]
}
