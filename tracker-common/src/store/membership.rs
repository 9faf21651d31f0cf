//! What an announce does to a peer and to the counts of its swarm: counts follow peers.

use super::{
    family::Family,
    layout::{
        self, COMPLETED, COUNTS_CHANGE, COUNTS_LEECHER, COUNTS_SEEDER, LEECHER, OCCUPIED, SWARM_ALIVE, Swarm,
        minute_bits,
    },
};
use crate::{
    id::InfoHash,
    outcome::{Counter, Event},
    platform::Platform,
    word::Word,
};

/// BEP 3 events, by their BEP 15 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A regular announce. Numbers that BEP 15 does not define count as this (BEP 21's `paused` among them).
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
pub struct Announcement<'a, K> {
    /// The torrent.
    pub info_hash: &'a InfoHash,
    /// Source address and announced port.
    pub peer: K,
    /// Nothing is left to download.
    pub seeder: bool,
    /// Why it announces.
    pub event: PeerEvent,
}

/// Notes that somebody announced. A lock of the swarm is held, so that a torrent being removed is not brought back to life.
#[inline(always)]
pub(super) fn touch(swarm: &Swarm, minute: u32) {
    let active = SWARM_ALIVE | minute;
    // Most of the time there is nothing to write, and the line stays shared between cores.
    if swarm.active.load() != active {
        swarm.active.store(active);
    }
}

/// What a peer with these flags adds to [`Swarm::counts`].
#[inline(always)]
pub(super) fn weight(flags: u64) -> u64 {
    if flags & LEECHER == 0 { COUNTS_SEEDER } else { COUNTS_LEECHER }
}

/// The flags that an announce gives a peer by itself.
#[inline(always)]
pub(super) fn announced_flags<K>(announcement: &Announcement<'_, K>, minute: u32) -> u64 {
    let leecher = if announcement.seeder { 0 } else { LEECHER };
    OCCUPIED | leecher | minute_bits(minute)
}

/// The flags of a peer that was not known.
#[inline(always)]
pub(super) fn new_flags<K>(announcement: &Announcement<'_, K>, minute: u32) -> u64 {
    // It may have been known before a restart or before it was silent for too long.
    let completed = if completes_unknown(announcement) { COMPLETED } else { 0 };
    announced_flags(announcement, minute) | completed
}

#[inline(always)]
pub(super) fn completes_unknown<K>(announcement: &Announcement<'_, K>) -> bool {
    announcement.event == PeerEvent::Completed && announcement.seeder
}

/// Counts a completed download: once per peer, when it becomes a seeder with that event.
#[inline(always)]
pub(super) fn complete<M: Platform>(memory: &M, swarm: &Swarm) {
    swarm.completed.add(1);
    memory.event(Event::Completed);
}

/// A known peer announces again. True if it leaves, which is left to the caller.
#[inline(always)]
pub(super) fn change<M: Platform, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> bool {
    if announcement.event == PeerEvent::Stopped {
        return true;
    }
    let old = F::flags_at(words, base).load();
    let mut new = announced_flags(announcement, minute) | (old & COMPLETED);
    let becomes_seeder = announcement.seeder && old & LEECHER != 0;
    if announcement.event == PeerEvent::Completed && becomes_seeder && old & COMPLETED == 0 {
        new |= COMPLETED;
        complete(memory, swarm);
    }
    F::reflag(words, base, new);
    if (old ^ new) & LEECHER != 0 {
        swarm.counts.add(COUNTS_CHANGE.wrapping_add(weight(new)).wrapping_sub(weight(old)));
    }
    memory.count(Counter::Refreshed(layout::age(old, minute)), 1);
    false
}

/// Counts a new peer, and returns its flags.
#[inline(always)]
pub(super) fn arrive<M: Platform, F: Family>(
    memory: &M,
    swarm: &Swarm,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) -> u64 {
    let flags = new_flags(announcement, minute);
    if completes_unknown(announcement) {
        complete(memory, swarm);
    }
    swarm.counts.add(COUNTS_CHANGE.wrapping_add(weight(flags)));
    memory.event(Event::peer_added(F::VERSION));
    flags
}

/// Counts a peer that leaves its slot.
#[inline(always)]
pub(super) fn leave<M: Platform, F: Family>(memory: &M, swarm: &Swarm, words: &[Word], base: usize) {
    let flags = F::flags_at(words, base).load();
    swarm.counts.add(COUNTS_CHANGE.wrapping_sub(weight(flags)));
    memory.event(Event::peer_removed(F::VERSION));
}

/// A new peer gets the slot of an old one.
#[inline(always)]
pub(super) fn evict<M: Platform, F: Family>(
    memory: &M,
    swarm: &Swarm,
    words: &[Word],
    base: usize,
    announcement: &Announcement<'_, F::Key>,
    minute: u32,
) {
    leave::<M, F>(memory, swarm, words, base);
    memory.event(Event::Evicted);
    F::occupy(words, base, announcement.peer, arrive::<M, F>(memory, swarm, announcement, minute));
}
