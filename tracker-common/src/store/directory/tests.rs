use super::{
    super::{
        family::{V4, V6},
        layout::DirectoryHeader,
        tests::{CHUNKS_V4, spare, used},
    },
    *,
};
use crate::host::{HostPlatform, HostSizes, HostStore};

/// Records for a directory of thousands of partitions. The partitions themselves are numbers only.
const NODES: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 200, chunks_v6: 0 };

/// Numbers of partitions on both sides of all borders.
const BORDERS: [u32; 24] =
    [1, 2, 7, 8, 9, 10, 63, 64, 65, 128, 129, 511, 512, 513, 514, 575, 576, 577, 4095, 4096, 4097, 4160, 4161, 4200];

/// The partition with this index.
fn partition(index: u32) -> PartitionId {
    PartitionId::new(index * 7 + 3)
}

/// The nodes of a directory of so many partitions.
fn nodes(partitions: u32) -> u32 {
    let leaves = partitions.div_ceil(64);
    match partitions {
        0..=8 => 0,
        9..=512 => leaves,
        _ => leaves + partitions.div_ceil(4096),
    }
}

struct Directory<'s> {
    platform: HostPlatform<'s>,
}

impl Directory<'_> {
    fn swarm(&self) -> &Swarm {
        self.platform.swarm(SwarmId::at(0, 1)).expect("a swarm")
    }

    fn push<F: Family>(&self, index: u32) -> Result<(), StoreError> {
        push::<_, F>(&self.platform.context(), self.swarm(), index, partition(index))
    }

    fn check<F: Family>(&self, partitions: u32) {
        for index in 0..partitions {
            let found = find::<_, F>(&self.platform, self.swarm(), index, partitions);
            assert_eq!(found, Some(partition(index)), "{index} of {partitions}");
        }
        assert_eq!(used(self.platform.store())[CHUNKS_V4], nodes(partitions), "nodes for {partitions}");
    }
}

fn grows_and_shrinks<F: Family, Other: Family>() {
    let store = HostStore::new(&NODES, 1);
    let directory = Directory { platform: store.platform(1) };
    let header = DirectoryHeader { peers: 5, partitions: 6 };
    F::header(directory.swarm()).store(header.to_word());
    let last = BORDERS[BORDERS.len() - 1];
    for partitions in 1..=last {
        directory.push::<F>(partitions - 1).expect("enough nodes");
        if BORDERS.contains(&partitions) {
            directory.check::<F>(partitions);
        }
    }
    for partitions in (0..last).rev() {
        pop::<_, F>(&directory.platform, directory.swarm(), partitions);
        if BORDERS.contains(&partitions) {
            directory.check::<F>(partitions);
        }
    }
    directory.check::<F>(0);
    assert_eq!(F::directory(directory.swarm()), Some(header), "the header's word is no entry");
    assert!(Other::record(directory.swarm()).words().iter().all(|word| word.load() == 0), "the other family's words");
}

#[test]
fn entries_are_found_over_all_borders_and_no_node_is_left_at_the_end() {
    grows_and_shrinks::<V4, V6>();
    grows_and_shrinks::<V6, V4>();
}

fn push_without_nodes<F: Family>() {
    // (partitions there are, nodes there are left, whether one more partition can be entered)
    for (partitions, left, possible) in [
        (0, 0, true),
        (7, 0, true),
        (8, 0, false),
        (8, 1, true),
        (9, 0, true),
        (63, 0, true),
        (64, 0, false),
        (64, 1, true),
        (511, 0, true),
        (512, 0, false),
        (512, 1, false),
        (512, 2, true),
        (513, 0, true),
        (576, 0, false),
        (576, 1, true),
        (4095, 0, true),
        (4096, 0, false),
        (4096, 1, false),
        (4096, 2, true),
        (4097, 0, true),
    ] {
        let store = HostStore::new(&NODES, 1);
        let directory = Directory { platform: store.platform(1) };
        (0..partitions).for_each(|index| directory.push::<F>(index).expect("enough nodes"));
        spare(&store, CHUNKS_V4, left);
        let expected = if possible { Ok(()) } else { Err(StoreError::MemoryFull) };
        assert_eq!(directory.push::<F>(partitions), expected, "{partitions} with {left} nodes");
        directory.check::<F>(partitions + u32::from(possible));
        if !possible {
            spare(&store, CHUNKS_V4, 2);
            directory.push::<F>(partitions).expect("enough nodes");
            directory.check::<F>(partitions + 1);
        }
    }
}

#[test]
fn a_partition_that_lacks_nodes_changes_nothing() {
    push_without_nodes::<V4>();
    push_without_nodes::<V6>();
}

#[test]
fn two_entries_share_a_word() {
    // (the word before, index, value, the word after)
    for (before, index, value, after) in [
        (0, 0, 7, 7),
        (0, 1, 7, 7 << 32),
        (5 << 32 | 6, 2, 7, 5 << 32 | 7),
        (5 << 32 | 6, 3, 7, 7 << 32 | 6),
        (u64::MAX, 62, 0, u64::MAX << 32),
        (u64::MAX, 63, 0, u64::MAX >> 32),
    ] {
        let word = Word::new(before);
        set_entry(&word, index, value);
        assert_eq!(word.load(), after, "{before:#x} {index}");
        assert_eq!(entry(word.load(), index), value);
        assert_eq!(entry(word.load(), index ^ 1), entry(before, index ^ 1), "the other one");
    }
}

#[test]
fn the_first_entry_can_be_replaced() {
    let swarm = Swarm::default();
    let store = HostStore::new(&NODES, 1);
    for number in [5, 0, 6] {
        set_first::<V4>(&swarm, PartitionId::new(number));
        set_first::<V6>(&swarm, PartitionId::new(number + 1));
        assert_eq!(find::<_, V4>(&store.platform(1), &swarm, 0, 1), Some(PartitionId::new(number)));
        assert_eq!(find::<_, V6>(&store.platform(1), &swarm, 0, 1), Some(PartitionId::new(number + 1)));
    }
}

#[test]
fn outdated_numbers_of_nodes_find_nothing() {
    let store = HostStore::new(&NODES, 1);
    let platform = store.platform(1);
    let swarm = Swarm::default();
    set_first::<V4>(&swarm, PartitionId::new(NODES.chunks_v4));
    for (partitions, found) in [(8, true), (9, false), (512, false), (513, false)] {
        assert_eq!(find::<_, V4>(&platform, &swarm, 0, partitions).is_some(), found, "{partitions} partitions");
    }
}

#[test]
fn a_partition_says_whose_it_is() {
    let swarm = SwarmId::new(4);
    // (owner, index with tag, of IPv4, of IPv6)
    for (owner, index, of_v4, of_v6) in [
        (5, 9, true, false),
        (5, V6::TAG | 9, false, true),
        (5, 10, false, false),
        (4, 9, false, false),
        (0, 9, false, false),
    ] {
        let partition = Partition::default();
        partition.owner.store(owner);
        partition.index.store(index);
        for scopes in [0, 7] {
            partition.add_scopes(scopes);
            assert_eq!(is_partition_of::<V4>(&partition, swarm, 9), of_v4, "{owner} {index:#x}");
            assert_eq!(is_partition_of::<V6>(&partition, swarm, 9), of_v6, "{owner} {index:#x}");
        }
    }
}
