//! Other trackers with the same swarms.

use super::{
    invalid::invalid,
    options::Options,
    value::{count, seconds},
};
use crate::cluster::{LivesyncPlan, Plan, link::host_and_port, nodes::NAME_BYTES};
use clap::Args;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

/// Other trackers with the same swarms.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterOptions {
    /// Share swarms with other trackers by this NATS server (nats://HOST, tls://HOST:PORT); may be given
    /// several times, for servers of one cluster; `off` for none. Fixed at the start, as all of these
    /// [default: off]
    #[arg(long, value_name = "URL")]
    pub cluster: Option<Vec<String>>,
    /// What this tracker is called among them [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub cluster_node: Option<String>,
    /// Take part in these shards only, of 64 that torrents are divided into by the first six bits of
    /// their info_hashes, such as 0-31,40 [default: 0-63]
    #[arg(long, value_name = "SHARDS")]
    pub cluster_shards: Option<String>,
    /// The first line of this file is USER:PASSWORD, a token, or a user's key (NKEY) for the NATS servers;
    /// or it is a file of JWT and key (.creds). It is read for each connection
    #[arg(long, value_name = "FILE")]
    pub cluster_credentials: Option<PathBuf>,
    /// Certificates, as PEM, of who signs those of the NATS servers, instead of those that the system knows;
    /// asks for TLS
    #[arg(long, value_name = "FILE")]
    pub cluster_ca: Option<PathBuf>,
    /// The certificate, as PEM, that this tracker shows to the NATS server; takes --cluster-key
    #[arg(long, value_name = "FILE")]
    pub cluster_certificate: Option<PathBuf>,
    /// The private key of that certificate, as PEM
    #[arg(long, value_name = "FILE")]
    pub cluster_key: Option<PathBuf>,
    /// Tell others that a peer is still there once in this time at most, in whole minutes; less than
    /// their --peer-timeout by --interval at least [default: 10m]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub cluster_refresh: Option<u64>,
    /// Take at most so many changes of others in a second [default: 200000]
    #[arg(long, value_name = "N", value_parser = count)]
    pub cluster_budget: Option<u64>,
    /// Spend at most so many percent of a processor core's time on changes of others. What is beyond
    /// either is dropped, and comes with the next announce [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = count)]
    pub cluster_cpu: Option<u64>,
    /// Speak opentracker's livesync in this multicast group, such as 224.0.23.5:9696; `off` for not at
    /// all [default: off]
    #[arg(long, value_name = "GROUP:PORT")]
    pub livesync: Option<String>,
    /// Take packets of livesync from this address; may be given several times. Nothing else protects it
    /// [default: from none]
    #[arg(long, value_name = "ADDRESS")]
    pub livesync_from: Option<Vec<IpAddr>>,
    /// The IPv4 address of the interface that the group is on [default: what the system's routes say]
    #[arg(long, value_name = "ADDRESS")]
    pub livesync_interface: Option<Ipv4Addr>,
}

/// What the options come to; `None` without other trackers.
///
/// # Errors
/// When a value is none, or does not go with the others.
pub(super) fn plan(options: &Options) -> anyhow::Result<Option<Plan>> {
    let given = &options.cluster;
    let servers: Vec<_> = given.cluster.iter().flatten().filter(|server| !is_off(server)).cloned().collect();
    if let Some(wrong) = servers.iter().find(|server| host_and_port(server).is_none()) {
        // Whoever reads the log is not told a password.
        let why = match wrong.rsplit_once('@') {
            Some((_, place)) => format!("has an @ in front of {place:?}: who connects stands in --cluster-credentials"),
            None => format!("has {wrong:?}, which is no nats://HOST:PORT or tls://HOST:PORT"),
        };
        return invalid("cluster", why);
    }
    let livesync = livesync(given)?;
    let shards = match shards(given.cluster_shards.as_deref().unwrap_or("0-63")) {
        Some(shards) => shards,
        None => return invalid("cluster-shards", "takes numbers from 0 to 63 and ranges, such as 0-31,40".into()),
    };
    let node = given.cluster_node.clone().unwrap_or_else(host_name);
    if node.is_empty() || node.len() > NAME_BYTES || !node.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid("cluster-node", format!("takes up to {NAME_BYTES} letters, digits and signs, without blanks"));
    }
    let certificate = match (&given.cluster_certificate, &given.cluster_key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => return invalid("cluster-certificate", "takes --cluster-key".into()),
        (None, Some(_)) => return invalid("cluster-key", "takes --cluster-certificate".into()),
    };
    let refresh = given.cluster_refresh.unwrap_or(600);
    if !(60..=3600).contains(&refresh) {
        return invalid("cluster-refresh", "takes 1 minute to 1 hour".into());
    }
    let budget = given.cluster_budget.unwrap_or(200_000);
    if !(1000..=100_000_000).contains(&budget) {
        return invalid("cluster-budget", "takes 1000 to 100000000 changes".into());
    }
    let share = given.cluster_cpu.unwrap_or(50);
    if !(1..=100).contains(&share) {
        return invalid("cluster-cpu", "takes 1 to 100 percent".into());
    }
    Ok((!servers.is_empty() || livesync.is_some()).then(|| Plan {
        servers,
        node,
        shards,
        credentials: given.cluster_credentials.clone(),
        authority: given.cluster_ca.clone(),
        certificate,
        tell_every: (refresh / 60) as u32,
        budget: budget as u32,
        share: share as u32,
        livesync,
    }))
}

