//! The admin API: HTTP with JSON, on a listener of its own, for whoever may connect to its Unix socket or
//! has its token. What it can do is described by [`DESCRIPTION`] (OpenAPI 3.1), which is served, too.
//!
//! It is no part of what answers clients, so it is made of a library (hyper) and not of [`crate::http`],
//! has one thread, and closes each connection behind its answer. What takes time is done in threads
//! beside it.
//!
//! | module | does |
//! |---|---|
//! | [`server`] | connections, and how much of everything there may be |
//! | [`route`] | which operation a method and a path name |
//! | [`request`] | who may do what; bodies and parameters |
//! | [`operation`] | the operations themselves, on [`crate::control::Control`] |
//! | [`torrents`] | those about torrents and their peers |
//! | [`trace`] | single packets |
//! | [`answer`] | responses: JSON, and problems (RFC 9457) |

pub mod answer;
pub mod operation;
pub mod request;
pub mod route;
pub mod server;
pub mod torrents;
pub mod trace;

pub use server::{Listeners, Server};

/// The description of the API.
pub const DESCRIPTION: &str = include_str!("../../../docs/openapi.json");
