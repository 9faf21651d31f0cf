//! Small programs of known results.

use super::{
    elf::Image,
    helpers::RING_SUBMIT,
    instruction::Instruction,
    kinds::{self, Course},
    machine::{Machine, Room},
    memory::{self, Fault, MapDefinition, Memory},
    tracker::Tracker,
};
use crate::{options::find_scenarios, scenario::Scenario, testbed::Family};
use ::tracker::{store::sizes::Capacity, xdp::object};

/// An instruction: opcode, destination, source, offset, immediate.
type Row = (u8, u8, u8, i16, i32);

/// Loads a number of 64 bits: the first of its two places.
const fn wide(register: u8, number: u64) -> [(Row, i64); 2] {
    [((0x18, register, 0, 0, 0), number as i64), ((0, 0, 0, 0, 0), 0)]
}

fn machine(code: Vec<Instruction>) -> Machine {
    let map =
        |name: &str, kind| MapDefinition { name: name.into(), kind, value_bytes: 64, entries: 1000, contents: None };
    let maps = vec![map("FIRST", 2), map("SECOND", 2), map("OWN", 6)];
    let memory = Memory::new(&maps, 1).expect("a few pages");
    let image = Image { code, maps, functions: Default::default(), lines: Default::default() };
    Machine::new(&image, memory, Room::Page)
}

fn instruction(&(opcode, destination, source, offset, immediate): &Row) -> Instruction {
    Instruction { opcode, destination, source, offset, immediate: immediate.into() }
}

fn code(rows: &[Row]) -> Vec<Instruction> {
    rows.iter().map(instruction).collect()
}

const EXIT: Row = (0x95, 0, 0, 0, 0);

#[test]
fn instructions_do_what_the_standard_says() {
    const A: Row = (0xb7, 1, 0, 0, -3);
    // (name, instructions, register 0)
    type Case = (&'static str, &'static [Row], Result<u64, Fault>);
    let rows: [Case; 20] = [
        ("a number is extended with its sign", &[(0xb7, 0, 0, 0, -1), EXIT], Ok(u64::MAX)),
        ("32 bits clear the upper half", &[(0xb4, 0, 0, 0, -1), EXIT], Ok(0xffff_ffff)),
        ("sums of 32 bits wrap", &[(0xb4, 0, 0, 0, -1), (0x04, 0, 0, 0, 2), EXIT], Ok(1)),
        ("sums of 64 bits", &[A, (0xb7, 0, 0, 0, 1), (0x0f, 0, 1, 0, 0), EXIT], Ok(-2_i64 as u64)),
        ("division by nothing is nothing", &[A, (0xb7, 0, 0, 0, 7), (0x37, 0, 0, 0, 0), EXIT], Ok(0)),
        ("a rest by nothing is the number", &[(0xb7, 0, 0, 0, 7), (0x97, 0, 0, 0, 0), EXIT], Ok(7)),
        ("shifts of 32 bits with sign", &[(0xb4, 0, 0, 0, -8), (0xc4, 0, 0, 0, 1), EXIT], Ok(0xffff_fffc)),
        ("a byte is extended on its way", &[(0xb7, 1, 0, 0, 0x80), (0xbf, 0, 1, 8, 0), EXIT], Ok(-128_i64 as u64)),
        ("bytes are swapped", &[(0xb7, 0, 0, 0, 0x1234), (0xdc, 0, 0, 0, 16), EXIT], Ok(0x3412)),
        ("little-endian order only cuts", &[(0xb7, 0, 0, 0, 0x12_3456), (0xd4, 0, 0, 0, 16), EXIT], Ok(0x3456)),
        ("what is stored is loaded", &[A, (0x7b, 10, 1, -8, 0), (0x61, 0, 10, -8, 0), EXIT], Ok(0xffff_fffd)),
        ("a load extends", &[A, (0x7b, 10, 1, -8, 0), (0x81, 0, 10, -8, 0), EXIT], Ok(-3_i64 as u64)),
        (
            "an exchange happens only if what is expected is there",
            &[A, (0x7b, 10, 1, -8, 0), (0xb7, 0, 0, 0, 5), (0xdb, 10, 1, -8, 0xf1), EXIT],
            Ok(-3_i64 as u64),
        ),
        (
            "an atomic sum gives what was before",
            &[(0x7a, 10, 0, -8, 4), (0xb7, 2, 0, 0, 3), (0xdb, 10, 2, -8, 1), (0xbf, 0, 2, 0, 0), EXIT],
            Ok(4),
        ),
        ("a comparison without sign", &[A, (0xb7, 0, 0, 0, 1), (0x25, 1, 0, 1, 5), (0xb7, 0, 0, 0, 0), EXIT], Ok(1)),
        ("a comparison with sign", &[A, (0xb7, 0, 0, 0, 1), (0x65, 1, 0, 1, 5), (0xb7, 0, 0, 0, 0), EXIT], Ok(0)),
        (
            "a function has a stack of its own and keeps its caller's registers",
            &[(0xb7, 6, 0, 0, 9), (0x85, 0, 1, 0, 2), (0xbf, 0, 6, 0, 0), EXIT, (0xb7, 6, 0, 0, 1), EXIT],
            Ok(9),
        ),
        ("behind the stack is nothing", &[(0x79, 0, 10, 7680, 0), EXIT], Err(Fault::Access(memory::STACK + 8192, 8))),
        ("an unknown instruction", &[(0xff, 0, 0, 0, 0)], Err(Fault::Instruction(0))),
        ("an unknown helper", &[(0x85, 0, 0, 0, 250), EXIT], Err(Fault::Helper(250))),
    ];
    for (name, rows, result) in rows {
        let observed = machine(code(rows)).execute::<true>(0, [0, 0]);
        assert_eq!(observed, result, "{name}");
        assert_eq!(machine(code(rows)).execute::<false>(0, [0, 0]), result, "{name}, not observed");
    }
}

