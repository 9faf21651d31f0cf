//! What is noted of numbers that are changed in one instruction, and of work on the index.

use crate::{id::InfoHash, word::Word32};

/// A number that is changed by one, in one instruction. If a thread is killed there, what it was
/// before tells whether that has happened, unless others have changed it as well.
#[repr(C)]
#[derive(Default)]
pub struct Counting {
    stage: Word32,
    before: Word32,
}

/// What is known of a number that was to be changed, and the mark that was given to the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Nothing was to be changed.
    Nothing,
    /// It was to be changed.
    Begun(u32),
    /// It was changed.
    Done,
    /// A change was to be taken back.
    Undone(u32),
}

impl Counting {
    #[inline(always)]
    fn note(&self, stage: u32, number: &Word32, mark: u32) {
        self.before.store(number.load());
        self.stage.store(stage | mark << 8);
    }

    /// Noted before the change of a number.
    #[inline(always)]
    pub fn begin(&self, number: &Word32, mark: u32) {
        self.note(1, number, mark);
    }

    /// Noted after it.
    #[inline(always)]
    pub fn done(&self) {
        self.stage.store(2);
    }

    /// Noted before it is taken back.
    #[inline(always)]
    pub fn undo(&self, number: &Word32, mark: u32) {
        self.note(3, number, mark);
    }

    /// Nothing is to be changed.
    #[inline(always)]
    pub fn clear(&self) {
        self.stage.store(0);
    }

    /// What is known.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let stage = self.stage.load();
        match stage & 0xff {
            1 => Counted::Begun(stage >> 8),
            2 => Counted::Done,
            3 => Counted::Undone(stage >> 8),
            _ => Counted::Nothing,
        }
    }

    /// Whether the number is what it was before the change.
    #[must_use]
    pub fn is_as_before(&self, number: &Word32) -> bool {
        number.load() == self.before.load()
    }
}

/// Work on the index.
#[repr(C)]
#[derive(Default)]
pub struct IndexWork {
    /// [`IndexWork::CREATE`], [`IndexWork::REMOVE`] or [`IndexWork::UNLINKED`]; 0 for none.
    pub stage: Word32,
    info_hash: [Word32; 5],
    /// In how many buckets, from its home on, the torrent was counted as passed, or is no longer.
    pub passed: Word32,
    /// In how many of these that was taken back.
    pub undone: Word32,
    /// The count of the bucket that is being passed, marked with its place among them.
    pub passing: Counting,
    /// The number of swarms.
    pub swarms: Counting,
}

impl IndexWork {
    /// A torrent is being entered.
    pub const CREATE: u32 = 1;
    /// A torrent is being taken out.
    pub const REMOVE: u32 = 2;
    /// It was taken out, and is still counted.
    pub const UNLINKED: u32 = 3;

    /// Noted before the first change.
    pub fn begin(&self, stage: u32, info_hash: &InfoHash) {
        self.passed.store(0);
        self.undone.store(0);
        self.passing.clear();
        self.swarms.clear();
        for (word, bytes) in self.info_hash.iter().zip(info_hash.as_chunks::<4>().0) {
            word.store(u32::from_le_bytes(*bytes));
        }
        self.stage.store(stage);
    }

    /// Noted after the last one.
    #[inline(always)]
    pub fn end(&self) {
        self.stage.store(0);
    }

    /// The torrent.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        let mut info_hash = [0; 20];
        for (bytes, word) in info_hash.as_chunks_mut::<4>().0.iter_mut().zip(&self.info_hash) {
            *bytes = word.load().to_le_bytes();
        }
        info_hash
    }
}
