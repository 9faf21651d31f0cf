//! The clock of the store: two words in the settings record, so that no request costs a call to the
//! kernel for the time.
//!
//! The clock starts at the wall clock's time and then follows the kernel's monotonic clock. So a step
//! of the wall clock neither expires all peers nor keeps them for ever. What is between the two stands
//! in the settings: the XDP program moves the clock on by it while there is no daemon, and a daemon
//! that takes the store over goes on with it.

use super::Store;
use crate::service::{Service, Shutdown};
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracker_common::settings::Settings;

/// Four times a second: connection ids and announce intervals are in whole seconds.
const TICK: Duration = Duration::from_millis(250);

/// Writes `second` (since 1970) and the minute it is in: for a clock that is set by hand.
pub fn set(settings: &Settings, second: u32) {
    settings.second.store(second);
    settings.minute.store(second / 60);
    settings.heartbeat.store(second);
    end_trace(settings, second);
}

fn end_trace(settings: &Settings, second: u32) {
    // The tracing process has ended without a word: stop tracing.
    let until = settings.trace_until.load();
    if until != 0 && until < second {
        settings.trace_until.replace(until, 0);
    }
}

/// Nanoseconds of the kernel's monotonic clock, which the XDP program reads as well.
#[must_use]
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Moves the clock of a store.
pub struct Clock {
    store: Arc<Store>,
}

impl Clock {
    /// Sets the clock of `store`. One that has been going already, because the store is taken over
    /// from another daemon, goes on as it did.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        let offset = &store.settings().clock_offset;
        if offset.load() == 0 {
            // A wall clock before 1970 is broken; an hour of it keeps both words from being 0.
            let hour = Duration::from_secs(3600);
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(hour, |time| time.max(hour));
            // 64 bits of nanoseconds last until 2554. 0 is no offset.
            offset.store((wall.as_nanos() as u64).wrapping_sub(monotonic()).max(1));
        }
        let clock = Self { store };
        clock.tick();
        clock
    }

    fn tick(&self) {
        let settings = self.store.settings();
        if let Some(second) = settings.clock_at(monotonic()) {
            settings.advance_clock(second);
            settings.heartbeat.store(second);
            end_trace(settings, second);
        }
    }
}

impl Service for Clock {
    fn name(&self) -> String {
        "clock".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        while shutdown.sleep(TICK) {
            self.tick();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sizes::Sizes;

    #[test]
    fn a_clock_that_is_taken_over_goes_on_and_does_not_follow_the_wall_clock() {
        let store = Arc::new(Store::anonymous(&Sizes::SMALLEST).expect("a few pages"));
        let settings = store.settings();
        let _clock = Clock::new(store.clone());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32;
        let first = settings.second.load();
        assert!(wall - first <= 1, "{wall} {first}: by the wall clock at first");
        assert_eq!((settings.minute.load(), settings.heartbeat.load()), (first / 60, first));
        // The daemon before began when the wall clock was a year late.
        let year = 31_536_000;
        settings.clock_offset.store(settings.clock_offset.load() - u64::from(year) * 1_000_000_000);
        for word in [&settings.second, &settings.heartbeat] {
            word.store(first - year - 100);
        }
        settings.minute.store((first - year - 100) / 60);
        let _clock = Clock::new(store.clone());
        let second = settings.second.load();
        assert!(second - (first - year) <= 60, "{second}: on from where it would be");
        assert_eq!((settings.minute.load(), settings.heartbeat.load()), (second / 60, second));
        // Ahead, by whatever fault: it waits and does not go back.
        settings.second.store(second + 1000);
        let _clock = Clock::new(store.clone());
        assert_eq!(settings.second.load(), second + 1000);
    }
}
