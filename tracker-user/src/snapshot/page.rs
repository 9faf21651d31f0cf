//! The torrents of the live store, page by page, in the order in which they are stored.

use super::walk::Walk;
use crate::store::Store;
use std::sync::Arc;
use tracker_common::{
    id::{InfoHash, SwarmId},
    store::{
        index,
        journal::Place,
        layout::{Counts, SWARM_ALIVE},
    },
};

/// Buckets of the index that are looked at for one page at most, so that it takes a few milliseconds
/// however few torrents there are in a large store.
const BUCKETS: u32 = 1 << 14;

/// A torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its info_hash.
    pub info_hash: InfoHash,
    /// Its peers and downloads.
    pub counts: Counts,
}

/// Some torrents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that there are. There may be none although others follow.
    pub torrents: Vec<Listed>,
    /// Where the next page begins; `None` behind the last one.
    pub next: Option<u32>,
}

/// Up to `limit` torrents from a place on: 0, or the `next` of a page before. Who goes through all pages
/// sees each torrent once that is stored all the time.
#[must_use]
pub fn page(store: &Arc<Store>, from: u32, limit: usize) -> Page {
    let walk = Walk::new(store, false);
    let buckets = store.sizes().index_buckets;
    let first = SwarmId::new(from).place().0;
    let last = first.saturating_add(BUCKETS).min(buckets);
    let end = SwarmId::at(last, 0).number();
    let (mut next, mut torrents) = (from, Vec::new());
    while torrents.len() < limit {
        let Some(swarm) = index::next(|number| store.bucket(number), next, end) else {
            return Page { torrents, next: (last < buckets).then_some(end) };
        };
        next = swarm.id.number() + 1;
        let record = swarm.record;
        let listed = Walk::consistent(walk.handle(), (&record.lock, Place::Swarm(swarm.id)), || {
            let alive = record.active.load() & SWARM_ALIVE != 0;
            alive.then(|| Listed { info_hash: record.info_hash(), counts: record.counts() })
        });
        torrents.extend(listed);
    }
    Page { torrents, next: Some(next) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CounterSet, fixture};
    use std::collections::BTreeSet;
    use tracker_common::store::{
        family::V4,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    };

    fn store(room: u64, torrents: u16) -> Arc<Store> {
        let store = fixture::store(room, 10_000, 1000);
        let handle = store.handle(CounterSet::Expiry);
        for number in 0..torrents {
            let [high, low] = number.to_be_bytes();
            let mut info_hash = [7; 20];
            info_hash[..2].copy_from_slice(&[high, low]);
            let peer = V4::key([192, 0, 2, 1], 7);
            let announce = Announce {
                info_hash: &info_hash,
                peer,
                seeder: number % 3 == 0,
                event: PeerEvent::None,
                owner: Owner::NONE,
            };
            upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
        }
        store
    }

    #[test]
    fn pages_hold_every_torrent_once() {
        for (room, torrents, limit) in [(100, 0, 10), (100, 1, 1), (5000, 700, 1), (5000, 700, 33), (5000, 700, 1000)] {
            let store = store(room, torrents);
            let (mut seen, mut from, mut pages) = (BTreeSet::new(), Some(0), 0);
            while let Some(place) = from {
                let page = page(&store, place, limit);
                assert!(page.torrents.len() <= limit);
                for torrent in &page.torrents {
                    let number = u16::from_be_bytes([torrent.info_hash[0], torrent.info_hash[1]]);
                    let seeders = u32::from(number % 3 == 0);
                    let counts = torrent.counts;
                    assert_eq!((counts.seeders, counts.leechers), (seeders, 1 - seeders), "{number}");
                    assert!(seen.insert(number), "{number} is there twice");
                }
                (from, pages) = (page.next, pages + 1);
            }
            assert_eq!(seen.len(), usize::from(torrents), "{room} {torrents} {limit}");
            assert!(pages <= usize::from(torrents) / limit + 2, "{pages} pages of {limit}");
        }
    }

    #[test]
    fn no_page_looks_at_more_than_some_buckets() {
        let store = store(2_000_000, 3);
        assert!(store.sizes().index_buckets > BUCKETS);
        let (mut torrents, mut from, mut pages) = (0, Some(0), 0);
        while let Some(place) = from {
            let page = page(&store, place, 1000);
            (torrents, from, pages) = (torrents + page.torrents.len(), page.next, pages + 1);
        }
        assert_eq!((torrents, pages), (3, store.sizes().index_buckets.div_ceil(BUCKETS)));
    }

    #[test]
    fn places_that_are_none_have_an_empty_last_page() {
        let store = store(100, 3);
        let end = SwarmId::at(store.sizes().index_buckets, 0).number();
        for from in [end, end + 1, u32::MAX] {
            assert_eq!(page(&store, from, 10), Page::default(), "{from}");
        }
        assert_eq!(page(&store, 0, 0), Page { torrents: Vec::new(), next: Some(0) });
    }
}
