//! Peers of one address in one swarm: at most so many ([`Settings::max_peers_per_address`]).
//!
//! A user has one or two peers in a swarm, a household or an office behind one IPv4 address some
//! more; an attacker has 65 535, and would be most of what others are told. So the peers of an
//! address, which for IPv6 is a /64, compete with each other only: the one more takes the place of
//! the one among them that has been silent for longest.
//!
//! All peers of an address are in one list ([`Settings::keep_addresses_together`]), so that it is
//! enough to look there. A search for a peer ends at the first one of its address
//! (`list::find_neighbour`): the peer itself nearly always. Only if it is another one, all
//! of them are looked at. Only where one would have to go it is asked whether its network is one without
//! limits ([`Settings::exempt_v4`]).
//!
//! Where the operator takes more IPv6 addresses for one than a /64 ([`Settings::limit_mask_v6`]), each new
//! peer is looked for once more, with the others of its network. Those are not in one list: keys would
//! have to change with the option, and with them the place of all peers. So in a swarm with partitions
//! the limit holds for each of them, and what others are told of the network has the same bound.
//!
//! [`Settings::exempt_v4`]: crate::settings::Settings::exempt_v4
//! [`Settings::limit_mask_v6`]: crate::settings::Settings::limit_mask_v6
//! [`Settings::max_peers_per_address`]: crate::settings::Settings::max_peers_per_address
//! [`Settings::keep_addresses_together`]: crate::settings::Settings::keep_addresses_together

use super::{
    family::Family,
    layout::Swarm,
    list::{self, List},
    slot::{Slots, age},
};
use crate::{
    id::{PartitionId, SwarmId},
    limits,
    outcome::{IpVersion, StoreError},
    platform::{ColdPath, Context, PartitionRef, Platform, Step, SwarmRef},
};
use core::marker::PhantomData;

/// Where an announced peer is, or is to be: [`UNKNOWN`], or the number of its slot, or that of
/// another peer whose place it takes, with the bit [`TAKEN_OVER`].
pub type Place = u32;

/// The peer is new, and its address has fewer in the swarm than it may.
pub const UNKNOWN: Place = u32::MAX;

/// The peer is new and takes the place of the one in this slot.
pub const TAKEN_OVER: Place = 1 << 30;

/// Looks for a peer in a list, whose lock is held.
///
/// # Errors
/// [`StoreError::Internal`].
#[inline(always)]
pub(super) fn place_in<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    swarm: SwarmId,
    id: PartitionId,
    list: &L,
    peer: F::Key,
) -> Result<Place, StoreError> {
    match list::find_neighbour::<P, F, L>(cx, list, peer) {
        None if !counts_networks::<P, F>(cx) => return Ok(UNKNOWN),
        None => {}
        Some(neighbour) => {
            let neighbour = cx.scratch.as_unknown_scalar(neighbour);
            let slot = list::slot::<P, F, L>(cx.platform, list, neighbour);
            let Some(slot) = slot else { return Err(StoreError::Internal) };
            if slot.matches(peer) {
                return Ok(neighbour);
            }
        }
    }
    F::keep_excluded(cx.scratch, peer);
    cx.platform.run_cold(ColdPath::Crowd(F::VERSION, swarm, id))
}

/// Whether peers of other addresses may count as peers of the same one.
#[inline(always)]
fn counts_networks<P: Platform, F: Family>(cx: &Context<'_, P>) -> bool {
    F::VERSION == IpVersion::V6
        && cx.settings.limit_mask_v6.load() != u64::MAX
        && cx.settings.max_peers_per_address.load() != 0
}

/// The slots that a turn of [`Look`] looks at, and the number of the first.
#[inline(always)]
fn slots_of<'m, P: Platform, F: Family, L: List<F>>(
    platform: &'m P,
    list: &L,
    turn: u32,
) -> Option<(Slots<'m, F>, u32)> {
    if turn * F::CHUNK_SLOTS >= list.peers() {
        return None;
    }
    Some((list::chunk::<P, F, L>(platform, list, turn)?, turn * F::CHUNK_SLOTS))
}

/// Looks through the chunks of a list for a peer and for others of its address.
struct Look<F> {
    swarm: u64,
    /// [`PartitionId::number`]
    partition: u64,
    family: PhantomData<F>,
}

impl<P: Platform, F: Family> Step<P> for Look<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let id = PartitionId::new(self.partition as u32);
        let slots = if id == PartitionId::RECORD {
            match platform.swarm(SwarmId::new(self.swarm as u32)) {
                Some(record) => slots_of::<P, F, Swarm>(platform, record, turn),
                None => None,
            }
        } else {
            match cx.partition(id) {
                Some(PartitionRef { record, .. }) => slots_of::<P, F, _>(platform, record, turn),
                None => None,
            }
        };
        let Some((slots, first)) = slots else { return false };
        look_at(&cx, slots, F::CHUNK_SLOTS, first)
    }
}

/// Looks at the first `count` of these slots, of which the first has the number `first`. False if
/// the peer is among them.
#[inline(always)]
fn look_at<P: Platform, F: Family>(cx: &Context<'_, P>, slots: Slots<'_, F>, count: u32, first: u32) -> bool {
    let peer = F::excluded(cx.scratch);
    let source = |address| limits::source_of(cx.settings, address, F::VERSION == IpVersion::V6);
    let his = source(F::address_of(peer));
    let minute = cx.minute();
    for number in 0..count {
        let slot = slots.slot(number as usize);
        if source(slot.address()) == his && slot.is_occupied() {
            if slot.matches(peer) {
                cx.scratch.found_slot.store(first + number);
                return false;
            }
            cx.scratch.crowd.store(cx.scratch.crowd.load() + 1);
            let age = age(slot.flags(), minute) + 1;
            if age > cx.scratch.oldest_age.load() {
                cx.scratch.oldest_age.store(age);
                cx.scratch.oldest_slot.store(first + number);
            }
        }
    }
    true
}

/// The place of the peer that [`Scratch::excluded_peer`](crate::scratch::Scratch::excluded_peer)
/// names in a list, whose lock is held; or, with [`PartitionId::RECORD`], in the slots of the
/// record.
#[inline(always)]
pub(super) fn place<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>, id: PartitionId) -> Place {
    let scratch = cx.scratch;
    scratch.found_slot.store(UNKNOWN);
    scratch.crowd.store(0);
    scratch.oldest_age.store(0);
    if id == PartitionId::RECORD && F::directory(swarm.record).is_none() {
        look_at(cx, F::record(swarm.record), F::RECORD_SLOTS as u32, 0);
    } else {
        // On one of the ways to here the verifier knows the number. Linux 6.1 looks at the body for that
        // way, where half of it is never reached, takes that half for dead on the others as well, and
        // removes it.
        let partition = scratch.as_unknown_scalar(id.number());
        let mut look = Look::<F> { swarm: swarm.id.number().into(), partition: partition.into(), family: PhantomData };
        cx.platform.repeat(super::layout::PARTITION_CHUNKS, &mut look);
    }
    let limit = cx.settings.max_peers_per_address.load();
    if scratch.found_slot.load() == UNKNOWN
        && limit != 0
        && scratch.crowd.load() >= limit
        && !limits::is_exempt(cx.settings, F::address_of(F::excluded(scratch)), F::VERSION == IpVersion::V6)
    {
        return scratch.oldest_slot.load() | TAKEN_OVER;
    }
    scratch.found_slot.load()
}
