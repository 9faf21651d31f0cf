use super::*;
use crate::host::{HostSizes, HostStore};

const NO_RECORDS: HostSizes = HostSizes { index_buckets: 0, swarms: 0, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

/// Runs a test with a scratch space whose byte at n is [`at`] n.
fn with_scratch(test: impl FnOnce(&Scratch)) {
    let store = HostStore::new(&NO_RECORDS, 1);
    let platform = store.platform(1);
    let scratch = platform.context().scratch;
    (0..SCRATCH_BYTES).for_each(|offset| scratch.put(offset, at(offset)));
    test(scratch);
}

fn at(offset: usize) -> u8 {
    (offset * 7 + offset / 251) as u8
}

fn read(scratch: &Scratch, from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|offset| scratch.get(offset).expect("inside")).collect()
}

#[test]
fn values_are_put_and_got_inside_the_space_only() {
    // (offset, size, whether that is inside)
    for (offset, size, inside) in [
        (0, 8, true),
        (1, 8, true),
        (SCRATCH_BYTES - 8, 8, true),
        (SCRATCH_BYTES - 7, 8, false),
        (SCRATCH_BYTES - 1, 8, false),
        (SCRATCH_BYTES, 8, false),
        (usize::MAX, 8, false),
        (SCRATCH_BYTES - 1, 1, true),
        (SCRATCH_BYTES, 1, false),
        (SCRATCH_BYTES - 20, 20, true),
        (SCRATCH_BYTES - 19, 20, false),
    ] {
        with_scratch(|scratch| {
            let (before, got) = match size {
                1 => (scratch.get::<u8>(offset).is_some(), {
                    scratch.put(offset, 0x55_u8);
                    scratch.get(offset) == Some(0x55_u8)
                }),
                8 => (scratch.get::<u64>(offset).is_some(), {
                    scratch.put(offset, u64::MAX - 1);
                    scratch.get(offset) == Some(u64::MAX - 1)
                }),
                _ => (scratch.get::<[u8; 20]>(offset).is_some(), {
                    scratch.put(offset, [9_u8; 20]);
                    scratch.get(offset) == Some([9_u8; 20])
                }),
            };
            assert_eq!((before, got), (inside, inside), "{size} bytes at {offset}");
            for other in (0..SCRATCH_BYTES).filter(|other| !inside || !(offset..offset + size).contains(other)) {
                assert_eq!(scratch.get(other), Some(at(other)), "{other} has changed by {size} bytes at {offset}");
            }
        });
    }
}

#[test]
fn words_are_in_memory_order_at_any_address() {
    with_scratch(|scratch| {
        for offset in [0, 1, 7, 4095, SCRATCH_BYTES - 8] {
            let bytes: [u8; 8] = core::array::from_fn(|number| at(offset + number));
            assert_eq!(scratch.word(offset), u64::from_le_bytes(bytes), "{offset}");
            assert_eq!(scratch.get(offset), Some(bytes));
        }
        for cursor in [0, 5, 4095] {
            scratch.put_compact(cursor, 0x0102_0304_0506_0708_u64);
            assert_eq!(scratch.word(PEERS_AT + cursor as usize), 0x0102_0304_0506_0708);
        }
    });
}

#[test]
fn whole_blocks_are_copied_and_nothing_else_changes() {
    let most = REPLY_BLOCKS * BLOCK;
    // (from, to, bytes asked for, bytes copied)
    for (from, to, length, copied) in [
        (0, 2048, 0, 0),
        (0, 2048, 1, BLOCK),
        (3, 2049, BLOCK - 1, BLOCK),
        (3, 2049, BLOCK, BLOCK),
        (3, 2049, BLOCK + 1, 2 * BLOCK),
        (PEERS_AT, START_MASK, 300, 5 * BLOCK),
        (START_MASK, 0, most, most),
        (0, START_MASK, most + 1, most),
        (0, 2048, usize::MAX, most),
        // Beyond the mask it begins again.
        (START_MASK + 1, 2048, 10, BLOCK),
        (0, START_MASK + 1 + 100, 10, BLOCK),
        (0, END_MASK, most, most),
        (0, END_MASK + 1 + 2048, 10, BLOCK),
    ] {
        with_scratch(|scratch| {
            let (first, target) = (from & START_MASK, to & END_MASK);
            scratch.copy(from, to, length);
            let expected: Vec<_> = (first..first + copied).map(at).collect();
            assert!(read(scratch, target, copied) == expected, "{length} bytes from {from} to {to}");
            for other in (0..SCRATCH_BYTES).filter(|other| !(target..target + copied).contains(other)) {
                assert_eq!(scratch.get(other), Some(at(other)), "{other}: {length} bytes from {from} to {to}");
            }
        });
    }
}

#[test]
fn a_walk_comes_back_from_its_words() {
    let numbers: [u32; 12] = core::array::from_fn(|number| u32::MAX - number as u32);
    let [partitions, position, second_first, stride, steps, passes, ..] = numbers;
    let [.., partitions_read, pass_found_peers, own_partition, filter, collected, enough] = numbers;
    let walk = Walk {
        partitions,
        position,
        second_first,
        stride,
        steps,
        passes,
        partitions_read,
        pass_found_peers,
        own_partition,
        filter,
        collected,
        enough,
    };
    let words = WalkWords::default();
    assert_eq!(format!("{:?}", words.load()).matches(": 0").count(), 12, "all zero at first");
    words.store(&walk);
    assert_eq!(format!("{:?}", words.load()), format!("{walk:?}"));
    assert_eq!((words.partitions.load(), words.collected.load(), words.enough.load()), (partitions, collected, enough));
    assert_eq!(size_of::<WalkWords>(), 4 * numbers.len(), "no field is missing above");
}

#[test]
fn numbers_go_through_memory_unchanged() {
    with_scratch(|scratch| {
        for number in [0, 1, u32::MAX] {
            assert_eq!(scratch.as_unknown_scalar(number), number);
            let id = crate::id::SwarmId::new(number);
            assert_eq!(scratch.as_unknown_scalar(id), id);
        }
    });
}
