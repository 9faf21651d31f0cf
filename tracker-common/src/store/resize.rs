//! More partitions for a swarm that grows, fewer for one that shrinks.

use super::{
    allocator as pool,
    directory::{belongs, enter, lookup, set_root, strike},
    family::{Family, at},
    layout::{self, PARTITIONS_MAX, Partition, Swarm},
    linear_hash::{address, parent},
    partition::{append, capacity, release, remove, reserve, reserve_one, slot},
};
use crate::{
    outcome::{Event, StoreError},
    platform::{Platform, Step, acquire},
    scratch::Scratch,
};

/// Visits the peers of a partition from the last to the first: counts those who belong to another one, or moves them there.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Move<F> {
    partition: u64,
    /// How many peers it had at first.
    peers: u64,
    /// Who does not belong to this place moves,
    place: u64,
    /// among so many partitions,
    partitions: u64,
    /// to the partition of this number + 1; 0 only counts.
    into: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Platform, F: Family> Step<M> for Move<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else { return false };
        let Some(partition) = memory.partition(self.partition as u32) else { return false };
        let number = (self.peers as u32).wrapping_sub(1).wrapping_sub(turn);
        let Some((words, base)) = slot::<M, F>(memory, partition, number) else { return false };
        let key = F::key_at(words, base);
        if u64::from(address(F::hash(settings, key), self.partitions as u32)) == self.place {
            return true;
        }
        scratch.moving_peers.store(scratch.moving_peers.load() + 1);
        if self.into == 0 {
            return true;
        }
        let Some(into) = memory.partition((self.into - 1) as u32) else { return false };
        let flags = F::flags_at(words, base).load();
        // Those behind it have been looked at already and stay, so it does not matter which of them takes its slot.
        append::<M, F>(memory, into, F::key_at(words, base), flags).is_some()
            && remove::<M, F>(memory, partition, number).is_some()
    }
}

/// Gives a family that outgrew the swarm record its first partition. The swarm's lock is held, and all slots are taken.
///
/// # Errors
/// [`StoreError::MemoryFull`], [`StoreError::Contended`]; nothing is changed then.
#[inline(always)]
pub(super) fn found<M: Platform, F: Family>(memory: &M, swarm: &Swarm, number: u32) -> Result<(), StoreError> {
    let first = pool::take::<M, pool::Partitions>(memory)?;
    let result = match memory.partition(first) {
        Some(partition) => match acquire(memory, &partition.lock) {
            Ok(()) => {
                let result = reserve_one::<M, F>(memory, partition, 0);
                if result.is_ok() {
                    partition.lock.begin_change();
                    partition.owner.store(number + 1);
                    partition.place.store(F::TAG);
                    partition.note_near(swarm.near());
                    if let Some((words, _)) = slot::<M, F>(memory, partition, 0) {
                        for word in 0..F::INLINE * F::WORDS {
                            at(words, word).store(at(F::inline(swarm), word).load());
                        }
                    }
                    partition.peers.store(F::INLINE as u32);
                }
                partition.lock.unlock();
                result
            }
            Err(reason) => Err(reason),
        },
        None => Err(StoreError::Internal),
    };
    if result.is_ok() {
        swarm.lock.begin_change();
        set_root::<F>(swarm, 0, first);
        F::root(swarm).store(layout::root_word(F::INLINE as u32, 1));
        memory.event(Event::Grown);
    } else {
        pool::give_back::<M, pool::Partitions>(memory, first);
    }
    result
}

/// Splits the next partition of a swarm, if the swarm has become too large for those it has. No lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`], [`StoreError::Contended`]. Nothing is changed then.
#[inline(always)]
pub(super) fn split<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
) -> Result<(), StoreError> {
    acquire(memory, &swarm.lock)?;
    let mut result = Ok(());
    let root = F::root(swarm).load();
    let count = layout::root_partitions(root);
    if layout::is_root(root)
        && count < PARTITIONS_MAX
        && layout::root_peers(root) > count.wrapping_mul(F::PER_PARTITION)
        && let Some(old) = lookup::<M, F>(memory, swarm, parent(count), count)
        && let Some(partition) = memory.partition(old)
        && acquire(memory, &partition.lock).is_ok()
    {
        if belongs::<F>(partition, number, parent(count)) {
            result = split_locked::<M, F>(memory, scratch, swarm, number, partition, old, count);
        }
        partition.lock.unlock();
    }
    swarm.lock.unlock();
    if result.is_ok() {
        memory.event(Event::Split);
    }
    result
}

