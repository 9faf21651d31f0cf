//! Settings of the network, connection tracking, and firewalls.

use super::{files::Files, finding::Finding, firewall::Fate};

/// What UDP sockets ask for, in bytes.
const BUFFER: u64 = 8 << 20;

/// What files tell.
#[must_use]
pub fn findings(files: &Files) -> Vec<Finding> {
    [buffers(files), busy_polling(files), connection_tracking(files)].into_iter().flatten().collect()
}

fn buffers(files: &Files) -> Option<Finding> {
    const CODE: &str = "socket_buffers";
    let value = files.number("/proc/sys/net/core/rmem_max")?;
    Some(if value < BUFFER {
        let text = "Buffers of UDP sockets are shorter than a seventh of a second of requests, unless the tracker has \
                    CAP_NET_ADMIN at its start";
        Finding::advice(CODE, text, value.to_string()).command(format!("sysctl -w net.core.rmem_max={BUFFER}"))
    } else {
        Finding::good(CODE, "Buffers of UDP sockets can be long enough", value.to_string())
    })
}

fn busy_polling(files: &Files) -> Option<Finding> {
    const CODE: &str = "busy_polling";
    let value = files.number("/proc/sys/net/core/busy_poll")?;
    Some(if value == 0 {
        Finding::good(CODE, "Sockets do not poll the card, which costs latency by sockets alone", "0")
    } else {
        let text = "Sockets poll the card, which costs a core and gains XDP nothing";
        Finding::advice(CODE, text, value.to_string()).command("sysctl -w net.core.busy_poll=0")
    })
}

fn connection_tracking(files: &Files) -> Option<Finding> {
    const CODE: &str = "connection_tracking";
    let count = files.number("/proc/sys/net/netfilter/nf_conntrack_count")?;
    let most = files.number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let value = format!("{count} of {most}");
    let command = "nft add table inet raw; nft add chain inet raw prerouting '{ type filter hook prerouting priority raw; }'; \
                   nft add rule inet raw prerouting udp dport 6969 notrack";
    Some(if count > most / 10 * 8 {
        let text =
            "The table of tracked connections is nearly full: packets that XDP leaves to sockets will be dropped";
        Finding::problem(CODE, text, value).command(command)
    } else if count > 0 {
        let text = "Connections are tracked, which costs a lookup and an entry per client where sockets answer; XDP comes before it";
        Finding::advice(CODE, text, value).command(command)
    } else {
        Finding::good(CODE, "No connections are tracked", value)
    })
}

/// A base chain of a firewall that sees what comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Table and chain.
    pub name: String,
    /// Whether it drops what no rule lets through.
    pub drops: bool,
    /// What its rules do with UDP to the port.
    pub udp: Fate,
    /// The same of TCP.
    pub tcp: Fate,
    /// The command that lets the port in, for PROTOCOL.
    pub let_in: String,
}

impl Chain {
    /// Whether packets to the port do not come through, by rules or because none lets them in.
    fn stops(&self, fate: Fate) -> bool {
        fate == Fate::Refused || self.drops && fate == Fate::Open
    }
}

/// What a firewall means for the tracker; `None` if it cannot be asked.
#[must_use]
pub fn firewall(chains: Option<Vec<Chain>>, port: u16) -> Finding {
    const CODE: &str = "firewall";
    let Some(chains) = chains else {
        return Finding::good(CODE, "The firewall cannot be asked", "no answer");
    };
    if let Some(chain) = chains.iter().find(|chain| chain.stops(chain.udp) || chain.stops(chain.tcp)) {
        let of = [("udp", chain.udp), ("tcp", chain.tcp)];
        let stopped = of.iter().filter(|(_, fate)| chain.stops(*fate));
        let refused = of.iter().any(|(_, fate)| *fate == Fate::Refused);
        let why = if refused {
            format!("A rule of the firewall drops what comes to port {port}")
        } else {
            format!("A firewall drops what comes in unless a rule lets it, and none does that with port {port}")
        };
        let text = format!(
            "{why}: sockets and HTTP get nothing. What XDP answers it never sees, so its rules do not hold there; use \
             --block-addresses and --limit-…"
        );
        let commands: Vec<_> = stopped.map(|(protocol, _)| chain.let_in.replace("PROTOCOL", protocol)).collect();
        return Finding::advice(CODE, text, chain.name.clone()).command(commands.join("; "));
    }
    match chains.first() {
        Some(chain) => Finding::good(
            CODE,
            "No rule of the firewall keeps the port out for all; its rules do not hold for what XDP answers",
            chain.name.clone(),
        ),
        None => Finding::good(CODE, "No firewall filters what comes in", "no chain"),
    }
}

