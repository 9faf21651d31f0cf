//! Which peers give way to those of other swarms when there is no chunk left.
//!
//! Some lists all over the store are looked at: the last two chunks of each. If the last one can be
//! given back at the price of peers that are worth little, they go. Those are peers that are overdue,
//! so that they are probably gone; and all but one of those that have one address, or, if nothing like
//! that is found, that are in one network that one user may have all of
//! ([`super::slot::SlotFormat::network`]). Nobody else is evicted here; if nothing is found, the
//! oldest peer of a newcomer's own swarm gives way (`list::oldest`).
//!
//! Locks of the newcomer's own swarm or partition may be held, so others are tried once and never
//! waited for.

use super::{
    family::{Family, V6},
    hash::mix,
    journal::Place,
    layout::{BUCKET_SWARMS, Partition, SWARM_ALIVE, Swarm},
    list::{self, List, chunks_for},
    membership::count_out,
    resize::list_to_slots,
    slot::{OCCUPIED, Slot, age},
};
use crate::{
    codegen::{is_equal, is_nonzero},
    id::{PartitionId, SwarmId},
    outcome::Event,
    platform::{Context, Platform, Step},
};
use core::marker::PhantomData;

/// Partitions that are looked at.
const PARTITIONS: u32 = 32;

/// Swarm records that are looked at: those of some buckets.
const RECORDS: u32 = 4 * BUCKET_SWARMS as u32;

/// Chunks of a list that are looked at, from the last one back. In the last one alone there may be a
/// single peer, which resembles nobody.
const CHUNKS: u32 = 2;

/// A peer is overdue so many minutes after it should have announced at the latest.
const PATIENCE: u32 = 2;

/// From how many minutes on a peer is overdue; 0 if that is not known.
#[inline(always)]
fn due<P: Platform>(cx: &Context<'_, P>) -> u32 {
    let interval = cx.settings.interval.load();
    if interval == 0 { 0 } else { (interval + cx.settings.interval_jitter.load()) / 60 + PATIENCE }
}

/// By what peers are found to be worth little.
#[derive(Clone, Copy)]
struct Judge {
    minute: u32,
    due: u32,
    /// The address of one that may stay.
    address: u64,
    /// The bits of addresses that count.
    mask: u64,
}

impl Judge {
    #[inline(always)]
    fn new<P: Platform>(cx: &Context<'_, P>, address: u64) -> Self {
        Self { minute: cx.minute(), due: due(cx), address, mask: cx.scratch.eviction.mask.load() }
    }

    /// 1 for a peer that is overdue or has the address, else 0; without a branch. Nothing is known
    /// of a slot without a peer.
    #[inline(always)]
    fn condemns<F: Family>(&self, slot: Slot<'_, F>) -> u64 {
        let (due, age) = (u64::from(self.due), u64::from(age(slot.flags(), self.minute)));
        let is_overdue = is_nonzero(due) & (due.wrapping_sub(1).wrapping_sub(age) >> 63);
        is_overdue | is_equal((slot.address() ^ self.address) & self.mask, 0)
    }
}

/// The peers that have to go so that a list with so many can give a chunk back: those behind the
/// first so many. The last chunk of a list that a record names goes as soon as the record's slots
/// are enough.
#[inline(always)]
fn staying<F: Family, L: List<F>>(peers: u32) -> u32 {
    let before = (chunks_for::<F>(peers) - 1) * F::CHUNK_SLOTS;
    if before == 0 && L::HAS_SLOTS { F::RECORD_SLOTS as u32 } else { before }
}

/// The first peer that is looked at in a list with so many.
#[inline(always)]
fn first_seen<F: Family>(peers: u32) -> u32 {
    chunks_for::<F>(peers).saturating_sub(CHUNKS) * F::CHUNK_SLOTS
}

/// Which of the peers that are looked at, in a list with so many, the others are compared with.
#[inline(always)]
fn pivot<P: Platform, F: Family>(cx: &Context<'_, P>, peers: u32) -> u32 {
    let first = first_seen::<F>(peers);
    first + ((u64::from(cx.scratch.eviction.random.load()) * u64::from(peers - first)) >> 32) as u32
}

/// One of `count` by a random number, another one from turn to turn.
#[inline(always)]
fn draw<P: Platform>(cx: &Context<'_, P>, turn: u32, count: u32) -> u32 {
    let random = u64::from(cx.scratch.eviction.random.load()) << 32 | u64::from(turn);
    (((mix(random) >> 32) * u64::from(count)) >> 32) as u32
}

