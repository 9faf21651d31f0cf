//! `cargo xtask run`: the tracker to play with.
//!
//! Without arguments it runs in a network namespace of its own, joined to this machine by a veth
//! pair: a second host on the same machine, with native XDP and real packets, and no real interface
//! is touched. With arguments it is `tracker run` with these arguments on the machine itself.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tracker_tests::{
    client::{UdpClient, http_get},
    interrupt,
    namespace::{End, Namespace, connect, ip},
    packet::Mac,
    supervised::{Ending, Printing, Supervised},
};

use crate::{
    command, debian,
    needs::{self, InstallOptions},
    workspace,
};

/// What the names of playgrounds begin with, in namespaces; the number of this process follows.
const NAMESPACE: &str = "tracker-playground-";
/// The same for the interface on this machine's side, whose name may not be longer than 15 bytes.
const INTERFACE: &str = "tracker";
/// The interface on the tracker's side.
const TRACKER_INTERFACE: &str = "eth0";
const PORT: u16 = 6969;

/// How long the tracker may take until it answers, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

const HOST_MAC: Mac = [0x02, 0x74, 0x72, 0x6b, 0, 1];
const TRACKER_MAC: Mac = [0x02, 0x74, 0x72, 0x6b, 0, 2];

/// URLs are this task's own to tell: of those that the tracker knows, some are answered only
/// within its namespace.
const NO_URLS: &str = "url=off";

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Options of `tracker run`, on the machine itself. Without any: a playground in a network
    /// namespace (root)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let in_playground = options.options.is_empty();
    ensure!(
        !in_playground || debian::is_root(),
        "the playground is a network namespace with an XDP program: run this as root, for example with \
         `sudo --preserve-env=PATH,HOME cargo xtask run`. Without root, `cargo xtask run --xdp-mode off` runs the tracker on \
         ordinary sockets"
    );
    if in_playground {
        needs::provide("the playground's network namespaces", &[needs::NAMESPACES], &[], options.install)?;
    }
    command::run(command::cargo().args(["build", "--release", "--package", "tracker", "--bin", "tracker"]))?;
    let tracker = workspace::target_dir().join("release/tracker");
    if in_playground {
        return play(&tracker);
    }
    let mut command = Command::new(&tracker);
    command.arg("run").args(&options.options);
    if !options.options.iter().any(|option| option.starts_with("--pin-path")) {
        // Nothing is to be left behind.
        command.args(["--pin-path", "off"]);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", tracker.display()))
}

fn play(tracker: &Path) -> anyhow::Result<()> {
    // From here on the signals that would end this process are remembered instead, so that it can
    // clean up.
    interrupt::catch()?;
    remove_leftovers();
    let playground = Playground::new()?;

    let mut command = playground.namespace.command(tracker);
    command.args(["run", "--interface", TRACKER_INTERFACE, "--xdp-mode", "native", "--pin-path", "off"]);
    let log = env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty()).unwrap_or_else(|| "info".to_owned());
    command.env("RUST_LOG", format!("{log},{NO_URLS}"));
    let mut tracker = Supervised::start(command, Printing::Inherited, Ending::after(PATIENCE))?;
    let http = SocketAddr::new(playground.addresses[0], PORT);
    tracker
        .wait_until_ready(PATIENCE, || http_get(None, http, "/stats"))
        .with_context(|| format!("the tracker does not answer at {http}"))?;
    playground.show();
    let status = tracker.wait_or_interrupt()?;
    ensure!(status.success(), "the tracker ended with {status}");
    Ok(())
}

/// A second host, and the cable to it. Dropping it takes both away.
struct Playground {
    _pass: tracker_tests::pass::Attached,
    namespace: Namespace,
    addresses: Vec<IpAddr>,
}

