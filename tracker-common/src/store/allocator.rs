//! Allocation of partitions and chunks: a counter of records never used yet, and a list of records
//! given back.
//!
//! The list is a Treiber stack. Its head carries a tag that changes with every removal, so that a
//! head seen before somebody else took the record and gave it back is not mistaken for the same
//! head. The link of a free record is kept in the record. Reading the link of a record that
//! somebody else just took gives rubbish, but then the head has changed too and the rubbish is not
//! used. No lock is taken.

use super::{
    journal::{Exchange, Item},
    layout::{ChunkV4, ChunkV6, Partition, Pool, Pools},
};
use crate::{
    codegen::barrier_var,
    id::{ChunkId, PartitionId},
    outcome::StoreError,
    platform::{Context, Platform},
};

/// A kind of record that is allocated.
pub trait Element: 'static {
    /// Its place in [`crate::settings::Settings::pool_limits`].
    const LIMIT: usize;
    /// Its number.
    type Id: From<u32> + Into<u32>;

    /// Its allocator.
    fn pool(pools: &Pools) -> &Pool;
    /// A record.
    fn find<P: Platform>(platform: &P, id: Self::Id) -> Option<&Self>;
    /// The link to the next free record, of a free one.
    fn link(&self) -> u32;
    /// Writes the link.
    fn set_link(&self, link: u32);
    /// Makes a record that was free all zero, where the taker does not write all of it.
    fn clear(&self);
}

impl Element for Partition {
    const LIMIT: usize = 1;
    type Id = PartitionId;

    #[inline(always)]
    fn pool(pools: &Pools) -> &Pool {
        &pools.partitions
    }

    #[inline(always)]
    fn find<P: Platform>(platform: &P, id: PartitionId) -> Option<&Self> {
        platform.partition(id)
    }

    #[inline(always)]
    fn link(&self) -> u32 {
        self.chunks[0].load()
    }

    #[inline(always)]
    fn set_link(&self, link: u32) {
        self.chunks[0].store(link);
    }

    #[inline(always)]
    fn clear(&self) {}
}

impl Element for ChunkV4 {
    const LIMIT: usize = 2;
    type Id = ChunkId;

    #[inline(always)]
    fn pool(pools: &Pools) -> &Pool {
        &pools.chunks_v4
    }

    #[inline(always)]
    fn find<P: Platform>(platform: &P, id: ChunkId) -> Option<&Self> {
        platform.chunk_v4(id)
    }

    #[inline(always)]
    fn link(&self) -> u32 {
        self.words[0].load() as u32
    }

    #[inline(always)]
    fn set_link(&self, link: u32) {
        self.words[0].store(link.into());
    }

    #[inline(always)]
    fn clear(&self) {
        for word in &self.words {
            word.store(0);
        }
    }
}

impl Element for ChunkV6 {
    const LIMIT: usize = 3;
    type Id = ChunkId;

    #[inline(always)]
    fn pool(pools: &Pools) -> &Pool {
        &pools.chunks_v6
    }

    #[inline(always)]
    fn find<P: Platform>(platform: &P, id: ChunkId) -> Option<&Self> {
        platform.chunk_v6(id)
    }

    #[inline(always)]
    fn link(&self) -> u32 {
        self.words[0].load() as u32
    }

    #[inline(always)]
    fn set_link(&self, link: u32) {
        self.words[0].store(link.into());
    }

    #[inline(always)]
    fn clear(&self) {
        for word in &self.words {
            word.store(0);
        }
    }
}

/// How a record is noted in a journal.
#[inline(always)]
pub(super) fn item<E: Element>(id: E::Id) -> Item {
    Item { kind: E::LIMIT, number: id.into() }
}

/// Notes that a record is about to be part of nothing, or was taken.
#[inline(always)]
pub(super) fn note<P: Platform, E: Element>(platform: &P, id: E::Id) {
    if let Some(journal) = platform.journal() {
        journal.note(item::<E>(id));
    }
}

/// Notes that a record is part of something.
#[inline(always)]
pub(super) fn settle<P: Platform, E: Element>(platform: &P, id: E::Id) {
    if let Some(journal) = platform.journal() {
        journal.forget(item::<E>(id));
    }
}

/// Notes an exchange that comes next.
#[inline(always)]
fn exchange<P: Platform, E: Element>(platform: &P, pool: &Pool, kind: Exchange, number: u32, words: [u64; 2]) {
    if let Some(journal) = platform.journal() {
        journal.exchange(kind, item::<E>(number.into()), words[0], words[1]);
        journal.free.begin(&pool.free, 0);
    }
}

/// Notes that it was made.
#[inline(always)]
fn exchanged<P: Platform>(platform: &P) {
    if let Some(journal) = platform.journal() {
        journal.exchanged();
    }
}

