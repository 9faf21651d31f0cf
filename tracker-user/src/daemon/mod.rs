//! The process that runs the tracker: its start and its end, its signals and its log.
//!
//! | module | does |
//! |---|---|
//! | [`start`] | the order in which everything is started and stopped |
//! | `startup_log` | what the log says of it |
//! | `file_limit` | how many files may be open |
//! | [`sites`] | which site answers on which HTTP listener |
//! | [`reload`] | the configuration read again |
//! | [`signals`] | what signals do |
//! | [`log`], [`panics`] | lines on their way to standard error, whatever that is |
//! | [`warnings`] | what goes wrong while everything seems to run, said once a minute |

mod file_limit;
pub mod log;
pub mod panics;
pub mod reload;
pub mod signals;
pub mod sites;
pub mod start;
mod startup_log;
pub mod warnings;
