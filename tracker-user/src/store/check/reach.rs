//! Which partitions, chunks and directory nodes the swarms have, and which are free: each exactly
//! once.

use super::{
    Fault, Kind,
    free::{self, PoolUse},
    name,
};
use std::collections::BTreeSet;
use tracker_common::{
    id::PartitionId,
    platform::{Context, Platform, SwarmRef},
    store::{
        allocator::Element,
        family::{Family, V4, V6},
        layout::{ChunkV4, ChunkV6, NODE_ENTRIES, PARTITION_CHUNKS, Partition, RECORD_ENTRIES, Swarm},
        list::{List, chunks_for},
    },
    word::Word,
};

/// From this many partitions on there are two levels of nodes.
const TWO_LEVELS: u32 = RECORD_ENTRIES * NODE_ENTRIES;

/// One of the two 32-bit numbers in each word.
fn half(word: &Word, index: u32) -> u32 {
    (word.load() >> (index % 2 * 32)) as u32
}

/// An entry in the words of a swarm record, with an index below [`RECORD_ENTRIES`].
fn record_entry<F: Family>(swarm: &Swarm, index: u32) -> u32 {
    half(F::record(swarm).word(F::entry_word((index as usize / 2) % 4)), index)
}

/// An entry of a directory node.
fn node_entry<P: Platform>(platform: &P, node: u32, index: u32) -> Option<u32> {
    let node = platform.node(node.into())?;
    Some(half(&node.words[(index / 2) as usize % node.words.len()], index))
}

/// The number of the partition with this index of `count`. `None` if the way there leads beyond the
/// end of an array.
pub(super) fn partition<P: Platform, F: Family>(
    platform: &P,
    swarm: &Swarm,
    index: u32,
    count: u32,
) -> Option<PartitionId> {
    let number = if count <= RECORD_ENTRIES {
        record_entry::<F>(swarm, index)
    } else if count <= TWO_LEVELS {
        node_entry(platform, record_entry::<F>(swarm, index / NODE_ENTRIES), index % NODE_ENTRIES)?
    } else {
        let upper = record_entry::<F>(swarm, index / NODE_ENTRIES / NODE_ENTRIES);
        let node = node_entry(platform, upper, index / NODE_ENTRIES % NODE_ENTRIES)?;
        node_entry(platform, node, index % NODE_ENTRIES)?
    };
    Some(PartitionId::new(number))
}

/// The directory nodes of a family with `count` partitions.
fn nodes<P: Platform, F: Family>(platform: &P, swarm: &Swarm, count: u32) -> Vec<u32> {
    if count <= RECORD_ENTRIES {
        return Vec::new();
    }
    let leaves = count.div_ceil(NODE_ENTRIES);
    if count <= TWO_LEVELS {
        return (0..leaves).map(|index| record_entry::<F>(swarm, index)).collect();
    }
    let uppers = (0..leaves.div_ceil(NODE_ENTRIES)).map(|index| record_entry::<F>(swarm, index));
    let leaf = |index: u32| {
        let upper = record_entry::<F>(swarm, index / NODE_ENTRIES);
        node_entry(platform, upper, index % NODE_ENTRIES).unwrap_or(u32::MAX)
    };
    uppers.chain((0..leaves).map(leaf)).collect()
}

/// The records of one kind, and who has them.
struct Owners {
    name: &'static str,
    /// Below this number were all that were used when the pass began.
    fresh: u32,
    /// The number of the swarm, + 1.
    of: Vec<u32>,
    /// Further owners, and owners of what there is not.
    further: Vec<(u32, String)>,
    reached: u32,
}

impl Owners {
    fn new<P: Platform, E: Element>(cx: &Context<'_, P>, name: &'static str) -> Self {
        let fresh = cx.platform.pools().map_or(0, |pools| E::pool(pools).fresh.load());
        // The counter may have been moved beyond the limit by several at once.
        let fresh = fresh.min(cx.settings.pool_limits[E::LIMIT].load());
        Self { name, fresh, of: vec![0; fresh as usize], further: Vec::new(), reached: 0 }
    }

    fn reach(&mut self, number: u32, swarm: SwarmRef<'_>) {
        self.reached += 1;
        match self.of.get_mut(number as usize) {
            Some(owner) if *owner == 0 => *owner = swarm.id.stored(),
            Some(_) | None => self.further.push((number, name(swarm.id))),
        }
    }

