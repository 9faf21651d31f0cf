//! The open connections of a thread, and when each has been waiting for too long.
//!
//! What a connection waits for decides how long it may wait. All connections that wait for the same
//! thing stand in one queue. They all may wait equally long, so the queue is in the order of their
//! deadlines: the connection that is overdue, or has been idle for longest, stands at its head. A
//! connection changes queues in constant time, without a timer of its own.

use std::task::Waker;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wait {
    /// For the next request, of which nothing has come yet.
    Idle,
    /// For the rest of a request, or for the first one.
    Reading,
    /// For the client to take what it is sent.
    Writing,
    /// For the client to read an error before the connection is cut.
    Lingering,
    /// For the client to do its part of a TLS handshake.
    Handshake,
}

impl Wait {
    /// All of them.
    pub const ALL: [Wait; 5] = [Wait::Idle, Wait::Reading, Wait::Writing, Wait::Lingering, Wait::Handshake];
}

/// Why a connection is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It has waited too long.
    Timeout,
    /// Other connections need its place or its memory, or the tracker stops.
    Eviction,
}

/// No slot.
const NONE: u32 = u32::MAX;

struct Slot {
    /// `None`: the slot is free, or its connection has been told to end. Either way it is in no
    /// queue.
    wait: Option<Wait>,
    end: Option<EndReason>,
    since: u64,
    waker: Option<Waker>,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
}

/// See the module's text. Times are in milliseconds from any fixed point.
pub struct Deadlines {
    slots: Vec<Slot>,
    /// Free slots.
    free: Vec<u32>,
    queues: [Queue; Wait::ALL.len()],
    waiting: usize,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            queues: [Queue { head: NONE, tail: NONE }; Wait::ALL.len()],
            waiting: 0,
        }
    }
}

