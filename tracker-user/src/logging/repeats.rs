//! Lines that repeat. A line is written up to five times in a minute; further ones are counted, and
//! the count is written when the minute is over, so that no fault fills a disk.

use super::Record;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

/// How long a line is remembered after it was first written.
pub const WINDOW: Duration = Duration::from_secs(60);

/// How often it is written in that time.
pub const SHOWN: u32 = 5;

/// How many different lines are remembered. When there are more, further ones are not held back.
const LINES: usize = 512;

/// Lines of the last minute.
#[derive(Default)]
pub struct Repeats {
    hasher: RandomState,
    lines: HashMap<u64, Line>,
    /// When the first of them is over.
    next: Option<Instant>,
}

struct Line {
    begun: Instant,
    shown: u32,
    /// Those that were not, and what they say.
    held: Option<(Record, u64)>,
}

impl Repeats {
    /// Whether a line is to be written.
    pub fn admit(&mut self, record: &Record, now: Instant) -> bool {
        let key = self.hasher.hash_one(record);
        if let Some(line) = self.lines.get_mut(&key) {
            if line.shown < SHOWN {
                line.shown += 1;
                return true;
            }
            line.held.get_or_insert_with(|| (record.clone(), 0)).1 += 1;
            return false;
        }
        if self.lines.len() < LINES {
            self.lines.insert(key, Line { begun: now, shown: 1, held: None });
            self.next.get_or_insert(now + WINDOW);
        }
        true
    }

    /// Lines whose time is over, or all, with how often they were held back. They begin anew.
    pub fn due(&mut self, now: Instant, all: bool) -> Vec<(Record, u64)> {
        if !all && self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let is_over = |line: &Line| all || now.duration_since(line.begun) >= WINDOW;
        let over = self.lines.extract_if(|_, line| is_over(line)).filter_map(|(_, line)| line.held).collect();
        self.next = self.lines.values().map(|line| line.begun + WINDOW).min();
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    fn record(text: &str) -> Record {
        Record::plain(Level::WARN, text)
    }

    #[test]
    fn what_repeats_is_written_five_times_a_minute_and_counted() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let (mut repeats, mut other) = (Repeats::default(), 0);
        let shown = (0..50).filter(|second| repeats.admit(&record("same"), at(*second))).count();
        assert_eq!(shown, 5);
        other += usize::from(repeats.admit(&record("other"), at(50)));
        assert_eq!(other, 1);
        assert!(repeats.due(at(59), false).is_empty());
        assert_eq!(repeats.due(at(60), false), [(record("same"), 45)]);
        assert!(repeats.due(at(61), false).is_empty());
        assert!(repeats.admit(&record("same"), at(62)), "it begins anew");
        // The other one was written once, and nothing is to be said of it.
        assert!(repeats.due(at(110), false).is_empty());
        assert!((0..9).filter(|_| repeats.admit(&record("same"), at(111))).count() == 4);
        assert_eq!(repeats.due(at(112), true), [(record("same"), 5)], "at the end everything is said");
    }

    #[test]
    fn lines_that_differ_anywhere_are_different_lines_and_memory_is_bounded() {
        let (now, mut repeats) = (Instant::now(), Repeats::default());
        let field = |value: &str| Record { fields: vec![("n", value.into())], ..record("same") };
        let shown = (0..100).filter(|n| repeats.admit(&field(&(n / 10).to_string()), now)).count();
        assert_eq!(shown, 50);
        for n in 0..10 * LINES {
            assert!(repeats.admit(&record(&n.to_string()), now));
        }
        assert!(repeats.lines.len() <= LINES);
    }
}