    /// What is wrong, now that all swarms have been looked at.
    fn finish<P: Platform, E: Element>(&self, cx: &Context<'_, P>, faults: &mut BTreeSet<Fault>) -> PoolUse {
        let pool = cx.platform.pools().map(E::pool);
        let limit = cx.settings.pool_limits[E::LIMIT].load();
        let fresh = pool.map_or(0, |pool| pool.fresh.load()).min(limit);
        let free = free::walk::<P, E>(cx, self.name, fresh, faults);
        let mut is_free = vec![false; self.of.len()];
        let kind = self.name;
        let owner_of = |number: u32| match self.of.get(number as usize).map(|owner| owner.checked_sub(1)) {
            Some(Some(swarm)) => name(swarm.into()),
            Some(None) | None => "nobody".into(),
        };
        for &number in &free {
            let Some(seen) = is_free.get_mut(number as usize) else { continue };
            if std::mem::replace(seen, true) {
                faults.insert(Fault::new(Kind::UsedTwice, format!("{kind} {number}: twice in the list of free ones")));
            } else if self.of[number as usize] != 0 {
                let owner = owner_of(number);
                faults.insert(Fault::new(Kind::UsedTwice, format!("{kind} {number}: free, and of {owner}")));
            }
        }
        for (number, owner) in &self.further {
            faults.insert(if *number < self.fresh {
                let first = owner_of(*number);
                Fault::new(Kind::UsedTwice, format!("{kind} {number}: of {first} and of {owner}"))
            } else if *number >= fresh {
                Fault::new(Kind::NumberWrong, format!("{kind} {number}: of {owner}, and was never handed out"))
            } else {
                // Handed out since the pass began.
                continue;
            });
        }
        for (number, (owner, free)) in self.of.iter().zip(&is_free).enumerate() {
            if *owner == 0 && !free {
                faults.insert(Fault::new(Kind::Leaked, format!("{kind} {number}: neither free nor reachable")));
            }
        }
        PoolUse { limit, fresh, free: free.len() as u32, reached: self.reached }
    }
}

/// What one pass has reached.
pub(super) struct Reached {
    partitions: Owners,
    chunks_v4: Owners,
    chunks_v6: Owners,
}

impl Reached {
    pub fn new<P: Platform>(cx: &Context<'_, P>) -> Self {
        Self {
            partitions: Owners::new::<P, Partition>(cx, "partition"),
            chunks_v4: Owners::new::<P, ChunkV4>(cx, "IPv4 chunk"),
            chunks_v6: Owners::new::<P, ChunkV6>(cx, "IPv6 chunk"),
        }
    }

    /// Notes what a swarm has.
    pub fn swarm<P: Platform>(&mut self, cx: &Context<'_, P>, swarm: SwarmRef<'_>) {
        self.family::<P, V4>(cx, swarm, |reached| &mut reached.chunks_v4);
        self.family::<P, V6>(cx, swarm, |reached| &mut reached.chunks_v6);
    }

    fn family<P: Platform, F: Family>(
        &mut self,
        cx: &Context<'_, P>,
        swarm: SwarmRef<'_>,
        chunks: impl Fn(&mut Self) -> &mut Owners,
    ) {
        let Some(header) = F::directory(swarm.record) else { return };
        if header.is_list() {
            for number in chunk_numbers::<F, _>(swarm.record) {
                chunks(self).reach(number, swarm);
            }
            return;
        }
        for node in nodes::<P, F>(cx.platform, swarm.record, header.partitions) {
            self.chunks_v4.reach(node, swarm);
        }
        for index in 0..header.partitions {
            let id = partition::<P, F>(cx.platform, swarm.record, index, header.partitions);
            self.partitions.reach(id.map_or(u32::MAX, PartitionId::number), swarm);
            let Some(partition) = id.and_then(|id| cx.platform.partition(id)) else { continue };
            for number in chunk_numbers::<F, _>(partition) {
                chunks(self).reach(number, swarm);
            }
        }
    }

    /// What is wrong, now that all swarms have been looked at, and how much there is of each kind:
    /// partitions, IPv4 chunks, IPv6 chunks.
    pub fn finish<P: Platform>(&self, cx: &Context<'_, P>, faults: &mut BTreeSet<Fault>) -> [PoolUse; 3] {
        for number in 0..self.partitions.fresh {
            if self.partitions.of[number as usize] == 0
                && let Some(partition) = cx.platform.partition(PartitionId::new(number))
                && let owner = partition.owner.load()
                && owner != 0
            {
                let owner = name((owner - 1).into());
                let what = format!("partition {number}: says that it is of {owner}, which does not have it");
                faults.insert(Fault::new(Kind::OwnerWrong, what));
            }
        }
        [
            self.partitions.finish::<P, Partition>(cx, faults),
            self.chunks_v4.finish::<P, ChunkV4>(cx, faults),
            self.chunks_v6.finish::<P, ChunkV6>(cx, faults),
        ]
    }
}

/// The numbers of a list's chunks that are in use.
fn chunk_numbers<F: Family, L: List<F>>(list: &L) -> Vec<u32> {
    let count = chunks_for::<F>(list.peers()).min(PARTITION_CHUNKS);
    (0..count).filter_map(|index| list.chunk_id(index)).map(|id| id.number()).collect()
}
