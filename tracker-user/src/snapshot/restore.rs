//! Puts torrents and peers of a snapshot into a store, as old as they are, by the store's ordinary
//! code: a [`Platform`] whose clock shows for each of them the minute of its last announce.
//!
//! Nothing of that is counted: counters tell of requests. For a store that answers nobody yet.

use super::columns::{Block, Compact, State, Torrent};
use crate::store::{CounterSet, Handle, Store, sweep::Timeouts};
use std::{cell::Cell, sync::Arc};
use tracker_common::{
    admission::table::AccessBucket,
    id::{ChunkId, InfoHash, PartitionId, SwarmId},
    outcome::{Counter, Event, StoreError},
    platform::{ColdPath, Context, Platform, Step},
    scratch::Scratch,
    settings::Settings,
    store::{
        cold,
        family::{Family, V4, V6},
        hash::TorrentKey,
        index,
        journal::{self, Journal},
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools, SWARM_ALIVE},
        membership::{Announce, PeerEvent},
        upsert,
    },
    word::Word,
};

/// What became of a snapshot's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Torrents that are stored now.
    pub torrents: u64,
    /// Peers, likewise.
    pub peers: u64,
    /// Torrents that had been idle for too long, or have no peer left and no download to count.
    pub torrents_expired: u64,
    /// Peers that were silent for too long.
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
        self.peers += other.peers;
        self.torrents_expired += other.torrents_expired;
        self.peers_expired += other.peers_expired;
        self.torrents_refused += other.torrents_refused;
        self.peers_refused += other.peers_refused;
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
    place: Place,
    rules: Rules,
    /// The store's minute.
    now: u32,
    report: Report,
}

impl Restorer {
    /// For a store whose keys and clock are set.
    #[must_use]
    pub fn new(store: &Arc<Store>, rules: Rules) -> Self {
        let place = Place::new(store.handle(CounterSet::Expiry));
        Self { place, rules, now: store.settings().minute.load(), report: Report::default() }
    }

    /// What has been done.
    #[must_use]
    pub fn report(&self) -> Report {
        let evicted = self.place.evicted.get();
        let mut report = self.report;
        // A peer that found room by taking another one's place is one that found none.
        report.peers = report.peers.saturating_sub(evicted);
        report.peers_refused += evicted;
        report
    }

    /// Stores all of a block.
    pub fn block(&mut self, block: &Block) {
        for (torrent, [v4, v6]) in block.records() {
            self.torrent(torrent, block, v4, v6);
        }
    }

