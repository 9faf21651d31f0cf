use super::{
    super::{
        scope::{EVERYTHING, HOST, PRIVATE},
        slot::{COMPLETED, LEECHER, MINUTE, OCCUPIED},
        tests::{Peers, ROOMY},
    },
    *,
};
use crate::host::HostStore;

fn all() -> PeerFilter {
    PeerFilter::new(true, EVERYTHING)
}

fn leechers() -> PeerFilter {
    PeerFilter::new(false, EVERYTHING)
}

#[test]
fn keys_are_the_compact_form() {
    let key = V4::key([1, 2, 3, 4], 0x0506);
    assert_eq!(key.to_le_bytes(), [1, 2, 3, 4, 5, 6, 0, 0]);
    assert_eq!(V4::read(&V4::compact(key)), key);
}

#[test]
fn a_peer_is_written_as_address_and_port_whatever_its_flags() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let word = Word::default();
    let slot = Slots::<V4>::new(core::slice::from_ref(&word)).slot(0);
    for (cursor, flags) in [(0, OCCUPIED), (6, OCCUPIED | LEECHER | COMPLETED | MINUTE), (4095, OCCUPIED)] {
        slot.occupy(V4::peer(cursor), flags);
        V4::write(slot, scratch, cursor);
        assert_eq!(platform.bytes(PEERS_AT as u32 + cursor, 6), Some(V4::compact(V4::peer(cursor))), "{cursor}");
    }
}

#[test]
fn the_filter_and_the_requester_decide_which_peers_stay() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let (peer, other) = (V4::peer(1), V4::peer(2));
    // (flags, filter, the requester, bytes that stay)
    for (flags, filter, requester, expected) in [
        (OCCUPIED | LEECHER, all(), other, 6),
        (OCCUPIED, all(), other, 6),
        (OCCUPIED | MINUTE | COMPLETED, all(), other, 6),
        (OCCUPIED | LEECHER, leechers(), other, 6),
        (OCCUPIED, leechers(), other, 0),
        (OCCUPIED | COMPLETED, leechers(), other, 0),
        (OCCUPIED | LEECHER, all(), peer, 0),
        (OCCUPIED, all(), peer, 0),
        (OCCUPIED | LEECHER, leechers(), peer, 0),
        (OCCUPIED | LEECHER, all(), peer ^ 1 << 47, 6),
        (OCCUPIED | LEECHER, all(), peer ^ 1, 6),
        (0, all(), other, 0),
        (COMPLETED | MINUTE, all(), other, 0),
    ] {
        let word = Word::new(flags | peer);
        let slot = Slots::<V4>::new(core::slice::from_ref(&word)).slot(0);
        let stays = V4::write_if_eligible(slot, scratch, 12, filter, requester);
        assert_eq!(stays, expected, "{flags:#x} {filter:?} {requester:#x}");
        assert_eq!(platform.bytes(PEERS_AT as u32 + 12, 6), Some(V4::compact(peer)), "written in any case");
    }
}

#[test]
fn compact_peers_are_moved_and_have_a_scope() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    for (address, scope) in [([9, 9, 9, 9], 0), ([192, 168, 1, 1], PRIVATE), ([127, 0, 0, 1], HOST)] {
        let key = V4::key(address, 0x7f0a);
        for (from, to) in [(0, 0), (6, 0), (60, 54), (600, 6)] {
            scratch.put_compact(from as u32, key);
            assert_eq!(V4::move_compact(scratch, from, to), Some(scope), "{address:?}");
            assert_eq!(platform.bytes((PEERS_AT + to) as u32, 6), Some(V4::compact(key)), "{from} to {to}");
        }
    }
    assert_eq!(V4::move_compact(scratch, crate::scratch::SCRATCH_BYTES, 0), None);
}

#[test]
fn the_excluded_peer_is_kept() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    for peer in [1, 0xffff].map(V4::peer) {
        V4::keep_excluded(platform.context().scratch, peer);
        assert_eq!(V4::excluded(platform.context().scratch), peer);
    }
}

#[test]
fn every_part_of_a_peer_changes_its_hash() {
    let store = HostStore::new(&ROOMY, 1);
    let hash = |key| V4::hash(store.settings(), key);
    let peer = V4::peer(1);
    for bit in 0..48 {
        assert_ne!(hash(peer ^ 1 << bit), hash(peer), "bit {bit}");
    }
    assert_ne!(V4::hash(HostStore::new(&ROOMY, 2).settings(), peer), hash(peer), "another key");
}

#[test]
fn a_slot_resembles_its_peer_and_those_with_the_same_half_of_the_address_and_port() {
    let word = Word::default();
    let slot = Slots::<V4>::new(core::slice::from_ref(&word)).slot(0);
    slot.occupy(V4::key([1, 2, 3, 4], 5), OCCUPIED | LEECHER | MINUTE);
    for (address, port, resembles, matches) in [
        ([1, 2, 3, 4], 5, true, true),
        ([9, 9, 3, 4], 5, true, false),
        ([1, 2, 9, 4], 5, false, false),
        ([1, 2, 3, 9], 5, false, false),
        ([1, 2, 3, 4], 9, false, false),
    ] {
        let key = V4::key(address, port);
        assert_eq!((slot.resembles(key), slot.matches(key)), (resembles, matches), "{address:?} {port}");
    }
}
