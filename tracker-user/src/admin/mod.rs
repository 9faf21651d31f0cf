//! How the tracker is going, for its operator.
//!
//! | module | does |
//! |---|---|
//! | [`site`] | which path asks for which page |
//! | [`page`] | the statistics for people |
//! | [`opentracker`] | opentracker's pages, for the tools made for them |
//! | [`prometheus`] | Prometheus' format |

pub mod opentracker;
pub mod page;
pub mod prometheus;
pub mod site;
