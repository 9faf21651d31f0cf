//! The swarm store as the daemon's threads see it: seven regions of memory, each an array of elements, that are either the
//! XDP program's maps or ordinary memory of this process. The algorithms of [`tracker_common::store`] run on both alike.
//!
//! A thread works through a [`Handle`] of its own, which carries what must not be shared: the working space of a request, the
//! state of a random sequence, and counters. Nothing here takes a lock while requests are answered.

use crate::sizes::Sizes;
use anyhow::{Context as _, bail};
use std::{
    cell::Cell,
    io,
    marker::PhantomData,
    ops::Deref,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tracker_common::{
    outcome::{COUNTERS, Counter, StoreError},
    platform::{Platform, Rare, Step},
    scratch::{SCRATCH_BYTES, Scratch},
    settings::Settings,
    store::{
        cold,
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools, Swarm},
    },
};

/// Types that a region may be made of.
///
/// # Safety
/// All zero bytes must be a valid value, and every field must be accessible from several threads and processes at once
/// ([`tracker_common::word`]).
unsafe trait Element: Sync {}

// SAFETY: made of words only; the types' own documentation says that all zero bytes are valid.
unsafe impl Element for Settings {}
// SAFETY: as above.
unsafe impl Element for Pools {}
// SAFETY: as above.
unsafe impl Element for Bucket {}
// SAFETY: as above.
unsafe impl Element for Swarm {}
// SAFETY: as above.
unsafe impl Element for Partition {}
// SAFETY: as above.
unsafe impl Element for ChunkV4 {}
// SAFETY: as above.
unsafe impl Element for ChunkV6 {}

/// An array in memory that came from `mmap`.
struct Region<T> {
    start: NonNull<T>,
    count: u32,
    element: PhantomData<T>,
}

// SAFETY: a region is nothing but shared references to elements, which are Sync.
unsafe impl<T: Element> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Region<T> {}

impl<T: Element> Region<T> {
    /// Maps `count` elements: of the map behind `map`, or of fresh zero memory.
    fn new(map: Option<BorrowedFd<'_>>, count: u32) -> io::Result<Self> {
        let length = Self::length(count);
        let (flags, file) = match map {
            Some(map) => (libc::MAP_SHARED, map.as_raw_fd()),
            // Pages come into being when they are first written: a big limit costs nothing before it is used.
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1),
        };
        // SAFETY: a new mapping at an address of the kernel's choosing touches no memory that is in use.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, file, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))?;
        Ok(Self { start, count, element: PhantomData })
    }

    const fn length(count: u32) -> usize {
        size_of::<T>() * count as usize
    }

    #[inline(always)]
    fn get(&self, number: u32) -> Option<&T> {
        // SAFETY: the number is in range; the mapping is page-aligned, lives as long as `self`, and holds `count` elements.
        (number < self.count).then(|| unsafe { self.start.add(number as usize).as_ref() })
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: this very mapping was made in `new`; references into it borrow `self`, so none is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), size_of::<T>() * self.count as usize) };
    }
}

/// The settings record of a tracker that runs in another process.
pub struct SharedSettings(Region<Settings>);

impl SharedSettings {
    /// Maps the record behind a program's map SETTINGS, which may be closed afterwards. Its value has to be a [`Settings`].
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
        // SAFETY: the region was made with one element.
        unsafe { self.0.start.as_ref() }
    }
}

/// On whose behalf a thread counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// UDP sockets.
    Udp,
    /// HTTP.
    Http,
    /// The removal of what has expired.
    Expiry,
}

impl Path {
    /// All of them.
    pub const ALL: &'static [Path] = &[Path::Udp, Path::Http, Path::Expiry];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Path::Udp => "udp_socket",
            Path::Http => "http",
            Path::Expiry => "expiry",
        }
    }
}

/// Counters in the order of [`Counter::index`].
pub type Counters = [u64; COUNTERS];

type ThreadCounters = [AtomicU64; COUNTERS];

/// The store. Shared by all threads through an [`Arc`]; see [`Store::handle`].
pub struct Store {
    settings: Region<Settings>,
    pools: Region<Pools>,
    index: Region<Bucket>,
    swarms: Region<Swarm>,
    partitions: Region<Partition>,
    chunks_v4: Region<ChunkV4>,
    chunks_v6: Region<ChunkV6>,
    sizes: Sizes,
    counters: Mutex<Vec<(Path, Arc<ThreadCounters>)>>,
}

impl Store {
    /// A store in ordinary memory of this process; memory is taken from the system as it fills.
    ///
    /// # Errors
    /// When the system refuses the address space.
    pub fn anonymous(sizes: &Sizes) -> anyhow::Result<Self> {
        Self::new(sizes, |_| Ok(None))
    }

