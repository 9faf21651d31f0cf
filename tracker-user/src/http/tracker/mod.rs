//! The site for BitTorrent clients: announce, scrape and full scrape over the same store as UDP.
//!
//! | module | does |
//! |---|---|
//! | [`site`] | the site itself, and what all threads share of it |
//! | [`route`] | what a path asks for, old announce URLs included |
//! | [`query`] | what an announce or a scrape says |
//! | [`announce`], [`scrape`], [`full_scrape`] | their answers |
//! | [`listing`] | how all torrents are written: full scrape, and opentracker's other formats |
//! | [`snapshot`] | the torrents of a full scrape in order |
//! | [`failure`] | every reason for not giving one, and what the client is told |
//! | [`bencode`] | how answers are written |
//! | [`proxy_warning`] | tells the operator that a proxy is stored in the place of peers |
//! | [`counters`] | what is counted |
//! | [`footprint`] | what HTTP takes of memory, for people |

pub mod announce;
pub mod bencode;
pub mod counters;
pub mod failure;
pub mod footprint;
pub mod full_scrape;
pub mod listing;
pub mod proxy_warning;
pub mod query;
pub mod route;
pub mod scrape;
pub mod site;
pub mod snapshot;

pub use full_scrape::FullScrapeLimits;
pub use listing::Format;
pub use site::Tracker;
