//! The process that runs the tracker: its start and its end, its signals and its log.
//!
//! | module | does |
//! |---|---|
//! | [`start`] | the order in which everything is started and stopped |
//! | [`doors`] | the HTTP listeners |
//! | `startup_log` | what the log says of it |
//! | [`handover`] | the listening sockets on their way to the next process |
//! | `systemd` | what systemd is told: that the tracker is ready, and that it lives |
//! | [`sites`] | which site answers on which HTTP listener |
//! | [`signals`] | what signals do |
//! | [`log`], `journal`, [`panics`] | lines on their way to standard error, whatever that is, or to the journal |
//! | [`warnings`] | what goes wrong while everything seems to run, said once a minute |

pub mod doors;
pub mod handover;
mod journal;
pub mod log;
pub mod panics;
pub mod signals;
pub mod sites;
pub mod start;
mod startup_log;
mod systemd;
pub mod warnings;
