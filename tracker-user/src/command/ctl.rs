//! `tracker ctl`: the admin API of a running tracker, from the command line.

mod connection;
mod show;

use crate::text::output;
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use connection::{Connection, Place};
use serde_json::{Map, Value, json};
use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

const STATUS: &str = "\
Exit status: 0 if it was done; 1 if the tracker refused it, or is not ready; 2 if the tracker could not be asked.
Without --at and TRACKER_CTL it is the socket /run/tracker/api.sock, for `tracker run --api unix:/run/tracker/api.sock`.";

/// Where a tracker is looked for that is not named.
const DEFAULT: &str = "unix:/run/tracker/api.sock";

/// The variable that names it.
const VARIABLE: &str = "TRACKER_CTL";

/// Options of `tracker ctl`.
#[derive(Args, Clone, Debug)]
#[command(after_help = STATUS)]
pub struct CtlOptions {
    /// The tracker's --api: unix:/PATH, ADDRESS:PORT or http://HOST:PORT; or its --api-tls: https://HOST:PORT
    #[arg(long, value_name = "PLACE", global = true)]
    pub at: Option<String>,
    /// The first line of this file is the token
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Certificates to believe with https://, as PEM: those of authorities, or the tracker's own
    #[arg(long, value_name = "FILE", global = true, default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub ca_file: PathBuf,
    /// Print the answer as it came, in JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Ctl,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ListName {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Subcommand)]
enum Ctl {
    /// Whether it is alive
    Health,
    /// Whether it does all that it is to, and if not why
    Ready,
    /// The most important figures
    Status,
    /// Values that can be changed, or change them: NAME=VALUE, or NAME= for what the configuration says
    Limits {
        /// What to change
        #[arg(value_name = "NAME=VALUE")]
        changes: Vec<String>,
    },
    /// The lists of torrents
    Lists,
    /// Put a torrent on a list
    Add {
        /// The list
        list: ListName,
        /// The torrent
        info_hash: String,
    },
    /// Take a torrent off a list
    Remove {
        /// The list
        list: ListName,
        /// The torrent
        info_hash: String,
    },
    /// Whether a torrent is on a list
    Listed {
        /// The list
        list: ListName,
        /// The torrent
        info_hash: String,
    },
    /// The lists of blocked addresses, or whether an address is blocked
    Blocks {
        /// The address
        address: Option<String>,
    },
    /// Block an address or a network, such as 192.0.2.0/24
    Block {
        /// The network
        network: String,
    },
    /// Undo that, or let in what a file blocks
    Unblock {
        /// The network
        network: String,
    },
    /// The largest torrents, or all of them
    Torrents {
        /// How many; of all of them, how many for one answer
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// All torrents, in no order, answer by answer
        #[arg(long, conflicts_with = "cursor")]
        all: bool,
        /// Some of all torrents: from the beginning (0), or from `next` of the answer before
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// One torrent
    Torrent {
        /// The torrent
        info_hash: String,
    },
    /// Its peers; the tracker shows them with --api-peers
    Peers {
        /// The torrent
        info_hash: String,
        /// How many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// How many to leave out first
        #[arg(long, default_value_t = 0)]
        offset: u32,
    },
    /// Remove a torrent with all its peers; it comes back with the next announce, unless a list denies it
    RemoveTorrent {
        /// The torrent
        info_hash: String,
    },
    /// Remove a peer; it comes back with its next announce
    RemovePeer {
        /// The torrent
        info_hash: String,
        /// Address and port
        peer: std::net::SocketAddr,
    },
    /// Show single packets as the XDP program sees them, for some seconds; the tracker shows them with
    /// --api-peers
    Trace {
        /// Only packets from this address
        #[arg(long)]
        address: Option<String>,
        /// Only announces and scrapes of this torrent
        #[arg(long)]
        info_hash: Option<String>,
        /// Only packets with one of these outcomes, with commas between them
        #[arg(long)]
        reason: Option<String>,
        /// How long to look, 60 at most
        #[arg(long, default_value_t = 5)]
        seconds: u32,
        /// How many to show, 10000 at most
        #[arg(long, default_value_t = 100)]
        count: u32,
    },
    /// Read the configuration, lists and certificates again, as SIGHUP does
    Reload,
    /// Write a snapshot now
    Snapshot,
    /// Print the description of the API (OpenAPI 3.1)
    Openapi,
}

/// Asks, and prints the answer.
#[must_use]
pub fn run(options: &CtlOptions) -> ExitCode {
    match ask(options) {
        Ok((true, printed)) => printed,
        Ok((false, _)) => ExitCode::from(1),
        Err(error) => {
            output::complain(&format!("tracker ctl: {error:#}\n"));
            ExitCode::from(2)
        }
    }
}

/// Whether it was done, and what became of printing the answer.
fn ask(options: &CtlOptions) -> anyhow::Result<(bool, ExitCode)> {
    let at = options.at.clone().or_else(|| std::env::var(VARIABLE).ok()).unwrap_or_else(|| DEFAULT.into());
    let place: Place = at.parse().map_err(anyhow::Error::msg)?;
    let token = options.token_file.as_ref().map(|path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok::<_, anyhow::Error>(text.lines().next().unwrap_or_default().trim().to_owned())
    });
    let connection = Connection { place, token: token.transpose()?, ca_file: options.ca_file.clone() };
    let (method, mut path, body) = request(&options.command)?;
    let pages = matches!(options.command, Ctl::Torrents { all: true, .. });
    loop {
        let answer = connection.ask(method, &path, body.as_ref())?;
        let written = io::stdout().write_all(text(options, &answer).as_bytes());
        let goes_on = written.is_ok();
        let printed = output::exit_code(written);
        match answer.body.get("next").and_then(Value::as_str) {
            Some(next) if pages && goes_on => path = torrents(Some(next), limit(options)),
            _ => return Ok((answer.is_success(), printed)),
        }
    }
}

/// What is printed of an answer.
fn text(options: &CtlOptions, answer: &connection::Answer) -> String {
    // A refusal is told on standard error, unless it is to be JSON.
    if options.json {
        answer.text.clone()
    } else if answer.is_success() || matches!(options.command, Ctl::Ready) {
        show::text(answer)
    } else {
        output::complain(&format!("tracker ctl: {}\n", show::problem(answer)));
        String::new()
    }
}

fn limit(options: &CtlOptions) -> Option<u32> {
    if let Ctl::Torrents { limit, .. } = options.command { limit } else { None }
}

/// The path for torrents: the largest, or those from a place on.
fn torrents(cursor: Option<&str>, limit: Option<u32>) -> String {
    match cursor {
        None => format!("/api/v1/torrents?limit={}", limit.unwrap_or(20)),
        Some(cursor) => format!("/api/v1/torrents?cursor={}&limit={}", segment(cursor), limit.unwrap_or(1000)),
    }
}

type Request = (&'static str, String, Option<Value>);

/// Method, path and body.
fn request(command: &Ctl) -> anyhow::Result<Request> {
    let list = |name: ListName| match name {
        ListName::Allow => "allow",
        ListName::Deny => "deny",
    };
    let torrent = |info_hash: &str| format!("/api/v1/torrents/{}", segment(info_hash));
    let listed = |name: ListName, info_hash: &str| format!("/api/v1/lists/{}/{}", list(name), segment(info_hash));
    let plain = |method, path: &str| (method, path.to_owned(), None);
    Ok(match command {
        Ctl::Health => plain("GET", "/health"),
        Ctl::Ready => plain("GET", "/ready"),
        Ctl::Openapi => plain("GET", "/openapi.json"),
        Ctl::Status => plain("GET", "/api/v1/status"),
        Ctl::Limits { changes } if changes.is_empty() => plain("GET", "/api/v1/limits"),
        Ctl::Limits { changes } => ("PATCH", "/api/v1/limits".into(), Some(self::changes(changes)?)),
        Ctl::Lists => plain("GET", "/api/v1/lists"),
        Ctl::Add { list, info_hash } => plain("PUT", &listed(*list, info_hash)),
        Ctl::Remove { list, info_hash } => plain("DELETE", &listed(*list, info_hash)),
        Ctl::Listed { list, info_hash } => plain("GET", &listed(*list, info_hash)),
        Ctl::Blocks { address: None } => plain("GET", "/api/v1/blocks"),
        Ctl::Blocks { address: Some(address) } => plain("GET", &format!("/api/v1/blocks/{}", segment(address))),
        Ctl::Block { network } => plain("PUT", &block(network)?),
        Ctl::Unblock { network } => plain("DELETE", &block(network)?),
        Ctl::Torrents { limit, all, cursor } => {
            plain("GET", &torrents(cursor.as_deref().or(all.then_some("0")), *limit))
        }
        Ctl::Torrent { info_hash } => plain("GET", &torrent(info_hash)),
        Ctl::Peers { info_hash, limit, offset } => {
            plain("GET", &format!("{}/peers?limit={limit}&offset={offset}", torrent(info_hash)))
        }
        Ctl::RemoveTorrent { info_hash } => plain("DELETE", &torrent(info_hash)),
        Ctl::RemovePeer { info_hash, peer } => {
            plain("DELETE", &format!("{}/peers/{}/{}", torrent(info_hash), peer.ip(), peer.port()))
        }
        Ctl::Reload => plain("POST", "/api/v1/reload"),
        Ctl::Snapshot => plain("POST", "/api/v1/snapshot"),
        Ctl::Trace { .. } => plain("GET", &trace(command)),
    })
}

/// The path of a trace.
fn trace(command: &Ctl) -> String {
    let Ctl::Trace { address, info_hash, reason, seconds, count } = command else { return String::new() };
    let filters = [("address", address), ("info_hash", info_hash), ("reason", reason)];
    let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let filters: String = filters.map(|(name, value)| format!("&{name}={}", segment(value))).collect();
    format!("/api/v1/trace?seconds={seconds}&count={count}{filters}")
}

/// A path's segment, or a value of the query: what is neither a letter nor a digit could mean something else there.
fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b':' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The path of a network, or of an address, which is a network of its own.
fn block(network: &str) -> anyhow::Result<String> {
    let network = match crate::config::network::network(network) {
        Ok(network) => network,
        Err(error) => bail!("{network}: {error}"),
    };
    Ok(format!("/api/v1/blocks/{}/{}", network.addr(), network.prefix_len()))
}

/// Changes of limits as an object.
fn changes(given: &[String]) -> anyhow::Result<Value> {
    let mut changes = Map::new();
    for change in given {
        let (name, value) =
            change.split_once('=').with_context(|| format!("{change:?} is not NAME=VALUE, such as interval=30m"))?;
        let value = if value.is_empty() { Value::Null } else { json!(value) };
        changes.insert(name.trim_start_matches("--").to_owned(), value);
    }
    Ok(Value::Object(changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::route::{Found, find},
        command::{Command, CommandLine},
    };

    fn options(line: &str) -> CtlOptions {
        let line = CommandLine::read(["tracker", "ctl"].into_iter().chain(line.split_whitespace())).expect(line);
        let Command::Ctl(options) = line.command else { panic!("{line:?}") };
        options
    }

    #[test]
    fn every_command_asks_for_something_that_there_is() {
        const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        for (line, expected) in [
            ("health", "GET /health"),
            ("ready", "GET /ready"),
            ("openapi", "GET /openapi.json"),
            ("status", "GET /api/v1/status"),
            ("limits", "GET /api/v1/limits"),
            ("limits interval=30m log=", "PATCH /api/v1/limits {\"interval\":\"30m\",\"log\":null}"),
            ("limits --json --at unix:/x interval=1=2", "PATCH /api/v1/limits {\"interval\":\"1=2\"}"),
            ("lists", "GET /api/v1/lists"),
            ("add deny HASH", "PUT /api/v1/lists/deny/HASH"),
            ("remove allow HASH", "DELETE /api/v1/lists/allow/HASH"),
            ("listed deny HASH", "GET /api/v1/lists/deny/HASH"),
            ("listed deny a/b?c", "GET /api/v1/lists/deny/a%2Fb%3Fc"),
            ("blocks", "GET /api/v1/blocks"),
            ("blocks 2001:db8::1", "GET /api/v1/blocks/2001:db8::1"),
            ("block 192.0.2.0/24", "PUT /api/v1/blocks/192.0.2.0/24"),
            ("block 192.0.2.7", "PUT /api/v1/blocks/192.0.2.7/32"),
            ("unblock 2001:db8::/32", "DELETE /api/v1/blocks/2001:db8::/32"),
            ("torrents", "GET /api/v1/torrents?limit=20"),
            ("torrents --limit 3", "GET /api/v1/torrents?limit=3"),
            ("torrents --all", "GET /api/v1/torrents?cursor=0&limit=1000"),
            ("torrents --cursor 7 --limit 3", "GET /api/v1/torrents?cursor=7&limit=3"),
            ("trace", "GET /api/v1/trace?seconds=5&count=100"),
            (
                "trace --address 2001:db8::1 --info-hash HASH --reason a,b --seconds 1 --count 2",
                "GET /api/v1/trace?seconds=1&count=2&address=2001:db8::1&info_hash=HASH&reason=a%2Cb",
            ),
            ("torrent HASH", "GET /api/v1/torrents/HASH"),
            ("peers HASH", "GET /api/v1/torrents/HASH/peers?limit=100&offset=0"),
            ("remove-torrent HASH", "DELETE /api/v1/torrents/HASH"),
            ("remove-peer HASH [2001:db8::1]:80", "DELETE /api/v1/torrents/HASH/peers/2001:db8::1/80"),
            ("reload", "POST /api/v1/reload"),
            ("snapshot", "POST /api/v1/snapshot"),
        ] {
            let (method, path, body) = request(&options(&line.replace("HASH", HASH)).command).expect(line);
            let shown = body.as_ref().map_or_else(String::new, |body| format!(" {body}"));
            assert_eq!(format!("{method} {path}{shown}").replace(HASH, "HASH"), expected, "{line}");
            let path = path.split('?').next().expect("a path");
            let found = find(&method.parse().expect("a method"), path);
            let Found::Operation(route, _) = found else { panic!("{line}: {found:?}") };
            assert_eq!(crate::api::operation::takes_body(route.operation), body.is_some(), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_said_before() {
        for line in
            ["block 192.0.2.0/33", "block", "add grey HASH", "limits interval", "remove-peer HASH 192.0.2.1", "x", ""]
        {
            let line = format!("ctl {line}");
            let read = CommandLine::read(["tracker"].into_iter().chain(line.split_whitespace()));
            let refused = match read.map(|line| line.command) {
                Ok(Command::Ctl(options)) => request(&options.command).is_err(),
                _ => true,
            };
            assert!(refused, "{line}");
        }
    }
}
