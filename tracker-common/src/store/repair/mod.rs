//! Brings into order what killed threads have left behind, whatever they were killed at. They have
//! written it down ([`super::journal`]). The next daemon does this before its own threads begin,
//! while XDP programs go on.
//!
//! 1. The locks that the dead may hold are taken, one after the other; those that cannot be had for
//!    longer than any XDP program holds one are the dead ones'.
//! 2. Changes of lists and of swarm records are undone, or completed if that is what is missing.
//!    What was being done to the index is undone or completed.
//! 3. A partition that is not of the directory gives its peers to the one that it was split from.
//! 4. With all locks of a swarm held its peers are counted, and what is part of nothing is given
//!    back.
//!
//! So each peer is where it was or where it was to go, and only the one that was being added or
//! removed is the one or the other. What cannot be told is decided so that memory is lost and no
//! torrent or peer: at most one allocated record per killed thread, if it was killed in the one
//! instruction between taking it and writing down that it was taken, and while others took some;
//! and a bucket of the index may be taken for passed by a torrent more than there are, which costs
//! a look into one more.
//!
//! Whoever repairs can be killed as well: what it does is written down in its own journal.

extern crate std;

mod held;
mod index;
mod undo;
mod whole;

pub use held::Repaired;

use super::journal::Journal;
use crate::platform::{Context, Platform};
use held::Repair;
use std::vec::Vec;

/// Brings into order what the threads of all claimed journals, but that of `cx`, have left behind:
/// all of them are dead. `wait` is called between two tries for locks that are held, and returns
/// false once an XDP program would have let go of them.
pub fn repair<'c, P: Platform>(
    cx: &'c Context<'_, P>,
    journals: &'c [Journal],
    wait: impl FnMut() -> bool,
) -> Repaired {
    let is_own = |journal: &Journal| cx.platform.journal().is_some_and(|own| core::ptr::eq(own, journal));
    let dead = journals.iter().filter(|journal| journal.is_claimed() && !is_own(journal)).collect();
    let mut repair = Repair { cx, dead, held: Vec::new(), unfinished: Vec::new(), result: Repaired::default() };
    repair.hold_all(wait);
    repair.settle_exchanges();
    for journal in repair.dead.clone() {
        repair.undo_list(journal);
    }
    for journal in repair.dead.clone() {
        repair.undo_record(journal);
        repair.finish_index(journal);
    }
    let mut swarms = Vec::new();
    for journal in repair.dead.clone() {
        let of_this = repair.swarms_of(journal);
        for swarm in &of_this {
            repair.dissolve_strays(journal, *swarm);
            if !swarms.contains(swarm) {
                swarms.push(*swarm);
            }
        }
        if !of_this.is_empty() {
            repair.unfinished.push((journal, of_this));
        }
    }
    for swarm in swarms {
        repair.whole(swarm);
    }
    for place in core::mem::take(&mut repair.held) {
        repair.let_go(place);
    }
    for journal in &repair.dead {
        if journal.locks().next().is_some() {
            repair.result.threads += 1;
        }
        journal.free();
    }
    repair.result
}

#[cfg(test)]
mod tests;
