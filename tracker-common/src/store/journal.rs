//! What a thread that can be killed at any moment writes down, so that others can bring into order
//! what it leaves behind ([`super::repair`]): which locks it holds, and what it is about to lose
//! track of.
//!
//! A thread of the daemon has a record of its own in memory that survives it. What it writes there
//! concerns nobody while it lives: plain stores to cache lines of its own. XDP programs run to their
//! end and have none; there all of this is nothing ([`crate::platform::Platform::journal`]).
//!
//! * *Locks.* Noted before a lock is tried, and no longer once it was let go of. So who holds a lock
//!   that stays held is found without a look at the store.
//! * *A change of a list* moves peers from slot to slot, and not all words at once. The slots that it
//!   overwrites are kept, with the number of peers: it is undone.
//! * *A change of a swarm record*, which gets a list, a directory or slots instead of what it has:
//!   its words are kept.
//! * *Loose* chunks, nodes and partitions: taken and not yet part of anything, or about to be no
//!   longer. Those that then are part of nothing are given back.
//! * *An exchange with an allocator*, which is one instruction: what it was looks like before.
//! * *A torrent* being entered into the index, or taken out.

mod work;

pub use work::{Counted, Counting, IndexWork};

use crate::{
    id::{PartitionId, SwarmId},
    outcome::IpVersion,
    word::{Word, Word32},
};

/// How many threads can have a journal at the same time.
pub const JOURNALS: u32 = 256;

/// Locks that a thread holds at most: a swarm's and those of two partitions.
pub const LOCKS: usize = 4;

/// Slots that one change of a list overwrites at most.
pub const SLOTS: usize = 3;

/// Loose records at most: the chunks of two partitions, two nodes and a partition.
pub const LOOSE: usize = 32;

/// What a lock belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A bucket of the index, by number.
    Bucket(u32),
    /// A swarm record.
    Swarm(SwarmId),
    /// A partition.
    Partition(PartitionId),
    /// A swarm record with all its partitions: whoever repairs a swarm holds them all.
    Whole(SwarmId),
}

impl Place {
    /// The swarm, if that is what it is, alone or whole.
    #[must_use]
    pub const fn swarm(self) -> Option<SwarmId> {
        match self {
            Self::Swarm(id) | Self::Whole(id) => Some(id),
            Self::Bucket(_) | Self::Partition(_) => None,
        }
    }

    /// The partition, if that is what it is.
    #[must_use]
    pub const fn partition(self) -> Option<PartitionId> {
        match self {
            Self::Partition(id) => Some(id),
            Self::Bucket(_) | Self::Swarm(_) | Self::Whole(_) => None,
        }
    }

    const fn word(self) -> u64 {
        match self {
            Self::Bucket(number) => 1 << 32 | number as u64,
            Self::Swarm(id) => 2 << 32 | id.number() as u64,
            Self::Partition(id) => 3 << 32 | id.number() as u64,
            Self::Whole(id) => 4 << 32 | id.number() as u64,
        }
    }

    const fn from_word(word: u64) -> Option<Self> {
        let number = word as u32;
        match word >> 32 {
            1 => Some(Self::Bucket(number)),
            2 => Some(Self::Swarm(SwarmId::new(number))),
            3 => Some(Self::Partition(PartitionId::new(number))),
            4 => Some(Self::Whole(SwarmId::new(number))),
            _ => None,
        }
    }
}

/// How far a change of a swarm record has to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// All words, the header among them.
    All,
    /// All but the header, as long as that has as many partitions as before. If it has others, the
    /// change was made.
    Entries,
    /// The same; if the header has one partition less, what is missing of the change is done.
    LastEntry,
}

/// What is written down of a family's place: which lock, counted from the outermost, which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which of the locks.
    pub lock: usize,
    /// The family.
    pub version: IpVersion,
    /// How many slots, or what kind of [`Undo`].
    pub detail: u32,
}

impl Kept {
    const fn word(self) -> u64 {
        let version = match self.version {
            IpVersion::V4 => 4,
            IpVersion::V6 => 6,
        };
        version | (self.lock as u64) << 8 | (self.detail as u64) << 16
    }

