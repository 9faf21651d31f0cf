//! `tracker migrate`: another tracker's configuration as one of ours.

use crate::config::migrate::{Item, aquatic, file, opentracker};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::{fs, path::PathBuf};

/// Options of `tracker migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateOptions {
    /// Which tracker the files are of
    #[arg(value_enum, value_name = "opentracker|aquatic", hide_possible_values = true)]
    pub from: From,
    /// Its configuration files; those of aquatic_udp and aquatic_http can be given together
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// A tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// opentracker
    Opentracker,
    /// aquatic_udp and aquatic_http
    Aquatic,
}

/// Our file, with what theirs say as comments.
///
/// # Errors
/// When a file cannot be read, or is not one of that tracker.
pub fn migrate(options: &MigrateOptions) -> anyhow::Result<String> {
    let mut items: Vec<Item> = Vec::new();
    for path in &options.files {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let read = match options.from {
            From::Opentracker => opentracker::read(&text),
            From::Aquatic => aquatic::read(&text),
        };
        items.extend(read.with_context(|| format!("{} is not understood", path.display()))?);
    }
    Ok(file(&items))
}
