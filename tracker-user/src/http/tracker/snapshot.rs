//! The torrents of a full scrape in the order that bencoding wants: by info_hash.
//!
//! Only the order has to be in memory: an info_hash and the number of a record for each torrent.
//! Counts are read when they are sent. A thread of its own makes the snapshot, so that no other
//! thread waits for the sorting. All clients share it that come while it is fresh, or soon enough while
//! another client is being sent it. There is never more than one, which bounds the memory. Making them
//! takes a twentieth of a core at most, however often clients ask and however long it takes: so one that
//! took more than three seconds is given to clients when it is older than a minute.

use super::failure::Failure;
use crate::store::{Store, sweep};
use std::{
    collections::TryReserveError,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tracker_common::{
    id::{InfoHash, SwarmId},
    store::{
        index,
        layout::{SWARM_ALIVE, Swarm},
    },
};

/// A snapshot that no client is being sent stays good for this many times the processor time it
/// took to make.
const REST: u32 = 20;

/// A snapshot that a client is being sent is given to others until it is as old as this, if it would not
/// stay good as long anyway.
const OLDEST: Duration = Duration::from_secs(60);

/// Torrents that may come while a snapshot is being made before it needs more memory.
const SLACK: usize = 1024;

/// A torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its info_hash.
    pub info_hash: InfoHash,
    /// Its record at the time of the snapshot.
    pub swarm: SwarmId,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// All torrents of one moment.
pub struct Snapshot {
    entries: Vec<Entry>,
    making: Making,
}

/// When a snapshot was made, or could not be.
#[derive(Clone, Copy)]
pub struct Making {
    done: Instant,
    took: Duration,
}

impl Making {
    /// One that has just ended, by a thread whose processor time was `begin` before it.
    fn since(begin: Duration) -> Self {
        Self { done: Instant::now(), took: sweep::processor_time().saturating_sub(begin) }
    }

    /// How long what came of it is good. `used`: a client is being sent it, so no other snapshot can be
    /// made meanwhile.
    fn good_for(self, used: bool) -> Duration {
        let rest = self.took * REST;
        if used { rest.max(OLDEST) } else { rest }
    }
}

/// How far a snapshot is.
pub enum Progress {
    /// It is being made.
    UnderWay,
    /// Here it is.
    Done(Snapshot),
    /// There was no memory for it.
    Failed(Making),
}

impl Progress {
    /// The torrents, sorted by info_hash, each once; none before they are known.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match self {
            Progress::Done(snapshot) => &snapshot.entries,
            Progress::UnderWay | Progress::Failed(_) => &[],
        }
    }

    /// Whether it is too early for another one. `used`: a client is being sent it.
    fn is_good(&self, used: bool) -> bool {
        match self {
            Progress::UnderWay => true,
            Progress::Done(Snapshot { making, .. }) => making.done.elapsed() <= making.good_for(used),
            Progress::Failed(making) => making.done.elapsed() <= making.good_for(false),
        }
    }
}

/// A client's share of a snapshot.
pub type Share = watch::Receiver<Progress>;

/// The present snapshot, if there is one; for all threads.
#[derive(Default)]
pub struct Snapshots(Mutex<Option<watch::Sender<Progress>>>);

impl Snapshots {
    /// A share of the present snapshot, or of one that is begun now.
    ///
    /// # Errors
    /// [`Failure::FullScrapeBusy`] when the present one is old and a client is still being sent it;
    /// [`Failure::Internal`] when no thread can be started, or there was no memory a short time ago.
    pub fn share(&self, store: &Arc<Store>) -> Result<Share, Failure> {
        let mut present = self.present();
        if let Some(sender) = &*present {
            let used = sender.receiver_count() > 0;
            let (good, failed) = {
                let progress = sender.borrow();
                (progress.is_good(used), matches!(*progress, Progress::Failed(_)))
            };
            match (good, failed) {
                (true, false) => return Ok(sender.subscribe()),
                (true, true) => return Err(Failure::Internal),
                (false, false) if used => return Err(Failure::FullScrapeBusy),
                (false, _) => {}
            }
        }
        // Its memory is given back before more is taken.
        *present = None;
        let (sender, share) = watch::channel(Progress::UnderWay);
        let (store, done) = (store.clone(), sender.clone());
        let make = move || {
            let begin = sweep::processor_time();
            let entries = order(&store);
            let making = Making::since(begin);
            done.send_replace(match entries {
                Ok(entries) => Progress::Done(Snapshot { entries, making }),
                Err(error) => {
                    tracing::warn!("no full scrape: no memory for the order of its torrents: {error}");
                    Progress::Failed(making)
                }
            });
        };
        thread::Builder::new().name("snapshot".into()).spawn(make).map_err(|error| {
            tracing::warn!("no full scrape: cannot start a thread that sorts its torrents: {error}");
            Failure::Internal
        })?;
        *present = Some(sender);
        Ok(share)
    }

    /// Gives the memory back when the snapshot can be of no more use.
    pub fn release(&self) {
        let mut present = self.present();
        if present.as_ref().is_some_and(|sender| sender.receiver_count() == 0 && !sender.borrow().is_good(false)) {
            *present = None;
        }
    }

    /// Whether there is one in memory.
    #[cfg(test)]
    pub(in crate::http) fn is_held(&self) -> bool {
        self.present().is_some()
    }

    fn present(&self) -> MutexGuard<'_, Option<watch::Sender<Progress>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// The memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

/// All torrents in order: some 0.2 s of processor time for a million.
fn order(store: &Store) -> Result<Vec<Entry>, TryReserveError> {
    let mut entries = Vec::new();
    entries.try_reserve_exact(store.pools().swarms.used() as usize + SLACK)?;
    let mut from = 0;
    while let Some(swarm) = index::next(|number| store.bucket(number), from, u32::MAX) {
        from = swarm.id.number() + 1;
        if let Some(info_hash) = torrent(swarm.record) {
            if entries.len() == entries.capacity() {
                entries.try_reserve_exact(entries.len() / 8 + SLACK)?;
            }
            entries.push(Entry { info_hash, swarm: swarm.id });
        }
    }
    entries.sort_unstable();
    // A torrent may have been removed and have come again behind the place that was being looked at.
    entries.dedup_by_key(|entry| entry.info_hash);
    Ok(entries)
}

/// The torrent of a record; `None` if the record is free.
///
/// This looks at no lock. If the record passes to another torrent just now, what is read belongs to
/// neither, and the caller finds no such torrent.
#[must_use]
pub fn torrent(swarm: &Swarm) -> Option<InfoHash> {
    (swarm.active.load() & SWARM_ALIVE != 0).then(|| swarm.info_hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_them_never_takes_more_than_a_twentieth_of_a_core() {
        // (seconds that it took, whether a client is being sent it, seconds that it is good)
        for (took, used, seconds) in
            [(0.2, false, 4.0), (0.2, true, 60.0), (3.0, false, 60.0), (5.0, false, 100.0), (5.0, true, 100.0)]
        {
            let took = Duration::from_secs_f64(took);
            let good = Making { done: Instant::now(), took }.good_for(used);
            assert_eq!(good.as_secs_f64(), seconds, "{took:?}, used: {used}");
            assert!(good >= took * 20, "{took:?}");
        }
    }

    #[test]
    fn one_that_failed_is_not_tried_again_at_once() {
        let took = |seconds| Making { done: Instant::now(), took: Duration::from_secs(seconds) };
        for (progress, early) in
            [(Progress::UnderWay, true), (Progress::Failed(took(5)), true), (Progress::Failed(took(0)), false)]
        {
            assert_eq!(progress.is_good(true), early);
        }
    }
}
