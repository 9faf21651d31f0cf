//! Types and flags of maps.

use anyhow::Context as _;
use aya_obj::generated::bpf_map_type;

use super::set::{Features, Version};

/// Types that maps of objects have, by their numbers in `enum bpf_map_type` (linux/bpf.h).
const TYPES: [(bpf_map_type, &str, Version); 33] = {
    use bpf_map_type as types;
    [
        (types::BPF_MAP_TYPE_HASH, "BPF_MAP_TYPE_HASH", Version::new(3, 19)),
        (types::BPF_MAP_TYPE_ARRAY, "BPF_MAP_TYPE_ARRAY", Version::new(3, 19)),
        (types::BPF_MAP_TYPE_PROG_ARRAY, "BPF_MAP_TYPE_PROG_ARRAY", Version::new(4, 2)),
        (types::BPF_MAP_TYPE_PERF_EVENT_ARRAY, "BPF_MAP_TYPE_PERF_EVENT_ARRAY", Version::new(4, 3)),
        (types::BPF_MAP_TYPE_PERCPU_HASH, "BPF_MAP_TYPE_PERCPU_HASH", Version::new(4, 6)),
        (types::BPF_MAP_TYPE_PERCPU_ARRAY, "BPF_MAP_TYPE_PERCPU_ARRAY", Version::new(4, 6)),
        (types::BPF_MAP_TYPE_STACK_TRACE, "BPF_MAP_TYPE_STACK_TRACE", Version::new(4, 6)),
        (types::BPF_MAP_TYPE_CGROUP_ARRAY, "BPF_MAP_TYPE_CGROUP_ARRAY", Version::new(4, 8)),
        (types::BPF_MAP_TYPE_LRU_HASH, "BPF_MAP_TYPE_LRU_HASH", Version::new(4, 10)),
        (types::BPF_MAP_TYPE_LRU_PERCPU_HASH, "BPF_MAP_TYPE_LRU_PERCPU_HASH", Version::new(4, 10)),
        (types::BPF_MAP_TYPE_LPM_TRIE, "BPF_MAP_TYPE_LPM_TRIE", Version::new(4, 11)),
        (types::BPF_MAP_TYPE_ARRAY_OF_MAPS, "BPF_MAP_TYPE_ARRAY_OF_MAPS", Version::new(4, 12)),
        (types::BPF_MAP_TYPE_HASH_OF_MAPS, "BPF_MAP_TYPE_HASH_OF_MAPS", Version::new(4, 12)),
        (types::BPF_MAP_TYPE_DEVMAP, "BPF_MAP_TYPE_DEVMAP", Version::new(4, 14)),
        (types::BPF_MAP_TYPE_SOCKMAP, "BPF_MAP_TYPE_SOCKMAP", Version::new(4, 14)),
        (types::BPF_MAP_TYPE_CPUMAP, "BPF_MAP_TYPE_CPUMAP", Version::new(4, 15)),
        (types::BPF_MAP_TYPE_XSKMAP, "BPF_MAP_TYPE_XSKMAP", Version::new(4, 18)),
        (types::BPF_MAP_TYPE_SOCKHASH, "BPF_MAP_TYPE_SOCKHASH", Version::new(4, 18)),
        (types::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED, "BPF_MAP_TYPE_CGROUP_STORAGE", Version::new(4, 19)),
        (types::BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", Version::new(4, 19)),
        (
            types::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED,
            "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE",
            Version::new(4, 20),
        ),
        (types::BPF_MAP_TYPE_QUEUE, "BPF_MAP_TYPE_QUEUE", Version::new(4, 20)),
        (types::BPF_MAP_TYPE_STACK, "BPF_MAP_TYPE_STACK", Version::new(4, 20)),
        (types::BPF_MAP_TYPE_SK_STORAGE, "BPF_MAP_TYPE_SK_STORAGE", Version::new(5, 2)),
        (types::BPF_MAP_TYPE_DEVMAP_HASH, "BPF_MAP_TYPE_DEVMAP_HASH", Version::new(5, 4)),
        (types::BPF_MAP_TYPE_STRUCT_OPS, "BPF_MAP_TYPE_STRUCT_OPS", Version::new(5, 6)),
        (types::BPF_MAP_TYPE_RINGBUF, "BPF_MAP_TYPE_RINGBUF", Version::new(5, 8)),
        (types::BPF_MAP_TYPE_INODE_STORAGE, "BPF_MAP_TYPE_INODE_STORAGE", Version::new(5, 10)),
        (types::BPF_MAP_TYPE_TASK_STORAGE, "BPF_MAP_TYPE_TASK_STORAGE", Version::new(5, 11)),
        (types::BPF_MAP_TYPE_BLOOM_FILTER, "BPF_MAP_TYPE_BLOOM_FILTER", Version::new(5, 16)),
        (types::BPF_MAP_TYPE_USER_RINGBUF, "BPF_MAP_TYPE_USER_RINGBUF", Version::new(6, 1)),
        (types::BPF_MAP_TYPE_CGRP_STORAGE, "BPF_MAP_TYPE_CGRP_STORAGE", Version::new(6, 2)),
        (types::BPF_MAP_TYPE_ARENA, "BPF_MAP_TYPE_ARENA", Version::new(6, 9)),
    ]
};

/// Flags of BPF_MAP_CREATE (linux/bpf.h), by their bits.
const FLAGS: [(u32, &str, Version); 19] = [
    (0, "BPF_F_NO_PREALLOC", Version::new(4, 6)),
    (1, "BPF_F_NO_COMMON_LRU", Version::new(4, 10)),
    (2, "BPF_F_NUMA_NODE", Version::new(4, 14)),
    (3, "BPF_F_RDONLY", Version::new(4, 15)),
    (4, "BPF_F_WRONLY", Version::new(4, 15)),
    (5, "BPF_F_STACK_BUILD_ID", Version::new(4, 17)),
    (6, "BPF_F_ZERO_SEED", Version::new(5, 0)),
    (7, "BPF_F_RDONLY_PROG", Version::new(5, 2)),
    (8, "BPF_F_WRONLY_PROG", Version::new(5, 2)),
    (9, "BPF_F_CLONE", Version::new(5, 4)),
    (10, "BPF_F_MMAPABLE", Version::new(5, 5)),
    (11, "BPF_F_PRESERVE_ELEMS", Version::new(5, 10)),
    (12, "BPF_F_INNER_MAP", Version::new(5, 10)),
    (13, "BPF_F_LINK", Version::new(6, 6)),
    (14, "BPF_F_PATH_FD", Version::new(6, 5)),
    (15, "BPF_F_VTYPE_BTF_OBJ_FD", Version::new(6, 9)),
    (16, "BPF_F_TOKEN_FD", Version::new(6, 9)),
    (17, "BPF_F_SEGV_ON_FAULT", Version::new(6, 9)),
    (18, "BPF_F_NO_USER_CONV", Version::new(6, 9)),
];

/// Adds what the object's maps need, the sections of data included, which become maps as well.
pub fn read(elf: &[u8], features: &mut Features) -> anyhow::Result<()> {
    let object = aya_obj::Object::parse(elf).context("cannot read its maps")?;
    for map in object.maps.values() {
        add(map.map_type(), map.map_flags(), features);
    }
    Ok(())
}

fn add(map_type: u32, flags: u32, features: &mut Features) {
    match TYPES.iter().find(|(number, _, _)| *number as u32 == map_type) {
        Some((_, name, since)) => features.add(*name, *since),
        None => features.add_unknown(format!("map type {map_type}")),
    }
    for bit in (0..u32::BITS).filter(|bit| flags & (1 << bit) != 0) {
        match FLAGS.iter().find(|(number, _, _)| *number == bit) {
            Some((_, name, since)) => features.add(*name, *since),
            None => features.add_unknown(format!("map flag {:#x}", 1_u32 << bit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_need_the_kernel_that_brought_their_type_and_flags() {
        for (map_type, flags, expected) in [
            (2, 0, Ok(())),
            (2, 0x400, Ok(())),
            (3, 0, Ok(())),
            (27, 0, Ok(())),
            (31, 0, Ok(())),
            (32, 1, Err("BPF_MAP_TYPE_CGRP_STORAGE (Linux 6.2)")),
            (33, 0x400, Err("BPF_MAP_TYPE_ARENA (Linux 6.9)")),
            (34, 0, Err("map type 34 (unknown)")),
            (2, 1 << 13, Err("BPF_F_LINK (Linux 6.6)")),
            (2, 0x400 | 1 << 16, Err("BPF_F_TOKEN_FD (Linux 6.9)")),
            (2, 1 << 25, Err("map flag 0x2000000 (unknown)")),
        ] {
            let mut features = Features::default();
            add(map_type, flags, &mut features);
            let found = features.ensure_in(Version::new(6, 1)).map_err(|error| error.to_string());
            match expected {
                Ok(()) => assert_eq!(found, Ok(()), "{map_type} {flags:#x}"),
                Err(expected) => assert!(found.unwrap_err().contains(expected), "{map_type} {flags:#x}"),
            }
        }
    }
}
