//! The core that runs the program, as the store's algorithms are given it.

use crate::maps::{COUNTERS, Counts};
use core::ptr::NonNull;
use tracker_common::outcome::StoreError;

/// The core that runs the program.
pub(crate) struct Kernel {
    /// This core's counters; `None` where they are looked up each time, because few or none are
    /// counted.
    counters: Option<NonNull<Counts>>,
}

impl Kernel {
    /// For programs, which count: looks the counters up once.
    #[inline(always)]
    pub(crate) fn new() -> Result<Self, StoreError> {
        match COUNTERS.get_ptr_mut(0) {
            Some(counters) => Ok(Self { counters: NonNull::new(counters) }),
            None => Err(StoreError::Internal),
        }
    }

    /// For functions and loop bodies that count rarely.
    #[inline(always)]
    pub(crate) const fn without_counters() -> Self {
        Self { counters: None }
    }

    #[inline(always)]
    pub(crate) fn add(&self, index: usize, by: u64) {
        let counters = match self.counters {
            Some(counters) => counters.as_ptr(),
            None => match COUNTERS.get_ptr_mut(0) {
                Some(counters) => counters,
                None => return,
            },
        };
        // SAFETY: both callers have an index below COUNTER_COUNT; nobody else writes this core's
        // element.
        unsafe {
            let place = counters.cast::<u64>().add(index);
            place.write(place.read().wrapping_add(by));
        }
    }
}
