//! Fuzz targets as plain functions: bytes in, a panic if something is wrong. libFuzzer runs them in
//! the workspace around this package, and `tests/corpus.rs` runs them on what is in `fuzz/corpus`.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`udp`] | UDP exchanges with the host build of the store |
//! | [`xdp`] | sequences of frames through the loaded program |
//! | [`http`] | the bytes of an HTTP connection |
//! | [`query`] | queries of announces and scrapes |
//! | [`config`] | values of options, command line and configuration file |
//! | [`list`](mod@list) | files with lists of torrents |
//! | [`cluster`] | what other trackers send |
//! | [`snapshot`] | snapshot files, and opentracker's state files |
//! | [`history`] | what happens to a tracker over UDP |
//! | [`model`], [`stored`] | what has to come of it, and what is stored |
//! | [`input`] | bytes as numbers |

#[path = "../../../tests/tests/backends/mod.rs"]
#[expect(dead_code, reason = "the tests use more of them")]
mod backends;
pub mod cluster;
pub mod config;
pub mod history;
pub mod http;
pub mod input;
pub mod list;
pub mod model;
pub mod query;
pub mod snapshot;
pub mod stored;
pub mod udp;
pub mod xdp;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// The target itself.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made by encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "udp", run: udp::run, seeds: udp::seeds },
    Target { name: "xdp", run: xdp::run, seeds: xdp::seeds },
    Target { name: "http", run: http::run, seeds: http::seeds },
    Target { name: "query", run: query::run, seeds: query::seeds },
    Target { name: "config", run: config::run, seeds: config::seeds },
    Target { name: "list", run: list::run, seeds: list::seeds },
    Target { name: "snapshot", run: snapshot::run, seeds: snapshot::seeds },
    Target { name: "cluster", run: cluster::run, seeds: cluster::seeds },
];
