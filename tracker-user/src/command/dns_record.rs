//! `tracker dns-record`: the TXT record that says by which ports a host's tracker is reached, UDP
//! first (BEP 34).
//!
//! A client that honours it asks for the record of the host in the announce URL, and then announces
//! to the ports that are named, in their order, whatever the URL says. So whoever has old URLs with
//! `http://` is led to UDP, and nobody to a port that is closed.

use super::{Command, CommandLine};
use crate::config::{Configuration, Startup};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::{
    ffi::OsString,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// The longest text that one string of a TXT record holds (RFC 1035, 3.3).
const LONGEST: usize = 255;

/// How many seconds others may keep the record.
const TIME_TO_LIVE: u32 = 3600;

/// Options of `tracker dns-record`.
#[derive(Args, Clone, Debug)]
pub struct DnsRecordOptions {
    /// The name of the host in the announce URLs
    #[arg(value_name = "HOST")]
    pub host: String,
    /// The configuration file; without one the environment and the defaults count, as for `tracker run`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Clients also reach HTTP at this port, as through a reverse proxy; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub tcp_port: Vec<u16>,
    /// Say that there is no tracker at this host any more, so that clients stop asking it
    #[arg(long, conflicts_with_all = ["config", "tcp_port"])]
    pub none: bool,
}

/// The line for the zone's file.
///
/// # Errors
/// When the host has no such name, the configuration is wrong, or nobody else could reach what it
/// listens on.
pub fn run(options: &DnsRecordOptions) -> anyhow::Result<String> {
    let host = host(&options.host)?;
    let value = if options.none {
        denial()
    } else {
        let startup = startup(options)?;
        let ports = Ports::of(&startup, &options.tcp_port);
        ensure!(
            !ports.is_empty(),
            "the tracker listens on loopback addresses and Unix sockets alone, which nobody else reaches: name the port \
             of the proxy in front of it with --tcp-port, or say --none"
        );
        ports.value()
    };
    ensure!(value.len() <= LONGEST, "these ports do not fit one record: {value}");
    Ok(format!("{host}. {TIME_TO_LIVE} IN TXT \"{value}\"\n"))
}

/// What `tracker run` would start with.
fn startup(options: &DnsRecordOptions) -> anyhow::Result<Startup> {
    let mut line: Vec<OsString> = vec!["tracker".into(), "run".into()];
    if let Some(file) = &options.config {
        line.extend(["--config".into(), file.into()]);
    }
    let Command::Run(given) = CommandLine::read(line)?.command else { bail!("this is no `tracker run`") };
    Ok(Configuration::read(given)?.startup)
}

/// The value for a host without a tracker. The words after the first one mean nothing, and are there
/// for people.
fn denial() -> String {
    "BITTORRENT DENY ALL".into()
}

/// Ports by which others reach the tracker, each once, in the order of the options.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ports {
    udp: Vec<u16>,
    tcp: Vec<u16>,
}

impl Ports {
    fn of(startup: &Startup, further: &[u16]) -> Self {
        let ports = |addresses: &mut dyn Iterator<Item = SocketAddr>| {
            let mut ports = Vec::new();
            for address in addresses.filter(|address| !address.ip().to_canonical().is_loopback()) {
                if !ports.contains(&address.port()) {
                    ports.push(address.port());
                }
            }
            ports
        };
        let udp = ports(&mut startup.udp.iter().map(|endpoint| endpoint.address));
        let mut tcp = ports(&mut startup.http.iter().chain(&startup.https).map(|endpoint| endpoint.address));
        for port in further {
            if !tcp.contains(port) {
                tcp.push(*port);
            }
        }
        Self { udp, tcp }
    }

    fn is_empty(&self) -> bool {
        self.udp.is_empty() && self.tcp.is_empty()
    }

    /// UDP first: the order is that of preference.
    fn value(&self) -> String {
        let mut value = String::from("BITTORRENT");
        for (protocol, ports) in [("UDP", &self.udp), ("TCP", &self.tcp)] {
            for port in ports {
                let _infallible = write!(value, " {protocol}:{port}");
            }
        }
        value
    }
}

