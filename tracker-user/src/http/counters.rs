//! Counters of HTTP: a table of events and a table of failures, for the engine and for each site.
//!
//! Each thread has counters of its own, which it alone writes to, without locks. The [`Registry`]
//! knows those of all threads and adds them up on demand. What HTTP has in common with UDP
//! (announces answered, peers stored, …) is counted by [`tracker_common::outcome::Event`] instead.

use super::failure::HttpFailure;
use std::{
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tracker_common::labelled;

/// Something that is counted: an enum made by [`labelled!`].
pub trait Counted: Copy + 'static {
    /// All variants, in the order of their counters.
    const ALL: &'static [Self];

    /// The place of its counter.
    fn index(self) -> usize;

    /// The metric label.
    fn label(self) -> &'static str;

    /// A few words for people.
    fn text(self) -> &'static str;
}

/// Implements [`Counted`] for enums made by [`labelled!`] from 0 on.
macro_rules! counted {
    ($($name:ident),*) => {
        $(impl $crate::http::counters::Counted for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                self.label()
            }

            fn text(self) -> &'static str {
                self.text()
            }
        })*
    };
}
pub(crate) use counted;

labelled! {
    /// Something that happened to a connection.
    HttpEvent from (0) {
        Accepted = "accepted", "connections accepted";
        Ended = "ended", "connections ended";
        Evicted = "evicted", "idle or slow connections closed to make room for others";
        Refused = "refused", "connections refused, because all others were busy";
        IdleTimeout = "idle_timeout", "connections closed because no further request came";
        HeaderTimeout = "header_timeout", "connections closed because a request did not arrive in time";
        WriteTimeout = "write_timeout", "connections closed because a reply was not taken in time";
        AcceptFailed = "accept_failed", "connections that the system could not hand over";
        ReceivedBytes = "received_bytes", "bytes received";
        SentBytes = "sent_bytes", "bytes sent";
        Handshakes = "handshakes", "TLS handshakes done";
        HandshakeFailed = "handshake_failed", "connections closed because the TLS handshake failed";
        HandshakeTimeout = "handshake_timeout", "connections closed because the TLS handshake took too long";
        HandshakeEvicted = "handshake_evicted", "connections closed during the TLS handshake to make room for others";
        HandshakeLimited = "handshake_limited", "connections closed because their client began too many TLS handshakes";
        MemoryExceeded = "indebted", "connections closed because they held most of the memory for all";
    }
}

counted!(HttpEvent, HttpFailure);

/// Counters of one thread, for events `E` and failures `F`. Only that thread writes to them.
pub struct Counters<E, F> {
    counts: Box<[AtomicU64]>,
    kinds: PhantomData<fn(E, F)>,
}

impl<E: Counted, F: Counted> Counters<E, F> {
    fn new() -> Self {
        let counts = (0..E::ALL.len() + F::ALL.len()).map(|_| AtomicU64::new(0)).collect();
        Self { counts, kinds: PhantomData }
    }

    #[inline]
    fn add_at(&self, index: usize, by: u64) {
        // One writer: a load and a store do what a locked addition would.
        let counter = &self.counts[index];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Adds to an event's counter.
    #[inline]
    pub fn add(&self, event: E, by: u64) {
        self.add_at(event.index(), by);
    }

    /// Counts an event.
    #[inline]
    pub fn count(&self, event: E) {
        self.add(event, 1);
    }

    /// Counts a failure.
    #[inline]
    pub fn failure(&self, failure: F) {
        self.add_at(E::ALL.len() + failure.index(), 1);
    }
}

/// The counters of each thread there has been.
type Threads<E, F> = Vec<Arc<Counters<E, F>>>;

/// The counters of all threads. Clones share their contents.
pub struct Registry<E, F>(Arc<Mutex<Threads<E, F>>>);

impl<E, F> Clone for Registry<E, F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E, F> Default for Registry<E, F> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<E: Counted, F: Counted> Registry<E, F> {
    /// Counters for one more thread; what it has counted stays when it ends.
    #[must_use]
    pub fn thread(&self) -> Arc<Counters<E, F>> {
        let counters = Arc::new(Counters::new());
        self.threads().push(counters.clone());
        counters
    }

    /// The counters of all threads, added up.
    #[must_use]
    pub fn sums(&self) -> Sums<E, F> {
        let threads = self.threads();
        let sum = |index: usize| {
            threads.iter().map(|thread| thread.counts[index].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        };
        Sums { counts: (0..E::ALL.len() + F::ALL.len()).map(sum).collect(), kinds: PhantomData }
    }

    fn threads(&self) -> MutexGuard<'_, Threads<E, F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of all threads, added up.
#[derive(Clone, Debug)]
pub struct Sums<E, F> {
    counts: Box<[u64]>,
    kinds: PhantomData<fn(E, F)>,
}

impl<E: Counted, F: Counted> Sums<E, F> {
    /// An event's count.
    #[must_use]
    pub fn event(&self, event: E) -> u64 {
        self.counts[event.index()]
    }

    /// A failure's count.
    #[must_use]
    pub fn failure(&self, failure: F) -> u64 {
        self.counts[E::ALL.len() + failure.index()]
    }
}

/// A count with the metric label and the words for people of what is counted.
#[derive(Clone, Copy, Debug)]
pub struct LabelledCount {
    /// The metric label.
    pub label: &'static str,
    /// A few words for people.
    pub text: &'static str,
    /// The count.
    pub count: u64,
}

impl<E: Counted, F: Counted> Sums<E, F> {
    /// An event's count with its label.
    #[must_use]
    pub fn labelled(&self, event: E) -> LabelledCount {
        LabelledCount { label: event.label(), text: event.text(), count: self.event(event) }
    }

    /// All failures.
    #[must_use]
    pub fn failures(&self) -> Vec<LabelledCount> {
        let labelled =
            |failure: &F| LabelledCount { label: failure.label(), text: failure.text(), count: self.failure(*failure) };
        F::ALL.iter().map(labelled).collect()
    }
}

/// What the engine itself counts.
pub type HttpCounters = Counters<HttpEvent, HttpFailure>;

/// The same of all threads.
pub type HttpRegistry = Registry<HttpEvent, HttpFailure>;

/// The same, added up.
pub type HttpSums = Sums<HttpEvent, HttpFailure>;

impl HttpSums {
    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.event(HttpEvent::Accepted).saturating_sub(self.event(HttpEvent::Ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let registry = HttpRegistry::default();
        for number in 0..2 {
            let thread = registry.thread();
            thread.add(HttpEvent::Accepted, 3);
            thread.count(HttpEvent::Ended);
            thread.add(HttpEvent::SentBytes, number);
            thread.failure(HttpFailure::NotFound);
        }
        let sums = registry.sums();
        assert_eq!(sums.open(), 4);
        assert_eq!(sums.event(HttpEvent::SentBytes), 1);
        assert_eq!(sums.failure(HttpFailure::NotFound), 2);
        assert_eq!(sums.failure(HttpFailure::BodySent), 0);
    }

    #[test]
    fn counters_are_numbered_in_the_order_of_the_list() {
        for (number, event) in HttpEvent::ALL.iter().enumerate() {
            assert_eq!(*event as usize, number);
        }
    }
}
