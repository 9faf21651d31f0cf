//! What the XDP program and the daemon each have to provide for the code in this crate to run, and
//! how it is handed down.

use crate::{
    admission::table::AccessBucket,
    bep15::connection_id::IpKey,
    change::Change,
    id::{ChunkId, PartitionId, SwarmId},
    limits::table::{Kind, LimitSet},
    outcome::{Counter, Event, IpVersion, Reason, StoreError},
    scratch::Scratch,
    settings::Settings,
    store::{
        journal::{Journal, Place},
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools, Swarm},
        lock::Lock,
    },
    word::Word,
};

/// The body of a loop; see [`Platform::repeat`].
pub trait Step<P> {
    /// One turn, with its number. False ends the loop.
    fn step(&mut self, platform: &P, turn: u32) -> bool;
}

/// Work that few announces need ([`crate::store::cold`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdPath {
    /// Store the torrent whose info_hash stands at [`crate::scratch::HASHES_AT`] in the scratch
    /// space. The result is its swarm's number.
    CreateTorrent,
    /// Find the torrent whose info_hash stands at this offset of the scratch space. The result is
    /// [`SwarmId::stored`], or 0.
    FindTorrent(u32),
    /// Give a family its first partition, while the swarm's lock is held. The result of this and of
    /// `Split` is 0.
    Promote(IpVersion, SwarmId),
    /// Give a swarm one partition more if it needs one. No lock is held.
    Split(IpVersion, SwarmId),
    /// Find out whether the [requester](Scratch::requester) may have a new torrent while few are
    /// left; the result is 1 if one has been found that is to give way.
    ClaimTorrent,
    /// Remove that torrent. No lock is held. The result is 1 if that is done.
    EvictTorrent,
    /// Find out whether the requester may have a chunk while few are left, and free one if none is.
    /// The locks of swarms and partitions may be held. The result is 0.
    ClaimChunk(IpVersion),
    /// Look for the peer that [`Scratch::excluded_peer`] names, and for others of its address, in
    /// the list of this partition of the swarm ([`PartitionId::RECORD`] for the record itself),
    /// whose lock is held. The result is a [`crate::store::crowd::Place`].
    Crowd(IpVersion, SwarmId, PartitionId),
    /// Find the list of blocked addresses that this one is on, if its page has any. The result is its
    /// number, from 1 on, or 0.
    BlockList(IpKey),
    /// Count a request of the source that stands in [`Scratch::requester`], its address first and then
    /// its version of IP. The result is 1 if it has asked too often.
    Limit(Kind),
    /// Count an error that is told to whoever has shown nothing. The result is 1 if there were too
    /// many in this second.
    Tell,
    /// Find out whether a network card has issued this connection id to this source. The result is 1
    /// if so.
    CardId(IpKey, u64),
    /// Tell other trackers of the announce that was just stored, whose info_hash stands at
    /// [`crate::scratch::HASHES_AT`] and whose peer is [`Scratch::excluded_peer`], if they have to
    /// know of it ([`crate::store::tell`]). The result is 0.
    TellChange(IpVersion),
}

/// The records of the store by number, and the few things that differ between the kernel and a
/// thread of the daemon.
///
/// A platform is used by one core or thread at a time; the records behind it are shared by all.
/// Numbers that are out of range give `None`: numbers are read from memory that others write, so
/// every look-up checks.
pub trait Platform: Sized {
    /// How often a lock is tried before the request is given up with [`StoreError::Contended`].
    /// Limited in the kernel, where the daemon can take the request over; `None` in the daemon,
    /// which waits as long as it takes.
    const SPIN_LIMIT: Option<u32>;

    /// Whether other trackers are told of what is stored by it ([`Platform::tell`]): of what clients
    /// announce, and not of what other trackers have told.
    const TELLS: bool = false;

    /// Whether having the processor bring a record nearer takes it from other cores ([`Word::ask_for`]).
    const ASKING_TAKES: bool = false;

