//! Addresses that the tracker has nothing to do with: their packets are dropped before anything in
//! them is looked at, and they are not given to others.
//!
//! The table is an array of words with room for two generations. The daemon writes the one that is
//! not in use and then exchanges one word of the settings, so a list is exchanged in one step.
//!
//! A generation has for each version of IP
//! - a bit per page, which is an IPv4 /24 or an IPv6 /24 of 2000::/3: whether any of its addresses is
//!   listed. This is all that is looked at for an address whose page has none.
//! - a window per 64 pages: which of the points are about them.
//! - the points, by address: from here on, up to the next point, addresses are on this list, or on
//!   none. So ranges may have any borders, and what several lists say has been made one.

use crate::{
    bep15::connection_id::IpKey,
    outcome::{Counter, RequestReason},
    platform::{ColdPath, Context, Platform},
    word::Word,
};

/// Where the first generation begins: [`Settings::blocked`](crate::settings::Settings::blocked) is
/// where the one in use does, and 0 for none.
pub const FIRST_BASE: u32 = 8;

/// Words with 64 bits for pages, by version of IP. The last one of IPv6, of which one bit is used,
/// is for what is not in 2000::/3.
const PAGE_WORDS: [u32; 2] = [1 << 18, (1 << 15) + 8];

/// Pages of IPv6 in 2000::/3.
const PAGES_V6: u32 = 1 << 21;

/// Where these are in a generation.
const PAGES: [u32; 2] = [0, 2 * PAGE_WORDS[0]];

/// Where the windows are.
const WINDOWS: [u32; 2] = [PAGES[0] + PAGE_WORDS[0], PAGES[1] + PAGE_WORDS[1]];

/// Where the points of IPv4 begin; behind them are those of IPv6.
const POINTS: u32 = WINDOWS[1] + PAGE_WORDS[1];

/// Words of a point, by version of IP: address and list in one; two for the address, and the list.
const POINT_WORDS: [u32; 2] = [1, 3];

/// Most points of a version of IP.
pub const MOST_POINTS: usize = 1 << STEPS;

/// Steps of a search through so many.
const STEPS: u32 = 22;

/// An address, and the list, from 1 on, that those from there on are on; 0 for none.
pub type Point<A> = (A, u8);

/// How many words a table has in which two generations of so many points have room.
#[must_use]
pub const fn words_for(points_v4: usize, points_v6: usize) -> u64 {
    FIRST_BASE as u64 + 2 * generation_words(points_v4, points_v6)
}

const fn generation_words(points_v4: usize, points_v6: usize) -> u64 {
    let words = POINTS as u64 + points_v4 as u64 * POINT_WORDS[0] as u64 + points_v6 as u64 * POINT_WORDS[1] as u64;
    words.next_multiple_of(FIRST_BASE as u64)
}

/// Where the generation begins that is not in use, in a table of so many words; `None` if points
/// have no room there.
#[must_use]
pub fn other_base(words: u32, in_use: u32, points_v4: usize, points_v6: usize) -> Option<u32> {
    let room = words.saturating_sub(FIRST_BASE) / 2 / FIRST_BASE * FIRST_BASE;
    if u64::from(room) < generation_words(points_v4, points_v6) || points_v4.max(points_v6) > MOST_POINTS {
        return None;
    }
    Some(if in_use == FIRST_BASE { FIRST_BASE + room } else { FIRST_BASE })
}

/// Number of the list that an address is on, from 1 on; 0 for none.
#[inline(always)]
#[must_use]
pub fn find<P: Platform>(cx: &Context<'_, P>, address: IpKey) -> u32 {
    let base = cx.settings.blocked.load();
    if base == 0 || !is_page_listed(cx.platform, base, address) {
        return 0;
    }
    cx.platform.run_cold(ColdPath::BlockList(address)).unwrap_or(0)
}

/// Whether a source may use the tracker. Counts the list that it is on, and leaves its number in the
/// scratch space.
///
/// # Errors
/// [`RequestReason::Blocked`]
#[inline(always)]
pub fn check<P: Platform>(cx: &Context<'_, P>, source: IpKey) -> Result<(), RequestReason> {
    let list = find(cx, source);
    if list == 0 {
        return Ok(());
    }
    cx.scratch.blocked_by.store(list);
    cx.platform.count(Counter::Blocked(list), 1);
    Err(RequestReason::Blocked)
}

