//! Memory of the store: arrays of elements, in maps of the XDP program or in ordinary memory of
//! this process.

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::{io, marker::PhantomData, ops::Deref, os::fd::BorrowedFd, ptr::NonNull};
use tracker_common::{
    admission::table::AccessBucket,
    limits::table::LimitSet,
    settings::Settings,
    store::{
        journal::Journal,
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
    },
    word::Word,
};

/// Types that a region may be made of.
///
/// # Safety
/// All zero bytes must be a valid value, and every field must be accessible from several threads
/// and processes at once ([`tracker_common::word`]).
pub(super) unsafe trait Element: Sync {}

// SAFETY: all zero bytes are one.
unsafe impl Element for Word {}
// SAFETY: made of words only; all zeros are a table without entries.
unsafe impl Element for AccessBucket {}
// SAFETY: made of words only; all zeros are full buckets of nobody.
unsafe impl Element for LimitSet {}
// SAFETY: made of words only; the types' own documentation says that all zero bytes are valid.
unsafe impl Element for Settings {}
// SAFETY: as above.
unsafe impl Element for Pools {}
// SAFETY: as above.
unsafe impl Element for Journal {}
// SAFETY: as above.
unsafe impl Element for Bucket {}
// SAFETY: as above.
unsafe impl Element for Partition {}
// SAFETY: as above.
unsafe impl Element for ChunkV4 {}
// SAFETY: as above.
unsafe impl Element for ChunkV6 {}

/// An array in memory of its own mapping.
pub(super) struct Region<T> {
    start: NonNull<T>,
    count: u32,
    /// What `start` points into; unmapped when this is dropped, which no reference outlives.
    mapping: MmapRaw,
    element: PhantomData<T>,
}

// SAFETY: a region is nothing but shared references to elements, which are Sync.
unsafe impl<T: Element> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Region<T> {}

impl<T: Element> Region<T> {
    /// Maps `count` elements: of the map behind `map`, or of fresh zero memory.
    pub fn new(map: Option<BorrowedFd<'_>>, count: u32) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(Self::length(count));
        Self::mapped(count, || match map {
            Some(map) => options.map_raw(&map),
            // Pages come into being when they are first written: a big limit costs nothing before
            // it is used.
            None => Ok(options.no_reserve_swap().map_anon()?.into()),
        })
    }

    /// Maps the map behind `map`, which has `count` elements, for reading only. Writing to an
    /// element ends the process.
    pub fn read_only(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        Self::mapped(count, || MmapOptions::new().len(Self::length(count)).map_raw_read_only(&map))
    }

    fn mapped(count: u32, map: impl FnOnce() -> io::Result<MmapRaw>) -> io::Result<Self> {
        if count == 0 {
            return Err(io::Error::other("it has no elements"));
        }
        let mapping = map()?;
        let start = NonNull::new(mapping.as_mut_ptr().cast()).ok_or_else(|| io::Error::other("it is at address 0"))?;
        Ok(Self { start, count, mapping, element: PhantomData })
    }

    /// Asks for pages of 2 MiB where memory is still to be taken. For ordinary memory only.
    pub fn advise_huge_pages(&self) -> io::Result<()> {
        self.mapping.advise(Advice::HugePage)
    }

    /// Bytes of `count` elements.
    pub const fn length(count: u32) -> usize {
        size_of::<T>() * count as usize
    }

    /// The first element, which every region has.
    #[inline(always)]
    pub fn first(&self) -> &T {
        // SAFETY: `new` makes no region without elements; the mapping is page-aligned and lives as
        // long as `self`.
        unsafe { self.start.as_ref() }
    }

    /// All elements.
    pub fn all(&self) -> &[T] {
        // SAFETY: the mapping is page-aligned, lives as long as `self`, and holds `count` elements,
        // which are accessed by word.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count as usize) }
    }

    /// The element of this number.
    #[inline(always)]
    pub fn get(&self, number: u32) -> Option<&T> {
        // SAFETY: the number is in range; the mapping is page-aligned, lives as long as `self`, and
        // holds `count` elements.
        (number < self.count).then(|| unsafe { self.start.add(number as usize).as_ref() })
    }
}

/// The settings record of a tracker that runs in another process.
pub struct SharedSettings(Region<Settings>);

impl SharedSettings {
    /// Maps the record behind a program's map SETTINGS, which may be closed afterwards. Its value
    /// has to be a [`Settings`].
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Region::new(Some(map), 1).map(Self)
    }
}

impl Deref for SharedSettings {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        self.0.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_kept_apart_with_and_without_huge_pages() {
        // More than two huge pages, so that there is one wherever the region begins.
        let count = (6 << 20) / size_of::<Bucket>() as u32;
        for huge in [false, true] {
            let region: Region<Bucket> = Region::new(None, count).expect("6 MiB");
            if huge && let Err(error) = region.advise_huge_pages() {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "a kernel without huge pages: {error}");
            }
            let tags = |number| &region.get(number).expect("in range").header(number).tags[7];
            assert!((0..count).all(|number| tags(number).load() == 0));
            for number in 0..count {
                tags(number).store(u64::from(number) + 1);
            }
            assert!((0..count).all(|number| tags(number).load() == u64::from(number) + 1));
            assert!(region.get(count).is_none());
        }
    }
}