impl Playground {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::named(&format!("{NAMESPACE}{}", process::id()))?;
        let interface = format!("{INTERFACE}{}", process::id() % 100_000_000);
        let subnet = free_subnet()?;
        let addresses = |host: u8| {
            let mut addresses = vec![(IpAddr::V4(Ipv4Addr::new(198, 18, subnet, host)), 30)];
            // A machine without IPv6 can play too.
            if Path::new("/proc/sys/net/ipv6").exists() {
                addresses.push((subnet_v6(subnet, host).into(), 64));
            }
            addresses
        };
        let (ours, its) = (addresses(1), addresses(2));
        let host = End { namespace: None, interface: &interface, mac: HOST_MAC, addresses: &ours };
        let guest =
            End { namespace: Some(&namespace), interface: TRACKER_INTERFACE, mac: TRACKER_MAC, addresses: &its };
        connect(guest, host)?;
        let pass = host.pass()?;
        Ok(Self { _pass: pass, namespace, addresses: its.into_iter().map(|(address, _)| address).collect() })
    }

    /// Tells where clients on this machine are answered, which is tried before.
    fn show(&self) {
        type Try = (&'static str, fn(SocketAddr) -> anyhow::Result<()>);
        let tries: [Try; 2] = [("udp", try_udp), ("http", try_http)];
        let (mut urls, mut silent) = (Vec::new(), Vec::new());
        for (scheme, answers) in tries {
            for at in self.addresses.iter().map(|address| SocketAddr::new(*address, PORT)) {
                match answers(at) {
                    Ok(()) => urls.push(format!("{scheme}://{at}")),
                    Err(error) => silent.push(format!("{at} by {}: {error:#}", scheme.to_uppercase())),
                }
            }
        }
        println!("\nThe playground is ready. Clients on this machine can announce to");
        urls.iter().for_each(|url| println!("    {url}/announce"));
        if let Some(url) = urls.iter().find(|url| url.starts_with("http")) {
            println!("Statistics are at\n    {url}/\n    {url}/metrics");
        }
        for silent in silent {
            println!("Not answered from this machine is {silent}; does a firewall forbid it?");
        }
        println!("Ctrl-C ends the tracker and takes the playground away.");
    }
}

/// One exchange as a client would make it.
fn try_udp(tracker: SocketAddr) -> anyhow::Result<()> {
    let any: IpAddr = if tracker.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut client = UdpClient::with_socket(UdpSocket::bind((any, 0))?, tracker)?;
    client.connect()?;
    Ok(())
}

fn try_http(tracker: SocketAddr) -> anyhow::Result<()> {
    http_get(None, tracker, "/stats")?.text()?;
    Ok(())
}

const fn subnet_v6(subnet: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x198, 0x18, subnet as u16, 0, 0, 0, host as u16)
}

/// A number of which neither 198.18.N.0/30 nor fd00:198:18:N::/64 is in use on this machine.
/// 198.18.0.0/15 is set aside for tests of networks (RFC 2544).
fn free_subnet() -> anyhow::Result<u8> {
    for subnet in 0..=u8::MAX {
        let v4 = format!("198.18.{subnet}.0/30");
        let v6 = format!("{}/64", subnet_v6(subnet, 0));
        if !in_use("-4", &v4)? && !in_use("-6", &v6)? {
            return Ok(subnet);
        }
    }
    bail!("all of 198.18.0.0/16 is routed somewhere on this machine; the playground needs 4 addresses of it")
}

/// Whether a route leads to a prefix, or to a part of it; a default route does not count.
fn in_use(family: &str, prefix: &str) -> anyhow::Result<bool> {
    let routes = |which: &str| {
        command::output(Command::new("ip").args([family, "route", "show", "table", "all", which, prefix]))
            .context("cannot ask `ip` for the routes of this machine")
    };
    let (inside, around) = (routes("root")?, routes("match")?);
    Ok(inside.lines().chain(around.lines()).any(|route| !route.contains("default") && !route.trim().is_empty()))
}

/// Takes away what playgrounds left behind that were killed before they could clean up. The
/// interfaces go with their namespaces.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(owner) = name.strip_prefix(NAMESPACE) else { continue };
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            eprintln!("removing {name}, which an earlier run left behind");
            if let Err(error) = ip(&format!("netns delete {name}")) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}
