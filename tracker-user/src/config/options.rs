//! The options of `tracker run` as they are given: on the command line, in the file, or not at all.
//! Names, help and defaults for people are here; what the values mean is checked in
//! [`super::startup`] and [`super::live`].
//!
//! An option that is renamed keeps its old name as an `alias`: it goes on working in both places
//! and is not shown.

use super::{
    api::ApiOptions,
    cluster::ClusterOptions,
    limits::LimitOptions,
    value::{Listen, Switch, count, seconds, seconds_or_off},
};
use crate::{
    admin::web::public::PublicPage,
    http::proxy::header::HeaderName,
    listen::Network,
    logging::{Filter, Format},
    xdp::XdpMode,
};
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
    pub proxies: ProxyOptions,
    #[command(flatten)]
    pub operator: OperatorOptions,
    #[command(flatten)]
    pub api: ApiOptions,
    #[command(flatten)]
    pub memory: MemoryOptions,
    #[command(flatten)]
    pub swarms: SwarmOptions,
    #[command(flatten)]
    pub access: AccessOptions,
    #[command(flatten)]
    pub limits: LimitOptions,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub state: StateOptions,
    #[command(flatten)]
    pub privileges: PrivilegeOptions,
    #[command(flatten)]
    pub log: LogOptions,
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
    /// works everywhere), nowhere (off), or the best of these that works (auto); and connects in the
    /// network card where that can (offload; auto does so where the driver says it can) [default:
    /// auto]
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
    /// Set what pays for a tracker on the interfaces, as `ethtool` does: queues for all cores, chosen by
    /// UDP ports as well, receive rings that are not short, tags of VLANs left on packets, packets not put
    /// together, interrupts spread; and set it back when XDP is taken off: on or off [default: off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub tune: Option<Switch>,
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
        help = "Answer HTTP on this address, or on a Unix socket (unix:/PATH); likewise [default: 0.0.0.0:6969 and \
                [::]:6969]"
    )]
    pub http: Option<Vec<Listen>>,
    /// Answer HTTPS on this address, as HTTP is answered on those of --http; may be given several times;
    /// `off` for none. Takes --tls-certificate and --tls-key [default: off]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub https: Option<Vec<Listen>>,
    /// The certificate for HTTPS and those that lead to a known one, as PEM. It is read again soon after
    /// it has changed, and on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of that certificate, as PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// TLS handshakes under way; when there are more, the oldest one of the client that has most makes
    /// room. Each has to be done within 5 seconds [default: 256]
    #[arg(long, value_name = "N", value_parser = count)]
    pub https_handshakes: Option<u64>,
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
    /// Who is sent that list: addresses, networks, `local`, `unix`, `all` or `none`; may be given
    /// several times [default: all]
    #[arg(long, value_name = "NETWORK")]
    pub full_scrape_from: Option<Vec<Network>>,
    /// Send it to an address (IPv6: a /64) not more often than once in this time, such as 5m; `off`
    /// for as often as it asks [default: off]
    #[arg(long, value_name = "SECONDS|off", value_parser = seconds_or_off)]
    pub full_scrape_pause: Option<u64>,
}

/// Reverse proxies in front of HTTP.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Proxies")]
pub struct ProxyOptions {
    /// Believe HTTP proxies at these addresses for whom they ask: a network, an address, `local`,
    /// `unix` (whoever connects to a Unix socket) or `none`; may be given several times. The last
    /// address in the header that is none of these is the client's [default: none]
    #[arg(long, value_name = "NETWORK")]
    pub proxy_from: Option<Vec<Network>>,
    /// The header in which these proxies say for whom they ask, such as Forwarded or X-Real-IP. The
    /// proxy has to set or extend it in every request [default: X-Forwarded-For]
    #[arg(long, value_name = "NAME")]
    pub proxy_header: Option<HeaderName>,
    /// Connections from here begin with a header of the PROXY protocol, version 1 or 2, and are
    /// refused without one; likewise [default: none]
    #[arg(long, value_name = "NETWORK")]
    pub proxy_protocol_from: Option<Vec<Network>>,
    /// Clients here may announce other addresses than their own by `ip=`, `ipv4=` and `ipv6=`;
    /// likewise [default: none]
    #[arg(long, value_name = "NETWORK")]
    pub ip_parameter_from: Option<Vec<Network>>,
}

