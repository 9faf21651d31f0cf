//! What an operator can switch on, all of it: lists as long as they come, and limits, none of which
//! any client of the benchmark is on or reaches.

use std::{net::Ipv4Addr, path::Path, process::Command};

use crate::lists::{hexadecimal, write_lines};

/// Files of lists.
pub const TORRENTS: &str = "denied.txt";
pub const ADDRESSES: &str = "blocked.txt";

/// Entries of the lists.
const DENIED: u32 = 1_000_000;
const BLOCKED: u32 = 500_000;

/// The first address that may be blocked; clients have lower ones.
const FROM: u32 = 100 << 24;

/// The first torrent that is denied; scenarios have lower ones.
const FIRST: u32 = 1 << 31;

/// Writes the lists, and has the tracker read them.
pub fn arguments(command: &mut Command, directory: &Path) -> anyhow::Result<()> {
    let (torrents, addresses) = (directory.join(TORRENTS), directory.join(ADDRESSES));
    write_lines(&torrents, (FIRST..FIRST + DENIED).map(hexadecimal))?;
    let step = (u32::MAX - FROM) / BLOCKED;
    let range = |number| Ipv4Addr::from_bits(FROM + number * step);
    write_lines(
        &addresses,
        (0..BLOCKED).map(|number| {
            let first = range(number);
            format!("{first}-{}", Ipv4Addr::from_bits(first.to_bits() + 7))
        }),
    )?;
    command.arg("--deny-list").arg(torrents).arg("--block-addresses").arg(addresses);
    for limit in ["--limit-connects", "--limit-announces", "--limit-scrapes"] {
        command.args([limit, "1000000"]);
    }
    Ok(())
}
