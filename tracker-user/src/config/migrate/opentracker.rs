//! opentracker's configuration: its file (`key value` lines) and the letters of its command line,
//! as of the version that Debian has.

use super::{
    super::value::DEFAULT_PORT,
    Item,
    Meaning::{self, Nothing, Options, Same},
};
use anyhow::{Context as _, bail};
use std::{
    ffi::{OsStr, OsString},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
};

const STATISTICS: &str = "they are at /stats, for whom --admin-from names";
const ROOT: &str = "lists are read from there; the tracker itself is not put into it";
const CLUSTER: &str = "trackers share their swarms by --cluster";
const REDIRECT: &str = "`GET /` shows the statistics";
const FIFO: &str = "write the list anew and send SIGHUP";

/// Where opentrackers tell each other of peers (`ot_livesync.c`).
const LIVESYNC_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 23, 5);

/// The port, unless they are told another one.
const LIVESYNC_PORT: u16 = 9696;

/// Reads a file.
///
/// # Errors
/// The first line that opentracker would not understand.
pub fn read(text: &str) -> anyhow::Result<Vec<Item>> {
    let lines =
        || (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &'_ str| -> (String, String) {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (key.to_owned(), value.trim().to_owned())
    };
    let root =
        lines().map(|(_, line)| split(line)).filter(|(key, _)| key == "tracker.rootdir").last().map(|(_, root)| root);
    let in_root = |path: &str| match &root {
        Some(root) => Path::new(root).join(path).display().to_string(),
        None => path.to_owned(),
    };
    let mut items = Vec::new();
    for (line, content) in lines() {
        let (key, value) = split(content);
        let wrong = || format!("line {line}: {content}");
        if value.is_empty() {
            bail!("{}: there is no value", wrong());
        }
        let listen = |options: &[&'static str]| -> anyhow::Result<_> {
            let address = address(&value, DEFAULT_PORT).with_context(wrong)?.to_string();
            Ok(Options(options.iter().map(|option| (*option, address.clone())).collect()))
        };
        let meaning = match key.as_str() {
            "listen.tcp_udp" => listen(&["udp", "http"])?,
            "listen.udp" => listen(&["udp"])?,
            "listen.tcp" => listen(&["http"])?,
            "listen.udp.workers" => match value.parse::<u32>().with_context(wrong)? {
                0 => Same("a thread per core"),
                threads => Options(vec![("udp-threads", threads.to_string())]),
            },
            "access.whitelist" => Options(vec![("allow-list", in_root(&value))]),
            "access.blacklist" => Options(vec![("deny-list", in_root(&value))]),
            "access.fifo_add" | "access.fifo_delete" => Nothing(FIFO),
            "access.stats" => Options(vec![("admin-from", value.clone())]),
            "access.stats_path" => Nothing(STATISTICS),
            "access.proxy" => Options(vec![("proxy-from", value.clone())]),
            "tracker.rootdir" => Same(ROOT),
            "tracker.user" => Options(vec![("user", value.clone())]),
            "tracker.redirect_url" => Nothing(REDIRECT),
            "livesync.cluster.listen" => {
                let at = address(&value, LIVESYNC_PORT).with_context(wrong)?;
                livesync(at.ip(), at.port()).with_context(wrong)?
            }
            "livesync.cluster.node_ip" => {
                let node: IpAddr = value.parse().with_context(wrong)?;
                Options(vec![("livesync-from", node.to_string())])
            }
            _ if key.starts_with("livesync.") || key.starts_with("batchsync.") => Nothing(CLUSTER),
            _ => bail!("{}: opentracker has no such option", wrong()),
        };
        items.push(Item { theirs: content.to_owned(), line, meaning });
    }
    complete(&mut items);
    Ok(items)
}

