//! Stores what other trackers tell, by the store's ordinary code: a platform ([`Dated`]) that tells nobody
//! of it, and whose clock shows the minute of each peer's last announce. So such a peer expires, counts
//! and is given like any other, and has the limits of any other.

use super::{figures::Dropped, known, message::peer_of};
use crate::{
    snapshot::{
        columns::{Compact, Peers, State, Torrent},
        dated::{Counting, Dated},
        walk::Walk,
    },
    store::{CounterSet, Handle, Store},
};
use std::{collections::HashMap, hash::Hash, sync::Arc};
use tracker_common::{
    admission::{self, blocklist},
    change::{Change, Kind},
    id::InfoHash,
    outcome::Counter,
    platform::{Context, Platform as _},
    store::{
        family::{Family, V4, V6},
        hash::TorrentKey,
        index, journal,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};

/// A thread's access to the store for what other trackers tell.
pub struct Elsewhere {
    place: Dated<Counts>,
    walk: Walk,
}

impl Elsewhere {
    /// For a store.
    #[must_use]
    pub fn new(store: &Arc<Store>) -> Self {
        Self { place: Dated::new(store.handle(CounterSet::Cluster), Counts), walk: Walk::new(store, true) }
    }

    /// Takes over what has become of settings and clock.
    pub fn look_at_clock(&self) {
        self.place.look();
    }

    /// The present minute.
    fn now(&self) -> u32 {
        self.place.handle.store().settings().minute.load()
    }

    /// Stores a change that has just been told.
    ///
    /// # Errors
    /// Why it was not.
    pub fn store(&self, change: &Change) -> Result<(), Dropped> {
        if change.version == 6 {
            self.store_in::<V6>(change, change.peer)
        } else {
            self.store_in::<V4>(change, change.peer[0])
        }
    }

    fn store_in<F: Family>(&self, change: &Change, peer: F::Key) -> Result<(), Dropped> {
        if !is_usable(change) || blocklist::find(&self.place.handle.context(), F::ip(peer)) != 0 {
            return Err(Dropped::Address);
        }
        let kind = Kind::of_number(change.kind.into()).ok_or(Dropped::Malformed)?;
        let (seeder, event) = match kind {
            Kind::Leecher => (false, PeerEvent::None),
            Kind::Seeder => (true, PeerEvent::None),
            Kind::Completed => (true, PeerEvent::Completed),
            Kind::Left => (true, PeerEvent::Stopped),
        };
        let mut owner = Owner::of_number(change.owner.into());
        if owner == Owner::NONE && kind != Kind::Left {
            // Snapshots, older trackers and livesync name no owner: whoever it was stays it.
            let torrent = TorrentKey::new(&self.place.settings, &change.info_hash);
            owner = known::owner::<F>(&self.place.handle, &torrent, peer);
        }
        let cx = Context::new(&self.place).map_err(|_| Dropped::Refused)?;
        let announce = Announce { info_hash: &change.info_hash, peer, seeder, event, owner };
        upsert::announce::<_, F>(&cx, &announce).map_err(|_| Dropped::Refused).map(drop)
    }

    /// Adds what another node has of a torrent, in as far as that is newer than what is here. `left`
    /// says who has left meanwhile. Returns how many peers were stored or refreshed.
    pub fn merge(&mut self, torrent: &Torrent, v4: &Peers, v6: &Peers, left: &dyn Fn(&InfoHash, &[u8]) -> bool) -> u64 {
        let key = TorrentKey::new(&self.place.settings, &torrent.info_hash);
        // Ages on both sides are those of now.
        self.walk.set_minute(self.now());
        let (there_v4, there_v6) =
            self.walk.whole_of(&key).map(|(_, v4, v6)| (v4.clone(), v6.clone())).unwrap_or_default();
        let merged = self.merge_family::<V4>(torrent, v4, &there_v4, left)
            + self.merge_family::<V6>(torrent, v6, &there_v6, left);
        self.place.show(self.now());
        if torrent.completed > 0 {
            self.complete(&key, torrent);
        }
        merged
    }

    fn merge_family<F: Family + Compact>(
        &self,
        torrent: &Torrent,
        peers: &Peers,
        there: &Peers,
        left: &dyn Fn(&InfoHash, &[u8]) -> bool,
    ) -> u64
    where
        F::Key: Eq + Hash,
    {
        let there: HashMap<F::Key, State> = there.of::<F>(0, there.len()).collect();
        let (now, mut merged, mut bytes) = (self.now(), 0, Vec::new());
        for (peer, state) in peers.of::<F>(0, peers.len()) {
            if there.get(&peer).is_some_and(|known| known.age <= state.age) {
                continue;
            }
            bytes.clear();
            F::append(peer, &mut bytes);
            let change = Change {
                peer: peer_of(&bytes).unwrap_or_default(),
                version: if bytes.len() == 18 { 6 } else { 4 },
                info_hash: torrent.info_hash,
                // Whoever has completed it is counted in the torrent's number already.
                kind: if state.leecher { Kind::Leecher } else { Kind::Seeder } as u8,
                ..Change::default()
            };
            self.place.show(now.saturating_sub(state.age));
            if !left(&torrent.info_hash, &bytes) && self.store_in::<F>(&change, peer).is_ok() {
                merged += 1;
            }
        }
        merged
    }

    /// Sees to it that a torrent has at least so many downloads. One that is made for them alone is as
    /// idle as it was.
    fn complete(&self, key: &TorrentKey, torrent: &Torrent) {
        let Ok(cx) = Context::new(&self.place) else { return };
        if index::find(&cx, key).is_none() {
            self.place.show(self.now().saturating_sub(torrent.idle));
            let made = admission::check(&cx, &torrent.info_hash).is_ok() && index::create(&cx, key).is_ok();
            self.place.show(self.now());
            if !made {
                return;
            }
        }
        let Some(swarm) = index::find(&cx, key) else { return };
        while self.place.acquire(&swarm.record.lock, journal::Place::Swarm(swarm.id)).is_err() {}
        if key.matches(swarm.record) {
            swarm.record.completed.add(torrent.completed.saturating_sub(swarm.record.completed()));
        }
        self.place.release(&swarm.record.lock);
    }
}

/// Whether a client can have this address: as frames are looked at.
fn is_usable(change: &Change) -> bool {
    let [first, second, _] = change.peer;
    if change.version == 4 {
        let [a, ..] = first.to_le_bytes();
        return a != 0 && a != 127 && a < 224;
    }
    // Neither of groups, nor in ::/96, nor IPv4-mapped.
    first as u8 != 0xff && (first != 0 || !matches!(second as u32, 0 | 0xffff_0000))
}

/// When it was announced to another tracker is that one's figure.
struct Counts;

impl Counting for Counts {
    fn count(&self, handle: &Handle, counter: Counter, by: u64) {
        if !matches!(counter, Counter::Refreshed(_)) {
            handle.count(counter, by);
        }
    }
}

#[cfg(test)]
mod tests;
