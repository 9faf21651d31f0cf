//! Log lines: which events become one, how they are written, and what becomes of those that repeat.
//! How the lines get out of the process is `daemon::log`'s business.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@filter`] | which events are wanted, by level and part of the tracker |
//! | [`mod@format`] | a line as text, as JSON, or for the journal |
//! | `record` | an event with its fields |
//! | [`repeats`] | lines that repeat, held back and counted |
//!
//! The journal's own protocol is spoken here and not by `tracing-journald`, whose calls wait for the
//! journal: logging must never stop a thread that answers.

pub mod filter;
pub mod format;
mod record;
pub mod repeats;

pub use filter::Filter;
pub use format::{Destination, Format};
pub use record::Record;

use arc_swap::ArcSwap;
use repeats::Repeats;
use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};
use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::layer::{Context, Layer};

/// What takes a line, and must not wait for anything.
pub type Sink = Box<dyn Fn(Destination, Vec<u8>) + Send + Sync>;

static FILTER: OnceLock<ArcSwap<Filter>> = OnceLock::new();
static LINES: OnceLock<Shared> = OnceLock::new();

struct Shared {
    sink: Sink,
    repeats: Mutex<Repeats>,
}

fn filter() -> &'static ArcSwap<Filter> {
    FILTER.get_or_init(|| ArcSwap::from_pointee(Filter::default()))
}

/// From now on these events become lines; `None` for those that the environment names. It may be
/// called at any time.
pub fn set_filter(wanted: Option<&Filter>) {
    let wanted = wanted.cloned().unwrap_or_else(|| Filter::of_environment().0);
    if **filter().load() != wanted {
        filter().store(wanted.into());
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Has events become lines that `sink` takes. The first call counts.
#[must_use]
pub fn layer(sink: Sink) -> Lines {
    let _ = LINES.set(Shared { sink, repeats: Mutex::default() });
    Lines(())
}

/// A line that is no event, such as the reason for the end.
#[must_use]
pub fn plain(level: Level, text: &str) -> (Destination, Vec<u8>) {
    format::current().encode_plain(&Record::plain(level, text), text)
}

/// A line for standard error, when something is to be said of the log itself.
#[must_use]
pub fn line(level: Level, text: &str) -> Vec<u8> {
    let format = if format::current() == Format::Json { Format::Json } else { Format::Text };
    format.encode(&Record::plain(level, text), 0).1
}

/// Writes how often lines were held back that repeat: of those whose time is over, or of all.
pub fn tell_repeats(all: bool) {
    let Some(lines) = LINES.get() else { return };
    let due = lines.repeats.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now(), all);
    for (record, times) in due {
        lines.write(&record, times);
    }
}

impl Shared {
    fn write(&self, record: &Record, repeated: u64) {
        let (destination, line) = format::current().encode(record, repeated);
        (self.sink)(destination, line);
    }
}

/// Writes events.
pub struct Lines(());

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if filter().load().wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        filter().load().wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter().load().highest())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(lines) = LINES.get() else { return };
        let record = Record::of(event);
        tell_repeats(false);
        let shown = lines.repeats.lock().unwrap_or_else(PoisonError::into_inner).admit(&record, Instant::now());
        if shown {
            lines.write(&record, 0);
        }
    }
}
