//! The configuration read again: what may change does so without a pause, what may not is named, and
//! a configuration that is wrong changes nothing.

use crate::config::{self, Configuration, Given, Options, Overrides};
use anyhow::{Context as _, bail};
use std::{fs, path::PathBuf};

/// The command line, which may name a file, and is read again with it.
pub struct Reload(Given);

/// What a reload has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Options whose values are other ones now.
    pub changed: Vec<&'static str>,
    /// Options that were changed, which takes a restart.
    pub restart: Vec<&'static str>,
}

impl Reload {
    /// Reads again what was given at the start.
    #[must_use]
    pub fn new(given: Given) -> Self {
        Self(given)
    }

    /// The file that is read.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        config::file(&self.0)
    }

    /// Reads everything, and puts the overrides above it.
    pub(super) fn read(&self, overrides: &Overrides) -> anyhow::Result<(Options, Configuration)> {
        // Somebody would have to write into a pipe before reading it ends, and nothing else that the
        // tracker is asked for is done meanwhile.
        if let Some(path) = config::file(&self.0)
            && !fs::metadata(&path).with_context(|| format!("{}", path.display()))?.is_file()
        {
            bail!("{} is no file that could be read again", path.display());
        }
        Configuration::read_over(self.0.clone(), overrides)
    }
}