    const fn from_word(word: u64) -> Option<Self> {
        let version = match word & 0xff {
            4 => IpVersion::V4,
            6 => IpVersion::V6,
            _ => return None,
        };
        Some(Self { lock: (word >> 8) as usize & 0xff, version, detail: (word >> 16) as u32 })
    }
}

/// A kind of allocated records ([`super::allocator::Element::LIMIT`]) and the number of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The kind.
    pub kind: usize,
    /// The number.
    pub number: u32,
}

impl Item {
    const fn word(self) -> u64 {
        (self.kind as u64) << 32 | self.number as u64
    }

    const fn from_word(word: u64) -> Option<Self> {
        if word == 0 { None } else { Some(Self { kind: (word >> 32) as usize, number: word as u32 }) }
    }
}

/// What an exchange with an allocator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A record that was given back is taken.
    Take,
    /// One that was never used is taken.
    TakeFresh,
    /// One is given back.
    GiveBack,
}

/// A thread's record. All zero bytes is one that is free.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Journal {
    /// Not 0: a thread's.
    claimed: Word32,
    depth: Word32,
    locks: [Word; LOCKS],
    list: Word,
    occupancy: Word,
    slots: [[Word; 4]; SLOTS],
    record: Word,
    record_words: [Word; 6],
    exchange: Word,
    /// The head of the allocator's list before the exchange, or its counter.
    before: Word,
    /// The head after it.
    after: Word,
    /// The count of free records.
    pub free: Counting,
    /// Work on the index.
    pub index: IndexWork,
    loose: [Word; LOOSE],
    /// Not 0: `loose` may hold something.
    noted: Word32,
}

const _: () = assert!(size_of::<Journal>() == 576);

impl Journal {
    /// Makes the record a thread's. False if it is one's already.
    #[must_use]
    pub fn claim(&self) -> bool {
        self.claimed.replace(0, 1)
    }

