//! A swarm with all its locks held: peers counted, memory that is part of nothing given back.

extern crate std;

use super::{
    super::{
        allocator::{self, Element},
        directory,
        family::{Family, V4, V6},
        journal::{Counted, Exchange, Item, Place},
        layout::{
            ChunkV4, ChunkV6, DirectoryHeader, NODE_ENTRIES, ONE_CHANGE, ONE_LEECHER, ONE_SEEDER, Occupancy, Partition,
            RECORD_ENTRIES, SWARM_ALIVE, unpack_counts,
        },
        list::{self, List, chunks_for},
        slot::LEECHER,
    },
    held::Repair,
};
use crate::{
    id::{ChunkId, PartitionId, SwarmId},
    platform::{Platform, SwarmRef},
};
use std::vec::Vec;

/// Seeders and leechers.
#[derive(Clone, Copy, Default)]
struct Peers {
    seeders: u32,
    leechers: u32,
}

impl Peers {
    fn all(self) -> u32 {
        self.seeders + self.leechers
    }

    fn add(&mut self, other: Self) {
        self.seeders += other.seeders;
        self.leechers += other.leechers;
    }

    fn see(&mut self, flags: u64) {
        if flags & LEECHER == 0 {
            self.seeders += 1;
        } else {
            self.leechers += 1;
        }
    }
}

impl<P: Platform> Repair<'_, '_, P> {
    /// Puts the swarm in order.
    pub(super) fn whole(&mut self, id: SwarmId) {
        let Some(swarm) = self.cx.swarm(id) else { return };
        if let Some(own) = self.cx.platform.journal() {
            own.enter(Place::Whole(id));
        }
        self.hold(Place::Swarm(id));
        let mut places = self.partitions_of::<V4>(id);
        places.extend(self.partitions_of::<V6>(id));
        for place in &places {
            self.hold(*place);
        }
        if swarm.record.active.load() & SWARM_ALIVE == 0 {
            // What a torrent had that was evicted.
            let families = [V4::record(swarm.record).words(), V6::record(swarm.record).words()];
            families.into_iter().flatten().for_each(|word| word.store(0));
        }
        let mut parts = Vec::new();
        let mut peers = self.family::<V4>(swarm, &mut parts);
        peers.add(self.family::<V6>(swarm, &mut parts));
        // A torrent that has been removed keeps nothing.
        let counts = swarm.record.counts.load();
        if unpack_counts(counts) != (peers.seeders, peers.leechers) {
            let right = (counts & !(ONE_CHANGE - 1)).wrapping_add(ONE_CHANGE);
            let right = right.wrapping_add(u64::from(peers.seeders) * ONE_SEEDER);
            swarm.record.counts.store(right.wrapping_add(u64::from(peers.leechers) * ONE_LEECHER));
        }
        self.settle(id, &parts);
        places.push(Place::Swarm(id));
        for place in places {
            self.held.retain(|held| *held != place);
            self.let_go(place);
        }
        if let Some(own) = self.cx.platform.journal() {
            own.leave();
        }
        self.result.swarms += 1;
    }

    /// Counts the peers of a family, and enters what it consists of into `parts`.
    fn family<F: Family>(&self, swarm: SwarmRef<'_>, parts: &mut Vec<Item>) -> Peers {
        let mut peers = Peers::default();
        let Some(header) = F::directory(swarm.record) else {
            for slot in (0..F::RECORD_SLOTS).map(|number| F::record(swarm.record).slot(number)) {
                if slot.is_occupied() {
                    peers.see(slot.flags());
                }
            }
            return peers;
        };
        if header.is_list() {
            return self.list::<F, _>(Place::Swarm(swarm.id), swarm.record, parts);
        }
        for place in self.partitions_of::<F>(swarm.id) {
            if let Place::Partition(id) = place
                && let Some(partition) = self.cx.platform.partition(id)
            {
                parts.push(allocator::item::<Partition>(id));
                peers.add(self.list::<F, _>(place, partition, parts));
            }
        }
        // With the locks of all partitions held nobody adds to the number.
        if header.peers != peers.all() {
            F::header(swarm.record).store(DirectoryHeader { peers: peers.all(), ..header }.to_word());
        }
        self.nodes::<F>(swarm, header.partitions, parts);
        peers
    }

    /// Enters the nodes of a directory into `parts`.
    fn nodes<F: Family>(&self, swarm: SwarmRef<'_>, partitions: u32, parts: &mut Vec<Item>) {
        let mut node = |id: ChunkId| parts.push(allocator::item::<ChunkV4>(id));
        if partitions <= RECORD_ENTRIES {
            return;
        }
        let lowest = partitions.div_ceil(NODE_ENTRIES);
        let upper = if lowest <= RECORD_ENTRIES { lowest } else { lowest.div_ceil(NODE_ENTRIES) };
        for index in 0..upper {
            node(ChunkId::new(directory::record_entry::<F>(swarm.record, index)));
        }
        if lowest > RECORD_ENTRIES {
            let platform = self.cx.platform;
            let leaf = |index| directory::leaf::<P, F>(platform, swarm.record, index);
            (0..lowest).filter_map(leaf).for_each(node);
        }
    }

