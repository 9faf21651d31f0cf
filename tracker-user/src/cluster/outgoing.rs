//! Changes into messages: one batch per shard, sent when it is full or has waited long enough.

use super::message::{Batch, Header, SHARDS, shard_of};
use std::time::{Duration, Instant};
use tracker_common::change::Change;

/// How long a change waits for others.
pub const WAIT: Duration = Duration::from_millis(100);

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its shard.
    pub shard: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Changes in it.
    pub changes: usize,
}

/// All batches of a node.
#[derive(Debug)]
pub struct Batches {
    node: u64,
    shards: u64,
    batches: Vec<Batch>,
    since: Vec<Instant>,
    sequences: [u32; SHARDS],
}

impl Batches {
    /// Those of a node that takes part in these shards.
    #[must_use]
    pub fn new(node: u64, shards: u64, now: Instant) -> Self {
        Self { node, shards, batches: vec![Batch::default(); SHARDS], since: vec![now; SHARDS], sequences: [0; SHARDS] }
    }

    /// Adds a change. A message, if one is full.
    pub fn add(&mut self, change: &Change, now: Instant, time: u64) -> Option<Outgoing> {
        let shard = shard_of(&change.info_hash);
        if self.shards >> shard & 1 == 0 {
            return None;
        }
        if self.batches[shard].is_empty() {
            self.since[shard] = now;
        }
        self.batches[shard].add(change).then(|| self.take(shard, time))
    }

    /// The messages that have waited long enough.
    pub fn due(&mut self, now: Instant, time: u64) -> Vec<Outgoing> {
        let due = |shard: &usize| !self.batches[*shard].is_empty() && now.duration_since(self.since[*shard]) >= WAIT;
        let shards: Vec<_> = (0..SHARDS).filter(due).collect();
        shards.into_iter().map(|shard| self.take(shard, time)).collect()
    }

    fn take(&mut self, shard: usize, time: u64) -> Outgoing {
        let sequence = self.sequences[shard];
        self.sequences[shard] = sequence.wrapping_add(1);
        let header = Header { node: self.node, sequence, shard: shard as u8, time };
        let (bytes, changes) = self.batches[shard].take(&header);
        Outgoing { shard, bytes, changes }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::parse, *};

    fn change(shard: u8, number: u8) -> Change {
        let mut info_hash = [number; 20];
        info_hash[0] = shard << 2;
        Change { peer: [0x0100_0000_0009, 0, 0], info_hash, kind: number & 3, owner: 0, version: 4, unused: 0 }
    }

    #[test]
    fn changes_wait_for_others_of_their_shard_and_not_for_long() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut batches = Batches::new(7, 0b1010, begin);
        for (shard, number, when) in [(1, 1, 0), (3, 2, 50), (1, 3, 90), (0, 4, 0), (2, 5, 0)] {
            assert_eq!(batches.add(&change(shard, number), at(when), 1), None);
        }
        assert_eq!(batches.due(at(99), 2), []);
        let read = |messages: Vec<Outgoing>| -> Vec<_> {
            let read = |message: &Outgoing| {
                let (header, changes) = parse(&message.bytes).expect("a message");
                assert_eq!((message.changes, message.shard as u8), (changes.len(), header.shard));
                (header.shard, header.sequence, changes.len())
            };
            messages.iter().map(read).collect()
        };
        assert_eq!(read(batches.due(at(100), 2)), [(1, 0, 2)]);
        assert_eq!(read(batches.due(at(150), 2)), [(3, 0, 1)]);
        assert_eq!(batches.due(at(900), 2), []);
        let full = (0..=255).find_map(|number| batches.add(&change(1, number), at(900), 3)).expect("full");
        assert_eq!(read(vec![full])[0].1, 1);
    }
}