/// Whether the last chunk of this list can be had. Its lock is not held.
#[inline(always)]
fn can_be_had<P: Platform, F: Family, L: List<F>>(cx: &Context<'_, P>, list: &L) -> bool {
    let peers = list.peers();
    if peers == 0 {
        return false;
    }
    let pivot = cx.scratch.as_unknown_scalar(pivot::<P, F>(cx, peers));
    let Some(pivot) = list::slot::<P, F, L>(cx.platform, list, pivot) else { return false };
    let judge = Judge::new(cx, pivot.address());
    let first = first_seen::<F>(peers) / F::CHUNK_SLOTS;
    let mut condemned = 0;
    for index in 0..CHUNKS {
        let index = first + index;
        if index >= chunks_for::<F>(peers) {
            break;
        }
        let Some(slots) = list::chunk::<P, F, L>(cx.platform, list, index) else { return false };
        for number in 0..F::CHUNK_SLOTS as usize {
            let slot = slots.slot(number);
            condemned += judge.condemns(slot) & (slot.flags() / OCCUPIED);
        }
    }
    // One of them stays.
    condemned > u64::from(peers.saturating_sub(staying::<F, L>(peers)))
}

/// Whether the partition, whose number may be an old one, is in use by this family.
#[inline(always)]
fn is_in_use<F: Family>(partition: &Partition) -> bool {
    partition.owner.load() != 0 && partition.index.load() & V6::TAG == F::TAG
}

/// Looks for a list that can give a chunk back.
struct Search<F> {
    family: PhantomData<F>,
}

impl<P: Platform, F: Family> Step<P> for Search<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let (Ok(cx), Some(pools)) = (Context::new(platform), platform.pools()) else { return false };
        let candidate = &cx.scratch.eviction.candidate;
        if turn < PARTITIONS {
            let id = PartitionId::new(draw(&cx, turn, pools.partitions.fresh.load()));
            let Some(partition) = platform.partition(id) else { return true };
            if is_in_use::<F>(partition) && can_be_had::<P, F, Partition>(&cx, partition) {
                candidate.store(u64::from(id.stored()));
                return false;
            }
            return true;
        }
        let (group, place) = (turn / BUCKET_SWARMS as u32, turn % BUCKET_SWARMS as u32 + 1);
        let id = SwarmId::at(draw(&cx, !group, cx.settings.index_buckets.load()), place);
        let Some(record) = platform.swarm(id) else { return true };
        if record.active.load() & SWARM_ALIVE != 0 && F::is_list(record) && can_be_had::<P, F, Swarm>(&cx, record) {
            candidate.store(u64::from(id.stored()) << 32);
            return false;
        }
        true
    }
}

/// Takes those peers out of a list that are worth little, from the last one on. Its lock is held.
struct Thin<F> {
    family: PhantomData<F>,
}

/// One turn of that.
#[inline(always)]
fn thin<P: Platform, F: Family, L: List<F>>(cx: &Context<'_, P>, owner: &Swarm, list: &L, turn: u32) -> bool {
    let eviction = &cx.scratch.eviction;
    let peers = eviction.peers.load();
    if turn >= peers || list.peers() <= eviction.staying.load() {
        return false;
    }
    let number = cx.scratch.as_unknown_scalar(peers - 1 - turn);
    let Some(slot) = list::slot::<P, F, L>(cx.platform, list, number) else { return false };
    let judge = Judge::new(cx, eviction.address.load());
    if number == eviction.pivot.load() || judge.condemns(slot) == 0 {
        return true;
    }
    count_out(cx.platform, owner, slot);
    cx.platform.event(Event::Evicted);
    let removed = list::remove::<P, F, L>(cx.platform, list, number).is_some();
    L::count_in_swarm(owner, 1_u64.wrapping_neg());
    removed
}

impl<P: Platform, F: Family> Step<P> for Thin<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let found = cx.scratch.eviction.candidate.load();
        if found as u32 == 0 {
            let Some(record) = platform.swarm(SwarmId::new(((found >> 32) as u32).wrapping_sub(1))) else {
                return false;
            };
            return thin::<P, F, Swarm>(&cx, record, record, turn);
        }
        let Some(partition) = platform.partition(PartitionId::new((found as u32).wrapping_sub(1))) else {
            return false;
        };
        let Some(owner) = platform.swarm(SwarmId::new(partition.owner.load().wrapping_sub(1))) else { return false };
        thin::<P, F, Partition>(&cx, owner, partition, turn)
    }
}

/// Takes a chunk from a list whose lock is held. The list has been seen to be one of this family.
#[inline(always)]
fn take_from<P: Platform, F: Family, L: List<F>>(cx: &Context<'_, P>, list: &L) {
    let eviction = &cx.scratch.eviction;
    let peers = list.peers();
    if peers == 0 {
        return;
    }
    let before = (chunks_for::<F>(peers) - 1) * F::CHUNK_SLOTS;
    let pivot = cx.scratch.as_unknown_scalar(pivot::<P, F>(cx, peers));
    let Some(slot) = list::slot::<P, F, L>(cx.platform, list, pivot) else { return };
    eviction.peers.store(peers);
    eviction.staying.store(staying::<F, L>(peers));
    eviction.address.store(slot.address());
    eviction.pivot.store(pivot);
    list.lock().begin_change();
    cx.platform.repeat(CHUNKS * F::CHUNK_SLOTS, &mut Thin::<F> { family: PhantomData });
    // No more have been taken out than were in the last chunk.
    if list.peers() == before {
        list::release_last::<P, F, L>(cx.platform, list);
    }
}

