//! The swarm index: from info_hash to swarm record.
//!
//! A bucket is a page of memory with 31 swarm records and a tag of 16 bits for each. A torrent's
//! home bucket, its tag and its likely place in a bucket come from a keyed multilinear hash. Tags
//! take two bytes per torrent and stay in the processor's caches where records do not; and most
//! torrents are at their likely place, so that both can be asked for at once ([`super::asking`]). So
//! finding a torrent takes one page and about one wait for memory.
//!
//! If the home bucket is full the torrent goes to another, any of all, and every full bucket on the
//! way counts it in [`BucketHeader::passed`]: a search ends at the first bucket that no torrent has
//! passed. In one bucket no two records have the same tag, so at most one has to be looked at per
//! bucket.
//!
//! Torrents are stored and removed with the lock of their home bucket held. Searches take no lock
//! and are confirmed by whoever uses the result, with the lock of the swarm held
//! ([`TorrentKey::matches`]).

use super::{
    hash::TorrentKey,
    journal::{IndexWork, Place},
    layout::{Bucket, BucketHeader, Counts, SWARM_ALIVE, Swarm},
};
use crate::{
    codegen::barrier_var,
    id::SwarmId,
    outcome::{Event, StoreError},
    platform::{ColdPath, Context, Platform, Step, SwarmRef},
    word::Word32,
};

/// How many buckets, the home bucket included, a torrent may be in. If 15 of 16 records are in use,
/// half of the buckets are full, and of some hundred million torrents one is left without a place.
pub const PROBES: u32 = 32;

/// The index when it is filled to the limit: torrents per bucket, of 31 records.
pub const TORRENTS_PER_BUCKET: u32 = 29;

/// Looks for the torrent in the bucket that has this number.
#[inline(always)]
fn find_in_bucket<'m, P: Platform>(
    cx: &Context<'m, P>,
    torrent: &TorrentKey,
    number: u32,
    bucket: &'m Bucket,
) -> Option<SwarmRef<'m>> {
    let place = cx.scratch.as_unknown_scalar_soon(place(torrent, bucket.header(number)));
    let record = bucket.swarm(number, place)?;
    if torrent.matches(record) { Some(SwarmRef { id: SwarmId::at(number, place), record }) } else { None }
}

/// The header of a bucket.
#[inline(always)]
fn header<P: Platform>(platform: &P, number: u32) -> Option<&BucketHeader> {
    Some(platform.bucket(number)?.header(number))
}

/// Finds a torrent's swarm, which probably is this one ([`super::asking::look_ahead`]). As of then: `None` if the torrent was
/// not stored yet.
#[inline(always)]
pub fn find_at<'m, P: Platform>(cx: &Context<'m, P>, torrent: &TorrentKey, id: SwarmId) -> Option<SwarmRef<'m>> {
    let swarm = cx.swarm(id);
    if swarm.is_some_and(|swarm| torrent.matches(swarm.record)) { swarm } else { find_elsewhere(cx, torrent) }
}

/// The place of a torrent's tag in its home bucket; 0 for none.
#[inline(always)]
pub(super) fn place(torrent: &TorrentKey, header: &BucketHeader) -> u32 {
    header.place(torrent.likely_place(), torrent.tag())
}

/// Finds a torrent's swarm. No lock is held: the answer may be outdated when it arrives.
#[inline(always)]
pub fn find<'m, P: Platform>(cx: &Context<'m, P>, torrent: &TorrentKey) -> Option<SwarmRef<'m>> {
    let number = torrent.bucket(0);
    let home = cx.platform.bucket(number)?;
    if let Some(found) = find_in_bucket(cx, torrent, number, home) {
        return Some(found);
    }
    find_elsewhere(cx, torrent)
}

/// Looks for a torrent that is not in its home bucket.
#[inline(always)]
fn find_elsewhere<'m, P: Platform>(cx: &Context<'m, P>, torrent: &TorrentKey) -> Option<SwarmRef<'m>> {
    if header(cx.platform, torrent.bucket(0))?.passed.load() == 0 {
        return None;
    }
    // A few torrents in a hundred are away from home.
    let mut search = Search { torrent, found: 0 };
    cx.platform.repeat(PROBES - 1, &mut search);
    cx.swarm(SwarmId::from_stored(search.found as u32)?)
}