fn livesync(given: &ClusterOptions) -> anyhow::Result<Option<LivesyncPlan>> {
    let Some(group) = given.livesync.as_deref().filter(|group| !is_off(group)) else { return Ok(None) };
    let group = match group.parse::<SocketAddrV4>() {
        Ok(group) if group.ip().is_multicast() && group.port() != 0 => group,
        _ => return invalid("livesync", format!("has {group:?}, which is no IPv4 multicast group with a port")),
    };
    Ok(Some(LivesyncPlan {
        group,
        interface: given.livesync_interface.unwrap_or(Ipv4Addr::UNSPECIFIED),
        from: given.livesync_from.clone().unwrap_or_default(),
    }))
}

/// As the file may write it, too.
fn is_off(text: &str) -> bool {
    matches!(text, "off" | "false")
}

/// Numbers and ranges, as bits.
fn shards(text: &str) -> Option<u64> {
    let mut shards = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > 63 {
            return None;
        }
        (first..=last).for_each(|shard| shards |= 1_u64 << shard);
    }
    Some(shards)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "tracker".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbers_and_ranges() {
        for (text, expected) in [
            ("0-63", Some(u64::MAX)),
            ("0", Some(1)),
            ("63", Some(1 << 63)),
            ("0-1, 4", Some(0b10011)),
            ("3,3", Some(8)),
            ("", None),
            ("64", None),
            ("1-64", None),
            ("2-1", None),
            ("a", None),
            ("1,", None),
            ("-1", None),
        ] {
            assert_eq!(shards(text), expected, "{text:?}");
        }
    }

    #[test]
    fn one_option_is_all_it_takes_and_what_does_not_fit_is_refused() {
        let with = |change: &dyn Fn(&mut ClusterOptions)| {
            let mut options = Options::default();
            options.cluster.cluster = Some(vec!["nats://one.example".into()]);
            change(&mut options.cluster);
            plan(&options)
        };
        assert_eq!(plan(&Options::default()).expect("fine"), None);
        let usual = with(&|_| ()).expect("fine").expect("a cluster");
        assert_eq!((usual.shards, usual.tell_every, usual.budget), (u64::MAX, 10, 200_000));
        assert_eq!(usual.ports(), [4222]);
        for off in ["off", "false"] {
            let none = with(&|options| {
                options.cluster = Some(vec![off.into()]);
                options.livesync = Some(off.into());
            });
            assert!(none.expect("fine").is_none(), "{off}");
        }
        type Change<'a> = &'a dyn Fn(&mut ClusterOptions);
        let wrong: [(&str, Change<'_>); 14] = [
            ("cluster", &|options| options.cluster = Some(vec!["http://one.example".into()])),
            ("cluster", &|options| options.cluster = Some(vec!["nats://a:b@one.example".into()])),
            ("cluster-cpu", &|options| options.cluster_cpu = Some(0)),
            ("cluster-cpu", &|options| options.cluster_cpu = Some(101)),
            ("cluster-shards", &|options| options.cluster_shards = Some("64".into())),
            ("cluster-node", &|options| options.cluster_node = Some("a b".into())),
            ("cluster-node", &|options| options.cluster_node = Some(String::new())),
            ("cluster-certificate", &|options| options.cluster_certificate = Some("a".into())),
            ("cluster-key", &|options| options.cluster_key = Some("a".into())),
            ("cluster-refresh", &|options| options.cluster_refresh = Some(59)),
            ("cluster-refresh", &|options| options.cluster_refresh = Some(3601)),
            ("cluster-budget", &|options| options.cluster_budget = Some(999)),
            ("livesync", &|options| options.livesync = Some("192.0.2.1:9696".into())),
            ("livesync", &|options| options.livesync = Some("224.0.23.5".into())),
        ];
        for (option, change) in wrong {
            let error = with(change).expect_err(option).to_string();
            assert!(error.contains(option), "{option}: {error}");
        }
        let both = with(&|options| options.livesync = Some("224.0.23.5:9696".into())).expect("fine");
        assert_eq!(both.expect("a cluster").livesync.expect("livesync").from, [] as [IpAddr; 0]);
    }
}
