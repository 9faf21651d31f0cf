//! The command line and the configuration file. Both know the same options by the same names; the command line wins.

mod file;
mod trace;
mod value;

pub use trace::TraceOptions;
pub use value::{Listen, Switch, XdpMode};

use crate::{
    expiry::{LONGEST_PEER_TIMEOUT, Timeouts},
    sizes::Limits,
};
use anyhow::ensure;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::{
    ffi::OsString,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use tracker_common::{
    bep15::wire::{ANNOUNCE_REPLY_LEN, PEER_V4, PEER_V6},
    net::headers::Udp,
    store::family::{Family as _, V4, V6},
};

/// The port trackers have always had.
pub const DEFAULT_PORT: u16 = 6969;

const EXAMPLES: &str = "\
Examples:
  tracker run
      UDP and HTTP on port 6969 through ordinary sockets; takes no privileges.
  sudo tracker run --interface eth0
      The same, and the XDP program on eth0 answers UDP before the network stack sees it.
  tracker run --config /etc/tracker.toml
      Options from a file, for instance:
          interface = [\"eth0\"]
          udp = [\"0.0.0.0:6969\", \"[::]:6969\"]
          max-torrents = \"2M\"
          max-peers = 10_000_000
          interval = \"30m\"
  tracker sizes --max-torrents 2M --max-peers 10M
      How much memory that would take.
  sudo tracker trace --source 192.0.2.7
      What the XDP program of the running tracker makes of that client's packets.

Numbers may be written as 10k, 1.5M or 1_000_000, times as 1800, 90s, 30m, 1h30m or 2d.
Announce URLs are udp://HOST:6969/announce and http://HOST:6969/announce; http://HOST:6969/stats shows how it is going.
HTTP answers old ones as well: /announce.php, /announce/KEY, /KEY/announce, //announce and the like.
The environment variable RUST_LOG (error, warn, info, debug) says how much is logged; info is the default.";

/// A BitTorrent tracker for public swarms: UDP (BEP 15) answered by an XDP program or by sockets, and HTTP, on one store in
/// memory.
#[derive(Debug, Parser)]
#[command(name = "tracker", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl CommandLine {
    /// Reads a command line, the program's name included.
    ///
    /// # Errors
    /// When it is wrong, or asks for help or the version.
    pub fn read(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        // Else a negative number would be taken for an option, and said to be unknown.
        let numbers = |command: clap::Command| {
            command.mut_args(|argument| {
                let takes_value = argument.get_action().takes_values() && argument.get_long() != Some("force");
                argument.allow_negative_numbers(takes_value)
            })
        };
        let command = Self::command()
            .mut_subcommand("run", numbers)
            .mut_subcommand("sizes", numbers)
            .mut_subcommand("trace", numbers);
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, once")]
pub enum Command {
    /// Run the tracker until SIGTERM or SIGINT
    #[command(after_help = EXAMPLES)]
    Run(Options),
    /// Print the layout of the store and the memory it takes
    Sizes(SizeOptions),
    /// Show single packets as the XDP program of the running tracker sees them
    Trace(TraceOptions),
    /// Print the version
    Version,
}

/// Options of `tracker sizes`.
#[derive(Args, Clone, Debug, Default)]
pub struct SizeOptions {
    /// Room for this many torrents
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub max_torrents: Option<u64>,
    /// Room for this many IPv4 peers
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub max_peers: Option<u64>,
    /// Room for this many IPv6 peers
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub max_peers_v6: Option<u64>,
}

/// Options of `tracker run`, as given: on the command line, or in the file, or not at all.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Read options from this TOML file; they have the names they have here, and the command line wins
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the others were found, if not on the command line.
    #[arg(skip)]
    pub origin: file::Origin,

    /// Attach the XDP program to this interface; may be given several times. Without it UDP is answered by sockets only
    #[arg(long, value_name = "INTERFACE", help_heading = "XDP")]
    pub interface: Option<Vec<String>>,
    /// Where the XDP program runs: in the driver (native), in the network stack (generic, slower, works everywhere), nowhere
    /// (off), or the best of these that works (auto) [default: auto]
    #[arg(long, value_name = "MODE", help_heading = "XDP", ignore_case = true, hide_possible_values = true)]
    pub xdp_mode: Option<XdpMode>,
    /// Take the place of an XDP program that somebody else attached to the interface
    #[arg(
        long,
        value_name = "on|off",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        help_heading = "XDP"
    )]
    pub force: Option<Switch>,

    /// Where to answer UDP.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help_heading = "Listening",
        help = "Answer UDP on this address; may be given several times; `off` for none. A wildcard (0.0.0.0, [::]) is one \
                address family [default: 0.0.0.0:6969 and [::]:6969]"
    )]
    pub udp: Option<Vec<Listen>>,
    /// Where to answer HTTP.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help_heading = "Listening",
        help = "Answer HTTP on this address; likewise [default: 0.0.0.0:6969 and [::]:6969]"
    )]
    pub http: Option<Vec<Listen>>,
    /// Threads per UDP address [default: one per core]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Listening")]
    pub udp_threads: Option<u64>,
    /// Threads that answer HTTP [default: one per core]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Listening")]
    pub http_threads: Option<u64>,
    /// HTTP connections that stay open; when there are more, the one idle for longest makes room [default: 4096]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Listening")]
    pub http_connections: Option<u64>,
    /// Seconds that an HTTP connection may be idle between two requests [default: 30]. A request has to arrive within 10
    /// seconds, and a reply to be taken within 15, or within this time if it is shorter
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds, help_heading = "Listening")]
    pub http_timeout: Option<u64>,
    /// Whether GET /scrape without an info_hash lists all torrents: on or off [default: on]
    #[arg(long, value_name = "on|off", help_heading = "Listening")]
    pub full_scrape: Option<Switch>,

    /// Room for this many torrents (144 bytes each); a new one beyond that is refused [default: 250000]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Memory")]
    pub max_torrents: Option<u64>,
    /// Room for this many IPv4 peers (12 bytes each); a new one beyond that takes the place of an old one [default: 1000000]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Memory")]
    pub max_peers: Option<u64>,
    /// Room for this many IPv6 peers (33 bytes each); likewise [default: a third of --max-peers, which is what public trackers
    /// see]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Memory")]
    pub max_peers_v6: Option<u64>,

    /// Seconds that clients are told to wait until their next announce [default: 1800]
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds, help_heading = "Swarms")]
    pub interval: Option<u64>,
    /// The interval varies at random by up to this many seconds, so that clients spread [default: a tenth of --interval]
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds, help_heading = "Swarms")]
    pub interval_jitter: Option<u64>,
    /// A peer is forgotten this many seconds after its last announce [default: 1.5 times --interval]
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds, help_heading = "Swarms")]
    pub peer_timeout: Option<u64>,
    /// A torrent without peers is forgotten this many seconds after its last announce [default: 2700]
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds, help_heading = "Swarms")]
    pub torrent_timeout: Option<u64>,
    /// The same for a torrent with completed downloads, whose number is forgotten with it [default: 86400]
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds, help_heading = "Swarms")]
    pub torrent_timeout_completed: Option<u64>,
    /// Peers given to a client that does not say how many it wants [default: 50]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Swarms")]
    pub want_default: Option<u64>,
    /// Most IPv4 peers given; 200 make a packet of 1248 bytes [default: 200]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Swarms")]
    pub want_max: Option<u64>,
    /// Most IPv6 peers given; 67 make a packet of 1274 bytes [default: 74, as far as --path-mtu-v6 allows]
    #[arg(long, value_name = "N", value_parser = value::count, help_heading = "Swarms")]
    pub want_max_v6: Option<u64>,
    /// Give peers with private, link-local and loopback addresses to everybody, and not only to those who are as near: on or off
    /// [default: off]
    #[arg(
        long,
        value_name = "on|off",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        help_heading = "Swarms"
    )]
    pub give_local_peers: Option<Switch>,
    /// No UDP reply over IPv4 is longer than so many bytes, headers included: what nearly every way to a client carries
    /// [default: 1452]
    #[arg(long, value_name = "BYTES", value_parser = value::count, help_heading = "Swarms")]
    pub path_mtu: Option<u64>,
    /// The same over IPv6, where 1280 is what every link has to carry [default: 1280]
    #[arg(long, value_name = "BYTES", value_parser = value::count, help_heading = "Swarms")]
    pub path_mtu_v6: Option<u64>,

    /// Keep the key of the connection ids in this directory, so that clients notice nothing of a restart [default: systemd's
    /// STATE_DIRECTORY; without one the key is new at every start]
    #[arg(long, value_name = "DIRECTORY", help_heading = "State")]
    pub state_dir: Option<PathBuf>,
}

