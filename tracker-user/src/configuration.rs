//! The command line and the configuration file. Both know the same options by the same names; the command line wins.

use crate::{
    expiry::{LONGEST_PEER_TIMEOUT, Timeouts},
    listen,
    sizes::Limits,
};
use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Deserializer};
use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use tracker_common::store::{Family as _, V4, V6};

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
          max-torrents = 2000000
          max-peers = 10000000
  tracker sizes --max-torrents 2000000 --max-peers 10000000
      How much memory that would take.

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

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, once")]
pub enum Command {
    /// Run the tracker until SIGTERM or SIGINT
    #[command(after_help = EXAMPLES)]
    Run(Options),
    /// Print the layout of the store and the memory it takes
    Sizes(SizeOptions),
    /// Print the version
    Version,
}

/// Options of `tracker sizes`.
#[derive(Args, Clone, Debug, Default)]
pub struct SizeOptions {
    /// Room for this many torrents
    #[arg(long, value_name = "N")]
    pub max_torrents: Option<u64>,
    /// Room for this many IPv4 peers
    #[arg(long, value_name = "N")]
    pub max_peers: Option<u64>,
    /// Room for this many IPv6 peers
    #[arg(long, value_name = "N")]
    pub max_peers_v6: Option<u64>,
}

/// Options of `tracker run`, as given: on the command line, or in the file, or not at all.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Read options from this TOML file; they have the names they have here, and the command line wins
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Attach the XDP program to this interface; may be given several times. Without it UDP is answered by sockets only
    #[arg(long, value_name = "INTERFACE", help_heading = "XDP")]
    #[serde(deserialize_with = "one_or_many")]
    pub interface: Option<Vec<String>>,
    /// Where the XDP program runs: in the driver (native), in the network stack (generic, slower, works everywhere), nowhere
    /// (off), or the best of these that works (auto) [default: auto]
    #[arg(long, value_name = "MODE", help_heading = "XDP", hide_possible_values = true)]
    pub xdp_mode: Option<XdpMode>,
    /// Take the place of an XDP program that somebody else attached to the interface
    #[arg(long, num_args = 0, default_missing_value = "true", help_heading = "XDP")]
    pub force: Option<bool>,

    /// Where to answer UDP.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help_heading = "Listening",
        help = "Answer UDP on this address; may be given several times; `off` for none. A wildcard (0.0.0.0, [::]) is one \
                address family [default: 0.0.0.0:6969 and [::]:6969]"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub udp: Option<Vec<Listen>>,
    /// Where to answer HTTP.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help_heading = "Listening",
        help = "Answer HTTP on this address; likewise [default: 0.0.0.0:6969 and [::]:6969]"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub http: Option<Vec<Listen>>,
    /// Threads per UDP address [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Listening")]
    pub udp_threads: Option<u64>,
    /// Threads that answer HTTP [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Listening")]
    pub http_threads: Option<u64>,
    /// HTTP connections that stay open; when there are more, the one idle for longest makes room [default: 4096]
    #[arg(long, value_name = "N", help_heading = "Listening")]
    pub http_connections: Option<u64>,
    /// Seconds that an HTTP connection may be idle between two requests [default: 30]. A request has to arrive within 10
    /// seconds, and a reply to be taken within 15, or within this time if it is shorter
    #[arg(long, value_name = "SECONDS", help_heading = "Listening")]
    pub http_timeout: Option<u64>,
    /// Whether GET /scrape without an info_hash lists all torrents: on or off [default: on]
    #[arg(long, value_name = "on|off", help_heading = "Listening", hide_possible_values = true)]
    pub full_scrape: Option<Switch>,

    /// Room for this many torrents (144 bytes each); a new one beyond that is refused [default: 250000]
    #[arg(long, value_name = "N", help_heading = "Memory")]
    pub max_torrents: Option<u64>,
    /// Room for this many IPv4 peers (12 bytes each); a new one beyond that takes the place of an old one [default: 1000000]
    #[arg(long, value_name = "N", help_heading = "Memory")]
    pub max_peers: Option<u64>,
    /// Room for this many IPv6 peers (33 bytes each); likewise [default: a third of --max-peers, which is what public trackers
    /// see]
    #[arg(long, value_name = "N", help_heading = "Memory")]
    pub max_peers_v6: Option<u64>,

    /// Seconds that clients are told to wait until their next announce [default: 1800]
    #[arg(long, value_name = "SECONDS", help_heading = "Swarms")]
    pub interval: Option<u64>,
    /// The interval varies at random by up to this many seconds, so that clients spread [default: a tenth of --interval]
    #[arg(long, value_name = "SECONDS", help_heading = "Swarms")]
    pub interval_jitter: Option<u64>,
    /// A peer is forgotten this many seconds after its last announce [default: 1.5 times --interval]
    #[arg(long, value_name = "SECONDS", help_heading = "Swarms")]
    pub peer_timeout: Option<u64>,
    /// A torrent without peers is forgotten this many seconds after its last announce [default: 2700]
    #[arg(long, value_name = "SECONDS", help_heading = "Swarms")]
    pub torrent_timeout: Option<u64>,
    /// The same for a torrent with completed downloads, whose number is forgotten with it [default: 86400]
    #[arg(long, value_name = "SECONDS", help_heading = "Swarms")]
    pub torrent_timeout_completed: Option<u64>,
    /// Peers given to a client that does not say how many it wants [default: 50]
    #[arg(long, value_name = "N", help_heading = "Swarms")]
    pub want_default: Option<u64>,
    /// Most IPv4 peers given; 200 make a packet of 1248 bytes [default: 200]
    #[arg(long, value_name = "N", help_heading = "Swarms")]
    pub want_max: Option<u64>,
    /// Most IPv6 peers given; 74 make a packet of 1400 bytes [default: 74]
    #[arg(long, value_name = "N", help_heading = "Swarms")]
    pub want_max_v6: Option<u64>,

    /// Keep the key of the connection ids in this directory, so that clients notice nothing of a restart [default: systemd's
    /// STATE_DIRECTORY; without one the key is new at every start]
    #[arg(long, value_name = "DIRECTORY", help_heading = "State")]
    pub state_dir: Option<PathBuf>,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// The best that works.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// Nowhere.
    Off,
}

