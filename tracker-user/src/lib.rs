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
//! | [`logging`] | log lines: which events become one, how they are written, and what repeats |
//! | [`confine`] | what the process may still do after its start: capabilities, user, files, system calls |
//! | [`store`] | the swarm store: memory, sizes, clock, keys, removal of what has expired |
//! | [`admission`] | which torrents are served, and which addresses are blocked: lists from files |
//! | [`snapshot`] | the file in which torrents outlive the machine: written, loaded, converted |
//! | [`xdp`] | the XDP program in the kernel: loading, attaching, destinations, interfaces |
//! | [`cluster`] | other trackers with the same swarms: changes to them and from them |
//! | [`trace`] | single packets, shown as the XDP program sees them |
//! | [`listen`] | listening addresses, and what to do when one cannot be listened on |
//! | [`udp`] | UDP sockets |
//! | [`http`] | the HTTP server, and the tracker's site |
//! | [`statistics`] | counters, rates and totals |
//! | [`admin`] | the statistics in several formats, for the operator |
//! | [`config`] | options and configuration file, checked: what is fixed at the start, what can change |
//! | [`control`] | what is changed while it runs: reload, single entries of lists, limits |
//! | [`api`] | the admin API |
//! | [`daemon`] | start, end, signals, log, warnings |
//! | [`doctor`] | what an expert would say of this machine |
//! | [`command`] | the command line |

pub mod admin;
pub mod admission;
pub mod api;
pub mod cluster;
pub mod command;
pub mod config;
pub mod confine;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod http;
pub mod listen;
pub mod logging;
pub mod service;
pub mod snapshot;
pub mod statistics;
pub mod store;
pub mod text;
pub mod trace;
pub mod udp;
pub mod xdp;
