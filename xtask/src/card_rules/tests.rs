use super::{
    instruction::Instruction,
    object::{Map, Offloaded},
    *,
};
use crate::ebpf_package::EbpfPackage;

/// Code, destination, source, offset, immediate.
type Row = (u8, u8, u8, i16, i32);

/// `r0 = 2; exit`.
const PASS: [Row; 2] = [(0xb7, 0, 0, 0, 2), (0x95, 0, 0, 0, 0)];

/// Looks the key 0 up in map 0, whose value has 16 bytes: `r0` is the value, or nothing.
const LOOK_UP: [Row; 7] = [
    (0x62, 10, 0, -8, 0),
    (0xbf, 2, 10, 0, 0),
    (0x07, 2, 0, 0, -8),
    (0x18, 1, 1, 0, 0),
    (0x00, 0, 0, 0, 0),
    (0x85, 0, 0, 0, 1),
    (0x15, 0, 0, 1, 0),
];

fn map(kind: u32, key: u32, value: u32, flags: u32) -> Map {
    Map { name: "M".into(), kind, key, value, flags }
}

fn program(parts: &[&[Row]]) -> Offloaded {
    let instructions = parts
        .iter()
        .flat_map(|part| part.iter())
        .map(|&(code, to, from, offset, immediate)| Instruction { code, to, from, offset, immediate })
        .collect();
    Offloaded { instructions, maps: vec![map(2, 4, 16, 0)] }
}

fn words(result: Result<Figures, Vec<Breach>>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(breaches) => breaches.iter().map(Breach::to_string).collect::<Vec<_>>().join("; "),
    }
}

#[test]
fn the_committed_object_keeps_all_rules() {
    let figures = check_file(&EbpfPackage::TrackerOffload.committed_object()).expect("a card would take it");
    assert_eq!(figures.maps, 4);
    assert!(figures.instructions > 500, "{figures:?}");
}

#[test]
fn the_other_programs_are_for_no_card() {
    let path = EbpfPackage::BenchEbpf.committed_object();
    let error = format!("{:#}", check_file(&path).expect_err("it has loops"));
    assert!(error.contains("programs instead of one"), "{error}");
}

#[test]
fn what_cards_can_do_is_accepted() {
    let rows: [(&str, &[&[Row]]); 13] = [
        ("the shortest", &[&PASS]),
        ("arithmetic of 64 bits", &[&[(0xb7, 1, 0, 0, 3), (0x67, 1, 0, 0, 40), (0xaf, 1, 1, 0, 0)], &PASS]),
        ("a multiplication of 32 bits", &[&[(0xb4, 1, 0, 0, 3), (0x24, 1, 0, 0, 5)], &PASS]),
        ("a division of 32 bits by a constant", &[&[(0xb4, 1, 0, 0, 3), (0x34, 1, 0, 0, 5)], &PASS]),
        ("the packet", &[&[(0x61, 2, 1, 0, 0), (0x61, 3, 1, 4, 0), (0x79, 4, 2, 6, 0), (0x7b, 2, 4, 8, 0)], &PASS]),
        ("a look-up", &[&LOOK_UP, &[(0x05, 0, 0, 0, 0)], &PASS]),
        ("a value that is read", &[&LOOK_UP, &[(0x79, 1, 0, 8, 0)], &PASS]),
        ("a counter of 32 bits", &[&[(0xb7, 6, 0, 0, 1)], &LOOK_UP, &[(0xc3, 0, 6, 4, 0)], &PASS]),
        ("a counter of 64 bits", &[&[(0xb7, 6, 0, 0, 1)], &LOOK_UP, &[(0xdb, 0, 6, 8, 0)], &PASS]),
        ("bytes in network order", &[&[(0xb7, 1, 0, 0, 1), (0xdc, 1, 0, 0, 16)], &PASS]),
        ("a jump back that is no loop", &[&[(0x05, 0, 0, 2, 0)], &PASS, &[(0x05, 0, 0, -3, 0)]]),
        ("a jump on 32 bits", &[&[(0xb4, 1, 0, 0, 3), (0x16, 1, 0, 0, 3)], &PASS]),
        (
            "an address that was put on the stack",
            &[&[(0x61, 2, 1, 0, 0), (0x7b, 10, 2, -8, 0), (0x79, 3, 10, -8, 0), (0x71, 4, 3, 0, 0)], &PASS],
        ),
    ];
    for (what, parts) in rows {
        assert_eq!(words(check(&program(parts))), "accepted", "{what}");
    }
}