    /// The store in the maps of a loaded XDP program. `map` gives the file descriptor of the map of that name
    /// ([`Sizes::regions`]); it may be closed afterwards, the mapping keeps the map alive.
    ///
    /// # Errors
    /// When a map is missing or cannot be mapped.
    pub fn from_maps<'a>(sizes: &Sizes, map: impl Fn(&str) -> anyhow::Result<BorrowedFd<'a>>) -> anyhow::Result<Self> {
        Self::new(sizes, |name| map(name).map(Some))
    }

    fn new<'a>(sizes: &Sizes, map: impl Fn(&str) -> anyhow::Result<Option<BorrowedFd<'a>>>) -> anyhow::Result<Self> {
        fn region<'a, T: Element>(
            map: &impl Fn(&str) -> anyhow::Result<Option<BorrowedFd<'a>>>,
            name: &str,
            count: u32,
        ) -> anyhow::Result<Region<T>> {
            if count == 0 {
                bail!("region {name} of the store has no elements");
            }
            Region::new(map(name)?, count)
                .with_context(|| format!("cannot map {name}, {} bytes, into memory", Region::<T>::length(count)))
        }
        let store = Self {
            settings: region(&map, "SETTINGS", 1)?,
            pools: region(&map, "POOLS", 1)?,
            index: region(&map, "INDEX", sizes.index_buckets)?,
            swarms: region(&map, "SWARMS", sizes.swarms)?,
            partitions: region(&map, "PARTITIONS", sizes.partitions)?,
            chunks_v4: region(&map, "CHUNKS_V4", sizes.chunks_v4)?,
            chunks_v6: region(&map, "CHUNKS_V6", sizes.chunks_v6)?,
            sizes: *sizes,
            counters: Mutex::default(),
        };
        let settings = store.settings();
        settings.index_buckets.store(sizes.index_buckets);
        for (limit, size) in
            settings.pool_limits.iter().zip([sizes.swarms, sizes.partitions, sizes.chunks_v4, sizes.chunks_v6])
        {
            limit.store(size);
        }
        Ok(store)
    }

    /// The settings record, read by the XDP program and by every thread.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        // SAFETY: the region was made with one element.
        unsafe { self.settings.start.as_ref() }
    }

    /// The allocators' record.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        // SAFETY: the region was made with one element.
        unsafe { self.pools.start.as_ref() }
    }

    /// How many elements there are of each kind.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// A swarm record, for whoever only reads; `None` if there is none of that number.
    #[must_use]
    pub fn swarm(&self, number: u32) -> Option<&Swarm> {
        self.swarms.get(number)
    }

    /// A handle for one thread, which counts for `path`.
    #[must_use]
    pub fn handle(self: &Arc<Self>, path: Path) -> Handle {
        let counters: Arc<ThreadCounters> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).push((path, counters.clone()));
        Handle {
            store: self.clone(),
            // SAFETY: all zero bytes are a valid `Scratch`, as its documentation says.
            scratch: unsafe { Box::<Scratch>::new_zeroed().assume_init() },
            // Without the system's randomness, the address of the counters tells threads apart; nothing secret hangs on it.
            random: Cell::new(getrandom::u64().unwrap_or(Arc::as_ptr(&counters).addr() as u64)),
            counters,
        }
    }

    /// What the threads have counted so far, added up by path; those of ended threads included.
    #[must_use]
    pub fn counters(&self) -> Vec<(Path, Counters)> {
        let threads = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |path: Path| {
            let mut sum = [0u64; COUNTERS];
            for (_, counters) in threads.iter().filter(|(of, _)| *of == path) {
                for (sum, counter) in sum.iter_mut().zip(counters.iter()) {
                    *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
                }
            }
            (path, sum)
        };
        Path::ALL.iter().copied().map(sum).collect()
    }
}

/// One thread's access to the store: [`Memory`] as the daemon provides it. It can be moved to another thread but not be
/// shared.
pub struct Handle {
    store: Arc<Store>,
    scratch: Box<Scratch>,
    random: Cell<u64>,
    counters: Arc<ThreadCounters>,
}

impl Handle {
    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Appends bytes of this handle's working space (a reply, or the peers of a sample) to `into`.
    ///
    /// False, and nothing is appended, if they do not lie inside the space, which would be a bug of whoever built them.
    #[must_use]
    pub fn copy_out(&self, start: u32, length: u32, into: &mut Vec<u8>) -> bool {
        let inside = start.checked_add(length).is_some_and(|end| end as usize <= SCRATCH_BYTES);
        if inside {
            // SAFETY: inside the space, as just checked. Whoever writes to it holds this handle, which is not shared between
            // threads, and nothing else runs on this thread while the bytes are copied.
            into.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.scratch.bytes().add(start as usize), length as usize)
            });
        }
        inside
    }
}

