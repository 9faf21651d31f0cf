//! The swarm index: from info_hash to the number of its swarm record.
//!
//! A torrent's home bucket comes from a keyed multilinear hash (strongly universal). If the home
//! bucket is full the torrent goes to one of the next buckets, and every full bucket on the way
//! counts it in [`Bucket::passed`]: a search ends at the first bucket that no torrent has passed.
//! In one bucket no two words carry the same 32 bits of hash, so at most one record has to be
//! looked at per bucket.
//!
//! Torrents are stored and removed with the lock of their home bucket held. Searches take no lock
//! and are confirmed by whoever uses the result, with the lock of the swarm held
//! ([`TorrentKey::matches`]).

use super::{
    allocator,
    hash::TorrentKey,
    layout::{Bucket, Counts, SWARM_ALIVE, Swarm},
};
use crate::{
    codegen::{self, barrier_var},
    id::{InfoHash, SwarmId},
    outcome::{Event, StoreError},
    platform::{Context, Platform, Step, SwarmRef},
};

/// How many buckets, the home bucket included, a torrent may be in. With 4 torrents per bucket of 7
/// slots on average (see `Sizes` in the daemon) the distance follows a geometric tail; at 16 no
/// torrent of four million was left without a place.
pub const PROBES: u32 = 16;

/// The word of a bucket with this tag, or 0.
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
fn find_in_bucket<'m, P: Platform>(platform: &'m P, torrent: &TorrentKey, bucket: &Bucket) -> Option<SwarmRef<'m>> {
    let id = SwarmId::from_stored(tagged(bucket, torrent.tag()) as u32)?;
    let record = platform.swarm(id)?;
    if torrent.matches(record) { Some(SwarmRef { id, record }) } else { None }
}

/// Brings the torrent's home bucket nearer.
#[inline(always)]
pub(super) fn prefetch<P: Platform>(platform: &P, torrent: &TorrentKey) {
    if let Some(home) = platform.bucket(torrent.bucket(0)) {
        codegen::prefetch(home);
    }
}

/// The record that is probably the torrent's, without a look at it: that of the same tag in its home
/// bucket.
#[inline(always)]
pub(super) fn guess<'m, P: Platform>(platform: &'m P, torrent: &TorrentKey) -> Option<&'m Swarm> {
    let home = platform.bucket(torrent.bucket(0))?;
    platform.swarm(SwarmId::from_stored(tagged(home, torrent.tag()) as u32)?)
}

/// Finds a torrent's swarm. No lock is held: the answer may be outdated when it arrives.
#[inline(always)]
pub fn find<'m, P: Platform>(cx: &Context<'m, P>, torrent: &TorrentKey) -> Option<SwarmRef<'m>> {
    let home = cx.platform.bucket(torrent.bucket(0))?;
    if let Some(found) = find_in_bucket(cx.platform, torrent, home) {
        return Some(found);
    }
    if home.passed.load() == 0 {
        return None;
    }
    // A few torrents in a hundred are away from home.
    let mut search = Search { torrent, found: 0 };
    cx.platform.repeat(PROBES - 1, &mut search);
    cx.swarm(SwarmId::from_stored(search.found as u32)?)
}

/// Looks into the buckets behind the home bucket.
struct Search<'t> {
    torrent: &'t TorrentKey,
    /// [`SwarmId::stored`]; 0 for not found.
    found: u64,
}

impl<P: Platform> Step<P> for Search<'_> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Some(bucket) = platform.bucket(self.torrent.bucket(turn + 1)) else { return false };
        match find_in_bucket(platform, self.torrent, bucket) {
            Some(swarm) => {
                self.found = u64::from(swarm.id.stored());
                false
            }
            None => bucket.passed.load() != 0,
        }
    }
}

/// A torrent's counts; zeros for one that is not stored.
#[inline(always)]
pub fn counts<P: Platform>(cx: &Context<'_, P>, info_hash: &InfoHash) -> Counts {
    let torrent = TorrentKey::new(cx.settings, info_hash);
    let Some(swarm) = find(cx, &torrent) else { return Counts::default() };
    let counts = swarm.record.counts();
    // The record may have been given to another torrent between the search and the reading.
    if torrent.matches(swarm.record) { counts } else { Counts::default() }
}

/// Stores a new torrent and returns its swarm; or the one it has, if another thread was faster.
///
/// # Errors
/// [`StoreError::TorrentsFull`] when there is no record or no place left,
/// [`StoreError::Contended`].
#[inline(always)]
pub fn create<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> Result<SwarmId, StoreError> {
    let Some(home) = cx.platform.bucket(torrent.bucket(0)) else { return Err(StoreError::Internal) };
    cx.platform.acquire(&home.lock)?;
    let result = barrier_var(create_locked(cx, torrent));
    home.lock.unlock();
    match StoreError::unpack(result) {
        Ok(number) => Ok(SwarmId::new(number)),
        Err(error) => Err(error),
    }
}

