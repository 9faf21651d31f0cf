//! Which operation a method and a path name. The table is all there is; the description has the same
//! paths and methods, which a test compares.

use crate::{http::target::decoded, statistics::api::ApiEvent};
use hyper::Method;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Whether it is alive.
    Health,
    /// Whether it does all that it is to.
    Ready,
    /// The description of the API.
    Description,
    /// The most important figures.
    Status,
    /// Values that can be changed.
    Limits,
    /// Change them.
    ChangeLimits,
    /// The lists of torrents.
    Lists,
    /// Whether a torrent is on a list.
    Listed,
    /// Put it there.
    List,
    /// Take it off.
    Unlist,
    /// The lists of blocked addresses.
    Blocks,
    /// Whether an address is blocked.
    Blocked,
    /// Block a network.
    Block,
    /// Let it in.
    Unblock,
    /// The largest torrents, or all of them page by page.
    Torrents,
    /// One torrent.
    Torrent,
    /// Remove it.
    RemoveTorrent,
    /// Its peers.
    Peers,
    /// Remove one.
    RemovePeer,
    /// Read the configuration again.
    Reload,
    /// Write a snapshot.
    Snapshot,
    /// Single packets, for some seconds.
    Trace,
}

/// A row of the table.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with parameters in braces, each a segment.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
    /// As what it is counted. What is open takes no token.
    pub kind: ApiEvent,
}

const fn row(method: Method, path: &'static str, operation: Operation, kind: ApiEvent) -> Route {
    Route { method, path, operation, kind }
}

/// All there is.
pub static ROUTES: [Route; 22] = {
    use ApiEvent::{Change, Open, Read};
    const LIMITS: &str = "/api/v1/limits";
    const LISTED: &str = "/api/v1/lists/{list}/{info_hash}";
    const BLOCK: &str = "/api/v1/blocks/{address}/{prefix}";
    const TORRENT: &str = "/api/v1/torrents/{info_hash}";
    [
        row(Method::GET, "/health", Operation::Health, Open),
        row(Method::GET, "/ready", Operation::Ready, Open),
        row(Method::GET, "/openapi.json", Operation::Description, Open),
        row(Method::GET, "/api/v1/status", Operation::Status, Read),
        row(Method::GET, LIMITS, Operation::Limits, Read),
        row(Method::PATCH, LIMITS, Operation::ChangeLimits, Change),
        row(Method::GET, "/api/v1/lists", Operation::Lists, Read),
        row(Method::GET, LISTED, Operation::Listed, Read),
        row(Method::PUT, LISTED, Operation::List, Change),
        row(Method::DELETE, LISTED, Operation::Unlist, Change),
        row(Method::GET, "/api/v1/blocks", Operation::Blocks, Read),
        row(Method::GET, "/api/v1/blocks/{address}", Operation::Blocked, Read),
        row(Method::PUT, BLOCK, Operation::Block, Change),
        row(Method::DELETE, BLOCK, Operation::Unblock, Change),
        row(Method::GET, "/api/v1/torrents", Operation::Torrents, Read),
        row(Method::GET, TORRENT, Operation::Torrent, Read),
        row(Method::DELETE, TORRENT, Operation::RemoveTorrent, Change),
        row(Method::GET, "/api/v1/torrents/{info_hash}/peers", Operation::Peers, Read),
        row(Method::DELETE, "/api/v1/torrents/{info_hash}/peers/{address}/{port}", Operation::RemovePeer, Change),
        row(Method::POST, "/api/v1/reload", Operation::Reload, Change),
        row(Method::POST, "/api/v1/snapshot", Operation::Snapshot, Change),
        row(Method::GET, "/api/v1/trace", Operation::Trace, Read),
    ]
};

/// What a request is for.
#[derive(Debug)]
pub enum Found {
    /// An operation, with the parameters of its path, decoded.
    Operation(&'static Route, Vec<String>),
    /// The path has these methods and not that of the request.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
}

/// Looks a request up. `HEAD` is `GET` without the body.
#[must_use]
pub fn find(method: &Method, path: &str) -> Found {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let mut others: Vec<&str> = Vec::new();
    for route in &ROUTES {
        let Some(parameters) = parameters(route.path, path) else { continue };
        if route.method == *wanted {
            return Found::Operation(route, parameters);
        }
        others.push(route.method.as_str());
        if route.method == Method::GET {
            others.push("HEAD");
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// The parameters of a path, if it is of this form.
fn parameters(form: &str, path: &str) -> Option<Vec<String>> {
    let (mut form, mut path) = (form.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (form.next(), path.next()) {
            (None, None) => return Some(parameters),
            (Some(form), Some(given)) if form.starts_with('{') && !given.is_empty() => {
                parameters.push(String::from_utf8(decoded(given.as_bytes())).ok()?);
            }
            (Some(form), Some(given)) if form == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(method: &str, path: &str) -> String {
        match find(&method.parse().expect("a method"), path) {
            Found::Operation(route, parameters) => format!("{:?} {}", route.operation, parameters.join(" ")),
            Found::OtherMethods(others) => others,
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn paths_and_methods_name_operations() {
        for (method, path, expected) in [
            ("GET", "/health", "Health "),
            ("HEAD", "/health", "Health "),
            ("POST", "/health", "GET, HEAD"),
            ("GET", "/health/", "nothing"),
            ("GET", "//health", "nothing"),
            ("GET", "/", "nothing"),
            ("GET", "", "nothing"),
            ("OPTIONS", "/api/v1/limits", "GET, HEAD, PATCH"),
            ("PATCH", "/api/v1/limits", "ChangeLimits "),
            ("PUT", "/api/v1/lists/deny/aa", "List deny aa"),
            ("PUT", "/api/v1/lists/deny/", "nothing"),
            ("PUT", "/api/v1/lists/deny", "nothing"),
            ("POST", "/api/v1/lists/deny/aa", "GET, HEAD, PUT, DELETE"),
            ("GET", "/api/v1/blocks/2001:db8::1", "Blocked 2001:db8::1"),
            ("GET", "/api/v1/blocks/2001%3Adb8::1", "Blocked 2001:db8::1"),
            ("DELETE", "/api/v1/blocks/192.0.2.0/24", "Unblock 192.0.2.0 24"),
            ("GET", "/api/v1/blocks/192.0.2.0/24", "PUT, DELETE"),
            ("DELETE", "/api/v1/torrents/aa/peers/192.0.2.1/80", "RemovePeer aa 192.0.2.1 80"),
            ("GET", "/api/v1/torrents/%ff", "nothing"),
            ("GET", "/api/v2/limits", "nothing"),
        ] {
            assert_eq!(outcome(method, path), expected, "{method} {path}");
        }
    }
}
