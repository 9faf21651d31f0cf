//! `tracker sizes`: the memory that a capacity takes.

use crate::{
    config::{MemoryOptions, capacity},
    http,
    statistics::timeline,
    store::sizes::{self, Sizes},
    text::human_bytes,
};
use clap::Args;

/// Options of `tracker sizes`.
#[derive(Args, Clone, Debug, Default)]
pub struct SizeOptions {
    /// The same as those of `tracker run`.
    #[command(flatten)]
    pub memory: MemoryOptions,
}

/// The layout of the store and what it takes, for people.
///
/// # Errors
/// When a number is out of range.
pub fn describe(options: &SizeOptions) -> anyhow::Result<String> {
    let capacity = capacity(&options.memory)?;
    let sizes = Sizes::new(&capacity)?;
    Ok(format!(
        "Room for {capacity}\n\n{sizes}\n\n\
         {:>6.1} bytes per torrent with one IPv4 peer (record and index)\n\
         {:>6.1} bytes per further IPv4 peer in a big swarm\n\
         {:>6.1} bytes per further IPv6 peer in a big swarm\n\n{}\n\
         {:>12}  the last hour and day of the figures\n",
        sizes::bytes_per_torrent(),
        sizes::bytes_per_peer_v4(),
        sizes::bytes_per_peer_v6(),
        http::tracker::footprint::Footprint {
            limits: &http::Limits::default(),
            full_scrape: &http::tracker::FullScrapeLimits::default(),
            torrents: capacity.torrents
        },
        human_bytes(timeline::BYTES)
    ))
}
