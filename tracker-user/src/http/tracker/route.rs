//! From the path of a request to what is asked for.
//!
//! Announce URLs live in torrents for decades and outlive the tracker they were made for, so what trackers before this one
//! answered is answered here: `/announce.php`, `/announce/KEY`, `/KEY/announce`, `//announce`, `/announc%65`, opentracker's `/a`
//! and `/?info_hash=…`. Whoever has such a URL makes the one of the scrape by putting `scrape` in the place of `announce` (BEP
//! 48). Keys are not looked at.

use super::query::{nibble, parameters};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An announce.
    Announce,
    /// A scrape, of some torrents or of all.
    Scrape,
    /// The statistics.
    Statistics,
    /// The statistics for Prometheus.
    Metrics,
    /// The root, by somebody who is no BitTorrent client.
    Root,
    /// Nothing there is.
    Unknown,
}

/// Finds out. `path` is still percent-encoded; of `query` it matters only whether a BitTorrent client has written it.
#[inline]
#[must_use]
pub fn route(path: &[u8], query: &[u8]) -> Route {
    match path {
        // What is asked for nearly always.
        b"/announce" => Route::Announce,
        b"/scrape" => Route::Scrape,
        _ => unusual(path, query),
    }
}

#[cold]
fn unusual(path: &[u8], query: &[u8]) -> Route {
    let path = decoded(path);
    let mut segments = path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty());
    let named = segments.clone().find_map(|segment| {
        if begins_with_word(segment, b"announce") {
            Some(Route::Announce)
        } else if begins_with_word(segment, b"scrape") {
            Some(Route::Scrape)
        } else {
            None
        }
    });
    if let Some(route) = named {
        return route;
    }
    match (segments.next(), segments.next()) {
        (None, _) if is_of_a_client(query) => Route::Announce,
        (None, _) => Route::Root,
        (Some(only), None) if only.eq_ignore_ascii_case(b"stats") => Route::Statistics,
        (Some(only), None) if only.eq_ignore_ascii_case(b"metrics") => Route::Metrics,
        (Some(b"a"), None) => Route::Announce,
        (Some(b"sc"), None) => Route::Scrape,
        _ => Route::Unknown,
    }
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

/// Decodes percent-encoding; what is none stays as it is.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        };
        decoded.push(byte);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_and_what_is_none_stays() {
        for (encoded, expected) in [
            ("", ""),
            ("/plain", "/plain"),
            ("%61%6E%6e", "ann"),
            ("%2561", "%61"),
            ("%", "%"),
            ("%6", "%6"),
            ("%6g%g6", "%6g%g6"),
            ("%%61", "%a"),
        ] {
            assert_eq!(decoded(encoded.as_bytes()), expected.as_bytes(), "{encoded}");
        }
    }
}
