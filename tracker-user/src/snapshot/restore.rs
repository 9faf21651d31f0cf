//! Puts torrents and peers of a snapshot into a store, as old as they are, by the store's ordinary
//! code, by a clock ([`Dated`]) that shows for each of them the minute of its last announce.
//!
//! Nothing of that is counted: counters tell of requests. For a store that answers nobody yet.

use super::{
    columns::{Block, Compact, State, Torrent},
    dated::{Counting, Dated},
};
use crate::store::{CounterSet, Handle, Store, sweep::Timeouts};
use std::{cell::Cell, sync::Arc};
use tracker_common::{
    admission::{self, blocklist},
    id::{InfoHash, SwarmId},
    outcome::{Counter, Event},
    platform::{Context, Platform as _},
    store::{
        family::{Family, V4, V6},
        hash::TorrentKey,
        index, journal,
        layout::{SWARM_ALIVE, SWARM_SETTLED},
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};

/// What became of a snapshot's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Torrents that are stored now.
    pub torrents: u64,
    /// Peers, likewise.
    pub peers: u64,
    /// What the store has of IPv4 and IPv6 peers more than before. Of one thread it may be less, in two's
    /// complement: it may evict what another one has stored.
    pub added: [u64; 2],
    /// Torrents that had been idle for too long, have no peer left and no download to count, or are
    /// refused by a list.
    pub torrents_expired: u64,
    /// Peers that were silent for too long, are blocked, or are those of a torrent that is refused.
    pub peers_expired: u64,
    /// Torrents there was no room for.
    pub torrents_refused: u64,
    /// Peers there was no room for; those of such torrents among them.
    pub peers_refused: u64,
}

impl Report {
    /// Adds what another thread has done.
    pub fn add(&mut self, other: &Self) {
        self.torrents += other.torrents;
        self.peers = self.peers.wrapping_add(other.peers);
        self.added = [0, 1].map(|family| self.added[family].wrapping_add(other.added[family]));
        self.torrents_expired += other.torrents_expired;
        self.peers_expired += other.peers_expired;
        self.torrents_refused += other.torrents_refused;
        self.peers_refused = self.peers_refused.wrapping_add(other.peers_refused);
    }
}

/// What decides what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// When peers and torrents expire.
    pub timeouts: Timeouts,
    /// Minutes since the snapshot. Peers have grown older by them; torrents have not, as nobody
    /// could ask for them.
    pub elapsed: u32,
    /// Whether peers are wanted.
    pub with_peers: bool,
}

/// Restores torrents, one thread's share of them.
pub struct Restorer {
    place: Dated<Counts>,
    rules: Rules,
    /// The store's minute.
    now: u32,
    /// Whether peers are stored as if they came now, and their age is set afterwards: where some may
    /// have to make room, by their ages.
    tight: bool,
    report: Report,
    /// Peers that are neither too old nor blocked, and those of them that were there already.
    wanted: u64,
    known: u64,
}

impl Restorer {
    /// For a store whose keys and clock are set.
    #[must_use]
    pub fn new(store: &Arc<Store>, rules: Rules) -> Self {
        let place = Dated::new(store.handle(CounterSet::Expiry), Counts::default());
        let (now, report) = (store.settings().minute.load(), Report::default());
        Self { place, rules, now, tight: false, report, wanted: 0, known: 0 }
    }

