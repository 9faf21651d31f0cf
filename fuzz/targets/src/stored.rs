//! The peers of a swarm, read from the store's records themselves.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tracker_common::{
    id::{InfoHash, PartitionId, SwarmId},
    platform::{Context, Platform},
    store::{
        family::{Family, V4, V6},
        hash::TorrentKey,
        index,
        layout::{Occupancy, Partition},
        list::{List, chunks_for},
        slot::{COMPLETED, LEECHER, Slots},
    },
};

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// It has everything.
    pub seeder: bool,
    /// Its download has been counted.
    pub completed: bool,
}

/// A family's peers as addresses.
trait Addresses: Family {
    fn socket_address(key: Self::Key) -> SocketAddr;
}

impl Addresses for V4 {
    fn socket_address(key: u64) -> SocketAddr {
        let [a, b, c, d, high, low, ..] = key.to_le_bytes();
        (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()
    }
}

impl Addresses for V6 {
    fn socket_address([low, high, port]: [u64; 3]) -> SocketAddr {
        let words = u128::from(low) | u128::from(high) << 64;
        (Ipv6Addr::from(words.to_le_bytes()), u16::from_be(port as u16)).into()
    }
}

/// A context for a look at the store.
///
/// # Panics
/// When the platform has none.
pub fn context<P: Platform>(platform: &P) -> Context<'_, P> {
    Context::new(platform).expect("settings and scratch space")
}

/// A torrent's swarm.
pub fn find<P: Platform>(platform: &P, info_hash: &InfoHash) -> Option<SwarmId> {
    let cx = context(platform);
    index::find(&cx, &TorrentKey::new(cx.settings, info_hash)).map(|swarm| swarm.id)
}

/// All peers of a torrent; `None` if it is not stored.
///
/// # Panics
/// When records contradict each other: a peer twice, a gap in a list, leechers behind seeders,
/// counts that do not agree.
pub fn peers<P: Platform>(platform: &P, info_hash: &InfoHash) -> Option<BTreeMap<SocketAddr, Kind>> {
    let swarm = find(platform, info_hash)?;
    let mut peers = BTreeMap::new();
    collect::<P, V4>(platform, swarm, &mut peers);
    collect::<P, V6>(platform, swarm, &mut peers);
    Some(peers)
}

fn collect<P: Platform, F: Addresses>(platform: &P, id: SwarmId, peers: &mut BTreeMap<SocketAddr, Kind>) {
    let swarm = platform.swarm(id).expect("a swarm that was found");
    let Some(header) = F::directory(swarm) else {
        return take::<F>(F::record(swarm), F::RECORD_SLOTS, peers);
    };
    let before = peers.len();
    if F::is_list(swarm) {
        take_list::<P, F>(platform, swarm, peers);
    } else {
        let fresh = platform.pools().expect("pools").partitions.fresh.load();
        for number in 0..fresh {
            let Some(partition) = platform.partition(PartitionId::new(number)) else { continue };
            if is_of::<F>(partition, id) {
                take_list::<P, F>(platform, partition, peers);
            }
        }
    }
    assert_eq!(peers.len() - before, header.peers as usize, "peers counted by the swarm");
}

fn is_of<F: Family>(partition: &Partition, swarm: SwarmId) -> bool {
    partition.owner.load() == swarm.stored() && partition.index.load() & V6::TAG == F::TAG
}

fn take_list<P: Platform, F: Addresses>(platform: &P, list: &impl List<F>, peers: &mut BTreeMap<SocketAddr, Kind>) {
    let Occupancy { peers: count, leechers } = list.occupancy();
    let before = peers.len();
    for index in 0..chunks_for::<F>(list.peers()) {
        let chunk = list.chunk_id(index).expect("the number of a chunk");
        let slots: Slots<'_, F> = F::chunk(platform, chunk).expect("a chunk of a list");
        for number in 0..F::CHUNK_SLOTS {
            let (place, slot) = (index * F::CHUNK_SLOTS + number, slots.slot(number as usize));
            assert_eq!(slot.is_occupied(), place < count, "slot {place} of {count}");
            assert_eq!(slot.flags() & LEECHER != 0, place < leechers, "slot {place}, {leechers} leechers of {count}");
        }
        take::<F>(slots, F::CHUNK_SLOTS as usize, peers);
    }
    assert_eq!(peers.len() - before, count as usize, "peers counted by their list");
}

fn take<F: Addresses>(slots: Slots<'_, F>, count: usize, peers: &mut BTreeMap<SocketAddr, Kind>) {
    for slot in (0..count).map(|number| slots.slot(number)).filter(|slot| slot.is_occupied()) {
        let kind = Kind { seeder: slot.flags() & LEECHER == 0, completed: slot.flags() & COMPLETED != 0 };
        let twice = peers.insert(F::socket_address(slot.key()), kind);
        assert_eq!(twice, None, "a peer has two slots");
    }
}
