//! A list of peers without gaps, first leechers and then seeders, in no other order. Chunk after
//! chunk is full, and only the last one may have room. So a sample can be copied as it stands, also
//! one of leechers; a new peer goes to the end of its kind, and a peer that leaves is replaced by the
//! last one of it. A peer is found by looking at all of its list.
//!
//! There are two kinds: a [partition](super::partition), and the [swarm record](super::record)
//! itself as long as a family is neither small nor big.
//!
//! The list's lock is held wherever it is changed. Readers without the lock look at no more peers
//! than [`List::occupancy`] says.

use super::{
    allocator,
    family::Family,
    journal::{LOCKS, SLOTS},
    layout::{Occupancy, Swarm},
    lock::Lock,
    slot::{LEECHER, OCCUPIED, Slot, Slots, age},
};
use crate::{
    codegen::barrier_var,
    id::ChunkId,
    outcome::{Event, StoreError},
    platform::{Context, Platform},
    scratch::Scratch,
};

/// What lists of peers are kept in.
pub trait List<F: Family> {
    /// Most chunks of a list.
    const CHUNKS: u32;
    /// Whether few peers can be kept in slots instead (`resize::list_to_slots`).
    const HAS_SLOTS: bool;

    /// The lock of the list.
    fn lock(&self) -> &Lock;
    /// How many peers it has. They fill its chunks one after the other, first leechers and then
    /// seeders.
    fn occupancy(&self) -> Occupancy;
    /// Changes that. The lock is held.
    fn set_occupancy(&self, occupancy: Occupancy);
    /// Adds to the number of peers that the swarm's header counts, if that is another one.
    fn count_in_swarm(swarm: &Swarm, peers: u64);
    /// The number of a chunk; of those that the peers fill it is one of this list. `None` at
    /// [`List::CHUNKS`] and beyond.
    fn chunk_id(&self, index: u32) -> Option<ChunkId>;
    /// Changes that; nothing at [`List::CHUNKS`] and beyond. The lock is held.
    fn set_chunk_id(&self, index: u32, id: ChunkId);
    /// Notes that it holds a peer with these scopes. The lock is held.
    fn note_scopes(&self, scopes: u32);

    /// How many peers it has.
    #[inline(always)]
    fn peers(&self) -> u32 {
        self.occupancy().peers
    }
}

/// How many chunks this many peers take.
#[inline(always)]
#[must_use]
pub const fn chunks_for<F: Family>(peers: u32) -> u32 {
    peers.div_ceil(F::CHUNK_SLOTS)
}

/// A chunk of a list.
#[inline(always)]
pub(super) fn chunk<'m, P: Platform, F: Family, L: List<F>>(
    platform: &'m P,
    list: &L,
    index: u32,
) -> Option<Slots<'m, F>> {
    F::chunk(platform, list.chunk_id(index)?)
}

/// Brings the peers nearer.
#[inline(always)]
pub(super) fn prefetch<P: Platform, F: Family, L: List<F>>(platform: &P, list: &L) {
    for index in 0..chunks_for::<F>(list.peers()).min(L::CHUNKS) {
        if let Some(slots) = chunk::<P, F, _>(platform, list, index) {
            slots.prefetch();
        }
    }
}

/// A slot of a list.
#[inline(always)]
pub(super) fn slot<'m, P: Platform, F: Family, L: List<F>>(
    platform: &'m P,
    list: &L,
    number: u32,
) -> Option<Slot<'m, F>> {
    let slots = chunk::<P, F, _>(platform, list, number / F::CHUNK_SLOTS)?;
    // The compiler knows that the remainder is small, and must not take the mask away that shows it
    // to the verifier.
    Some(slots.slot(barrier_var(u64::from(number % F::CHUNK_SLOTS)) as usize % F::CHUNK_SLOTS as usize))
}

/// Finds the number of the slot with this peer.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn find<P: Platform, F: Family, L: List<F>>(cx: &Context<'_, P>, list: &L, key: F::Key) -> Option<u32> {
    find_first::<P, F, L>(cx, list, |slot| slot.matches(key))
}

/// The first slot whose peer has the address of this one ([`Slot::address`]); a slot without a peer
/// may look like one of an IPv6 address that is all zeros.
#[inline(always)]
pub(super) fn find_neighbour<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    key: F::Key,
) -> Option<u32> {
    find_first::<P, F, L>(cx, list, |slot| slot.address() == F::address_of(key))
}

