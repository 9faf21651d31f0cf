//! The store of a tracker that runs in another process, or whose maps are pinned: mapped for
//! reading only, so that whatever looks at it cannot disturb it.

use super::{
    Store,
    region::{Element, Region},
    sizes::Sizes,
};
use anyhow::{Context as _, ensure};
use std::{os::fd::BorrowedFd, sync::Mutex};
use tracker_common::settings::Settings;

/// A map of a loaded program.
#[derive(Clone, Copy, Debug)]
pub struct StoreMap<'f> {
    /// Its file descriptor; may be closed when the store has been mapped.
    pub file: BorrowedFd<'f>,
    /// How many elements it has.
    pub elements: u32,
    /// Bytes of each.
    pub element_bytes: u32,
}

impl Store {
    /// Maps a store that somebody else has made. `map` gives the map of a name
    /// ([`Sizes::regions`]). Writing to it ends this process: it is for looking at alone.
    ///
    /// # Errors
    /// When a map is missing, has elements of another size, or cannot be mapped.
    pub fn observe<'f>(map: impl Fn(&str) -> anyhow::Result<StoreMap<'f>>) -> anyhow::Result<Self> {
        fn region<'f, T: Element>(
            map: &impl Fn(&str) -> anyhow::Result<StoreMap<'f>>,
            name: &str,
        ) -> anyhow::Result<(Region<T>, u32)> {
            let map = map(name)?;
            ensure!(
                map.element_bytes as usize == size_of::<T>(),
                "{name} has elements of {} bytes and not {}: it belongs to a tracker of another version than this {}",
                map.element_bytes,
                size_of::<T>(),
                env!("CARGO_PKG_VERSION")
            );
            let region = Region::read_only(map.file, map.elements)
                .with_context(|| format!("cannot map {name} into memory for reading"))?;
            Ok((region, map.elements))
        }
        let (settings, _): (Region<Settings>, _) = region(&map, "SETTINGS")?;
        let (pools, _) = region(&map, "POOLS")?;
        let (index, index_buckets) = region(&map, "INDEX")?;
        let (partitions, partition_count) = region(&map, "PARTITIONS")?;
        let (chunks_v4, chunk_count_v4) = region(&map, "CHUNKS_V4")?;
        let (chunks_v6, chunk_count_v6) = region(&map, "CHUNKS_V6")?;
        let (access, access_buckets) = region(&map, "ACCESS")?;
        // Neither of them is looked at, and blocked addresses are the program's.
        let limits = Region::new(None, 1).context("cannot take memory")?;
        let blocks = Region::new(None, 1).context("cannot take memory")?;
        // Not looked at, and no map of the XDP program's own.
        let journals = Region::new(None, 1).context("cannot take memory")?;
        let sizes = Sizes {
            index_buckets,
            swarms: settings.first().pool_limits[0].load(),
            partitions: partition_count,
            chunks_v4: chunk_count_v4,
            chunks_v6: chunk_count_v6,
            access_buckets,
            block_words: 1,
        };
        let counters = Mutex::default();
        Ok(Self {
            changes: super::Changes::default(),
            settings,
            pools,
            index,
            partitions,
            chunks_v4,
            chunks_v6,
            access,
            blocks,
            limits,
            journals,
            sizes,
            counters,
        })
    }
}
