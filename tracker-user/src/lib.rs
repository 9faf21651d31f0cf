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
//! | [`object`], [`xdp`] | the compiled XDP program: loading, attaching, detaching |
//! | [`bpf_link`] | taking other XDP programs off an interface (`--force`) |
//! | [`netlink`] | what the kernel says of interfaces, addresses and attached XDP programs |
//! | [`addresses`] | which addresses the XDP program answers for |
//! | [`keys`] | hash keys, and the connection id key that survives a restart |
//! | [`clock`] | the clock of the store |
//! | [`log`], [`panics`] | lines on their way to standard error, whatever that is |
//! | [`signals`] | what signals do |
//! | [`output`], [`plural`] | what commands print, and numbers with their words |
//! | [`listen`] | what to do when an address cannot be listened on |
//! | [`udp`] | UDP sockets |
//! | [`http`] | HTTP announce, scrape, statistics |
//! | [`expiry`] | removal of what has expired, and totals |
//! | [`statistics`] | counters, rates and totals, in several formats |
//! | [`shutdown`] | how threads and tasks learn that it is over |

pub mod addresses;
pub mod bpf_link;
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
pub mod udp;
pub mod xdp;