    /// What has been done.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.report;
        report.added = self.place.counting.added.each_ref().map(Cell::get);
        // A peer that found room by taking another one's place is one that found none.
        report.peers = report.added.iter().fold(self.known, |peers, added| peers.wrapping_add(*added));
        report.peers_refused = self.wanted.wrapping_sub(report.peers);
        report
    }

    /// Stores all of a block.
    pub fn block(&mut self, block: &Block) {
        for (torrent, [v4, v6]) in block.records() {
            self.torrent(torrent, block, v4, v6);
        }
    }

    fn torrent(&mut self, torrent: &Torrent, block: &Block, v4: (usize, usize), v6: (usize, usize)) {
        let peers = (v4.1 + v6.1) as u64;
        let young = if self.rules.with_peers {
            let v4 = block.v4.of::<V4>(v4.0, v4.1).filter(|peer| self.is_wanted::<V4>(peer)).count();
            let v6 = block.v6.of::<V6>(v6.0, v6.1).filter(|peer| self.is_wanted::<V6>(peer)).count();
            self.report.peers_expired += peers - (v4 + v6) as u64;
            (v4 + v6) as u64
        } else {
            0
        };
        let forgotten = torrent.completed == 0 || torrent.idle >= self.rules.timeouts.torrent_completed;
        if young == 0 && forgotten {
            self.report.torrents_expired += 1;
            return;
        }
        self.place.show(self.now.saturating_sub(torrent.idle));
        let Ok(cx) = Context::new(&self.place) else { return };
        // A list may be another one than when the snapshot was taken.
        if admission::check(&cx, &torrent.info_hash).is_err() {
            self.report.torrents_expired += 1;
            self.report.peers_expired += young;
            return;
        }
        let key = TorrentKey::new(cx.settings, &torrent.info_hash);
        let known = index::find(&cx, &key).is_some();
        let Ok(id) = index::create(&cx, &key) else {
            self.report.torrents_refused += 1;
            self.wanted += young;
            return;
        };
        self.report.torrents += u64::from(!known);
        if young > 0 {
            let v4 = block.v4.of::<V4>(v4.0, v4.1).filter(|peer| self.is_wanted::<V4>(peer));
            let known_v4 = v4.filter(|peer| self.is_known::<V4>(&torrent.info_hash, &key, peer)).count();
            let v6 = block.v6.of::<V6>(v6.0, v6.1).filter(|peer| self.is_wanted::<V6>(peer));
            let known_v6 = v6.filter(|peer| self.is_known::<V6>(&torrent.info_hash, &key, peer)).count();
            self.known += (known_v4 + known_v6) as u64;
            self.wanted += young;
        }
        self.place.finish(id, &key, torrent.completed, self.now.saturating_sub(torrent.idle));
    }

    /// For a store that is filled from another one of the same keys, where all have been admitted:
    /// without limits per address. `tight` if there may be no room for all.
    pub(super) fn copying(store: &Arc<Store>, tight: bool) -> Self {
        let timeouts = Timeouts { peer: u32::MAX, torrent: u32::MAX, torrent_completed: u32::MAX };
        let mut restorer = Self::new(store, Rules { timeouts, elapsed: 0, with_peers: true });
        restorer.tight = tight;
        restorer.place.settings.max_peers_per_address.store(0);
        restorer
    }

    /// Sets the minute that ages are relative to.
    pub(super) fn set_minute(&mut self, minute: u32) {
        self.now = minute;
    }

    /// What the store is reached by.
    pub(super) fn handle(&self) -> &Handle {
        &self.place.handle
    }

    /// The record of a torrent, a new one if there is none; `None` if there is no room for it.
    pub(super) fn record(&self, key: &TorrentKey) -> Option<SwarmId> {
        self.place.show(self.now);
        index::create(&Context::new(&self.place).ok()?, key).ok()
    }

    /// Sets what is known of a torrent besides its peers.
    pub(super) fn finish(&self, swarm: SwarmId, key: &TorrentKey, torrent: &Torrent) {
        self.place.finish(swarm, key, torrent.completed, self.now.saturating_sub(torrent.idle));
    }

    /// Removes a peer, whoever's it is, from its place in the store. The torrent does not look asked for
    /// by that. False if the peer was not there.
    pub(super) fn leave<F: Family>(&self, info_hash: &InfoHash, torrent: &TorrentKey, peer: F::Key) -> bool {
        let Ok(cx) = Context::new(&self.place) else { return false };
        let Some(swarm) = index::find(&cx, torrent) else { return false };
        self.place.show(swarm.record.active.load() & !(SWARM_ALIVE | SWARM_SETTLED));
        let before = self.place.counting.removed.get();
        let announce = Announce { info_hash, peer, seeder: true, event: PeerEvent::Stopped, owner: Owner::NONE };
        // It makes no torrent and no peer, so there is room for it.
        let _ = upsert::upsert::<_, F>(&cx, torrent, &announce);
        self.place.counting.removed.get() > before
    }

    /// Whether a peer is neither too old nor blocked.
    fn is_wanted<F: Family>(&self, (peer, state): &(F::Key, State)) -> bool {
        state.age + self.rules.elapsed < self.rules.timeouts.peer
            && blocklist::find(&self.place.handle.context(), F::ip(*peer)) == 0
    }

    /// Stores a peer. Whether it was there already.
    fn is_known<F: Family + Compact>(
        &self,
        info_hash: &InfoHash,
        torrent: &TorrentKey,
        peer: &(F::Key, State),
    ) -> bool {
        let came = &self.place.counting.came;
        let before = came.get();
        self.peer::<F>(info_hash, torrent, peer) && came.get() == before
    }

    /// Stores a peer; false if there is no room for it.
    pub(super) fn peer<F: Family + Compact>(
        &self,
        info_hash: &InfoHash,
        torrent: &TorrentKey,
        &(peer, state): &(F::Key, State),
    ) -> bool {
        let then = self.now.saturating_sub(state.age + self.rules.elapsed);
        self.place.show(if self.tight { self.now } else { then });
        let Ok(cx) = Context::new(&self.place) else { return false };
        let store = |seeder, event| {
            let announce = Announce { info_hash, peer, seeder, event, owner: Owner::NONE };
            upsert::upsert::<_, F>(&cx, torrent, &announce).is_ok_and(|swarm| swarm.is_some())
        };
        // A download counts once: the flag comes with the event, and stays with a peer that is a
        // leecher again.
        let event = if state.completed { PeerEvent::Completed } else { PeerEvent::None };
        let stored = store(state.completed || !state.leecher, event);
        if stored && self.tight {
            self.place.show(then);
            return store(!state.leecher, PeerEvent::None);
        }
        stored && (!state.completed || !state.leecher || store(false, PeerEvent::None))
    }
}

