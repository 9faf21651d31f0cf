//! Lists and swarm records as they were, or as they were to become.

extern crate std;

use super::{
    super::{
        allocator,
        directory::{self, last_nodes, unlink_last},
        family::{Family, V4, V6},
        journal::{Item, Journal, Place, Undo},
        layout::{ChunkV4, DirectoryHeader, Occupancy, Partition, Swarm},
        linear_hash::split_source,
        list::{self, List},
    },
    held::Repair,
};
use crate::{
    id::{PartitionId, SwarmId},
    outcome::IpVersion,
    platform::{Platform, SwarmRef},
};
use std::vec::Vec;

impl<P: Platform> Repair<'_, '_, P> {
    /// Undoes a change of a list.
    pub(super) fn undo_list(&self, journal: &Journal) {
        let Some((kept, _, _)) = journal.list() else { return };
        match (journal.lock(kept.lock), kept.version) {
            (Some(Place::Partition(id)), version) => {
                let Some(partition) = self.cx.platform.partition(id) else { return };
                match version {
                    IpVersion::V4 => self.restore::<V4, Partition>(partition, journal),
                    IpVersion::V6 => self.restore::<V6, Partition>(partition, journal),
                }
            }
            (Some(Place::Swarm(id) | Place::Whole(id)), version) => {
                let Some(swarm) = self.cx.platform.swarm(id) else { return };
                match version {
                    IpVersion::V4 => self.restore::<V4, Swarm>(swarm, journal),
                    IpVersion::V6 => self.restore::<V6, Swarm>(swarm, journal),
                }
            }
            _ => {}
        }
        journal.list_done();
    }

    fn restore<F: Family, L: List<F>>(&self, list: &L, journal: &Journal) {
        let Some((_, occupancy, slots)) = journal.list() else { return };
        for (number, words) in slots {
            if let Some(slot) = list::slot::<P, F, L>(self.cx.platform, list, number) {
                for (index, word) in words.into_iter().enumerate().take(F::WORDS) {
                    slot.word(index).store(word);
                }
            }
        }
        list.set_occupancy(Occupancy::from_kept(occupancy));
    }

    /// Undoes a change of a swarm record, or completes it.
    pub(super) fn undo_record(&self, journal: &Journal) {
        let Some((kept, undo, words)) = journal.record() else { return };
        if let Some(Place::Swarm(id) | Place::Whole(id)) = journal.lock(kept.lock)
            && let Some(swarm) = self.cx.platform.swarm(id)
        {
            match kept.version {
                IpVersion::V4 => self.undo_family::<V4>(swarm, journal, undo, &words),
                IpVersion::V6 => self.undo_family::<V6>(swarm, journal, undo, &words),
            }
        }
        journal.record_done();
    }

    fn undo_family<F: Family>(&self, swarm: &Swarm, journal: &Journal, undo: Undo, words: &[u64; 6]) {
        let before = DirectoryHeader::from_word(words[F::HEADER_WORD]).map_or(0, |header| header.partitions);
        let now = F::directory(swarm).map_or(0, |header| header.partitions);
        let restores = match undo {
            Undo::All => true,
            Undo::Entries => now == before,
            Undo::LastEntry => now == before || now + 1 == before,
        };
        if !restores {
            return;
        }
        for (index, (word, kept)) in F::record(swarm).words().iter().zip(words).enumerate() {
            if undo == Undo::All || index != F::HEADER_WORD {
                word.store(*kept);
            }
        }
        if undo == Undo::LastEntry && now + 1 == before {
            for node in last_nodes::<P, F>(self.cx.platform, swarm, now).into_iter().flatten() {
                journal.note(allocator::item::<ChunkV4>(node));
            }
            unlink_last::<P, F>(self.cx.platform, swarm, now);
        }
    }

    /// Takes the peers out of partitions of the swarm that a dead thread was working on, and that are
    /// not, or no longer, of its directory.
    pub(super) fn dissolve_strays(&mut self, journal: &Journal, swarm: SwarmId) {
        let Some(swarm) = self.cx.swarm(swarm) else { return };
        let loose = journal.loose().filter(|item| item.kind == <Partition as allocator::Element>::LIMIT);
        let loose = loose.map(|item| PartitionId::new(item.number));
        let named = journal.locks().filter_map(Place::partition);
        for id in loose.chain(named).collect::<Vec<_>>() {
            self.with(Place::Partition(id), |repair| {
                if let Some(partition) = repair.cx.platform.partition(id)
                    && partition.owner.load() == swarm.id.stored()
                {
                    if partition.tagged_index() & V6::TAG == 0 {
                        repair.dissolve::<V4>(journal, swarm, id, partition);
                    } else {
                        repair.dissolve::<V6>(journal, swarm, id, partition);
                    }
                }
            });
        }
    }

    fn dissolve<F: Family>(&mut self, journal: &Journal, swarm: SwarmRef<'_>, id: PartitionId, partition: &Partition) {
        let (platform, index) = (self.cx.platform, partition.tagged_index() & !V6::TAG);
        let partitions = F::partitions(swarm.record).unwrap_or(0);
        let find = |index| directory::find::<P, F>(platform, swarm.record, index, partitions);
        if index < partitions && find(index) == Some(id) {
            return;
        }
        // Without any others, its chunks are those of the record's list.
        if partitions > 0
            && let Some(into) = find(split_source(index))
            && let Some(target) = platform.partition(into)
        {
            let all = self.with(Place::Partition(into), |repair| repair.move_peers::<F>(journal, partition, target));
            self.result.in_doubt += u32::from(!all);
        }
        journal.note(Item { kind: <Partition as allocator::Element>::LIMIT, number: id.number() });
        partition.owner.store(0);
        partition.occupancy.store(0);
    }

    /// Puts those peers of one partition into another one that are not there. False if one found no
    /// room, which there is unless somebody else has made a mistake.
    fn move_peers<F: Family>(&self, journal: &Journal, source: &Partition, target: &Partition) -> bool {
        let platform = self.cx.platform;
        target.add_scopes(source.scopes());
        (0..List::<F>::peers(source)).all(|number| {
            let Some(slot) = list::slot::<P, F, _>(platform, source, number) else { return false };
            let peers = List::<F>::peers(target);
            // What stands behind the last one was never counted.
            if list::find::<P, F, _>(self.cx, target, slot.key()).is_some_and(|number| number < peers) {
                return true;
            }
            if peers >= <Partition as List<F>>::CHUNKS * F::CHUNK_SLOTS {
                return false;
            }
            if peers.is_multiple_of(F::CHUNK_SLOTS) {
                // The chunks that it had, or that it was to have, have not been given back.
                let index = peers / F::CHUNK_SLOTS;
                let chunk = List::<F>::chunk_id(target, index).map(allocator::item::<F::Chunk>);
                if !chunk.is_some_and(|item| journal.is_loose(item))
                    && list::reserve_one::<P, F, _>(self.cx, target, index).is_err()
                {
                    return false;
                }
            }
            list::put::<P, F, _>(platform, target, slot.key(), slot.flags()).is_some()
        })
    }
}
