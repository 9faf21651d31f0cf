//! One torrent of the live store, with its peers: looked at, and changed, by the operator.

use super::{
    columns::{Compact, Peers, Torrent},
    restore::Restorer,
    walk::Walk,
};
use crate::store::Store;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tracker_common::{
    id::InfoHash,
    outcome::Event,
    platform::Platform as _,
    store::{
        family::{Family, V4, V6},
        hash::TorrentKey,
    },
};

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// Minutes since its last announce.
    pub age: u32,
    /// It has everything.
    pub seeder: bool,
    /// Its completed download was counted.
    pub completed: bool,
}

/// A torrent and its peers, IPv4 first; one that moved meanwhile may be there twice. `None` if it is
/// not stored.
#[must_use]
pub fn torrent(store: &Arc<Store>, info_hash: &InfoHash) -> Option<(Torrent, Vec<Peer>)> {
    let key = TorrentKey::new(store.settings(), info_hash);
    let mut walk = Walk::new(store, true);
    let (torrent, v4, v6) = walk.whole_of(&key)?;
    let mut peers = peers::<V4>(v4);
    peers.extend(self::peers::<V6>(v6));
    Some((torrent, peers))
}

fn peers<F: Family + Compact>(peers: &Peers) -> Vec<Peer> {
    let peer = |(key, state): (F::Key, super::columns::State)| {
        let mut bytes = Vec::new();
        F::append(key, &mut bytes);
        let (address, port) = bytes.split_last_chunk::<2>()?;
        let ip = match address.len() {
            4 => IpAddr::from(*address.first_chunk::<4>()?),
            _ => IpAddr::from(*address.first_chunk::<16>()?),
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(*port));
        Some(Peer { address, age: state.age, seeder: !state.leecher, completed: state.completed })
    };
    peers.of::<F>(0, peers.len()).filter_map(peer).collect()
}

/// Removes a peer, whatever `key` its client announces. False if it is not stored.
#[must_use]
pub fn remove_peer(store: &Arc<Store>, info_hash: &InfoHash, address: SocketAddr) -> bool {
    let key = TorrentKey::new(store.settings(), info_hash);
    let restorer = Restorer::copying(store, false);
    let (gone, version) = match address.ip() {
        IpAddr::V4(ip) => (restorer.leave::<V4>(info_hash, &key, V4::key(ip.octets(), address.port())), V4::VERSION),
        IpAddr::V6(ip) => (restorer.leave::<V6>(info_hash, &key, V6::key(ip.octets(), address.port())), V6::VERSION),
    };
    if gone {
        // Restorers count nothing.
        restorer.handle().event(Event::peer_removed(version));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CounterSet, fixture};
    use tracker_common::store::{
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    };

    const HASH: InfoHash = [7; 20];

    fn store() -> Arc<Store> {
        let store = fixture::store(100, 10_000, 1000);
        store.settings().interval.store(1800);
        store
    }

    fn announce(store: &Arc<Store>, port: u16, seeder: bool, event: PeerEvent, key: u32) {
        let handle = store.handle(CounterSet::Expiry);
        let peer = V4::key([192, 0, 2, (port % 250) as u8], port);
        let announce = Announce { info_hash: &HASH, peer, seeder, event, owner: Owner::new(key) };
        upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
    }

    #[test]
    fn any_peer_can_be_removed_and_nobody_else_is() {
        // (peers, key of each, whether somebody has come with a wrong one): slots, a list, partitions.
        for (count, key, contested) in
            [(1, 0, false), (3, 9, false), (3, 9, true), (100, 5, false), (100, 5, true), (2000, 5, true)]
        {
            let store = store();
            for port in 1..=count {
                announce(&store, port, port % 3 == 0, PeerEvent::Completed, key);
                if contested {
                    announce(&store, port, true, PeerEvent::Stopped, key + 1);
                }
            }
            let (before, peers) = torrent(&store, &HASH).expect("stored");
            assert_eq!(peers.len(), usize::from(count), "{count} {key} {contested}");
            let gone = peers[usize::from(count) / 2].address;
            assert!(remove_peer(&store, &HASH, gone), "{count} {key} {contested}");
            let (after, left) = torrent(&store, &HASH).expect("torrents stay");
            assert_eq!(after.completed, before.completed);
            let expected: Vec<_> = peers.into_iter().filter(|peer| peer.address != gone).collect();
            let mut sorted = left;
            sorted.sort_by_key(|peer| peer.address);
            let mut expected = expected;
            expected.sort_by_key(|peer| peer.address);
            assert_eq!(sorted, expected, "{count} {key} {contested}");
            let counts = Walk::new(&store, false);
            let context = counts.handle().context();
            let swarm = tracker_common::store::index::find(&context, &TorrentKey::new(store.settings(), &HASH));
            let counts = swarm.expect("stored").record.counts();
            let seeders = expected.iter().filter(|peer| peer.seeder).count() as u32;
            assert_eq!((counts.seeders, counts.leechers), (seeders, u32::from(count) - 1 - seeders));
        }
    }

    #[test]
    fn what_is_not_there_is_not_removed() {
        let store = store();
        let address = |text: &str| text.parse().expect(text);
        assert!(torrent(&store, &HASH).is_none());
        assert!(!remove_peer(&store, &HASH, address("192.0.2.1:1")));
        announce(&store, 1, true, PeerEvent::None, 3);
        for other in ["192.0.2.1:2", "192.0.2.2:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"] {
            assert!(!remove_peer(&store, &HASH, address(other)), "{other}");
            assert_eq!(torrent(&store, &HASH).expect("stored").1.len(), 1, "{other}");
        }
        assert!(remove_peer(&store, &HASH, address("192.0.2.1:1")));
        assert!(!remove_peer(&store, &HASH, address("192.0.2.1:1")));
    }
}