/// Looks into the buckets that follow the home bucket.
struct Search<'t> {
    torrent: &'t TorrentKey,
    /// [`SwarmId::stored`]; 0 for not found.
    found: u64,
}

impl<P: Platform> Step<P> for Search<'_> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let number = self.torrent.bucket(turn + 1);
        let Some(bucket) = platform.bucket(number) else { return false };
        match find_in_bucket(&cx, self.torrent, number, bucket) {
            Some(swarm) => {
                self.found = u64::from(swarm.id.stored());
                false
            }
            None => bucket.header(number).passed.load() != 0,
        }
    }
}

/// A torrent's counts; zeros for one that is not stored.
#[inline(always)]
pub fn counts<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> Counts {
    find(cx, torrent).map_or(Counts::default(), |swarm| counts_of(swarm.record, torrent))
}

/// The counts of a torrent whose record was found to be this one; zeros if it has been given to
/// another torrent meanwhile.
#[inline(always)]
fn counts_of(record: &Swarm, torrent: &TorrentKey) -> Counts {
    let counts = record.counts();
    if torrent.matches(record) { counts } else { Counts::default() }
}

/// The counts of a torrent whose record is probably there ([`super::asking::guess`]), and whose info_hash stands at
/// `at` in the scratch space; zeros if it is not stored.
#[inline(always)]
pub fn counts_at<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey, id: SwarmId, at: usize) -> Counts {
    if let Some(record) = cx.platform.swarm(id)
        && let Some(counts) = unchanged_counts(record, torrent)
    {
        return counts;
    }
    // A few in a hundred are away from home. The verifier shall not follow the search once for each.
    let Ok(stored) = cx.platform.run_cold(ColdPath::FindTorrent(at as u32)) else { return Counts::default() };
    let found = SwarmId::from_stored(stored).and_then(|id| cx.platform.swarm(id));
    found.map_or(Counts::default(), |record| counts_of(record, torrent))
}

/// The counts in a record if that is the torrent's. `None` if it is not, or if it is being changed.
#[inline(always)]
fn unchanged_counts(record: &Swarm, torrent: &TorrentKey) -> Option<Counts> {
    let version = record.lock.version()?;
    if !torrent.matches(record) {
        return None;
    }
    let counts = record.counts();
    version.still_holds().then_some(counts)
}

/// The first record in use, or just being taken, from this number on and before `end`; `bucket`
/// gives the buckets. For the daemon, which goes through all of them: pages without torrents cost a
/// look at their tags, so of an index that is nearly empty only so much is asked for at once.
pub fn next<'m>(bucket: impl Fn(u32) -> Option<&'m Bucket>, from: u32, end: u32) -> Option<SwarmRef<'m>> {
    let (mut number, mut place) = SwarmId::new(from).place();
    while SwarmId::at(number, place).number() < end {
        let bucket = bucket(number)?;
        let places = bucket.header(number).places() & (u32::MAX << place);
        if places != 0 {
            place = places.trailing_zeros();
            let id = SwarmId::at(number, place);
            return if id.number() < end { Some(SwarmRef { id, record: bucket.swarm(number, place)? }) } else { None };
        }
        (number, place) = (number + 1, 0);
    }
    None
}

/// Stores a new torrent and returns its swarm; or the one it has, if another thread was faster.
///
/// # Errors
/// [`StoreError::TorrentsFull`] when there are as many as there may be, or no place is left,
/// [`StoreError::Contended`].
#[inline(always)]
pub fn create<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> Result<SwarmId, StoreError> {
    let Some(home) = header(cx.platform, torrent.bucket(0)) else { return Err(StoreError::Internal) };
    cx.platform.acquire(&home.lock, Place::Bucket(torrent.bucket(0)))?;
    let result = barrier_var(create_locked(cx, torrent));
    work(cx.platform, IndexWork::end);
    cx.platform.release(&home.lock);
    match StoreError::unpack(result) {
        Ok(number) => Ok(SwarmId::new(number)),
        Err(error) => Err(error),
    }
}