/// What is counted while peers are put into the store: what the report is made of.
#[derive(Default)]
struct Counts {
    came: Cell<u64>,
    removed: Cell<u64>,
    /// Peers that have come, less those that have gone, of IPv4 and of IPv6. Goes round.
    added: [Cell<u64>; 2],
}

impl Counting for Counts {
    const STOPS_ANYBODY: bool = true;

    fn count(&self, _handle: &Handle, counter: Counter, by: u64) {
        let add = |cell: &Cell<u64>, by: u64| cell.set(cell.get().wrapping_add(by));
        match counter {
            Counter::Event(event @ (Event::Peer4Added | Event::Peer6Added)) => {
                add(&self.came, by);
                add(&self.added[usize::from(event == Event::Peer6Added)], by);
            }
            Counter::Event(event @ (Event::Peer4Removed | Event::Peer6Removed)) => {
                add(&self.removed, by);
                add(&self.added[usize::from(event == Event::Peer6Removed)], by.wrapping_neg());
            }
            Counter::Event(_)
            | Counter::Reason(_)
            | Counter::Refreshed(_)
            | Counter::Blocked(_)
            | Counter::Replied(_) => {}
        }
    }
}

impl Dated<Counts> {
    /// Sets what the announces of peers have changed: the downloads counted, and the last announce.
    fn finish(&self, swarm: SwarmId, torrent: &TorrentKey, completed: u32, minute: u32) {
        let Some(record) = self.swarm(swarm) else { return };
        while self.acquire(&record.lock, journal::Place::Swarm(swarm)).is_err() {}
        if torrent.matches(record) {
            // The other bits of the word stay.
            record.completed.add(completed.wrapping_sub(record.completed()));
            record.active.store(SWARM_ALIVE | minute);
        }
        self.release(&record.lock);
    }
}
