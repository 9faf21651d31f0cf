//! The configuration: the options of the command line and of the file, complete and checked.
//!
//! Both know the same options by the same names, and so does the environment; the command line wins
//! over the environment, and that over the file.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | the options by their names, as given |
//! | [`api`] | the admin API: where, and for whom |
//! | [`cluster`] | other trackers with the same swarms |
//! | [`limits`] | how often one source may ask |
//! | [`network`] | how networks are written |
//! | [`value`] | how numbers, times, switches and addresses are written |
//! | `file` | the configuration file |
//! | `environment` | options in environment variables |
//! | [`migrate`] | configurations of other trackers |
//! | [`template`] | the configuration file with all options and their defaults, to begin with |
//! | [`startup`] | what is decided at the start: interfaces, sockets, sizes |
//! | [`values`] | what of that can be asked for and set by the admin API |
//! | [`live`] | what can change while the tracker runs: intervals, limits, timeouts |

pub mod api;
pub mod cluster;
mod environment;
mod file;
mod invalid;
pub mod limits;
pub mod live;
pub mod migrate;
pub mod network;
pub mod options;
pub mod startup;
pub mod template;
pub mod value;
pub mod values;

pub use live::Live;
pub use options::{Given, MemoryOptions, Options};
pub use startup::{Startup, capacity, state_directory};
pub use value::DEFAULT_PORT;
pub use values::Overrides;

use clap::FromArgMatches as _;
use environment::Variable;
use file::Origin;
use invalid::Invalid;
use std::path::{Path, PathBuf};

/// What the tracker runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What cannot change while it runs.
    pub startup: Startup,
    /// What could.
    pub live: Live,
}

impl Configuration {
    /// Reads the file that is named among the options given or in the environment, if one is, and the
    /// environment, and checks everything.
    ///
    /// # Errors
    /// When the file cannot be read or holds something that is no option, and the first option that
    /// is out of range or does not go with the others, with the line of the file where it is.
    pub fn read(given: Given) -> anyhow::Result<Self> {
        Self::read_with(given, &std::env::vars_os().collect::<Vec<_>>())
    }

    /// The same with values that stand above all others; and the options without these.
    ///
    /// # Errors
    /// Those of [`Configuration::read`].
    pub fn read_over(given: Given, overrides: &Overrides) -> anyhow::Result<(Options, Self)> {
        let (options, origin) = Self::options(given, &std::env::vars_os().collect::<Vec<_>>())?;
        let mut over = options.clone();
        values::put_over(&mut over, overrides)?;
        Ok((options, Self::new(&over, &origin)?))
    }

    /// The same with these environment variables.
    fn read_with(given: Given, variables: &[Variable]) -> anyhow::Result<Self> {
        let (options, origin) = Self::options(given, variables)?;
        Self::new(&options, &origin)
    }

    /// All options, and where they are from.
    fn options(given: Given, variables: &[Variable]) -> anyhow::Result<(Options, Origin)> {
        let (mut options, mut origin) = match (file_of(&given, variables), &given.options.opentracker_config) {
            (Some(_), Some(_)) => anyhow::bail!("--config and --opentracker-config are two files; give one of them"),
            (Some(path), None) => file::read(&path)?,
            (None, Some(path)) => file::read_opentracker(path)?,
            (None, None) => Default::default(),
        };
        environment::apply(&mut options, &mut origin, variables)?;
        options.update_from_arg_matches(&given.matches)?;
        origin.forget_given(&given.matches);
        Ok((options, origin))
    }

    /// Reads a file alone.
    ///
    /// # Errors
    /// Those of [`Configuration::read`].
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let (options, origin) = file::read(path)?;
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

/// The file that is read for these options, if one is.
#[must_use]
pub fn file(given: &Given) -> Option<PathBuf> {
    let opentracker = given.options.opentracker_config.clone();
    opentracker.or_else(|| file_of(given, &std::env::vars_os().collect::<Vec<_>>()))
}

fn file_of(given: &Given, variables: &[Variable]) -> Option<PathBuf> {
    given.options.config.clone().or_else(|| environment::config(variables))
}

#[cfg(test)]
mod tests;
