//! Developer tasks, run as `cargo xtask <command>`.
//!
//! One module per command. To add a command, write its module with an `Options` struct and a `run`
//! function, and give it an arm in [`Task`] and one in `main`.

// In place of the standard macros, everywhere in this program.
#[macro_use(println, eprintln)]
extern crate tracker_tests;

mod bench;
mod book;
mod budget;
mod build_ebpf;
mod card_rules;
mod clippy_ebpf;
mod cluster;
mod debian;
mod ebpf_cargo;
mod ebpf_package;
#[cfg(test)]
mod features;
mod fuzz;
mod hostile;
mod kernels;
mod needs;
mod object_file;
mod offload;
mod package;
mod record;
mod run;
mod soak;
mod source_hash;
mod test;
mod toolchain;
mod tools;
mod verification;
mod verifier;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracker_tests::{command, workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of the tracker")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure this tracker against others on one core, in network namespaces (root); --help tells
    /// its options
    Bench(bench::Options),
    /// Make a book to read in a browser of the documents (mdBook, built the first time)
    Book(book::Options),
    /// Build the eBPF programs from source, or check that the committed objects are up to date
    BuildEbpf(build_ebpf::Options),
    /// Run clippy on the eBPF programs for their real target
    ClippyEbpf(clippy_ebpf::Options),
    /// Run three trackers with one set of swarms, and show what each knows (root)
    Cluster(cluster::Options),
    /// Attack the tracker for several minutes, and count who is still served (root)
    Hostile(hostile::Options),
    /// Run the fuzz targets under libFuzzer, and say what came of it (root for the target xdp)
    Fuzz(fuzz::Options),
    /// Run the XDP program on Debian's kernels, in virtual machines
    Kernels(kernels::Options),
    /// Try the program for network cards on a simulated one, in a virtual machine
    Offload(offload::Options),
    /// Make the Debian package, or try it out on a Debian in a container (root)
    Package(package::Options),
    /// Run the tracker in a playground that touches no real interface (root), or with the options
    /// given
    Run(run::Options),
    /// Run the daemon with XDP under mixed load, with churn, junk and restarts, and account for every
    /// packet (root)
    Soak(soak::Options),
    /// Load the XDP program into this machine's kernel and print what the verifier says about it
    Verify(verify::Options),
    /// Run all tests, in-kernel and network tests included (root)
    Test(test::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Bench(options) => bench::run(&options),
        Task::Book(options) => book::run(&options),
        Task::BuildEbpf(options) => build_ebpf::run(&options),
        Task::ClippyEbpf(options) => clippy_ebpf::run(&options),
        Task::Cluster(options) => cluster::run(&options),
        Task::Hostile(options) => hostile::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Kernels(options) => kernels::run(&options),
        Task::Offload(options) => offload::run(&options),
        Task::Package(options) => package::run(&options),
        Task::Run(options) => run::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Verify(options) => verify::run(&options),
        Task::Test(options) => test::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `{error:?}`, which adds a backtrace of xtask: the errors say themselves what
            // failed.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
