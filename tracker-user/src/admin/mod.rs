//! How the tracker is going, for its operator: a page for people, opentracker's pages for the tools made for them, and
//! Prometheus' format.

pub mod http;
pub mod opentracker;
pub mod page;
pub mod prometheus;
