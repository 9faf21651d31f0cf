//! How the tracker is going, for its operator.
//!
//! | module | does |
//! |---|---|
//! | [`access`] | who may see them |
//! | [`site`] | which path asks for which page |
//! | [`page`] | the statistics for people, as text |
//! | [`web`] | the pages for browsers, and what keeps them up to date |
//! | [`opentracker`] | opentracker's pages, for the tools made for them |
//! | [`prometheus`] | Prometheus' format |

pub mod access;
pub mod opentracker;
pub mod page;
pub mod prometheus;
pub mod site;
pub mod web;
