//! What an announce does to a peer, and to the counts of its swarm: counts follow peers. The lock
//! of the peer's place is held.

use super::{
    family::Family,
    layout::{COMPLETED_MAX, ONE_CHANGE, ONE_LEECHER, ONE_SEEDER, SWARM_ALIVE, SWARM_SETTLED, Swarm},
    owner::Owner,
    slot::{COMPLETED, KEY, LEECHER, OCCUPIED, Slot, age, minute_bits},
    tell,
};
use crate::{
    id::InfoHash,
    outcome::{Counter, Event},
    platform::{Context, Platform},
};

/// More than there are threads that may count at once.
const COMPLETED_MARGIN: u32 = 1 << 16;

/// BEP 3 events, by their BEP 15 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A regular announce. Numbers that BEP 15 does not define count as this (BEP 21's `paused`
    /// among them).
    None,
    /// The download is complete.
    Completed,
    /// The first announce.
    Started,
    /// The peer leaves.
    Stopped,
}

impl PeerEvent {
    /// From BEP 15's number.
    #[inline(always)]
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => PeerEvent::Completed,
            2 => PeerEvent::Started,
            3 => PeerEvent::Stopped,
            _ => PeerEvent::None,
        }
    }
}

/// What an announce says.
#[derive(Clone, Copy, Debug)]
pub struct Announce<'a, K> {
    /// The torrent.
    pub info_hash: &'a InfoHash,
    /// Source address and announced port.
    pub peer: K,
    /// Nothing is left to download.
    pub seeder: bool,
    /// Why the peer announces.
    pub event: PeerEvent,
    /// Whose peer it is.
    pub owner: Owner,
}

impl<K> Announce<'_, K> {
    /// The flags that the announce gives a peer by itself.
    #[inline(always)]
    pub(super) fn flags(&self, minute: u32) -> u64 {
        let leecher = if self.seeder { 0 } else { LEECHER };
        OCCUPIED | leecher | self.owner.bits() | minute_bits(minute)
    }

    /// The flags of a peer that was not known.
    #[inline(always)]
    pub(super) fn new_flags(&self, minute: u32) -> u64 {
        let completed = if self.completes_unknown() { COMPLETED } else { 0 };
        self.flags(minute) | completed
    }

    /// Whether a peer that was not known has completed its download. It may have been known before
    /// a restart, or before it was silent for too long.
    #[inline(always)]
    fn completes_unknown(&self) -> bool {
        self.event == PeerEvent::Completed && self.seeder
    }
}

/// Notes that a peer of the swarm announced. A lock of the swarm is held, so that a torrent being
/// removed is not brought back to life.
#[inline(always)]
pub(super) fn touch(swarm: &Swarm, minute: u32) {
    // Most of the time there is nothing to write, and the line stays shared between cores.
    if swarm.active.load() & !SWARM_SETTLED != SWARM_ALIVE | minute {
        swarm.active.store(SWARM_ALIVE | SWARM_SETTLED | minute);
    }
}

/// What a peer with these flags adds to [`Swarm::counts`].
#[inline(always)]
fn weight(flags: u64) -> u64 {
    if flags & LEECHER == 0 { ONE_SEEDER } else { ONE_LEECHER }
}

/// Counts a completed download: once per peer, when it becomes a seeder with that event. The number
/// ends at its highest value; beyond are other bits. Announces to several partitions may count at
/// once, hence the margin.
#[inline(always)]
fn complete<P: Platform>(platform: &P, swarm: &Swarm) {
    if swarm.completed() < COMPLETED_MAX - COMPLETED_MARGIN {
        swarm.completed.add(1);
    }
    platform.event(Event::Completed);
}

/// Applies an announce to a known peer. True if the peer leaves, which the caller has to do. Somebody
/// with another key cannot have it leave, or its download counted.
#[inline(always)]
pub(super) fn apply<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: &Swarm,
    slot: Slot<'_, F>,
    announce: &Announce<'_, F::Key>,
) -> bool {
    let old = slot.flags();
    if announce.event == PeerEvent::Stopped {
        if P::STOPS_ANYBODY || announce.owner.is_strange_to(old) == 0 {
            // Where others have kept its key, only with that it may leave.
            tell::note(cx.scratch, old | announce.owner.bits(), 0);
            return true;
        }
        slot.set_flags(Owner::contested(old));
        cx.platform.event(Event::KeyWrong);
        return false;
    }
    let minute = cx.minute();
    let owner = announce.owner.kept(old, age(old, minute), cx.settings);
    let mut new = announce.flags(minute) | owner | (old & COMPLETED);
    let becomes_seeder = announce.seeder && old & LEECHER != 0;
    if announce.event == PeerEvent::Completed && becomes_seeder && old & COMPLETED == 0 {
        // All ones are nobody's.
        if owner == KEY {
            cx.platform.event(Event::KeyWrong);
        } else {
            new |= COMPLETED;
            complete(cx.platform, swarm);
        }
    }
    slot.set_flags(new);
    tell::note(cx.scratch, old, new);
    if (old ^ new) & LEECHER != 0 {
        swarm.counts.add(ONE_CHANGE.wrapping_add(weight(new)).wrapping_sub(weight(old)));
    }
    cx.platform.count(Counter::Refreshed(age(old, minute)), 1);
    false
}

