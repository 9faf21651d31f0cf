//! The minutes by which the tracker tells ages.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tracker_tests::interrupt;

fn since_epoch() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is set to a time before 1970")
}

/// Minutes since 1970, by which the tracker tells ages.
pub fn minute() -> anyhow::Result<u64> {
    Ok(since_epoch()?.as_secs() / 60)
}

/// When a minute that is to come begins.
pub fn at_minute(minute: u64) -> anyhow::Result<Instant> {
    let from_now = Duration::from_secs(minute * 60).checked_sub(since_epoch()?);
    Ok(Instant::now() + from_now.context("filling took longer than the peer timeout; give a longer --peer-timeout")?)
}

/// Waits for the next minute if less than `needed` is left of this one, so that peers announced one
/// after the other get the same age.
pub fn await_room_in_minute(needed: Duration) -> anyhow::Result<()> {
    let left = Duration::from_secs(60) - Duration::from_nanos((since_epoch()?.as_nanos() % 60_000_000_000) as u64);
    if left < needed && needed < Duration::from_secs(60) {
        eprintln!("waiting {:.0} s for a new minute", left.as_secs_f64());
        // The tracker's clock may be late by a second.
        interrupt::sleep(left + Duration::from_secs(1))?;
    }
    Ok(())
}
