//! The command line: what `tracker` can do, and which module does it.
//!
//! | module | does |
//! |---|---|
//! | [`run`] | `tracker run`: signals and log first, then the daemon |
//! | [`ctl`] | `tracker ctl`: the admin API of a running tracker |
//! | [`detach`] | `tracker detach`: takes down what is pinned |
//! | [`check`] | `tracker check`: a configuration without a tracker |
//! | [`migrate`] | `tracker migrate`: another tracker's configuration as one of ours |
//! | [`sizes`] | `tracker sizes`: the memory that limits would take |
//! | [`check_store`] | `tracker check-store`: whether the store of a running tracker hangs together |
//! | [`top`] | `tracker top`: how a tracker is going, in the terminal |
//! | [`snapshot`] | `tracker snapshot`: its file written out, or brought together with opentracker's |
//! | [`dns_record`] | `tracker dns-record`: the TXT record that leads clients to UDP (BEP 34) |
//! | [`generate`] | `tracker man`, `tracker completions`: made of the definitions of all these |
//! | [`crate::doctor`] | `tracker doctor` |
//! | [`crate::trace`] | `tracker trace` |

pub mod check;
pub mod check_store;
mod connect;
pub mod ctl;
pub mod detach;
pub mod dns_record;
pub mod generate;
pub mod migrate;
pub mod run;
pub mod sizes;
pub mod snapshot;
pub mod top;

use crate::{
    config::{Given, migrate::opentracker},
    doctor::DoctorOptions,
    text::output,
    trace::TraceOptions,
};
use check::CheckOptions;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};
use ctl::CtlOptions;
use detach::DetachOptions;
use dns_record::DnsRecordOptions;
use generate::{CompletionOptions, ManOptions};
use migrate::MigrateOptions;
use sizes::SizeOptions;
use snapshot::SnapshotOptions;
use std::ffi::OsString;
use top::TopOptions;

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
  tracker config > /etc/tracker.toml; tracker check /etc/tracker.toml
      A file with all options to begin with; whether it is right.
  tracker run -f /etc/opentracker/opentracker.conf --interface eth0
      opentracker's configuration (its letters -i -p -P -w -b are taken, too), and XDP besides.
  tracker sizes --max-torrents 2M --max-peers 10M
      How much memory that would take.
  tracker snapshot import --state-dir /var/lib/tracker statedump.txt
      Take over the torrents and download counts of opentracker.
  sudo tracker doctor eth0
      What on this machine keeps the tracker from being fast, and the commands that change it.
  sudo tracker trace --source 192.0.2.7
      What the XDP program of the running tracker makes of that client's packets.
  tracker top http://127.0.0.1:6969
      How the running tracker is going, once a second.
  tracker run --api unix:/run/tracker/api.sock; tracker ctl add deny INFO_HASH
      Change lists and limits while it runs, see a torrent, reload; `tracker ctl --help` lists it all.
  sudo tracker check-store
      Whether all that the running tracker's XDP program has stored hangs together.

Numbers may be written as 10k, 1.5M or 1_000_000, times as 1800, 90s, 30m, 1h30m or 2d.
Announce URLs are udp://HOST:6969/announce and http://HOST:6969/announce; http://HOST:6969/stats shows how it is going.
HTTP answers old ones as well: /announce.php, /announce/KEY, /KEY/announce, //announce and the like.
--log (error, warn, info, debug; or, if it is not given, the environment variable RUST_LOG) says how much is logged.";

/// A BitTorrent tracker for public swarms: UDP (BEP 15) answered by an XDP program or by sockets,
/// and HTTP, on one store in memory.
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
            .mut_subcommand("trace", numbers)
            .mut_subcommand("check-store", numbers);
        let arguments = arguments.into_iter().map(Into::into).collect();
        let (arguments, theirs) = opentracker::letters(arguments)
            .map_err(|error| clap::Error::raw(ErrorKind::InvalidValue, format!("{error:#}\n")))?;
        for item in &theirs {
            output::complain(&format!("tracker: {item}\n"));
        }
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, once")]
pub enum Command {
    /// Run the tracker until SIGTERM or SIGINT
    #[command(after_help = EXAMPLES)]
    Run(Given),
    /// Take down what a tracker has left pinned: XDP stops answering, and all swarms are gone
    Detach(DetachOptions),
    /// Print a configuration file with every option, its explanation and its default
    Config,
    /// Say whether a configuration is right, and if not what is wrong and where
    Check(CheckOptions),
    /// Print the configuration file that says what one of opentracker or aquatic says
    Migrate(MigrateOptions),
    /// Print the layout of the store and the memory it takes
    Sizes(SizeOptions),
    /// Write out the file in which torrents outlive the machine, or import opentracker's state into it
    Snapshot(SnapshotOptions),
    /// Look at this machine as an expert would, and say what to change, with the command; changes nothing
    Doctor(DoctorOptions),
    /// Show single packets as the XDP program of the running tracker sees them
    Trace(TraceOptions),
    /// Ask a running tracker for figures and changes, by its admin API
    Ctl(CtlOptions),
    /// Check whether the store of the running tracker hangs together
    CheckStore(check_store::CheckOptions),
    /// Show in the terminal how a running tracker is going, or what one has left pinned
    Top(TopOptions),
    /// Print the DNS record that tells clients by which ports to announce, UDP first (BEP 34)
    DnsRecord(DnsRecordOptions),
    /// Write the manual pages of all commands
    Man(ManOptions),
    /// Print what a shell reads to complete commands and options
    Completions(CompletionOptions),
    /// Print the version
    Version,
}
