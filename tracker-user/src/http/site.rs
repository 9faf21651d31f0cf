//! What the engine asks for replies: a site, which knows paths and bodies and nothing of
//! connections.

use super::{
    proxy::Visitor,
    request::{Encoding, Request},
};
use bytes::Bytes;
use std::{io, pin::Pin, sync::Arc, time::Duration};

pub use super::failure::{Refusal, RefusalFormat, Retry};

/// Media type of text for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// The reply to a request.
pub enum Answer {
    /// The body is what the site has written.
    Body {
        /// Its media type.
        content_type: &'static str,
    },
    /// The same with header lines of the site's own.
    Document {
        /// Its media type.
        content_type: &'static str,
        /// Whole lines, each with its end.
        lines: &'static str,
    },
    /// The client is sent to another path of this host.
    Redirect {
        /// That path.
        location: &'static str,
    },
    /// The request is not answered as asked.
    Refused(Refusal),
    /// The body is made piece by piece while it is sent.
    Stream {
        /// Its media type.
        content_type: &'static str,
        /// How it is compressed.
        encoding: Encoding,
        /// Whole header lines, each with its end.
        lines: &'static str,
        /// What makes it; `None` for a HEAD.
        stream: Option<Box<dyn Stream>>,
    },
}

impl Answer {
    /// A body in pieces, compressed as the client likes it.
    #[must_use]
    pub fn encoded(content_type: &'static str, request: &Request<'_>, stream: Option<Box<dyn Stream>>) -> Self {
        Self::Stream { content_type, encoding: request.encoding, lines: "Vary: Accept-Encoding\r\n", stream }
    }
}

/// A site, as one thread has it.
pub trait Site {
    /// Answers a request; `None` if the path is none of this site's. `body` is empty, and what is
    /// written there is sent with [`Answer::Body`] only.
    fn respond(&mut self, request: &Request<'_>, visitor: &Visitor, body: &mut Vec<u8>) -> Option<Answer>;

    /// Bytes of replies, with their heads, that were made for the clients of this site's listeners.
    fn count_reply_bytes(&mut self, _bytes: usize) {}

    /// Called once a second, by the first thread only.
    fn tick(&mut self) {}
}

/// Makes a site for a thread; called in that thread.
pub type MakeSite = Arc<dyn Fn() -> Box<dyn Site> + Send + Sync>;

/// A future in a box: trait objects have no async functions.
pub type Ready<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

/// A body that is made while it is sent.
pub trait Stream {
    /// How long the client may take for all of it.
    fn time_limit(&self) -> Duration;

    /// Waits until the next piece can be made. False if it never can: the connection is closed then.
    fn ready(&mut self) -> Ready<'_>;

    /// The next piece as it is to be sent, which may be empty, and whether it is the last.
    ///
    /// # Errors
    /// When the body cannot be completed; the connection is closed then.
    fn next(&mut self) -> io::Result<(Bytes, bool)>;

    /// Whether it is long, and to be sent as fast as the path allows. The kernel holds no more of
    /// others than of any reply.
    fn is_long(&self) -> bool {
        true
    }

    /// The client has not taken all of it in time.
    fn timed_out(&mut self) {}
}
