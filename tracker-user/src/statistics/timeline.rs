//! The last hour and the last day in memory: how much was asked and how much was stored, every few
//! seconds and every minute. Their size is fixed, whatever happens ([`BYTES`]).

use super::{PathCounters, XDP, advice::Fate};
use crate::store::CounterSet;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tracker_common::outcome::{Event, Reason};

/// Figures per second of one path, in the order of [`Timeline`]'s columns.
pub const KINDS: [&str; 5] = ["connect", "announce", "scrape", "failed", "rejected"];

/// The paths that requests come by.
pub const PATHS: [&str; 3] = [XDP, CounterSet::Udp.label(), CounterSet::Http.label()];

/// What is stored: numbers, and not per second.
const LEVELS: [&str; 6] = ["torrents", "peers_ipv4", "peers_ipv6", "partitions", "chunks_ipv4", "chunks_ipv6"];

/// Figures that are counted: [`KINDS`] of each path, and bytes of replies.
pub const COUNTED: usize = KINDS.len() * PATHS.len() + 1;

/// Columns of the timeline.
pub const COLUMNS: usize = COUNTED + LEVELS.len();

/// Points of the last hour, and how far they are from each other.
const HOUR: (usize, Duration) = (720, Duration::from_secs(5));

/// The same of the last day.
const DAY: (usize, Duration) = (1440, Duration::from_secs(60));

/// What both take.
pub const BYTES: u64 = ((HOUR.0 + DAY.0) * size_of::<Point>()) as u64;

/// Rates are told over this time.
const RECENT: Duration = Duration::from_secs(10);

/// A forecast looks back at least so far: peers come and go.
const FORECAST: Duration = Duration::from_secs(600);

/// Samples are never taken exactly on time.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Counters, in the order of the columns.
pub type Counted = [u64; COUNTED];

/// Numbers, in the order of the columns.
pub type Levels = [u64; LEVELS.len()];

/// A row of the timeline: per second since the point before, and numbers.
pub type Point = [f32; COLUMNS];

/// The name of a column.
#[must_use]
pub fn name(column: usize) -> String {
    let kinds = KINDS.len();
    match column {
        column if column < kinds * PATHS.len() => format!("{}_{}", PATHS[column / kinds], KINDS[column % kinds]),
        column if column < COUNTED => "reply_bytes".into(),
        column => LEVELS[column - COUNTED].into(),
    }
}

/// The counters that columns are made of.
#[must_use]
pub fn counted(paths: &[PathCounters]) -> Counted {
    let mut counted = [0; COUNTED];
    for (number, path) in PATHS.iter().enumerate() {
        let Some(path) = paths.iter().find(|counters| counters.label == *path) else { continue };
        counted[number * KINDS.len()..][..KINDS.len()].copy_from_slice(&kinds(path));
    }
    counted[COUNTED - 1] = paths.iter().map(|path| path.event(Event::ReplyBytes)).fold(0, u64::wrapping_add);
    counted
}

/// What one path has counted of [`KINDS`].
fn kinds(path: &PathCounters) -> [u64; KINDS.len()] {
    let both = |v4, v6| path.event(v4) + path.event(v6);
    [
        both(Event::Connect4, Event::Connect6),
        both(Event::Announce4, Event::Announce6),
        both(Event::Scrape4, Event::Scrape6),
        both(Event::Error4, Event::Error6),
        of_fate(path, Fate::Dropped),
    ]
}

/// Requests of a path that met this fate.
#[must_use]
pub fn of_fate(path: &PathCounters, fate: Fate) -> u64 {
    Reason::all().filter(|reason| Fate::of(*reason) == fate).map(|reason| path.reason(reason)).sum()
}

/// Points at equal distances, oldest first.
pub struct Span {
    step: Duration,
    most: usize,
    points: VecDeque<Point>,
    last: Option<(Instant, Counted)>,
}

impl Span {
    fn new((most, step): (usize, Duration)) -> Self {
        Self { step, most, points: VecDeque::with_capacity(most), last: None }
    }

    /// Adds a point if it is time for one; several alike if the tracker stood still.
    fn add(&mut self, now: Instant, counted: &Counted, levels: &Levels) {
        let Some((then, before)) = &self.last else {
            self.last = Some((now, *counted));
            return;
        };
        let elapsed = now.saturating_duration_since(*then);
        if elapsed + TOLERANCE < self.step {
            return;
        }
        let mut point = [0.0; COLUMNS];
        for (column, (counted, before)) in point.iter_mut().zip(counted.iter().zip(before)) {
            *column = (counted.wrapping_sub(*before) as f64 / elapsed.as_secs_f64()) as f32;
        }
        for (column, level) in point[COUNTED..].iter_mut().zip(levels) {
            *column = *level as f32;
        }
        let steps = (elapsed.as_secs_f64() / self.step.as_secs_f64()).round() as usize;
        for _ in 0..steps.clamp(1, self.most) {
            if self.points.len() == self.most {
                self.points.pop_front();
            }
            self.points.push_back(point);
        }
        self.last = Some((now, *counted));
    }

    /// The distance of two points.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.step
    }

    /// The points, oldest first.
    pub fn points(&self) -> impl ExactSizeIterator<Item = &Point> {
        self.points.iter()
    }
}

/// See the module's text.
pub struct Timeline {
    /// The last hour.
    pub hour: Span,
    /// The last day.
    pub day: Span,
    recent: VecDeque<(Instant, Counted)>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { hour: Span::new(HOUR), day: Span::new(DAY), recent: VecDeque::new() }
    }
}

