//! `tracker doctor`: looks at this machine as an expert would, and says what to change, with the
//! command. It changes nothing: it reads files, asks the kernel, and loads the XDP program with small
//! maps to see whether that works, which is gone again when it ends.
//!
//! | module | looks at |
//! |---|---|
//! | [`finding`] | what is found, and how it is told |
//! | [`files`] | `/proc` and `/sys`, or what stands for them in tests |
//! | [`machine`] | the kernel, BPF, memory, clock, what it runs in |
//! | [`network`] | settings of the network, firewalls, connection tracking |
//! | [`card`] | what an interface says of itself (ethtool, netlink) |
//! | [`cluster`] | servers of a cluster |
//! | [`interface`] | what that means |
//! | [`steering`] | what rules of the card do with packets to the tracker's port |
//! | [`firewall`] | what rules of nftables do with packets to the tracker's port |
//! | [`legacy`] | the same of iptables where it is not nftables underneath |
//! | `nftables` | the chains and rules, as the kernel tells them |

pub mod card;
pub mod cluster;
pub mod files;
pub mod finding;
pub mod firewall;
pub mod interface;
pub mod legacy;
pub mod machine;
pub mod network;
mod nftables;
pub mod steering;

use crate::{
    config::{MemoryOptions, capacity},
    store::sizes::{Capacity, Sizes},
    text::output,
    xdp::{self, Program, memory_limit, netlink},
};
use anyhow::{Context as _, bail};
use clap::Args;
use files::Files;
use finding::{Finding, Severity};
use std::process::ExitCode;

const STATUS: &str = "\
Nothing is changed. Exit status: 0 if nothing is to be done, 1 if there is advice, 2 if there are problems, 3 if it could not be
looked.";

/// Options of `tracker doctor`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = STATUS)]
pub struct DoctorOptions {
    /// Interfaces for the XDP program [default: those with a default route]
    #[arg(value_name = "INTERFACE")]
    pub interfaces: Vec<String>,
    /// The port of the tracker
    #[arg(long, value_name = "PORT", default_value_t = crate::config::DEFAULT_PORT)]
    pub port: u16,
    /// A NATS server of a cluster, as for `tracker run`; may be given several times
    #[arg(long, value_name = "URL")]
    pub cluster: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The same as those of `tracker run`
    #[command(flatten)]
    pub memory: MemoryOptions,
}

/// Looks, and prints what was found.
#[must_use]
pub fn run(options: &DoctorOptions) -> ExitCode {
    let findings = match look(options) {
        Ok(findings) => findings,
        Err(error) => {
            output::complain(&format!("tracker: {error:#}\n"));
            return ExitCode::from(3);
        }
    };
    let text = if options.json { finding::json(&findings) } else { finding::text(&findings) };
    let printed = output::print(&text);
    match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Problem) => ExitCode::from(2),
        Some(Severity::Advice) => ExitCode::from(1),
        _ => printed,
    }
}

fn look(options: &DoctorOptions) -> anyhow::Result<Vec<Finding>> {
    let files = Files::default();
    let sizes = Sizes::new(&capacity(&options.memory)?)?;
    let mut findings = machine::findings(&files, sizes.bytes());
    findings.extend(machine::jit_elsewhere(&files, Files::in_the_first_network));
    findings.push(program());
    findings.push(memory(&sizes));
    findings.push(machine::descriptors(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum));
    findings.extend(network::findings(&files));
    // Without nftables there may be what was before it.
    let names = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    let loaded = names.map(|path| files.text(path).is_some_and(|names| names.lines().any(|name| name == "filter")));
    let mut chains = nftables::input_chains(options.port);
    let legacy = legacy::input_chains(loaded, options.port);
    if !legacy.is_empty() {
        chains.get_or_insert_default().extend(legacy);
    }
    findings.push(network::firewall(chains, options.port));
    findings.extend(options.cluster.iter().map(|server| cluster::finding(server)));
    let all = netlink::interfaces()?;
    let names = if options.interfaces.is_empty() { default_interfaces(&all)? } else { options.interfaces.clone() };
    for name in &names {
        let Some(interface) = all.iter().find(|interface| interface.name == *name) else {
            let known: Vec<_> = all.iter().map(|interface| interface.name.as_str()).collect();
            bail!("there is no interface {name}; there are {}", known.join(", "));
        };
        let card = card::Card::read(&files, interface, &all);
        findings.extend(interface::findings(&card));
        findings.extend(steering::findings(&card, options.port));
        findings.extend(network::of_interface(&files, name));
    }
    Ok(findings)
}

fn default_interfaces(all: &[netlink::Interface]) -> anyhow::Result<Vec<String>> {
    let routes = netlink::default_route_interfaces().context("cannot find out the default routes")?;
    let found = all.iter().filter(|interface| routes.contains(&interface.index));
    Ok(found.map(|interface| interface.name.clone()).collect())
}

/// Whether the XDP program loads: a small one, gone when this returns.
fn program() -> Finding {
    let tried = || -> anyhow::Result<String> {
        xdp::check_system()?;
        let sizes = Sizes::new(&Capacity { torrents: 1000, peers_v4: 1000, peers_v6: 1000 })?;
        let loaded = Program::load(&sizes)?.keep();
        let count =
            loaded.verified_instructions.map_or_else(String::new, |count| format!(", {count} instructions verified"));
        let time = loaded.load_time.map(|time| time.as_millis()).unwrap_or_default();
        Ok(format!("it loads in {time} ms{count}"))
    };
    match tried() {
        Ok(value) => Finding::good("xdp_program", "The kernel takes the XDP program", value),
        Err(error) => Finding::problem(
            "xdp_program",
            "The XDP program cannot be loaded, so sockets would have to answer",
            format!("{error:#}"),
        )
        .command("sudo tracker doctor"),
    }
}

/// Whether the control group has room for the store.
fn memory(sizes: &Sizes) -> Finding {
    let value = crate::text::human_bytes(sizes.bytes());
    match memory_limit::check(sizes) {
        Ok(()) => Finding::good("memory_limit", "Control groups leave room for the store", value),
        Err(error) => Finding::problem("memory_limit", "The control group has too little memory", format!("{error:#}"))
            .command("systemctl set-property tracker.service MemoryMax=infinity"),
    }
}
