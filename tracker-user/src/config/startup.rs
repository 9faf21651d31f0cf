//! What is decided at the start and cannot change while the tracker runs: interfaces, sockets,
//! sizes, where state is kept.

use super::{
    invalid::{invalid, number},
    options::{MemoryOptions, Options, StateOptions},
    value::{DEFAULT_PORT, Listen, Switch},
};
use crate::{
    listen::Endpoint,
    snapshot,
    store::sizes::Capacity,
    xdp::{XdpMode, pins},
};
use anyhow::ensure;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

/// The part of the configuration that is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Interfaces for the XDP program.
    pub interfaces: Vec<String>,
    /// Where it runs.
    pub xdp_mode: XdpMode,
    /// Whether to take the place of other XDP programs.
    pub force: bool,
    /// Where it is pinned.
    pub pins: pins::Wanted,
    /// Whether what is pinned is taken down on a signal to stop.
    pub detach_on_stop: bool,
    /// UDP addresses.
    pub udp: Vec<Endpoint>,
    /// HTTP addresses.
    pub http: Vec<Endpoint>,
    /// Threads per UDP address.
    pub udp_threads: usize,
    /// Threads for HTTP.
    pub http_threads: usize,
    /// Room for torrents and peers.
    pub capacity: Capacity,
    /// Whether a store in ordinary memory is to have pages of 2 MiB.
    pub huge_pages: bool,
    /// Where the connection key is kept.
    pub state_dir: Option<PathBuf>,
    /// Snapshots in that directory, if they are taken.
    pub snapshot: Option<snapshot::Plan>,
}

impl Startup {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// The first option that is out of range or does not go with the others.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let Options { xdp, listening, memory, state, .. } = options;
        let xdp_mode = xdp.xdp_mode.unwrap_or_default();
        let state_dir = state_directory(state.state_dir.as_deref());
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Ok(Self {
            interfaces: interfaces(xdp.interface.as_deref().unwrap_or_default(), xdp_mode)?,
            xdp_mode,
            force: xdp.force == Some(Switch::On),
            pins: pin_path(xdp.pin_path.as_deref())?,
            detach_on_stop: xdp.detach_on_stop == Some(Switch::On),
            udp: endpoints("udp", listening.udp.as_deref())?,
            http: endpoints("http", listening.http.as_deref())?,
            udp_threads: number("udp-threads", listening.udp_threads, cores, 1..=1024)? as usize,
            http_threads: number("http-threads", listening.http_threads, cores, 1..=1024)? as usize,
            capacity: capacity(memory)?,
            huge_pages: memory.huge_pages == Some(Switch::On),
            snapshot: snapshots(state, state_dir.as_deref())?,
            state_dir,
        })
    }

    /// Names of the options that differ in another configuration.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        // Complete: a new field does not compile before it is here.
        let Self {
            interfaces,
            xdp_mode,
            force,
            pins,
            detach_on_stop,
            udp,
            http,
            udp_threads,
            http_threads,
            capacity: Capacity { torrents, peers_v4, peers_v6 },
            huge_pages,
            state_dir,
            snapshot,
        } = self;
        let interval = |plan: &Option<snapshot::Plan>| plan.as_ref().map(|plan| plan.interval);
        let peers = |plan: &Option<snapshot::Plan>| plan.as_ref().is_some_and(|plan| plan.peers);
        names([
            ("interface", *interfaces != other.interfaces),
            ("xdp-mode", *xdp_mode != other.xdp_mode),
            ("force", *force != other.force),
            ("pin-path", *pins != other.pins),
            ("detach-on-stop", *detach_on_stop != other.detach_on_stop),
            ("udp", *udp != other.udp),
            ("http", *http != other.http),
            ("udp-threads", *udp_threads != other.udp_threads),
            ("http-threads", *http_threads != other.http_threads),
            ("max-torrents", *torrents != other.capacity.torrents),
            ("max-peers", *peers_v4 != other.capacity.peers_v4),
            ("max-peers-v6", *peers_v6 != other.capacity.peers_v6),
            ("huge-pages", *huge_pages != other.huge_pages),
            ("state-dir", *state_dir != other.state_dir),
            ("snapshot-interval", interval(snapshot) != interval(&other.snapshot)),
            ("snapshot-peers", peers(snapshot) != peers(&other.snapshot)),
        ])
    }
}

