//! A reply, as it lies in the scratch space.

use crate::{
    outcome::{Counter, Event},
    platform::Platform,
};

/// A reply in [`crate::scratch::Scratch::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where it starts.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Peers in it.
    pub peers: u32,
    /// What it is counted as.
    pub event: Event,
}

impl Reply {
    /// Counts it. The sender does so when it is on its way: not every reply that was made
    /// fits into the packet.
    #[inline(always)]
    pub fn count<M: Platform>(&self, memory: &M) {
        memory.event(self.event);
        memory.count(Counter::Event(Event::PeersReturned), u64::from(self.peers));
        memory.count(Counter::Event(Event::ReplyBytes), u64::from(self.length));
        memory.count(Counter::Replied(self.peers), 1);
    }
}
