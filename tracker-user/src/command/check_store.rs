//! `tracker check-store`: whether the store of a running tracker hangs together.

use crate::{
    store::{
        CounterSet, Store, StoreMap,
        check::{Fault, Patience, Report, check},
        sizes::STORE_MAPS,
    },
    text::{output, plural},
    trace,
    xdp::pins::store_in,
};
use anyhow::Context as _;
use aya::maps::{MapData, MapInfo};
use clap::Args;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

const STATUS: &str = "\
The store is mapped for reading only, and no lock is taken: a tracker that answers meanwhile is not disturbed. What is wrong for a
moment, because it is being changed, is not told. Exit status: 0 for nothing wrong, 1 for something, 2 if it could not be checked.";

/// Most faults that are printed one by one.
const SHOWN: usize = 100;

/// Options of `tracker check-store`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = STATUS)]
pub struct CheckOptions {
    /// Number of the XDP program whose store is checked, where several trackers run [default: the
    /// only one]
    #[arg(long, value_name = "NUMBER")]
    pub program: Option<u32>,
    /// Directory with the pinned maps of a store, instead of the maps of a loaded program
    #[arg(long, value_name = "PATH", conflicts_with = "program")]
    pub pin_path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks, and prints what was found.
#[must_use]
pub fn run(options: &CheckOptions) -> ExitCode {
    let report = match observe(options).context("cannot check the store") {
        Ok(store) => check(&Arc::new(store).handle(CounterSet::Expiry).context(), Patience::BUSY),
        Err(error) => {
            output::complain(&format!("tracker: {error:#}\n"));
            return ExitCode::from(2);
        }
    };
    let text = if options.json { json(&report) } else { describe(&report) };
    let printed = output::print(&text);
    match printed {
        ExitCode::SUCCESS if report.faults.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

/// Maps the store.
fn observe(options: &CheckOptions) -> anyhow::Result<Store> {
    match &options.pin_path {
        Some(directory) => observe_pinned(directory),
        None => map(&loaded(options.program)?),
    }
}

/// Maps the store that is pinned in a directory.
///
/// # Errors
/// When there is none, or it cannot be mapped.
pub fn observe_pinned(directory: &Path) -> anyhow::Result<Store> {
    map(&pinned(directory)?)
}

fn map(files: &Files) -> anyhow::Result<Store> {
    Store::observe(|name| {
        let (file, info) = files.get(name).with_context(|| format!("there is no map {name}"))?;
        Ok(StoreMap { file: file.as_fd(), elements: info.max_entries(), element_bytes: info.value_size() })
    })
}

/// Maps by name.
type Files = BTreeMap<String, (OwnedFd, MapInfo)>;

/// Those of a loaded program.
fn loaded(program: Option<u32>) -> anyhow::Result<Files> {
    let tracker = trace::running_tracker(program)?;
    let open = |(name, info): (String, MapInfo)| {
        let file = info.fd().with_context(|| format!("cannot open the map {name}"))?;
        let file = file.as_fd().try_clone_to_owned().with_context(|| format!("cannot keep the map {name} open"))?;
        Ok((name, (file, info)))
    };
    trace::maps_of(tracker.program)?.into_iter().map(open).collect()
}

/// Those pinned in a directory, under their names.
fn pinned(directory: &Path) -> anyhow::Result<Files> {
    let directory = store_in(directory);
    let open = |name: &str| {
        let path = directory.join(name);
        let map = MapData::from_pin(&path).with_context(|| format!("cannot open the pinned map {}", path.display()))?;
        let info = map.info().with_context(|| format!("cannot ask for the size of {}", path.display()))?;
        let file = map.fd().as_fd().try_clone_to_owned().context("cannot keep a pinned map open")?;
        Ok((name.to_owned(), (file, info)))
    };
    STORE_MAPS.into_iter().map(open).collect()
}

/// The names of the kinds of records in [`Report::pools`].
const POOLS: [&str; 3] = ["partitions", "chunks_v4", "chunks_v6"];

/// For people.
fn describe(report: &Report) -> String {
    let mut text = format!(
        "{}: {}, {}; {}, {}\n",
        plural(report.torrents, "torrent", "torrents"),
        plural(report.seeders, "seeder", "seeders"),
        plural(report.leechers, "leecher", "leechers"),
        plural(report.peers_v4, "IPv4 peer", "IPv4 peers"),
        plural(report.peers_v6, "IPv6 peer", "IPv6 peers"),
    );
    let _ = writeln!(text, "{:<12}{:>12}{:>12}{:>12}{:>12}", "", "limit", "ever used", "in use", "free again");
    for (name, pool) in POOLS.iter().zip(&report.pools) {
        let _ = writeln!(text, "{name:<12}{:>12}{:>12}{:>12}{:>12}", pool.limit, pool.fresh, pool.reached, pool.free);
    }
    if report.restless > 0 {
        let swarms = plural(report.restless, "swarm", "swarms");
        let _ = writeln!(text, "{swarms} changed at every look, and could not be counted");
    }
    if report.hidden > 0 {
        let torrents = plural(report.hidden, "torrent", "torrents");
        let _ = writeln!(text, "{torrents} hidden by another one with the same tag, by coincidence");
    }
    for Fault { kind, what } in report.faults.iter().take(SHOWN) {
        let _ = writeln!(text, "WRONG {}: {what}", kind.name());
    }
    if report.faults.len() > SHOWN {
        let _ = writeln!(text, "and {} more", report.faults.len() - SHOWN);
    }
    let passes = plural(report.passes.into(), "pass", "passes");
    let faults = plural(report.faults.len() as u64, "fault", "faults");
    let _ = if report.faults.is_empty() {
        writeln!(text, "sound, after {passes}")
    } else {
        writeln!(text, "not sound: {faults}, after {passes}")
    };
    text
}

/// For machines.
fn json(report: &Report) -> String {
    let mut text = format!(
        "{{\"torrents\":{},\"seeders\":{},\"leechers\":{},\"peers_v4\":{},\"peers_v6\":{},\"restless\":{},\"hidden\":{},\
         \"passes\":{}",
        report.torrents,
        report.seeders,
        report.leechers,
        report.peers_v4,
        report.peers_v6,
        report.restless,
        report.hidden,
        report.passes
    );
    for (name, pool) in POOLS.iter().zip(&report.pools) {
        let _ = write!(
            text,
            ",\"{name}\":{{\"limit\":{},\"fresh\":{},\"in_use\":{},\"free\":{}}}",
            pool.limit, pool.fresh, pool.reached, pool.free
        );
    }
    // What is wrong is told in words without quotes, backslashes or control characters.
    let faults: Vec<String> = report
        .faults
        .iter()
        .map(|Fault { kind, what }| format!("{{\"kind\":\"{}\",\"what\":\"{what}\"}}", kind.name()))
        .collect();
    let _ = writeln!(text, ",\"faults\":[{}]}}", faults.join(","));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check::Kind;

    #[test]
    fn what_is_wrong_is_told_to_people_and_machines() {
        let mut report = Report { torrents: 1, leechers: 2, passes: 1, ..Report::default() };
        let text = describe(&report);
        assert!(
            text.starts_with("1 torrent: 0 seeders, 2 leechers; 0 IPv4 peers")
                && text.ends_with("sound, after 1 pass\n")
        );
        assert!(json(&report).ends_with(",\"faults\":[]}\n"), "{}", json(&report));
        let fault = Fault { kind: Kind::Leaked, what: "IPv4 chunk 7: neither free nor reachable".into() };
        report.faults = vec![fault; 101];
        let text = describe(&report);
        assert!(text.contains("WRONG leaked: IPv4 chunk 7") && text.contains("and 1 more"), "{text}");
        assert!(text.ends_with("not sound: 101 faults, after 1 pass\n"), "{text}");
        assert!(json(&report).contains(r#"{"kind":"leaked","what":"IPv4 chunk 7: neither free nor reachable"},"#));
    }
}
