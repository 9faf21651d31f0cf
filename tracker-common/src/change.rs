//! What other trackers are told of a peer: one change, as the XDP program and the daemon's threads put
//! it where it is sent from.

use crate::id::InfoHash;

/// What became of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is there and does not have everything.
    Leecher,
    /// It is there and has everything.
    Seeder,
    /// It has just completed its download, and is a seeder.
    Completed,
    /// It has left.
    Left,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Leecher, Self::Seeder, Self::Completed, Self::Left];

    /// By its number.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// One change, as it lies in the ring buffer of the XDP program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The peer: address and port as the store has them ([`crate::store::slot::SlotFormat::Key`]), one word
    /// or three.
    pub peer: [u64; 3],
    /// The torrent.
    pub info_hash: InfoHash,
    /// Number of the [`Kind`].
    pub kind: u8,
    /// Whose peer it is, by its number ([`crate::store::owner`]): 0 for nobody's in particular.
    pub owner: u8,
    /// 4 or 6.
    pub version: u8,
    /// 0.
    pub unused: u8,
}

const _: () = assert!(size_of::<Change>() == 48);

impl Change {
    /// From the bytes of a record of the ring buffer; `None` if they are none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.split_at_checked(24)?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        let &[kind, owner, version, unused] = rest.first_chunk::<4>()?;
        let word = |at: usize| Some(u64::from_ne_bytes(*words.get(at * 8..)?.first_chunk()?));
        let known = Kind::of_number(kind.into()).is_some() && matches!(version, 4 | 6);
        known.then_some(Self {
            peer: [word(0)?, word(1)?, word(2)?],
            info_hash: *info_hash,
            kind,
            owner,
            version,
            unused,
        })
    }
}

/// Bytes of the ring buffer: changes of 18 000 announces. A power of two.
pub const RING_BYTES: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(change: &Change) -> Vec<u8> {
        let words = change.peer.iter().flat_map(|word| word.to_ne_bytes());
        words.chain(change.info_hash).chain([change.kind, change.owner, change.version, change.unused]).collect()
    }

    #[test]
    fn records_of_the_ring_buffer_are_read_and_others_are_not() {
        let change = Change { peer: [1, 2, 3], info_hash: [7; 20], kind: 3, owner: 14, version: 6, unused: 0 };
        let good = bytes(&change);
        assert_eq!(Change::read(&good), Some(change));
        assert_eq!(Change::read(&[&good[..], &[9; 8]].concat()), Some(change), "the kernel rounds up");
        for (name, at, value) in [("kind", 44, 4), ("kind", 44, 255), ("version", 46, 0), ("version", 46, 5)] {
            let mut wrong = good.clone();
            wrong[at] = value;
            assert_eq!(Change::read(&wrong), None, "{name} {value}");
        }
        for length in [0, 1, 23, 24, 47] {
            assert_eq!(Change::read(&good[..length]), None, "{length}");
        }
    }

    #[test]
    fn kinds_have_the_numbers_that_stand_in_messages() {
        for (number, kind) in (0..).zip([Kind::Leecher, Kind::Seeder, Kind::Completed, Kind::Left]) {
            assert_eq!((kind as u32, Kind::of_number(number)), (number, Some(kind)));
        }
        assert_eq!(Kind::of_number(4), None);
    }
}
