//! The clock of the store: two words in the settings record, so that no request costs a call to the
//! kernel for the time.
//!
//! The clock starts at the wall clock's time and then follows the monotonic clock. So a step of the
//! wall clock neither expires all peers nor keeps them for ever, and after a restart the clock goes
//! on as if there had been none.

use super::Store;
use crate::service::{Service, Shutdown};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracker_common::settings::Settings;

/// Four times a second: connection ids and announce intervals are in whole seconds.
const TICK: Duration = Duration::from_millis(250);

/// Writes `second` (since 1970) and the minute it is in.
pub fn set(settings: &Settings, second: u32) {
    settings.second.store(second);
    settings.minute.store(second / 60);
    // The tracing process has ended without a word: stop tracing.
    let until = settings.trace_until.load();
    if until != 0 && until < second {
        settings.trace_until.replace(until, 0);
    }
}

/// Moves the clock of a store.
pub struct Clock {
    store: Arc<Store>,
    start: Instant,
    /// The wall clock's seconds since 1970 at `start`.
    epoch: u64,
}

impl Clock {
    /// Sets the clock of `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        // A wall clock before 1970 is broken; an hour of it keeps both words from being 0.
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(3600, |time| time.as_secs().max(3600));
        // That of a store that was taken over never goes back: peers would be from the future.
        let epoch = epoch.max(store.settings().second.load().into());
        let clock = Self { store, start: Instant::now(), epoch };
        clock.tick();
        clock
    }

    fn tick(&self) {
        // 32 bits of seconds last until 2106.
        set(self.store.settings(), (self.epoch + self.start.elapsed().as_secs()) as u32);
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
