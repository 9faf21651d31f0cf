//! Layouts of the store that were before this one, as far as they can be read: those whose records
//! are what they are now, but for whose peers they are, and which have other settings. In layout 1 the
//! bits for that were upper ones of the minute; as a copy leaves them out, nobody notices. Fields of the settings are added in front of
//! the tables of interfaces and addresses, so what was there before stands at both ends.

use super::pins::identity::Identity;
use crate::store::sizes::{STORE_MAPS, Sizes};
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

/// Whether settings are those of a store of these sizes, or of one that was not used yet: whoever made it
/// was killed at once.
pub(super) fn belong(settings: &Current, sizes: &Sizes) -> bool {
    let said = [&settings.index_buckets, &settings.access_buckets]
        .into_iter()
        .chain(&settings.pool_limits[1..])
        .map(tracker_common::word::Word32::load);
    let there = [sizes.index_buckets, sizes.access_buckets, sizes.partitions, sizes.chunks_v4, sizes.chunks_v6];
    said.clone().eq(there) || said.eq([0; 5])
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
    fn fields_of_older_layouts_stand_where_they_stood() {
        // (layout that has it, bytes in front of it there, and now)
        let rows = [
            (1, 0, offset_of!(Current, second)),
            (1, 8, offset_of!(Current, connection_key)),
            (1, 24, offset_of!(Current, hash_keys)),
            (1, 120, offset_of!(Current, interval)),
            (1, 144, offset_of!(Current, index_buckets)),
            (1, 148, offset_of!(Current, pool_limits)),
            (1, 176, offset_of!(Current, trace_until)),
            (1, 184, offset_of!(Current, trace_wanted)),
            (1, 208, offset_of!(Current, access_key)),
            (1, 224, offset_of!(Current, max_peers_per_address)),
            (1, 232, offset_of!(Current, clock_offset)),
            (1, 244, offset_of!(Current, looked_at)),
            (2, 248, offset_of!(Current, paused_until)),
            (2, 264, offset_of!(Current, creations_per_address)),
            (2, 272, offset_of!(Current, limits)),
            (2, 296, offset_of!(Current, limit_mask_v6)),
            (2, 312, offset_of!(Current, exempt_v4)),
            (2, 568, offset_of!(Current, exempt_v6)),
        ];
        for (version, before, now) in rows {
            assert_eq!(before, now, "a field of layout {version}");
            let layout = LAYOUTS.iter().find(|layout| layout.version == version).expect("it is known");
            assert!(before < layout.settings - TABLES, "in front of the tables");
        }
        // Thirty-two interfaces, IPv4 and IPv6 listeners.
        assert_eq!(TABLES, 32 * 16 + 32 * 8 + 32 * 24);
        assert_eq!(LAYOUTS.map(|layout| layout.settings - TABLES), [248, 824]);
    }

    #[test]
    fn settings_belong_to_a_store_of_their_sizes_or_to_one_that_was_never_used() {
        let sizes = Sizes {
            index_buckets: 1,
            swarms: 2,
            partitions: 3,
            chunks_v4: 4,
            chunks_v6: 5,
            access_buckets: 6,
            block_words: 7,
        };
        let settings = |fields: [u32; 6]| {
            let settings = Box::<Current>::default();
            settings.index_buckets.store(fields[0]);
            settings.access_buckets.store(fields[5]);
            settings.pool_limits.iter().zip(&fields[1..5]).for_each(|(limit, field)| limit.store(*field));
            settings
        };
        for (fields, expected) in [
            ([1, 2, 3, 4, 5, 6], true),
            // Fewer torrents than there is room for.
            ([1, 1, 3, 4, 5, 6], true),
            ([0; 6], true),
            ([0, 2, 3, 4, 5, 6], false),
            ([2, 2, 3, 4, 5, 6], false),
            ([1, 2, 4, 4, 5, 6], false),
            ([1, 2, 3, 5, 5, 6], false),
            ([1, 2, 3, 4, u32::MAX, 6], false),
            ([1, 2, 3, 4, 5, 0], false),
        ] {
            assert_eq!(belong(&settings(fields), &sizes), expected, "{fields:?}");
        }
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
