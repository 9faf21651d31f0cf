//! Options in environment variables, as containers like them: `TRACKER_MAX_TORRENTS` is
//! max-torrents. They stand above the file and below the command line.
//!
//! Kubernetes and Docker set variables such as `TRACKER_PORT` for a service that is called tracker.
//! So a variable that is no option is no error; one that is nearly the name of one is warned of.

use super::{
    file::{self, Origin},
    options::Options,
};
use anyhow::Context as _;
use clap::ArgAction;
use std::{ffi::OsString, path::PathBuf};

const PREFIX: &str = "TRACKER_";

/// A variable: name and value.
pub type Variable = (OsString, OsString);

/// The file that the environment names.
pub fn config(variables: &[Variable]) -> Option<PathBuf> {
    let (_, path) = variables.iter().find(|(name, _)| name == "TRACKER_CONFIG")?;
    (!path.is_empty()).then(|| path.into())
}

/// Puts the options of the environment over those that there are. Several values of an option are
/// separated by commas or spaces. An empty variable is none.
///
/// # Errors
/// The first value that is none of its option.
pub fn apply(options: &mut Options, origin: &mut Origin, variables: &[Variable]) -> anyhow::Result<()> {
    let command = file::command();
    for (variable, value) in variables {
        let Some(name) = variable.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let key = name.to_lowercase().replace('_', "-");
        if key == "config" || value.is_empty() {
            continue;
        }
        let Some((argument, option)) = file::option(&command, &key) else {
            if let Some(nearest) = file::nearest(&command, &key) {
                let meant = nearest.to_uppercase().replace('-', "_");
                tracing::warn!("the environment variable {PREFIX}{name} is no option; is {PREFIX}{meant} meant?");
            }
            continue;
        };
        let wrong = || format!("the environment variable {PREFIX}{name} is wrong");
        let value = value.to_str().with_context(wrong).map_err(|error| error.context("it is no UTF-8"))?;
        let texts = if matches!(argument.get_action(), ArgAction::Append) {
            value.split([',', ' ']).filter(|text| !text.is_empty()).map(str::to_owned).collect()
        } else {
            vec![value.to_owned()]
        };
        file::set(options, &command, option, &texts).map_err(anyhow::Error::msg).with_context(wrong)?;
        origin.forget(option);
    }
    Ok(())
}
