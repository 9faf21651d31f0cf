//! `cargo xtask verify`: does the kernel take the XDP program, and how hard was it for the verifier?

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{
    budget,
    ebpf_package::EbpfPackage,
    verifier::{Prepared, Refused, Statistics},
    workspace,
};

#[derive(Args)]
pub struct Options {
    /// The object to load [default: what TRACKER_EBPF_OBJECT names, else the committed object]
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
    /// Compare with the committed figures and fail when a program has grown
    #[arg(long)]
    budget: bool,
    /// Make the present figures the committed ones
    #[arg(long, conflicts_with = "budget")]
    record: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let object = options
        .object
        .clone()
        .or_else(|| env::var_os(workspace::OBJECT_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| EbpfPackage::TrackerEbpf.committed_object());
    let elf = fs::read(&object).with_context(|| format!("cannot read {}", workspace::display(&object)))?;
    let prepared = Prepared::new(&elf).with_context(|| format!("cannot load {}", workspace::display(&object)))?;

    let mut rows = Vec::new();
    let mut refused = Vec::new();
    for name in prepared.programs() {
        match prepared.load(name)? {
            Ok(statistics) => rows.push((name, statistics)),
            Err(why) => {
                report(name, &why)?;
                refused.push(name);
            }
        }
    }
    print_table(&rows);
    if !refused.is_empty() {
        bail!("the kernel refuses {}", refused.join(", "));
    }
    ensure!(!rows.is_empty(), "{} holds no program", workspace::display(&object));
    if options.record {
        budget::record(&rows)?;
    }
    if options.budget {
        budget::compare(&rows)?;
    }
    Ok(())
}

/// Writes the whole log to a file and shows its end, where the reason is.
fn report(name: &str, Refused { error, log }: &Refused) -> anyhow::Result<()> {
    const SHOWN: usize = 40;
    let path = workspace::target_dir().join(format!("verifier-{name}.log"));
    write(&path, log)?;
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("program {name}: {error}. The end of the verifier's log, which is all in {}:", workspace::display(&path));
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        eprintln!("    {line}");
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", workspace::display(directory)))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", workspace::display(path)))
}

fn print_table(rows: &[(&str, Statistics)]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "{:<16} {:>12} {:>8} {:>8} {:>12} {:>9} {:>8} {:>10} {:>8}",
        "program", "instructions", "states", "peak", "stack", "xlated B", "jited B", "verify ms", "load ms"
    );
    for (name, statistics) in rows {
        println!(
            "{name:<16} {:>12} {:>8} {:>8} {:>12} {:>9} {:>8} {:>10} {:>8}",
            statistics.processed_instructions,
            statistics.total_states,
            statistics.peak_states,
            statistics.stack_depth,
            statistics.translated_size,
            statistics.jited_size,
            statistics.verification_time.map_or_else(|| "?".to_owned(), milliseconds),
            milliseconds(statistics.load_time),
        );
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