impl Deadlines {
    /// Adds a connection and returns its key.
    pub fn enter(&mut self, wait: Wait, now: u64) -> u32 {
        let slot = Slot { wait: None, end: None, since: now, waker: None, previous: NONE, next: NONE };
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key as usize] = slot;
                key
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.link(key, wait, now);
        key
    }

    /// Removes a connection.
    pub fn leave(&mut self, key: u32) {
        self.unlink(key);
        self.slots[key as usize].waker = None;
        self.free.push(key);
    }

    /// From now on the connection waits for `wait`. It keeps its deadline if it has been waiting
    /// for that already, unless `renew` is set.
    pub fn set(&mut self, key: u32, wait: Wait, renew: bool, now: u64) {
        let Some(present) = self.slots[key as usize].wait else { return };
        if present != wait || renew {
            self.unlink(key);
            self.link(key, wait, now);
        }
    }

    /// Why the connection is to end, if it has been told to; if not, `waker` is woken when it is
    /// told.
    pub fn poll_end(&mut self, key: u32, waker: &Waker) -> Option<EndReason> {
        let slot = &mut self.slots[key as usize];
        if slot.end.is_none() {
            match &mut slot.waker {
                Some(parked) => parked.clone_from(waker),
                None => slot.waker = Some(waker.clone()),
            }
        }
        slot.end
    }

    /// Whether a connection has been told to end.
    #[must_use]
    pub fn is_ending(&self, key: u32) -> bool {
        self.slots[key as usize].end.is_some()
    }

    /// Tells a connection to end, and takes it out of its queue.
    pub fn end(&mut self, key: u32, reason: EndReason) {
        self.unlink(key);
        let slot = &mut self.slots[key as usize];
        slot.end = Some(reason);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// The connection that has been waiting for `wait` the longest, if it began at `latest` or
    /// before.
    #[must_use]
    pub fn oldest(&self, wait: Wait, latest: u64) -> Option<u32> {
        let key = self.queues[wait as usize].head;
        self.slots.get(key as usize).filter(|slot| slot.since <= latest).map(|_| key)
    }

    /// Connections that have not been told to end.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether no connection is left, not even one that has been told to end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    fn link(&mut self, key: u32, wait: Wait, now: u64) {
        let queue = &mut self.queues[wait as usize];
        let last = std::mem::replace(&mut queue.tail, key);
        match self.slots.get_mut(last as usize) {
            Some(slot) => slot.next = key,
            None => queue.head = key,
        }
        let slot = &mut self.slots[key as usize];
        slot.wait = Some(wait);
        slot.since = now;
        slot.previous = last;
        slot.next = NONE;
        self.waiting += 1;
    }

    fn unlink(&mut self, key: u32) {
        let slot = &mut self.slots[key as usize];
        let Some(wait) = slot.wait.take() else { return };
        let (previous, next) = (slot.previous, slot.next);
        let queue = &mut self.queues[wait as usize];
        match self.slots.get_mut(previous as usize) {
            Some(slot) => slot.next = next,
            None => queue.head = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.previous = previous,
            None => queue.tail = previous,
        }
        self.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_longest_waiting_stands_first() {
        let mut deadlines = Deadlines::default();
        let [a, b, c] = [1, 2, 3].map(|now| deadlines.enter(Wait::Idle, now));
        assert_eq!(deadlines.oldest(Wait::Idle, 0), None);
        assert_eq!(deadlines.oldest(Wait::Idle, 1), Some(a));
        deadlines.set(a, Wait::Idle, true, 4);
        assert_eq!(deadlines.oldest(Wait::Idle, 4), Some(b));
        deadlines.set(b, Wait::Reading, false, 5);
        deadlines.set(b, Wait::Reading, false, 6);
        assert_eq!(deadlines.oldest(Wait::Reading, 5), Some(b), "the second call renews nothing");
        assert_eq!(deadlines.oldest(Wait::Idle, 4), Some(c));
        deadlines.leave(c);
        assert_eq!(deadlines.oldest(Wait::Idle, 4), Some(a));
        assert_eq!(deadlines.enter(Wait::Writing, 7), c, "the slot is used again");
        assert_eq!(deadlines.waiting(), 3);
    }

    #[test]
    fn an_ending_connection_is_in_no_queue_but_still_there() {
        let mut deadlines = Deadlines::default();
        let key = deadlines.enter(Wait::Reading, 0);
        assert_eq!(deadlines.poll_end(key, Waker::noop()), None);
        deadlines.end(key, EndReason::Eviction);
        assert_eq!(deadlines.oldest(Wait::Reading, u64::MAX), None);
        assert_eq!(deadlines.waiting(), 0);
        assert!(!deadlines.is_empty());
        deadlines.set(key, Wait::Writing, true, 1);
        assert_eq!(deadlines.oldest(Wait::Writing, u64::MAX), None);
        assert_eq!(deadlines.poll_end(key, Waker::noop()), Some(EndReason::Eviction));
        deadlines.leave(key);
        assert!(deadlines.is_empty());
    }

    #[test]
    fn the_queues_agree_with_a_simple_model() {
        let mut deadlines = Deadlines::default();
        let mut model: HashMap<u32, (Wait, u64)> = HashMap::new();
        let mut state = 1_u64;
        for now in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 33) as usize;
            let wait = Wait::ALL[random % 5];
            let keys: Vec<u32> = model.keys().copied().collect();
            match random / 4 % 4 {
                _ if keys.len() < 3 => {
                    let key = deadlines.enter(wait, now);
                    assert_eq!(model.insert(key, (wait, now)), None);
                }
                0 => {
                    let key = deadlines.enter(wait, now);
                    assert_eq!(model.insert(key, (wait, now)), None);
                }
                1 => {
                    let key = keys[random / 16 % keys.len()];
                    deadlines.leave(key);
                    model.remove(&key);
                }
                _ => {
                    let key = keys[random / 16 % keys.len()];
                    let renew = (random / 1024).is_multiple_of(2);
                    deadlines.set(key, wait, renew, now);
                    if let Some(entry) = model.get_mut(&key).filter(|entry| entry.0 != wait || renew) {
                        *entry = (wait, now);
                    }
                }
            }
            for wait in Wait::ALL {
                let oldest = model.iter().filter(|(_, entry)| entry.0 == wait).min_by_key(|(_, entry)| entry.1);
                assert_eq!(deadlines.oldest(wait, u64::MAX), oldest.map(|(key, _)| *key));
            }
            assert_eq!(deadlines.waiting(), model.len());
        }
    }
}
