//! The tracker daemon: loads and attaches the XDP program, sets its clock, keys and addresses, answers HTTP and whatever UDP
//! requests the kernel hands up, removes what has expired, and says how it is going.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`configuration`] | the command line and the configuration file |
//! | [`start`] | the order in which everything is started and stopped, and what the operator is told |
//! | [`sizes`] | how many map elements the limits need, and their memory |
//! | [`memory`] | the store as the daemon's threads see it |
//! | [`object`] | the compiled XDP program |
//! | [`xdp`] | the XDP program in the kernel: loading, attaching, detaching, which addresses it answers for |
//! | [`netlink`] | what the kernel says of interfaces, addresses and attached XDP programs |
//! | [`keys`] | hash keys, and the connection id key that survives a restart |
//! | [`clock`] | the clock of the store |
//! | [`log`], [`panics`] | lines on their way to standard error, whatever that is |
//! | [`signals`] | what signals do |
//! | [`output`], [`plural`] | what commands print, and numbers with their words |
//! | [`listen`] | listening addresses, and what to do when one cannot be listened on |
//! | [`trace`] | single packets, shown as the XDP program sees them |
//! | [`udp`] | UDP sockets |
//! | [`http`] | HTTP announce, scrape, statistics |
//! | [`expiry`] | removal of what has expired, and totals |
//! | [`statistics`] | counters, rates and totals, in several formats |
//! | [`warnings`] | what goes wrong while everything seems to run, said once a minute |
//! | [`shutdown`] | how threads and tasks learn that it is over |

pub mod clock;
pub mod configuration;
pub mod expiry;
pub mod http;
pub mod keys;
pub mod listen;
pub mod log;
pub mod memory;
pub mod netlink;
pub mod object;
pub mod output;
pub mod panics;
pub mod plural;
pub mod shutdown;
pub mod signals;
pub mod sizes;
pub mod start;
pub mod statistics;
pub mod trace;
pub mod udp;
pub mod warnings;
pub mod xdp;
