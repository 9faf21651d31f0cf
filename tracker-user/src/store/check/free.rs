//! The list of free records of one kind.
//!
//! Others take records and give them back while it is walked. Each time the tag of its head goes up
//! by one, and what they take is at the top. So what is further down than the tag has gone up since
//! the walk began has not been touched, and its link is what it was. If the others are faster than
//! the walk, it begins anew.

use super::{Fault, Kind};
use std::collections::BTreeSet;
use tracker_common::{
    platform::{Context, Platform},
    store::allocator::Element,
};

/// How often a walk begins.
const TRIES: u32 = 1000;

/// What has become of the records of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// How many there are.
    pub limit: u32,
    /// Below this number were all that were ever used.
    pub fresh: u32,
    /// In the list of free ones.
    pub free: u32,
    /// Reachable.
    pub reached: u32,
}

/// The numbers of the free records, from the top of their list on, and what is wrong with it.
pub(super) fn walk<P: Platform, E: Element>(
    cx: &Context<'_, P>,
    name: &str,
    fresh: u32,
    faults: &mut BTreeSet<Fault>,
) -> Vec<u32> {
    let Some(pools) = cx.platform.pools() else { return Vec::new() };
    let pool = E::pool(pools);
    let mut free = Vec::new();
    let mut wrong = |what: String| {
        faults.insert(Fault::new(Kind::FreeListWrong, what));
    };
    'anew: for _ in 0..TRIES {
        free.clear();
        let begin = pool.head.load();
        let mut link = begin as u32;
        while let Some(number) = link.checked_sub(1) {
            let next = if number < fresh { E::find(cx.platform, number.into()).map(E::link) } else { None };
            let since = (pool.head.load() >> 32).wrapping_sub(begin >> 32) as u32;
            if since as usize > free.len() {
                continue 'anew;
            }
            let Some(next) = next else {
                wrong(format!("free {name}: the list leads to {number}, which was never used"));
                return free;
            };
            free.push(number);
            if free.len() > fresh as usize {
                wrong(format!("free {name}: the list goes in a circle"));
                return free;
            }
            link = next;
        }
        let counted = pool.free.load();
        // Whoever takes a record changes the head first and then the counter.
        if pool.head.load() == begin && counted as usize != free.len() {
            let more = i64::from(counted) - free.len() as i64;
            wrong(format!("free {name}: the counter has {more:+} compared with the list"));
        }
        break;
    }
    free
}
