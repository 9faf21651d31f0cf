//! Where figures come from.

use super::{
    TopOptions,
    http::{Door, get},
    pinned::Pinned,
};
use crate::statistics::figures::{Figures, History};
use anyhow::{Context as _, bail};
use std::fs;

/// A tracker's door, or what it has left.
pub enum Source {
    /// The operator's door.
    Door {
        /// Where it is.
        door: Door,
        /// What is said to be let in.
        token: Option<String>,
    },
    /// A pinned store.
    Pinned(Box<Pinned>),
}

impl Source {
    /// What the options name.
    ///
    /// # Errors
    /// When they name nothing that could be asked.
    pub fn open(options: &TopOptions) -> anyhow::Result<Self> {
        if let Some(directory) = &options.pin_path {
            return Ok(Self::Pinned(Box::new(Pinned::open(directory)?)));
        }
        let read = |path: &std::path::PathBuf| {
            let text =
                fs::read_to_string(path).with_context(|| format!("cannot read the token in {}", path.display()))?;
            anyhow::Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        };
        let token = options.token_file.as_ref().map(read).transpose()?;
        Ok(Self::Door { door: options.url.parse()?, token })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Door { door, .. } => door.to_string(),
            Self::Pinned(pinned) => pinned.name(),
        }
    }

    /// The figures of now.
    ///
    /// # Errors
    /// When there are none, and why.
    pub fn figures(&mut self) -> anyhow::Result<Figures> {
        match self {
            Self::Door { door, token } => {
                let body = get(door, "stats.json", token.as_deref())?;
                serde_json::from_slice(&body).with_context(|| format!("{door} does not answer as a tracker does"))
            }
            Self::Pinned(pinned) => Ok(pinned.figures()),
        }
    }

    /// The last hour.
    ///
    /// # Errors
    /// When nobody knows.
    pub fn history(&self) -> anyhow::Result<History> {
        match self {
            Self::Door { door, token } => {
                let body = get(door, "history.json?span=hour", token.as_deref())?;
                serde_json::from_slice(&body).with_context(|| format!("{door} does not answer as a tracker does"))
            }
            Self::Pinned(_) => bail!("a pinned store has no history"),
        }
    }
}