/// The first slot that looks as if it held this peer ([`Slot::resembles`]), with half the work of
/// an exact search. Whoever finds another peer there has to look again; and whoever holds no lock
/// has to make sure afterwards that the list has not changed meanwhile.
#[inline(always)]
pub(super) fn find_likely<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    key: F::Key,
) -> Option<u32> {
    find_first::<P, F, L>(cx, list, |slot| slot.resembles(key))
}

#[inline(always)]
fn find_first<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    is_wanted: impl Fn(Slot<'_, F>) -> bool + Copy,
) -> Option<u32> {
    let peers = list.peers();
    // The number goes through memory, so that the verifier sees one way on from here and not one
    // per slot.
    cx.scratch.found_slot.store(u32::MAX);
    for index in 0..L::CHUNKS {
        if index * F::CHUNK_SLOTS >= peers {
            break;
        }
        let slots = chunk::<P, F, _>(cx.platform, list, index)?;
        if find_in(cx.scratch, slots, index * F::CHUNK_SLOTS, is_wanted) {
            break;
        }
    }
    let found = cx.scratch.found_slot.load();
    if found == u32::MAX { None } else { Some(found) }
}

/// Looks through a chunk, whose first slot has the number `first`. Slots without a peer match no
/// key.
#[inline(always)]
fn find_in<F: Family>(
    scratch: &Scratch,
    slots: Slots<'_, F>,
    first: u32,
    is_wanted: impl Fn(Slot<'_, F>) -> bool,
) -> bool {
    for number in 0..F::CHUNK_SLOTS {
        if is_wanted(slots.slot(number as usize)) {
            scratch.found_slot.store(first + number);
            return true;
        }
    }
    false
}

/// Writes down the slots of a list that are going to be overwritten one after the other, and how many
/// peers it has.
#[inline(always)]
pub(super) fn keep<P: Platform, F: Family, L: List<F>, const COUNT: usize>(
    platform: &P,
    list: &L,
    numbers: [u32; COUNT],
) {
    if let Some(journal) = platform.journal() {
        let is_its = |place| platform.lock(place).is_some_and(|lock| core::ptr::eq(lock, list.lock()));
        let Some(lock) = (0..LOCKS).find(|number| journal.lock(*number).is_some_and(is_its)) else { return };
        let slots = numbers.into_iter().filter_map(|number| {
            let slot = slot::<P, F, L>(platform, list, number)?;
            Some((number, core::array::from_fn(|index| if index < F::WORDS { slot.word(index).load() } else { 0 })))
        });
        journal.keep_list(lock, F::VERSION, list.occupancy().to_kept(), slots);
    }
}

/// The list is in order.
#[inline(always)]
pub(super) fn kept<P: Platform>(platform: &P) {
    if let Some(journal) = platform.journal() {
        journal.list_done();
    }
}

/// Takes a chunk for the place at `index`.
#[inline(always)]
pub(super) fn reserve_one<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    index: u32,
) -> Result<(), StoreError> {
    let id = allocator::take::<P, F::Chunk>(cx)?;
    list.set_chunk_id(index, id);
    Ok(())
}

/// Puts a peer into its place: a seeder behind the last one, a leecher behind the last leecher, and
/// the first seeder moves to the end. There is a chunk for it.
#[inline(always)]
pub(super) fn put<P: Platform, F: Family, L: List<F>>(platform: &P, list: &L, key: F::Key, flags: u64) -> Option<()> {
    let Occupancy { peers, leechers } = list.occupancy();
    let is_leecher = (flags & LEECHER) / LEECHER;
    let place = if is_leecher == 0 { peers } else { leechers };
    let slot = |number| slot::<P, F, L>(platform, list, number);
    if place != peers {
        list.lock().begin_change();
        keep::<P, F, L, 1>(platform, list, [place]);
        slot(peers)?.copy(slot(place)?);
    }
    slot(place)?.occupy(key, flags);
    // Only now: readers without the lock look at no more peers than this says.
    list.set_occupancy(Occupancy { peers: peers + 1, leechers: leechers + is_leecher as u32 });
    kept(platform);
    Some(())
}

/// Moves a peer that has become a seeder or a leecher to its place: it changes places with the last
/// leecher or with the first seeder.
#[inline(always)]
pub(super) fn reorder<P: Platform, F: Family, L: List<F>>(platform: &P, list: &L, number: u32) -> Option<()> {
    let Occupancy { peers, leechers } = list.occupancy();
    let moved = slot::<P, F, L>(platform, list, number)?;
    let is_leecher = moved.flags() & LEECHER != 0;
    if is_leecher == (number < leechers) {
        return Some(());
    }
    list.lock().begin_change();
    let (border, leechers) = if is_leecher { (leechers, leechers + 1) } else { (leechers - 1, leechers - 1) };
    keep::<P, F, L, 2>(platform, list, [number, border]);
    moved.swap(slot::<P, F, L>(platform, list, border)?);
    list.set_occupancy(Occupancy { peers, leechers });
    kept(platform);
    Some(())
}

