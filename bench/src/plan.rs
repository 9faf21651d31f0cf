//! How systems are measured: on which cores, how often, for how long, and by which method.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use tracker_tests::interrupt;

use crate::{
    cores::{self, Cores},
    generator::Times,
};

/// How a system's speed is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A fixed number of requests is always on its way: every reply is turned into the next request
    Closed,
    /// The highest steady rate at which 99 % of the requests are answered
    Search,
}

/// What the command line says of a measurement.
#[derive(Clone, Debug)]
pub struct BenchPlan {
    pub cores: Cores,
    pub rounds: usize,
    pub times: Times,
    pub method: Method,
    /// Requests on their way in a closed loop.
    pub window: u32,
    /// How long the client's end waits before it looks for replies.
    pub moderation: Duration,
    /// Seeders among the peers, in per cent, instead of what the scenario says.
    pub seeders: Option<u32>,
    pub latency: bool,
    pub directory: PathBuf,
    pub programs: Programs,
    /// So much more than the scenario has there is to be room for in this tracker: torrents, and
    /// peers.
    pub spare: (u32, u32),
    /// Further options of this tracker.
    pub tracker_options: Vec<String>,
}

/// Programs to be used instead of those found in PATH.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Programs {
    /// The opentracker to measure, for example one built without a whitelist
    #[arg(long, value_name = "PATH")]
    pub opentracker: Option<PathBuf>,
    /// That opentracker needs no whitelist
    #[arg(long)]
    pub opentracker_is_open: bool,
    /// Worker threads of opentracker for UDP; 0 lets its event loop read the socket
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub opentracker_workers: u32,
}

impl BenchPlan {
    /// Prepares this process.
    pub fn begin(&self) -> anyhow::Result<()> {
        interrupt::catch()?;
        cores::pin(0, self.cores.load)
            .with_context(|| format!("cannot tie the benchmark to core {}: it needs two cores", self.cores.load))?;
        cores::set_nice(0, cores::FAVOURED).context("cannot set the benchmark's nice value (run as root)")
    }
}