    /// Whether a peer that stops leaves whoever's it is. It does only where the operator says it, who
    /// knows no peer's key.
    const STOPS_ANYBODY: bool = false;

    /// The settings record.
    fn settings(&self) -> Option<&Settings>;
    /// This core's or thread's own scratch space.
    fn scratch(&self) -> Option<&Scratch>;
    /// The allocators' record.
    fn pools(&self) -> Option<&Pools>;
    /// A bucket of the swarm index.
    fn bucket(&self, number: u32) -> Option<&Bucket>;
    /// A partition record.
    fn partition(&self, id: PartitionId) -> Option<&Partition>;
    /// A chunk of IPv4 peers.
    fn chunk_v4(&self, id: ChunkId) -> Option<&ChunkV4>;
    /// A chunk of IPv6 peers.
    fn chunk_v6(&self, id: ChunkId) -> Option<&ChunkV6>;
    /// A bucket of the table of listed torrents.
    fn access_bucket(&self, number: u32) -> Option<&AccessBucket>;
    /// A word of the tables of blocked addresses.
    fn block_word(&self, number: u32) -> Option<&Word>;
    /// A set of the table of what sources have asked for.
    fn limit_set(&self, number: u32) -> Option<&LimitSet>;
    /// A random number; need not be hard to guess. `scratch` is this platform's.
    fn random(&self, scratch: &Scratch) -> u32;
    /// Adds to a counter.
    fn count(&self, counter: Counter, by: u64);
    /// Calls `body` with 0, 1, … `turns` - 1 until it returns false.
    fn repeat<S: Step<Self>>(&self, turns: u32, body: &mut S);
    /// Called between two tries for a lock.
    fn pause(&self, tries: u32);
    /// Does work that is needed rarely. In the kernel these are global functions with numbers for
    /// arguments: the verifier looks at each of them once, and not on every path that leads to it.
    /// On the host it is a call of [`crate::store::cold::run`].
    ///
    /// # Errors
    /// Those of [`crate::store::cold::run`].
    fn run_cold(&self, work: ColdPath) -> Result<u32, StoreError>;

    /// What this thread writes down, because it may be killed at any moment. `None` for what cannot
    /// be, as XDP programs, which run to their end.
    #[inline(always)]
    fn journal(&self) -> Option<&Journal> {
        None
    }

    /// The lock of a place.
    #[inline(always)]
    fn lock(&self, place: Place) -> Option<&Lock> {
        match place {
            Place::Bucket(number) => Some(&self.bucket(number)?.header(number).lock),
            Place::Swarm(id) | Place::Whole(id) => Some(&self.swarm(id)?.lock),
            Place::Partition(id) => Some(&self.partition(id)?.lock),
        }
    }

    /// A swarm record, which lies in a bucket of the index.
    #[inline(always)]
    fn swarm(&self, id: SwarmId) -> Option<&Swarm> {
        let (bucket, place) = id.place();
        self.bucket(bucket)?.swarm(bucket, place)
    }

    /// A directory node: an IPv4 chunk that holds entries instead of peers.
    #[inline(always)]
    fn node(&self, id: ChunkId) -> Option<&ChunkV4> {
        self.chunk_v4(id)
    }

    /// Puts a change where it is sent to other trackers from. False if there is no room.
    #[inline(always)]
    fn tell(&self, _change: &Change) -> bool {
        true
    }

    /// Counts an event.
    #[inline(always)]
    fn event(&self, event: Event) {
        self.count(Counter::Event(event), 1);
    }

    /// Counts a reason.
    #[inline(always)]
    fn reason(&self, reason: impl Into<Reason>) {
        self.count(Counter::Reason(reason.into()), 1);
    }

