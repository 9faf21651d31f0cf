//! Layouts of the store that were before this one, as far as they can be read: those whose records
//! are what they are now, and which have other settings. Fields of the settings are added in front of
//! the tables of interfaces and addresses, so what was there before stands at both ends.

use super::pins::identity::Identity;
use crate::store::sizes::STORE_MAPS;
use anyhow::{Context as _, bail, ensure};
use memmap2::{MmapOptions, MmapRaw};
use std::{mem::offset_of, os::fd::BorrowedFd};
use tracker_common::{settings::Settings as Current, store::layout::LAYOUT_VERSION, word::Word};

/// A layout that can be read.
struct Layout {
    version: u32,
    /// Bytes of its settings.
    settings: usize,
    /// Its maps. Those that came later are empty for it.
    maps: &'static [&'static str],
}

/// All of them but the current one.
const LAYOUTS: [Layout; 2] = [
    // Without `paused_until` and what stands behind it.
    Layout {
        version: 1,
        settings: 1784,
        maps: &["SETTINGS", "POOLS", "INDEX", "PARTITIONS", "CHUNKS_V4", "CHUNKS_V6", "ACCESS", "JOURNAL"],
    },
    // Without `tell_every` and what stands behind it.
    Layout { version: 2, settings: 2360, maps: &STORE_MAPS },
];

/// Bytes of the tables at the end.
const TABLES: usize = size_of::<Current>() - offset_of!(Current, interfaces);

/// Whether a store of this layout can be taken over.
pub(super) fn is_readable(identity: &Identity) -> bool {
    identity.layout == LAYOUT_VERSION || LAYOUTS.iter().any(|layout| layout.version == identity.layout)
}

/// Whether a store of this layout has this map, which those of today have.
pub(super) fn has_map(identity: &Identity, name: &str) -> bool {
    LAYOUTS.iter().find(|layout| layout.version == identity.layout).is_none_or(|layout| layout.maps.contains(&name))
}

/// Whether the settings of a store of this layout have so many bytes.
pub(super) fn has_settings(identity: &Identity, bytes: usize) -> bool {
    let of = |version| LAYOUTS.iter().find(|layout| layout.version == version).map(|layout| layout.settings);
    if identity.layout == LAYOUT_VERSION { bytes == size_of::<Current>() } else { of(identity.layout) == Some(bytes) }
}

/// The settings of a store of an older layout, in memory that its XDP program works with.
pub(super) struct Settings {
    mapping: MmapRaw,
    length: usize,
}

impl Settings {
    /// Maps the record behind a map.
    pub(super) fn open(version: u32, map: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let Some(layout) = LAYOUTS.iter().find(|layout| layout.version == version) else {
            bail!("layout {version} is not known")
        };
        let length = layout.settings;
        ensure!(length.is_multiple_of(size_of::<Word>()) && length >= TABLES, "settings of {length} bytes");
        let mapping = MmapOptions::new().len(length).map_raw_read_only(&map).context("cannot map SETTINGS")?;
        Ok(Self { mapping, length })
    }

    /// What stands there now, in the current form.
    pub(super) fn read(&self) -> Box<Current> {
        // SAFETY: the mapping begins at a page, has so many words, and lives as long as `self`; they are
        // read one by one, as others write them.
        let words: &[Word] =
            unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().cast(), self.length / size_of::<Word>()) };
        let words: Vec<u64> = words.iter().map(Word::load).collect();
        convert(&words)
    }
}

/// The words of older settings as current ones; what is new is 0.
fn convert(old: &[u64]) -> Box<Current> {
    const WORDS: usize = size_of::<Current>() / size_of::<Word>();
    let settings = Box::<Current>::default();
    // SAFETY: a record of nothing but words, of which any value is valid, as its documentation says;
    // its size is a multiple of that of a word and its alignment that of one.
    let new: &[Word; WORDS] = unsafe { &*std::ptr::from_ref(&*settings).cast() };
    let tables = TABLES / size_of::<Word>();
    let front = old.len().saturating_sub(tables);
    for (word, old) in new.iter().zip(&old[..front]) {
        word.store(*old);
    }
    for (word, old) in new[WORDS - tables..].iter().zip(&old[front..]) {
        word.store(*old);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_layout_1_are_found_at_both_ends() {
        let layout = &LAYOUTS[0];
        let mut words = vec![0; layout.settings / size_of::<Word>()];
        let at = |offset: usize| offset / size_of::<Word>();
        words[at(offset_of!(Current, hash_keys))] = 77;
        words[at(offset_of!(Current, clock_offset))] = 88;
        // The heartbeat, and behind it when the program looked at the time.
        words[at(offset_of!(Current, heartbeat))] = 99 | 111 << 32;
        let tables = words.len() - at(TABLES);
        words[tables] = 5;
        *words.last_mut().expect("some") = 6;
        let settings = convert(&words);
        assert_eq!(settings.hash_keys[0].load(), 77);
        assert_eq!(settings.clock_offset.load(), 88);
        assert_eq!((settings.heartbeat.load(), settings.looked_at.load()), (99, 111));
        assert_eq!(settings.paused_until.load(), 0);
        assert_eq!(settings.interfaces[0][0].load(), 5);
        assert_eq!(settings.listeners_v6[31][2].load(), 6);
    }

    #[test]
    fn layouts_that_are_known_are_read_and_others_are_not() {
        let of = |layout| Identity { layout, ..Identity::new(b"object", 1) };
        assert!(has_map(&of(1), "INDEX") && !has_map(&of(1), "ANOTHER") && has_map(&of(LAYOUT_VERSION), "ANOTHER"));
        assert_eq!(
            [0, 1, 2, LAYOUT_VERSION, LAYOUT_VERSION + 1].map(|layout| is_readable(&of(layout))),
            [false, true, true, true, false]
        );
    }
}