/// On or off.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Do not listen.
    Off,
    /// Listen here.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Listen::Off);
        }
        listen::address::parse(text).map(Listen::At).map_err(|wrong| format!("{text:?} {wrong}"))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// In a file, a list of one may be written without brackets.
fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    struct OneOrMany<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|value| vec![value])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = list.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_any(OneOrMany(std::marker::PhantomData)).map(Some)
}

impl Options {
    /// Fills in what is not given here from the file that `config` names, if it names one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something that is no option.
    pub fn with_file(self) -> anyhow::Result<Self> {
        let Some(path) = &self.config else { return Ok(self) };
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        let file = toml::from_str(&text).with_context(|| {
            format!("the configuration file {} is wrong (`tracker run --help` lists the options)", path.display())
        })?;
        Ok(self.or(file))
    }

    /// What is given here, and the rest from `other`.
    fn or(self, other: Self) -> Self {
        macro_rules! or {
            ($($field:ident)*) => { Self { $($field: self.$field.or(other.$field)),* } };
        }
        or!(config interface xdp_mode force udp http udp_threads http_threads http_connections http_timeout full_scrape
            max_torrents max_peers max_peers_v6 interval interval_jitter peer_timeout torrent_timeout
            torrent_timeout_completed want_default want_max want_max_v6 state_dir)
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
            if !unique.contains(&interface) {
                unique.push(interface);
            }
        }

        let limits = limits(options.max_torrents, options.max_peers, options.max_peers_v6)?;
        let interval = number("interval", options.interval, 1800, 60..=86_400)?;
        let interval_jitter = number("interval-jitter", options.interval_jitter, interval / 10, 0..=interval / 2)?;
        let longest = u64::from(LONGEST_PEER_TIMEOUT) * 60;
        let peer_timeout = number("peer-timeout", options.peer_timeout, (interval * 3 / 2).min(longest), 60..=longest)?;
        ensure!(
            peer_timeout > interval + interval_jitter,
            "peer-timeout is {peer_timeout} seconds, but clients are told to come back after up to {} (interval + \
             interval-jitter): peers would be forgotten before that; make peer-timeout longer or interval shorter",
            interval + interval_jitter
        );
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
        let want_default = number("want-default", options.want_default, want_max_v4.min(50), 0..=want_max_v4)?;

        // Up, so that nothing goes early.
        let minutes = |seconds: u64| seconds.div_ceil(60) as u32;
        Ok(Self {
            interfaces: unique,
            xdp_mode,
            force: options.force.unwrap_or(false),
            udp: endpoints(options.udp),
            http: endpoints(options.http),
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
            want_max_v4: want_max_v4 as u32,
            want_max_v6: want_max_v6 as u32,
            state_dir: options.state_dir.or_else(systemd_state_directory),
        })
    }
}

/// Limits with their defaults. The defaults take about 64 MB: they suit a small virtual machine, and the tracker of a small
/// community never gets near them.
///
/// # Errors
/// When one is out of range.
pub fn limits(torrents: Option<u64>, peers_v4: Option<u64>, peers_v6: Option<u64>) -> anyhow::Result<Limits> {
    let peers_v4 = number("max-peers", peers_v4, 1_000_000, 0..=50_000_000_000)?;
    Ok(Limits {
        torrents: number("max-torrents", torrents, 250_000, 1..=2_000_000_000)?,
        peers_v4,
        peers_v6: number("max-peers-v6", peers_v6, peers_v4 / 3, 0..=30_000_000_000)?,
    })
}