/// The home bucket's lock is held. The result is packed ([`StoreError::pack`]).
#[inline(always)]
fn create_locked<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> u64 {
    if let Some(swarm) = find(cx, torrent) {
        return u64::from(swarm.id.number());
    }
    let Some(pools) = cx.platform.pools() else { return StoreError::Internal.packed() };
    work(cx.platform, |work| {
        work.begin(IndexWork::CREATE, &torrent.info_hash());
        work.swarms.begin(&pools.swarms.used, 0);
    });
    let used = pools.swarms.used.fetch_add(1);
    work(cx.platform, |work| work.swarms.done());
    if used >= cx.settings.pool_limits[0].load() {
        uncount(cx.platform, &pools.swarms.used);
        return StoreError::TorrentsFull.packed();
    }
    let mut placing = Placing { torrent, stored: 0, probes: 0, undo: 0 };
    cx.platform.repeat(PROBES, &mut placing);
    let mut failure = StoreError::TorrentsFull;
    if let Some(id) = SwarmId::from_stored(placing.stored as u32)
        && let Some(swarm) = cx.swarm(id)
    {
        // Whoever found the record when it belonged to another torrent may be holding its lock to
        // see that it no longer does, and then lets go without waiting for anything. So a bucket's
        // lock may be held while this one is waited for.
        if cx.platform.acquire(&swarm.record.lock, Place::Swarm(id)).is_ok() {
            begin(swarm.record, torrent, cx.minute());
            cx.platform.release(&swarm.record.lock);
            cx.platform.event(Event::TorrentCreated);
            return u64::from(id.number());
        }
        failure = StoreError::Contended;
        release(cx.platform, torrent, id);
    }
    // No bucket was passed after all.
    placing.undo = 1;
    cx.platform.repeat(placing.probes as u32, &mut placing);
    uncount(cx.platform, &pools.swarms.used);
    failure.packed()
}

/// Writes something down about the work on the index.
#[inline(always)]
fn work<P: Platform>(platform: &P, note: impl FnOnce(&IndexWork)) {
    if let Some(journal) = platform.journal() {
        note(&journal.index);
    }
}

/// Counts a torrent out.
#[inline(always)]
fn uncount<P: Platform>(platform: &P, used: &Word32) {
    work(platform, |work| work.swarms.undo(used, 0));
    used.add(u32::MAX);
    work(platform, |work| work.swarms.clear());
}

/// Makes a record that of a torrent without peers. Its lock is held.
#[inline(always)]
fn begin(swarm: &Swarm, torrent: &TorrentKey, minute: u32) {
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
    swarm.active.store(SWARM_ALIVE | minute);
}

/// Takes a torrent's tag out of its bucket.
#[inline(always)]
pub(super) fn release<P: Platform>(platform: &P, torrent: &TorrentKey, swarm: SwarmId) {
    let (number, place) = swarm.place();
    if let Some(bucket) = header(platform, number) {
        bucket.release(place, torrent.tag());
    }
}

/// Enters a torrent into the first bucket that has room. All fields have 8 bytes: LLVM merges
/// stores to the stack, and the verifier wants them aligned.
struct Placing<'t> {
    torrent: &'t TorrentKey,
    /// [`SwarmId::stored`]; 0 for none.
    stored: u64,
    /// How many buckets were passed.
    probes: u64,
    /// Takes back that buckets were passed.
    undo: u64,
}

