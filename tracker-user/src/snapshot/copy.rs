//! One store into another of other sizes, while XDP programs go on with the old one.
//!
//! Both have the same keys. A pass makes each torrent in the new store what it is in the old one:
//! what is there is compared with what should be, peer by peer, so a pass over what has not changed
//! costs little more than reading it. The next one looks only at torrents that somebody has asked for
//! since the one before began. After a pass during which nobody has changed the old store, the new
//! one has the same torrents, peers, ages and counts, as far as there is room.

use super::{
    columns::{Compact, Peers, State, Torrent},
    restore::Restorer,
    walk::Walk,
};
use crate::store::Store;
use std::{collections::HashMap, hash::Hash, sync::Arc};
use tracker_common::{
    admission::table,
    store::{
        family::{Family, V4, V6},
        hash::TorrentKey,
        index,
        layout::{SWARM_ALIVE, SWARM_SETTLED},
    },
};

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Torrents.
    pub torrents: u64,
    /// Peers of both families.
    pub peers: u64,
}

/// Copies one store into another.
pub struct Copier {
    old: Walk,
    new: Walk,
    into: Restorer,
    /// What was active from this minute on may not have been copied yet.
    since: u32,
}

impl Copier {
    /// From `old` to `new`, whose keys are the same and which nobody else uses yet. `tight` if there
    /// may not be room for all.
    #[must_use]
    pub fn new(old: &Arc<Store>, new: &Arc<Store>, tight: bool) -> Self {
        let into = Restorer::copying(new, tight);
        Self { old: Walk::new(old, true), new: Walk::new(new, true), into, since: 0 }
    }

    /// Copies what may have changed since the pass before; at first all.
    pub fn pass(&mut self) {
        let from = self.begin();
        self.each(from, |this, torrent, v4, v6| this.make_equal(torrent, v4, v6));
    }

    /// Adds to the new store, which is in use by now, what it lacks and the old one has, which is not
    /// in use any more. What has gone from the old one since the last pass stays.
    pub fn add_missing(&mut self) {
        let from = self.begin();
        self.each(from, |this, torrent, v4, v6| this.add(torrent, v4, v6));
    }

    /// Removes from the new store the torrents that the old one no longer has.
    pub fn remove_missing(&mut self) {
        let store = self.new.handle().store().clone();
        let mut from = 0;
        while let Some(swarm) = index::next(|number| store.bucket(number), from, u32::MAX) {
            from = swarm.id.number() + 1;
            if swarm.record.active.load() & SWARM_ALIVE == 0 {
                continue;
            }
            let info_hash = swarm.record.info_hash();
            let handle = self.old.handle();
            let key = TorrentKey::new(handle.store().settings(), &info_hash);
            if index::find(&handle.context(), &key).is_none() {
                let nobody = Peers::default();
                self.make_equal(&Torrent { info_hash, completed: 0, idle: 0 }, &nobody, &nobody);
            }
        }
    }

    /// How much the two hold.
    #[must_use]
    pub fn held(&self) -> [Held; 2] {
        [&self.old, &self.new].map(|walk| {
            let store = walk.handle().store();
            let (mut held, mut from) = (Held::default(), 0);
            while let Some(swarm) = index::next(|number| store.bucket(number), from, u32::MAX) {
                from = swarm.id.number() + 1;
                let counts = swarm.record.counts();
                held.torrents += 1;
                held.peers += u64::from(counts.seeders) + u64::from(counts.leechers);
            }
            held
        })
    }

    /// Sets the minute of a pass, and returns from which minute on torrents are to be looked at.
    fn begin(&mut self) -> u32 {
        let minute = self.old.handle().store().settings().minute.load();
        for walk in [&mut self.old, &mut self.new] {
            walk.set_minute(minute);
        }
        self.into.set_minute(minute);
        // Whoever has read the clock just before may write the minute before that.
        std::mem::replace(&mut self.since, minute.saturating_sub(1))
    }

