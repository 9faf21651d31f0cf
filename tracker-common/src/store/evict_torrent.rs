//! Which torrent gives way to a new one when there are as many as there may be.
//!
//! Some places of some buckets are looked at, and of the torrents there the one that is worth least goes
//! (`Worth`): first those without peers, even if downloads were completed, and the oldest of them;
//! then those all of whose peers are in one network that one user may have all of
//! ([`super::slot::SlotFormat::network`]). A torrent with peers of several networks never goes.
//!
//! An attacker invents torrents, and those of others may be as lonely as his. But his are many: if
//! several of the torrents that are looked at belong to one network, they go before others. Among
//! equals those go first whose peers have one address; then what has been announced once only; then
//! what has been silent for longest.

use super::{
    allocator,
    family::{Family, V4, V6},
    hash::mix,
    index,
    journal::Place,
    layout::{BUCKET_SWARMS, DirectoryHeader, SWARM_ALIVE, SWARM_SETTLED, Swarm, unpack_counts},
    list::{self, List},
    slot::{OCCUPIED, SlotFormat as _},
};
use crate::{
    id::SwarmId,
    outcome::{Counter, Event},
    platform::{Context, Platform, Step, SwarmRef},
    scratch::{SEEN_AT, Scratch},
};

/// Buckets that are looked into.
const BUCKETS: u32 = 16;

/// Places of each that are looked at.
const PLACES: u32 = 8;

/// Counters of networks, one byte each, behind what is [seen](SEEN_AT) of the torrents, a word each.
/// Each network has two of them, by either half of its hash, and the lower one counts: it is rare
/// that both are also an attacker's.
const NETWORKS: usize = 2 * 256;

/// Where these counters are.
const NETWORKS_AT: usize = SEEN_AT + (BUCKETS * PLACES) as usize * 8;

/// Swarms with more peers are not looked at closely.
const FEW: u32 = 16;

/// So many torrents of a network, of all that are looked at, are nothing unusual.
const USUAL: u64 = 4;

/// What the peers of a family have in common.
#[derive(Clone, Copy)]
struct Alike {
    /// Not 0 if there are any.
    any: u64,
    /// The bits that all addresses have.
    common: u64,
    /// The bits in which addresses differ.
    different: u64,
}

/// What the peers of a family have in common that are in the slots of the record or in one chunk;
/// `None` if there are more.
#[inline(always)]
fn alike<P: Platform, F: Family>(platform: &P, swarm: &Swarm) -> Option<Alike> {
    let (slots, count) = match F::directory(swarm) {
        None => (F::record(swarm), F::RECORD_SLOTS),
        Some(header) if header.is_list() && header.peers <= F::CHUNK_SLOTS => {
            // An empty list has no chunk any more.
            if header.peers == 0 {
                return Some(Alike { any: 0, common: 0, different: 0 });
            }
            (list::chunk::<P, F, Swarm>(platform, swarm, 0)?, F::CHUNK_SLOTS as usize)
        }
        Some(_) => return None,
    };
    let (mut any, mut every) = (0, u64::MAX);
    let mut occupied = 0;
    for number in 0..count {
        let slot = slots.slot(number);
        // All ones for a peer, else 0.
        let there = (slot.flags() / OCCUPIED).wrapping_neg();
        let address = slot.address();
        any |= address & there;
        every &= address | !there;
        occupied |= there;
    }
    Some(Alike { any: occupied, common: any & every, different: (any ^ every) & occupied })
}

/// What a torrent is worth, the higher the less: the top 2 bits say whether it goes at all, and
/// before all that have peers; bits from [`OTHERS`] on, how many others of its network there are;
/// [`ADDRESS`], whether its peers have one address; [`FRESH`], whether it was never announced again;
/// then 16 bits of minutes since the last announce; and the lowest 16 are a hash of the network.
type Worth = u64;

/// Peers of several networks, or many: it stays.
const STAYS: Worth = 0;
/// Its peers are of one network.
const NETWORK: Worth = 1 << 62;
/// They are even of one address.
const ADDRESS: Worth = 1 << 41;
/// It was not announced to in another minute than that in which it was stored.
const FRESH: Worth = 1 << 40;
/// It has no peers.
const EMPTY: Worth = 3 << 62;

/// Where the number of further torrents of the network stands while torrents are compared.
const OTHERS: u32 = 48;

/// What a torrent is worth by itself.
#[inline(always)]
fn worth<P: Platform>(cx: &Context<'_, P>, swarm: &Swarm) -> Worth {
    let active = swarm.active.load();
    let (seeders, leechers) = unpack_counts(swarm.counts.load());
    if active & SWARM_ALIVE == 0 || seeders + leechers > FEW {
        return STAYS;
    }
    let idle = u64::from(swarm.idle_minutes(cx.minute()) & 0xffff) << 16;
    let (Some(v4), Some(v6)) = (alike::<P, V4>(cx.platform, swarm), alike::<P, V6>(cx.platform, swarm)) else {
        return STAYS;
    };
    if v4.any | v6.any == 0 {
        return EMPTY | idle;
    }
    if V4::network(v4.different) | V6::network(v6.different) != 0 {
        return STAYS;
    }
    let both = v4.any & v6.any;
    let address = if v4.different | v6.different | both == 0 { ADDRESS } else { 0 };
    let network = if v4.any == 0 { V6::network(v6.common) } else { V4::network(v4.common) };
    let fresh = if active & SWARM_SETTLED == 0 { FRESH } else { 0 };
    NETWORK | address | fresh | idle | mix(network.wrapping_mul(cx.settings.hash_keys[1].load() | 1)) >> 48
}