impl Timeline {
    /// Takes note of the present figures; to be called about once a second.
    pub fn add(&mut self, now: Instant, counted: &Counted, levels: &Levels) {
        self.hour.add(now, counted, levels);
        self.day.add(now, counted, levels);
        while self.recent.front().is_some_and(|(then, _)| now.saturating_duration_since(*then) > RECENT + TOLERANCE) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, *counted));
    }

    /// What was counted per second in the last ten seconds; zeros in the beginning.
    #[must_use]
    pub fn rates(&self, now: Instant, counted: &Counted) -> [f64; COUNTED] {
        let Some((then, before)) = self.recent.front() else { return [0.0; COUNTED] };
        let elapsed = now.saturating_duration_since(*then).as_secs_f64();
        if elapsed <= 0.0 {
            return [0.0; COUNTED];
        }
        std::array::from_fn(|column| counted[column].wrapping_sub(before[column]) as f64 / elapsed)
    }

    /// When something that is counted in a column will reach its limit if it goes on as within the
    /// last hour or the last ten minutes, whichever is slower: a store fills quickly after a start.
    /// `None` if it does not grow, or it is too early to tell.
    #[must_use]
    pub fn full_in(&self, level: &str, used: u64, limit: u64) -> Option<Duration> {
        let column = COUNTED + LEVELS.iter().position(|name| *name == level)?;
        let span = &self.hour;
        let growth = |points: usize| {
            let first = f64::from(span.points[span.points.len() - points][column]);
            (used as f64 - first) / (span.step.as_secs_f64() * points as f64)
        };
        let recent = (FORECAST.as_secs() / span.step.as_secs()) as usize;
        if span.points.len() < recent {
            return None;
        }
        let growth = growth(span.points.len()).min(growth(recent));
        if growth <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(limit.saturating_sub(used) as f64 / growth).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(timeline: &mut Timeline, from: Instant, seconds: u64, per_second: u64) -> Instant {
        let mut now = from;
        let begin = timeline.recent.back().map_or(0, |(_, counted)| counted[1]);
        for second in 0..=seconds {
            now = from + Duration::from_secs(second);
            let mut counted = [0; COUNTED];
            counted[1] = begin + second * per_second;
            timeline.add(now, &counted, &[second; LEVELS.len()]);
        }
        now
    }

    #[test]
    fn columns_have_names_of_their_own() {
        let mut names: Vec<_> = (0..COLUMNS).map(name).collect();
        assert_eq!((names[1].as_str(), names[COUNTED].as_str()), ("xdp_announce", "torrents"));
        assert_eq!(names[COUNTED - 1], "reply_bytes");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), COLUMNS);
    }

    #[test]
    fn an_hour_and_a_day_are_kept_and_no_more() {
        let mut timeline = Timeline::default();
        // (seconds, points of the hour, points of the day)
        let start = Instant::now();
        for (seconds, hour, day) in
            [(4, 0, 0), (5, 1, 0), (59, 11, 0), (60, 12, 1), (3600, 720, 60), (90_000, 720, 1440)]
        {
            timeline = Timeline::default();
            run(&mut timeline, start, seconds, 7);
            assert_eq!((timeline.hour.points.len(), timeline.day.points.len()), (hour, day), "{seconds}");
        }
        let last = timeline.day.points.back().expect("a day");
        assert_eq!((last[0], last[1]), (0.0, 7.0));
        assert!(last[COUNTED] >= 89_900.0, "{last:?}");
    }

    #[test]
    fn a_pause_leaves_no_gap() {
        let mut timeline = Timeline::default();
        let start = Instant::now();
        let end = run(&mut timeline, start, 10, 100);
        let mut counted = [0; COUNTED];
        counted[1] = 1000 + 50 * 30;
        timeline.add(end + Duration::from_secs(30), &counted, &[0; LEVELS.len()]);
        let points: Vec<_> = timeline.hour.points().map(|point| point[1]).collect();
        assert_eq!(points, [100.0, 100.0, 50.0, 50.0, 50.0, 50.0, 50.0, 50.0]);
        // Asleep for a year.
        timeline.add(end + Duration::from_secs(366 * 86_400), &counted, &[0; LEVELS.len()]);
        assert_eq!(timeline.hour.points.len(), 720);
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut timeline = Timeline::default();
        let start = Instant::now();
        assert_eq!(timeline.rates(start, &[5; COUNTED]), [0.0; COUNTED]);
        let end = run(&mut timeline, start, 20, 100);
        let mut counted = [0; COUNTED];
        counted[1] = 2000;
        assert_eq!(timeline.rates(end, &counted)[..3], [0.0, 100.0, 0.0]);
    }

    #[test]
    fn what_grows_will_be_full_and_what_does_not_will_not() {
        let mut timeline = Timeline::default();
        let start = Instant::now();
        run(&mut timeline, start, 500, 1);
        assert_eq!(timeline.full_in("torrents", 500, 1000), None, "too early to tell");
        run(&mut timeline, start + Duration::from_secs(501), 699, 1);
        let forecast = timeline.full_in("torrents", 605, 1205).expect("it grows").as_secs();
        assert!((1100..1300).contains(&forecast), "{forecast}");
        assert_eq!(timeline.full_in("torrents", 5, 1205), None, "it does not grow");
        let mut begun = Timeline::default();
        run(&mut begun, start, 1200, 1);
        for second in 1..=700 {
            begun.add(start + Duration::from_secs(1200 + second), &[0; COUNTED], &[1200; LEVELS.len()]);
        }
        assert_eq!(begun.full_in("torrents", 1200, 2000), None, "it was filled, and stays as it is");
        assert_eq!(timeline.full_in("torrents", 1205, 1205), Some(Duration::ZERO));
        assert_eq!(timeline.full_in("nothing", 1, 2), None);
    }
}
