//! Who may use the tracker for what. Addresses are in [`addresses`].
//!
//! Which torrents the tracker serves: lists read from files, in a table that the XDP program and all
//! threads look into when a torrent is to be stored ([`tracker_common::admission`]).
//!
//! A list that has changed is entered while announces go on: first what is new on it comes into the
//! table, then it is said which lists are in force, then what is gone leaves the table. Afterwards the
//! torrents that are no longer allowed are removed with their peers.

pub mod addresses;
pub mod entry;
pub mod file;

use crate::store::{Handle, Store};
use anyhow::bail;
use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use tracing::info;
use tracker_common::{
    admission::{List, check, fingerprint, table},
    id::{InfoHash, SwarmId},
    platform::Platform as _,
    store::{hash::TorrentKey, index, layout::SWARM_ALIVE, sweep},
};

/// How long after a change of the table nobody acts on what it was before. An XDP program takes
/// microseconds from looking into it to storing a torrent; a thread may be put to sleep in between.
const SETTLED: Duration = Duration::from_millis(20);

/// Room for this many listed torrents at least, if there are lists.
pub const LEAST_ROOM: u64 = 16_384;

/// Files with lists. Several of a kind are one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Only torrents in these are served; without any file, all are.
    pub allow: Vec<PathBuf>,
    /// Torrents in these are not served.
    pub deny: Vec<PathBuf>,
}

/// The lists as they are in the files.
#[derive(Debug)]
pub struct Lists {
    allow: Option<Vec<InfoHash>>,
    deny: Option<Vec<InfoHash>>,
}

impl Lists {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or has a line that is no torrent.
    pub fn read(files: &Files) -> anyhow::Result<Self> {
        Ok(Self { allow: list(&files.allow)?, deny: list(&files.deny)? })
    }

    /// How many torrents are on a list, as often as they are; `None` if there is no such list.
    #[must_use]
    pub fn count(&self, list: List) -> Option<u64> {
        self.of(list).map(|torrents| torrents.len() as u64)
    }

    fn of(&self, list: List) -> Option<&[InfoHash]> {
        match list {
            List::Allow => self.allow.as_deref(),
            List::Deny => self.deny.as_deref(),
        }
    }

    /// How many listed torrents there should be room for: half more than there are, so that lists
    /// can grow, in steps, so that it is the same after a restart.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        let lists = List::ALL.iter().filter_map(|list| self.of(*list));
        let listed = lists.map(|list| list.len() as u64).reduce(|one, other| one + other)?;
        Some((listed + listed / 2).max(LEAST_ROOM).next_power_of_two())
    }

    /// Puts the lists in force. Torrents that are already stored are looked at if `stored` says so.
    ///
    /// # Errors
    /// When the table has no room for them. What was in force before is, then.
    pub fn apply(&self, handle: &Handle, stored: bool) -> anyhow::Result<()> {
        let begin = Instant::now();
        let settings = handle.store().settings();
        let mut wanted: Vec<u64> = Vec::new();
        let mut in_force = 0;
        for list in List::ALL {
            let Some(torrents) = self.of(list) else { continue };
            in_force |= list.bit();
            wanted.extend(torrents.iter().map(|info_hash| fingerprint(settings, list, info_hash)));
        }
        if in_force == 0 && settings.access_lists.load() == 0 {
            return Ok(());
        }
        wanted.sort_unstable();
        wanted.dedup();
        insert(handle.store(), &wanted)?;
        let goes = settings.access_lists.load() & !in_force != 0;
        settings.access_lists.store(in_force);
        if goes {
            // Whoever still takes a list for one in force has to find in the table what was on it.
            thread::sleep(SETTLED);
        }
        retain(handle.store(), |fingerprint| wanted.binary_search(&fingerprint).is_ok());
        let removed = if stored { remove_refused(handle) } else { 0 };
        let count = |list| self.of(list).map_or("no".to_owned(), |torrents| torrents.len().to_string());
        info!(
            "lists are in force: {} torrents allowed, {} denied; {removed} removed; {} ms",
            count(List::Allow).replace("no", "all"),
            count(List::Deny),
            begin.elapsed().as_millis()
        );
        Ok(())
    }
}

/// What is in these files; `None` if there are none.
fn list(files: &[PathBuf]) -> anyhow::Result<Option<Vec<InfoHash>>> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut torrents = Vec::new();
    for path in files {
        file::read(path, &mut torrents)?;
    }
    Ok(Some(torrents))
}

/// Puts these fingerprints, which are sorted, into the table beside what is there; all or none.
fn insert(store: &Store, wanted: &[u64]) -> anyhow::Result<()> {
    let count = store.sizes().access_buckets;
    let is_new = |fingerprint: &u64| {
        !table::buckets(*fingerprint, count)
            .into_iter()
            .filter_map(|number| store.access_bucket(number))
            .any(|bucket| bucket.contains(*fingerprint))
    };
    let new: Vec<u64> = wanted.iter().copied().filter(is_new).collect();
    if !new.iter().all(|fingerprint| table::insert(|number| store.access_bucket(number), count, *fingerprint)) {
        // Back to what it was: what is new now was not there before.
        retain(store, |fingerprint| new.binary_search(&fingerprint).is_err());
        let room = u64::from(count - 1) * u64::from(table::LOAD);
        bail!(
            "{} listed torrents are more than there is room for, {room}: that takes a restart, which makes room",
            wanted.len()
        );
    }
    Ok(())
}

/// Takes all other fingerprints out of the table.
fn retain(store: &Store, wanted: impl Fn(u64) -> bool) {
    for bucket in (0..store.sizes().access_buckets).filter_map(|number| store.access_bucket(number)) {
        bucket.retain(&wanted);
    }
}

/// Removes the torrents that the lists in force do not allow, with all their peers.
fn remove_refused(handle: &Handle) -> u64 {
    let mut removed = 0;
    for _ in 0..2 {
        let mut from = 0;
        while let Some(swarm) = index::next(|number| handle.bucket(number), from, u32::MAX) {
            from = swarm.id.number() + 1;
            let alive = swarm.record.active.load() & SWARM_ALIVE != 0;
            let torrent = swarm.record.info_hash();
            if alive && check(&handle.context(), &torrent).is_err() {
                removed += remove(handle, swarm.id, &torrent);
            }
        }
        // Whoever looked into the table before the change may have stored a torrent since.
        thread::sleep(SETTLED);
    }
    removed
}

/// Removes a torrent from this record, which may have become another's meanwhile. Returns how many, as a new
/// peer may come in between.
fn remove(handle: &Handle, swarm: SwarmId, torrent: &InfoHash) -> u64 {
    let cx = &handle.context();
    let (torrent, Some(swarm)) = (TorrentKey::new(cx.settings, torrent), cx.swarm(swarm)) else { return 0 };
    let ages = sweep::Ages { peer_timeout: 0, idle: 0, idle_completed: 0 };
    for _ in 0..100 {
        let report = sweep::sweep_torrent(cx, swarm, &torrent, &ages);
        if report.torrents == 0 {
            return report.removed;
        }
    }
    0
}

#[cfg(test)]
mod tests;
