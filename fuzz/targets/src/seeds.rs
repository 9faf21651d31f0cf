//! Writes the inputs to begin with into a directory per target: `seeds DIRECTORY`.

use anyhow::Context as _;
use clap::Parser;
use std::{fs, path::PathBuf};
use tracker_fuzz::TARGETS;

/// Write the seeds of all fuzz targets
#[derive(Parser)]
struct Options {
    /// Below it each target has a directory of its name
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Options { directory } = Options::parse();
    for target in TARGETS {
        let directory = directory.join(target.name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let path = directory.join(format!("seed-{number:02}"));
            fs::write(&path, seed).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
