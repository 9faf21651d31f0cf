//! The tracker over HTTP: announce, scrape and full scrape.
//!
//! | module | does |
//! |---|---|
//! | [`route`] | what a path asks for, old announce URLs included |
//! | [`query`] | what an announce or a scrape says |
//! | [`announce`], [`scrape`], [`full_scrape`] | their answers |
//! | [`snapshot`] | the torrents of a full scrape in order |
//! | [`failure`] | every reason for not giving one, and what the client is told |
//! | [`bencode`] | how answers are written |
//! | [`memory`] | what HTTP takes of memory, for people |

pub mod announce;
pub mod bencode;
pub mod failure;
pub mod full_scrape;
pub mod memory;
pub mod query;
pub mod route;
pub mod scrape;
pub mod snapshot;
