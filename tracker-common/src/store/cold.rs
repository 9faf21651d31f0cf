//! Work that few announces need: storing a torrent, giving a swarm more room, making room where there
//! is none.

use super::{
    crowd, evict_torrent,
    family::{Family, V4, V6},
    hash::TorrentKey,
    index, resize, room, tell,
};
use crate::{
    admission::{self, blocklist},
    bep15::card_id,
    codegen::barrier_var,
    id::{InfoHash, PartitionId, SwarmId},
    limits,
    outcome::{IpVersion, StoreError},
    platform::{ColdPath, Context, Platform},
    scratch::HASHES_AT,
};

/// Does the work here. What the number means is said at [`ColdPath`].
///
/// # Errors
/// [`StoreError::TorrentsFull`], [`StoreError::MemoryFull`], [`StoreError::AddressBusy`],
/// [`StoreError::Contended`], and those of [`admission::check`].
#[inline(always)]
pub fn run<P: Platform>(work: ColdPath, platform: &P) -> Result<u32, StoreError> {
    let cx = &Context::new(platform)?;
    match work {
        ColdPath::CreateTorrent => create_torrent(cx),
        ColdPath::FindTorrent(at) => find_torrent(cx, at),
        ColdPath::Promote(IpVersion::V4, swarm) => promote::<P, V4>(cx, swarm),
        ColdPath::Promote(IpVersion::V6, swarm) => promote::<P, V6>(cx, swarm),
        ColdPath::Split(IpVersion::V4, swarm) => split::<P, V4>(cx, swarm),
        ColdPath::Split(IpVersion::V6, swarm) => split::<P, V6>(cx, swarm),
        ColdPath::ClaimTorrent => room::claim_torrent(cx),
        ColdPath::EvictTorrent => Ok(evict_torrent::evict(cx)),
        ColdPath::ClaimChunk(IpVersion::V4) => room::claim_chunk::<P, V4>(cx),
        ColdPath::ClaimChunk(IpVersion::V6) => room::claim_chunk::<P, V6>(cx),
        ColdPath::Crowd(IpVersion::V4, swarm, list) => crowd_of::<P, V4>(cx, swarm, list),
        ColdPath::Crowd(IpVersion::V6, swarm, list) => crowd_of::<P, V6>(cx, swarm, list),
        ColdPath::BlockList(address) => Ok(blocklist::search(cx, address)),
        ColdPath::Limit(kind) => limits::take(cx, kind),
        ColdPath::Tell => limits::tell(cx),
        ColdPath::CardId(source, id) => Ok(u32::from(card_id::accept(cx.settings, source, id))),
        ColdPath::TellChange(version) => tell::tell(cx, version),
    }
}

#[inline(always)]
fn create_torrent<P: Platform>(cx: &Context<'_, P>) -> Result<u32, StoreError> {
    let Some(info_hash) = cx.scratch.get::<InfoHash>(HASHES_AT) else { return Err(StoreError::Internal) };
    admission::check(cx, &info_hash)?;
    index::create(cx, &TorrentKey::new(cx.settings, &info_hash)).map(SwarmId::number)
}

#[inline(always)]
fn find_torrent<P: Platform>(cx: &Context<'_, P>, at: u32) -> Result<u32, StoreError> {
    let Some(info_hash) = cx.scratch.get::<InfoHash>(at as usize) else { return Err(StoreError::Internal) };
    Ok(index::find(cx, &TorrentKey::new(cx.settings, &info_hash)).map_or(0, |swarm| swarm.id.stored()))
}

#[inline(always)]
fn promote<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmId) -> Result<u32, StoreError> {
    let Some(swarm) = cx.swarm(swarm) else { return Err(StoreError::Internal) };
    resize::promote::<P, F>(cx, swarm).map(|()| 0)
}

#[inline(always)]
fn split<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmId) -> Result<u32, StoreError> {
    let Some(swarm) = cx.swarm(swarm) else { return Err(StoreError::Internal) };
    resize::split::<P, F>(cx, swarm).map(|()| 0)
}

#[inline(always)]
fn crowd_of<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmId, list: PartitionId) -> Result<u32, StoreError> {
    let place = match cx.swarm(swarm) {
        Some(swarm) => u64::from(crowd::place::<P, F>(cx, swarm, list)),
        None => StoreError::Internal.packed(),
    };
    StoreError::unpack(barrier_var(place))
}
