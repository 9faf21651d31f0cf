//! Which peers a sample takes: all or leechers only, and only those whose addresses are of use to
//! the requester.

use super::{layout::Occupancy, scope};
use crate::codegen::is_equal;

/// The filter, in one number that can be kept in memory: bit 0 for leechers only, above it how far
/// the requester sees ([`scope::visible`]).
#[derive(Clone, Copy, Debug)]
pub struct PeerFilter(u32);

impl PeerFilter {
    /// Takes leechers, and seeders if wanted, whose scopes are `visible` to the requester
    /// ([`scope::visible`]).
    #[inline(always)]
    #[must_use]
    pub fn new(seeders: bool, visible: u32) -> Self {
        Self(if seeders { 0 } else { 1 } | visible << 1)
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// From the number.
    #[inline(always)]
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self(number & 7)
    }

    /// Whether seeders are taken as well as leechers.
    #[inline(always)]
    #[must_use]
    pub fn takes_seeders(self) -> bool {
        self.0 & 1 == 0
    }

    /// How many peers of a list are taken: the first so many, as leechers stand before seeders.
    #[inline(always)]
    #[must_use]
    pub fn taken_of(self, occupancy: Occupancy) -> u32 {
        if self.takes_seeders() { occupancy.peers } else { occupancy.leechers }
    }

    /// Whether there may be peers that the requester must not see, among such as have these scopes.
    #[inline(always)]
    #[must_use]
    pub fn may_hide(self, scopes: u32) -> bool {
        scope::exceeds(scopes, self.0 >> 1)
    }

    /// 1 if the flags are those of a peer that is taken, else 0.
    #[inline(always)]
    pub(super) fn takes_flags(self, flags: u64) -> u64 {
        (flags << (self.0 & 1)) >> 63
    }

    /// 1 if the requester sees peers of this scope, else 0.
    #[inline(always)]
    pub(super) fn shows(self, scope: u32) -> u32 {
        is_equal(u64::from(scope >> (self.0 >> 1)), 0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        scope::{EVERYTHING, HOST, LINK, PRIVATE, visible},
        slot::{COMPLETED, LEECHER, OCCUPIED},
    };

    #[test]
    fn flags_decide_whether_a_peer_is_taken() {
        let (all, leechers) = (PeerFilter::new(true, EVERYTHING), PeerFilter::new(false, EVERYTHING));
        // (flags, taken from all, taken from leechers)
        for (flags, of_all, of_leechers) in [
            (0, 0, 0),
            (OCCUPIED, 1, 0),
            (OCCUPIED | LEECHER, 1, 1),
            (OCCUPIED | COMPLETED, 1, 0),
            (OCCUPIED | LEECHER | 77, 1, 1),
            (COMPLETED | 77, 0, 0),
        ] {
            assert_eq!((all.takes_flags(flags), leechers.takes_flags(flags)), (of_all, of_leechers), "{flags:#x}");
        }
        assert!(all.takes_seeders() && !leechers.takes_seeders());
    }

    #[test]
    fn scopes_beyond_the_requesters_are_hidden() {
        for requester in [0, PRIVATE, LINK, HOST] {
            let filter = PeerFilter::new(true, visible(requester));
            let kept = PeerFilter::from_number(filter.number());
            for peer in [0, PRIVATE, LINK, HOST] {
                assert_eq!(kept.shows(peer) == 1, peer <= requester, "{requester} {peer}");
                assert_eq!(kept.may_hide(peer), peer > requester, "{requester} {peer}");
            }
        }
    }
}
