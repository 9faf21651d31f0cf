//! The tracker daemon: loads and attaches the XDP program, sets its clock, keys and addresses, answers HTTP and whatever UDP
//! requests the kernel hands up, removes what has expired, and says how it is going.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`command`] | the command line, and the commands that are not the daemon |
//! | [`config`] | the command line and the configuration file |
//! | [`daemon`] | start, end, signals, log, warnings |
//! | [`store`] | the swarm store: memory, sizes, clock, keys, removal of what has expired |
//! | [`xdp`] | the XDP program in the kernel: loading, attaching, detaching, which addresses it answers for |
//! | [`listen`] | listening addresses, and what to do when one cannot be listened on |
//! | [`udp`] | UDP sockets |
//! | [`http`] | an HTTP server that asks sites, and the site for BitTorrent clients |
//! | [`statistics`] | counters, rates and totals |
//! | [`admin`] | the site for the operator: the statistics in several formats |
//! | [`trace`] | single packets, shown as the XDP program sees them |
//! | [`service`] | how threads and tasks learn that it is over |
//! | [`text`] | what people read: numbers with their words, bytes with units, what commands print |

pub mod admin;
pub mod command;
pub mod config;
pub mod daemon;
pub mod http;
pub mod listen;
pub mod service;
pub mod statistics;
pub mod store;
pub mod text;
pub mod trace;
pub mod udp;
pub mod xdp;
