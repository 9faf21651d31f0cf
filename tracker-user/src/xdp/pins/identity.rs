//! Which layout a pinned store has, and which of the pinned sets of programs is in use: the one
//! record of a small map. Its form never changes, so every version of the tracker can read it.

use crate::xdp::bpf_link::pinned;
use anyhow::{Context as _, ensure};
use aya::maps::{Array, Map, MapData};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use tracker_common::{
    outcome::{COUNTERS, Event, Reason},
    store::layout::LAYOUT_VERSION,
};

/// The name of the map.
pub(super) const NAME: &str = "IDENTITY";

/// What the record begins with.
const MAGIC: [u8; 8] = *b"tracker1";

const BYTES: usize = 64;

/// The beginning of the SHA-256 of an object.
pub type ObjectHash = [u8; 16];

/// The record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// [`LAYOUT_VERSION`] of the tracker that made the store.
    pub layout: u32,
    /// The number of the store in use: 0 is pinned in the directory itself, others below it.
    pub store: u32,
    /// The object of the programs in use, and how many blocked addresses they have room for.
    pub object: ObjectHash,
    /// A hash of the names of the counters of that object.
    pub counters: u64,
}

impl Identity {
    /// What this tracker makes of an object whose map of blocked addresses has so many words.
    #[must_use]
    pub fn new(object: &[u8], block_words: u32) -> Self {
        let hash = Sha256::new_with_prefix(object).chain_update(block_words.to_le_bytes()).finalize();
        Self { layout: LAYOUT_VERSION, store: 0, object: first(&hash), counters: counters() }
    }

    /// The same with another store.
    #[must_use]
    pub fn with_store(self, store: u32) -> Self {
        Self { store, ..self }
    }

    /// Reads the record that is pinned at `path`.
    ///
    /// # Errors
    /// When it is no such record.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = open(path)?.get(&0, 0).context("cannot read the record IDENTITY")?;
        Self::from_bytes(&bytes).context("the record IDENTITY is not the tracker's")
    }

    /// Writes the record into a new map and pins that.
    pub(super) fn pin(&self, path: &Path) -> anyhow::Result<()> {
        let mut map = Array::<MapData, [u8; BYTES]>::create(1, 0).context("cannot make the map IDENTITY")?;
        map.set(0, self.to_bytes(), 0).context("cannot write the record IDENTITY")?;
        map.pin(path).with_context(|| format!("cannot pin the map IDENTITY as {}", path.display()))
    }

    /// Puts this in the place of the record that is pinned at `path`.
    pub(super) fn replace(&self, path: &Path) -> anyhow::Result<()> {
        open(path)?.set(0, self.to_bytes(), 0).context("cannot write the record IDENTITY")
    }

    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.layout.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.store.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.object);
        bytes[32..40].copy_from_slice(&self.counters.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk()?;
        (*magic == MAGIC).then_some(())?;
        let (layout, rest) = rest.split_first_chunk()?;
        let (store, rest) = rest.split_first_chunk()?;
        let (object, rest) = rest.split_first_chunk()?;
        let counters = rest.first_chunk()?;
        Some(Self {
            layout: u32::from_le_bytes(*layout),
            store: u32::from_le_bytes(*store),
            object: *object,
            counters: u64::from_le_bytes(*counters),
        })
    }
}

fn open(path: &Path) -> anyhow::Result<Array<MapData, [u8; BYTES]>> {
    let map = pinned(path).with_context(|| format!("cannot open {}", path.display()))?;
    let map = MapData::from_fd(map).with_context(|| format!("{} is not a map", path.display()))?;
    let map = Map::from_map_data(map).with_context(|| format!("{} is not the map it should be", path.display()))?;
    ensure!(matches!(map, Map::Array(_)), "{} is not the map it should be", path.display());
    Array::try_from(map).with_context(|| format!("{} is not the map it should be", path.display()))
}

fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash[..N]);
    bytes
}

/// Of the names of the counters, in their order: counters of another object are carried on only if
/// each still counts the same.
fn counters() -> u64 {
    let mut hash = Sha256::new();
    for label in Event::ALL.iter().map(|event| event.label()).chain(Reason::all().map(Reason::label)) {
        hash.update(label);
        hash.update([0]);
    }
    hash.update(COUNTERS.to_le_bytes());
    u64::from_le_bytes(first(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_read_as_it_was_written_and_others_are_not() {
        let identity = Identity::new(b"object", 1);
        let bytes = identity.to_bytes();
        assert_eq!(Identity::from_bytes(&bytes), Some(identity));
        assert_eq!(identity.layout, LAYOUT_VERSION);
        for other in [Identity::new(b"other", 1), Identity::new(b"object", 2)] {
            assert_ne!(other.object, identity.object);
        }
        for at in 0..8 {
            let mut other = bytes;
            other[at] ^= 1;
            assert_eq!(Identity::from_bytes(&other), None);
        }
        for at in 8..40 {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(Identity::from_bytes(&other).expect("ours"), identity, "byte {at}");
        }
    }
}
