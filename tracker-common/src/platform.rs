//! What the XDP program and the daemon each have to provide for the code in this crate to run.

use crate::{
    outcome::{Counter, Event, Reason, StoreError},
    scratch::Scratch,
    settings::Settings,
    store::{
        layout::{Bucket, ChunkV4, ChunkV6, Partition, Pools, Swarm},
        lock::Lock,
    },
};

/// The body of a loop; see [`Platform::repeat`].
pub trait Step<M> {
    /// One turn, with its number. False ends the loop.
    fn step(&mut self, memory: &M, turn: u32) -> bool;
}

/// Map elements by number, and the few things that differ between the kernel and a thread of the daemon.
///
/// A handle is used by one core or thread at a time; the elements behind it are shared by all. Numbers that are out of
/// range give `None`: numbers are read from memory that others write, so everybody checks.
pub trait Platform: Sized {
    /// Whether waiting is bounded, and a request that would have to wait longer given up with [`StoreError::Contended`]: in the kernel,
    /// where the daemon can take it over. The daemon itself waits for ever.
    const BOUNDED: bool;

    /// Whether a sample that takes more than one visit is given up ([`crate::store::sample`]): in the program that answers most
    /// announces, where another one can go on. It is shorter by a loop, and by what that takes of its stack.
    const HURRIED: bool = false;

    /// The handle that loop bodies get ([`Platform::repeat`]).
    type Inner: Platform;

    /// The settings record.
    fn settings(&self) -> Option<&Settings>;
    /// The allocators' record.
    fn pools(&self) -> Option<&Pools>;
    /// A bucket of the swarm index.
    fn bucket(&self, number: u32) -> Option<&Bucket>;
    /// A swarm record.
    fn swarm(&self, number: u32) -> Option<&Swarm>;
    /// A partition record.
    fn partition(&self, number: u32) -> Option<&Partition>;
    /// A chunk of IPv4 peers, or a directory node.
    fn chunk_v4(&self, number: u32) -> Option<&ChunkV4>;
    /// A chunk of IPv6 peers.
    fn chunk_v6(&self, number: u32) -> Option<&ChunkV6>;
    /// This core's or thread's own working space.
    fn scratch(&self) -> Option<&Scratch>;
    /// A random number; need not be hard to guess.
    fn random(&self) -> u32;
    /// Adds to a counter.
    fn count(&self, counter: Counter, by: u64);
    /// Calls `body` with 0, 1, … `turns` - 1 until it says false.
    fn repeat<S: Step<Self::Inner>>(&self, turns: u32, body: &mut S);
    /// Called between two tries for a lock.
    fn pause(&self, tries: u32);

    /// Does work that is needed rarely ([`crate::store::cold`]). In the kernel these are functions of their own, with numbers for arguments: the
    /// verifier looks at each once and not on every path that leads to it.
    fn rarely(&self, work: Rare) -> Result<u32, StoreError>;

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
}

/// What to do. The numbers are those of swarms and partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rare {
    /// Store the torrent whose info_hash stands at [`crate::scratch::HASHES_AT`] in the scratch space; the result is its swarm number.
    Create,
    /// Give a family its first partition; the swarm's lock is held. The result of this and of `Split` is 0.
    Found {
        /// [`crate::store::family::Family::TAG`].
        family: u32,
        /// Swarm number.
        swarm: u32,
    },
    /// Give a swarm, of which no lock is held, one partition more if it needs one.
    Split {
        /// [`crate::store::family::Family::TAG`].
        family: u32,
        /// Swarm number.
        swarm: u32,
    },
}

/// Takes a lock, trying as often as this side may.
///
/// # Errors
/// [`StoreError::Contended`].
#[inline(always)]
pub fn acquire<M: Platform>(memory: &M, lock: &Lock) -> Result<(), StoreError> {
    if lock.try_lock() {
        return Ok(());
    }
    let mut spin = Spin { lock, held: 0 };
    while spin.held == 0 {
        memory.repeat(SPINS, &mut spin);
        if M::BOUNDED && spin.held == 0 {
            return Err(StoreError::Contended);
        }
    }
    Ok(())
}

/// How often a lock is tried: about two microseconds in the kernel. The longest work under a lock takes less, unless
/// a thread of the daemon was put to sleep while it held the lock.
const SPINS: u32 = 64;

struct Spin<'l> {
    lock: &'l Lock,
    held: u64,
}

impl<M: Platform> Step<M> for Spin<'_> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        memory.pause(turn + 1);
        self.held = u64::from(self.lock.try_lock());
        self.held == 0
    }
}
