//! Single entries of the lists of torrents, while the tracker runs. They stay until it ends, also when
//! the files are read again.

use super::{Lists, SETTLED, remove};
use crate::store::{Handle, Store};
use anyhow::{bail, ensure};
use std::{collections::BTreeSet, thread};
use tracker_common::{
    admission::{List, check, fingerprint, table},
    id::InfoHash,
    store::{hash::TorrentKey, index},
};

/// What was changed of one list.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Torrents on it whatever the files say.
    pub added: BTreeSet<InfoHash>,
    /// Torrents not on it whatever the files say.
    pub removed: BTreeSet<InfoHash>,
}

/// What was changed of both.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Of the torrents that are served.
    pub allow: Changed,
    /// Of those that are not.
    pub deny: Changed,
}

impl Changes {
    /// Of a list.
    #[must_use]
    pub fn of(&self, list: List) -> &Changed {
        match list {
            List::Allow => &self.allow,
            List::Deny => &self.deny,
        }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, list: List) -> &mut Changed {
        match list {
            List::Allow => &mut self.allow,
            List::Deny => &mut self.deny,
        }
    }

    /// Puts a torrent on a list.
    pub fn add(&mut self, list: List, info_hash: InfoHash) {
        let changed = self.of_mut(list);
        changed.removed.remove(&info_hash);
        changed.added.insert(info_hash);
    }

    /// Takes a torrent off a list.
    pub fn remove(&mut self, list: List, info_hash: InfoHash) {
        let changed = self.of_mut(list);
        changed.added.remove(&info_hash);
        changed.removed.insert(info_hash);
    }
}

impl Lists {
    /// The lists of the files with these changes. A list of allowed torrents that no file makes does
    /// not come about by them: it would refuse all others.
    #[must_use]
    pub fn with(mut self, changes: &Changes) -> Self {
        change(&mut self.allow, &changes.allow, false);
        change(&mut self.deny, &changes.deny, true);
        self
    }
}

fn change(list: &mut Option<Vec<InfoHash>>, changed: &Changed, may_begin: bool) {
    if list.is_none() && may_begin && !changed.added.is_empty() {
        *list = Some(Vec::new());
    }
    if let Some(torrents) = list {
        torrents.retain(|torrent| !changed.removed.contains(torrent) && !changed.added.contains(torrent));
        torrents.extend(&changed.added);
    }
}

/// Whether a torrent is on a list.
#[must_use]
pub fn is_listed(store: &Store, list: List, info_hash: &InfoHash) -> bool {
    let fingerprint = fingerprint(store.settings(), list, info_hash);
    buckets(store, fingerprint).any(|bucket| bucket.contains(fingerprint))
}

fn buckets(store: &Store, fingerprint: u64) -> impl Iterator<Item = &table::AccessBucket> {
    let count = store.sizes().access_buckets;
    table::buckets(fingerprint, count).into_iter().filter_map(|number| store.access_bucket(number))
}

/// Puts a torrent on a list. On that of the denied ones it is removed with its peers. False if it was
/// there already.
///
/// # Errors
/// When there is no room for it, or no list of allowed torrents is in force.
pub fn add(handle: &Handle, list: List, info_hash: &InfoHash) -> anyhow::Result<bool> {
    let store = handle.store();
    let settings = store.settings();
    if list == List::Allow && !list.is_in_force(settings) {
        bail!("all torrents are allowed, and one on a list would be the only one; --allow-list begins a list");
    }
    if is_listed(store, list, info_hash) {
        return Ok(false);
    }
    let count = store.sizes().access_buckets;
    let entered =
        count > 1 && table::insert(|number| store.access_bucket(number), count, fingerprint(settings, list, info_hash));
    ensure!(entered, "there is no room for one more listed torrent: that takes a restart, which makes room");
    settings.access_lists.store(settings.access_lists.load() | list.bit());
    if list == List::Deny {
        remove_refused(handle, info_hash);
    }
    Ok(true)
}

/// Takes a torrent off a list; one that is not allowed any more by that is removed with its peers.
/// False if it was not there.
#[must_use]
pub fn take_out(handle: &Handle, list: List, info_hash: &InfoHash) -> bool {
    let store = handle.store();
    let fingerprint = fingerprint(store.settings(), list, info_hash);
    let removed: u64 = buckets(store, fingerprint).map(|bucket| bucket.retain(|other| other != fingerprint)).sum();
    if removed > 0 && list == List::Allow {
        remove_refused(handle, info_hash);
    }
    removed > 0
}

/// Removes a torrent that the lists refuse by now, also one that was being stored at that moment.
fn remove_refused(handle: &Handle, info_hash: &InfoHash) {
    for again in [true, false] {
        if check(&handle.context(), info_hash).is_err() {
            remove_torrent(handle, info_hash);
        }
        if again {
            thread::sleep(SETTLED);
        }
    }
}

/// Removes a torrent with its peers and counts. False if it is not stored.
pub fn remove_torrent(handle: &Handle, info_hash: &InfoHash) -> bool {
    let key = TorrentKey::new(handle.store().settings(), info_hash);
    let found = index::find(&handle.context(), &key);
    found.is_some_and(|swarm| remove(handle, swarm.id, info_hash) > 0)
}
