use super::*;
use crate::store::slot::{LEECHER, OCCUPIED};

#[test]
fn a_directory_header_comes_back_and_counts_in_place() {
    for (peers, partitions) in [(0, 0), (5, 1), (0x3fff_ffff, PARTITIONS_MAX), (1, 0xffff)] {
        let header = DirectoryHeader { peers, partitions };
        assert_eq!(DirectoryHeader::from_word(header.to_word()), Some(header));
    }
    let word = DirectoryHeader { peers: 7, partitions: 3 }.to_word();
    let word = word + DirectoryHeader::ONE_PEER + DirectoryHeader::ONE_PARTITION;
    assert_eq!(DirectoryHeader::from_word(word), Some(DirectoryHeader { peers: 8, partitions: 4 }));
}

#[test]
fn occupancies_come_back_from_both_words() {
    for (peers, leechers) in [(0, 0), (1, 0), (1, 1), (384, 384), (256, 255), (0xffff, 0xffff)] {
        let occupancy = Occupancy { peers, leechers };
        assert_eq!(Occupancy::from_word(occupancy.to_word()), occupancy);
        assert_eq!(Occupancy::from_header(occupancy.to_header()), occupancy);
        let header = DirectoryHeader { peers, partitions: 0 };
        assert_eq!(DirectoryHeader::from_word(occupancy.to_header()), Some(header), "{occupancy:?}");
    }
}

#[test]
fn header_and_records_of_a_bucket_share_no_memory_whatever_its_number() {
    let bucket = Bucket::default();
    let at = |place: *const u8| place as usize - core::ptr::from_ref(&bucket) as usize;
    for number in [0, 1, 31, 32, 77, u32::MAX >> 5] {
        assert!((0..=64).all(|place| bucket.swarm(number, place).is_none() == (place % 32 == 0)));
        let header = at(core::ptr::from_ref(bucket.header(number)).cast());
        let swarm = |place| bucket.swarm(number, place).map(|swarm| at(core::ptr::from_ref(swarm).cast()));
        let mut all: Vec<_> = (1..32).filter_map(swarm).chain([header]).collect();
        all.sort_unstable();
        assert_eq!(all, (0..32).map(|unit| unit * 128).collect::<Vec<_>>());
        assert_eq!(header, number as usize % 32 * 128, "it stands in the way of others otherwise");
    }
}

#[test]
fn flags_of_peers_are_no_directory_header() {
    for flags in [0, OCCUPIED, OCCUPIED | LEECHER, OCCUPIED | 1 << 61, u64::MAX, 1 << 61] {
        assert_eq!(DirectoryHeader::from_word(flags), None, "{flags:#x}");
    }
}

#[test]
fn counts_are_apart_from_each_other_and_from_changes() {
    let most = 0xff_ffff;
    for (seeders, leechers) in [(0, 0), (1, 0), (0, 1), (most, 0), (0, most), (most, most)] {
        let word = u64::from(seeders) * ONE_SEEDER + u64::from(leechers) * ONE_LEECHER + 0xffff * ONE_CHANGE;
        assert_eq!(unpack_counts(word), (seeders, leechers));
    }
    assert_eq!(unpack_counts((ONE_CHANGE * 0xffff).wrapping_add(ONE_CHANGE)), (0, 0));
}

#[test]
fn scopes_are_apart_from_downloads_and_index() {
    let swarm = Swarm::default();
    swarm.completed.store(12);
    let partition = Partition::default();
    partition.index.store(1 << 31 | 0x7fff);
    for scopes in [scope::PRIVATE, scope::LINK, scope::HOST, scope::PRIVATE] {
        swarm.add_scopes(scopes);
        partition.add_scopes(scopes);
        assert_eq!(swarm.scopes() & scopes, scopes);
        assert_eq!(partition.scopes() & scopes, scopes);
    }
    assert_eq!((swarm.scopes(), swarm.completed()), (7, 12));
    assert_eq!((partition.scopes(), partition.tagged_index()), (7, 1 << 31 | 0x7fff));
}