    /// Whether it is a thread's, living or dead.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        self.claimed.load() != 0
    }

    /// Makes the record free: its thread ends and holds nothing, or what it left behind is in order.
    pub fn free(&self) {
        self.list.store(0);
        self.record.store(0);
        self.exchange.store(0);
        self.free.clear();
        self.index.end();
        self.loose.iter().for_each(|word| word.store(0));
        self.noted.store(0);
        self.locks.iter().for_each(|word| word.store(0));
        self.depth.store(0);
        self.claimed.store(0);
    }

    /// Noted before a lock is tried.
    #[inline(always)]
    pub fn enter(&self, place: Place) {
        let depth = self.depth.load();
        if let Some(word) = self.locks.get(depth as usize) {
            word.store(place.word());
        }
        self.depth.store(depth + 1);
    }

    /// Noted before a lock is let go of. With the outermost one all work is done, and nothing may be
    /// left here that is somebody else's by the time that it is read.
    #[inline(always)]
    pub fn close(&self) {
        if self.depth.load() == 1 && self.noted.load() != 0 {
            self.loose.iter().for_each(|word| word.store(0));
            self.noted.store(0);
        }
    }

    /// Noted after the lock was let go of that was tried last.
    #[inline(always)]
    pub fn leave(&self) {
        let depth = self.depth.load().wrapping_sub(1);
        if let Some(word) = self.locks.get(depth as usize) {
            word.store(0);
        }
        self.depth.store(depth);
    }

    /// What belongs to a lock, counted from the outermost.
    #[must_use]
    pub fn lock(&self, number: usize) -> Option<Place> {
        Place::from_word(self.locks.get(number)?.load())
    }

    /// All that has locks that the thread may hold.
    pub fn locks(&self) -> impl Iterator<Item = Place> + '_ {
        (0..LOCKS).filter_map(|number| self.lock(number))
    }

    /// Keeps slots of a list that are going to be overwritten: their numbers in the list, and words.
    #[inline(always)]
    pub fn keep_list(
        &self,
        lock: usize,
        version: IpVersion,
        occupancy: u64,
        slots: impl Iterator<Item = (u32, [u64; 3])>,
    ) {
        let mut count = 0;
        for ((number, words), kept) in slots.zip(&self.slots) {
            kept[3].store(number.into());
            for (word, kept) in words.iter().zip(kept) {
                kept.store(*word);
            }
            count += 1;
        }
        self.occupancy.store(occupancy);
        self.list.store(Kept { lock, version, detail: count }.word());
    }

    /// The list is in order.
    #[inline(always)]
    pub fn list_done(&self) {
        self.list.store(0);
    }

    /// The list that was being changed, its peers before, and the slots.
    pub fn list(&self) -> Option<(Kept, u64, impl Iterator<Item = (u32, [u64; 3])> + '_)> {
        let kept = Kept::from_word(self.list.load())?;
        let slots = self.slots.iter().take(kept.detail as usize);
        let slots = slots.map(|[a, b, c, number]| (number.load() as u32, [a.load(), b.load(), c.load()]));
        Some((kept, self.occupancy.load(), slots))
    }

    /// Keeps the words of a family in a swarm record.
    #[inline(always)]
    pub fn keep_record(&self, lock: usize, version: IpVersion, words: &[Word], undo: Undo) {
        for (word, kept) in words.iter().zip(&self.record_words) {
            kept.store(word.load());
        }
        self.record.store(Kept { lock, version, detail: undo as u32 }.word());
    }

    /// The record is in order.
    #[inline(always)]
    pub fn record_done(&self) {
        self.record.store(0);
    }

    /// The record that was being changed, and the words that it had.
    #[must_use]
    pub fn record(&self) -> Option<(Kept, Undo, [u64; 6])> {
        let kept = Kept::from_word(self.record.load())?;
        let undo = match kept.detail {
            0 => Undo::All,
            1 => Undo::Entries,
            _ => Undo::LastEntry,
        };
        Some((kept, undo, self.record_words.each_ref().map(Word::load)))
    }

    /// Noted before an exchange with an allocator.
    #[inline(always)]
    pub fn exchange(&self, exchange: Exchange, item: Item, before: u64, after: u64) {
        self.exchange.store(0);
        self.before.store(before);
        self.after.store(after);
        self.exchange.store((exchange as u64 + 1) << 48 | item.word());
    }

    /// Noted after it.
    #[inline(always)]
    pub fn exchanged(&self) {
        self.exchange.store(0);
        self.free.clear();
    }

    /// The exchange that was being made, what the allocator looked like before, and after it.
    #[must_use]
    pub fn exchanging(&self) -> Option<(Exchange, Item, u64, u64)> {
        let word = self.exchange.load();
        let exchange = match word >> 48 {
            1 => Exchange::Take,
            2 => Exchange::TakeFresh,
            3 => Exchange::GiveBack,
            _ => return None,
        };
        Some((exchange, Item::from_word(word & ((1 << 48) - 1))?, self.before.load(), self.after.load()))
    }

    /// Notes that a record is, or is going to be, part of nothing.
    #[inline(always)]
    pub fn note(&self, item: Item) {
        if !self.is_loose(item)
            && let Some(free) = self.loose.iter().find(|word| word.load() == 0)
        {
            self.noted.store(1);
            free.store(item.word());
        }
    }

    /// Notes that it is part of something, or given back.
    #[inline(always)]
    pub fn forget(&self, item: Item) {
        self.loose.iter().filter(|word| word.load() == item.word()).for_each(|word| word.store(0));
    }

    /// The same of all records of a kind.
    pub fn forget_all(&self, kind: usize) {
        let of_kind = |word: &&Word| Item::from_word(word.load()).is_some_and(|item| item.kind == kind);
        self.loose.iter().filter(of_kind).for_each(|word| word.store(0));
    }

    /// Whether a record is noted as loose.
    #[must_use]
    pub fn is_loose(&self, item: Item) -> bool {
        self.loose.iter().any(|word| word.load() == item.word())
    }

    /// All that are.
    pub fn loose(&self) -> impl Iterator<Item = Item> + '_ {
        self.loose.iter().filter_map(|word| Item::from_word(word.load()))
    }
}