/// What files tell of an interface.
#[must_use]
pub fn of_interface(files: &Files, name: &str) -> Vec<Finding> {
    const CODE: &str = "rp_filter";
    let of = |name: &str| files.number(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    // The kernel takes the larger one.
    let Some(value) = of(name).max(of("all")) else { return Vec::new() };
    let finding = if value == 1 {
        let text = "Packets whose way back is by another interface are dropped before sockets see them, but not before XDP: \
                    with two uplinks, clients are answered by XDP and not by sockets and HTTP";
        let set = |name: &str| format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
        Finding::advice(CODE, text, value.to_string()).command(format!("{}; {}", set("all"), set(name)))
    } else {
        Finding::good(CODE, "Sources are not held to one interface", value.to_string())
    };
    vec![finding.of(name)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{files::Staged, finding::Severity};

    #[test]
    fn settings_of_the_network_by_row() {
        const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
        const MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<Severity>);
        let rows: [Row<'_>; 11] = [
            (&[("/proc/sys/net/core/rmem_max", "212992")], "socket_buffers", Some(Severity::Advice)),
            (&[("/proc/sys/net/core/rmem_max", "8388608")], "socket_buffers", Some(Severity::Good)),
            (&[("/proc/sys/net/core/rmem_max", "x")], "socket_buffers", None),
            (&[("/proc/sys/net/core/busy_poll", "0")], "busy_polling", Some(Severity::Good)),
            (&[("/proc/sys/net/core/busy_poll", "50")], "busy_polling", Some(Severity::Advice)),
            (&[(COUNT, "0"), (MOST, "1000")], "connection_tracking", Some(Severity::Good)),
            (&[(COUNT, "10"), (MOST, "1000")], "connection_tracking", Some(Severity::Advice)),
            (&[(COUNT, "801"), (MOST, "1000")], "connection_tracking", Some(Severity::Problem)),
            (&[(COUNT, "801")], "connection_tracking", None),
            (&[], "socket_buffers", None),
            (&[], "connection_tracking", None),
        ];
        for (given, code, expected) in rows {
            let staged = Staged::new("network", given);
            let found = findings(&staged.files());
            let severity = found.iter().find(|finding| finding.code == code).map(|finding| finding.severity);
            assert_eq!(severity, expected, "{given:?}");
        }
    }

    #[test]
    fn the_stricter_of_two_source_filters_holds() {
        for (all, own, expected) in [
            ("0", "0", Some(Severity::Good)),
            ("1", "0", Some(Severity::Advice)),
            ("0", "1", Some(Severity::Advice)),
            ("2", "1", Some(Severity::Good)),
            ("1", "2", Some(Severity::Good)),
        ] {
            let own = ("/proc/sys/net/ipv4/conf/eth0/rp_filter", own);
            let staged = Staged::new("filter", &[("/proc/sys/net/ipv4/conf/all/rp_filter", all), own]);
            let found = of_interface(&staged.files(), "eth0").pop().map(|finding| finding.severity);
            assert_eq!(found, expected, "{all} {own:?}");
        }
        assert!(of_interface(&Staged::new("no-filter", &[("/proc/x", "")]).files(), "eth0").is_empty());
    }

    #[test]
    fn a_firewall_matters_if_it_drops() {
        use Fate::{LetIn, Open, Refused};
        let chain = |drops, udp, tcp| Chain {
            name: "ip/filter/INPUT".into(),
            drops,
            udp,
            tcp,
            let_in: "let PROTOCOL in".into(),
        };
        for (chains, expected) in [
            (None, None),
            (Some(vec![]), None),
            (Some(vec![chain(false, Open, Open)]), None),
            (Some(vec![chain(true, LetIn, LetIn)]), None),
            (Some(vec![chain(false, Open, Open), chain(true, Open, Open)]), Some("let udp in; let tcp in")),
            (Some(vec![chain(true, LetIn, Open)]), Some("let tcp in")),
            (Some(vec![chain(false, Refused, Open)]), Some("let udp in")),
            (Some(vec![chain(true, Refused, LetIn)]), Some("let udp in")),
        ] {
            let finding = firewall(chains.clone(), 6969);
            assert_eq!(finding.command.as_deref(), expected, "{chains:?}");
            assert_eq!(finding.severity == Severity::Advice, expected.is_some(), "{chains:?}");
        }
    }
}
