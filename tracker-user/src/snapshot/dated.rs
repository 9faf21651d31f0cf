//! A store whose clock shows what it is told: a [`Platform`] that passes everything on to a thread's
//! own, but for the settings, which are a copy, and for what is counted.

use crate::store::Handle;
use tracker_common::{
    admission::table::AccessBucket,
    id::{ChunkId, PartitionId},
    limits::table::LimitSet,
    outcome::{Counter, StoreError},
    platform::{ColdPath, Platform, Step},
    scratch::Scratch,
    settings::Settings,
    store::{
        cold,
        journal::Journal,
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools},
    },
    word::Word,
};

/// What becomes of what the store's code counts.
pub trait Counting {
    /// [`Platform::STOPS_ANYBODY`].
    const STOPS_ANYBODY: bool = false;

    /// Counts, by `handle` where it is the store's business.
    fn count(&self, handle: &Handle, counter: Counter, by: u64);
}

/// A thread's access to the store, with a clock of its own.
pub struct Dated<C> {
    /// The thread's own.
    pub handle: Handle,
    /// Those of the store, but for the minute.
    pub settings: Box<Settings>,
    /// What is counted.
    pub counting: C,
}

impl<C> Dated<C> {
    /// The store's settings and clock, as they are now.
    #[must_use]
    pub fn new(handle: Handle, counting: C) -> Self {
        let this = Self { handle, settings: Box::default(), counting };
        this.look();
        this
    }

    /// Takes over what has become of the store's settings and clock.
    pub fn look(&self) {
        copy(self.handle.store().settings(), &self.settings);
    }

    /// Sets its clock.
    pub fn show(&self, minute: u32) {
        self.settings.minute.store(minute);
    }
}

/// Words of the settings.
const SETTINGS_WORDS: usize = size_of::<Settings>() / size_of::<Word>();

/// Copies all words.
pub fn copy(from: &Settings, to: &Settings) {
    fn words(settings: &Settings) -> &[Word; SETTINGS_WORDS] {
        // SAFETY: a record of nothing but words, of which any value is valid, as its documentation
        // says; its size is a multiple of that of a word and its alignment that of one, since it
        // has fields of that type. Each is read and written as one.
        unsafe { &*std::ptr::from_ref(settings).cast() }
    }
    for (from, to) in words(from).iter().zip(words(to)) {
        to.store(from.load());
    }
}

impl<C: Counting> Platform for Dated<C> {
    const SPIN_LIMIT: Option<u32> = Handle::SPIN_LIMIT;
    const STOPS_ANYBODY: bool = C::STOPS_ANYBODY;

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn scratch(&self) -> Option<&Scratch> {
        self.handle.scratch()
    }

    fn pools(&self) -> Option<&Pools> {
        self.handle.pools()
    }

    fn bucket(&self, number: u32) -> Option<&Bucket> {
        self.handle.bucket(number)
    }

    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.handle.partition(id)
    }

    fn chunk_v4(&self, id: ChunkId) -> Option<&ChunkV4> {
        self.handle.chunk_v4(id)
    }

    fn chunk_v6(&self, id: ChunkId) -> Option<&ChunkV6> {
        self.handle.chunk_v6(id)
    }

    fn access_bucket(&self, number: u32) -> Option<&AccessBucket> {
        self.handle.access_bucket(number)
    }

    fn block_word(&self, number: u32) -> Option<&Word> {
        self.handle.block_word(number)
    }

    fn limit_set(&self, number: u32) -> Option<&LimitSet> {
        self.handle.limit_set(number)
    }

    fn journal(&self) -> Option<&Journal> {
        self.handle.journal()
    }

    fn random(&self, scratch: &Scratch) -> u32 {
        self.handle.random(scratch)
    }

    fn count(&self, counter: Counter, by: u64) {
        self.counting.count(&self.handle, counter, by);
    }

    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S) {
        for turn in 0..turns {
            if !body.step(self, turn) {
                break;
            }
        }
    }

    fn pause(&self, tries: u32) {
        self.handle.pause(tries);
    }

    // One copy of it, and not one wherever it may be needed: half of the time that this takes to
    // compile.
    #[inline(never)]
    fn run_cold(&self, work: ColdPath) -> Result<u32, StoreError> {
        cold::run(work, self)
    }
}
