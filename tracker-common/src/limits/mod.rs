//! How often one source may ask: token buckets for connects, announces and scrapes, and a bound on
//! the errors that are told to whoever has shown nothing. Off unless the operator wants them.
//!
//! An announce or a scrape is counted once its connection id is known to be right. Whoever invents
//! addresses can so use up nobody's share of them; of a connect nothing is known, and somebody who
//! is sent for may be kept from connecting, while the id that he has goes on to be good.
//!
//! The table is shared by all cores and by the daemon's threads, so it does not matter on which way
//! a source asks. Two that count at the same moment may count one.

pub mod table;

use crate::{
    bep15::connection_id::IpKey,
    outcome::{IpVersion, RequestReason, StoreError},
    platform::{ColdPath, Context, Platform},
    settings::{EXEMPT, Settings},
    store::hash::mix,
};
use table::{ERRORS, ERRORS_SET, FULL, Kind, SETS, WAYS};

/// Counts a request. In [`Settings::limits`], which is all that is looked at where there are no
/// limits, stands whether there is one for this kind.
///
/// # Errors
/// [`RequestReason::ConnectsLimited`], [`RequestReason::AnnouncesLimited`],
/// [`RequestReason::ScrapesLimited`].
#[inline(always)]
pub fn admit<P: Platform>(cx: &Context<'_, P>, kind: Kind, source: IpKey) -> Result<(), RequestReason> {
    if cx.settings.limits.load() & kind.bit() == 0 {
        return Ok(());
    }
    let (address, version) = match source {
        IpKey::V4(address) => (u64::from(address), IpVersion::V4),
        IpKey::V6([address, _]) => (address, IpVersion::V6),
    };
    cx.scratch.requester[0].store(address);
    cx.scratch.requester[1].store(version as u64);
    match cx.platform.run_cold(ColdPath::Limit(kind)) {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(match kind {
            Kind::Connect => RequestReason::ConnectsLimited,
            Kind::Announce => RequestReason::AnnouncesLimited,
            Kind::Scrape => RequestReason::ScrapesLimited,
        }),
    }
}

/// What [`ColdPath::Limit`] stands for.
///
/// # Errors
/// [`StoreError::Internal`].
#[inline(always)]
pub fn take<P: Platform>(cx: &Context<'_, P>, kind: Kind) -> Result<u32, StoreError> {
    let (settings, scratch) = (cx.settings, cx.scratch);
    let is_v6 = scratch.requester[1].load() == IpVersion::V6 as u64;
    let address = scratch.requester[0].load();
    let family = if is_v6 { settings.hash_keys[2].load() } else { settings.hash_keys[0].load() };
    let hash =
        mix(source_of(settings, address, is_v6).wrapping_mul(settings.hash_keys[1].load() | 1).wrapping_add(family));
    let number = kind as u32 * SETS + table::set_of(hash);
    let Some(set) = cx.platform.limit_set(number) else { return Err(StoreError::Internal) };
    let (tag, now) = (table::tag_of(hash), table::time(settings.second.load()));
    // The source's place, or that of the fullest bucket; through memory, for the verifier.
    scratch.found_slot.store(0);
    scratch.oldest_age.store(u32::MAX);
    for (way, word) in set.words.iter().enumerate() {
        let word = word.load();
        let missing = table::missing(word, now) as u32;
        if table::tag(word) == tag {
            scratch.found_slot.store(way as u32);
            break;
        }
        if missing < scratch.oldest_age.load() {
            scratch.oldest_age.store(missing);
            scratch.found_slot.store(way as u32);
        }
    }
    let word = &set.words[scratch.found_slot.load() as usize & (WAYS - 1)];
    let old = word.load();
    let missing = if table::tag(old) == tag { table::missing(old, now) } else { 0 };
    let missing = missing + u64::from(settings.limit_costs[kind as usize & 3].load());
    if missing > FULL {
        // Nothing is written: a flood from one source is read by all cores from their own caches.
        return Ok(u32::from(!is_exempt(settings, address, is_v6)));
    }
    word.replace(old, table::bucket(tag, now, missing));
    Ok(0)
}

/// What addresses have in common that count as one: an IPv4 address itself, of an IPv6 address so many
/// bits as the operator says ([`Settings::limit_mask_v6`]).
#[inline(always)]
#[must_use]
pub fn source_of(settings: &Settings, address: u64, is_v6: bool) -> u64 {
    if is_v6 { address & settings.limit_mask_v6.load() } else { address }
}

/// Whether this address, as far as it stands for one user
/// ([`crate::store::slot::SlotFormat::address`]), is in one of the networks that no limit holds for.
#[inline(always)]
#[must_use]
pub fn is_exempt(settings: &Settings, address: u64, is_v6: bool) -> bool {
    let networks = if is_v6 { &settings.exempt_v6 } else { &settings.exempt_v4 };
    let count = settings.exempt_counts[usize::from(is_v6)].load() as usize;
    for (number, [network, mask]) in networks.iter().enumerate() {
        if number >= count || number >= EXEMPT {
            break;
        }
        if (address ^ network.load()) & mask.load() == 0 {
            return true;
        }
    }
    false
}

/// What becomes of a request whose connection id is wrong, which anybody can have sent in anybody's
/// name: he is told, as long as there were not too many in this second.
#[inline(always)]
pub fn wrong_id<P: Platform>(cx: &Context<'_, P>) -> RequestReason {
    if cx.settings.limits.load() & ERRORS == 0 {
        return RequestReason::ConnectionIdWrong;
    }
    match cx.platform.run_cold(ColdPath::Tell) {
        Ok(0) | Err(_) => RequestReason::ConnectionIdWrong,
        Ok(_) => RequestReason::ErrorHeldBack,
    }
}

/// What [`ColdPath::Tell`] stands for.
///
/// # Errors
/// [`StoreError::Internal`].
#[inline(always)]
pub fn tell<P: Platform>(cx: &Context<'_, P>) -> Result<u32, StoreError> {
    let Some(set) = cx.platform.limit_set(ERRORS_SET) else { return Err(StoreError::Internal) };
    let (word, second) = (&set.words[0], u64::from(cx.settings.second.load()));
    let seen = word.load();
    if seen >> 32 != second {
        // Whoever comes second at this moment is not counted.
        word.replace(seen, second << 32 | 1);
        return Ok(0);
    }
    if seen as u32 >= cx.settings.limit_errors.load() {
        return Ok(1);
    }
    word.add(1);
    Ok(0)
}

#[cfg(test)]
mod tests;
