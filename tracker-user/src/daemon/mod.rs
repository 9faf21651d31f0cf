//! The process that runs the tracker: its start and its end, its signals and its log.
//!
//! | module | does |
//! |---|---|
//! | [`start`] | the order in which everything is started and stopped, and what the operator is told |
//! | [`sites`] | which site answers on which HTTP listener |
//! | [`signals`] | what signals do |
//! | [`log`], [`panics`] | lines on their way to standard error, whatever that is |
//! | [`warnings`] | what goes wrong while everything seems to run, said once a minute |

pub mod log;
pub mod panics;
pub mod signals;
pub mod sites;
pub mod start;
pub mod warnings;
