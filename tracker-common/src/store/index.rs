//! The swarm index: from info_hash to the number of its swarm record.
//!
//! A torrent's home bucket comes from a keyed multilinear hash (strongly universal, so nobody without the key can choose
//! info_hashes that meet). If the home is full the torrent goes to one of the next buckets, and every full bucket on the way
//! counts it in [`Bucket::passed`]: a search ends at the first bucket that nobody passed. In one bucket no two
//! words carry the same 32 bits of hash, so at most one record has to be looked at per bucket.
//!
//! Torrents are stored and removed with the lock of their home bucket held; searches take no lock and are confirmed by whoever
//! uses the result, with the lock of the swarm held ([`same`]).

use super::{
    allocator as pool,
    hash::scramble,
    layout::{Bucket, Counts, SWARM_ALIVE, Swarm},
};
use crate::{
    id::InfoHash,
    outcome::{Event, StoreError},
    platform::{Platform, Step, acquire},
    settings::Settings,
    word::opaque,
};

/// How many buckets, the home bucket included, a torrent may be in. With 4 torrents per bucket of 7 slots on average (see `Sizes`
/// in the daemon) the distance follows a geometric tail; at 16 no torrent of four million was left without a place.
pub const PROBES: u32 = 16;

/// Where a torrent is looked for.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Place {
    words: [u32; 5],
    home: u32,
    buckets: u32,
    tag: u32,
}

/// A torrent's swarm number, if it is stored.
#[inline(always)]
pub fn find_number<M: Platform>(memory: &M, info_hash: &InfoHash) -> Option<u32> {
    let settings = memory.settings()?;
    find(memory, &Place::new(settings, info_hash)).map(|(number, _)| number)
}

impl Place {
    /// Hashes an info_hash.
    #[inline(always)]
    #[must_use]
    pub fn new(settings: &Settings, info_hash: &InfoHash) -> Self {
        let mut words = [0_u32; 5];
        let keys = &settings.hash_keys;
        let mut home = keys[0].load();
        let mut tag = keys[6].load();
        for i in 0..5 {
            let at = i * 4;
            words[i] = u32::from_le_bytes([info_hash[at], info_hash[at + 1], info_hash[at + 2], info_hash[at + 3]]);
            home = home.wrapping_add(keys[1 + i].load().wrapping_mul(u64::from(words[i])));
            tag = tag.wrapping_add(keys[7 + i].load().wrapping_mul(u64::from(words[i])));
        }
        let buckets = settings.index_buckets.load();
        Self {
            words,
            home: ((u64::from(scramble(home)) * u64::from(buckets)) >> 32) as u32,
            buckets,
            tag: scramble(tag),
        }
    }

    #[inline(always)]
    fn bucket(&self, probe: u32) -> u32 {
        let number = self.home + probe;
        if number >= self.buckets { number - self.buckets } else { number }
    }
}

/// Whether the record is in use and belongs to the torrent.
#[inline(always)]
#[must_use]
pub fn same(swarm: &Swarm, place: &Place) -> bool {
    let mut difference = !swarm.active.load() & SWARM_ALIVE;
    for i in 0..5 {
        difference |= swarm.info_hash[i].load() ^ place.words[i];
    }
    difference == 0
}

/// The slot word with this tag, or 0.
#[inline(always)]
fn tagged(bucket: &Bucket, tag: u32) -> u64 {
    for slot in &bucket.slots {
        let word = slot.load();
        if (word >> 32) as u32 == tag && word as u32 != 0 {
            return word;
        }
    }
    0
}

/// Looks for the torrent in one bucket.
#[inline(always)]
fn look<'m, M: Platform>(memory: &'m M, place: &Place, bucket: &Bucket) -> Option<(u32, &'m Swarm)> {
    let word = tagged(bucket, place.tag);
    if word == 0 {
        return None;
    }
    let number = (word as u32).wrapping_sub(1);
    let swarm = memory.swarm(number)?;
    if same(swarm, place) { Some((number, swarm)) } else { None }
}

/// Finds a torrent's swarm number and record. No lock is held: the answer may be outdated when it arrives.
#[inline(always)]
pub fn find<'m, M: Platform>(memory: &'m M, place: &Place) -> Option<(u32, &'m Swarm)> {
    let home = memory.bucket(place.bucket(0))?;
    if let Some(found) = look(memory, place, home) {
        return Some(found);
    }
    if home.passed.load() == 0 {
        return None;
    }
    // A few torrents in a hundred are away from home.
    let mut search = Search { place, found: 0 };
    memory.repeat(PROBES - 1, &mut search);
    let number = (search.found as u32).wrapping_sub(1);
    if search.found == 0 { None } else { Some((number, memory.swarm(number)?)) }
}

/// Looks into the buckets behind the home bucket.
struct Search<'p> {
    place: &'p Place,
    /// Swarm number + 1; 0 for not found.
    found: u64,
}

impl<M: Platform> Step<M> for Search<'_> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(bucket) = memory.bucket(self.place.bucket(turn + 1)) else { return false };
        match look(memory, self.place, bucket) {
            Some((number, _)) => {
                self.found = u64::from(number) + 1;
                false
            }
            None => bucket.passed.load() != 0,
        }
    }
}

