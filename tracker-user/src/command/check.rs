//! `tracker check`: whether a configuration file is right, without starting anything.

use crate::config::Configuration;
use clap::Args;
use std::path::PathBuf;

/// Options of `tracker check`.
#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    /// The file, as it would be given to `tracker run --config`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// A sentence for people when it is right.
///
/// # Errors
/// What is wrong, with the line, or why it cannot be read.
pub fn check(options: &CheckOptions) -> anyhow::Result<String> {
    let Configuration { startup, .. } = Configuration::of_file(&options.file)?;
    Ok(format!("{} is right: room for {}\n", options.file.display(), startup.capacity))
}
