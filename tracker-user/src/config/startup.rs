//! What is decided at the start and cannot change while the tracker runs: interfaces, sockets,
//! sizes, where state is kept.

use super::{
    api::Api,
    invalid::{invalid, number},
    options::{ListeningOptions, MemoryOptions, Options, PrivilegeOptions, StateOptions},
    value::{DEFAULT_PORT, Listen, Switch},
};
use crate::{
    confine,
    http::tls::CertificateFiles,
    listen::Endpoint,
    logging::Format,
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
    /// Whether settings of the interfaces are changed for the tracker.
    pub tune: bool,
    /// UDP addresses.
    pub udp: Vec<Endpoint>,
    /// HTTP addresses.
    pub http: Vec<Endpoint>,
    /// Unix sockets for HTTP.
    pub http_unix: Vec<PathBuf>,
    /// HTTPS addresses.
    pub https: Vec<Endpoint>,
    /// What is spoken there with.
    pub certificate: Option<CertificateFiles>,
    /// HTTP addresses of the operator's own.
    pub admin: Vec<Endpoint>,
    /// The same as Unix sockets.
    pub admin_unix: Vec<PathBuf>,
    /// The admin API.
    pub api: Api,
    /// Other trackers with the same swarms, if there are any.
    pub cluster: Option<crate::cluster::Plan>,
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
    /// What the process may still do when it has started.
    pub privileges: confine::Wanted,
    /// How log lines are written.
    pub log_format: Format,
}

impl Startup {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// The first option that is out of range or does not go with the others.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let Options { xdp, listening, operator, memory, state, privileges, log, .. } = options;
        let xdp_mode = xdp.xdp_mode.unwrap_or_default();
        let state_dir = state_directory(state.state_dir.as_deref());
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let (udp, unix) = places("udp", listening.udp.as_deref())?;
        if let Some(path) = unix.first() {
            return invalid("udp", format!("is unix:{}; Unix sockets are for http and admin", path.display()));
        }
        let (http, http_unix) = places("http", listening.http.as_deref())?;
        let (admin, admin_unix) = places("admin", Some(operator.admin.as_deref().unwrap_or_default()))?;
        let (https, certificate) = https(listening)?;
        Ok(Self {
            interfaces: interfaces(xdp.interface.as_deref().unwrap_or_default(), xdp_mode)?,
            xdp_mode,
            force: xdp.force == Some(Switch::On),
            pins: pin_path(xdp.pin_path.as_deref())?,
            detach_on_stop: xdp.detach_on_stop == Some(Switch::On),
            tune: xdp.tune == Some(Switch::On),
            udp,
            http,
            http_unix,
            https,
            certificate,
            admin,
            admin_unix,
            api: Api::new(options)?,
            cluster: super::cluster::plan(options)?,
            udp_threads: number("udp-threads", listening.udp_threads, cores, 1..=1024)? as usize,
            http_threads: number("http-threads", listening.http_threads, cores, 1..=1024)? as usize,
            capacity: capacity(memory)?,
            huge_pages: memory.huge_pages == Some(Switch::On),
            snapshot: snapshots(state, state_dir.as_deref())?,
            state_dir,
            privileges: self::privileges(privileges),
            log_format: log.log_format.unwrap_or_default(),
        })
    }

    /// Whether anything is listened on that clients ask.
    #[must_use]
    pub fn listens(&self) -> bool {
        !(self.udp.is_empty() && self.http.is_empty() && self.http_unix.is_empty() && self.https.is_empty())
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
            tune,
            udp,
            http,
            http_unix,
            https,
            certificate,
            admin,
            admin_unix,
            api: Api { endpoints: api, secure: api_tls, unix: api_unix, peers: api_peers },
            cluster,
            udp_threads,
            http_threads,
            capacity: Capacity { torrents, peers_v4, peers_v6 },
            huge_pages,
            state_dir,
            snapshot,
            log_format,
            privileges: confine::Wanted { user, group, root, drop_capabilities, landlock, seccomp, upgrade },
        } = self;
        let theirs = &other.privileges;
        let interval = |plan: &Option<snapshot::Plan>| plan.as_ref().map(|plan| plan.interval);
        let peers = |plan: &Option<snapshot::Plan>| plan.as_ref().is_some_and(|plan| plan.peers);
        names([
            ("interface", *interfaces != other.interfaces),
            ("xdp-mode", *xdp_mode != other.xdp_mode),
            ("force", *force != other.force),
            ("pin-path", *pins != other.pins),
            ("detach-on-stop", *detach_on_stop != other.detach_on_stop),
            ("tune", *tune != other.tune),
            ("udp", *udp != other.udp),
            ("http", (http, http_unix) != (&other.http, &other.http_unix)),
            ("https", *https != other.https),
            (
                "tls-certificate",
                file(certificate, |files| &files.certificate) != file(&other.certificate, |files| &files.certificate),
            ),
            ("tls-key", file(certificate, |files| &files.key) != file(&other.certificate, |files| &files.key)),
            ("admin", (admin, admin_unix) != (&other.admin, &other.admin_unix)),
            ("api", (api, api_unix) != (&other.api.endpoints, &other.api.unix)),
            ("api-tls", *api_tls != other.api.secure),
            ("api-peers", *api_peers != other.api.peers),
            ("cluster", *cluster != other.cluster),
            ("udp-threads", *udp_threads != other.udp_threads),
            ("http-threads", *http_threads != other.http_threads),
            ("max-torrents", *torrents != other.capacity.torrents),
            ("max-peers", *peers_v4 != other.capacity.peers_v4),
            ("max-peers-v6", *peers_v6 != other.capacity.peers_v6),
            ("huge-pages", *huge_pages != other.huge_pages),
            ("state-dir", *state_dir != other.state_dir),
            ("snapshot-interval", interval(snapshot) != interval(&other.snapshot)),
            ("snapshot-peers", peers(snapshot) != peers(&other.snapshot)),
            ("log-format", *log_format != other.log_format),
            ("user", *user != theirs.user),
            ("group", *group != theirs.group),
            ("chroot", *root != theirs.root),
            ("drop-capabilities", *drop_capabilities != theirs.drop_capabilities),
            ("landlock", *landlock != theirs.landlock),
            ("seccomp", *seccomp != theirs.seccomp),
            ("in-place-upgrade", *upgrade != theirs.upgrade),
        ])
    }
}