impl Options {
    /// Fills in what is not given here from the file that `config` names, if it names one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something that is no option.
    pub fn with_file(self) -> anyhow::Result<Self> {
        let Some(path) = &self.config else { return Ok(self) };
        let file = file::read(path)?;
        Ok(self.or(file))
    }

    /// What is given here, and the rest from `other`.
    fn or(self, other: Self) -> Self {
        let mut origin = other.origin;
        macro_rules! or {
            ($($field:ident)*) => {{
                $(if self.$field.is_some() { origin.forget(stringify!($field)); })*
                Self { origin, $($field: self.$field.or(other.$field)),* }
            }};
        }
        or!(config interface xdp_mode force udp http udp_threads http_threads http_connections http_timeout full_scrape
            max_torrents max_peers max_peers_v6 interval interval_jitter peer_timeout torrent_timeout
            torrent_timeout_completed want_default want_max want_max_v6 give_local_peers path_mtu path_mtu_v6 state_dir)
    }
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// Nobody asked for it by name: if the host lacks the address family, go on without.
    pub optional: bool,
}

/// What the tracker runs with: complete and checked.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Interfaces for the XDP program.
    pub interfaces: Vec<String>,
    /// Where it runs.
    pub xdp_mode: XdpMode,
    /// Whether to take the place of other XDP programs.
    pub force: bool,
    /// UDP addresses.
    pub udp: Vec<Endpoint>,
    /// HTTP addresses.
    pub http: Vec<Endpoint>,
    /// Threads per UDP address.
    pub udp_threads: usize,
    /// Threads for HTTP.
    pub http_threads: usize,
    /// Most HTTP connections at a time.
    pub http_connections: usize,
    /// How long an HTTP connection may be idle.
    pub http_timeout: Duration,
    /// Whether all torrents may be listed.
    pub full_scrape: bool,
    /// Room for torrents and peers.
    pub limits: Limits,
    /// Seconds between announces.
    pub interval: u32,
    /// Seconds by which the interval varies in both directions.
    pub interval_jitter: u32,
    /// When peers and torrents go.
    pub timeouts: Timeouts,
    /// Peers given by default.
    pub want_default: u32,
    /// Whether peers with local addresses are given to everybody.
    pub give_local_peers: bool,
    /// Most IPv4 peers given.
    pub want_max_v4: u32,
    /// Most IPv6 peers given.
    pub want_max_v6: u32,
    /// Where the connection key is kept.
    pub state_dir: Option<PathBuf>,
}