impl<P: Platform> Step<P> for Placing<'_> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let number = self.torrent.bucket(turn);
        let (Some(scratch), Some(bucket)) = (platform.scratch(), header(platform, number)) else { return false };
        if self.undo != 0 {
            work(platform, |work| {
                work.passing.undo(&bucket.passed, turn);
                work.undone.store(turn + 1);
            });
            bucket.passed.add(u32::MAX);
            work(platform, |work| work.passing.clear());
            return true;
        }
        let tag = self.torrent.tag();
        if bucket.tagged(tag) == 0 {
            let place = bucket.claim(scratch, self.torrent.likely_place(), tag);
            if place != 0 {
                self.stored = u64::from(SwarmId::at(number, place).stored());
                return false;
            }
        }
        work(platform, |work| work.passing.begin(&bucket.passed, turn));
        bucket.passed.add(1);
        work(platform, |work| {
            work.passed.store(turn + 1);
            work.passing.clear();
        });
        self.probes = u64::from(turn) + 1;
        true
    }
}

/// Takes back that a torrent has passed the buckets in front of the one that it is in.
struct Leaving<'t> {
    torrent: &'t TorrentKey,
    /// The bucket that it is in.
    number: u64,
}

impl<P: Platform> Step<P> for Leaving<'_> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let number = self.torrent.bucket(turn);
        if u64::from(number) == self.number {
            return false;
        }
        if let Some(bucket) = header(platform, number) {
            pass_one_less(platform, bucket, turn);
        }
        true
    }
}

/// Takes a torrent out of the index. The caller holds the swarm's lock, has seen that the swarm may
/// go, and lets go of the lock afterwards. A home bucket's lock is waited for while the swarm's
/// is held: whoever holds a bucket's lock waits for free records only, and this one is in use.
///
/// # Errors
/// [`StoreError::Internal`] if the record is free: somebody else has removed its torrent. Its place may
/// be another's already, whose tag is not to be touched. [`StoreError::Contended`] only where tries are
/// limited.
#[inline(always)]
pub fn remove<P: Platform>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Result<(), StoreError> {
    if swarm.record.active.load() & SWARM_ALIVE == 0 {
        return Err(StoreError::Internal);
    }
    let torrent = TorrentKey::new(cx.settings, &swarm.record.info_hash());
    let (Some(home), Some(pools)) = (header(cx.platform, torrent.bucket(0)), cx.platform.pools()) else {
        return Err(StoreError::Internal);
    };
    cx.platform.acquire(&home.lock, Place::Bucket(torrent.bucket(0)))?;
    work(cx.platform, |work| work.begin(IndexWork::REMOVE, &torrent.info_hash()));
    let (number, _) = swarm.id.place();
    cx.platform.repeat(PROBES, &mut Leaving { torrent: &torrent, number: u64::from(number) });
    // Before the record's place may be claimed, and before the torrent may be stored anew.
    swarm.record.lock.begin_change();
    swarm.record.active.store(0);
    release(cx.platform, &torrent, swarm.id);
    work(cx.platform, |work| {
        work.swarms.begin(&pools.swarms.used, 0);
        work.stage.store(IndexWork::UNLINKED);
    });
    cx.platform.release(&home.lock);
    pools.swarms.used.add(u32::MAX);
    work(cx.platform, IndexWork::end);
    cx.platform.event(Event::TorrentRemoved);
    Ok(())
}

/// Counts a torrent no longer as passed in the buckets before its own, from this probe on.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn pass_no_longer<P: Platform>(platform: &P, torrent: &TorrentKey, swarm: SwarmId, from: u32) {
    let (number, _) = swarm.place();
    for probe in (0..PROBES).take_while(|&probe| torrent.bucket(probe) != number).skip(from as usize) {
        if let Some(bucket) = header(platform, torrent.bucket(probe)) {
            pass_one_less(platform, bucket, probe);
        }
    }
}

/// Counts a torrent no longer as passed in the bucket of this probe.
#[inline(always)]
fn pass_one_less<P: Platform>(platform: &P, bucket: &BucketHeader, probe: u32) {
    work(platform, |work| work.passing.begin(&bucket.passed, probe));
    bucket.passed.add(u32::MAX);
    work(platform, |work| {
        work.passed.store(probe + 1);
        work.passing.clear();
    });
}

#[cfg(test)]
mod tests;
