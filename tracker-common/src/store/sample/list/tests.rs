use super::{
    super::{
        super::{
            family::{V4, V6},
            resize::promote,
            scope::EVERYTHING,
            tests::{Peers, ROOMY, grown},
        },
        Sample, Wanted, sample,
    },
    *,
};
use crate::host::{HostPlatform, HostStore};
use std::cell::Cell;

fn everybody() -> PeerFilter {
    PeerFilter::new(true, EVERYTHING)
}

fn read<F: Peers>(platform: &HostPlatform<'_>, sample: Sample) -> Vec<F::Key> {
    let bytes = platform.bytes(sample.start, sample.count * F::PEER_BYTES).expect("inside the scratch space");
    bytes.chunks(F::PEER_BYTES as usize).map(F::read).collect()
}

fn ring<F: Peers>() {
    let (slots, most) = (F::CHUNK_SLOTS, RECORD_ENTRIES * F::CHUNK_SLOTS);
    // (peers, the first, wanted)
    for (peers, first, want) in [
        (slots, 0, slots),
        (slots, 5, 10),
        (slots, slots - 1, 10),
        (slots + 1, slots, 10),
        (slots + 1, slots - 1, slots + 1),
        (3 * slots + 7, 2 * slots + 3, 2 * slots),
        (3 * slots + 7, 3 * slots + 6, 3 * slots),
        (most, most - 1, 50),
        (most, 0, most),
        (most, most / 2 + 1, most - 1),
    ] {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, peers, 0);
        cx.scratch.sampling.first_peer.store((((u64::from(first) << 32) + (1 << 31)) / u64::from(peers)) as u32);
        assert_eq!(first_peer(cx.scratch, 0, peers), first);
        F::keep_excluded(cx.scratch, F::peer(u32::MAX >> 8));
        assert_eq!(collect::<_, F>(&cx, swarm, want * F::PEER_BYTES, everybody()), Some(()));
        let given = read::<F>(&platform, compact::cut::<F>(cx.scratch, want));
        let expected: Vec<_> = (first..first + want).map(|number| F::peer(number % peers)).collect();
        if want < peers {
            assert_eq!(given, expected, "{want} of {peers} from {first} on");
        } else {
            assert_eq!(given.len(), expected.len(), "all {peers}");
            assert!(expected.iter().all(|peer| given.contains(peer)), "all {peers}");
        }
    }
}

#[test]
fn peers_of_a_list_are_given_as_from_a_ring() {
    ring::<V4>();
    ring::<V6>();
}

fn meanwhile<F: Peers>() {
    /// Something that happens before the list is read.
    type Change = fn(SwarmRef<'_>);
    let rows: [(&str, Change, bool); 4] = [
        ("nothing", |_| {}, true),
        ("its lock is held", |swarm| assert!(swarm.record.lock.try_lock()), true),
        ("it is being changed", |swarm| swarm.record.lock.begin_change(), false),
        ("the record has slots again", |swarm| F::header(swarm.record).store(0), false),
    ];
    for (name, change, expected) in rows {
        let store = HostStore::new(&ROOMY, 1);
        let platform = store.platform(1);
        let cx = platform.context();
        let swarm = grown::<_, F>(&cx, 40, 0);
        change(swarm);
        assert_eq!(collect::<_, F>(&cx, swarm, 300, everybody()).is_some(), expected, "{name}");
    }
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let swarm = grown::<_, F>(&platform.context(), 40, 1);
    assert_eq!(collect::<_, F>(&platform.context(), swarm, 300, everybody()), None, "it is a partition");
}

#[test]
fn a_list_that_is_none_or_being_changed_gives_nothing() {
    meanwhile::<V4>();
    meanwhile::<V6>();
}

fn changed<F: Peers>() {
    // (pauses until the change is over, whether the list is a partition then)
    for (pauses, promoted) in [(0, false), (1, false), (5, false), (1, true), (5, true)] {
        let store = HostStore::new(&ROOMY, 1);
        let swarm = grown::<_, F>(&store.platform(1).context(), 40, 0).id;
        let left = Cell::new(pauses);
        let other = store.platform(2);
        let record = other.context().swarm(swarm).expect("a swarm");
        if pauses > 0 {
            assert!(record.record.lock.try_lock());
            record.record.lock.begin_change();
        }
        let pause = || {
            left.set(left.get() - 1);
            if left.get() == 0 {
                if promoted {
                    promote::<_, F>(&other.context(), record).expect("room");
                }
                record.record.lock.unlock();
            }
        };
        let platform = store.platform(1).with_hook(&pause);
        let wanted = Wanted { count: 50, filter: everybody(), exclude: F::peer(7) };
        let given = sample::<_, F>(&platform.context(), record, &wanted).expect("no limit");
        let mut given = read::<F>(&platform, given);
        given.sort();
        let mut expected: Vec<_> = (0..40).filter(|peer| *peer != 7).map(F::peer).collect();
        expected.sort();
        assert_eq!(given, expected, "{pauses} pauses");
        assert!(left.get() <= 0, "the change has never been over");
        assert_eq!(F::is_list(record.record), !promoted);
    }
}

#[test]
fn a_list_that_is_being_changed_is_read_again_or_as_a_partition() {
    changed::<V4>();
    changed::<V6>();
}