/// Adds a peer.
///
/// # Errors
/// [`StoreError::MemoryFull`], also when the list is full; [`StoreError::Contended`].
#[inline(always)]
pub(super) fn insert<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    key: F::Key,
    flags: u64,
) -> Result<(), StoreError> {
    let peers = list.peers();
    if peers >= L::CHUNKS * F::CHUNK_SLOTS {
        return Err(StoreError::MemoryFull);
    }
    if peers.is_multiple_of(F::CHUNK_SLOTS) {
        reserve_one::<P, F, _>(cx, list, peers / F::CHUNK_SLOTS)?;
        cx.platform.event(Event::Grown);
    }
    put::<P, F, _>(cx.platform, list, key, flags).ok_or(StoreError::Internal)?;
    if peers.is_multiple_of(F::CHUNK_SLOTS)
        && cx.platform.journal().is_some()
        && let Some(id) = list.chunk_id(peers / F::CHUNK_SLOTS)
    {
        allocator::settle::<P, F::Chunk>(cx.platform, id);
    }
    Ok(())
}

/// Takes the peer out of a slot: the last peer gets the slot; that of a leecher the last leecher
/// does, and the last peer gets its. The change has been announced
/// ([`super::lock::Lock::begin_change`]); the caller gives the chunk back that may be left empty
/// ([`release_last`]).
#[inline(always)]
pub(super) fn remove<P: Platform, F: Family, L: List<F>>(platform: &P, list: &L, number: u32) -> Option<()> {
    let Occupancy { peers, mut leechers } = list.occupancy();
    let last = peers.wrapping_sub(1);
    let slot = |number| slot::<P, F, L>(platform, list, number);
    let mut freed = slot(number)?;
    if platform.journal().is_some() {
        if last.is_multiple_of(F::CHUNK_SLOTS)
            && let Some(id) = list.chunk_id(last / F::CHUNK_SLOTS)
        {
            allocator::note::<P, F::Chunk>(platform, id);
        }
        keep::<P, F, L, SLOTS>(platform, list, [number, if number < leechers { leechers - 1 } else { last }, last]);
    }
    if number < leechers {
        leechers -= 1;
        let last_leecher = slot(leechers)?;
        freed.copy(last_leecher);
        freed = last_leecher;
    }
    freed.take(slot(last)?);
    list.set_occupancy(Occupancy { peers: last, leechers });
    kept(platform);
    Some(())
}

/// Gives back the chunk that the last [`remove`] has left empty, if it has.
#[inline(always)]
pub(super) fn release_last<P: Platform, F: Family, L: List<F>>(platform: &P, list: &L) {
    let peers = list.peers();
    if peers.is_multiple_of(F::CHUNK_SLOTS)
        && let Some(id) = list.chunk_id(peers / F::CHUNK_SLOTS)
    {
        allocator::give_back::<P, F::Chunk>(platform, id);
    }
}

/// Which slot a new peer with this hash gets when there is no memory left: that of the peer, in a
/// chunk chosen by the hash, that has not announced for the longest time. `None` without any peer.
#[inline(always)]
pub(super) fn oldest<P: Platform, F: Family, L: List<F>>(cx: &Context<'_, P>, list: &L, hash: u32) -> Option<u32> {
    let chunks = chunks_for::<F>(list.peers());
    if chunks == 0 {
        return None;
    }
    let first = cx.scratch.as_unknown_scalar((((hash >> 16) * chunks) >> 16) * F::CHUNK_SLOTS);
    let slots = chunk::<P, F, _>(cx.platform, list, first / F::CHUNK_SLOTS)?;
    Some(first + oldest_of::<F>(cx.scratch, slots, F::CHUNK_SLOTS as usize, cx.settings.minute.load()))
}

/// Which of the first `count` slots holds the peer that has not announced for the longest time.
#[inline(always)]
pub(super) fn oldest_of<F: Family>(scratch: &Scratch, slots: Slots<'_, F>, count: usize, minute: u32) -> u32 {
    scratch.found_slot.store(0);
    scratch.oldest_age.store(0);
    for number in 0..count {
        let flags = slots.slot(number).flags();
        let age = age(flags, minute);
        if flags & OCCUPIED != 0 && age > scratch.oldest_age.load() {
            scratch.oldest_age.store(age);
            scratch.found_slot.store(number as u32);
        }
    }
    scratch.found_slot.load()
}

#[cfg(test)]
mod tests;
