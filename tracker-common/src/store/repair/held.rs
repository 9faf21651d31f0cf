//! What a repair is about, and the locks that it holds.

extern crate std;

use super::super::{
    directory,
    family::{Family, V4, V6},
    journal::{Journal, Place},
    lock::Lock,
};
use crate::{
    id::SwarmId,
    platform::{Context, Platform},
};
use std::vec::Vec;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Threads that had died in the middle of something.
    pub threads: u32,
    /// Locks that they held.
    pub locks: u32,
    /// Swarms that were put in order.
    pub swarms: u32,
    /// Allocated records, and numbers in the index, that cannot be told whether they were taken.
    pub in_doubt: u32,
}

/// The work, with what is held.
pub(super) struct Repair<'c, 'm, P> {
    pub(super) cx: &'c Context<'m, P>,
    pub(super) dead: Vec<&'c Journal>,
    pub(super) held: Vec<Place>,
    /// The swarms that each of the dead was working on, as far as they are still to be put in order.
    pub(super) unfinished: Vec<(&'c Journal, Vec<SwarmId>)>,
    pub(super) result: Repaired,
}

impl<'c, P: Platform> Repair<'c, '_, P> {
    pub(super) fn lock(&self, place: Place) -> Option<&'c Lock> {
        self.cx.platform.lock(place)
    }

    /// Takes the locks that the dead may hold.
    pub(super) fn hold_all(&mut self, mut wait: impl FnMut() -> bool) {
        let mut places = Vec::new();
        for place in self.dead.iter().flat_map(|journal| journal.locks()) {
            match place {
                Place::Whole(id) => {
                    places.push(Place::Swarm(id));
                    places.extend(self.partitions_of::<V4>(id));
                    places.extend(self.partitions_of::<V6>(id));
                }
                Place::Bucket(_) | Place::Swarm(_) | Place::Partition(_) => places.push(place),
            }
        }
        loop {
            places.retain(|place| {
                let known = self.held.contains(place);
                if !known && self.lock(*place).is_some_and(Lock::try_lock) {
                    self.held.push(*place);
                    return false;
                }
                !known && self.lock(*place).is_some()
            });
            if places.is_empty() || !wait() {
                break;
            }
        }
        // The same may be named twice, by the one that held it and one that waited for it.
        for place in places {
            if !self.held.contains(&place) {
                self.held.push(place);
                self.result.locks += 1;
            }
        }
    }

    pub(super) fn partitions_of<F: Family>(&self, swarm: SwarmId) -> Vec<Place> {
        let Some(swarm) = self.cx.swarm(swarm) else { return Vec::new() };
        let count = F::partitions(swarm.record).unwrap_or(0);
        let find = |index| directory::find::<P, F>(self.cx.platform, swarm.record, index, count);
        (0..count).filter_map(find).map(Place::Partition).collect()
    }

    /// Takes a lock if it is not held yet. True if it was not.
    pub(super) fn hold(&mut self, place: Place) -> bool {
        if self.held.contains(&place) {
            return false;
        }
        let Some(lock) = self.lock(place) else { return false };
        while self.cx.platform.try_long(lock).is_err() {}
        self.held.push(place);
        true
    }

    /// Does something with a lock held. Written down, so that it is not held for ever if this thread
    /// is killed meanwhile; and so is what is done to the list that it belongs to.
    pub(super) fn with<T>(&mut self, place: Place, what: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(own) = self.cx.platform.journal() {
            own.enter(place);
        }
        let taken = self.hold(place);
        let result = what(self);
        if taken {
            self.held.retain(|held| *held != place);
            self.let_go(place);
        }
        if let Some(own) = self.cx.platform.journal() {
            own.leave();
        }
        result
    }

    /// Lets go of a lock, with a new version.
    pub(super) fn let_go(&self, place: Place) {
        if let Some(lock) = self.lock(place) {
            lock.begin_change();
            lock.unlock();
        }
    }

    /// The swarms that a dead thread was working on: whoever makes room in one holds locks of another
    /// as well.
    pub(super) fn swarms_of(&self, journal: &Journal) -> Vec<SwarmId> {
        let owner = |id| SwarmId::from_stored(self.cx.platform.partition(id)?.owner.load());
        let of_partitions = journal.locks().filter_map(Place::partition).filter_map(owner);
        let mut swarms: Vec<_> = journal.locks().filter_map(Place::swarm).chain(of_partitions).collect();
        swarms.sort_unstable_by_key(|id| id.number());
        swarms.dedup();
        swarms
    }
}
