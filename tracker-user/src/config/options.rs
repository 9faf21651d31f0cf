//! The options of `tracker run` as they are given: on the command line, in the file, or not at all.
//! Names, help and defaults for people are here; what the values mean is checked in
//! [`super::startup`] and [`super::live`].
//!
//! An option that is renamed keeps its old name as an `alias`: it goes on working in both places
//! and is not shown.

use super::value::{Listen, Switch, count, seconds, seconds_or_off};
use crate::xdp::XdpMode;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;

/// All of them.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Read options from this TOML file; they have the names they have here, and the command line
    /// wins
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read opentracker's configuration file instead. What it means here, and what has no
    /// counterpart, is logged
    #[arg(short = 'f', long, value_name = "FILE")]
    pub opentracker_config: Option<PathBuf>,
    #[command(flatten)]
    pub xdp: XdpOptions,
    #[command(flatten)]
    pub listening: ListeningOptions,
    #[command(flatten)]
    pub memory: MemoryOptions,
    #[command(flatten)]
    pub swarms: SwarmOptions,
    #[command(flatten)]
    pub access: AccessOptions,
    #[command(flatten)]
    pub state: StateOptions,
}

/// Where the XDP program runs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "XDP")]
pub struct XdpOptions {
    /// Attach the XDP program to this interface; may be given several times. Without it UDP is
    /// answered by sockets only
    #[arg(long, value_name = "INTERFACE")]
    pub interface: Option<Vec<String>>,
    /// Where the XDP program runs: in the driver (native), in the network stack (generic, slower,
    /// works everywhere), nowhere (off), or the best of these that works (auto) [default: auto]
    #[arg(long, value_name = "MODE", ignore_case = true, hide_possible_values = true)]
    pub xdp_mode: Option<XdpMode>,
    /// Take the place of an XDP program that somebody else attached to the interface: on or off
    /// [default: off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub force: Option<Switch>,
    /// Pin the XDP program, its maps and its links in this directory of a BPF file system, so that
    /// XDP goes on answering when the tracker is stopped or killed, and the next tracker goes on with
    /// its swarms; `off` for not at all [default: /sys/fs/bpf/tracker, if that is possible]
    #[arg(long, value_name = "DIRECTORY")]
    pub pin_path: Option<PathBuf>,
    /// On SIGTERM and SIGINT take down what is pinned, as `tracker detach` does, instead of leaving
    /// it to the next tracker: on or off [default: off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub detach_on_stop: Option<Switch>,
}

/// Sockets, and what HTTP clients may take.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Listening")]
pub struct ListeningOptions {
    /// Where to answer UDP.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help = "Answer UDP on this address; may be given several times; `off` for none. A wildcard (0.0.0.0, [::]) is one \
                address family [default: 0.0.0.0:6969 and [::]:6969]"
    )]
    pub udp: Option<Vec<Listen>>,
    /// Where to answer HTTP.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help = "Answer HTTP on this address; likewise [default: 0.0.0.0:6969 and [::]:6969]"
    )]
    pub http: Option<Vec<Listen>>,
    /// Threads per UDP address [default: one per core]
    #[arg(long, value_name = "N", value_parser = count)]
    pub udp_threads: Option<u64>,
    /// Threads that answer HTTP [default: one per core]
    #[arg(long, value_name = "N", value_parser = count)]
    pub http_threads: Option<u64>,
    /// HTTP connections that stay open; when there are more, the one idle for longest makes room,
    /// or the oldest one of the client that has most [default: 4096]
    #[arg(long, value_name = "N", value_parser = count)]
    pub http_connections: Option<u64>,
    /// Seconds that an HTTP connection may be idle between two requests [default: 30]. A request
    /// has to arrive within 10 seconds, and a reply to be taken within 15, or within this time
    /// if it is shorter
    #[arg(long, alias = "http-timeout", value_name = "SECONDS", value_parser = seconds)]
    pub http_idle_timeout: Option<u64>,
    /// Whether GET /scrape without an info_hash lists all torrents: on or off [default: on]
    #[arg(long, value_name = "on|off")]
    pub full_scrape: Option<Switch>,
}

