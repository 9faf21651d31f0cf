//! The clock of the store: two words in the settings record, so that neither the XDP program nor a thread has to ask the
//! kernel for the time of each request.
//!
//! It starts at the wall clock's time and then runs by the monotonic clock: a step of the wall clock neither expires all
//! peers nor keeps them for ever, and after a restart it goes on where it would be anyhow.

use crate::{service::Shutdown, store::Store};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracker_common::settings::Settings;

/// Four times a second: connection ids and announce intervals know whole seconds.
const TICK: Duration = Duration::from_millis(250);

/// Writes `second` (since 1970) and the minute it is in.
pub fn set(settings: &Settings, second: u32) {
    settings.second.store(second);
    settings.minute.store(second / 60);
    // Nobody moves it on any more: back to what costs nothing.
    let until = settings.trace_until.load();
    if until != 0 && until < second {
        settings.trace_until.replace(until, 0);
    }
}

/// Runs the clock of `store` in a thread until shutdown. The clock is set when this returns.
///
/// # Errors
/// When no thread can be started.
pub fn start(store: Arc<Store>, shutdown: Shutdown) -> std::io::Result<thread::JoinHandle<()>> {
    let start = Instant::now();
    // A wall clock before 1970 is broken; an hour of it keeps both words from being 0.
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(3600, |time| time.as_secs().max(3600));
    // 32 bits of seconds last until 2106.
    let now = move || (epoch + start.elapsed().as_secs()) as u32;
    set(store.settings(), now());
    thread::Builder::new().name("clock".into()).spawn(move || {
        while !shutdown.has_begun() {
            set(store.settings(), now());
            thread::sleep(TICK);
        }
    })
}
