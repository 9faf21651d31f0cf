//! The files of aquatic_udp and aquatic_http (TOML), as of version 0.9 and the one in development
//! after it, which names the addresses of both families.

use super::{
    Item,
    Meaning::{self, Nothing, Options, Same},
};
use anyhow::{Context as _, bail};
use std::net::{Ipv4Addr, SocketAddr};
use toml::{Table, Value};

const METRICS: &str = "/metrics is on the HTTP address";
const OWN_WAY: &str = "the tracker decides that itself";

/// Which of the two a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Udp,
    Http,
}

impl Kind {
    /// Only one of them has these keys.
    fn of(table: &Table) -> anyhow::Result<Self> {
        let network = table.get("network").and_then(Value::as_table);
        let has = |key: &str| network.is_some_and(|network| network.contains_key(key));
        if table.contains_key("swarm_workers") || has("enable_tls") || has("keep_alive") {
            return Ok(Self::Http);
        }
        if table.contains_key("statistics") || has("use_io_uring") || has("socket_recv_buffer_size") {
            return Ok(Self::Udp);
        }
        bail!("it is not to be seen whether this is a file of aquatic_udp or of aquatic_http");
    }

    fn listen(self) -> &'static str {
        if self == Self::Udp { "udp" } else { "http" }
    }
}

/// Reads a file.
///
/// # Errors
/// When it is no TOML, or a value that matters here is not what aquatic takes.
pub fn read(text: &str) -> anyhow::Result<Vec<Item>> {
    let table: Table = toml::from_str(text).context("it is no TOML")?;
    let kind = Kind::of(&table)?;
    let mut items = Vec::new();
    for (key, value) in &table {
        let Some(section) = value.as_table() else {
            let theirs = format!("{key} = {value}");
            let meaning = top(kind, key, value).with_context(|| theirs.clone())?;
            items.push(Item { theirs, line: 0, meaning });
            continue;
        };
        for (name, value) in section {
            let theirs = format!("{key}.{name} = {value}");
            let meaning = meaning(kind, section, (key, name), value).with_context(|| theirs.clone())?;
            items.extend(meaning.map(|meaning| Item { theirs, line: 0, meaning }));
        }
    }
    Ok(items)
}

fn number(value: &Value) -> anyhow::Result<String> {
    let number = value.as_integer().filter(|number| *number >= 0).context("a number is wanted")?;
    Ok(number.to_string())
}

fn flag(section: &Table, name: &str, default: bool) -> bool {
    section.get(name).and_then(Value::as_bool).unwrap_or(default)
}

fn one(option: &'static str, value: String) -> Meaning {
    Options(vec![(option, value)])
}

fn top(kind: Kind, key: &str, value: &Value) -> anyhow::Result<Meaning> {
    Ok(match key {
        "socket_workers" if value.as_integer() == Some(0) => Same("a thread per core is the default"),
        "socket_workers" if kind == Kind::Udp => one("udp-threads", number(value)?),
        "socket_workers" => one("http-threads", number(value)?),
        "swarm_workers" => Same("there are none: every thread works on the swarms itself"),
        "log_level" => one("log", value.as_str().context("a level is wanted")?.to_lowercase()),
        _ => Nothing("not known"),
    })
}

/// What a key of a section is; `None` if it says nothing because another one switches it off.
fn meaning(kind: Kind, section: &Table, (of, name): (&str, &str), value: &Value) -> anyhow::Result<Option<Meaning>> {
    Ok(Some(match (of, name) {
        ("network", "address") => addresses(kind, section, value)?,
        ("network", "address_ipv4" | "address_ipv6") => {
            let family = if name == "address_ipv4" { "use_ipv4" } else { "use_ipv6" };
            if !flag(section, family, true) {
                return Ok(None);
            }
            one(kind.listen(), address(value)?.to_string())
        }
        ("network", "use_ipv4" | "use_ipv6" | "only_ipv6" | "set_only_ipv6") => return Ok(None),
        ("network", "enable_tls") if value.as_bool() == Some(true) => {
            Nothing("give these addresses by --https, with --tls-certificate and --tls-key")
        }
        ("network", "runs_behind_reverse_proxy") if value.as_bool() == Some(true) => {
            Nothing("name the proxy by --proxy-from, and its header by --proxy-header if it is not X-Forwarded-For")
        }
        ("network", _) => Same(OWN_WAY),
        ("protocol", "peer_announce_interval") => one("interval", number(value)?),
        ("protocol", "max_response_peers" | "max_peers") => {
            Options(vec![("max-numwant", number(value)?), ("default-numwant", number(value)?)])
        }
        ("protocol", "max_scrape_torrents") => Same("as many as fit into a request"),
        ("cleaning", "max_peer_age") => one("peer-timeout", number(value)?),
        ("cleaning", "max_connection_age") => Same("connection ids hold for two to three minutes"),
        ("cleaning", "max_connection_idle") => one("http-idle-timeout", number(value)?),
        ("cleaning", _) => Same(OWN_WAY),
        ("access_list", "mode") => match value.as_str() {
            Some("off") => Same("there is none"),
            Some("allow" | "deny") if section.get("path").is_none() => bail!("there is no path"),
            Some("allow" | "deny") => return Ok(None),
            _ => bail!("it can be off, allow or deny"),
        },
        ("access_list", "path") => {
            let path = value.as_str().context("a path is wanted")?.to_owned();
            match section.get("mode").and_then(Value::as_str) {
                Some("allow") => one("allow-list", path),
                Some("deny") => one("deny-list", path),
                _ => return Ok(None),
            }
        }
        ("privileges", "user" | "group") if flag(section, "drop_privileges", false) => {
            let option = if name == "user" { "user" } else { "group" };
            one(option, value.as_str().context("a name is wanted")?.to_owned())
        }
        ("privileges", "chroot_path") if flag(section, "drop_privileges", false) => {
            Nothing("Landlock keeps the tracker to the directories that options name")
        }
        ("privileges", _) => return Ok(None),
        ("statistics" | "metrics", _) => Same(METRICS),
        _ => Nothing("not known"),
    }))
}

