//! What the black-box and in-kernel tests are made of. Nothing here is compiled from the tracker's
//! own code: frames, requests and replies are written and read a second time, from the standards,
//! so that a mistake cannot hide by being made twice.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`packet`] | Ethernet frames: a builder with knobs, a parser that checks everything |
//! | [`bep15`] | requests and replies of the UDP tracker protocol |
//! | [`decision_table`] | the table of decisions: packet in, expected outcome, counter, store before and after |
//! | [`namespace`] | network namespaces and the veth pairs between them |
//! | [`cards`] | the pairs of network cards that the guests of `cargo xtask kernels` have |
//! | [`bpf`] | `bpf(2)`: test runs of XDP programs; maps and programs by number |
//! | [`bpffs`] | BPF file systems, for what trackers pin |
//! | [`pass`] | the XDP program that the far end of a veth pair needs |
//! | [`raw`] | sockets that send and receive whole frames |
//! | [`supervised`] | child processes: started, waited for, ended, and what they print |
//! | [`tracker`] | the daemon as a child process |
//! | [`opentracker`] | Debian's opentracker as a child process |
//! | [`client`] | UDP and HTTP clients |
//! | [`control_group`] | control groups with little memory |
//! | [`bencode`] | what HTTP replies are written in |
//! | [`command`] | other programs, with errors that say what was run |
//! | [`interrupt`] | what signals do to a program that has to clear away before it ends |
//! | [`temporary`] | directories and files of a test's own |
//! | [`workspace`] | where things are in this workspace |
//! | [`println`], [`eprintln`] | printing that does not panic when nobody reads |
//!
//! The tests themselves are in `tests/`; what needs root or BPF fails without it and says so.

// First, and textually before what uses its macros.
#[macro_use]
mod output;

pub mod bencode;
pub mod bep15;
pub mod bpf;
pub mod bpffs;
pub mod cards;
pub mod client;
pub mod command;
pub mod control_group;
pub mod decision_table;
pub mod interrupt;
pub mod namespace;
pub mod opentracker;
pub mod packet;
pub mod pass;
pub mod raw;
pub mod supervised;
pub mod temporary;
pub mod tracker;
pub mod workspace;

/// How long to wait where this machine would take `usual`. Tests in an emulated machine are told by
/// `TRACKER_TESTS_PATIENCE` how many times as long: the guests of `cargo xtask kernels` are.
#[must_use]
pub fn patience(usual: std::time::Duration) -> std::time::Duration {
    static TIMES: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let read = || std::env::var("TRACKER_TESTS_PATIENCE").ok()?.parse().ok();
    usual * *TIMES.get_or_init(|| read().unwrap_or(1))
}

/// Waits until something is so, which may take up to half a minute.
///
/// # Panics
/// When it is not so by then.
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + patience(std::time::Duration::from_secs(30));
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not within half a minute: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
