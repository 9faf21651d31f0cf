use super::{
    super::{
        scope::{EVERYTHING, HOST, LINK, PRIVATE},
        slot::{COMPLETED, LEECHER, MINUTE},
        tests::{Peers, ROOMY},
    },
    *,
};
use crate::{host::HostStore, scratch::SCRATCH_BYTES};
use std::sync::atomic::{AtomicBool, Ordering};

fn all() -> PeerFilter {
    PeerFilter::new(true, EVERYTHING)
}

fn leechers() -> PeerFilter {
    PeerFilter::new(false, EVERYTHING)
}

#[test]
fn keys_are_the_compact_form() {
    let address = core::array::from_fn(|number| number as u8 + 1);
    let key = V6::key(address, 0x1112);
    assert_eq!(V6::compact(key), (1..=0x12).collect::<Vec<u8>>());
    assert_eq!(V6::read(&V6::compact(key)), key);
}

#[test]
fn a_peer_is_written_as_address_and_port_whatever_its_flags_and_generation() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let words = [(); 3].map(|()| Word::default());
    let slot = Slots::<V6>::new(&words).slot(0);
    for (cursor, flags) in [(0, OCCUPIED), (18, OCCUPIED | LEECHER | COMPLETED | MINUTE), (4095, OCCUPIED)] {
        slot.occupy(V6::peer(cursor), flags);
        V6::write(slot, scratch, cursor);
        assert_eq!(platform.bytes(PEERS_AT as u32 + cursor, 18), Some(V6::compact(V6::peer(cursor))), "{cursor}");
    }
}

#[test]
fn the_filter_and_the_requester_decide_which_peers_stay() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    let (peer, other) = (V6::peer(1), V6::peer(2));
    let [a, b, port] = peer;
    // (flags, filter, the requester, bytes that stay)
    for (flags, filter, requester, expected) in [
        (OCCUPIED | LEECHER, all(), other, 18),
        (OCCUPIED, all(), other, 18),
        (OCCUPIED | MINUTE | COMPLETED, all(), other, 18),
        (OCCUPIED | LEECHER, leechers(), other, 18),
        (OCCUPIED, leechers(), other, 0),
        (OCCUPIED | COMPLETED, leechers(), other, 0),
        (OCCUPIED | LEECHER, all(), peer, 0),
        (OCCUPIED, all(), peer, 0),
        (OCCUPIED | LEECHER, leechers(), peer, 0),
        (OCCUPIED | LEECHER, all(), [a ^ 1, b, port], 18),
        (OCCUPIED | LEECHER, all(), [a, b ^ 1 << 63, port], 18),
        (OCCUPIED | LEECHER, all(), [a, b, port ^ 1], 18),
        (0, all(), other, 0),
        (COMPLETED | MINUTE, all(), other, 0),
    ] {
        let words = [a, b, 0].map(Word::new);
        let slot = Slots::<V6>::new(&words).slot(0);
        slot.occupy(peer, flags);
        let stays = V6::write_if_eligible(slot, scratch, 36, filter, requester);
        assert_eq!(stays, expected, "{flags:#x} {filter:?} {requester:x?}");
        assert_eq!(platform.bytes(PEERS_AT as u32 + 36, 18), Some(V6::compact(peer)), "written in any case");
    }
}

#[test]
fn each_peer_that_gets_a_slot_gets_another_generation() {
    // (the third word before, the generation after)
    for (before, generation) in [
        (0, 1),
        (OCCUPIED | LEECHER | MINUTE | 0xffff, 1),
        (5 << 16 | 0xffff, 6),
        (0xfe << 16, 0xff),
        (0xff << 16, 0x1_0000),
        (0x1234_00ff_u64 << 16, 0x1235_0000),
        (0xffff_00fe_u64 << 16, 0xffff_00ff),
        (0xffff_00ff_u64 << 16 | 0xffff, 0),
        // As in a store of an older version, where bits 31 to 24 were the generation's as well.
        (0x0001_ff02_u64 << 16, 0x0001_0003),
        (0xffff_ffff_u64 << 16 | 0xffff, 0),
    ] {
        let words = [0, 0, before].map(Word::new);
        let slot = Slots::<V6>::new(&words).slot(0);
        let [a, b, port] = V6::peer(1);
        slot.occupy([a, b, port], OCCUPIED | COMPLETED);
        assert_eq!(words.each_ref().map(Word::load), [a, b, OCCUPIED | COMPLETED | generation << 16 | port]);
        slot.set_flags(OCCUPIED | LEECHER);
        assert_eq!(slot.flags(), OCCUPIED | LEECHER | generation << 16 | port, "new flags, the same peer");
        slot.vacate();
        assert_eq!(slot.flags(), generation << 16 | port, "the next peer's generation is another one");
    }
}