impl Platform for Handle {
    // Whoever holds a lock is an XDP program, which cannot be put to sleep, or a thread that will be scheduled again.
    const BOUNDED: bool = false;
    type Inner = Self;

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        Some(self.store.settings())
    }

    #[inline(always)]
    fn pools(&self) -> Option<&Pools> {
        Some(self.store.pools())
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<&Bucket> {
        self.store.index.get(number)
    }

    #[inline(always)]
    fn swarm(&self, number: u32) -> Option<&Swarm> {
        self.store.swarms.get(number)
    }

    #[inline(always)]
    fn partition(&self, number: u32) -> Option<&Partition> {
        self.store.partitions.get(number)
    }

    #[inline(always)]
    fn chunk_v4(&self, number: u32) -> Option<&ChunkV4> {
        self.store.chunks_v4.get(number)
    }

    #[inline(always)]
    fn chunk_v6(&self, number: u32) -> Option<&ChunkV6> {
        self.store.chunks_v6.get(number)
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&Scratch> {
        Some(&self.scratch)
    }

    /// wyrand: one multiplication, and no state shared with other threads.
    #[inline(always)]
    fn random(&self) -> u32 {
        let state = self.random.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.random.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        ((product >> 64) ^ product) as u32
    }

    #[inline(always)]
    fn count(&self, counter: Counter, by: u64) {
        // Only this thread writes, so a load and a store do what a locked addition would.
        if let Some(counter) = self.counters.get(counter.index()) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S) {
        for turn in 0..turns {
            if !body.step(self, turn) {
                break;
            }
        }
    }

    #[inline(always)]
    fn rarely(&self, work: Rare) -> Result<u32, StoreError> {
        cold::run(work, self)
    }

    fn pause(&self, tries: u32) {
        // Holders are usually gone within a microsecond; one that is not may be waiting for this very core.
        if tries < 100 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::outcome::Event;

    fn store() -> Arc<Store> {
        let sizes = Sizes { index_buckets: 16, swarms: 3, partitions: 2, chunks_v4: 5, chunks_v6: 4 };
        Arc::new(Store::anonymous(&sizes).expect("a few pages"))
    }

    #[test]
    fn numbers_beyond_the_end_give_nothing() {
        let handle = store().handle(Path::Udp);
        assert!(handle.swarm(2).is_some());
        assert!(handle.swarm(3).is_none());
        assert!(handle.bucket(16).is_none());
        assert!(handle.partition(2).is_none());
        assert!(handle.chunk_v4(5).is_none());
        assert!(handle.chunk_v6(u32::MAX).is_none());
    }

    #[test]
    fn limits_are_in_the_settings() {
        let store = store();
        let settings = store.settings();
        assert_eq!(settings.index_buckets.load(), 16);
        assert_eq!(settings.pool_limits.each_ref().map(|limit| limit.load()), [3, 2, 5, 4]);
    }

    #[test]
    fn counters_of_threads_are_added_up_by_path_and_outlive_them() {
        let store = store();
        for path in [Path::Udp, Path::Udp, Path::Http] {
            let store = store.clone();
            std::thread::spawn(move || store.handle(path).event(Event::Connect4)).join().expect("no panic");
        }
        let index = Counter::Event(Event::Connect4).index();
        let counted: Vec<_> = store.counters().into_iter().map(|(path, sums)| (path, sums[index])).collect();
        assert_eq!(counted, [(Path::Udp, 2), (Path::Http, 1), (Path::Expiry, 0)]);
    }

    #[test]
    fn threads_do_not_share_random_sequences() {
        let store = store();
        let [one, two] = [(); 2].map(|()| store.handle(Path::Udp));
        let draw = |handle: &Handle| -> Vec<u32> { (0..8).map(|_| handle.random()).collect() };
        assert_ne!(draw(&one), draw(&two));
    }

    #[test]
    fn bytes_outside_the_working_space_are_refused() {
        let handle = store().handle(Path::Udp);
        handle.scratch.put(SCRATCH_BYTES - 2, *b"ok");
        let end = SCRATCH_BYTES as u32;
        let mut copied = Vec::new();
        assert!(!handle.copy_out(end - 2, 3, &mut copied));
        assert!(!handle.copy_out(u32::MAX, 2, &mut copied));
        assert!(handle.copy_out(end - 2, 2, &mut copied));
        assert_eq!(copied, b"ok");
    }
}