/// What the operator sees.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Operator")]
pub struct OperatorOptions {
    /// Answer the operator's page (/), /stats, /metrics and /health on this address, or Unix socket
    /// (unix:/PATH), and of these only /health on those of --http; may be given several times; `off` for the same addresses as
    /// --http [default: off]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<Vec<Listen>>,
    /// Who may see the operator's page, /stats and /metrics: a network, an address, `local` (this host, its links, private
    /// networks, Unix sockets), `unix`, `all` or `none`; may be given several times [default: local]
    #[arg(long, value_name = "NETWORK")]
    pub admin_from: Option<Vec<Network>>,
    /// Whoever sends the first line of this file may see them from anywhere, as `Authorization: Bearer
    /// TOKEN`, or as the password that a browser asks for. Read again on SIGHUP [default: there is no
    /// token]
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// What strangers see at /: how to use the tracker, with the numbers of torrents and peers
    /// (counts) or without (plain), or nothing (off) [default: counts]
    #[arg(long, value_name = "PAGE")]
    pub public_page: Option<PublicPage>,
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
    /// Most peers of one IPv4 address, or of one IPv6 /64 (--limit-prefix-v6), in a swarm; one more
    /// takes the place of the oldest of them. Users behind a common address share it; 0 for no limit
    /// [default: 8]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_peers_per_address: Option<u64>,
    /// New torrents, and pieces of memory for new peers, that one IPv4 address or IPv6 /64
    /// (--limit-prefix-v6) is given at once by each core while less than a tenth of either is left,
    /// and half as many again in each minute; eight times as many for its network (IPv4 /24, IPv6
    /// /48); 0 for no limit [default: 64]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_creations_per_address: Option<u64>,
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
    /// Drop what comes from the addresses in this file, before anything in it is looked at, and give
    /// none of them to anybody: networks, ranges or addresses, PeerGuardian's .p2p or eMule's
    /// ipfilter.dat, packed by gzip or not. May be given several times. Read again on SIGHUP [default:
    /// no address is blocked]
    #[arg(long, value_name = "FILE")]
    pub block_addresses: Option<Vec<PathBuf>>,
    /// Let the addresses in this file in, whatever --block-addresses says; likewise
    #[arg(long, value_name = "FILE")]
    pub allow_addresses: Option<Vec<PathBuf>>,
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

/// What the process may still do when it has started. All of it takes a restart to change.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Privileges")]
pub struct PrivilegeOptions {
    /// Become this user, by name or number, once all addresses are listened on and XDP is loaded;
    /// only root can [default: stay the user that has started it]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Become this group, by name or number [default: the groups of --user]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Make this directory the root of the file system once everything is opened; only root can.
    /// Whatever is used later has to be below it: files that SIGHUP reads, --state-dir, --pin-path, for
    /// XDP /proc and /sys. Takes --in-place-upgrade=off [default: the root stays]
    #[arg(long, value_name = "DIRECTORY")]
    pub chroot: Option<PathBuf>,
    /// Give up all capabilities that are not needed any more, for good: on or off [default: on]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub drop_capabilities: Option<Switch>,
    /// Read and write only in the directories that options name, where the kernel has Landlock: on or
    /// off [default: on]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub landlock: Option<Switch>,
    /// Make only the system calls that a tracker needs (seccomp): on or off [default: on]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub seccomp: Option<Switch>,
    /// Let SIGUSR2 put another program in the place of this one, for which the tracker keeps the right
    /// to execute programs, and for XDP capabilities: on or off [default: on]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub in_place_upgrade: Option<Switch>,
}

/// What the log says, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// How much is logged: error, warn, info, debug, trace or off; for single parts of the tracker with
    /// a name in front, as in `info,http=debug,url=off`. Can be changed by SIGHUP [default: what the
    /// environment variable RUST_LOG says, else info]
    #[arg(long, value_name = "LEVELS")]
    pub log: Option<Filter>,
    /// Lines as text, as json (an object per line), for journald with their level and fields, or auto:
    /// journald if standard error leads there, else text [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<Format>,
    /// Log how many downloads of which torrent were completed, as opentracker does if it is built for
    /// it, but without addresses: on or off [default: off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub log_completed: Option<Switch>,
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