    fn torrent(&mut self, torrent: &Torrent, block: &Block, v4: (usize, usize), v6: (usize, usize)) {
        let is_young = |state: &State| state.age + self.rules.elapsed < self.rules.timeouts.peer;
        let peers = (v4.1 + v6.1) as u64;
        let young = if self.rules.with_peers {
            let v4 = block.v4.of::<V4>(v4.0, v4.1).filter(|(_, state)| is_young(state)).count();
            let v6 = block.v6.of::<V6>(v6.0, v6.1).filter(|(_, state)| is_young(state)).count();
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
        let key = TorrentKey::new(cx.settings, &torrent.info_hash);
        let known = index::find(&cx, &key).is_some();
        let Ok(id) = index::create(&cx, &key) else {
            self.report.torrents_refused += 1;
            self.report.peers_refused += young;
            return;
        };
        self.report.torrents += u64::from(!known);
        if young > 0 {
            let v4 = block.v4.of::<V4>(v4.0, v4.1).filter(|(_, state)| is_young(state));
            let stored_v4 = v4.filter(|peer| self.peer::<V4>(&torrent.info_hash, &key, peer)).count();
            let v6 = block.v6.of::<V6>(v6.0, v6.1).filter(|(_, state)| is_young(state));
            let stored_v6 = v6.filter(|peer| self.peer::<V6>(&torrent.info_hash, &key, peer)).count();
            let stored = (stored_v4 + stored_v6) as u64;
            self.report.peers += stored;
            self.report.peers_refused += young - stored;
        }
        self.place.finish(id, &key, torrent.completed, self.now.saturating_sub(torrent.idle));
    }

    /// Stores a peer; false if there is no room for it.
    fn peer<F: Family + Compact>(
        &self,
        info_hash: &InfoHash,
        torrent: &TorrentKey,
        &(peer, state): &(F::Key, State),
    ) -> bool {
        self.place.show(self.now.saturating_sub(state.age + self.rules.elapsed));
        let Ok(cx) = Context::new(&self.place) else { return false };
        let store = |seeder, event| {
            let announce = Announce { info_hash, peer, seeder, event };
            upsert::upsert::<_, F>(&cx, torrent, &announce).is_ok_and(|swarm| swarm.is_some())
        };
        // A download counts once: the flag comes with the event, and stays with a peer that is a
        // leecher again.
        let event = if state.completed { PeerEvent::Completed } else { PeerEvent::None };
        let stored = store(state.completed || !state.leecher, event);
        stored && (!state.completed || !state.leecher || store(false, PeerEvent::None))
    }
}

/// Words of the settings.
const SETTINGS_WORDS: usize = size_of::<Settings>() / size_of::<Word>();

/// A thread's access to the store, with a clock of its own.
struct Place {
    handle: Handle,
    /// Those of the store, but for the minute.
    settings: Box<Settings>,
    evicted: Cell<u64>,
}

impl Place {
    fn new(handle: Handle) -> Self {
        let settings = Box::<Settings>::default();
        copy(handle.store().settings(), &settings);
        Self { handle, settings, evicted: Cell::new(0) }
    }

    /// Sets its clock.
    fn show(&self, minute: u32) {
        self.settings.minute.store(minute);
    }

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

/// Copies all words.
fn copy(from: &Settings, to: &Settings) {
    fn words(settings: &Settings) -> &[Word; SETTINGS_WORDS] {
        // SAFETY: a record of nothing but words, of which any value is valid, as its documentation
        // says; its size is a multiple of that of a word and its alignment that of one, since it
        // has fields of that type. Each is read and written as one.
        unsafe { &*std::ptr::from_ref(settings).cast() }
    }
    for (from, to) in words(from).iter().zip(words(to)) {
        to.store(from.load());
    }
}

impl Platform for Place {
    const SPIN_LIMIT: Option<u32> = Handle::SPIN_LIMIT;

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn scratch(&self) -> Option<&Scratch> {
        self.handle.scratch()
    }

    fn pools(&self) -> Option<&Pools> {
        self.handle.pools()
    }

    fn bucket(&self, number: u32) -> Option<&Bucket> {
        self.handle.bucket(number)
    }

    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.handle.partition(id)
    }

    fn chunk_v4(&self, id: ChunkId) -> Option<&ChunkV4> {
        self.handle.chunk_v4(id)
    }

    fn chunk_v6(&self, id: ChunkId) -> Option<&ChunkV6> {
        self.handle.chunk_v6(id)
    }

    fn access_bucket(&self, number: u32) -> Option<&AccessBucket> {
        self.handle.access_bucket(number)
    }

    fn journal(&self) -> Option<&Journal> {
        self.handle.journal()
    }

    fn random(&self, scratch: &Scratch) -> u32 {
        self.handle.random(scratch)
    }

    fn count(&self, counter: Counter, by: u64) {
        if counter == Counter::Event(Event::Evicted) {
            self.evicted.set(self.evicted.get() + by);
        }
    }

    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S) {
        for turn in 0..turns {
            if !body.step(self, turn) {
                break;
            }
        }
    }

    fn pause(&self, tries: u32) {
        self.handle.pause(tries);
    }

    // One copy of it, and not one wherever it may be needed: half of the time that this takes to
    // compile.
    #[inline(never)]
    fn run_cold(&self, work: ColdPath) -> Result<u32, StoreError> {
        cold::run(work, self)
    }
}
