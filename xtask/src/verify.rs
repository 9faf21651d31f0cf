//! `cargo xtask verify`: does the kernel take the XDP program, and how hard was it for the
//! verifier?

use std::{env, path::PathBuf};

use clap::Args;

use crate::{
    budget, card_rules,
    ebpf_package::EbpfPackage,
    verification::{self, Verification},
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
    /// Write the figures as JSON to this file instead of printing them, as `cargo xtask kernels`
    /// has it done in its guests
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
    /// Where the verifier's logs of refused programs are written [default: the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let figures = card_rules::check_file(&EbpfPackage::TrackerOffload.committed_object())?;
    eprintln!(
        "the program for cards keeps the rules of nfp: {} instructions, {} bytes of stack, {} maps",
        figures.instructions, figures.stack, figures.maps
    );
    let object = object_to_load(options.object.clone());
    let logs = options.logs.clone().unwrap_or_else(verification::default_logs);
    let verification = Verification::measure(&object, &logs)?;
    match &options.report {
        Some(report) => verification.write(report)?,
        None => verification.print(&logs),
    }
    verification.ensure_accepted()?;
    if options.record {
        budget::record(&verification)?;
    }
    if options.budget {
        budget::compare(&verification)?;
    }
    Ok(())
}

/// The object named, else the one that the environment names, else the committed one.
pub fn object_to_load(named: Option<PathBuf>) -> PathBuf {
    named
        .or_else(|| env::var_os(workspace::OBJECT_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| EbpfPackage::TrackerEbpf.committed_object())
}
