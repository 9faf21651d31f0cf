//! Snapshots of a store while others change it.

use super::*;
use std::{sync::atomic::AtomicBool, thread};

/// Ends the other threads, also when a test fails.
struct Done<'d>(&'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Peers that come and go, in swarms that also have peers that stay: those all have to be in every
/// snapshot, and nobody that never was there may be.
#[test]
fn peers_that_stay_are_in_every_snapshot_while_others_come_and_go() {
    const STAYING: u32 = 700;
    const TORRENTS: u32 = 5;
    let store = store_of(SOME);
    let handle = store.handle(CounterSet::Udp);
    let peer =
        |number: u32, v6: bool, event| Peer { number, v6, minutes_ago: 0, seeder: number.is_multiple_of(2), event };
    // From slots over lists to partitions.
    let staying = |torrent: u32| STAYING >> (torrent * 2);
    for torrent in 0..TORRENTS {
        for number in 0..staying(torrent) {
            peer(number, number % 3 == 0, PeerEvent::None).announce(&handle, torrent);
        }
    }
    let coming = |torrent: u32| 0x10_0000..0x10_0000 + staying(torrent) * 2 + 4;
    let ever = [0, 1, 2, 3, 4].map(|torrent| -> BTreeMap<_, _> {
        let numbers = (0..staying(torrent)).chain(coming(torrent));
        numbers
            .flat_map(|number| [false, true].map(|v6| (peer(number, v6, PeerEvent::None).address(), number)))
            .collect()
    });
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _guard = Done(&done);
        for thread in 0..2_u32 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let handle = store.handle(CounterSet::Udp);
                let mut random = Sequence(u64::from(thread) + 1);
                while !done.load(Ordering::Relaxed) {
                    let torrent = random.next(TORRENTS);
                    let number = 0x10_0000 + random.next(staying(torrent) * 2 + 4);
                    let event = if random.next(2) == 0 { PeerEvent::Stopped } else { PeerEvent::Started };
                    peer(number, random.next(3) == 0, event).announce(&handle, torrent);
                }
            });
        }
        for round in 0..12 {
            let known = known_of(&snapshot_of(&store, HEADER));
            for torrent in 0..TORRENTS {
                let (_, _, peers) = &known[&info_hash(torrent)];
                for number in 0..staying(torrent) {
                    let peer = peer(number, number % 3 == 0, PeerEvent::None);
                    let state = peers.get(&peer.address());
                    let state = state.unwrap_or_else(|| panic!("round {round}: peer {number} of {torrent} is missing"));
                    assert_eq!((state.age, state.leecher), (0, !peer.seeder));
                }
                for (address, state) in peers {
                    let number =
                        ever[torrent as usize].get(address).unwrap_or_else(|| panic!("{address:?} was never there"));
                    assert_eq!(state.leecher, !number.is_multiple_of(2), "{address:?}");
                }
            }
        }
    });
}
