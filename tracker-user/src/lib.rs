//! The tracker daemon: loads and attaches the XDP program, sets its clock, keys and addresses,
//! answers HTTP and whatever UDP requests the kernel hands up, removes what has expired, and says
//! how it is going.
//!
//! # Layout
//!
//! From the ground up: a module uses those above it in this table, and none below.
//!
//! | module | holds |
//! |---|---|
//! | [`text`] | what people read: numbers with their words, bytes with units, what commands print |
//! | [`service`] | work in threads of its own, and how it is told to end |
//! | [`store`] | the swarm store: memory, sizes, clock, keys, removal of what has expired |
//! | [`admission`] | which torrents are served: lists from files |
//! | [`snapshot`] | the file in which torrents outlive the machine: written, loaded, converted |
//! | [`xdp`] | the XDP program in the kernel: loading, attaching, destinations, interfaces |
//! | [`listen`] | listening addresses, and what to do when one cannot be listened on |
//! | [`udp`] | UDP sockets |
//! | [`http`] | the HTTP server, and the tracker's site |
//! | [`statistics`] | counters, rates and totals |
//! | [`admin`] | the statistics in several formats, for the operator |
//! | [`config`] | options and configuration file, checked: what is fixed at the start, what can change |
//! | [`daemon`] | start, end, signals, log, warnings |
//! | [`trace`] | single packets, shown as the XDP program sees them |
//! | [`command`] | the command line |

pub mod admin;
pub mod admission;
pub mod command;
pub mod config;
pub mod daemon;
pub mod http;
pub mod listen;
pub mod service;
pub mod snapshot;
pub mod statistics;
pub mod store;
pub mod text;
pub mod trace;
pub mod udp;
pub mod xdp;
