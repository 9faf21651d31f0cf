//! The configuration: the options of the command line and of the file, complete and checked.
//!
//! Both know the same options by the same names; the command line wins.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | the options by their names, as given |
//! | [`value`] | how numbers, times, switches and addresses are written |
//! | `file` | the configuration file |
//! | [`startup`] | what is decided at the start: interfaces, sockets, sizes |
//! | [`live`] | what could change while the tracker runs: intervals, limits, timeouts |

mod file;
mod invalid;
pub mod live;
pub mod options;
pub mod startup;
pub mod value;

pub use live::Live;
pub use options::{Given, MemoryOptions, Options};
pub use startup::{Startup, capacity, state_directory};
pub use value::DEFAULT_PORT;

use clap::FromArgMatches as _;
use file::Origin;
use invalid::Invalid;

/// What the tracker runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What cannot change while it runs.
    pub startup: Startup,
    /// What could.
    pub live: Live,
}

impl Configuration {
    /// Reads the file that is named among the options given, if one is, and checks everything.
    ///
    /// # Errors
    /// When the file cannot be read or holds something that is no option, and the first option that
    /// is out of range or does not go with the others, with the line of the file where it is.
    pub fn read(given: Given) -> anyhow::Result<Self> {
        let Some(path) = &given.options.config else { return Self::new(&given.options, &Origin::default()) };
        let (mut options, mut origin) = file::read(path)?;
        options.update_from_arg_matches(&given.matches)?;
        origin.forget_given(&given.matches);
        Self::new(&options, &origin)
    }

    fn new(options: &Options, origin: &Origin) -> anyhow::Result<Self> {
        let check = || Ok(Self { startup: Startup::new(options)?, live: Live::new(options)? });
        check().map_err(|error: anyhow::Error| match error.downcast_ref::<Invalid>() {
            Some(Invalid { option, .. }) => origin.explain(option, error),
            None => error,
        })
    }
}

#[cfg(test)]
mod tests;
