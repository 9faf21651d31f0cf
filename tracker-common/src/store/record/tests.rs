use super::{
    super::{
        family::{V4, V6},
        tests::{Peers, ROOMY, grown},
    },
    *,
};
use crate::host::HostStore;

fn in_slots<F: Peers>() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let swarm = grown::<_, F>(&platform.context(), F::RECORD_SLOTS as u32, 0);
    let slots = F::record(swarm.record);
    for number in 0..F::RECORD_SLOTS {
        assert_eq!(find_in_slots::<F>(scratch, slots, F::peer(number as u32)), Some(number));
    }
    assert_eq!(find_in_slots::<F>(scratch, slots, F::peer(F::RECORD_SLOTS as u32)), None);
    slots.slot(0).vacate();
    assert_eq!(find_in_slots::<F>(scratch, slots, F::peer(0)), None);
    for (found, expected) in [(0, Some(0)), (F::RECORD_SLOTS as u32, None), (u32::MAX, None)] {
        scratch.found_slot.store(found);
        assert_eq!(found_slot::<F>(scratch), expected);
    }
}

#[test]
fn peers_are_found_in_the_records_slots() {
    in_slots::<V4>();
    in_slots::<V6>();
}