/// The version of IP as a number, and the page.
#[inline(always)]
fn page(address: IpKey) -> (usize, u32) {
    match address {
        IpKey::V4(address) => (0, address.swap_bytes() >> 8),
        IpKey::V6([first, _]) => {
            let page = (first.swap_bytes() >> 40) as u32 ^ PAGES_V6;
            (1, if page < PAGES_V6 { page } else { PAGES_V6 })
        }
    }
}

#[inline(always)]
fn is_page_listed<P: Platform>(platform: &P, base: u32, address: IpKey) -> bool {
    let (version, page) = page(address);
    match platform.block_word(base + PAGES[version] + (page >> 6)) {
        Some(word) => word.load() >> (page & 63) & 1 != 0,
        None => false,
    }
}

/// [`find`] for an address whose page is listed.
#[inline(always)]
pub(crate) fn search<P: Platform>(cx: &Context<'_, P>, address: IpKey) -> u32 {
    let base = cx.settings.blocked.load();
    let (version, page) = page(address);
    let Some(window) = cx.platform.block_word(base + WINDOWS[version] + (page >> 6)) else { return 0 };
    let window = window.load();
    let points = Points { platform: cx.platform, address, first: base.wrapping_add(window as u32) };
    points.list((window >> 32) as u32).unwrap_or(0)
}

/// A search.
struct Points<'p, P> {
    platform: &'p P,
    address: IpKey,
    /// Word of the first point that may be the one.
    first: u32,
}

impl<P: Platform> Points<'_, P> {
    /// The list of the last of `count` points that is not behind the address. The first one is not.
    #[inline(always)]
    fn list(mut self, mut count: u32) -> Option<u32> {
        for _ in 0..STEPS {
            if count <= 1 {
                break;
            }
            let half = count / 2;
            // Without a branch, which the verifier would follow at every step.
            self.first = match self.address {
                IpKey::V4(address) => {
                    let middle = self.first.wrapping_add(half);
                    let behind = is_less(address.swap_bytes().into(), self.word(middle)? >> 32);
                    self.first.wrapping_add(half * (1 - behind as u32))
                }
                IpKey::V6([high, low]) => {
                    let (high, low) = (high.swap_bytes(), low.swap_bytes());
                    let middle = self.first.wrapping_add(half * POINT_WORDS[1]);
                    let (at_high, at_low) = (self.word(middle)?, self.word(middle.wrapping_add(1))?);
                    let equal = crate::codegen::is_equal(high, at_high);
                    let behind = is_less(high, at_high) | (equal & is_less(low, at_low));
                    self.first.wrapping_add(half * POINT_WORDS[1] * (1 - behind as u32))
                }
            };
            count -= half;
        }
        match self.address {
            IpKey::V4(_) if count == 1 => Some(self.word(self.first)? as u32),
            IpKey::V6(_) if count == 1 => Some(self.word(self.first.wrapping_add(2))? as u32),
            IpKey::V4(_) | IpKey::V6(_) => None,
        }
    }

    #[inline(always)]
    fn word(&self, number: u32) -> Option<u64> {
        let word = self.platform.block_word(number)?;
        Some(word.load())
    }
}

/// 1 if the one is less than the other, else 0.
#[inline(always)]
fn is_less(one: u64, other: u64) -> u64 {
    ((!one & other) | ((!one | other) & one.wrapping_sub(other))) >> 63
}

/// Calls `each` with the IPv4 addresses that are listed while neither neighbour is: of the
/// generation that begins there.
pub fn alone_v4<'m>(word: impl Fn(u32) -> Option<&'m Word>, base: u32, mut each: impl FnMut(u32)) {
    let at = |number: u32| word(base.wrapping_add(number)).map_or(0, Word::load);
    // The last window says where the points end.
    let last = at(WINDOWS[0] + PAGE_WORDS[0] - 1);
    let end = (last as u32).wrapping_add((last >> 32) as u32);
    let mut listed_before = false;
    for number in POINTS..end {
        let (point, next) = (at(number), at(number + 1));
        let (address, is_listed) = ((point >> 32) as u32, point as u8 != 0);
        let ends = number + 1 < end && (next >> 32) as u32 == address.wrapping_add(1) && next as u8 == 0;
        if is_listed && ends && !listed_before {
            each(address);
        }
        listed_before = is_listed;
    }
}

