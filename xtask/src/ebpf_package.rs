//! The packages of this workspace that are eBPF programs, and where their objects are committed.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::workspace;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EbpfPackage {
    /// The XDP program; the daemon embeds its object
    TrackerEbpf,
    /// The program for network cards; the daemon embeds its object
    TrackerOffload,
    /// The benchmark's load generator; `cargo xtask bench` loads its object
    BenchEbpf,
}

impl EbpfPackage {
    pub const ALL: [Self; 3] = [Self::TrackerEbpf, Self::TrackerOffload, Self::BenchEbpf];

    /// The package's name, which is also that of its binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrackerEbpf => "tracker-ebpf",
            Self::TrackerOffload => "tracker-offload",
            Self::BenchEbpf => "bench-ebpf",
        }
    }

    /// Its directory, relative to the workspace root.
    pub fn directory(self) -> &'static str {
        match self {
            Self::TrackerEbpf => "tracker-ebpf",
            Self::TrackerOffload => "tracker-offload",
            Self::BenchEbpf => "bench/ebpf",
        }
    }

    /// Where its object is committed, relative to the workspace root.
    pub fn object(self) -> &'static str {
        match self {
            Self::TrackerEbpf => "tracker-user/bpf/tracker.bpf.o",
            Self::TrackerOffload => "tracker-user/bpf/offload.bpf.o",
            Self::BenchEbpf => "bench/bpf/bench.bpf.o",
        }
    }

    pub fn committed_object(self) -> PathBuf {
        workspace::root().join(self.object())
    }
}