#[test]
fn what_cards_cannot_do_is_refused() {
    let packet: &[Row] = &[(0x61, 2, 1, 0, 0)];
    let rows: [(&str, &[&[Row]], &str); 25] = [
        ("a store in the stack that is not aligned", &[&[(0x7a, 10, 0, -12, 1)], &PASS], "8 bytes at -12"),
        ("a loop", &[&[(0xb7, 1, 0, 0, 9), (0x07, 1, 0, 0, -1), (0x55, 1, 0, -2, 0)], &PASS], "a loop"),
        ("a loop of one", &[&[(0x05, 0, 0, -1, 0)], &PASS], "a loop"),
        ("bpf_loop", &[&[(0x85, 0, 0, 0, 181)], &PASS], "helper 181"),
        ("the time", &[&[(0x85, 0, 0, 0, 5)], &PASS], "helper 5"),
        ("growing", &[&[(0x85, 0, 0, 0, 65)], &PASS], "helper 65"),
        ("a tail call", &[&[(0x85, 0, 0, 0, 12)], &PASS], "tail call"),
        ("a function", &[&[(0x85, 0, 1, 0, 1)], &PASS, &PASS], "a call of a function"),
        ("a function of the kernel", &[&[(0x85, 0, 2, 0, 77)], &PASS], "a call of a function"),
        ("a multiplication of 64 bits", &[&[(0xb7, 1, 0, 0, 3), (0x2f, 1, 1, 0, 0)], &PASS], "multiplication of 64"),
        ("the same by a constant", &[&[(0xb7, 1, 0, 0, 3), (0x27, 1, 0, 0, 7)], &PASS], "multiplication of 64"),
        ("a division by a register", &[&[(0xb4, 1, 0, 0, 3), (0x3c, 1, 1, 0, 0)], &PASS], "not constant"),
        ("a remainder", &[&[(0xb4, 1, 0, 0, 3), (0x94, 1, 0, 0, 7)], &PASS], "remainder"),
        ("a store into a value", &[&LOOK_UP, &[(0x62, 0, 0, 0, 7)], &PASS], "store into a map's value"),
        (
            "an addition with a result",
            &[&[(0xb7, 6, 0, 0, 1)], &LOOK_UP, &[(0xc3, 0, 6, 0, 1)], &PASS],
            "without a result",
        ),
        ("an atomic addition in the stack", &[&[(0xb7, 6, 0, 0, 1), (0xdb, 10, 6, -8, 0)], &PASS], "in no map"),
        (
            "a word that is read and counted in",
            &[&LOOK_UP, &[(0x61, 6, 0, 4, 0), (0xc3, 0, 6, 4, 0)], &PASS],
            "read here and added to there",
        ),
        ("a read beyond a value", &[&LOOK_UP, &[(0x79, 6, 0, 12, 0)], &PASS], "8 bytes at 12"),
        (
            "a key that is not aligned",
            &[&LOOK_UP[..2], &[(0x07, 2, 0, 0, -7)], &LOOK_UP[3..], &PASS, &PASS],
            "multiple of 4",
        ),
        ("a key in the packet", &[packet, &LOOK_UP[3..], &PASS, &PASS], "not in the stack"),
        (
            "an offset in the packet that is not known",
            &[packet, &[(0x71, 3, 2, 0, 0), (0x0f, 2, 3, 0, 0), (0x71, 4, 2, 0, 0)], &PASS],
            "not known beforehand",
        ),
        (
            "an offset in the stack that is not known",
            &[packet, &[(0x71, 3, 2, 0, 0), (0xbf, 4, 10, 0, 0), (0x1f, 4, 3, 0, 0), (0x72, 4, 0, 0, 0)], &PASS],
            "not known beforehand",
        ),
        ("another part of the context", &[&[(0x61, 2, 1, 12, 0)], &PASS], "of the context"),
        (
            "one address or the other",
            &[packet, &[(0x15, 2, 0, 1, 0), (0xbf, 2, 10, 0, 0), (0x71, 3, 2, -1, 0)], &PASS],
            "of one kind on one way",
        ),
        ("bytes the other way round", &[&[(0xb7, 1, 0, 0, 1), (0xd4, 1, 0, 0, 16)], &PASS], "instruction 0xd4"),
    ];
    for (what, parts, expected) in rows {
        let words = words(check(&program(parts)));
        assert!(words.contains(expected), "{what}: {words}");
    }
}

#[test]
fn maps_length_and_stack_have_their_limits() {
    let with = |maps: Vec<Map>| words(check(&Offloaded { maps, ..program(&[&PASS]) }));
    for (maps, expected) in [
        (vec![map(1, 20, 12, 0)], "accepted"),
        (vec![map(2, 4, 56, 0)], "accepted"),
        (vec![map(2, 4, 57, 0)], "72 bytes of key and value"),
        (vec![map(1, 60, 4, 0)], "72 bytes of key and value"),
        (vec![map(9, 4, 8, 0)], "neither a hash table nor an array"),
        (vec![map(6, 4, 8, 0)], "neither a hash table nor an array"),
        (vec![map(2, 4, 8, 1 << 10)], "flags 0x400"),
        ((0..9).map(|_| map(2, 4, 8, 0)).collect(), "9 maps"),
    ] {
        let words = with(maps);
        assert!(words.contains(expected), "{words} instead of {expected}");
    }
    let long = vec![(0xb7, 1, 0, 0, 1); LONGEST];
    assert!(words(check(&program(&[&long, &PASS]))).contains("4098 instructions"));
    let deep = [(0x62, 10, 0, -516, 1)];
    assert!(words(check(&program(&[&deep, &PASS]))).contains("516 bytes of stack"));
    assert!(words(check(&program(&[&PASS[..1]]))).contains("out of the program"));
    assert!(words(check(&program(&[]))).contains("no program"));
}