/// Frees a chunk, if one is found that can be had. Locks of one swarm and of its partitions may be
/// held.
#[inline(always)]
pub(super) fn evict<P: Platform, F: Family>(cx: &Context<'_, P>) {
    let eviction = &cx.scratch.eviction;
    eviction.random.store(cx.random());
    eviction.candidate.store(0);
    eviction.mask.store(u64::MAX);
    cx.platform.repeat(PARTITIONS + RECORDS, &mut Search::<F> { family: PhantomData });
    if eviction.candidate.load() == 0 {
        eviction.mask.store(F::network(u64::MAX));
        cx.platform.repeat(PARTITIONS + RECORDS, &mut Search::<F> { family: PhantomData });
    }
    let found = eviction.candidate.load();
    if found == 0 {
        return;
    }
    if found as u32 == 0 {
        let Some(swarm) = cx.swarm(SwarmId::new(((found >> 32) as u32).wrapping_sub(1))) else { return };
        if cx.platform.try_acquire(&swarm.record.lock, Place::Swarm(swarm.id)) {
            if swarm.record.active.load() & SWARM_ALIVE != 0 && F::is_list(swarm.record) {
                take_from::<P, F, Swarm>(cx, swarm.record);
                list_to_slots::<P, F>(cx, swarm);
            }
            cx.platform.release(&swarm.record.lock);
        }
    } else {
        let id = PartitionId::new((found as u32).wrapping_sub(1));
        let Some(partition) = cx.platform.partition(id) else { return };
        if cx.platform.try_acquire(&partition.lock, Place::Partition(id)) {
            if is_in_use::<F>(partition) {
                take_from::<P, F, Partition>(cx, partition);
            }
            cx.platform.release(&partition.lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            family::V4,
            membership::PeerEvent,
            resize,
            sweep::{Ages, Batch, sweep},
            tests::{CHUNKS_V4, Peers, ROOMY, announce, new_swarm, peers, used},
        },
        *,
    };
    use crate::host::{FIRST_MINUTE, HostStore};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Who {
        Strangers,
        OneNetwork,
        Overdue,
    }

    fn gives_way<F: Peers>(count: u32, in_partition: bool, who: Who) -> [u32; 2] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        store.settings().interval.store(1800);
        let swarm = new_swarm(&cx, 0);
        for number in 0..count {
            // 256 of them are a network.
            let peer = if who == Who::OneNetwork { number } else { number * 256 };
            announce::<_, F>(&cx, peer, PeerEvent::Started).expect("room");
            if in_partition && F::is_list(swarm.record) {
                assert!(swarm.record.lock.try_lock());
                resize::promote::<_, F>(&cx, swarm).expect("a partition");
                swarm.record.lock.unlock();
            }
        }
        store.settings().minute.store(FIRST_MINUTE + if who == Who::Overdue { 35 } else { 0 });
        let before = used(&store);
        for _ in 0..100 {
            if used(&store) == before {
                evict::<_, F>(&cx);
            }
        }
        let left = peers::<_, F>(&cx, swarm).len() as u32;
        let ages = Ages { peer_timeout: 8000, idle: 8000, idle_completed: 8000 };
        let report = sweep(&cx, &Batch { first: 0, end: u32::MAX, ages }, |_, _| {});
        assert_eq!((report.recounted, report.leechers), (0, u64::from(left)), "counts");
        [before[CHUNKS_V4] - used(&store)[CHUNKS_V4], count - left]
    }

    #[test]
    fn a_chunk_goes_at_the_price_of_peers_that_are_worth_little_and_of_no_others() {
        // (peers, in a partition, who, [chunks, peers] that are gone)
        for (count, in_partition, who, gone) in [
            (32, false, Who::OneNetwork, [1, 27]),
            (33, false, Who::OneNetwork, [1, 1]),
            (64, false, Who::OneNetwork, [1, 32]),
            (32, true, Who::OneNetwork, [0, 0]),
            (33, true, Who::OneNetwork, [1, 1]),
            (64, true, Who::OneNetwork, [1, 32]),
            (65, true, Who::OneNetwork, [1, 1]),
            (33, false, Who::Overdue, [1, 1]),
            (33, true, Who::Overdue, [1, 1]),
            (64, true, Who::Overdue, [1, 32]),
            (32, false, Who::Strangers, [0, 0]),
            (33, false, Who::Strangers, [0, 0]),
            (33, true, Who::Strangers, [0, 0]),
            (64, true, Who::Strangers, [0, 0]),
        ] {
            assert_eq!(gives_way::<V4>(count, in_partition, who), gone, "{count} {in_partition} {who:?}");
        }
    }
}