/// A torrent's counts; zeros for one that is not stored.
#[inline(always)]
pub fn counts<M: Platform>(memory: &M, info_hash: &InfoHash) -> Counts {
    let Some(settings) = memory.settings() else { return Counts::default() };
    let place = Place::new(settings, info_hash);
    let Some((_, swarm)) = find(memory, &place) else { return Counts::default() };
    let counts = swarm.counts();
    // The record may have been given to another torrent between the search and the reading.
    if same(swarm, &place) { counts } else { Counts::default() }
}

/// Stores a new torrent and returns its swarm number; or the number it has, if somebody else was faster.
///
/// # Errors
/// [`StoreError::TorrentsFull`] when there is no record or no place left, [`StoreError::Contended`].
#[inline(always)]
pub fn create<M: Platform>(memory: &M, place: &Place, minute: u32) -> Result<u32, StoreError> {
    let Some(home) = memory.bucket(place.bucket(0)) else { return Err(StoreError::Internal) };
    acquire(memory, &home.lock)?;
    let result = opaque(create_locked(memory, place, minute));
    home.lock.unlock();
    StoreError::unpack(result)
}

/// The result is packed ([`StoreError::pack`]).
#[inline(always)]
fn create_locked<M: Platform>(memory: &M, place: &Place, minute: u32) -> u64 {
    const MEMORY_FULL: u64 = StoreError::MemoryFull.packed();
    if let Some((number, _)) = find(memory, place) {
        return u64::from(number);
    }
    let number = match opaque(pool::take_packed::<M, pool::Swarms>(memory)) {
        MEMORY_FULL => return StoreError::TorrentsFull.packed(),
        number if number >> 32 != 0 => return number,
        number => number as u32,
    };
    let Some(swarm) = memory.swarm(number) else { return StoreError::Internal.packed() };
    // Whoever found the record when it belonged to another torrent may be holding its lock to see that it no longer does.
    if acquire(memory, &swarm.lock).is_err() {
        pool::give_back::<M, pool::Swarms>(memory, number);
        return StoreError::Contended.packed();
    }
    swarm.lock.begin_change();
    for i in 0..5 {
        swarm.info_hash[i].store(place.words[i]);
    }
    swarm.counts.store(0);
    swarm.completed.store(0);
    for word in &swarm.v4 {
        word.store(0);
    }
    for word in &swarm.v6 {
        word.store(0);
    }
    swarm.active.store(SWARM_ALIVE | minute);
    swarm.lock.unlock();
    if insert(memory, place, number) {
        memory.event(Event::TorrentCreated);
        return u64::from(number);
    }
    swarm.active.store(0);
    pool::give_back::<M, pool::Swarms>(memory, number);
    StoreError::TorrentsFull.packed()
}

/// Enters a torrent into the first bucket that has room.
#[inline(always)]
fn insert<M: Platform>(memory: &M, place: &Place, number: u32) -> bool {
    let mut entry = Enter { place, word: u64::from(place.tag) << 32 | u64::from(number + 1), entered: 0, undo: 0 };
    memory.repeat(PROBES, &mut entry);
    if entry.entered == 0 {
        entry.undo = 1;
        memory.repeat(PROBES, &mut entry);
    }
    entry.entered != 0
}

struct Enter<'p> {
    place: &'p Place,
    word: u64,
    entered: u64,
    /// Nowhere was room: nobody was passed after all.
    undo: u64,
}

impl<M: Platform> Step<M> for Enter<'_> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(bucket) = memory.bucket(self.place.bucket(turn)) else { return false };
        if self.undo != 0 {
            bucket.passed.add(u32::MAX);
            return true;
        }
        if tagged(bucket, self.place.tag) == 0 {
            for slot in &bucket.slots {
                if slot.load() == 0 && slot.replace(0, self.word) {
                    self.entered = 1;
                    return false;
                }
            }
        }
        bucket.passed.add(1);
        true
    }
}

/// Takes a torrent out of the index and gives its record back. The caller holds the swarm's lock, has seen that nobody is in
/// it, and lets go of the lock afterwards.
pub fn remove<M: Platform>(memory: &M, settings: &Settings, swarm: &Swarm, number: u32) -> Result<(), StoreError> {
    let mut info_hash = [0_u8; 20];
    for i in 0..5 {
        info_hash[i * 4..i * 4 + 4].copy_from_slice(&swarm.info_hash[i].load().to_le_bytes());
    }
    let place = Place::new(settings, &info_hash);
    let word = u64::from(place.tag) << 32 | u64::from(number + 1);
    let Some(home) = memory.bucket(place.bucket(0)) else { return Err(StoreError::Internal) };
    acquire(memory, &home.lock)?;
    let found = (0..PROBES).find(|&probe| {
        memory.bucket(place.bucket(probe)).is_some_and(|bucket| bucket.slots.iter().any(|slot| slot.replace(word, 0)))
    });
    for probe in 0..found.unwrap_or(0) {
        if let Some(bucket) = memory.bucket(place.bucket(probe)) {
            bucket.passed.add(u32::MAX);
        }
    }
    home.lock.unlock();
    swarm.active.store(0);
    swarm.lock.begin_change();
    memory.event(Event::TorrentRemoved);
    Ok(())
}
