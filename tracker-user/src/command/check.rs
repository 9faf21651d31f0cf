//! `tracker check`: whether a configuration file is right, and the lists that it names, without starting anything.

use crate::{
    admission::{Lists, addresses::Addresses},
    config::Configuration,
    http::tls::Certificates,
};
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
    let Configuration { startup, live } = Configuration::of_file(&options.file)?;
    if let Some(files) = startup.certificate {
        Certificates::read(files)?;
    }
    Lists::read(&live.lists)?;
    Addresses::read(&live.addresses)?.room()?;
    Ok(format!("{} is right: room for {}\n", options.file.display(), startup.capacity))
}