/// How much there is to be room for.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub struct MemoryOptions {
    /// Room for this many torrents (141 bytes each); a new one beyond that takes the place of one
    /// without peers or of one user alone, or is refused [default: 250000]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_torrents: Option<u64>,
    /// Room for this many IPv4 peers (12 bytes each); a new one beyond that takes the place of an
    /// old one [default: 1000000]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_peers: Option<u64>,
    /// Room for this many IPv6 peers (33 bytes each); likewise [default: a third of --max-peers,
    /// which is what public trackers see]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_peers_v6: Option<u64>,
    /// Without XDP: take the memory of the store in pages of 2 MiB instead of 4 KiB. Faster where
    /// there are many torrents; a small tracker takes all of its memory at once: on or off [default:
    /// off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub huge_pages: Option<Switch>,
}

/// What clients are told, and how long they are remembered.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Swarms")]
pub struct SwarmOptions {
    /// Seconds that clients are told to wait until their next announce [default: 1800]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<u64>,
    /// The interval varies at random by up to this many seconds, so that clients spread [default: a
    /// tenth of --interval]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval_jitter: Option<u64>,
    /// A peer is forgotten this many seconds after its last announce [default: 1.5 times
    /// --interval]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub peer_timeout: Option<u64>,
    /// A torrent without peers is forgotten this many seconds after its last announce [default:
    /// 2700]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub torrent_timeout: Option<u64>,
    /// The same for a torrent with completed downloads, whose number is forgotten with it [default:
    /// 86400]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub torrent_timeout_completed: Option<u64>,
    /// Peers given to a client that does not say how many it wants [default: 50]
    #[arg(long, alias = "want-default", value_name = "N", value_parser = count)]
    pub default_numwant: Option<u64>,
    /// Most IPv4 peers given; 200 make a packet of 1248 bytes [default: 200]
    #[arg(long, alias = "want-max", value_name = "N", value_parser = count)]
    pub max_numwant: Option<u64>,
    /// Most IPv6 peers given; 67 make a packet of 1274 bytes [default: 74, as far as --path-mtu-v6
    /// allows]
    #[arg(long, alias = "want-max-v6", value_name = "N", value_parser = count)]
    pub max_numwant_v6: Option<u64>,
    /// Most peers of one IPv4 address, or of one IPv6 /64, in a swarm; one more takes the place of the
    /// oldest of them. Users behind a common address share it; 0 for no limit [default: 8]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_peers_per_address: Option<u64>,
    /// Give peers with private, link-local and loopback addresses to everybody, and not only to
    /// those who are as near: on or off [default: off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub give_local_peers: Option<Switch>,
    /// No UDP reply over IPv4 is longer than so many bytes, headers included: what nearly every way
    /// to a client carries [default: 1452]
    #[arg(long, value_name = "BYTES", value_parser = count)]
    pub path_mtu: Option<u64>,
    /// The same over IPv6, where 1280 is what every link has to carry [default: 1280]
    #[arg(long, value_name = "BYTES", value_parser = count)]
    pub path_mtu_v6: Option<u64>,
}

/// Who may use the tracker for what.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Access")]
pub struct AccessOptions {
    /// Serve only the torrents in this file: an info_hash in hexadecimal per line. May be given
    /// several times. Read again on SIGHUP [default: all torrents are served]
    #[arg(long, value_name = "FILE")]
    pub allow_list: Option<Vec<PathBuf>>,
    /// Do not serve the torrents in this file; likewise
    #[arg(long, value_name = "FILE")]
    pub deny_list: Option<Vec<PathBuf>>,
}

/// What outlives the process.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "State")]
pub struct StateOptions {
    /// Keep the key of the connection ids in this directory, so that clients notice nothing of a
    /// restart, and the snapshot [default: systemd's STATE_DIRECTORY; without one the key is new at
    /// every start, and there is no snapshot]
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,
    /// Write the torrents with their numbers of completed downloads into the state directory this
    /// often, and at the end, and load them at the start; `off` for neither [default: 15m]
    #[arg(long, value_name = "SECONDS|off", value_parser = seconds_or_off)]
    pub snapshot_interval: Option<u64>,
    /// Write peers into the snapshot, too, with their addresses; without it there is never one on
    /// the disk: on or off [default: off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub snapshot_peers: Option<Switch>,
}

/// The options of a command line, and what it takes to put them over those of a file.
#[derive(Clone, Debug)]
pub struct Given {
    /// The options.
    pub options: Options,
    /// Which of them there are.
    pub(super) matches: ArgMatches,
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { options: Options::from_arg_matches(matches)?, matches: matches.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        Options::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Options::augment_args_for_update(command)
    }
}