/// The places of the counters of a network.
#[inline(always)]
fn counters_at(worth: Worth) -> [usize; 2] {
    [NETWORKS_AT + (worth as usize & 0xff), NETWORKS_AT + 256 + (worth as usize >> 8 & 0xff)]
}

/// The torrent that is looked at in this turn.
#[inline(always)]
fn seen_at<P: Platform>(cx: &Context<'_, P>, turn: u32) -> SwarmId {
    let hash = mix(u64::from(cx.scratch.eviction.random.load()) << 32 | u64::from(turn / PLACES));
    let bucket = ((hash >> 32) * u64::from(cx.settings.index_buckets.load())) >> 32;
    let place = ((hash as u32 & 0xffff) + turn % PLACES) % BUCKET_SWARMS as u32 + 1;
    SwarmId::at(bucket as u32, place)
}

/// Looks at the torrents of some buckets and counts their networks.
struct See;

impl<P: Platform> Step<P> for See {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let Some(swarm) = cx.swarm(seen_at(&cx, turn)) else { return false };
        let worth = worth(&cx, swarm.record);
        cx.scratch.put(SEEN_AT + turn as usize * 8, worth);
        if worth != STAYS && worth < EMPTY {
            for at in counters_at(worth) {
                cx.scratch.put(at, cx.scratch.get(at).unwrap_or(0_u8) + 1);
            }
        }
        true
    }
}

/// Finds the one of them that is worth least.
struct Choose;

impl<P: Platform> Step<P> for Choose {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Some(scratch) = platform.scratch() else { return false };
        let Some(mut worth) = scratch.get::<Worth>(SEEN_AT + turn as usize * 8) else { return false };
        if worth == STAYS {
            return true;
        }
        if worth < EMPTY {
            let [one, other] = counters_at(worth).map(|at| u64::from(scratch.get(at).unwrap_or(0_u8)));
            worth |= (if one < other { one } else { other } / USUAL) << OTHERS;
        }
        if worth > scratch.eviction.candidate.load() {
            scratch.eviction.candidate.store(worth);
            scratch.eviction.candidate_turn.store(turn);
        }
        true
    }
}

#[inline(always)]
fn clear_counters(scratch: &Scratch) {
    for word in 0..NETWORKS / 8 {
        scratch.put(NETWORKS_AT + word * 8, 0_u64);
    }
}

/// Finds the torrent that is worth least among a few, for [`evict`]. False without any.
#[inline(always)]
pub(super) fn find<P: Platform>(cx: &Context<'_, P>) -> bool {
    let eviction = &cx.scratch.eviction;
    clear_counters(cx.scratch);
    eviction.candidate.store(STAYS);
    eviction.random.store(cx.random());
    cx.platform.repeat(BUCKETS * PLACES, &mut See);
    cx.platform.repeat(BUCKETS * PLACES, &mut Choose);
    eviction.candidate.load() != STAYS
}

/// Removes the torrent that was [found](find). No lock is held. The result is 1 if that is done.
#[inline(always)]
pub(super) fn evict<P: Platform>(cx: &Context<'_, P>) -> u32 {
    let id = seen_at(cx, cx.scratch.eviction.candidate_turn.load());
    let Some(swarm) = cx.swarm(cx.scratch.as_unknown_scalar(id)) else { return 0 };
    // Whoever holds it is changing what it is worth.
    if !cx.platform.try_acquire(&swarm.record.lock, Place::Swarm(swarm.id)) {
        return 0;
    }
    note_chunk::<P, V4>(cx.platform, swarm.record);
    note_chunk::<P, V6>(cx.platform, swarm.record);
    let done = worth(cx, swarm.record) != STAYS && index::remove(cx, swarm).is_ok();
    if done {
        cx.platform.event(Event::TorrentEvicted);
        drop_peers::<P, V4>(cx, swarm);
        drop_peers::<P, V6>(cx, swarm);
    }
    cx.platform.release(&swarm.record.lock);
    u32::from(done)
}

/// Writes down the chunk that goes with a torrent.
#[inline(always)]
fn note_chunk<P: Platform, F: Family>(platform: &P, record: &Swarm) {
    if platform.journal().is_some()
        && F::is_list(record)
        && List::<F>::peers(record) != 0
        && let Some(id) = List::<F>::chunk_id(record, 0)
    {
        allocator::note::<P, F::Chunk>(platform, id);
    }
}

/// The peers of a torrent that has been removed go: those in the slots of its record or in one
/// chunk. The record's lock is held and the change announced.
#[inline(always)]
fn drop_peers<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) {
    let (peers, chunk) = match F::directory(swarm.record) {
        None => {
            let mut peers = 0;
            for number in 0..F::RECORD_SLOTS {
                peers += F::record(swarm.record).slot(number).flags() / OCCUPIED;
            }
            (peers, None)
        }
        Some(DirectoryHeader { peers: 0, .. }) => (0, None),
        Some(DirectoryHeader { peers, .. }) => (u64::from(peers), List::<F>::chunk_id(swarm.record, 0)),
    };
    for word in F::record(swarm.record).words() {
        word.store(0);
    }
    if let Some(id) = chunk {
        allocator::give_back::<P, F::Chunk>(cx.platform, id);
    }
    cx.platform.count(Counter::Event(Event::peer_removed(F::VERSION)), peers);
}
