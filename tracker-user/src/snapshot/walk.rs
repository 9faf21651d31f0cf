//! Reads the live store, torrent by torrent, while everybody goes on with it.
//!
//! Nothing is locked: what stands in a record or a partition is read as samples read it, and read
//! again if the lock's version is another one afterwards. Only where that fails again and again the
//! lock is taken, for as long as it takes to copy a few hundred peers.
//!
//! A torrent is as it was at one moment between the beginning and the end, and each partition of a
//! large swarm at one of its own. A peer that moves to another partition meanwhile may be read twice,
//! which does no harm; a partition that comes is read as well, and if one has gone the swarm is read
//! anew.

use super::columns::{COMPLETED_MAX, Compact, Peers, RECORD_PEERS, State, Torrent};
use super::write::Writer;
use crate::store::{CounterSet, Handle, Store, sweep::LONGEST_PEER_TIMEOUT};
use std::{
    io::{self, Write},
    sync::Arc,
};
use tracker_common::{
    id::{InfoHash, SwarmId},
    platform::{Platform as _, SwarmRef},
    store::{
        directory::{self, is_partition_of},
        family::{Family, V4, V6},
        hash::TorrentKey,
        index,
        journal::Place,
        layout::{SWARM_ALIVE, SWARM_SETTLED, Swarm},
        list::{List, chunks_for},
        lock::Lock,
        slot::{IDENTITY, OCCUPIED, Slot, Slots, age},
    },
};

/// How often something is read without its lock before the lock is taken.
const TRIES: u32 = 16;

/// How often a swarm is read anew whose partitions became fewer meanwhile.
const ANEW: u32 = 3;

/// Torrents after which the caller is asked whether to go on.
const STRIDE: u32 = 32;

/// A walk through a store.
pub struct Walk {
    handle: Handle,
    /// The store's minute at the beginning, which all ages are relative to.
    minute: u32,
    with_peers: bool,
    v4: Peers,
    v6: Peers,
}

/// Where the peers of a torrent are that are not in its record.
#[derive(Clone, Copy, Default)]
struct Partitioned {
    v4: bool,
    v6: bool,
}

impl Walk {
    /// A walk that takes peers as well, or only the counts.
    #[must_use]
    pub fn new(store: &Arc<Store>, with_peers: bool) -> Self {
        // It counts nothing.
        let handle = store.handle(CounterSet::Expiry);
        let minute = store.settings().minute.load();
        Self { handle, minute, with_peers, v4: Peers::default(), v6: Peers::default() }
    }