/// A peer that gets the slot while another reads it is given whole or not at all.
#[test]
fn halves_of_two_peers_are_never_given() {
    let store = &HostStore::new(&ROOMY, 1);
    let words = &[(); 3].map(|()| Word::default());
    // With one port: only the generation tells the two apart.
    let peers = [1, u128::MAX].map(|host| V6::key((0x2001_u128 << 112 ^ host).to_be_bytes(), 7));
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let slot = Slots::<V6>::new(words).slot(0);
            for turn in 0.. {
                slot.vacate();
                slot.occupy(peers[turn % 2], OCCUPIED | LEECHER);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let platform = store.platform(1);
        let scratch = platform.context().scratch;
        let slot = Slots::<V6>::new(words).slot(0);
        let mut seen = [0; 2];
        let mut tries = 0;
        let begun = std::time::Instant::now();
        while tries < 300_000 || (seen.contains(&0) && begun.elapsed().as_secs() < 60) {
            tries += 1;
            if tries % (1 << 16) == 0 {
                // Where others use the processors as well, the writer may not have had its turn.
                std::thread::yield_now();
            }
            if V6::write_if_eligible(slot, scratch, 0, all(), V6::peer(0)) == 0 {
                continue;
            }
            let given = V6::read(&platform.bytes(PEERS_AT as u32, 18).expect("18 bytes"));
            let which = peers.iter().position(|peer| *peer == given);
            if which.is_none() {
                done.store(true, Ordering::Relaxed);
            }
            seen[which.unwrap_or_else(|| panic!("{given:x?} is half of each"))] += 1;
        }
        done.store(true, Ordering::Relaxed);
        assert!(!seen.contains(&0), "{seen:?} of {tries}: the test has seen no change");
    });
}

#[test]
fn compact_peers_are_moved_and_have_a_scope() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    for (address, scope) in [(0x2001_0db8_u128 << 96, 0), (0xfd00 << 112, PRIVATE), (0xfe80 << 112, LINK), (1, HOST)] {
        let key = V6::key(address.to_be_bytes(), 0x7f0a);
        let compact = V6::compact(key);
        for (from, to) in [(0, 0), (18, 0), (180, 162), (1800, 18)] {
            (0..18).for_each(|at| scratch.put(PEERS_AT + from + at, compact[at]));
            assert_eq!(V6::move_compact(scratch, from, to), Some(scope), "{address:x}");
            assert_eq!(platform.bytes((PEERS_AT + to) as u32, 18).as_ref(), Some(&compact), "{from} to {to}");
        }
    }
    for (from, inside) in [(18, true), (17, false), (8, false), (0, false)] {
        let from = SCRATCH_BYTES - PEERS_AT - from;
        assert_eq!(V6::move_compact(scratch, from, 0).is_some(), inside, "{from}");
    }
}

#[test]
fn the_excluded_peer_is_kept() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    for peer in [1, 0xffff].map(V6::peer) {
        V6::keep_excluded(platform.context().scratch, peer);
        assert_eq!(V6::excluded(platform.context().scratch), peer);
    }
}

#[test]
fn every_part_of_a_peer_changes_its_hash() {
    let store = HostStore::new(&ROOMY, 1);
    let hash = |key| V6::hash(store.settings(), key);
    let peer = V6::peer(1);
    for bit in 0..128 + 16 {
        let mut other = peer;
        other[bit / 64] ^= 1 << (bit % 64);
        assert_ne!(hash(other), hash(peer), "bit {bit}");
    }
    let mut other = peer;
    other[2] |= OCCUPIED | 1 << 16;
    assert_eq!(hash(other), hash(peer), "flags and generation are no part of the peer");
}

#[test]
fn entries_of_the_directory_are_beside_its_header() {
    let mut words: Vec<_> = (0..4).map(V6::entry_word).chain([V6::HEADER_WORD]).collect();
    words.sort_unstable();
    assert_eq!(words, [0, 2, 3, 4, 5]);
}

#[test]
fn a_slot_resembles_its_peer_and_no_other() {
    let words: [Word; 3] = Default::default();
    let slot = Slots::<V6>::new(&words).slot(0);
    let key = V6::peer(7);
    slot.occupy(key, OCCUPIED);
    for (other, resembles, matches) in [
        (key, true, true),
        ([key[0] ^ 1, key[1], key[2]], false, false),
        ([key[0], key[1] ^ 1, key[2]], false, false),
        ([key[0], key[1], key[2] ^ 1], false, false),
        ([key[0], key[1], key[2] ^ 1 << 15], false, false),
    ] {
        assert_eq!((slot.resembles(other), slot.matches(other)), (resembles, matches), "{other:x?}");
    }
}
