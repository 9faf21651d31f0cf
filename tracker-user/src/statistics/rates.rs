//! Rates per second over the last seconds, from samples taken once a second.

use super::{PathCounters, http::HttpTotals};
use crate::http::counters::HttpEvent;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tracker_common::outcome::Event;

/// The time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Samples kept: enough to look back a minute.
const SAMPLES: usize = 61;

/// What rates are kept of, all paths together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rate {
    /// BEP 15 connects.
    Connects,
    /// Announces.
    Announces,
    /// Scrapes.
    Scrapes,
    /// Errors and failures told to clients.
    Errors,
    /// Downloads completed.
    Completed,
    /// HTTP connections accepted.
    Connections,
    /// HTTP requests.
    Requests,
    /// Bytes of replies.
    ReplyBytes,
}

impl Rate {
    /// All of them.
    pub const ALL: [Rate; 8] = [
        Rate::Connects,
        Rate::Announces,
        Rate::Scrapes,
        Rate::Errors,
        Rate::Completed,
        Rate::Connections,
        Rate::Requests,
        Rate::ReplyBytes,
    ];

    /// What it is called towards people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rate::Connects => "connects",
            Rate::Announces => "announces",
            Rate::Scrapes => "scrapes",
            Rate::Errors => "errors",
            Rate::Completed => "completed downloads",
            Rate::Connections => "HTTP connections",
            Rate::Requests => "HTTP requests",
            Rate::ReplyBytes => "bytes of replies",
        }
    }

    /// The figure behind each rate.
    #[must_use]
    pub fn figures(paths: &[PathCounters], http: &HttpTotals) -> Figures {
        let sum = |events: &[Event]| {
            paths.iter().flat_map(|path| events.iter().map(|event| path.event(*event))).fold(0, u64::wrapping_add)
        };
        Self::ALL.map(|rate| match rate {
            Rate::Connects => sum(&[Event::Connect4, Event::Connect6]),
            Rate::Announces => sum(&[Event::Announce4, Event::Announce6]),
            Rate::Scrapes => sum(&[Event::Scrape4, Event::Scrape6]),
            Rate::Errors => sum(&[Event::Error4, Event::Error6]),
            Rate::Completed => sum(&[Event::Completed]),
            Rate::Connections => http.engine.event(HttpEvent::Accepted),
            Rate::Requests => http.requests().iter().map(|kind| kind.count).sum(),
            Rate::ReplyBytes => sum(&[Event::ReplyBytes]),
        })
    }
}

/// Figures in the order of [`Rate::ALL`].
pub type Figures = [u64; Rate::ALL.len()];

/// Rates per second in the order of [`Rate::ALL`].
pub type Rates = [f64; Rate::ALL.len()];

/// The samples of the last minute, oldest first.
#[derive(Default)]
pub struct History(VecDeque<(Instant, Figures)>);

impl History {
    /// Adds the present figures.
    pub fn add(&mut self, now: Instant, figures: Figures) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back((now, figures));
    }

    /// Rates between `seconds` ago, or the start if that was later, and now; zeros while there is
    /// nothing to compare with.
    #[must_use]
    pub fn rates(&self, now: Instant, figures: &Figures, seconds: u64) -> Rates {
        let age = |then: &Instant| now.saturating_duration_since(*then).as_secs_f64();
        // Half a second of tolerance: samples are never taken exactly on time.
        let base = self.0.iter().find(|(then, _)| age(then) <= seconds as f64 + 0.5);
        let Some((then, base)) = base.filter(|(then, _)| age(then) > 0.0) else { return Rates::default() };
        std::array::from_fn(|index| figures[index].wrapping_sub(base[index]) as f64 / age(then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_look_back_as_far_as_asked() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut history = History::default();
        assert_eq!(history.rates(start, &[5; 8], 10), Rates::default());
        // 100 a second for a minute and a half, then 200 a second for 10 seconds.
        let mut figure = 0;
        let mut now = start;
        for turn in 0..=100 {
            history.add(now, [figure; 8]);
            now += second;
            figure += if turn < 90 { 100 } else { 200 };
        }
        assert_eq!(history.0.len(), SAMPLES);
        let rates = history.rates(now, &[figure; 8], 10);
        assert!((rates[0] - 200.0).abs() < 0.01, "{rates:?}");
        let rates = history.rates(now, &[figure; 8], 60);
        assert!((rates[7] - 7000.0 / 60.0).abs() < 3.0, "{rates:?}");
    }

    #[test]
    fn the_first_seconds_have_rates_too() {
        let start = Instant::now();
        let mut history = History::default();
        history.add(start, [0; 8]);
        assert_eq!(history.rates(start, &[9; 8], 60), Rates::default());
        assert_eq!(history.rates(start + Duration::from_secs(3), &[9; 8], 60), [3.0; 8]);
    }
}
