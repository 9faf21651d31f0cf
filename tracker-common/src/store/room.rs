//! Room for what an announce creates. As long as there is enough, nobody asks further. While little
//! is left, it matters who asks ([`super::admit`]); when nothing is left, what is worth least gives
//! way ([`super::evict_torrent`], [`super::evict_chunk`]).

use super::{
    admit::{NETWORK_IS_V6, admit},
    allocator, evict_chunk, evict_torrent,
    family::Family,
};
use crate::{
    admission,
    id::InfoHash,
    outcome::{IpVersion, StoreError},
    platform::{ColdPath, Context, Platform},
    scratch::HASHES_AT,
};

/// Before the torrent at [`HASHES_AT`] is stored for this peer. No lock is held.
///
/// # Errors
/// [`StoreError::AddressBusy`], and those of [`admission::check`]. That there is no room is found by whoever takes it.
#[inline(always)]
pub(super) fn for_torrent<P: Platform, F: Family>(cx: &Context<'_, P>, peer: F::Key) -> Result<(), StoreError> {
    let Some(pools) = cx.platform.pools() else { return Err(StoreError::Internal) };
    if !allocator::is_little_left(pools.swarms.used(), cx.settings.pool_limits[0].load()) {
        return Ok(());
    }
    note_requester::<P, F>(cx, peer);
    if cx.platform.run_cold(ColdPath::ClaimTorrent)? != 0 {
        cx.platform.run_cold(ColdPath::EvictTorrent)?;
    }
    Ok(())
}

/// Before a chunk is taken for this peer. Locks of swarms and partitions may be held.
///
/// # Errors
/// [`StoreError::AddressBusy`].
#[inline(always)]
pub(super) fn for_peer<P: Platform, F: Family>(cx: &Context<'_, P>, peer: F::Key) -> Result<(), StoreError> {
    if !allocator::is_nearly_full::<P, F::Chunk>(cx) {
        return Ok(());
    }
    note_requester::<P, F>(cx, peer);
    cx.platform.run_cold(ColdPath::ClaimChunk(F::VERSION)).map(|_| ())
}

/// Whether there are as many chunks as a split needs. If not, there is one more next time.
#[inline(always)]
pub(super) fn for_split<P: Platform, F: Family>(cx: &Context<'_, P>, peer: F::Key) -> bool {
    if allocator::has_spare::<P, F::Chunk>(cx, SPARE) {
        return true;
    }
    note_requester::<P, F>(cx, peer);
    let _ = cx.platform.run_cold(ColdPath::ClaimChunk(F::VERSION));
    false
}

#[inline(always)]
fn note_requester<P: Platform, F: Family>(cx: &Context<'_, P>, peer: F::Key) {
    let address = F::address_of(peer);
    cx.scratch.requester[0].store(address);
    let family = if F::VERSION == IpVersion::V6 { NETWORK_IS_V6 } else { 0 };
    cx.scratch.requester[1].store(F::network(address) | family);
}

/// What [`ColdPath::ClaimTorrent`] stands for. The torrent is at [`HASHES_AT`].
///
/// # Errors
/// [`StoreError::AddressBusy`], and those of [`admission::check`].
#[inline(always)]
pub(super) fn claim_torrent<P: Platform>(cx: &Context<'_, P>) -> Result<u32, StoreError> {
    let Some(info_hash) = cx.scratch.get::<InfoHash>(HASHES_AT) else { return Err(StoreError::Internal) };
    // Nobody gives way to a torrent that is refused.
    admission::check(cx, &info_hash)?;
    admit(cx)?;
    let Some(pools) = cx.platform.pools() else { return Err(StoreError::Internal) };
    let full = pools.swarms.used() >= cx.settings.pool_limits[0].load();
    Ok(u32::from(full && evict_torrent::find(cx)))
}

/// What [`ColdPath::ClaimChunk`] stands for.
///
/// # Errors
/// [`StoreError::AddressBusy`].
#[inline(always)]
pub(super) fn claim_chunk<P: Platform, F: Family>(cx: &Context<'_, P>) -> Result<u32, StoreError> {
    admit(cx)?;
    if !allocator::has_spare::<P, F::Chunk>(cx, SPARE) {
        evict_chunk::evict::<P, F>(cx);
    }
    Ok(0)
}

/// Chunks that are kept free: half of a full partition and the directory nodes, so that swarms can
/// split.
const SPARE: u32 = super::layout::PARTITION_CHUNKS / 2 + 2;