/// The home bucket's lock is held. The result is packed ([`StoreError::pack`]).
#[inline(always)]
fn create_locked<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> u64 {
    const MEMORY_FULL: u64 = StoreError::MemoryFull.packed();
    if let Some(swarm) = find(cx, torrent) {
        return u64::from(swarm.id.number());
    }
    let id = match barrier_var(allocator::take_packed::<P, Swarm>(cx)) {
        MEMORY_FULL => return StoreError::TorrentsFull.packed(),
        packed if packed >> 32 != 0 => return packed,
        number => SwarmId::new(number as u32),
    };
    let Some(swarm) = cx.platform.swarm(id) else { return StoreError::Internal.packed() };
    // Whoever found the record when it belonged to another torrent may be holding its lock to see
    // that it no longer does, and then lets go without waiting for anything. So a bucket's lock may
    // be held while this one is waited for.
    if cx.platform.acquire(&swarm.lock).is_err() {
        allocator::give_back::<P, Swarm>(cx.platform, id);
        return StoreError::Contended.packed();
    }
    swarm.lock.begin_change();
    for (stored, word) in swarm.info_hash.iter().zip(torrent.words()) {
        stored.store(*word);
    }
    swarm.counts.store(0);
    swarm.completed.store(0);
    for word in &swarm.v4 {
        word.store(0);
    }
    for word in &swarm.v6 {
        word.store(0);
    }
    swarm.active.store(SWARM_ALIVE | cx.minute());
    swarm.lock.unlock();
    if insert(cx.platform, torrent, id) {
        cx.platform.event(Event::TorrentCreated);
        return u64::from(id.number());
    }
    swarm.active.store(0);
    allocator::give_back::<P, Swarm>(cx.platform, id);
    StoreError::TorrentsFull.packed()
}

/// The word of a torrent in its bucket.
#[inline(always)]
fn word_of(torrent: &TorrentKey, swarm: SwarmId) -> u64 {
    u64::from(torrent.tag()) << 32 | u64::from(swarm.stored())
}

/// Enters a torrent into the first bucket that has room.
#[inline(always)]
fn insert<P: Platform>(platform: &P, torrent: &TorrentKey, swarm: SwarmId) -> bool {
    let mut insertion = Insertion { torrent, word: word_of(torrent, swarm), done: 0, undo: 0 };
    platform.repeat(PROBES, &mut insertion);
    if insertion.done == 0 {
        insertion.undo = 1;
        platform.repeat(PROBES, &mut insertion);
    }
    insertion.done != 0
}

struct Insertion<'t> {
    torrent: &'t TorrentKey,
    word: u64,
    done: u64,
    /// No bucket had room: none was passed after all.
    undo: u64,
}

impl<P: Platform> Step<P> for Insertion<'_> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Some(bucket) = platform.bucket(self.torrent.bucket(turn)) else { return false };
        if self.undo != 0 {
            bucket.passed.add(u32::MAX);
            return true;
        }
        if tagged(bucket, self.torrent.tag()) == 0 {
            for slot in &bucket.slots {
                if slot.load() == 0 && slot.replace(0, self.word) {
                    self.done = 1;
                    return false;
                }
            }
        }
        bucket.passed.add(1);
        true
    }
}

/// Takes a torrent out of the index. The caller holds the swarm's lock, has seen that the swarm is
/// empty, lets go of the lock afterwards and gives the record back. A home bucket's lock is waited
/// for while the swarm's is held: whoever holds a bucket's lock waits for free records only, and
/// this one is in use.
///
/// # Errors
/// [`StoreError::Contended`] only where tries are limited.
pub fn remove<P: Platform>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Result<(), StoreError> {
    let torrent = TorrentKey::new(cx.settings, &swarm.record.info_hash());
    let word = word_of(&torrent, swarm.id);
    let bucket = |probe| cx.platform.bucket(torrent.bucket(probe));
    let Some(home) = bucket(0) else { return Err(StoreError::Internal) };
    cx.platform.acquire(&home.lock)?;
    let found = (0..PROBES)
        .find(|&probe| bucket(probe).is_some_and(|bucket| bucket.slots.iter().any(|slot| slot.replace(word, 0))));
    for bucket in (0..found.unwrap_or(0)).filter_map(bucket) {
        bucket.passed.add(u32::MAX);
    }
    home.lock.unlock();
    swarm.record.active.store(0);
    swarm.record.lock.begin_change();
    cx.platform.event(Event::TorrentRemoved);
    Ok(())
}

#[cfg(test)]
mod tests;
