//! What torrents and the store's records are called.

/// A torrent's info_hash (BEP 3), or the first 20 bytes of a v2 one (BEP 52).
pub type InfoHash = [u8; 20];

/// Declares the number of a kind of record. Numbers of different kinds cannot be mixed up.
macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[repr(transparent)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub struct $name(u32);

            impl $name {
                /// The record with this number, counted from 0. It may be out of range: whoever
                /// looks the record up checks.
                #[inline(always)]
                #[must_use]
                pub const fn new(number: u32) -> Self {
                    Self(number)
                }

                /// The number.
                #[inline(always)]
                #[must_use]
                pub const fn number(self) -> u32 {
                    self.0
                }

                /// The number as it is kept where 0 stands for "none": one more.
                #[inline(always)]
                #[must_use]
                pub const fn stored(self) -> u32 {
                    self.0 + 1
                }

                /// The reverse of `stored`.
                #[inline(always)]
                #[must_use]
                pub const fn from_stored(stored: u32) -> Option<Self> {
                    if stored == 0 { None } else { Some(Self(stored - 1)) }
                }
            }

            impl From<u32> for $name {
                #[inline(always)]
                fn from(number: u32) -> Self {
                    Self(number)
                }
            }

            impl From<$name> for u32 {
                #[inline(always)]
                fn from(id: $name) -> Self {
                    id.0
                }
            }
        )*
    };
}

id! {
    /// A swarm record: bucket of the index, and its place in that ([`SwarmId::at`]).
    SwarmId;
    /// A partition record.
    PartitionId;
    /// A chunk of peers of one family, or a directory node, which is an IPv4 chunk.
    ChunkId;
}

impl PartitionId {
    /// What stands for a partition where peers are in the list that the swarm record names.
    pub const RECORD: Self = Self(u32::MAX - 1);
}

/// Bits of a swarm record's place in its bucket.
const PLACE_BITS: u32 = 5;

impl SwarmId {
    /// The record at a place in an index bucket, counted from 1.
    #[inline(always)]
    #[must_use]
    pub const fn at(bucket: u32, place: u32) -> Self {
        Self(bucket << PLACE_BITS | place)
    }

    /// Bucket and place.
    #[inline(always)]
    #[must_use]
    pub const fn place(self) -> (u32, u32) {
        (self.0 >> PLACE_BITS, self.0 & ((1 << PLACE_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_come_back_and_zero_is_none() {
        assert_eq!(SwarmId::from_stored(0), None);
        for number in [0, 1, u32::MAX - 1] {
            assert_eq!(SwarmId::from_stored(SwarmId::new(number).stored()), Some(SwarmId::new(number)));
        }
    }
    #[test]
    fn places_in_buckets_come_back() {
        for (bucket, place) in [(0, 1), (0, 31), (1, 1), (0x07ff_ffff, 31)] {
            assert_eq!(SwarmId::at(bucket, place).place(), (bucket, place));
        }
        assert_ne!(SwarmId::at(0, 31), SwarmId::at(1, 1));
    }
}
