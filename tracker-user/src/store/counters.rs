//! Counters. Each thread has its own, so that threads do not wait for each other. They are added up
//! on demand.

use std::sync::atomic::{AtomicU64, Ordering};
use tracker_common::outcome::{COUNTERS, Counter};

/// What a thread counts for: its counters are added up with those of the same set, and shown as a
/// path of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterSet {
    /// UDP sockets.
    Udp,
    /// HTTP.
    Http,
    /// The removal of what has expired.
    Expiry,
    /// What other trackers tell; counted from when there are any.
    Cluster,
}

impl CounterSet {
    /// All of them.
    pub const ALL: &'static [CounterSet] =
        &[CounterSet::Udp, CounterSet::Http, CounterSet::Expiry, CounterSet::Cluster];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            CounterSet::Udp => "udp_socket",
            CounterSet::Http => "http",
            CounterSet::Expiry => "expiry",
            CounterSet::Cluster => "cluster",
        }
    }
}

/// Counters in the order of [`Counter::index`].
pub type Counters = [u64; COUNTERS];

/// Those of several cores together.
#[must_use]
pub fn added_up(cores: &[Counters]) -> Counters {
    let mut sum = [0_u64; COUNTERS];
    for core in cores {
        for (sum, counter) in sum.iter_mut().zip(core) {
            *sum = sum.wrapping_add(*counter);
        }
    }
    sum
}

/// Counters of one thread.
pub(super) struct ThreadCounters([AtomicU64; COUNTERS]);

impl ThreadCounters {
    /// All at zero.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Counts. Only one thread may call this, so a load and a store do what a locked addition
    /// would.
    #[inline(always)]
    pub fn count(&self, counter: Counter, by: u64) {
        if let Some(counter) = self.0.get(counter.index()) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        }
    }

    /// Adds what was counted so far to `sum`.
    pub fn add_to(&self, sum: &mut Counters) {
        for (sum, counter) in sum.iter_mut().zip(&self.0) {
            *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
        }
    }
}
