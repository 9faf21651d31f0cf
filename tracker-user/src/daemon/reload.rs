//! The configuration read again, by SIGHUP: what may change does so without a pause, what may not is
//! named, and a configuration that is wrong changes nothing.

use super::file_limit::raise_file_limit;
use crate::config::{
    self, Configuration, Given, Startup,
    live::{Handles, Live},
};
use anyhow::{Context as _, bail};
use std::fs;
use tracing::{info, warn};
use tracker_common::settings::Settings;

/// The command line, which may name a file, and is read again with it.
pub struct Reload(Given);

impl Reload {
    /// Reads again what was given at the start.
    #[must_use]
    pub fn new(given: Given) -> Self {
        Self(given)
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
    pub fn apply(&self, startup: &Startup, live: Live, settings: &Settings, handles: &Handles) -> Live {
        let new = match self.read() {
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
        new.live.apply(settings, handles);
        if changed.is_empty() {
            info!("the configuration is in force, and as it was");
        } else {
            info!("the configuration is in force; changed: {}", changed.join(", "));
        }
        new.live
    }
}