    /// Takes the lock of a place, trying as often as this platform may.
    ///
    /// # Errors
    /// [`StoreError::Contended`], only where tries are limited.
    #[inline(always)]
    fn acquire(&self, lock: &Lock, place: Place) -> Result<(), StoreError> {
        if let Some(journal) = self.journal() {
            journal.enter(place);
        }
        let result = self.try_long(lock);
        if result.is_err()
            && let Some(journal) = self.journal()
        {
            journal.leave();
        }
        result
    }

    /// Takes the lock of a place if it is free. True if it was.
    #[inline(always)]
    fn try_acquire(&self, lock: &Lock, place: Place) -> bool {
        if let Some(journal) = self.journal() {
            journal.enter(place);
        }
        let taken = lock.try_lock();
        if !taken && let Some(journal) = self.journal() {
            journal.leave();
        }
        taken
    }

    /// Lets go of the lock that was taken last.
    #[inline(always)]
    fn release(&self, lock: &Lock) {
        if let Some(journal) = self.journal() {
            journal.close();
        }
        lock.unlock();
        if let Some(journal) = self.journal() {
            journal.leave();
        }
    }

    /// Takes a lock, trying as often as this platform may, without a note of it.
    ///
    /// # Errors
    /// [`StoreError::Contended`], only where tries are limited.
    #[inline(always)]
    fn try_long(&self, lock: &Lock) -> Result<(), StoreError> {
        if lock.try_lock() {
            return Ok(());
        }
        let mut spin = Spin { lock, held: 0 };
        while spin.held == 0 {
            self.repeat(Self::SPIN_LIMIT.unwrap_or(u32::MAX), &mut spin);
            if Self::SPIN_LIMIT.is_some() && spin.held == 0 {
                return Err(StoreError::Contended);
            }
        }
        Ok(())
    }
}

struct Spin<'l> {
    lock: &'l Lock,
    /// 64 bits wide, as are the fields of all loop bodies: LLVM merges stores to the stack, and the
    /// verifier wants them aligned.
    held: u64,
}

impl<P: Platform> Step<P> for Spin<'_> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        platform.pause(turn + 1);
        self.held = u64::from(self.lock.try_lock());
        self.held == 0
    }
}

/// What every request needs, looked up once and handed down by reference.
pub struct Context<'m, P> {
    /// The records.
    pub platform: &'m P,
    /// The settings record.
    pub settings: &'m Settings,
    /// The scratch space.
    pub scratch: &'m Scratch,
}

impl<'m, P: Platform> Context<'m, P> {
    /// Looks settings and scratch space up.
    ///
    /// # Errors
    /// [`StoreError::Internal`] if one of them is not there.
    #[inline(always)]
    pub fn new(platform: &'m P) -> Result<Self, StoreError> {
        match (platform.scratch(), platform.settings()) {
            (Some(scratch), Some(settings)) => Ok(Self { platform, settings, scratch }),
            _ => Err(StoreError::Internal),
        }
    }

    /// The present minute ([`Settings::minute`]).
    #[inline(always)]
    #[must_use]
    pub fn minute(&self) -> u32 {
        self.settings.minute.load()
    }

    /// A random number; need not be hard to guess.
    #[inline(always)]
    #[must_use]
    pub fn random(&self) -> u32 {
        self.platform.random(self.scratch)
    }

    /// A swarm record with its number.
    #[inline(always)]
    #[must_use]
    pub fn swarm(&self, id: SwarmId) -> Option<SwarmRef<'m>> {
        self.platform.swarm(id).map(|record| SwarmRef { id, record })
    }

    /// A partition record with its number.
    #[inline(always)]
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<PartitionRef<'m>> {
        self.platform.partition(id).map(|record| PartitionRef { id, record })
    }
}

/// A swarm record and its number.
#[derive(Clone, Copy)]
pub struct SwarmRef<'m> {
    /// The number.
    pub id: SwarmId,
    /// The record.
    pub record: &'m Swarm,
}

/// A partition record and its number.
#[derive(Clone, Copy)]
pub struct PartitionRef<'m> {
    /// The number.
    pub id: PartitionId,
    /// The record.
    pub record: &'m Partition,
}