/// Counts a new peer with these flags.
#[inline(always)]
pub(super) fn count_in<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: &Swarm,
    flags: u64,
    announce: &Announce<'_, F::Key>,
) {
    if announce.completes_unknown() {
        complete(cx.platform, swarm);
    }
    swarm.counts.add(ONE_CHANGE.wrapping_add(weight(flags)));
    cx.platform.event(Event::peer_added(F::VERSION));
    tell::note(cx.scratch, 0, flags);
}

/// Counts a peer that leaves its slot.
#[inline(always)]
pub(super) fn count_out<P: Platform, F: Family>(platform: &P, swarm: &Swarm, slot: Slot<'_, F>) {
    swarm.counts.add(ONE_CHANGE.wrapping_sub(weight(slot.flags())));
    platform.event(Event::peer_removed(F::VERSION));
}

/// Puts a new peer into the slot of an old one.
#[inline(always)]
pub(super) fn replace<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: &Swarm,
    slot: Slot<'_, F>,
    announce: &Announce<'_, F::Key>,
) {
    count_out(cx.platform, swarm, slot);
    let flags = announce.new_flags(cx.minute());
    count_in::<P, F>(cx, swarm, flags, announce);
    slot.occupy(announce.peer, flags);
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ROOMY, new_swarm},
        *,
    };
    use crate::host::HostStore;

    #[test]
    fn events_that_are_not_defined_are_regular_announces() {
        for (number, event) in [
            (0, PeerEvent::None),
            (1, PeerEvent::Completed),
            (2, PeerEvent::Started),
            (3, PeerEvent::Stopped),
            (4, PeerEvent::None),
            (u32::MAX, PeerEvent::None),
        ] {
            assert_eq!(PeerEvent::from_number(number), event, "{number}");
        }
    }

    #[test]
    fn flags_say_what_the_announce_says() {
        let announce = |seeder, event| Announce { info_hash: &[0; 20], peer: 1_u64, seeder, event, owner: Owner::NONE };
        // (seeder, event, flags besides the minute, of a peer that was not known)
        for (seeder, event, flags) in [
            (false, PeerEvent::None, OCCUPIED | LEECHER),
            (true, PeerEvent::None, OCCUPIED),
            (true, PeerEvent::Completed, OCCUPIED | COMPLETED),
            (false, PeerEvent::Completed, OCCUPIED | LEECHER),
            (true, PeerEvent::Started, OCCUPIED),
        ] {
            let new = announce(seeder, event).new_flags(0x12_3456);
            assert_eq!(new, flags | minute_bits(0x12_3456), "{seeder} {event:?}");
            assert_eq!(age(new, 0x12_3456 + 7), 7);
        }
        assert_eq!(weight(OCCUPIED | LEECHER), ONE_LEECHER);
        assert_eq!(weight(OCCUPIED | COMPLETED), ONE_SEEDER);
    }

    #[test]
    fn completed_downloads_end_at_the_most_that_can_be_counted_and_touch_nothing_else() {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = new_swarm(&cx, 0).record;
        for scopes in [0, 0b101] {
            swarm.completed.store(0);
            swarm.add_scopes(scopes);
            // (before, after)
            for (before, after) in [
                (0, 1),
                (COMPLETED_MAX - COMPLETED_MARGIN - 1, COMPLETED_MAX - COMPLETED_MARGIN),
                (COMPLETED_MAX - COMPLETED_MARGIN, COMPLETED_MAX - COMPLETED_MARGIN),
                (COMPLETED_MAX, COMPLETED_MAX),
            ] {
                swarm.completed.add(before.wrapping_sub(swarm.completed()));
                complete(&platform, swarm);
                assert_eq!((swarm.completed(), swarm.scopes()), (after, scopes), "{before}");
            }
        }
    }
}
