//! The body of `/events`: server-sent events (HTML Living Standard, 9.2) without an end, as the
//! engine sends it. Who takes them too slowly misses some, and is cut off when one is not taken in
//! the time that any reply has.

use crate::{
    http::site::{Ready, Stream},
    statistics::feed::{Listener, chunk, unchunked},
};
use bytes::Bytes;
use std::{
    io,
    time::{Duration, Instant},
};

/// Media type of the events.
pub const EVENTS: &str = "text/event-stream";

/// Header lines: a proxy is to hold nothing back.
pub const LINES: &str = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";

/// A stream ends after this time, and the browser asks again: so whoever may not listen any more does
/// not.
const LONGEST: Duration = Duration::from_secs(1800);

/// What a stream begins with: when to come again if it ends.
const BEGIN: &[u8] = b"retry: 2000\n\n";

/// See the module's text.
pub struct EventStream {
    listener: Listener,
    chunks: bool,
    begun: Option<Instant>,
}

impl EventStream {
    /// For somebody who knows chunked bodies or does not.
    #[must_use]
    pub fn new(listener: Listener, chunks: bool) -> Self {
        Self { listener, chunks, begun: None }
    }
}

impl Stream for EventStream {
    fn time_limit(&self) -> Duration {
        // The one before it is in order.
        LONGEST + Duration::from_secs(60)
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(async { self.begun.is_none() || self.listener.wait().await })
    }

    fn next(&mut self) -> io::Result<(Bytes, bool)> {
        let chunk = match self.begun {
            Some(begun) if begun.elapsed() > LONGEST => {
                return Ok((Bytes::from_static(if self.chunks { b"0\r\n\r\n" } else { b"" }), true));
            }
            Some(_) => self.listener.latest(),
            None => chunk(BEGIN),
        };
        self.begun.get_or_insert_with(Instant::now);
        Ok((if self.chunks { chunk } else { unchunked(&chunk) }, false))
    }

    fn is_long(&self) -> bool {
        false
    }
}