/// Writes a generation that nobody uses. Points are in order, each with another address, and
/// the first at address 0, unless there are none at all.
///
/// False if it has no room there.
pub fn write<'m>(word: impl Fn(u32) -> Option<&'m Word>, base: u32, v4: &[Point<u32>], v6: &[Point<u128>]) -> bool {
    let put = |number: u32, value: u64| word(base + number).map(|word| word.store(value)).is_some();
    let first_v6 = POINTS + v4.len() as u32;
    let pages_v4 = Pages { version: 0, begin: 0, shift: 8, points_at: POINTS };
    let pages_v6 = Pages { version: 1, begin: 1 << 125, shift: 104, points_at: first_v6 };
    let points_v4 = v4.len() as u32;
    let mut whole = pages_v4
        .write(&put, points_v4, |number| v4.get(number as usize).map(|(address, list)| (u128::from(*address), *list)));
    whole &= pages_v6.write(&put, v6.len() as u32, |number| v6.get(number as usize).copied());
    whole &= (POINTS..).zip(v4).all(|(at, (address, list))| put(at, u64::from(*address) << 32 | u64::from(*list)));
    whole
        && (first_v6..).step_by(3).zip(v6).all(|(at, (address, list))| {
            put(at, (address >> 64) as u64) && put(at + 1, *address as u64) && put(at + 2, (*list).into())
        })
}

/// The pages of one version of IP, to be written.
struct Pages {
    version: usize,
    /// First address.
    begin: u128,
    /// Bits of an address inside a page.
    shift: u32,
    /// Where the points will be.
    points_at: u32,
}

impl Pages {
    fn write(&self, put: &impl Fn(u32, u64) -> bool, count: u32, point: impl Fn(u32) -> Option<Point<u128>>) -> bool {
        let words = if self.version == 0 { PAGE_WORDS[0] } else { PAGES_V6 / 64 };
        let width = 64 << self.shift;
        let window = |first: u32, points: u32| {
            u64::from(self.points_at + first * POINT_WORDS[self.version]) | u64::from(points) << 32
        };
        let mut whole = true;
        // The last point at or before the word's first address; none if there is none.
        let mut at: Option<u32> = None;
        let mut next = 0;
        for number in 0..words {
            let from = self.begin + u128::from(number) * width;
            let to = from + (width - 1);
            while point(next).is_some_and(|(address, _)| address <= from) {
                at = Some(next);
                next += 1;
            }
            let mut bits = 0;
            let mut end = next;
            let mut run = at.and_then(&point).map_or((from, 0), |(_, list)| (from, list));
            loop {
                let following = point(end).filter(|(address, _)| *address <= to);
                let last = following.map_or(to, |(address, _)| address - 1);
                if run.1 != 0 {
                    bits |= self.bits(from, run.0, last);
                }
                let Some(following) = following else { break };
                run = following;
                end += 1;
            }
            let first = at.unwrap_or(0);
            whole &= put(PAGES[self.version] + number, bits)
                && put(WINDOWS[self.version] + number, window(first, end - first));
        }
        if self.version == 1 {
            let elsewhere = (0..count).filter_map(|number| {
                let (from, list) = point(number)?;
                let to = point(number + 1).map_or(u128::MAX, |(next, _)| next - 1);
                Some(list != 0 && (from < self.begin || to >> 125 != 1))
            });
            let bits = u64::from(elsewhere.fold(false, |one, other| one | other));
            whole &= put(PAGES[1] + words, bits) && put(WINDOWS[1] + words, window(0, count));
        }
        whole
    }

    /// The bits of the pages from one address to another, in the word that begins with `first`.
    fn bits(&self, first: u128, from: u128, to: u128) -> u64 {
        let [from, to] = [from, to].map(|address| ((address - first) >> self.shift) as u32);
        u64::MAX << from & u64::MAX >> (63 - to)
    }
}

#[cfg(test)]
mod tests;
