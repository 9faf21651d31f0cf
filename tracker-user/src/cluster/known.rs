//! What the store knows of one peer, as it is at this moment: read as samples read it, without taking
//! part in anything.

use crate::{snapshot::walk::Walk, store::Handle};
use tracker_common::{
    platform::{Platform as _, SwarmRef},
    store::{
        directory::{self, is_partition_of},
        family::Family,
        hash::TorrentKey,
        index,
        journal::Place,
        linear_hash::partition_of,
        list::{List, chunks_for},
        owner::Owner,
        slot::{KEY, KEY_SHIFT, Slots},
    },
};

/// Whose a peer is; nobody's if it is not stored.
pub fn owner<F: Family>(handle: &Handle, torrent: &TorrentKey, peer: F::Key) -> Owner {
    let swarm = index::find(&handle.context(), torrent);
    let flags = swarm.and_then(|swarm| flags::<F>(handle, swarm, peer)).unwrap_or(0);
    Owner::of_number(((flags & KEY) >> KEY_SHIFT) as u32)
}

/// The flags of a peer of this swarm.
fn flags<F: Family>(handle: &Handle, swarm: SwarmRef<'_>, peer: F::Key) -> Option<u64> {
    let record = swarm.record;
    let partitions = Walk::consistent(handle, (&record.lock, Place::Swarm(swarm.id)), || match F::directory(record) {
        None => Err(in_slots::<F>(F::record(record), F::RECORD_SLOTS, peer)),
        Some(header) if header.is_list() => Err(in_list::<F, _>(handle, record, peer)),
        Some(header) => Ok(header.partitions),
    });
    let partitions = match partitions {
        Ok(partitions) => partitions,
        Err(found) => return found,
    };
    let index = partition_of(F::hash(handle.store().settings(), peer), partitions);
    let id = directory::find::<_, F>(handle, record, index, partitions)?;
    let partition = handle.partition(id)?;
    Walk::consistent(handle, (&partition.lock, Place::Partition(id)), || {
        is_partition_of::<F>(partition, swarm.id, index).then(|| in_list::<F, _>(handle, partition, peer)).flatten()
    })
}

fn in_list<F: Family, L: List<F>>(handle: &Handle, list: &L, peer: F::Key) -> Option<u64> {
    let count = list.peers();
    (0..chunks_for::<F>(count).min(L::CHUNKS)).find_map(|index| {
        let slots = list.chunk_id(index).and_then(|id| F::chunk(handle, id))?;
        in_slots::<F>(slots, (count - index * F::CHUNK_SLOTS).min(F::CHUNK_SLOTS) as usize, peer)
    })
}

fn in_slots<F: Family>(slots: Slots<'_, F>, count: usize, peer: F::Key) -> Option<u64> {
    (0..count).map(|number| slots.slot(number)).find(|slot| slot.matches(peer)).map(|slot| slot.flags())
}