/// Names of options that two configurations differ in.
pub(super) fn names<const N: usize>(rows: [(&'static str, bool); N]) -> Vec<&'static str> {
    rows.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// Where to pin. The path may be that of no file system yet, which is found out when it is needed.
fn pin_path(path: Option<&Path>) -> anyhow::Result<pins::Wanted> {
    match path {
        None => Ok(pins::Wanted::IfPossible),
        Some(path) if path == "off" => Ok(pins::Wanted::Off),
        Some(path) if path.is_absolute() => Ok(pins::Wanted::At(path.to_owned())),
        Some(path) => invalid(
            "pin-path",
            format!(
                "is {}; it can be off, or a path that begins with /, such as {}",
                path.display(),
                pins::DEFAULT_PATH
            ),
        ),
    }
}

/// Each interface once.
fn interfaces(names: &[String], mode: XdpMode) -> anyhow::Result<Vec<String>> {
    ensure!(
        !names.is_empty() || matches!(mode, XdpMode::Auto | XdpMode::Off),
        "--xdp-mode {} needs to know where: add --interface with the interface that clients come in by",
        if mode == XdpMode::Native { "native" } else { "generic" }
    );
    let mut unique: Vec<String> = Vec::new();
    for name in names {
        if name.is_empty() {
            return invalid("interface", "has an empty name in it; `ip link` lists the names".into());
        }
        if !unique.contains(name) {
            unique.push(name.clone());
        }
    }
    Ok(unique)
}

/// Capacity with their defaults. The defaults take 72 MiB: they suit a small virtual machine, and
/// the tracker of a small community never gets near them.
///
/// # Errors
/// When one is out of range.
pub fn capacity(options: &MemoryOptions) -> anyhow::Result<Capacity> {
    let peers_v4 = number("max-peers", options.max_peers, 1_000_000, 1..=50_000_000_000)?;
    Ok(Capacity {
        torrents: number("max-torrents", options.max_torrents, 250_000, 1..=2_000_000_000)?,
        peers_v4,
        peers_v6: number("max-peers-v6", options.max_peers_v6, (peers_v4 / 3).max(1), 0..=30_000_000_000)?,
    })
}

fn endpoints(option: &'static str, listen: Option<&[Listen]>) -> anyhow::Result<Vec<Endpoint>> {
    let Some(listen) = listen else {
        return Ok(vec![
            Endpoint { address: (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: false },
            Endpoint { address: (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: true },
        ]);
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for listen in listen {
        if let Listen::At(address) = *listen {
            endpoints.push(Endpoint { address, optional: false });
        }
    }
    if listen.contains(&Listen::Off) && !endpoints.is_empty() {
        return invalid(option, "has off and addresses besides; leave out one of them".into());
    }
    Ok(endpoints)
}

/// What is kept in the state directory besides the key; nothing without one.
fn snapshots(options: &StateOptions, directory: Option<&Path>) -> anyhow::Result<Option<snapshot::Plan>> {
    // The longest is a week: what is older than that says little about swarms.
    let interval = number("snapshot-interval", options.snapshot_interval, 15 * 60, 0..=7 * 86_400)?;
    let peers = options.snapshot_peers == Some(Switch::On);
    let Some(directory) = directory else {
        if peers {
            return invalid(
                "snapshot-peers",
                "is on, but there is no directory for it; name one by --state-dir".into(),
            );
        }
        return Ok(None);
    };
    if peers && interval == 0 {
        return invalid("snapshot-peers", "is on, but snapshot-interval is off".into());
    }
    let plan = snapshot::Plan { directory: directory.to_owned(), interval: Duration::from_secs(interval), peers };
    Ok((interval != 0).then_some(plan))
}

/// The state directory: the one given, or systemd's.
#[must_use]
pub fn state_directory(given: Option<&Path>) -> Option<PathBuf> {
    given.map(Path::to_owned).or_else(systemd_state_directory)
}

/// `StateDirectory=` of a systemd unit; the first one if there are several.
fn systemd_state_directory() -> Option<PathBuf> {
    let directories = std::env::var_os("STATE_DIRECTORY")?;
    let directories = directories.to_str()?;
    let first = Path::new(directories.split(':').next()?);
    first.is_absolute().then(|| first.to_path_buf())
}