/// The name as a zone's file has it, without the dot at the end.
fn host(text: &str) -> anyhow::Result<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    ensure!(literal.parse::<IpAddr>().is_err(), "{text} is an address; only names have such records");
    ensure!(
        !name.contains(['/', ':']),
        "{text} is no name of a host; give the part of the announce URL between // and the port"
    );
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    Some(name.to_ascii_lowercase()).filter(|name| name.len() <= 253 && name.split('.').all(is_label)).with_context(
        || format!("{text} is no name of a host (with other letters than those of ASCII, write it as its xn-- form)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(udp: &[&str], http: &[&str], https: &[&str]) -> Ports {
        let mut line = vec!["tracker", "run"];
        for (option, addresses) in [("--udp", udp), ("--http", http), ("--https", https)] {
            for address in addresses {
                line.extend([option, *address]);
            }
        }
        if !https.is_empty() {
            line.extend(["--tls-certificate", "/c", "--tls-key", "/k"]);
        }
        let Command::Run(given) = CommandLine::read(line).expect("options").command else { panic!("tracker run") };
        Ports::of(&Configuration::read(given).expect("a configuration").startup, &[])
    }

    #[test]
    fn record_names_what_others_can_reach_with_udp_first() {
        // (--udp, --http, --https, the value)
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str);
        let rows: [Row<'_>; 9] = [
            (&[], &[], &[], "BITTORRENT UDP:6969 TCP:6969"),
            (&["0.0.0.0:1337", "[::]:1337"], &["0.0.0.0:80"], &[], "BITTORRENT UDP:1337 TCP:80"),
            (&["192.0.2.1:6969", "192.0.2.1:80"], &["off"], &[], "BITTORRENT UDP:6969 UDP:80"),
            (&["off"], &["0.0.0.0:6969"], &[], "BITTORRENT TCP:6969"),
            (&["0.0.0.0:6969"], &["0.0.0.0:80"], &["0.0.0.0:443"], "BITTORRENT UDP:6969 TCP:80 TCP:443"),
            // Behind a proxy.
            (&["0.0.0.0:6969"], &["127.0.0.1:8080", "[::1]:8080"], &[], "BITTORRENT UDP:6969"),
            (&["0.0.0.0:6969"], &["unix:/run/tracker/http.sock"], &[], "BITTORRENT UDP:6969"),
            (&["127.0.0.1:6969"], &["127.0.0.1:6969"], &[], "BITTORRENT"),
            (&["[::ffff:127.0.0.1]:6969", "0.0.0.0:81"], &["off"], &[], "BITTORRENT UDP:81"),
        ];
        for (udp, http, https, expected) in rows {
            assert_eq!(ports(udp, http, https).value(), expected, "{udp:?} {http:?} {https:?}");
        }
        let Command::Run(given) = CommandLine::read(["tracker", "run"]).expect("options").command else {
            panic!("tracker run")
        };
        let startup = Configuration::read(given).expect("a configuration").startup;
        let with_proxy = Ports::of(&startup, &[443, 6969, 443]);
        assert_eq!(with_proxy.value(), "BITTORRENT UDP:6969 TCP:6969 TCP:443");
    }

    #[test]
    fn record_is_a_line_of_a_zone() {
        let options =
            |host: &str| DnsRecordOptions { host: host.into(), config: None, tcp_port: vec![443], none: false };
        assert_eq!(
            run(&options("Tracker.example.ORG")).expect("a record"),
            "tracker.example.org. 3600 IN TXT \"BITTORRENT UDP:6969 TCP:6969 TCP:443\"\n"
        );
        let none = DnsRecordOptions { tcp_port: vec![], none: true, ..options("tracker.example.org.") };
        assert_eq!(run(&none).expect("a record"), "tracker.example.org. 3600 IN TXT \"BITTORRENT DENY ALL\"\n");
        let many = DnsRecordOptions { tcp_port: (10_000..10_040).collect(), ..options("a") };
        assert!(run(&many).expect_err("too long").to_string().contains("do not fit"));
        let missing = DnsRecordOptions { config: Some("/nonexistent/tracker.toml".into()), ..options("a") };
        assert!(format!("{:#}", run(&missing).expect_err("no file")).contains("/nonexistent/tracker.toml"));
    }

    #[test]
    fn only_names_of_hosts_have_records() {
        for (text, expected) in [
            ("tracker.example.org", "tracker.example.org"),
            ("TRACKER.example.org.", "tracker.example.org"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host(text).expect(text), expected);
        }
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "a..b",
            "-a.example",
            "a-.example",
            "bücher.example",
            "a b",
            "a\"b",
            "192.0.2.1",
            "2001:db8::1",
            "[2001:db8::1]",
            "udp://tracker.example.org:6969/announce",
            "tracker.example.org:6969",
            "tracker.example.org/announce",
            &long,
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
