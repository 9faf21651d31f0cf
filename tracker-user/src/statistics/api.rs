//! What the admin API has counted.

use crate::http::counters::{Counters, Registry, Sums, counted};
use tracker_common::labelled;

labelled! {
    /// A request to the admin API that was answered as asked.
    ApiEvent from (0) {
        Open = "api_open", "requests to the admin API for what everybody may know";
        Read = "api_read", "requests to the admin API that changed nothing";
        Change = "api_change", "requests to the admin API that changed something";
    }
}

labelled! {
    /// Why a request to the admin API is not answered as asked.
    ApiFailure from (0), #[doc = "The status of the response."] status: u16 {
        Malformed = "api_malformed", "The request is not understood", 400;
        TokenMissing = "api_token_missing", "A token is needed", 401;
        TokenWrong = "api_token_wrong", "The token is not the one", 401;
        PeersHidden = "api_peers_hidden", "Peers are not shown", 403;
        NotFound = "api_not_found", "There is no such path", 404;
        NotThere = "api_not_there", "There is no such thing", 404;
        Method = "api_method", "The path has no such method", 405;
        Timeout = "api_timeout", "The request did not come in time", 408;
        Conflict = "api_conflict", "That cannot be done as things are", 409;
        TooLarge = "api_too_large", "The request is too large", 413;
        MediaType = "api_media_type", "The body has to be JSON", 415;
        Invalid = "api_invalid", "What is asked for is not valid", 422;
        Internal = "api_internal", "That has failed", 500;
        Busy = "api_busy", "Too much is asked for at a time", 503;
    }
}

counted!(ApiEvent, ApiFailure);

/// Counters of the admin API in one thread.
pub type ApiCounters = Counters<ApiEvent, ApiFailure>;

/// Those of all threads.
pub type ApiRegistry = Registry<ApiEvent, ApiFailure>;

/// The counters of all threads, added up.
pub type ApiSums = Sums<ApiEvent, ApiFailure>;