    fn each(&mut self, since: u32, mut take: impl FnMut(&mut Self, &Torrent, &Peers, &Peers)) {
        let store = self.old.handle().store().clone();
        let mut from = 0;
        while let Some(swarm) = index::next(|number| store.bucket(number), from, u32::MAX) {
            from = swarm.id.number() + 1;
            if swarm.record.active.load() & !(SWARM_ALIVE | SWARM_SETTLED) < since {
                continue;
            }
            let Some((torrent, v4, v6)) = self.old.whole(swarm) else { continue };
            let (v4, v6) = (v4.clone(), v6.clone());
            take(self, &torrent, &v4, &v6);
        }
    }

    /// Makes a torrent in the new store what it is in the old one.
    fn make_equal(&mut self, torrent: &Torrent, v4: &Peers, v6: &Peers) {
        let key = TorrentKey::new(self.into.handle().store().settings(), &torrent.info_hash);
        let (there_v4, there_v6) = match self.new.whole_of(&key) {
            Some((_, v4, v6)) => (v4.clone(), v6.clone()),
            None if torrent.completed == 0 && v4.is_empty() && v6.is_empty() => return,
            None => Default::default(),
        };
        let Some(id) = self.into.record(&key) else { return };
        self.family::<V4>(torrent, &key, v4, &there_v4);
        self.family::<V6>(torrent, &key, v6, &there_v6);
        self.into.finish(id, &key, torrent);
    }

    fn family<F: Family + Compact>(&self, torrent: &Torrent, key: &TorrentKey, wanted: &Peers, there: &Peers)
    where
        F::Key: Eq + Hash,
    {
        let mut there: HashMap<F::Key, State> = there.of::<F>(0, there.len()).collect();
        let mut store: Vec<(F::Key, State)> = Vec::new();
        for (peer, state) in wanted.of::<F>(0, wanted.len()) {
            match there.remove(&peer) {
                Some(known) if known == state => {}
                Some(known) => {
                    // Its flags came about in another way.
                    if (known.leecher, known.completed) != (state.leecher, state.completed) {
                        self.into.leave::<F>(&torrent.info_hash, key, peer);
                    }
                    store.push((peer, state));
                }
                None => store.push((peer, state)),
            }
        }
        // First who leaves, so that there is room.
        for peer in there.into_keys() {
            self.into.leave::<F>(&torrent.info_hash, key, peer);
        }
        for peer in &store {
            self.into.peer::<F>(&torrent.info_hash, key, peer);
        }
    }

    /// Adds to a torrent in the new store what it lacks.
    fn add(&mut self, torrent: &Torrent, v4: &Peers, v6: &Peers) {
        let key = TorrentKey::new(self.into.handle().store().settings(), &torrent.info_hash);
        let (mut sum, there_v4, there_v6) = match self.new.whole_of(&key) {
            Some((there, v4, v6)) => (there, v4.clone(), v6.clone()),
            None if torrent.completed == 0 && v4.is_empty() && v6.is_empty() => return,
            None => (*torrent, Peers::default(), Peers::default()),
        };
        let Some(id) = self.into.record(&key) else { return };
        self.add_family::<V4>(torrent, &key, v4, &there_v4);
        self.add_family::<V6>(torrent, &key, v6, &there_v6);
        sum.completed = sum.completed.max(torrent.completed);
        sum.idle = sum.idle.min(torrent.idle);
        self.into.finish(id, &key, &sum);
    }

    fn add_family<F: Family + Compact>(&self, torrent: &Torrent, key: &TorrentKey, wanted: &Peers, there: &Peers)
    where
        F::Key: Eq + Hash,
    {
        let there: HashMap<F::Key, State> = there.of::<F>(0, there.len()).collect();
        for peer in wanted.of::<F>(0, wanted.len()).filter(|(peer, _)| !there.contains_key(peer)) {
            self.into.peer::<F>(&torrent.info_hash, key, &peer);
        }
    }
}

/// Copies the table of listed torrents. False if some have no room.
pub fn lists(old: &Store, new: &Store) -> bool {
    let count = new.sizes().access_buckets;
    let mut fits = true;
    for bucket in (0..old.sizes().access_buckets).filter_map(|number| old.access_bucket(number)) {
        for fingerprint in bucket.fingerprints() {
            fits &= table::insert(|number| new.access_bucket(number), count, fingerprint);
        }
    }
    fits
}
