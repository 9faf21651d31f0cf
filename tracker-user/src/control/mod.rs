//! What is changed while the tracker runs: the configuration read again by SIGHUP or the admin API,
//! and what the API alone can change. One lock is held for each change, so they come one after the
//! other; nothing that answers clients waits for it.
//!
//! What the API has changed holds until the process ends: limits stand above the configuration, and
//! single entries above the files of lists, also when these are read again.
//!
//! | module | holds |
//! |---|---|
//! | [`reload`] | the configuration read again |
//! | [`file_limit`] | how many files may be open |
//! | [`lists`] | single entries of the lists of torrents and of addresses |
//! | [`ready`] | whether the tracker does all that it is to |

pub mod file_limit;
pub mod lists;
pub mod ready;
pub mod reload;

pub use reload::{Reload, Reloaded};

use crate::{
    admission::{Lists, addresses, addresses::Contents, entry},
    config::{
        Options, Overrides, Startup,
        live::{Handles, Live},
        values,
    },
    confine,
    http::tls::Certificates,
    logging,
    snapshot::{self, Saver, look::Peer, page::Page},
    statistics::Statistics,
    store::{Handle, Store},
    trace,
    xdp::Loaded,
};
use anyhow::{Context as _, bail};
use file_limit::raise_file_limit;
use ready::Missing;
use serde_json::{Map, Value};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::{info, warn};
use tracker_common::{admission::List, id::InfoHash};

/// What a daemon is made of, as far as it can be changed or asked for.
pub struct Parts {
    /// What is fixed.
    pub startup: Startup,
    /// Where values are published.
    pub handles: Handles,
    /// The certificates, if there are some.
    pub certificates: Option<Arc<Certificates>>,
    /// Who writes the snapshot, if there is one.
    pub saver: Option<Arc<Saver>>,
    /// The XDP program, if there is one.
    pub xdp: Option<Arc<Loaded>>,
    /// The figures.
    pub statistics: Arc<Statistics>,
    /// Addresses that were not there at the start, with their protocols.
    pub missing: Missing,
}

/// The daemon, as whoever changes it sees it.
pub struct Control {
    reload: Reload,
    /// What it is made of.
    pub parts: Parts,
    store: Arc<Store>,
    state: Mutex<State>,
    /// Held by the one that traces.
    trace: Mutex<()>,
    ending: AtomicBool,
}

struct State {
    live: Live,
    /// Removes what is not allowed any more.
    remover: Handle,
    /// What was read last, without the overrides.
    options: Options,
    overrides: Overrides,
    torrents: entry::Changes,
    addresses: addresses::Changes,
    known: lists::Known,
}

impl Control {
    /// For a daemon that has started with `live`, which these options come to, and knows of its lists what
    /// it is to know.
    #[must_use]
    pub fn new(
        reload: Reload,
        parts: Parts,
        (options, live): (Options, Live),
        remover: Handle,
        known: lists::Known,
    ) -> Arc<Self> {
        let store = remover.store().clone();
        let state = State {
            live,
            remover,
            options,
            overrides: Overrides::new(),
            torrents: entry::Changes::default(),
            addresses: addresses::Changes::default(),
            known,
        };
        let (trace, ending) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { reload, parts, store, state: Mutex::new(state), trace, ending })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that is read again.
    #[must_use]
    pub fn file(&self) -> Option<std::path::PathBuf> {
        self.reload.file()
    }

    /// Reads the configuration, the lists and the certificates again, and logs how that went.
    ///
    /// # Errors
    /// When something is wrong with them. Everything is as it was, then.
    pub fn reload(&self) -> anyhow::Result<Reloaded> {
        let mut state = self.state();
        let result = self.try_reload(&mut state);
        match &result {
            Ok(Reloaded { changed, restart }) => {
                if !restart.is_empty() {
                    warn!("{} changed, which takes a restart", restart.join(", "));
                }
                if changed.is_empty() {
                    info!("the configuration is in force, and as it was");
                } else {
                    info!("the configuration is in force; changed: {}", changed.join(", "));
                }
            }
            Err(error) => warn!("the configuration is not changed: {error:#}{}", confine::advice(error)),
        }
        result
    }

