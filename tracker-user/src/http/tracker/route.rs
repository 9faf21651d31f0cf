//! From the path of a request to what is asked for.
//!
//! Announce URLs live in torrents for decades and outlive the tracker they were made for, so what
//! trackers before this one answered is answered here: `/announce.php`, `/announce/KEY`,
//! `/KEY/announce`, `//announce`, `/announc%65`, opentracker's `/a` and `/?info_hash=…`. A client
//! makes the URL of the scrape from it by putting `scrape` in the place of `announce` (BEP 48).
//! Keys are not looked at.

use crate::http::target::{decoded, parameters, segments};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An announce.
    Announce,
    /// A scrape, of some torrents or of all.
    Scrape,
}

/// Finds out; `None` if it is neither. `path` is still percent-encoded; of `query` it matters only
/// whether a BitTorrent client has written it.
#[inline]
#[must_use]
pub fn route(path: &[u8], query: &[u8]) -> Option<Route> {
    match path {
        // What is asked for nearly always.
        b"/announce" => Some(Route::Announce),
        b"/scrape" => Some(Route::Scrape),
        _ => unusual(path, query),
    }
}

#[cold]
fn unusual(path: &[u8], query: &[u8]) -> Option<Route> {
    let path = decoded(path);
    let mut segments = segments(&path);
    // A client changes the word in the last segment: of /announce-v2/announce it makes
    // /announce-v2/scrape.
    let named = segments.clone().rev().find_map(|segment| {
        if begins_with_word(segment, b"announce") {
            Some(Route::Announce)
        } else if begins_with_word(segment, b"scrape") {
            Some(Route::Scrape)
        } else {
            None
        }
    });
    named.or_else(|| match (segments.next(), segments.next()) {
        (None, _) if is_of_a_client(query) => Some(Route::Announce),
        (Some(b"a"), None) => Some(Route::Announce),
        (Some(b"sc"), None) => Some(Route::Scrape),
        _ => None,
    })
}

/// `announce`, `announce.php` and `Announce;x`, but not `announcement`.
fn begins_with_word(segment: &[u8], word: &[u8]) -> bool {
    segment.split_at_checked(word.len()).is_some_and(|(begin, rest)| {
        begin.eq_ignore_ascii_case(word) && !rest.first().is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// Whether the query has a parameter of announces.
fn is_of_a_client(query: &[u8]) -> bool {
    parameters(query).any(|(key, _)| matches!(key, b"info_hash" | b"peer_id" | b"port"))
}
