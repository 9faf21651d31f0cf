//! What systemd is told, if it has started this process and wants to know: that the start is done,
//! that a reload or the end has begun, and again and again that the tracker lives (`WatchdogSec=`).

use crate::{
    service::{Service, Shutdown},
    store::{Store, clock},
};
use sd_notify::NotifyState;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tracing::debug;
use tracker_common::settings::Settings;

/// How many seconds the clock may stand still. It is set four times a second.
const STANDSTILL: u32 = 10;

/// The start, or a reload, is done.
pub(super) fn ready() {
    tell(sd_notify::notify(&[NotifyState::Ready]));
}

/// The configuration is read again, or another program takes this one's place: [`ready`] follows.
pub(super) fn reloading() {
    tell(NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])));
}

/// The end has begun.
pub(super) fn stopping() {
    tell(sd_notify::notify(&[NotifyState::Stopping]));
}

fn tell(result: io::Result<()>) {
    if let Err(error) = result {
        debug!("cannot tell systemd: {error}");
    }
}

/// Tells systemd that the tracker lives. While it runs, that is so for as long as its clock goes: a
/// process that is stopped, or gets no time, does not set it. Start and end have limits of their own
/// (`TimeoutStartSec=`, `TimeoutStopSec=`), and may take longer than the watchdog's.
#[derive(Clone, Default)]
pub(super) struct Watchdog(Arc<Mutex<Option<Arc<Store>>>>);

impl Watchdog {
    /// The tracker runs from now on, with this store; or, with `None`, does no more.
    pub(super) fn watch(&self, store: Option<Arc<Store>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = store;
    }

    fn lives(&self) -> bool {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().is_none_or(|store| goes(store.settings(), clock::monotonic()))
    }
}

/// Whether the clock of a store goes.
fn goes(settings: &Settings, monotonic: u64) -> bool {
    let now = settings.clock_at(monotonic).unwrap_or_default();
    now.saturating_sub(settings.heartbeat.load()) < STANDSTILL
}

impl Service for Watchdog {
    fn name(&self) -> String {
        "watchdog".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(()) };
        debug!("systemd waits {limit:?} for a sign of life");
        // Twice within the time, as sd_watchdog_enabled(3) says.
        let pause = (limit / 2).max(Duration::from_millis(10));
        loop {
            if self.lives() {
                tell(sd_notify::notify(&[NotifyState::Watchdog]));
            }
            if !shutdown.sleep(pause) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{clock::Clock, sizes::Sizes};

    #[test]
    fn a_tracker_whose_clock_stands_still_gives_no_sign_of_life() {
        let store = Arc::new(Store::anonymous(&Sizes::SMALLEST).expect("a few pages"));
        let watchdog = Watchdog::default();
        assert!(watchdog.lives(), "while it starts");
        let _clock = Clock::new(store.clone());
        watchdog.watch(Some(store.clone()));
        assert!(watchdog.lives());
        let heartbeat = &store.settings().heartbeat;
        // (seconds since the clock was set, whether that is life)
        for (behind, expected) in [(0, true), (STANDSTILL - 2, true), (STANDSTILL + 2, false), (100_000, false)] {
            let now = store.settings().clock_at(clock::monotonic()).expect("it is set");
            heartbeat.store(now - behind);
            assert_eq!(watchdog.lives(), expected, "{behind} s");
        }
        watchdog.watch(None);
        assert!(watchdog.lives(), "while it ends");
    }
}