/// Names of options that two configurations differ in.
pub(super) fn names(rows: impl IntoIterator<Item = (&'static str, bool)>) -> Vec<&'static str> {
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
        mode.label()
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

/// Addresses, and Unix sockets.
pub(super) fn places(option: &'static str, listen: Option<&[Listen]>) -> anyhow::Result<(Vec<Endpoint>, Vec<PathBuf>)> {
    let Some(listen) = listen else {
        let endpoints = vec![
            Endpoint { address: (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: false },
            Endpoint { address: (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: true },
        ];
        return Ok((endpoints, Vec::new()));
    };
    let (mut endpoints, mut paths) = (Vec::new(), Vec::new());
    for listen in listen {
        match listen {
            Listen::At(address) => endpoints.push(Endpoint { address: *address, optional: false }),
            Listen::Unix(path) => paths.push(path.clone()),
            Listen::Off => {}
        }
    }
    if listen.contains(&Listen::Off) && !(endpoints.is_empty() && paths.is_empty()) {
        return invalid(option, "has off and addresses besides; leave out one of them".into());
    }
    Ok((endpoints, paths))
}

/// Where HTTPS is spoken, and with what.
fn https(options: &ListeningOptions) -> anyhow::Result<(Vec<Endpoint>, Option<CertificateFiles>)> {
    let (endpoints, unix) = places("https", Some(options.https.as_deref().unwrap_or_default()))?;
    if let Some(path) = unix.first() {
        return invalid("https", format!("is unix:{}; Unix sockets are for http and admin", path.display()));
    }
    match (&options.tls_certificate, &options.tls_key) {
        (Some(certificate), Some(key)) => {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            Ok((endpoints, Some(files)))
        }
        (None, None) if endpoints.is_empty() => Ok((endpoints, None)),
        (None, None) => invalid("https", "takes tls-certificate and tls-key".into()),
        (Some(_), None) => invalid("tls-certificate", "takes tls-key as well".into()),
        (None, Some(_)) => invalid("tls-key", "takes tls-certificate as well".into()),
    }
}

/// One of the files of a certificate.
fn file<'a>(
    files: &'a Option<CertificateFiles>,
    which: impl Fn(&'a CertificateFiles) -> &'a PathBuf,
) -> Option<&'a PathBuf> {
    files.as_ref().map(which)
}

fn privileges(options: &PrivilegeOptions) -> confine::Wanted {
    let is_on = |switch: Option<Switch>| switch != Some(Switch::Off);
    confine::Wanted {
        user: options.user.clone(),
        group: options.group.clone(),
        root: options.chroot.clone(),
        drop_capabilities: is_on(options.drop_capabilities),
        landlock: is_on(options.landlock),
        seccomp: is_on(options.seccomp),
        upgrade: is_on(options.in_place_upgrade),
    }
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