#[inline(always)]
fn split_locked<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    partition: &Partition,
    old: u32,
    count: u32,
) -> Result<(), StoreError> {
    let peers = partition.peers.load();
    let mut body = Move::<F> {
        partition: u64::from(old),
        peers: u64::from(peers),
        place: u64::from(parent(count)),
        partitions: u64::from(count + 1),
        into: 0,
        family: core::marker::PhantomData,
    };
    scratch.moving_peers.store(0);
    memory.repeat(peers, &mut body);
    let moving = scratch.moving_peers.load();
    let new = pool::take::<M, pool::Partitions>(memory)?;
    let Some(target) = memory.partition(new) else { return Err(StoreError::Internal) };
    // An old number of it may be around, hence the lock.
    let result = match acquire(memory, &target.lock) {
        Ok(()) => {
            let mut result = reserve::<M, F>(memory, scratch, new, 0, moving);
            if result.is_ok() {
                result = enter::<M, F>(memory, swarm, count, new);
                if result.is_err() {
                    release::<M, F>(memory, new, moving, 0);
                }
            }
            if result.is_ok() {
                target.lock.begin_change();
                target.owner.store(number + 1);
                target.place.store(F::TAG | count);
                target.note_near(partition.near());
                target.peers.store(0);
                partition.lock.begin_change();
                body.into = u64::from(new) + 1;
                memory.repeat(peers, &mut body);
                release::<M, F>(memory, old, peers, partition.peers.load());
                F::root(swarm).add(1);
            }
            target.lock.unlock();
            result
        }
        Err(reason) => Err(reason),
    };
    if result.is_err() {
        pool::give_back::<M, pool::Partitions>(memory, new);
    }
    result
}

/// Removes the last partition of a swarm: its peers go to the one it was split from. The swarm's lock is held. False if that
/// was not possible.
pub(super) fn merge<M: Platform, F: Family>(memory: &M, scratch: &Scratch, swarm: &Swarm, number: u32) -> bool {
    let count = layout::root_partitions(F::root(swarm).load());
    if count < 2 {
        return false;
    }
    let last = count - 1;
    let find = |place| {
        let part = lookup::<M, F>(memory, swarm, place, count)?;
        Some((part, memory.partition(part)?))
    };
    let (Some((into, target)), Some((from, source))) = (find(parent(last)), find(last)) else { return false };
    if acquire(memory, &target.lock).is_err() {
        return false;
    }
    let merged = acquire(memory, &source.lock).is_ok() && {
        let merged = merge_locked::<M, F>(memory, scratch, swarm, (into, target), (from, source), last);
        source.lock.unlock();
        merged
    };
    target.lock.unlock();
    if merged {
        pool::give_back::<M, pool::Partitions>(memory, from);
    }
    debug_assert!(!merged || !belongs::<F>(source, number, last));
    merged
}

fn merge_locked<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    (into, target): (u32, &Partition),
    (from, source): (u32, &Partition),
    last: u32,
) -> bool {
    let (there, moving) = (target.peers.load(), source.peers.load());
    if there + moving > capacity::<F>() || reserve::<M, F>(memory, scratch, into, there, there + moving).is_err() {
        return false;
    }
    target.lock.begin_change();
    source.lock.begin_change();
    target.note_near(source.near());
    F::root(swarm).add(1_u64.wrapping_neg());
    for number in 0..moving {
        if let Some((words, base)) = slot::<M, F>(memory, source, number) {
            let _there_is_room =
                append::<M, F>(memory, target, F::key_at(words, base), F::flags_at(words, base).load());
        }
    }
    source.owner.store(0);
    source.peers.store(0);
    release::<M, F>(memory, from, moving, 0);
    strike::<M, F>(memory, swarm, last);
    true
}

/// Brings the few peers of a family with one partition back into the swarm record, whose lock is held, if they fit.
pub(super) fn dissolve<M: Platform, F: Family>(memory: &M, swarm: &Swarm, number: u32) {
    let Some(part) = lookup::<M, F>(memory, swarm, 0, 1) else { return };
    let Some(partition) = memory.partition(part) else { return };
    if acquire(memory, &partition.lock).is_err() {
        return;
    }
    let peers = partition.peers.load();
    let fits = belongs::<F>(partition, number, 0) && peers as usize <= F::INLINE;
    if fits {
        swarm.lock.begin_change();
        partition.lock.begin_change();
        swarm.note_near(partition.near());
        let inline = F::inline(swarm);
        for word in inline {
            word.store(0);
        }
        for number in 0..peers {
            if let Some((words, base)) = slot::<M, F>(memory, partition, number) {
                let flags = F::flags_at(words, base).load();
                F::occupy(inline, number as usize * F::WORDS, F::key_at(words, base), flags);
            }
        }
        partition.owner.store(0);
        partition.peers.store(0);
        release::<M, F>(memory, part, peers, 0);
    }
    partition.lock.unlock();
    if fits {
        pool::give_back::<M, pool::Partitions>(memory, part);
    }
}