fn number(name: &str, given: Option<u64>, default: u64, range: RangeInclusive<u64>) -> anyhow::Result<u64> {
    let value = given.unwrap_or(default);
    ensure!(range.contains(&value), "{name} is {value}; it can be {} to {}", range.start(), range.end());
    Ok(value)
}

fn endpoints(listen: Option<Vec<Listen>>) -> Vec<Endpoint> {
    let Some(listen) = listen else {
        return vec![
            Endpoint { address: (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: false },
            Endpoint { address: (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(), optional: true },
        ];
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for listen in listen {
        if let Listen::At(address) = listen {
            endpoints.push(Endpoint { address, optional: false });
        }
    }
    endpoints
}

/// `StateDirectory=` of a systemd unit; the first one if there are several.
fn systemd_state_directory() -> Option<PathBuf> {
    let directories = std::env::var_os("STATE_DIRECTORY")?;
    let directories = directories.to_str()?;
    let first = Path::new(directories.split(':').next()?);
    first.is_absolute().then(|| first.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> anyhow::Result<Configuration> {
        let arguments = ["tracker", "run"].into_iter().chain(arguments.split_whitespace());
        let Command::Run(options) = CommandLine::try_parse_from(arguments)?.command else {
            anyhow::bail!("not run");
        };
        Configuration::new(options.with_file()?)
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let configuration = parse("").expect("defaults are valid");
        assert_eq!((configuration.interval, configuration.interval_jitter), (1800, 180));
        assert_eq!(configuration.timeouts, Timeouts { peer: 45, torrent: 45, torrent_completed: 1440 });
        assert_eq!(configuration.limits, Limits { torrents: 250_000, peers_v4: 1_000_000, peers_v6: 333_333 });
        let listen = |address: &str, optional| Endpoint { address: address.parse().expect("an address"), optional };
        assert_eq!(configuration.udp, [listen("0.0.0.0:6969", false), listen("[::]:6969", true)]);
        assert_eq!(configuration.http, configuration.udp);
        assert!(configuration.full_scrape);
    }

    #[test]
    fn command_line_wins_over_the_file() {
        let path = std::env::temp_dir().join(format!("tracker-configuration-{}.toml", std::process::id()));
        let text = "interval = 600\npeer-timeout = 1000\nudp = \"127.0.0.1:1\"\ninterface = [\"a\", \"b\", \"a\"]\nforce = true\nfull-scrape = \"off\"\n";
        fs::write(&path, text).expect("writable");
        let configuration =
            parse(&format!("--config {} --interval 700 --udp 127.0.0.1:2 --udp [::1]:2", path.display()));
        fs::remove_file(&path).expect("was there");
        let configuration = configuration.expect("valid");
        assert_eq!((configuration.interval, configuration.timeouts.peer), (700, 17));
        assert_eq!(configuration.interfaces, ["a", "b"]);
        assert!(configuration.force && !configuration.full_scrape);
        let udp: Vec<_> = configuration.udp.iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(udp, ["127.0.0.1:2", "[::1]:2"]);
    }

    #[test]
    fn wrong_options_are_refused_with_a_reason() {
        for (arguments, reason) in [
            ("--interval 5", "interval is 5; it can be 60 to 86400"),
            ("--interval 1800 --peer-timeout 1900", "peers would be forgotten"),
            ("--want-max 321", "want-max is 321; it can be 1 to 320"),
            ("--want-default 51 --want-max 50", "want-default is 51"),
            ("--max-torrents 0", "max-torrents is 0"),
            ("--xdp-mode native", "--interface"),
            ("--udp localhost:6969", "numeric address, such as 0.0.0.0:6969"),
            ("--udp 6969", "such as"),
            ("--peer-timeout 480060", "it can be 60 to 480000"),
            ("--config /nonexistent/tracker.toml", "/nonexistent/tracker.toml"),
        ] {
            let error = format!("{:#}", parse(arguments).expect_err(arguments));
            assert!(error.contains(reason), "{arguments}: {error}");
        }
    }

    #[test]
    fn file_with_an_unknown_option_is_refused_by_line() {
        let error = toml::from_str::<Options>("interval = 600\nintervall = 700\n").expect_err("misspelt").to_string();
        assert!(error.contains("intervall") && error.contains("line 2"), "{error}");
        assert!(toml::from_str::<Options>("config = \"x\"").is_err(), "a file cannot name another one");
    }

    #[test]
    fn switches_need_no_value() {
        assert!(parse("--force --interface eth0").expect("valid").force);
        assert!(!parse("--full-scrape off").expect("valid").full_scrape);
    }

    #[test]
    fn listening_can_be_switched_off() {
        let configuration = parse("--http off").expect("valid");
        assert_eq!(configuration.http, []);
        assert_eq!(configuration.udp.len(), 2);
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }
}
