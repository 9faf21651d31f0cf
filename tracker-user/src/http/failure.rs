//! Why a request is refused, and how a client is told.
//!
//! The engine refuses what is wrong with the HTTP of a request ([`HttpFailure`]); a site refuses
//! what is wrong with the rest. Both say so by a [`Refusal`], and the
//! [`Binding`](super::binding::Binding) says how one is written.

use tracker_common::labelled;

/// When a client may repeat its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again, always.
    Never,
    /// After so many minutes.
    Minutes(u32),
    /// The client is not told: it does as it sees fit.
    Unspecified,
}

/// What a client is told instead of what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code.
    pub status: u16,
    /// The reason, a sentence.
    pub text: &'static str,
    /// When the client may come back.
    pub retry: Retry,
}

/// Appends the body of the reply that tells of a refusal, and returns the media type of that body.
pub type RefusalFormat = fn(&Refusal, &mut Vec<u8>) -> &'static str;

labelled! {
    /// What the engine refuses without asking a site, or because no site knows the path.
    HttpFailure from (0),
    /// The HTTP status code, and when the client may come back.
    status_and_retry: (u16, Retry) {
        RequestMalformed = "request_malformed", "Malformed HTTP request", (400, Retry::Never);
        RequestIncomplete = "request_incomplete", "HTTP request ended before it was complete", (400, Retry::Unspecified);
        BodySent = "body_sent", "HTTP requests to a tracker have no body", (400, Retry::Never);
        NotFound = "not_found", "No such path", (404, Retry::Never);
        MethodNotAllowed = "method_not_allowed", "Only GET and HEAD are allowed", (405, Retry::Never);
        HeaderTimeout = "header_timeout", "HTTP request took too long to arrive", (408, Retry::Unspecified);
        HeaderTooLarge = "header_too_large", "HTTP request is too large", (431, Retry::Never);
        TooManyConnections = "too_many_connections", "Tracker has too many connections", (503, Retry::Minutes(5));
        ProxyHeaderMalformed = "proxy_header_malformed", "The connection does not begin with a header of the PROXY protocol",
            (400, Retry::Never);
        VersionUnsupported = "version_unsupported", "Only HTTP/1.0 and HTTP/1.1 are spoken here", (505, Retry::Never);
    }
}

impl HttpFailure {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        let (status, retry) = self.status_and_retry();
        Refusal { status, text: self.text(), retry }
    }
}
