use super::{
    super::{
        family::{V4, V6},
        tests::Peers,
    },
    *,
};

/// Three slots of a family.
fn words<F: SlotFormat>() -> Vec<Word> {
    (0..3 * F::WORDS).map(|_| Word::default()).collect()
}

fn values(words: &[Word]) -> Vec<u64> {
    words.iter().map(Word::load).collect()
}

fn one_slot_of_three<F: Peers>() {
    let words = words::<F>();
    let slots = Slots::<F>::new(&words);
    let [first, slot, last] = [0, 1, 2].map(|number| slots.slot(number));
    first.occupy(F::peer(1), OCCUPIED | LEECHER);
    last.occupy(F::peer(3), OCCUPIED);
    assert!(!slot.is_occupied() && !slot.matches(F::peer(2)));
    slot.occupy(F::peer(2), OCCUPIED | COMPLETED | minute_bits(5) | 0xffff_ffff);
    assert!(slot.is_occupied());
    assert!(slot.key() == F::peer(2) && slot.matches(F::peer(2)) && !slot.matches(F::peer(3)));
    assert_eq!(slot.flags() & FLAGS, OCCUPIED | COMPLETED | minute_bits(5));
    slot.set_flags(OCCUPIED | LEECHER | minute_bits(6) | 0xffff_ffff);
    assert_eq!(slot.flags() & FLAGS, OCCUPIED | LEECHER | minute_bits(6));
    assert!(slot.matches(F::peer(2)), "new flags are no new peer");
    slot.vacate();
    assert!(!slot.is_occupied() && !slot.matches(F::peer(2)));
    assert!(first.matches(F::peer(1)) && last.matches(F::peer(3)), "its neighbours stay");
    assert_eq!((first.flags() & FLAGS, last.flags() & FLAGS), (OCCUPIED | LEECHER, OCCUPIED));
}

#[test]
fn a_slot_holds_the_peer_that_was_put_into_it_and_leaves_its_neighbours_alone() {
    one_slot_of_three::<V4>();
    one_slot_of_three::<V6>();
}

fn whole_keys<F: Peers>(others: &[F::Key]) {
    let words = words::<F>();
    let slot = Slots::<F>::new(&words).slot(0);
    for flags in [OCCUPIED, OCCUPIED | LEECHER | COMPLETED | MINUTE] {
        slot.occupy(F::peer(1), flags);
        assert!(slot.matches(F::peer(1)));
        for other in others {
            assert!(!slot.matches(*other), "{other:?}");
        }
    }
}

#[test]
fn a_peer_matches_by_all_of_its_address_and_port() {
    let v4 = V4::peer(1);
    whole_keys::<V4>(&[v4 ^ 1, v4 ^ 1 << 31, v4 ^ 1 << 32, v4 ^ 1 << 47]);
    let [a, b, port] = V6::peer(1);
    whole_keys::<V6>(&[
        [a ^ 1, b, port],
        [a, b ^ 1 << 63, port],
        [a, b, port ^ 1],
        [a, b, port ^ 0x8000],
        [b, a, port],
    ]);
}

fn moved<F: Peers>() {
    let words = words::<F>();
    let slots = Slots::<F>::new(&words);
    for peer in 1..=3 {
        slots.slot(peer as usize - 1).occupy(F::peer(peer), OCCUPIED | minute_bits(peer));
    }
    let before = values(&words);
    slots.slot(0).take(slots.slot(2));
    let after = values(&words);
    let width = F::WORDS;
    assert_eq!(after[..width], before[2 * width..], "what the other one held");
    assert_eq!(after[width..2 * width], before[width..2 * width], "the one between");
    assert!(after[2 * width..].iter().all(|word| *word == 0), "nothing of the peer is left");
    // The last peer of a partition takes its own slot when it is the one that goes.
    slots.slot(1).take(slots.slot(1));
    assert!(values(&words)[width..].iter().all(|word| *word == 0));
}

#[test]
fn a_peer_that_moves_leaves_nothing_behind() {
    moved::<V4>();
    moved::<V6>();
}

#[test]
fn ages_are_counted_modulo_512_minutes() {
    // (minute of the announce, minute now, age)
    for (announced, now, expected) in [
        (0, 0, 0),
        (5, 7, 2),
        (511, 512, 1),
        (511, 511 + 512, 0),
        (100_000, 100_045, 45),
        (100_000, 100_511, 511),
        (u32::MAX, 0, 1),
    ] {
        for flags in [0, FLAGS & !MINUTE, IDENTITY] {
            assert_eq!(age(flags | minute_bits(announced), now), expected, "{announced} {now} {flags:#x}");
        }
    }
    assert_eq!(minute_bits(u32::MAX), MINUTE, "no bit beside the minute's");
}

#[test]
fn the_parts_of_the_flags_word_do_not_overlap() {
    let parts = [OCCUPIED, LEECHER, COMPLETED, KEY, MINUTE, IDENTITY];
    assert_eq!(parts.iter().fold(0_u64, |sum, part| sum.wrapping_add(*part)), u64::MAX);
    assert_eq!(parts.iter().fold(0, |all, part| all | part), u64::MAX);
}
