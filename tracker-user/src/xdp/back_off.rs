//! When to try again: soon at first, then less and less often, as long as attempts fail.

use std::time::{Duration, Instant};

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST: Duration = Duration::from_secs(300);

/// What has worked for this long starts from the first wait when it fails next.
const CALM: Duration = Duration::from_secs(600);

/// Waits that double.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    next: Duration,
    not_before: Option<Instant>,
}

impl BackOff {
    /// Nothing has failed.
    pub const NONE: Self = Self { next: FIRST, not_before: None };

    /// An attempt has failed at `now`. Returns the wait until the next attempt.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let wait = self.next;
        self.not_before = Some(now + wait);
        self.next = (wait * 2).min(LONGEST);
        wait
    }

    /// What has worked since `since` has failed at `now`. Returns the wait until the next attempt.
    pub fn lost(&mut self, since: Instant, now: Instant) -> Duration {
        if now.saturating_duration_since(since) >= CALM {
            *self = Self::NONE;
        }
        self.failed(now)
    }

    /// Whether the next attempt may be made.
    pub fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_begin_anew_after_a_calm() {
        let start = Instant::now();
        let mut back_off = BackOff::NONE;
        assert!(back_off.is_over(start));
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..11 {
            let wait = back_off.lost(now, now);
            assert!(!back_off.is_over(now + wait / 2) && back_off.is_over(now + wait));
            now += wait;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(back_off.lost(now, now + CALM - FIRST), LONGEST, "not calm for long enough");
        assert_eq!(back_off.lost(now, now + CALM), FIRST);
    }
}
