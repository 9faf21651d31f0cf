use super::{
    super::{
        family::V6,
        filter::PeerFilter,
        sample::{Wanted, sample},
        scope::EVERYTHING,
        tests::{CHUNKS_V6, PARTITIONS, Peers, ROOMY, grown, spare, torrent},
    },
    *,
};
use crate::{
    host::{FIRST_MINUTE, HostStore},
    store::owner::Owner,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// A peer that takes the place of an old one while a sample reads the swarm record is given whole
/// or not at all.
#[test]
fn an_evicted_peer_is_never_given_with_half_of_the_newcomer() {
    let store = &HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let cx = &platform.context();
    let swarm = grown::<_, V6>(cx, V6::RECORD_SLOTS as u32, 0);
    spare(store, PARTITIONS, 0);
    spare(store, CHUNKS_V6, 0);
    // Peers whose two halves of the address tell which one it is.
    let peer =
        |number: u32| V6::key((0x2001_0000 << 96 | u128::from(number) << 64 | u128::from(number)).to_be_bytes(), 7);
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let platform = store.platform(2);
            for number in (1..).take_while(|_| !done.load(Ordering::Relaxed)) {
                // So slowly that nobody minds that they are of one network.
                store.settings().minute.store(FIRST_MINUTE + number);
                let announce = Announce {
                    info_hash: &torrent(0),
                    peer: peer(number),
                    seeder: false,
                    event: PeerEvent::None,
                    owner: Owner::NONE,
                };
                super::announce::<_, V6>(&platform.context(), &announce).expect("the oldest gives way");
            }
        });
        let wanted = Wanted { count: 2, filter: PeerFilter::new(true, EVERYTHING), exclude: V6::peer(7) };
        for _ in 0..400_000 {
            let sample = sample::<_, V6>(cx, swarm, &wanted).expect("no limit");
            let bytes = platform.bytes(sample.start, sample.count * 18).expect("inside");
            for given in bytes.chunks(18).map(V6::read) {
                let low = given[1].swap_bytes() as u32;
                if given[0].swap_bytes() as u32 != low && low > 1 {
                    done.store(true, Ordering::Relaxed);
                    panic!("{given:x?} is half of each");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