fn address(value: &Value) -> anyhow::Result<SocketAddr> {
    value.as_str().and_then(|text| text.parse().ok()).context("ADDRESS:PORT is wanted")
}

/// Theirs takes IPv4 as well at `[::]`, unless it is told not to.
fn addresses(kind: Kind, section: &Table, value: &Value) -> anyhow::Result<Meaning> {
    let address = address(value)?;
    let mut options = vec![(kind.listen(), address.to_string())];
    if address.ip().is_unspecified() && address.is_ipv6() && !flag(section, "only_ipv6", false) {
        options.push((kind.listen(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())).to_string()));
    }
    Ok(Options(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> anyhow::Result<Vec<String>> {
        let items = read(text)?;
        let options = super::super::options(&items);
        Ok(options.into_iter().map(|(name, values, _)| format!("{name}={}", values.join(","))).collect())
    }

    #[test]
    fn files_mean_what_they_mean_to_aquatic() {
        let rows: [(&str, &[&str]); 9] = [
            ("log_level = \"error\"\n[statistics]\n", &["log=error"]),
            (
                "[statistics]\n[privileges]\ndrop_privileges = true\nuser = \"nobody\"\ngroup = \"nogroup\"",
                &["user=nobody", "group=nogroup"],
            ),
            (
                "socket_workers = 2\n[network]\naddress = \"0.0.0.0:3000\"\nuse_io_uring = true\n[statistics]\ninterval = 5",
                &["udp=0.0.0.0:3000", "udp-threads=2"],
            ),
            ("[statistics]\n[network]\naddress = \"[::]:3000\"\n", &["udp=[::]:3000,0.0.0.0:3000"]),
            ("[statistics]\n[network]\naddress = \"[::]:3000\"\nonly_ipv6 = true", &["udp=[::]:3000"]),
            (
                "swarm_workers = 1\n[network]\naddress = \"0.0.0.0:80\"\n[protocol]\nmax_peers = 30\npeer_announce_interval = 120\n\
                 [cleaning]\nmax_peer_age = 1800\nmax_connection_idle = 20",
                &[
                    "peer-timeout=1800",
                    "http-idle-timeout=20",
                    "http=0.0.0.0:80",
                    "max-numwant=30",
                    "default-numwant=30",
                    "interval=120",
                ],
            ),
            ("[statistics]\n[access_list]\nmode = \"allow\"\npath = \"a.txt\"", &["allow-list=a.txt"]),
            ("[statistics]\n[access_list]\nmode = \"off\"\npath = \"a.txt\"", &[]),
            (
                "[statistics]\n[network]\nuse_ipv4 = true\nuse_ipv6 = false\naddress_ipv4 = \"0.0.0.0:1\"\naddress_ipv6 = \"[::]:1\"",
                &["udp=0.0.0.0:1"],
            ),
        ];
        for (text, expected) in rows {
            let mut made = told(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
            let mut expected: Vec<_> = expected.iter().map(|option| (*option).to_owned()).collect();
            made.sort();
            expected.sort();
            assert_eq!(made, expected, "{text}");
        }
    }

    #[test]
    fn wrong_files_are_refused_and_what_is_missing_here_is_named() {
        for (text, part) in [
            ("", "aquatic_udp or of aquatic_http"),
            ("interval = 600", "aquatic_udp or of aquatic_http"),
            ("[network", "no TOML"),
            ("[statistics]\n[network]\naddress = \"localhost:1\"", "ADDRESS:PORT"),
            ("[statistics]\n[access_list]\nmode = \"some\"", "off, allow or deny"),
            ("[statistics]\n[access_list]\nmode = \"deny\"", "no path"),
            ("socket_workers = -1\n[statistics]", "a number"),
        ] {
            let error = format!("{:#}", read(text).expect_err(text));
            assert!(error.contains(part), "{text:?}: {error}");
        }
        for text in [
            "[network]\nenable_tls = true",
            "swarm_workers = 1\n[network]\nruns_behind_reverse_proxy = true",
            "[statistics]\n[privileges]\ndrop_privileges = true\nchroot_path = \".\"",
        ] {
            let items = read(text).expect(text);
            assert!(items.iter().any(|item| matches!(item.meaning, Nothing(_))), "{text}: {items:?}");
        }
    }
}
