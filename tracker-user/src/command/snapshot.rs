//! `tracker snapshot`: the file in which torrents outlive the machine, without a tracker.

use crate::{
    config::state_directory,
    snapshot::{
        convert::{self, Format, Merge},
        path_in,
    },
    text::{output, plural},
};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Lines that are complained of; of more the number is said.
const COMPLAINTS: u64 = 20;

/// Options of `tracker snapshot`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotOptions {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Write out the torrents of a snapshot, with how many downloads of each were completed
    Export(Export),
    /// Bring the torrents of opentracker's state (/stats?mode=statedump) into the snapshot, while no
    /// tracker runs with that directory. Lines that are wrong are named and left out
    Import(Import),
}

#[derive(Args, Clone, Debug)]
struct Export {
    /// Write into this file, or - for standard output
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "statedump")]
    format: Format,
    /// The state directory with the snapshot [default: systemd's STATE_DIRECTORY]
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<PathBuf>,
    /// This snapshot instead, such as one that was set aside
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    snapshot: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct Import {
    /// Read lines from this file, or - for standard input; they may be packed by gzip
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The state directory with the snapshot, which is made if there is none [default: systemd's
    /// STATE_DIRECTORY]
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<PathBuf>,
    /// Add the numbers of downloads to those in the snapshot. Without it the larger number of the
    /// two stays, and importing twice does no harm
    #[arg(long)]
    add: bool,
}

/// Runs the command.
///
/// # Errors
/// When something cannot be read or written, or is damaged.
pub fn run(options: &SnapshotOptions) -> anyhow::Result<ExitCode> {
    match &options.action {
        Action::Export(options) => export(options),
        Action::Import(options) => import(options),
    }
}

fn directory(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    state_directory(given).context("which directory? Name it by --state-dir")
}

fn export(options: &Export) -> anyhow::Result<ExitCode> {
    let snapshot = match &options.snapshot {
        Some(path) => convert::open_file(path)?,
        None => convert::open(&directory(options.state_dir.as_deref())?)?,
    };
    let to: Box<dyn Write> = if options.file.as_os_str() == "-" {
        Box::new(io::stdout().lock())
    } else {
        let file = File::create(&options.file);
        Box::new(file.with_context(|| format!("cannot create {}", options.file.display()))?)
    };
    match convert::export(snapshot, options.format, &mut BufWriter::new(to)) {
        Ok((_, damages)) if damages.is_empty() => Ok(ExitCode::SUCCESS),
        Ok((torrents, damages)) => {
            for damage in &damages {
                output::complain(&format!("tracker: the snapshot is damaged: {damage}\n"));
            }
            bail!("not all could be read; written were {}", plural(torrents, "torrent", "torrents"))
        }
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", options.file.display())),
    }
}

/// What is to be read, unpacked if need be: opentracker sends its state packed, wanted or not.
fn plain(from: impl Read + 'static) -> Box<dyn BufRead> {
    let mut from = BufReader::with_capacity(1 << 20, from);
    match from.fill_buf() {
        Ok(bytes) if bytes.starts_with(b"\x1f\x8b") => Box::new(BufReader::new(MultiGzDecoder::new(from))),
        // An error comes again.
        Ok(_) | Err(_) => Box::new(from),
    }
}

fn import(options: &Import) -> anyhow::Result<ExitCode> {
    let directory = directory(options.state_dir.as_deref())?;
    let from: Box<dyn BufRead> = if options.file.as_os_str() == "-" {
        plain(io::stdin().lock())
    } else {
        plain(File::open(&options.file).with_context(|| format!("cannot open {}", options.file.display()))?)
    };
    let name = options.file.display().to_string();
    let name = if name == "-" { "standard input" } else { &name };
    let merge = if options.add { Merge::Sum } else { Merge::Larger };
    let mut complaints = 0;
    let imported = convert::import(from, &directory, merge, |line, wrong| {
        complaints += 1;
        if complaints <= COMPLAINTS {
            output::complain(&format!("tracker: {name}, line {line}: {wrong}\n"));
        }
    });
    if complaints > COMPLAINTS {
        let more = plural(complaints - COMPLAINTS, "more line is", "more lines are");
        output::complain(&format!("tracker: {name}: {more} wrong\n"));
    }
    let imported = imported?;
    Ok(output::print(&format!(
        "{}: {} came in, {} were there before; {} wrong\n",
        path_in(&directory).display(),
        plural(imported.new, "torrent", "torrents"),
        imported.merged,
        plural(imported.wrong, "line was", "lines were"),
    )))
}
