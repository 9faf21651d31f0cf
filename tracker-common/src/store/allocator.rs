//! Allocation of swarm records, partitions and chunks: a counter of numbers never used yet, and a list of numbers given back.
//!
//! The list is a Treiber stack. Its head carries a tag that changes with every removal, so that a head seen before somebody
//! else took the element and gave it back is not mistaken for the same head. The link of a free element is kept in the
//! element; reading the link of an element that somebody else just took gives rubbish, but then the head has changed too and
//! the rubbish is not used.

use super::layout::{Pool, Pools};
use crate::{outcome::StoreError, platform::Platform, word::opaque};

/// What is allocated.
pub trait Kind {
    /// Its place in [`crate::settings::Settings::pool_limits`].
    const LIMIT: usize;
    /// Its allocator.
    fn pool(pools: &Pools) -> &Pool;
    /// Reads the link of a free element.
    fn link<M: Platform>(memory: &M, number: u32) -> Option<u32>;
    /// Writes the link of a free element.
    fn set_link<M: Platform>(memory: &M, number: u32, link: u32) -> Option<()>;
    /// Makes an element that was just taken all zeros, as far as its user relies on that.
    fn clear<M: Platform>(memory: &M, number: u32) -> Option<()>;
}

/// Swarm records; cleared by [`super::index::create`], which holds the lock of the record.
pub struct Swarms;

/// Partitions; set up by those who take them, with the lock held.
pub struct Partitions;

/// IPv4 chunks.
pub struct ChunksV4;

/// IPv6 chunks.
pub struct ChunksV6;

macro_rules! kind {
    ($name:ident, limit $limit:literal, $pool:ident, $element:ident, link $number:ty [$($link:tt)*], clear [$($clear:tt)*]) => {
        impl Kind for $name {
            const LIMIT: usize = $limit;

            #[inline(always)]
            fn pool(pools: &Pools) -> &Pool {
                &pools.$pool
            }

            #[inline(always)]
            fn link<M: Platform>(memory: &M, number: u32) -> Option<u32> {
                let element = memory.$element(number)?;
                Some(element.$($link)*.load() as u32)
            }

            #[inline(always)]
            fn set_link<M: Platform>(memory: &M, number: u32, link: u32) -> Option<()> {
                let element = memory.$element(number)?;
                element.$($link)*.store(<$number>::from(link));
                Some(())
            }

            #[inline(always)]
            fn clear<M: Platform>(memory: &M, number: u32) -> Option<()> {
                let _element = memory.$element(number)?;
                $(
                    for word in &_element.$clear {
                        word.store(0);
                    }
                )*
                Some(())
            }
        }
    };
}

kind!(Swarms, limit 0, swarms, swarm, link u64 [counts], clear []);

kind!(Partitions, limit 1, partitions, partition, link u32 [chunks[0]], clear []);

kind!(ChunksV4, limit 2, chunks_v4, chunk_v4, link u64 [words[0]], clear [words]);

kind!(ChunksV6, limit 3, chunks_v6, chunk_v6, link u64 [words[0]], clear [words]);

/// How often taking or giving back is tried in the kernel: losing so many races in a row takes as many other cores.
const TRIES: u32 = 8;

/// Takes an element.
///
/// # Errors
/// [`StoreError::MemoryFull`] when none is left, [`StoreError::Contended`].
#[inline(always)]
pub fn take<M: Platform, K: Kind>(memory: &M) -> Result<u32, StoreError> {
    StoreError::unpack(opaque(take_packed::<M, K>(memory)))
}

/// [`take`] with a packed result ([`StoreError::pack`]).
#[inline(always)]
pub(super) fn take_packed<M: Platform, K: Kind>(memory: &M) -> u64 {
    let (Some(pools), Some(settings)) = (memory.pools(), memory.settings()) else {
        return StoreError::Internal.packed();
    };
    let pool = K::pool(pools);
    let mut tries = 0;
    loop {
        let head = pool.head.load();
        let link = head as u32;
        if link == 0 {
            break;
        }
        let number = link - 1;
        let Some(next) = K::link(memory, number) else { return StoreError::Internal.packed() };
        let tag = ((head >> 32) + 1) << 32;
        if pool.head.replace(head, tag | u64::from(next)) {
            pool.free.add(u32::MAX);
            let Some(()) = K::clear(memory, number) else { return StoreError::Internal.packed() };
            return u64::from(number);
        }
        tries += 1;
        if M::BOUNDED && tries >= TRIES {
            return StoreError::Contended.packed();
        }
    }
    let limit = settings.pool_limits[K::LIMIT].load();
    // The look before the addition keeps the counter from running away while the pool is exhausted.
    if pool.fresh.load() >= limit {
        return StoreError::MemoryFull.packed();
    }
    let number = pool.fresh.fetch_add(1);
    if number >= limit {
        return StoreError::MemoryFull.packed();
    }
    // Never used, hence still all zeros.
    u64::from(number)
}

/// Whether there are at least `count` elements left, as far as can be told while others allocate. Asked before work that would be
/// in vain without them.
#[inline(always)]
pub fn has_spare<M: Platform, K: Kind>(memory: &M, count: u32) -> bool {
    let (Some(pools), Some(settings)) = (memory.pools(), memory.settings()) else { return false };
    let pool = K::pool(pools);
    let used = pool.fresh.load().wrapping_sub(pool.free.load());
    used.wrapping_add(count) <= settings.pool_limits[K::LIMIT].load()
}

/// Gives an element back.
#[inline(always)]
pub fn give_back<M: Platform, K: Kind>(memory: &M, number: u32) {
    let Some(pools) = memory.pools() else { return };
    let pool = K::pool(pools);
    let mut tries = 0;
    // An element that cannot be given back within the tries of the kernel side is lost until the next start: a leak of
    // a few hundred bytes in the rarest of cases.
    while !M::BOUNDED || tries < TRIES {
        let head = pool.head.load();
        let Some(()) = K::set_link(memory, number, head as u32) else { return };
        let tag = ((head >> 32) + 1) << 32;
        if pool.head.replace(head, tag | u64::from(number + 1)) {
            pool.free.add(1);
            return;
        }
        tries += 1;
    }
}
