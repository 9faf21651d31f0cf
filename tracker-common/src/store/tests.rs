//! What the tests of the store's modules share.

use super::{
    family::{Family, V4, V6},
    hash::TorrentKey,
    index,
    layout::Occupancy,
    list::List,
    membership::{Announce, PeerEvent},
    owner::Owner,
    slot::{FLAGS, LEECHER},
    upsert,
};
use crate::{
    host::{HostSizes, HostStore},
    id::InfoHash,
    outcome::StoreError,
    platform::{Context, Platform, SwarmRef},
};
use std::{collections::BTreeMap, fmt::Debug};

/// Enough for a few swarms of some hundred peers.
pub(super) const ROOMY: HostSizes =
    HostSizes { index_buckets: 16, swarms: 16, partitions: 64, chunks_v4: 256, chunks_v6: 256 };

/// Places in [`crate::settings::Settings::pool_limits`].
pub(super) const SWARMS: usize = 0;
pub(super) const PARTITIONS: usize = 1;
pub(super) const CHUNKS_V4: usize = 2;
pub(super) const CHUNKS_V6: usize = 3;

/// The families with what the tests need beyond [`Family`].
pub(super) trait Peers: Family<Key: Ord + Debug + Send + Sync> {
    /// Where the limit of its chunks is.
    const CHUNKS: usize;

    /// A peer by number, with a public address.
    fn peer(number: u32) -> Self::Key;
    /// The peer in the compact form.
    fn read(compact: &[u8]) -> Self::Key;
    /// The compact form of the peer.
    fn compact(peer: Self::Key) -> Vec<u8>;
}

impl Peers for V4 {
    const CHUNKS: usize = CHUNKS_V4;

    fn peer(number: u32) -> u64 {
        V4::key((0x0900_0000 + number).to_be_bytes(), 6881)
    }

    fn read(compact: &[u8]) -> u64 {
        let (address, port) = compact.split_at(4);
        V4::key(address.try_into().expect("4 bytes"), u16::from_be_bytes(port.try_into().expect("2 bytes")))
    }

    fn compact(peer: u64) -> Vec<u8> {
        peer.to_le_bytes()[..6].to_vec()
    }
}

impl Peers for V6 {
    const CHUNKS: usize = CHUNKS_V6;

    fn peer(number: u32) -> [u64; 3] {
        V6::key((0x2001_0db8 << 96 | u128::from(number)).to_be_bytes(), 6881)
    }

    fn read(compact: &[u8]) -> [u64; 3] {
        let (address, port) = compact.split_at(16);
        V6::key(address.try_into().expect("16 bytes"), u16::from_be_bytes(port.try_into().expect("2 bytes")))
    }

    fn compact(peer: [u64; 3]) -> Vec<u8> {
        peer.iter().flat_map(|word| word.to_le_bytes()).take(18).collect()
    }
}

/// A torrent by number.
pub(super) fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0xa5; 20];
    info_hash[..4].copy_from_slice(&number.to_be_bytes());
    info_hash
}

/// A new swarm for the torrent of this number.
pub(super) fn new_swarm<'m, P: Platform>(cx: &Context<'m, P>, number: u32) -> SwarmRef<'m> {
    let id = index::create(cx, &TorrentKey::new(cx.settings, &torrent(number))).expect("room for a torrent");
    cx.swarm(id).expect("a swarm that was created")
}

/// A leecher of torrent 0 announces.
pub(super) fn announce<P: Platform, F: Peers>(
    cx: &Context<'_, P>,
    peer: u32,
    event: PeerEvent,
) -> Result<(), StoreError> {
    let announce = Announce { info_hash: &torrent(0), peer: F::peer(peer), seeder: false, event, owner: Owner::NONE };
    upsert::announce::<P, F>(cx, &announce).map(|_| ())
}

/// Torrent 0 with peers 0 to `count` - 1, in as many partitions as `partitions` lets it have: from
/// the first peer on that the record has no slot for. Without any, they are a list.
pub(super) fn grown<'m, P: Platform, F: Peers>(cx: &Context<'m, P>, count: u32, partitions: u32) -> SwarmRef<'m> {
    let limit = &cx.settings.pool_limits[PARTITIONS];
    let before = limit.load();
    limit.store(partitions);
    let swarm = new_swarm(cx, 0);
    for peer in 0..count {
        announce::<P, F>(cx, peer, PeerEvent::Started).expect("room");
        if partitions > 0 && F::is_list(swarm.record) {
            assert!(swarm.record.lock.try_lock());
            super::resize::promote::<P, F>(cx, swarm).expect("a partition");
            swarm.record.lock.unlock();
        }
    }
    limit.store(before);
    swarm
}

/// The numbers of records in use: swarms, partitions, IPv4 chunks, IPv6 chunks.
pub(super) fn used(store: &HostStore) -> [u32; 4] {
    let pools = store.pools();
    let [partitions, chunks_v4, chunks_v6] =
        [&pools.partitions, &pools.chunks_v4, &pools.chunks_v6].map(|pool| pool.used());
    [pools.swarms.used(), partitions, chunks_v4, chunks_v6]
}

/// Lets a pool have this many records more than are in use.
pub(super) fn spare(store: &HostStore, pool: usize, count: u32) {
    store.settings().pool_limits[pool].store(used(store)[pool] + count);
}

/// The peers of a list with their flags. Leechers have to stand before seeders.
pub(super) fn members<P: Platform, F: Peers, L: List<F>>(platform: &P, list: &L) -> Vec<(F::Key, u64)> {
    let Occupancy { peers, leechers } = list.occupancy();
    let member = |number| {
        let slot = super::list::slot::<P, F, L>(platform, list, number).expect("a slot");
        assert!(slot.is_occupied(), "{number} of {peers}");
        assert_eq!(slot.flags() & LEECHER != 0, number < leechers, "{number} of {leechers} leechers");
        (slot.key(), slot.flags() & FLAGS)
    };
    (0..peers).map(member).collect()
}

/// All peers of a swarm, each with its flags and the index of its partition, which is 0 without
/// any.
pub(super) fn peers<P: Platform, F: Peers>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> BTreeMap<F::Key, (u64, u32)> {
    let mut found = BTreeMap::new();
    let mut add = |(peer, flags), index| {
        let twice = found.insert(peer, (flags, index));
        assert_eq!(twice, None, "{peer:?} is there twice");
    };
    let Some(header) = F::directory(swarm.record) else {
        let slots = (0..F::RECORD_SLOTS).map(|number| F::record(swarm.record).slot(number));
        slots.filter(|slot| slot.is_occupied()).for_each(|slot| add((slot.key(), slot.flags() & FLAGS), 0));
        return found;
    };
    if header.is_list() {
        members::<P, F, _>(cx.platform, swarm.record).into_iter().for_each(|member| add(member, 0));
    }
    for index in 0..header.partitions {
        let id = super::directory::find::<P, F>(cx.platform, swarm.record, index, header.partitions);
        let partition = cx.platform.partition(id.expect("an entry")).expect("a partition");
        assert!(super::directory::is_partition_of::<F>(partition, swarm.id, index), "partition {index}");
        members::<P, F, _>(cx.platform, partition).into_iter().for_each(|member| add(member, index));
    }
    assert_eq!(header.peers as usize, found.len(), "peers in the header");
    found
}