    /// Writes all torrents that are worth it: with downloads completed, or with peers if these are
    /// taken. After some work `go_on` is asked; false if it has said no.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn run<W: Write>(&mut self, writer: &mut Writer<W>, go_on: &mut impl FnMut() -> bool) -> io::Result<bool> {
        let store = self.handle.store().clone();
        let (mut from, mut torrents) = (0, 0_u32);
        while let Some(swarm) = index::next(|number| store.bucket(number), from, u32::MAX) {
            // Pages without torrents are work, too.
            let pages = swarm.id.place().0 - SwarmId::new(from).place().0;
            from = swarm.id.number() + 1;
            torrents += 1 + pages / 8;
            if torrents >= STRIDE {
                torrents = 0;
                if !go_on() {
                    return Ok(false);
                }
            }
            let Some((torrent, partitioned)) = self.record(swarm) else { continue };
            let any = partitioned.v4 || partitioned.v6 || !self.v4.is_empty() || !self.v6.is_empty();
            if torrent.completed == 0 && !any {
                continue;
            }
            let none = Peers::default();
            let mut full = |v4: &Peers, v6: &Peers| {
                writer.add(&torrent, v4, v6)?;
                Ok(go_on())
            };
            let whole = (!partitioned.v4 || self.partitions::<V4>(swarm, RECORD_PEERS, &mut |v4| full(v4, &none))?)
                && (!partitioned.v6 || self.partitions::<V6>(swarm, RECORD_PEERS, &mut |v6| full(&none, v6))?);
            if !whole {
                return Ok(false);
            }
            writer.add(&torrent, &self.v4, &self.v6)?;
        }
        Ok(true)
    }

    /// Calls `take` with the IPv4 addresses of all peers, those of a few thousand at a time. After some
    /// work `rest` is called.
    pub fn addresses(&mut self, take: &mut impl FnMut([u8; 4]), rest: &mut impl FnMut()) {
        fn all(peers: &Peers, take: &mut impl FnMut([u8; 4])) {
            for (key, _) in peers.of::<V4>(0, peers.len()) {
                let [a, b, c, d, ..] = key.to_le_bytes();
                take([a, b, c, d]);
            }
        }
        let store = self.handle.store().clone();
        let (mut from, mut torrents) = (0, 0_u32);
        while let Some(swarm) = index::next(|number| store.bucket(number), from, u32::MAX) {
            torrents += 1 + (swarm.id.place().0 - SwarmId::new(from).place().0) / 8;
            from = swarm.id.number() + 1;
            if torrents >= STRIDE {
                torrents = 0;
                rest();
            }
            let Some((_, partitioned)) = self.record(swarm) else { continue };
            let mut full = |peers: &Peers| {
                all(peers, take);
                rest();
                Ok(true)
            };
            // Nothing is written, so nothing fails.
            let _ = partitioned.v4 && self.partitions::<V4>(swarm, RECORD_PEERS, &mut full).is_err();
            all(&self.v4, take);
        }
    }

    /// Reads with a version of the lock until it still holds afterwards, or with the lock held.
    pub fn consistent<T>(handle: &Handle, (lock, place): (&Lock, Place), mut read: impl FnMut() -> T) -> T {
        for tries in 0..TRIES {
            if let Some(version) = lock.version() {
                let value = read();
                if version.still_holds() {
                    return value;
                }
            }
            handle.pause(tries + 1);
        }
        while handle.acquire(lock, place).is_err() {}
        let value = read();
        handle.release(lock);
        value
    }

    /// The torrent of a record, and into `v4` and `v6` the peers that the record has or names.
    /// `None` if it has none (any more).
    fn record(&mut self, swarm: SwarmRef<'_>) -> Option<(Torrent, Partitioned)> {
        let Self { handle, minute, with_peers, v4, v6 } = self;
        let record = swarm.record;
        Self::consistent(handle, (&record.lock, Place::Swarm(swarm.id)), || {
            v4.clear();
            v6.clear();
            let active = record.active.load();
            if active & SWARM_ALIVE == 0 {
                return None;
            }
            let torrent = Torrent {
                info_hash: record.info_hash(),
                completed: record.completed().min(COMPLETED_MAX),
                // An announce may have come since the beginning.
                idle: minute.saturating_sub(active & !(SWARM_ALIVE | SWARM_SETTLED)),
            };
            let partitioned = if *with_peers {
                Partitioned {
                    v4: in_record::<V4>(handle, record, *minute, v4),
                    v6: in_record::<V6>(handle, record, *minute, v6),
                }
            } else {
                Partitioned::default()
            };
            Some((torrent, partitioned))
        })
    }

    fn peers<F: Family>(&mut self) -> &mut Peers {
        match F::VERSION {
            tracker_common::outcome::IpVersion::V4 => &mut self.v4,
            tracker_common::outcome::IpVersion::V6 => &mut self.v6,
        }
    }

    /// Begins anew: ages are relative to this minute from now on.
    pub fn set_minute(&mut self, minute: u32) {
        self.minute = minute;
    }

    /// What the walk works with.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A torrent with all its peers, however many they are. A peer that moves meanwhile may be there
    /// twice. `None` if the record has no torrent (any more).
    pub fn whole(&mut self, swarm: SwarmRef<'_>) -> Option<(Torrent, &Peers, &Peers)> {
        let (torrent, partitioned) = self.record(swarm)?;
        let mut never = |_: &Peers| Ok(true);
        // Nothing is written, so nothing fails.
        let _ = partitioned.v4 && self.partitions::<V4>(swarm, usize::MAX, &mut never).is_err();
        let _ = partitioned.v6 && self.partitions::<V6>(swarm, usize::MAX, &mut never).is_err();
        Some((torrent, &self.v4, &self.v6))
    }

    /// The same of a torrent that is looked for first.
    pub fn whole_of(&mut self, torrent: &TorrentKey) -> Option<(Torrent, &Peers, &Peers)> {
        let store = self.handle.store().clone();
        let number = index::find(&self.handle.context(), torrent)?.id.number();
        self.whole(index::next(|number| store.bucket(number), number, number + 1)?)
    }

    /// How many peers of a torrent have announced within so many minutes, as far as minutes tell.
    pub fn announced_within(&mut self, info_hash: &InfoHash, minutes: u32) -> u32 {
        self.minute = self.handle.store().settings().minute.load();
        let torrent = TorrentKey::new(self.handle.store().settings(), info_hash);
        let announced =
            self.whole_of(&torrent).map(|(_, v4, v6)| [v4, v6].map(|peers| peers.announced_within(minutes)));
        announced.map_or(0, |[v4, v6]| v4 + v6)
    }

    /// Reads the partitions of a swarm. Whenever there are so many peers, `full` takes them, and says
    /// whether to go on. False if it is not to.
    fn partitions<F: Family + Compact>(
        &mut self,
        swarm: SwarmRef<'_>,
        limit: usize,
        full: &mut impl FnMut(&Peers) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let count = || F::partitions(swarm.record).unwrap_or(0);
        let (mut index, mut most, mut anew) = (0, 0, 0);
        while index < count() {
            let now = count();
            if now < most && anew < ANEW {
                // Peers of those that have gone may be where it has been.
                (index, anew) = (0, anew + 1);
            }
            most = now;
            self.partition::<F>(swarm, index, now);
            index += 1;
            if self.peers::<F>().len() >= limit {
                let peers = std::mem::take(self.peers::<F>());
                if !full(&peers)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Appends the peers of a partition.
    fn partition<F: Family + Compact>(&mut self, swarm: SwarmRef<'_>, index: u32, count: u32) {
        let minute = self.minute;
        let mut peers = std::mem::take(self.peers::<F>());
        let before = peers.len();
        let handle = &self.handle;
        // While a directory is changed it may lead astray for a moment.
        for tries in 1..=TRIES {
            let id = directory::find::<_, F>(handle, swarm.record, index, count);
            let partition = id.and_then(|id| handle.partition(id));
            let found = id.zip(partition).is_some_and(|(id, partition)| {
                Self::consistent(handle, (&partition.lock, Place::Partition(id)), || {
                    peers.truncate::<F>(before);
                    let found = is_partition_of::<F>(partition, swarm.id, index);
                    if found {
                        in_list::<F, _>(handle, partition, minute, &mut peers);
                    }
                    found
                })
            });
            if found || F::partitions(swarm.record).is_none_or(|now| index >= now) {
                break;
            }
            handle.pause(tries);
        }
        *self.peers::<F>() = peers;
    }
}

/// Appends the peers that a record has or names. True if they are in partitions.
fn in_record<F: Family + Compact>(handle: &Handle, record: &Swarm, minute: u32, peers: &mut Peers) -> bool {
    match F::directory(record) {
        None => {
            in_slots::<F>(F::record(record), F::RECORD_SLOTS, minute, peers);
            false
        }
        Some(header) if header.is_list() => {
            in_list::<F, _>(handle, record, minute, peers);
            false
        }
        Some(_) => true,
    }
}

fn in_list<F: Family + Compact, L: List<F>>(handle: &Handle, list: &L, minute: u32, peers: &mut Peers) {
    let count = list.peers();
    for index in 0..chunks_for::<F>(count).min(L::CHUNKS) {
        let slots = list.chunk_id(index).and_then(|id| F::chunk(handle, id));
        let here = (count - index * F::CHUNK_SLOTS).min(F::CHUNK_SLOTS) as usize;
        if let Some(slots) = slots {
            in_slots::<F>(slots, here, minute, peers);
        }
    }
}

fn in_slots<F: Family + Compact>(slots: Slots<'_, F>, count: usize, minute: u32, peers: &mut Peers) {
    for number in 0..count {
        if let Some((key, flags)) = peer(slots.slot(number)) {
            let age = age(flags, minute);
            // It has announced since the beginning.
            let age = if age > LONGEST_PEER_TIMEOUT { 0 } else { age };
            peers.push::<F>(key, State::of_flags(flags, age));
        }
    }
}

/// The peer in a slot, all of it or none: an IPv6 peer is three words.
fn peer<F: Family>(slot: Slot<'_, F>) -> Option<(F::Key, u64)> {
    loop {
        let flags = slot.flags();
        if flags & OCCUPIED == 0 {
            return None;
        }
        let key = slot.key();
        tracker_common::word::loads_done();
        if (slot.flags() ^ flags) & (IDENTITY | OCCUPIED) == 0 {
            return Some((key, flags));
        }
    }
}
