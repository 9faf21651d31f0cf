//! Files of lists that trackers read.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::Context as _;
use bench_ebpf::info_hash;
use tracker_tests::workspace;

/// An info_hash as lists have it.
pub fn hexadecimal(torrent: u32) -> String {
    info_hash(torrent).into_iter().flat_map(u32::to_ne_bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a list.
pub fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(File::create(path)?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", workspace::display(path)))
}
