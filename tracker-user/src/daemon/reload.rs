//! The configuration read again, by SIGHUP: what may change does so without a pause, what may not is
//! named, and a configuration that is wrong changes nothing.

use super::file_limit::raise_file_limit;
use crate::{
    admission::Lists,
    config::{
        self, Configuration, Given, Startup,
        live::{Handles, Live},
    },
    store::Handle,
};
use anyhow::{Context as _, bail};
use std::{fs, path::PathBuf};
use tracing::{info, warn};

/// The command line, which may name a file, and is read again with it.
pub struct Reload(Given);

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

    fn read(&self) -> anyhow::Result<Configuration> {
        // Somebody would have to write into a pipe before reading it ends, and nothing else that the
        // tracker is asked for is done meanwhile.
        if let Some(path) = config::file(&self.0)
            && !fs::metadata(&path).with_context(|| format!("{}", path.display()))?.is_file()
        {
            bail!("{} is no file that could be read again", path.display());
        }
        Configuration::read(self.0.clone())
    }

    /// Reads the configuration and publishes what is new in it. Returns what holds now.
    #[must_use]
    pub fn apply(&self, startup: &Startup, live: Live, remover: &Handle, handles: &Handles) -> Live {
        // Lists may have changed although the names of their files have not.
        let read = || -> anyhow::Result<Configuration> {
            let new = self.read()?;
            Lists::read(&new.live.lists)?.apply(remover, true)?;
            Ok(new)
        };
        let new = match read() {
            Ok(new) => new,
            Err(error) => {
                warn!("the configuration is not changed: {error:#}");
                return live;
            }
        };
        let fixed = startup.differences(&new.startup);
        if !fixed.is_empty() {
            warn!("{} changed, which takes a restart", fixed.join(", "));
        }
        let changed = live.differences(&new.live);
        raise_file_limit(new.live.http.connections);
        new.live.apply(remover.store().settings(), handles);
        if changed.is_empty() {
            info!("the configuration is in force, and as it was");
        } else {
            info!("the configuration is in force; changed: {}", changed.join(", "));
        }
        new.live
    }
}