/// How often taking or giving back is tried in the kernel: losing so many races in a row takes as
/// many other cores.
const RACES: u32 = 8;

/// Takes a record.
///
/// # Errors
/// [`StoreError::MemoryFull`] when none is left, [`StoreError::Contended`].
#[inline(always)]
pub fn take<P: Platform, E: Element>(cx: &Context<'_, P>) -> Result<E::Id, StoreError> {
    match StoreError::unpack(barrier_var(take_packed::<P, E>(cx))) {
        Ok(number) => Ok(number.into()),
        Err(error) => Err(error),
    }
}

/// [`take`] with a packed result ([`StoreError::pack`]).
#[inline(always)]
fn take_packed<P: Platform, E: Element>(cx: &Context<'_, P>) -> u64 {
    let Some(pools) = cx.platform.pools() else { return StoreError::Internal.packed() };
    let pool = E::pool(pools);
    let mut races = 0;
    loop {
        let head = pool.head.load();
        let link = head as u32;
        if link == 0 {
            break;
        }
        let number = link - 1;
        let Some(element) = E::find(cx.platform, number.into()) else { return StoreError::Internal.packed() };
        let next = element.link();
        let tag = ((head >> 32) + 1) << 32;
        exchange::<P, E>(cx.platform, pool, Exchange::Take, number, [head, tag | u64::from(next)]);
        if pool.head.replace(head, tag | u64::from(next)) {
            note::<P, E>(cx.platform, number.into());
            pool.free.add(u32::MAX);
            exchanged(cx.platform);
            element.clear();
            return u64::from(number);
        }
        races += 1;
        if P::SPIN_LIMIT.is_some() && races >= RACES {
            return StoreError::Contended.packed();
        }
    }
    exchanged(cx.platform);
    let limit = cx.settings.pool_limits[E::LIMIT].load();
    // The look before the addition keeps the counter from running away while the pool is exhausted.
    if pool.fresh.load() >= limit {
        return StoreError::MemoryFull.packed();
    }
    if let Some(journal) = cx.platform.journal() {
        let seen = pool.fresh.load();
        journal.exchange(Exchange::TakeFresh, item::<E>(seen.into()), seen.into(), 0);
    }
    let number = pool.fresh.fetch_add(1);
    if number >= limit {
        exchanged(cx.platform);
        return StoreError::MemoryFull.packed();
    }
    note::<P, E>(cx.platform, number.into());
    exchanged(cx.platform);
    // Never used, hence still all zeros.
    u64::from(number)
}

/// Whether there are at least `count` records left, as far as can be told while others allocate.
/// Asked before work that would be in vain without them.
#[inline(always)]
pub fn has_spare<P: Platform, E: Element>(cx: &Context<'_, P>, count: u32) -> bool {
    let Some(pools) = cx.platform.pools() else { return false };
    let pool = E::pool(pools);
    let used = pool.fresh.load().wrapping_sub(pool.free.load());
    used.wrapping_add(count) <= cx.settings.pool_limits[E::LIMIT].load()
}

/// Whether so many of at most `limit` leave little: from here on it matters who is given more.
#[inline(always)]
#[must_use]
pub fn is_little_left(used: u32, limit: u32) -> bool {
    used >= limit - limit / 10
}

/// Whether [little is left](is_little_left) of a kind of records.
#[inline(always)]
pub fn is_nearly_full<P: Platform, E: Element>(cx: &Context<'_, P>) -> bool {
    let Some(pools) = cx.platform.pools() else { return false };
    let pool = E::pool(pools);
    let used = pool.fresh.load().wrapping_sub(pool.free.load());
    is_little_left(used, cx.settings.pool_limits[E::LIMIT].load())
}

/// Gives a record back.
#[inline(always)]
pub fn give_back<P: Platform, E: Element>(platform: &P, id: E::Id) {
    let Some(pools) = platform.pools() else { return };
    let pool = E::pool(pools);
    let number: u32 = id.into();
    let mut races = 0;
    // A record that cannot be given back within the tries of the kernel side is lost until the next
    // start: a leak of a few hundred bytes in the rarest of cases.
    while P::SPIN_LIMIT.is_none() || races < RACES {
        let head = pool.head.load();
        let Some(element) = E::find(platform, number.into()) else { return };
        element.set_link(head as u32);
        let tag = ((head >> 32) + 1) << 32;
        exchange::<P, E>(platform, pool, Exchange::GiveBack, number, [head, tag | u64::from(number + 1)]);
        if pool.head.replace(head, tag | u64::from(number + 1)) {
            pool.free.add(1);
            settle::<P, E>(platform, number.into());
            exchanged(platform);
            return;
        }
        races += 1;
    }
}

#[cfg(test)]
mod tests;