impl Configuration {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// The first option that is out of range or does not go with the others.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let origin = options.origin.clone();
        Self::check(options).map_err(|error| match error.downcast_ref::<Wrong>() {
            Some(Wrong { option, .. }) => origin.explain(option, error),
            None => error,
        })
    }

    fn check(options: Options) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let interfaces = options.interface.unwrap_or_default();
        let xdp_mode = options.xdp_mode.unwrap_or_default();
        ensure!(
            !interfaces.is_empty() || matches!(xdp_mode, XdpMode::Auto | XdpMode::Off),
            "--xdp-mode {} needs to know where: add --interface with the interface that clients come in by",
            if xdp_mode == XdpMode::Native { "native" } else { "generic" }
        );
        let mut unique = Vec::new();
        for interface in interfaces {
            if interface.is_empty() {
                return wrong("interface", "has an empty name in it; `ip link` lists the names".into());
            }
            if !unique.contains(&interface) {
                unique.push(interface);
            }
        }

        let limits = limits(options.max_torrents, options.max_peers, options.max_peers_v6)?;
        let interval = number("interval", options.interval, 1800, 60..=86_400)?;
        if options.interval_jitter.is_some_and(|jitter| jitter > interval / 2) {
            return wrong("interval-jitter", format!("can be at most half of interval, {} seconds", interval / 2));
        }
        let interval_jitter = number("interval-jitter", options.interval_jitter, interval / 10, 0..=interval / 2)?;
        let longest = u64::from(LONGEST_PEER_TIMEOUT) * 60;
        let peer_timeout = number("peer-timeout", options.peer_timeout, (interval * 3 / 2).min(longest), 60..=longest)?;
        if peer_timeout <= interval + interval_jitter {
            let reason = format!(
                "is {peer_timeout} seconds, but clients are told to come back after up to {} (interval + interval-jitter): \
                 peers would be forgotten before that; make peer-timeout longer or interval shorter",
                interval + interval_jitter
            );
            return wrong("peer-timeout", reason);
        }
        let year = 366 * 86_400;
        let torrent_timeout = number("torrent-timeout", options.torrent_timeout, 2700, 60..=year)?;
        let torrent_timeout_completed = number(
            "torrent-timeout-completed",
            options.torrent_timeout_completed,
            torrent_timeout.max(86_400),
            60..=year,
        )?;
        let want_max_v4 = number("want-max", options.want_max, 200, 1..=u64::from(V4::WANT_LIMIT))?;
        let want_max_v6 = number("want-max-v6", options.want_max_v6, 74, 1..=u64::from(V6::WANT_LIMIT))?;
        if let Some(want_default) = options.want_default.filter(|want| *want > want_max_v4) {
            return wrong("want-default", format!("is {want_default}, more than want-max, which is {want_max_v4}"));
        }
        let want_default = number("want-default", options.want_default, want_max_v4.min(50), 0..=want_max_v4)?;
        let path_mtu_v4 = number("path-mtu", options.path_mtu, 1452, 576..=9000)?;
        let path_mtu_v6 = number("path-mtu-v6", options.path_mtu_v6, 1280, 1280..=9000)?;

        // Up, so that nothing goes early.
        let minutes = |seconds: u64| seconds.div_ceil(60) as u32;
        Ok(Self {
            interfaces: unique,
            xdp_mode,
            force: options.force == Some(Switch::On),
            udp: endpoints("udp", options.udp)?,
            http: endpoints("http", options.http)?,
            udp_threads: number("udp-threads", options.udp_threads, cores, 1..=1024)? as usize,
            http_threads: number("http-threads", options.http_threads, cores, 1..=1024)? as usize,
            http_connections: number("http-connections", options.http_connections, 4096, 1..=1_000_000)? as usize,
            http_timeout: Duration::from_secs(number("http-timeout", options.http_timeout, 30, 1..=3600)?),
            full_scrape: options.full_scrape != Some(Switch::Off),
            limits,
            interval: interval as u32,
            interval_jitter: interval_jitter as u32,
            timeouts: Timeouts {
                peer: minutes(peer_timeout),
                torrent: minutes(torrent_timeout),
                torrent_completed: minutes(torrent_timeout_completed),
            },
            want_default: want_default as u32,
            give_local_peers: options.give_local_peers == Some(Switch::On),
            want_max_v4: want_max_v4.min(peers_within(path_mtu_v4, 20, PEER_V4)) as u32,
            want_max_v6: want_max_v6.min(peers_within(path_mtu_v6, 40, PEER_V6)) as u32,
            state_dir: options.state_dir.or_else(systemd_state_directory),
        })
    }
}

