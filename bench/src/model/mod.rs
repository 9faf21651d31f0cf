//! `cargo xtask bench model`: what a request takes, counted instead of timed.
//!
//! The compiled XDP program is executed by an interpreter, with its maps in ordinary memory. So it
//! needs no privileges, disturbs nobody, and counts the same in every run: instructions, calls, and
//! the cache lines and pages of the maps, with a model of which of them a processor would have to
//! wait for. What that takes in nanoseconds is not its business; `profile` measures that.
//!
//! | module | holds |
//! |---|---|
//! | `elf`, `lines` | the object: code, maps; source lines |
//! | `instruction`, `machine`, `helpers` | executing it |
//! | `memory` | packet, stack, and elements of maps |
//! | `observer`, `caches` | counting; what is in the caches |
//! | `tracker` | maps and settings as the daemon makes them |
//! | `frames`, `kinds` | requests |
//! | `report` | tables |

mod caches;
mod elf;
mod frames;
mod helpers;
mod instruction;
mod kinds;
mod lines;
mod machine;
mod memory;
mod observer;
mod report;
#[cfg(test)]
mod tests;
mod tracker;

use std::{fs, path::PathBuf};

use ::tracker::{store::sizes::Capacity, xdp::object};
use anyhow::{Context as _, ensure};
use tracker_tests::{interrupt, workspace};

use self::{kinds::Course, machine::Room, tracker::Tracker};
use crate::{
    options::find_scenarios,
    scenario::{Kind, Scenario},
    system,
    testbed::Family,
};

/// The scenarios that are counted without `--scenario`.
const SCENARIOS: [&str; 6] = ["small", "zipf", "swarm-64k", "ipv6", "seeders", "scrape-74"];

#[derive(clap::Args)]
pub struct Options {
    /// Only this scenario; may be given several times
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Only requests whose kind has this in its name, such as `50 wanted`
    #[arg(long, value_name = "TEXT")]
    kind: Option<String>,
    /// Another object than the one that TRACKER_EBPF_OBJECT names, or that is committed
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// Requests of each kind that are counted, after as many to warm up
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    requests: usize,
    /// So much of the scenarios' torrents and peers
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    scale: f64,
    /// So many ranges of blocked addresses, none of which is a client's
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    blocked: u32,
    /// With limits per source, which no client reaches
    #[arg(long)]
    limits: bool,
    /// What a cluster costs: requests of which other trackers are told, without others and with them
    #[arg(long, conflicts_with_all = ["json", "hot"])]
    cluster: bool,
    /// The room that drivers leave around a packet
    #[arg(long, value_enum, default_value = "page")]
    room: Room,
    /// The memory of each map for all kinds
    #[arg(long)]
    by_map: bool,
    /// Also the functions and lines of the source with the most instructions, for each kind
    #[arg(long, value_name = "ROWS", num_args = 0..=1, default_missing_value = "40")]
    hot: Option<usize>,
    /// JSON instead of tables
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    interrupt::catch()?;
    let names = match options.scenarios.as_slice() {
        [] => SCENARIOS.map(str::to_owned).to_vec(),
        chosen => chosen.to_vec(),
    };
    ensure!(options.scale > 0.0 && options.scale <= 1.0, "--scale has to be more than 0 and at most 1");
    ensure!(options.requests > 0, "--requests has to be at least 1");
    let object = match &options.object {
        Some(path) => {
            fs::read(path).with_context(|| format!("cannot read the object {}", workspace::display(path)))?.into()
        }
        None => object::object()?,
    };
    if !options.json {
        println!("{}\n", report::EXPLANATION);
    }
    let mut all = Vec::new();
    for scenario in find_scenarios(&names)? {
        all.extend(count(scenario, &object, options)?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn count(scenario: &Scenario, object: &[u8], options: &Options) -> anyhow::Result<Option<serde_json::Value>> {
    ensure!(matches!(scenario.load, Kind::Udp(_)), "{} is about HTTP, which XDP has no part in", scenario.name);
    let scaled = |number: u32| ((f64::from(number) * options.scale) as u32).max(1);
    let scaled = Scenario { torrents: scaled(scenario.torrents), peers: scaled(scenario.peers), ..*scenario };
    let (v4, v6) = match scaled.family {
        Family::V4 => (scaled.peers, 0),
        Family::V6 => (0, scaled.peers),
    };
    let capacity = Capacity {
        torrents: scaled.torrents.max(system::LEAST_TORRENTS).into(),
        peers_v4: v4.max(system::LEAST_PEERS).into(),
        peers_v6: v6.max(system::LEAST_PEERS).into(),
    };
    let course = |tells| -> anyhow::Result<_> {
        let mut tracker = Tracker::new(object, &capacity, options.room, options.blocked)?;
        if options.limits {
            tracker.count_sources();
        }
        Ok(Course::new(tracker, &scaled, scaled.seeders * 256 / 100, tells))
    };
    if options.cluster {
        let mut both = Vec::new();
        for tells in [false, true] {
            let mut course = course(tells)?;
            let new = course.fill(options.requests)?;
            let mut results = kinds::CHANGES
                .iter()
                .map(|kind| course.requests(*kind, options.requests))
                .collect::<Result<Vec<_>, _>>()?;
            results.push(new);
            both.push(results);
        }
        println!("{}", report::cluster(&scaled, &both[0], &both[1]));
        return Ok(None);
    }
    let mut course = course(false)?;
    let is_chosen = |name: &str| options.kind.as_ref().is_none_or(|text| name.contains(text.as_str()));
    let mut results = vec![course.fill(options.requests)?];
    for kind in kinds::of(scenario).iter().filter(|kind| is_chosen(kind.name)) {
        interrupt::check()?;
        results.push(course.requests(*kind, options.requests)?);
    }
    results.rotate_left(1);
    results.retain(|result| is_chosen(result.kind.name));
    let image = &course.tracker.image;
    if options.json {
        return Ok(Some(report::json(&scaled, image, &results)));
    }
    println!("{}", report::table(&scaled, image, &results, options.by_map));
    if let Some(rows) = options.hot {
        for result in &results {
            println!("{}", report::hot(image, result, rows));
        }
    }
    Ok(None)
}