    /// Counts the peers of a list, and puts leechers before seeders.
    fn list<F: Family, L: List<F>>(&self, place: Place, list: &L, parts: &mut Vec<Item>) -> Peers {
        let platform = self.cx.platform;
        let occupancy = list.occupancy();
        let chunks = (0..chunks_for::<F>(occupancy.peers)).filter_map(|index| list.chunk_id(index));
        parts.extend(chunks.map(allocator::item::<F::Chunk>));
        let slot = |number| list::slot::<P, F, L>(platform, list, number);
        let mut peers = Peers::default();
        for number in 0..occupancy.peers {
            if let Some(slot) = slot(number) {
                peers.see(slot.flags());
            }
        }
        let is_leecher = |number| slot(number).is_some_and(|slot| slot.flags() & LEECHER != 0);
        let mut wrong = (peers.leechers..occupancy.peers).filter(|number| is_leecher(*number)).collect::<Vec<_>>();
        for number in 0..peers.leechers {
            if !is_leecher(number)
                && let Some(other) = wrong.pop()
                && let (Some(one), Some(two)) = (slot(number), slot(other))
            {
                list.lock().begin_change();
                if let Some(own) = platform.journal() {
                    own.enter(place);
                }
                list::keep::<P, F, L, 2>(platform, list, [number, other]);
                one.swap(two);
                list::kept(platform);
                if let Some(own) = platform.journal() {
                    own.leave();
                }
            }
        }
        // A newcomer whom nobody counted would be taken for one that is known.
        for number in occupancy.peers..chunks_for::<F>(occupancy.peers) * F::CHUNK_SLOTS {
            if let Some(slot) = slot(number) {
                (0..F::WORDS).for_each(|index| slot.word(index).store(0));
            }
        }
        if occupancy.leechers != peers.leechers {
            list.set_occupancy(Occupancy { leechers: peers.leechers, ..occupancy });
        }
        peers
    }

    /// What is part of this swarm is not loose. What a dead thread has taken and not made part of any of
    /// the swarms that it was working on, or taken out and not given back, is given back with the last of
    /// these swarms.
    fn settle(&mut self, id: SwarmId, parts: &[Item]) {
        for journal in &self.dead {
            for item in journal.loose().filter(|item| parts.contains(item)).collect::<Vec<_>>() {
                journal.forget(item);
            }
        }
        for (_, swarms) in &mut self.unfinished {
            swarms.retain(|swarm| *swarm != id);
        }
        let finished = self.unfinished.extract_if(.., |(_, swarms)| swarms.is_empty());
        for (journal, _) in finished.collect::<Vec<_>>() {
            for item in journal.loose().collect::<Vec<_>>() {
                self.give_back(item);
            }
        }
    }

    /// Gives back what is part of nothing.
    fn give_back(&self, item: Item) {
        let platform = self.cx.platform;
        if let Some(own) = platform.journal() {
            own.note(item);
        }
        for journal in &self.dead {
            journal.forget(item);
        }
        match item.kind {
            kind if kind == Partition::LIMIT => {
                allocator::give_back::<P, Partition>(platform, PartitionId::new(item.number));
            }
            kind if kind == ChunkV4::LIMIT => {
                allocator::give_back::<P, ChunkV4>(platform, ChunkId::new(item.number));
            }
            _ => allocator::give_back::<P, ChunkV6>(platform, ChunkId::new(item.number)),
        }
    }

    /// Finds out which exchanges with allocators were made. Before anything else is taken or given
    /// back.
    pub(super) fn settle_exchanges(&mut self) {
        let Some(pools) = self.cx.platform.pools() else { return };
        let mut free = Vec::new();
        for journal in &self.dead {
            let Some((exchange, item, before, after)) = journal.exchanging() else { continue };
            let pool = match item.kind {
                kind if kind == Partition::LIMIT => &pools.partitions,
                kind if kind == ChunkV4::LIMIT => &pools.chunks_v4,
                _ => &pools.chunks_v6,
            };
            let head = pool.head.load();
            let (happened, by) = match exchange {
                Exchange::Take => (journal.is_loose(item) || head != before, u32::MAX),
                Exchange::GiveBack => (head != before, 1),
                Exchange::TakeFresh => (false, 0),
            };
            // How many are free is for statistics, and may be wrong by one if others have changed it.
            if happened && matches!(journal.free.counted(), Counted::Begun(_)) && journal.free.is_as_before(&pool.free)
            {
                free.push((&pool.free, by));
            }
            self.result.in_doubt += u32::from(match exchange {
                Exchange::Take => happened && !journal.is_loose(item),
                Exchange::TakeFresh => !journal.is_loose(item) && u64::from(pool.fresh.load()) != before,
                // If the list has another first record now, it was given back before that, or not
                // at all.
                Exchange::GiveBack => happened && head != after,
            });
            if exchange == Exchange::GiveBack && happened {
                self.dead.iter().for_each(|journal| journal.forget(item));
            }
        }
        for (count, by) in free {
            count.add(by);
        }
        self.dead.iter().for_each(|journal| journal.exchanged());
    }
}
