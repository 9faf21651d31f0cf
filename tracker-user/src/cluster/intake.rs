//! What of other nodes' messages is taken: not what is foreign, not what is about others' shards, and
//! not more in a second than the operator wants to spend processor time on.

use super::{
    elsewhere::Elsewhere,
    figures::{Dropped, Meters, add},
    message::{self, Header, Wrong},
    piece,
};
use crate::store::Store;
use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Instant,
};
use tracker_common::{
    change::{Change, Kind},
    id::InfoHash,
};

/// Peers that have left while a snapshot is taken over: more are not remembered.
const LEFT: usize = 1 << 20;

/// Takes what others tell.
pub struct Intake {
    elsewhere: Elsewhere,
    meters: Arc<Meters>,
    shards: u64,
    budget: f64,
    left_of_budget: f64,
    filled: Instant,
    /// Hashes of who has left since the snapshot began that is being taken over, if one is.
    left: Option<HashSet<u64>>,
    hasher: RandomState,
}

impl Intake {
    /// Into a store, so many changes per second at most.
    #[must_use]
    pub fn new(store: &Arc<Store>, meters: &Arc<Meters>, shards: u64, budget: u32) -> Self {
        Self {
            elsewhere: Elsewhere::new(store),
            meters: meters.clone(),
            shards,
            budget: budget.into(),
            left_of_budget: budget.into(),
            filled: Instant::now(),
            left: None,
            hasher: RandomState::new(),
        }
    }

    /// Takes a message. Who has sent it, if it is one.
    pub fn message(&mut self, bytes: &[u8], now: Instant) -> Option<Header> {
        add(&self.meters.messages_received, 1);
        let (header, changes) = match message::parse(bytes) {
            Ok(read) => read,
            Err(wrong) => {
                let why = match wrong {
                    Wrong::Foreign => Dropped::Foreign,
                    Wrong::Version => Dropped::Version,
                    Wrong::Malformed => Dropped::Malformed,
                };
                self.meters.refuse(why, 1);
                return None;
            }
        };
        if self.shards >> header.shard & 1 == 0 {
            self.meters.refuse(Dropped::Shard, changes.len() as u64);
            return None;
        }
        self.changes(&changes, now);
        Some(header)
    }

    /// Takes changes. Returns how many were stored.
    pub fn changes(&mut self, changes: &[Change], now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left_of_budget = (self.left_of_budget + passed * self.budget).min(self.budget);
        let allowed = changes.len().min(self.left_of_budget as usize);
        self.left_of_budget -= allowed as f64;
        self.meters.refuse(Dropped::Budget, (changes.len() - allowed) as u64);
        self.elsewhere.look_at_clock();
        let mut stored = 0;
        for change in &changes[..allowed] {
            self.remember(change);
            match self.elsewhere.store(change) {
                Ok(()) => stored += 1,
                Err(why) => self.meters.refuse(why, 1),
            }
        }
        add(&self.meters.stored, stored);
        stored
    }

    /// A snapshot is going to be taken over: who leaves from now on is not to come back with it.
    pub fn begin_snapshot(&mut self) {
        self.left = Some(HashSet::new());
    }

    /// It is done.
    pub fn end_snapshot(&mut self) {
        self.left = None;
    }

    /// Keeps in mind who leaves, here or elsewhere, while a snapshot is taken over.
    pub fn remember(&mut self, change: &Change) {
        let Some(left) = &mut self.left else { return };
        let mut peer = Vec::with_capacity(18);
        message::append_peer(change, &mut peer);
        let hash = self.hasher.hash_one((&change.info_hash, peer));
        if change.kind != Kind::Left as u8 {
            left.remove(&hash);
        } else if left.len() < LEFT {
            left.insert(hash);
        }
    }

    /// Takes a piece of a snapshot.
    pub fn piece(&mut self, block: &crate::snapshot::columns::Block) {
        self.elsewhere.look_at_clock();
        let Self { elsewhere, left, hasher, shards, .. } = self;
        let has_left = |info_hash: &InfoHash, peer: &[u8]| {
            left.as_ref().is_some_and(|left| left.contains(&hasher.hash_one((info_hash, peer.to_vec()))))
        };
        let mut merged = 0;
        for (torrent, v4, v6) in piece::torrents(block) {
            if *shards >> message::shard_of(&torrent.info_hash) & 1 != 0 {
                merged += elsewhere.merge(torrent, &v4, &v6, &has_left);
            }
        }
        add(&self.meters.caught_up, merged);
    }
}

#[cfg(test)]
mod tests;
