//! What others' changes may cost: so many in a second, and so much of a processor's time. Whoever
//! announces here is not to wait for what is announced elsewhere.

use std::time::{Duration, Instant};

/// Budgets are filled up to what there is in this time.
const AHEAD: f64 = 1.0;

/// So many seconds' share may be missing before nothing is done at all: what is read only to be dropped
/// takes time as well.
const BEHIND: f64 = 0.1;

/// What is left of both.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Changes in a second, and what is left of them.
    changes: (f64, f64),
    /// Of a second, and seconds that are left. Below zero if the last work took longer.
    time: (f64, f64),
    filled: Option<Instant>,
}

impl Budget {
    /// So many changes in a second, and so many percent of a processor's time.
    #[must_use]
    pub fn new(changes: u32, percent: u32) -> Self {
        let (changes, share) = (f64::from(changes), f64::from(percent) / 100.0);
        Self { changes: (changes, changes * AHEAD), time: (share, share * AHEAD), filled: None }
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(0.0, |filled| now.saturating_duration_since(filled).as_secs_f64());
        self.filled = Some(now);
        for (rate, left) in [&mut self.changes, &mut self.time] {
            *left = (*left + passed * *rate).min(*rate * AHEAD);
        }
    }

    /// How many of so many changes may be taken now.
    pub fn allow(&mut self, wanted: usize, now: Instant) -> usize {
        if !self.has_time(now) {
            return 0;
        }
        let allowed = wanted.min(self.changes.1 as usize);
        self.changes.1 -= allowed as f64;
        allowed
    }

    /// Whether there is time left.
    pub fn has_time(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.time.1 > 0.0
    }

    /// Whether a change may be taken now.
    pub fn has_room(&mut self, now: Instant) -> bool {
        self.has_time(now) && self.changes.1 >= 1.0
    }

    /// How long nothing is to be done at all, as dropping what comes has taken too long.
    pub fn rest(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let (share, left) = self.time;
        Duration::from_secs_f64((-left / share - BEHIND).max(0.0))
    }

    /// So much time was spent.
    pub fn spend(&mut self, time: Duration) {
        self.time.1 -= time.as_secs_f64();
    }
}

/// The processor's time that this thread has had.
#[must_use]
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_allowed_than_either_budget_has() {
        let begin = Instant::now();
        // Milliseconds since the beginning, changes wanted, changes allowed, milliseconds that these take.
        type Row = (u64, usize, usize, u64);
        let rows: [(&str, u32, u32, &[Row]); 6] = [
            (
                "changes",
                1000,
                50,
                &[(0, 1500, 1000, 10), (0, 1500, 0, 0), (500, 1500, 500, 10), (60_000, 1500, 1000, 10)],
            ),
            (
                "time",
                1_000_000,
                25,
                &[
                    (0, 100, 100, 240),
                    (0, 100, 100, 12),
                    (0, 100, 0, 0),
                    (4, 100, 0, 0),
                    (20, 100, 100, 9),
                    (20, 100, 0, 0),
                ],
            ),
            ("one that took long is made up for", 1_000_000, 50, &[(0, 9, 9, 2500), (3999, 9, 0, 0), (4001, 9, 9, 1)]),
            ("time does not pile up", 1_000_000, 10, &[(0, 9, 9, 1), (90_000, 9, 9, 101), (90_000, 9, 0, 0)]),
            ("a whole processor", 1_000_000, 100, &[(0, 9, 9, 990), (0, 9, 9, 11), (0, 9, 0, 0), (1000, 9, 9, 1000)]),
            ("a clock that goes back", 1000, 50, &[(100, 1000, 1000, 1), (0, 9, 0, 0), (100, 200, 100, 1)]),
        ];
        for (name, changes, percent, rows) in rows {
            let mut budget = Budget::new(changes, percent);
            for (number, (at, wanted, allowed, took)) in rows.iter().enumerate() {
                let now = begin + Duration::from_millis(*at);
                assert_eq!(budget.allow(*wanted, now), *allowed, "{name}, row {number}");
                budget.spend(Duration::from_millis(*took));
            }
        }
    }

    #[test]
    fn a_rest_is_due_when_even_dropping_takes_too_long() {
        let begin = Instant::now();
        // (percent, milliseconds spent, when, rest)
        for (percent, spent, at, rest) in [
            (50, 0, 0, 0),
            (50, 500, 0, 0),
            (50, 540, 0, 0),
            (50, 600, 0, 100),
            (50, 600, 90, 10),
            (50, 600, 200, 0),
            (100, 1200, 0, 100),
            (10, 150, 0, 400),
            (1, 1000, 0, 98_900),
        ] {
            let mut budget = Budget::new(1000, percent);
            assert!(budget.has_room(begin));
            budget.spend(Duration::from_millis(spent));
            let is = budget.rest(begin + Duration::from_millis(at)).as_secs_f64();
            assert!((is - f64::from(rest) / 1000.0).abs() < 0.001, "{percent} %, {spent} ms at {at}: {is}");
        }
        let mut budget = Budget::new(1, 50);
        assert_eq!(budget.allow(7, begin), 1);
        assert!(budget.has_time(begin) && !budget.has_room(begin), "no change is left, but time");
    }

    #[test]
    fn time_is_that_of_this_thread_alone() {
        let before = processor_time();
        let elsewhere = std::thread::spawn(|| {
            let begin = processor_time();
            while processor_time() - begin < Duration::from_millis(50) {}
        });
        elsewhere.join().expect("it ends");
        let between = processor_time();
        assert!(between - before < Duration::from_millis(50), "another thread's: {:?}", between - before);
        while processor_time() == between {}
    }
}