#[test]
fn misses_that_wait_for_one_another_are_a_chain() {
    let first = wide(1, memory::value_address(0));
    let second = wide(2, memory::value_address(1));
    let own = wide(5, memory::value_address(2));
    // Registers 1 and 2 point to the first and the second map, 5 to the core's own.
    const LOAD_FIRST: Row = (0x79, 3, 1, 0, 0);
    // (name, instructions, line chain, page chain, lines that are missed)
    type Case = (&'static str, &'static [Row], (u64, u64, u64));
    let rows: [Case; 8] = [
        ("nothing is loaded", &[], (0, 0, 0)),
        ("one load", &[LOAD_FIRST], (1, 1, 1)),
        ("the same line again", &[LOAD_FIRST, (0x79, 4, 1, 8, 0)], (1, 1, 1)),
        ("two loads that do not need each other", &[LOAD_FIRST, (0x79, 4, 2, 0, 0)], (1, 1, 2)),
        ("an address from a load", &[LOAD_FIRST, (0x0f, 2, 3, 0, 0), (0x79, 4, 2, 0, 0)], (2, 2, 2)),
        (
            "an address by way of the core's own memory",
            &[LOAD_FIRST, (0x7b, 5, 3, 0, 0), (0x79, 4, 5, 0, 0), (0x0f, 2, 4, 0, 0), (0x79, 4, 2, 0, 0)],
            (2, 2, 3),
        ),
        ("another line of the same page", &[LOAD_FIRST, (0x0f, 1, 3, 0, 0), (0x79, 4, 1, 64, 0)], (2, 1, 2)),
        ("nothing waits for a write", &[(0x7b, 1, 10, 0, 0)], (0, 0, 1)),
    ];
    for (name, rows, expected) in rows {
        let mut program: Vec<Instruction> = Vec::new();
        for (row, number) in first.iter().chain(&second).chain(&own) {
            program.push(Instruction { immediate: *number, ..instruction(row) });
        }
        program.extend(code(rows));
        program.extend(code(&[(0xb7, 0, 0, 0, 0), EXIT]));
        let mut machine = machine(program);
        machine.run::<true>(0).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let counts = &machine.observer.counts;
        let missed = counts.maps.iter().map(|map| map.line_misses).sum();
        assert_eq!((counts.line_chain, counts.page_chain, missed), expected, "{name}");
    }
}

/// A part of a scenario, and a tracker for it.
fn course(scenario: &Scenario, tells: bool) -> Course<'_> {
    let object = object::object().expect("the committed object");
    let peers = u64::from(scenario.peers);
    let (peers_v4, peers_v6) = if scenario.family == Family::V4 { (peers, 100) } else { (100, peers) };
    let capacity = Capacity { torrents: 1000, peers_v4, peers_v6 };
    Course::new(Tracker::new(&object, &capacity, Room::Page, 0).expect("a tracker"), scenario, 64, tells)
}

fn part(name: &str) -> Scenario {
    let scenario = *find_scenarios(&[name.to_owned()]).expect("a scenario")[0];
    let torrents = scenario.torrents.min(500);
    Scenario { torrents, peers: 4 * torrents.max(500), ..scenario }
}

#[test]
fn every_request_of_the_committed_object_is_answered_as_it_should_be() {
    for name in ["small", "zipf", "ipv6", "seeders", "scrape-74"] {
        let scenario = part(name);
        let mut course = course(&scenario, false);
        let mut results = vec![course.fill(50).expect("all peers are taken")];
        for kind in kinds::of(&scenario) {
            results.push(course.requests(*kind, 50).expect("an answer to each"));
        }
        for result in results {
            assert_eq!((result.requests, result.failed), (50, 0), "{name}: {}", result.kind.name);
            assert!(result.counts.instructions > 50 * 200, "{name}: {}", result.kind.name);
        }
    }
}

#[test]
fn other_trackers_are_told_of_what_is_news() {
    for (name, tells) in [("small", true), ("ipv6", true), ("small", false)] {
        let scenario = part(name);
        let mut course = course(&scenario, tells);
        let mut results = vec![course.fill(50).expect("all peers are taken")];
        results.extend(kinds::CHANGES.iter().map(|kind| course.requests(*kind, 50).expect("an answer to each")));
        let told = results.iter().map(|result| {
            assert_eq!((result.requests, result.failed), (50, 0), "{name}: {}", result.kind.name);
            result.counts.helpers[RING_SUBMIT as usize]
        });
        let all = u64::from(tells) * 50;
        // New; known, a minute later, ten minutes later; completed, stopped.
        assert_eq!(told.collect::<Vec<_>>(), [all, 0, 0, all, all, all], "{name}, {tells}");
    }
}
