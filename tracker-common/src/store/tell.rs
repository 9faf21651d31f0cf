//! What other trackers are told of a peer: that it came, that it is still there, that it has become a
//! seeder, that it left.
//!
//! A peer that is still there is told of once in so many minutes at most, and no field says when that
//! was: time is divided into windows of so many minutes, which begin at another minute for each peer,
//! and told is the first announce in a window. The minute of the announce before stands in the slot.
//! So whatever a refresh leaves as it was, it has nothing to tell.

use super::{
    family::Family,
    slot::{COMPLETED, IDENTITY, KEY, KEY_SHIFT, LEECHER, OCCUPIED, age},
};
use crate::{
    change::{Change, Kind},
    id::InfoHash,
    outcome::{IpVersion, StoreError},
    platform::{ColdPath, Context, Platform},
    scratch::{HASHES_AT, Scratch},
};

/// Whether the announce of a known peer with these flags, whatever it says, is to be told of: the first
/// one within so many minutes.
#[inline(always)]
#[must_use]
pub fn is_due(flags: u64, minute: u32, every: u32) -> bool {
    // Not all of them at the same minute.
    let phase = ((flags >> 40) ^ (flags >> 8)) as u32 & 0xff;
    // 0 is not asked for, and the verifier wants to be sure.
    every != 0 && age(flags, minute) > minute.wrapping_add(phase) % every
}

/// Keeps what an announce has made of a peer's flags: both 0 for nothing that anybody has to know.
#[inline(always)]
pub(super) fn note(scratch: &Scratch, old: u64, new: u64) {
    scratch.changed[0].store(old);
    scratch.changed[1].store(new);
}

/// Tells other trackers of an announce of this peer that was just stored, if there are any and they have
/// to know of it.
#[inline(always)]
pub fn others<P: Platform, F: Family>(cx: &Context<'_, P>, info_hash: &InfoHash, peer: F::Key) {
    if P::TELLS && cx.settings.tell_every.load() != 0 {
        cx.scratch.put(HASHES_AT, *info_hash);
        F::keep_excluded(cx.scratch, peer);
        // What cannot be told is counted.
        let _ = cx.platform.run_cold(ColdPath::TellChange(F::VERSION));
    }
}

/// What is told of a peer whose flags were these, if anything; 0 for one that was not there, or is not
/// any more.
fn kind(old: u64, new: u64, minute: u32, every: u32) -> Option<Kind> {
    if new & OCCUPIED == 0 {
        return if old & OCCUPIED == 0 { None } else { Some(Kind::Left) };
    }
    let kind = if new & LEECHER != 0 {
        Kind::Leecher
    } else if (new & !old) & COMPLETED != 0 {
        Kind::Completed
    } else {
        Kind::Seeder
    };
    let changed = (old ^ new) & (OCCUPIED | LEECHER | COMPLETED) != 0;
    (changed || is_due(old, minute, every)).then_some(kind)
}

/// Tells of the announce that was just stored ([`note`]): what
/// [`ColdPath::TellChange`] stands for. Its info_hash stands at
/// [`HASHES_AT`], its peer is the [excluded](Scratch::excluded_peer) one.
#[inline(always)]
pub(super) fn tell<P: Platform>(cx: &Context<'_, P>, version: IpVersion) -> Result<u32, StoreError> {
    let [old, new] = [cx.scratch.changed[0].load(), cx.scratch.changed[1].load()];
    let Some(kind) = kind(old, new, cx.minute(), cx.settings.tell_every.load()) else { return Ok(0) };
    let Some(info_hash) = cx.scratch.get::<InfoHash>(HASHES_AT) else { return Err(StoreError::Internal) };
    let [first, second, third] = [0, 1, 2].map(|word: usize| cx.scratch.excluded_peer[word].load());
    let (peer, version) = match version {
        IpVersion::V4 => ([first & IDENTITY, 0, 0], 4),
        IpVersion::V6 => ([first, second, third & 0xffff], 6),
    };
    // Of one that has left, who has stopped it: noted with what it was.
    let flags = if new == 0 { old } else { new };
    let owner = ((flags & KEY) >> KEY_SHIFT) as u8;
    let told = cx.platform.tell(&Change { peer, info_hash, kind: kind as u8, owner, version, unused: 0 });
    if !told {
        cx.settings.changes_lost.add(1);
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