/// How many peers of so many bytes an announce reply can carry whose IP header has `ip_header` bytes, in a packet of `mtu` bytes.
fn peers_within(mtu: u64, ip_header: u64, peer: usize) -> u64 {
    (mtu - ip_header - size_of::<Udp>() as u64 - ANNOUNCE_REPLY_LEN as u64) / peer as u64
}

/// Limits with their defaults. The defaults take about 64 MB: they suit a small virtual machine, and the tracker of a small
/// community never gets near them.
///
/// # Errors
/// When one is out of range.
pub fn limits(torrents: Option<u64>, peers_v4: Option<u64>, peers_v6: Option<u64>) -> anyhow::Result<Limits> {
    let peers_v4 = number("max-peers", peers_v4, 1_000_000, 1..=50_000_000_000)?;
    Ok(Limits {
        torrents: number("max-torrents", torrents, 250_000, 1..=2_000_000_000)?,
        peers_v4,
        peers_v6: number("max-peers-v6", peers_v6, (peers_v4 / 3).max(1), 0..=30_000_000_000)?,
    })
}

/// An option whose value cannot be used.
#[derive(Debug)]
struct Wrong {
    option: &'static str,
    reason: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.option, self.reason)
    }
}

impl std::error::Error for Wrong {}

fn wrong<T>(option: &'static str, reason: String) -> anyhow::Result<T> {
    Err(Wrong { option, reason }.into())
}

fn number(name: &'static str, given: Option<u64>, default: u64, range: RangeInclusive<u64>) -> anyhow::Result<u64> {
    let value = given.unwrap_or(default);
    if !range.contains(&value) {
        return wrong(name, format!("is {value}; it can be {} to {}", range.start(), range.end()));
    }
    Ok(value)
}

fn endpoints(option: &'static str, listen: Option<Vec<Listen>>) -> anyhow::Result<Vec<Endpoint>> {
    let Some(listen) = listen else {
        return Ok(vec![
            Endpoint { address: (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: false },
            Endpoint { address: (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: true },
        ]);
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for listen in &listen {
        if let Listen::At(address) = *listen {
            endpoints.push(Endpoint { address, optional: false });
        }
    }
    if listen.contains(&Listen::Off) && !endpoints.is_empty() {
        return wrong(option, "has off and addresses besides; leave out one of them".into());
    }
    Ok(endpoints)
}

/// `StateDirectory=` of a systemd unit; the first one if there are several.
fn systemd_state_directory() -> Option<PathBuf> {
    let directories = std::env::var_os("STATE_DIRECTORY")?;
    let directories = directories.to_str()?;
    let first = Path::new(directories.split(':').next()?);
    first.is_absolute().then(|| first.to_path_buf())
}

#[cfg(test)]
mod tests;
