//! What of other nodes' messages is taken: not what is foreign, not what is about others' shards, and
//! not more than the operator wants to spend processor time on.

use super::{
    budget::{Budget, processor_time},
    elsewhere::Elsewhere,
    figures::{Dropped, Meters, add},
    message::{self, Header, Wrong},
    piece,
};
use crate::{snapshot::columns::Block, store::Store};
use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
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
    budget: Budget,
    /// Of it, what was spent on messages and pieces since [`Intake::spend_rest_of`].
    spent: Duration,
    /// Time that this thread has had.
    processor_time: Box<dyn FnMut() -> Duration + Send>,
    /// Hashes of who has left since the snapshot began that is being taken over, if one is.
    left: Option<HashSet<u64>>,
    hasher: RandomState,
}

impl Intake {
    /// Into a store.
    #[must_use]
    pub fn new(store: &Arc<Store>, meters: &Arc<Meters>, shards: u64, budget: Budget) -> Self {
        Self {
            elsewhere: Elsewhere::new(store),
            meters: meters.clone(),
            shards,
            budget,
            spent: Duration::ZERO,
            processor_time: Box::new(processor_time),
            left: None,
            hasher: RandomState::new(),
        }
    }

    /// Takes a message, or drops it with no more than a glance at it. Who has sent it, if it is one.
    pub fn message(&mut self, bytes: &[u8], now: Instant) -> Option<Header> {
        add(&self.meters.messages_received, 1);
        if self.budget.has_room(now) { self.timed(|intake| intake.read(bytes, now)) } else { self.skip(bytes) }
    }

    /// Takes changes. Returns how many were stored.
    pub fn changes(&mut self, changes: &[Change], now: Instant) -> u64 {
        self.timed(|intake| intake.store(changes, now))
    }

    /// Whether there is time for a piece of a snapshot. It is waited for, nothing of it is left out.
    pub fn has_time(&mut self, now: Instant) -> bool {
        self.budget.has_time(now)
    }

    /// What else the thread has done for others, the client of NATS for one: since this was asked last, it
    /// has had so much time for all that.
    pub fn spend_rest_of(&mut self, all: Duration) {
        let rest = all.saturating_sub(std::mem::take(&mut self.spent));
        self.budget.spend(rest);
        add(&self.meters.taking, all.as_nanos() as u64);
    }

    /// How long nothing is to be done at all.
    pub fn rest(&mut self, now: Instant) -> Duration {
        self.budget.rest(now)
    }

    /// Does something at the cost of the budget.
    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let begin = (self.processor_time)();
        let done = work(self);
        let took = (self.processor_time)().saturating_sub(begin);
        self.budget.spend(took);
        self.spent += took;
        done
    }

    fn read(&mut self, bytes: &[u8], now: Instant) -> Option<Header> {
        let (header, changes) = self.counted(message::parse(bytes))?;
        if self.is_about_others(&header, changes.len()) {
            return None;
        }
        self.store(&changes, now);
        Some(header)
    }

    fn skip(&mut self, bytes: &[u8]) -> Option<Header> {
        let (header, changes) = self.counted(message::glance(bytes))?;
        if self.is_about_others(&header, changes) {
            return None;
        }
        self.meters.refuse(Dropped::Budget, changes as u64);
        Some(header)
    }

    /// Counts what is no message.
    fn counted<T>(&self, read: Result<T, Wrong>) -> Option<T> {
        let why = match read {
            Ok(read) => return Some(read),
            Err(Wrong::Foreign) => Dropped::Foreign,
            Err(Wrong::Version) => Dropped::Version,
            Err(Wrong::Malformed) => Dropped::Malformed,
        };
        self.meters.refuse(why, 1);
        None
    }

    /// Counts what is about others' shards.
    fn is_about_others(&self, header: &Header, changes: usize) -> bool {
        let others = self.shards >> header.shard & 1 == 0;
        if others {
            self.meters.refuse(Dropped::Shard, changes as u64);
        }
        others
    }

    fn store(&mut self, changes: &[Change], now: Instant) -> u64 {
        let allowed = self.budget.allow(changes.len(), now);
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
    pub fn piece(&mut self, block: &Block) {
        self.timed(|intake| intake.merge(block));
    }

    fn merge(&mut self, block: &Block) {
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