/// opentracker listens at its port if it is told nowhere to, and otherwise only where it is told.
fn complete(items: &mut Vec<Item>) {
    let has = |items: &[Item], option| super::options(items).iter().any(|(name, ..)| *name == option);
    let (udp, http) = (has(items, "udp"), has(items, "http"));
    let mut add = |theirs: &str, options: &[(&'static str, &str)]| {
        let options = options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        items.push(Item { theirs: theirs.to_owned(), line: 0, meaning: Options(options) });
    };
    match (udp, http) {
        (true, true) => {}
        (false, false) => {
            let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)).to_string();
            add("nowhere to listen", &[("udp", &everywhere), ("http", &everywhere)]);
        }
        (true, false) => add("no TCP", &[("http", "off")]),
        (false, true) => add("no UDP", &[("udp", "off")]),
    }
}

/// An address with or without a port.
fn address(text: &str, port: u16) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let address: IpAddr = text
        .trim_matches(['[', ']'])
        .parse()
        .map_err(|_| anyhow::anyhow!("{text} is no address, such as 192.0.2.1 or 192.0.2.1:{port}"))?;
    Ok((address, port).into())
}

/// Livesync at an address: theirs is built with one group, and with IPv4 only.
fn livesync(ip: IpAddr, port: u16) -> anyhow::Result<Meaning> {
    let IpAddr::V4(ip) = ip.to_canonical() else { bail!("livesync takes an IPv4 address") };
    let mut options = vec![("livesync", SocketAddrV4::new(LIVESYNC_GROUP, port).to_string())];
    if !ip.is_unspecified() {
        options.push(("livesync-interface", ip.to_string()));
    }
    Ok(Options(options))
}

/// Letters that take a value.
const LETTERS: &str = "ipPdubwAslr";

/// A command line in which opentracker's letters are replaced by our options, and what they mean.
/// `-f` stays: it is an option of ours. Without letters it is as it was.
///
/// # Errors
/// When a letter lacks its value, or has a wrong one.
pub fn letters(arguments: Vec<OsString>) -> anyhow::Result<(Vec<OsString>, Vec<Item>)> {
    let is_letter = |argument: &OsStr| {
        let bytes = argument.as_encoded_bytes();
        bytes.len() >= 2 && bytes[0] == b'-' && LETTERS.as_bytes().contains(&bytes[1])
    };
    let mut arguments = arguments;
    // opentracker's own command line has no commands, and whoever starts it by that runs this.
    if arguments.get(1).is_some_and(|first| is_letter(first) || first.as_encoded_bytes().starts_with(b"-f")) {
        arguments.insert(1, "run".into());
    }
    if arguments.get(1).is_none_or(|command| command != "run") || !arguments.iter().any(|argument| is_letter(argument))
    {
        return Ok((arguments, Vec::new()));
    }
    let (mut kept, mut given) = (Vec::new(), Vec::new());
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        if !is_letter(&argument) {
            kept.push(argument);
            continue;
        }
        let text = argument.to_str().context("an argument is no UTF-8")?.to_owned();
        let (letter, value) = text.split_at(2);
        let value = match value {
            "" => rest
                .next()
                .and_then(|value| value.into_string().ok())
                .with_context(|| format!("{letter} lacks its value"))?,
            value => value.to_owned(),
        };
        given.push((letter.to_owned(), value));
    }
    let mut items = translate(&given)?;
    // Where it listens is said by the file, if there is one.
    let names_file = kept.iter().any(|argument| {
        let bytes = argument.as_encoded_bytes();
        bytes.starts_with(b"-f") || bytes.starts_with(b"--opentracker-config")
    });
    let names_address = super::options(&items).iter().any(|(name, ..)| ["udp", "http"].contains(name));
    if names_address || !names_file {
        complete(&mut items);
    }
    for (name, values, _) in super::options(&items) {
        kept.extend(values.into_iter().map(|value| OsString::from(format!("--{name}={value}"))));
    }
    Ok((kept, items))
}