    fn try_reload(&self, state: &mut State) -> anyhow::Result<Reloaded> {
        let (options, new) = self.reload.read(&state.overrides)?;
        // Lists may have changed although the names of their files have not.
        let lists = Lists::read(&new.live.lists)?.with(&state.torrents);
        let contents = Contents::read(&new.live.addresses)?;
        let addresses = contents.with(&state.addresses)?;
        addresses.check_room(&self.store)?;
        self.parts.certificates.as_deref().map_or(Ok(()), Certificates::reload)?;
        lists.apply(&state.remover, true)?;
        let counts = lists::Counts::of(&lists, &addresses);
        self.put_in_force(addresses, &state.remover)?;
        state.known.counts = counts;
        if let Some(known) = &mut state.known.addresses {
            *known = contents;
        }
        state.options = options;
        let restart = self.parts.startup.differences(&new.startup);
        Ok(Reloaded { changed: self.publish(state, new.live), restart })
    }

    /// Has new values hold. Returns which are other ones.
    fn publish(&self, state: &mut State, live: Live) -> Vec<&'static str> {
        let changed = state.live.differences(&live);
        raise_file_limit(live.http.connections);
        logging::set_filter(live.log.as_ref());
        live.apply(self.store.settings(), &self.parts.handles);
        state.live = live;
        changed
    }

    /// The values that hold, by option, and whether [`Control::change_limits`] has set them.
    #[must_use]
    pub fn limits(&self) -> Vec<(&'static str, Value, bool)> {
        let state = self.state();
        let overridden = |name: &str| state.overrides.contains_key(name);
        values::values(&state.live).into_iter().map(|(name, value)| (name, value, overridden(name))).collect()
    }

    /// Sets values above those of the configuration, or not any more if they are null.
    ///
    /// # Errors
    /// When one cannot be; nothing is changed, then.
    pub fn change_limits(&self, changes: &Map<String, Value>) -> anyhow::Result<Vec<&'static str>> {
        let mut state = self.state();
        let overrides = values::change(&state.overrides, changes)?;
        let live = state.live.over(&state.options, &overrides)?;
        state.overrides = overrides;
        let changed = self.publish(&mut state, live);
        info!("the admin API has changed {}", if changed.is_empty() { "nothing".into() } else { changed.join(", ") });
        Ok(changed)
    }

    /// What takes long ends, as the tracker does.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Packets that XDP sees from now on: so long, and so many at most.
    ///
    /// # Errors
    /// When there is no XDP, or somebody traces already.
    pub fn trace(&self, filter: &trace::Filter, most: (Duration, usize)) -> anyhow::Result<trace::Collected> {
        let xdp = self.parts.xdp.as_deref().context("there is no XDP here (--interface), which alone is traced")?;
        let Ok(_one) = self.trace.try_lock() else {
            bail!("this tracker is traced already, and only one can at a time: wait until that has ended")
        };
        trace::collect((xdp, &self.store), filter, most, || !self.ending.load(Ordering::Relaxed))
    }

    /// Some torrents from a place of the store on.
    #[must_use]
    pub fn torrents(&self, from: u32, limit: usize) -> Page {
        snapshot::page::page(&self.store, from, limit)
    }

    /// A torrent and its peers.
    #[must_use]
    pub fn torrent(&self, info_hash: &InfoHash) -> Option<(snapshot::columns::Torrent, Vec<Peer>)> {
        snapshot::look::torrent(&self.store, info_hash)
    }

    /// Removes a torrent with all its peers. False if it is not stored.
    #[must_use]
    pub fn remove_torrent(&self, info_hash: &InfoHash) -> bool {
        entry::remove_torrent(&self.state().remover, info_hash)
    }

    /// Removes a peer. False if it is not stored.
    #[must_use]
    pub fn remove_peer(&self, info_hash: &InfoHash, peer: SocketAddr) -> bool {
        snapshot::look::remove_peer(&self.store, info_hash, peer)
    }

    /// Whether a list of torrents is in force.
    #[must_use]
    pub fn is_in_force(&self, list: List) -> bool {
        list.is_in_force(self.store.settings())
    }
}

#[cfg(test)]
mod tests;