fn translate(given: &[(String, String)]) -> anyhow::Result<Vec<Item>> {
    let root = given.iter().rfind(|(letter, _)| letter == "-d").map(|(_, root)| root);
    let in_root = |path: &str| root.map_or(path.to_owned(), |root| Path::new(root).join(path).display().to_string());
    let mut ip = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let (mut items, mut bound) = (Vec::new(), true);
    let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port).to_string();
    for (letter, value) in given {
        let theirs = format!("{letter} {value}");
        let port = || value.parse::<u16>().ok().filter(|port| *port != 0).with_context(|| format!("{theirs}: no port"));
        let meaning = match letter.as_str() {
            "-i" => {
                ip = address(value, DEFAULT_PORT).with_context(|| theirs.clone())?.ip();
                bound = false;
                Same("what follows is at this address")
            }
            "-p" => Options(vec![("http", at(ip, port()?))]),
            "-P" => Options(vec![("udp", at(ip, port()?))]),
            "-w" => Options(vec![("allow-list", in_root(value))]),
            "-b" => Options(vec![("deny-list", in_root(value))]),
            "-d" => Same(ROOT),
            "-u" => Options(vec![("user", value.clone())]),
            "-r" => Nothing(REDIRECT),
            "-A" => Options(vec![("admin-from", value.clone())]),
            "-s" => livesync(ip, port()?).with_context(|| theirs.clone())?,
            _ => Nothing("the state of an opentracker is not read at the start"),
        };
        bound |= matches!(letter.as_str(), "-p" | "-P");
        items.push(Item { theirs, line: 0, meaning });
    }
    if !bound {
        let everything = at(ip, DEFAULT_PORT);
        let meaning = Options(vec![("udp", everything.clone()), ("http", everything)]);
        items.push(Item { theirs: format!("-i {ip} without a port"), line: 0, meaning });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn told(items: &[Item]) -> String {
        super::super::options(items).into_iter().fold(String::new(), |mut text, (name, values, _)| {
            write!(text, "{name}={} ", values.join(",")).expect("memory");
            text
        })
    }

    #[test]
    fn files_mean_what_they_mean_to_opentracker() {
        for (text, expected) in [
            ("", "udp=0.0.0.0:6969 http=0.0.0.0:6969 "),
            ("# nothing\n\n  # here\n", "udp=0.0.0.0:6969 http=0.0.0.0:6969 "),
            ("listen.udp.workers 4\nlisten.udp 127.0.0.1:3000\n", "udp-threads=4 udp=127.0.0.1:3000 http=off "),
            ("listen.udp.workers 0\nlisten.udp 127.0.0.1:3000", "udp=127.0.0.1:3000 http=off "),
            ("listen.tcp 10.0.0.5", "http=10.0.0.5:6969 udp=off "),
            ("listen.tcp_udp 10.0.0.5:80\nlisten.udp [::1]:7", "udp=10.0.0.5:80,[::1]:7 http=10.0.0.5:80 "),
            ("listen.tcp_udp ::", "udp=[::]:6969 http=[::]:6969 "),
            (
                "access.whitelist ./white\ntracker.rootdir /etc/o\nlisten.tcp_udp 0.0.0.0",
                "allow-list=/etc/o/./white udp=0.0.0.0:6969 http=0.0.0.0:6969 ",
            ),
            (
                "access.blacklist\t/black\nlisten.tcp_udp 0.0.0.0",
                "deny-list=/black udp=0.0.0.0:6969 http=0.0.0.0:6969 ",
            ),
            (
                "listen.tcp_udp 0.0.0.0\naccess.stats 192.0.2.0/24\naccess.stats 192.0.2.1\naccess.proxy 10.0.0.0/8\n",
                "udp=0.0.0.0:6969 http=0.0.0.0:6969 admin-from=192.0.2.0/24,192.0.2.1 proxy-from=10.0.0.0/8 ",
            ),
            (
                "listen.tcp_udp ::\nlivesync.cluster.listen 192.0.2.1\nlivesync.cluster.node_ip 192.0.2.2\n\
                 livesync.cluster.node_ip 192.0.2.3",
                "udp=[::]:6969 http=[::]:6969 livesync=224.0.23.5:9696 livesync-interface=192.0.2.1 \
                 livesync-from=192.0.2.2,192.0.2.3 ",
            ),
            (
                "listen.tcp_udp ::\nlivesync.cluster.listen 0.0.0.0:9697",
                "udp=[::]:6969 http=[::]:6969 livesync=224.0.23.5:9697 ",
            ),
            ("tracker.user  nobody\r\nlisten.tcp_udp 0.0.0.0\r\n", "user=nobody udp=0.0.0.0:6969 http=0.0.0.0:6969 "),
        ] {
            let items = read(text).unwrap_or_else(|error| panic!("{text:?}: {error:#}"));
            assert_eq!(told(&items), expected, "{text:?}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_named() {
        for line in [
            "access.stats_path secret",
            "access.fifo_add /tmp/add",
            "batchsync.cluster.admin_ip 192.0.2.1",
            "tracker.redirect_url https://example.org/",
        ] {
            let items = read(line).expect(line);
            assert!(matches!(items[0].meaning, Nothing(_)), "{line}");
            assert!(items[0].to_string().contains("no counterpart"), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_refused_by_number() {
        for (text, part) in [
            ("listen.udp", "line 1"),
            ("\nlisten.udp localhost", "line 2"),
            ("listen.udp 10.0.0.1:99999", "line 1"),
            ("listen.udp.workers many", "line 1"),
            ("listen.udp.workers -1", "line 1"),
            ("listen.sctp 10.0.0.1", "no such option"),
            ("interval = 600", "no such option"),
            ("access.whitelist ", "no value"),
            ("livesync.cluster.listen [2001:db8::1]:9696", "line 1"),
            ("livesync.cluster.listen here", "line 1"),
            ("\nlivesync.cluster.node_ip here", "line 2"),
        ] {
            let error = format!("{:#}", read(text).expect_err(text));
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn letters_become_options() {
        for (line, expected) in [
            ("tracker run", "tracker run"),
            ("tracker run --interface eth0", "tracker run --interface eth0"),
            ("tracker trace -p 5", "tracker trace -p 5"),
            ("tracker run -p 80", "tracker run --http=0.0.0.0:80 --udp=off"),
            ("tracker run -P 80 -p80", "tracker run --udp=0.0.0.0:80 --http=0.0.0.0:80"),
            (
                "tracker run -i 10.0.0.1 -p 80 -P 81 --force -i 10.0.0.2 -P 82",
                "tracker run --force --http=10.0.0.1:80 --udp=10.0.0.1:81 --udp=10.0.0.2:82",
            ),
            ("tracker run -i 10.0.0.1", "tracker run --udp=10.0.0.1:6969 --http=10.0.0.1:6969"),
            (
                "tracker run -d /etc/o -w white -u nobody",
                "tracker run --allow-list=/etc/o/white --user=nobody --udp=0.0.0.0:6969 --http=0.0.0.0:6969",
            ),
            ("tracker run -P 80 -s 9697", "tracker run --udp=0.0.0.0:80 --livesync=224.0.23.5:9697 --http=off"),
            (
                "tracker run -i 10.0.0.1 -P 80 -s 9696",
                "tracker run --udp=10.0.0.1:80 --livesync=224.0.23.5:9696 --livesync-interface=10.0.0.1 --http=off",
            ),
            ("tracker run -f o.conf -b black", "tracker run -f o.conf --deny-list=black"),
            // As by those who start opentracker.
            ("tracker -f o.conf", "tracker run -f o.conf"),
            ("tracker -P 80", "tracker run --udp=0.0.0.0:80 --http=off"),
            ("tracker -h", "tracker -h"),
            ("tracker --help", "tracker --help"),
            ("tracker trace -f x", "tracker trace -f x"),
        ] {
            let arguments = line.split(' ').map(OsString::from).collect();
            let (made, _) = letters(arguments).unwrap_or_else(|error| panic!("{line}: {error:#}"));
            let made: Vec<_> = made.iter().map(|argument| argument.to_str().expect("UTF-8")).collect();
            assert_eq!(made.join(" "), expected, "{line}");
        }
        for line in [
            "tracker run -p",
            "tracker run -p 0",
            "tracker run -P 70000",
            "tracker run -i here",
            "tracker run -w",
            "tracker run -s x",
        ] {
            let arguments = line.split(' ').map(OsString::from).collect();
            assert!(letters(arguments).is_err(), "{line}");
        }
    }
}
