//! The command line, the file, and what is said of wrong ones.

use super::*;
use crate::{
    command::{Command, CommandLine},
    listen::{Endpoint, Source},
    store::{sizes::Capacity, sweep::Timeouts},
    xdp::{XdpMode, pins::Wanted},
};
use std::{fs, path::Path, time::Duration};
use tracker_common::settings::Settings;

fn parse(arguments: &str) -> anyhow::Result<Configuration> {
    let arguments = ["tracker", "run"].into_iter().chain(arguments.split_whitespace());
    let Command::Run(given) = CommandLine::read(arguments)?.command else {
        anyhow::bail!("not run");
    };
    Configuration::read(given)
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let configuration = parse("").expect("defaults are valid");
    assert_eq!((configuration.live.announces.interval, configuration.live.announces.interval_jitter), (1800, 180));
    assert_eq!(configuration.live.timeouts, Timeouts { peer: 45, torrent: 45, torrent_completed: 1440 });
    assert_eq!(configuration.startup.capacity, Capacity { torrents: 250_000, peers_v4: 1_000_000, peers_v6: 333_333 });
    let listen = |address: &str, optional| Endpoint { address: address.parse().expect("an address"), optional };
    assert_eq!(configuration.startup.udp, [listen("0.0.0.0:6969", false), listen("[::]:6969", true)]);
    assert_eq!(configuration.startup.http, configuration.startup.udp);
    assert!(configuration.live.full_scrape.enabled);
    assert_eq!(configuration.live, Live::default());
    assert_eq!((configuration.startup.pins, configuration.startup.detach_on_stop), (Wanted::IfPossible, false));
}

#[test]
fn command_line_wins_over_the_file() {
    let path = std::env::temp_dir().join(format!("tracker-configuration-{}.toml", std::process::id()));
    let text = "interval = 600\npeer-timeout = 1000\nudp = \"127.0.0.1:1\"\ninterface = [\"a\", \"b\", \"a\"]\nforce = true\nfull-scrape = \"off\"\n";
    fs::write(&path, text).expect("writable");
    let configuration = parse(&format!("--config {} --interval 700 --udp 127.0.0.1:2 --udp [::1]:2", path.display()));
    fs::remove_file(&path).expect("was there");
    let configuration = configuration.expect("valid");
    assert_eq!((configuration.live.announces.interval, configuration.live.timeouts.peer), (700, 17));
    assert_eq!(configuration.startup.interfaces, ["a", "b"]);
    assert!(configuration.startup.force && !configuration.live.full_scrape.enabled);
    let udp: Vec<_> = configuration.startup.udp.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(udp, ["127.0.0.1:2", "[::1]:2"]);
}

#[test]
fn wrong_options_are_refused_with_a_reason() {
    for (arguments, reason) in [
        ("--interval 5", "interval is 5; it can be 60 to 18000"),
        ("--interval -5", "it cannot be negative"),
        ("--interval 5x", "such as 1800, or a time such as 90s"),
        ("--interval 1800 --peer-timeout 1900", "peers would be forgotten"),
        ("--interval-jitter 1h", "at most half of interval, 900 seconds"),
        ("--path-mtu 575", "path-mtu is 575; it can be 576 to 9000"),
        ("--path-mtu-v6 1279", "path-mtu-v6 is 1279; it can be 1280 to 9000"),
        ("--max-numwant 321", "max-numwant is 321; it can be 1 to 320"),
        ("--default-numwant 51 --max-numwant 50", "default-numwant is 51, more than max-numwant, which is 50"),
        ("--max-torrents 0", "max-torrents is 0"),
        ("--max-torrents -1", "it cannot be negative"),
        ("--max-torrents 2MB", "such as 1000, 10k, 1.5M"),
        ("--max-torrents 1.2345k", "it is a fraction"),
        ("--max-torrents 99999999999999999999", "larger than any"),
        ("--max-torrents 3G", "max-torrents is 3000000000; it can be 1 to 2000000000"),
        ("--max-peers-per-address 129", "max-peers-per-address is 129; it can be 0 to 128"),
        ("--max-peers 0", "max-peers is 0; it can be 1 to"),
        ("--udp-threads 0", "udp-threads is 0; it can be 1 to 1024"),
        ("--http-threads 1k --http-connections 0", "http-connections is 0"),
        ("--http-idle-timeout 2h", "http-idle-timeout is 7200; it can be 1 to 3600"),
        ("--xdp-mode native", "--interface"),
        ("--pin-path tracker", "pin-path is tracker; it can be off, or a path that begins with /"),
        ("--detach-on-stop=maybe", "it can be on or off"),
        ("--tune=eth0", "it can be on or off"),
        ("--xdp-mode fast", "auto, native, generic, off"),
        ("--full-scrape maybe", "it can be on or off"),
        ("--force=maybe", "it can be on or off"),
        ("--huge-pages=maybe", "it can be on or off"),
        ("--udp unix:/run/x", "Unix sockets are for http and admin"),
        ("--https 127.0.0.1:1", "https takes tls-certificate and tls-key"),
        ("--tls-certificate /x", "tls-certificate takes tls-key as well"),
        ("--tls-key /x", "tls-key takes tls-certificate as well"),
        ("--https unix:/x --tls-certificate /x --tls-key /x", "Unix sockets are for http and admin"),
        ("--api-tls 127.0.0.1:1", "api-tls takes api-token-file"),
        ("--api-tls unix:/x --api-token-file /x", "Unix sockets are for api, http and admin"),
        ("--api-tls 127.0.0.1:1 --api-token-file /x", "api-tls takes tls-certificate and tls-key"),
        ("--https-handshakes 0", "https-handshakes is 0"),
        ("--http unix:x", "no absolute path"),
        ("--http unix:/x --http off", "http has off and addresses besides"),
        ("--admin 127.0.0.1", "has no port"),
        ("--admin off --admin 127.0.0.1:1", "admin has off and addresses besides"),
        ("--proxy-from here", "is no network"),
        ("--proxy-from 10.0.0.0/33", "is no network"),
        ("--proxy-header a:b", "no name of a header"),
        ("--proxy-protocol-from 10", "is no network"),
        ("--ip-parameter-from localhost", "is no network"),
        ("--admin-from ::/129", "is no network"),
        ("--admin-token-file /nonexistent", "admin-token-file is of no use: cannot read the token"),
        ("--admin-token-file /dev/null", "no token"),
        ("--full-scrape-from nowhere", "is no network"),
        ("--full-scrape-pause 2d", "full-scrape-pause is 172800; it can be 0 to 86400"),
        ("--udp localhost:6969", "numeric address, such as 0.0.0.0:6969"),
        ("--udp 6969", "such as"),
        ("--udp off --udp 127.0.0.1:1", "udp has off and addresses besides"),
        ("--http 127.0.0.1:1 --http off", "http has off and addresses besides"),
        ("--interface=", "interface"),
        ("--peer-timeout 28860", "it can be 60 to 28800"),
        ("--state-dir /x --snapshot-interval 8d", "snapshot-interval is 691200; it can be 0 to 604800"),
        ("--snapshot-interval -1", "it cannot be negative"),
        ("--snapshot-interval often", "or 2d, or off"),
        ("--snapshot-peers", "there is no directory for it"),
        ("--snapshot-peers=maybe", "it can be on or off"),
        ("--state-dir /x --snapshot-peers --snapshot-interval off", "snapshot-interval is off"),
        ("--config /nonexistent/tracker.toml", "/nonexistent/tracker.toml"),
    ] {
        let error = format!("{:#}", parse(arguments).expect_err(arguments));
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}

#[test]
fn snapshots_are_taken_where_there_is_a_directory_for_them() {
    let plan = |interval, peers| {
        let directory = "/x".into();
        Some(crate::snapshot::Plan { directory, interval: Duration::from_secs(interval), peers })
    };
    for (arguments, expected) in [
        ("", None),
        ("--snapshot-interval 60", None),
        ("--state-dir /x", plan(900, false)),
        ("--state-dir /x --snapshot-interval 1h", plan(3600, false)),
        ("--state-dir /x --snapshot-interval off", None),
        ("--state-dir /x --snapshot-interval 0", None),
        ("--state-dir /x --snapshot-peers", plan(900, true)),
        ("--state-dir /x --snapshot-peers=off", plan(900, false)),
    ] {
        assert_eq!(parse(arguments).expect(arguments).startup.snapshot, expected, "{arguments}");
    }
    for (text, expected) in [
        ("state-dir = \"/x\"\nsnapshot-interval = false", None),
        ("state-dir = \"/x\"\nsnapshot-interval = \"30s\"\nsnapshot-peers = true", plan(30, true)),
    ] {
        assert_eq!(parse_file(text).expect(text).startup.snapshot, expected, "{text}");
    }
}

/// The configuration that a file gives.
fn parse_file(text: &str) -> anyhow::Result<Configuration> {
    let (options, origin) = file::parse(text, Path::new("/etc/tracker.toml"))?;
    Configuration::new(&options, &origin)
}

#[test]
fn file_takes_what_the_command_line_takes() {
    type Row = (&'static str, fn(&Configuration) -> bool);
    let rows: [Row; 34] = [
        ("max-torrents = 1000", |made| made.startup.capacity.torrents == 1000),
        ("max-torrents = \"2M\"", |made| made.startup.capacity.torrents == 2_000_000),
        ("max-torrents = 1_000_000", |made| made.startup.capacity.torrents == 1_000_000),
        ("max-torrents = \"1_000\"", |made| made.startup.capacity.torrents == 1000),
        ("max-torrents = 1.5e6", |made| made.startup.capacity.torrents == 1_500_000),
        ("max-peers = \"10k\"", |made| {
            made.startup.capacity.peers_v4 == 10_000 && made.startup.capacity.peers_v6 == 3333
        }),
        ("max-peers = 1", |made| made.startup.capacity.peers_v6 == 1),
        ("interval = 600", |made| made.live.announces.interval == 600),
        ("interval = \"10m\"", |made| made.live.announces.interval == 600),
        ("full-scrape = false", |made| !made.live.full_scrape.enabled),
        ("full-scrape = true", |made| made.live.full_scrape.enabled),
        ("full-scrape = \"off\"", |made| !made.live.full_scrape.enabled),
        ("full-scrape = \"on\"", |made| made.live.full_scrape.enabled),
        ("full-scrape = 0", |made| !made.live.full_scrape.enabled),
        ("force = true", |made| made.startup.force),
        ("force = \"on\"", |made| made.startup.force),
        ("force = false", |made| !made.startup.force),
        ("huge-pages = true", |made| made.startup.huge_pages),
        ("huge-pages = \"on\"", |made| made.startup.huge_pages),
        ("huge-pages = \"off\"", |made| !made.startup.huge_pages),
        ("pin-path = \"off\"", |made| made.startup.pins == Wanted::Off),
        ("pin-path = \"/sys/fs/bpf/x\"", |made| made.startup.pins == Wanted::At("/sys/fs/bpf/x".into())),
        ("detach-on-stop = true", |made| made.startup.detach_on_stop),
        ("detach-on-stop = \"off\"", |made| !made.startup.detach_on_stop),
        ("tune = true", |made| made.startup.tune),
        ("tune = \"on\"", |made| made.startup.tune),
        ("tune = false", |made| !made.startup.tune),
        ("xdp-mode = \"off\"", |made| made.startup.xdp_mode == XdpMode::Off),
        ("xdp-mode = \"Off\"", |made| made.startup.xdp_mode == XdpMode::Off),
        ("udp = \"off\"", |made| made.startup.udp.is_empty()),
        ("udp = [\"127.0.0.1:1\", \"[::1]:1\"]", |made| made.startup.udp.len() == 2),
        ("interface = \"eth0\"", |made| made.startup.interfaces == ["eth0"]),
        ("interface = [\"a\", \"b\"]", |made| made.startup.interfaces == ["a", "b"]),
        ("state-dir = \"/x y\"", |made| made.startup.state_dir.as_deref() == Some(Path::new("/x y"))),
    ];
    for (text, is_right) in rows {
        let made = parse_file(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        assert!(is_right(&made), "{text}: {made:?}");
    }
}

#[test]
fn wrong_files_are_refused_with_line_and_remedy() {
    let rows: [(&str, &[&str]); 27] = [
        ("interval = 600\nintervall = 700\n", &["line 2", "intervall", "is interval meant?"]),
        ("max_torrents = 5", &["line 1", "is max-torrents meant?"]),
        ("MaxPeers = 5", &["line 1", "is max-peers meant?"]),
        ("fullscrape = true", &["is full-scrape meant?"]),
        ("zzz = 1", &["line 1", "zzz", "no such option", "tracker run --help"]),
        ("config = \"x\"", &["line 1", "a file cannot name another one"]),
        ("[tracker]\ninterval = 600", &["tracker", "no sections"]),
        ("udp.port = 5", &["udp", "a table"]),
        ("\n\nmax-torrents = \"many\"", &["line 3", "max-torrents = \"many\"", "10k"]),
        ("max-torrents = -5", &["line 1", "cannot be negative"]),
        ("max-torrents = 0", &["line 1", "max-torrents is 0; it can be 1 to"]),
        ("max-torrents = true", &["line 1", "it is no number"]),
        ("max-torrents = [5]", &["line 1", "no list"]),
        ("max-torrents = nan", &["line 1", "it is no number"]),
        ("max-torrents = 99999999999999999999", &["line 1"]),
        ("\nmax-peers = 0", &["line 2", "max-peers is 0; it can be 1 to"]),
        ("interval = 1800\n\npeer-timeout = 1900", &["line 3", "peers would be forgotten"]),
        ("full-scrape = \"maybe\"", &["line 1", "full-scrape", "it can be on or off"]),
        ("max-torrents = 5\nhuge-pages = \"2M\"", &["line 2", "huge-pages", "it can be on or off"]),
        ("xdp-mode = \"nativ\"", &["line 1", "it can be auto, native, generic, off"]),
        ("xdp-mode = true", &["line 1", "it can be auto, native, generic, off"]),
        ("udp = 6969", &["line 1", "0.0.0.0:6969"]),
        ("udp = []", &["line 1", "empty", "off"]),
        ("udp = [\"off\", \"127.0.0.1:1\"]", &["line 1", "off and addresses besides"]),
        ("interface = [\"\"]", &["line 1", "interface"]),
        ("interface = eth0", &["line 1"]),
        ("interval = 600\ninterval = 700", &["line 2", "duplicate key"]),
    ];
    for (text, parts) in rows {
        let error = format!("{:#}", parse_file(text).expect_err(text));
        for part in parts.iter().chain(&["/etc/tracker.toml"]) {
            assert!(error.contains(part), "{text:?} lacks {part:?}: {error}");
        }
    }
}

#[test]
fn line_of_the_file_is_not_blamed_for_the_command_line() {
    let path = std::env::temp_dir().join(format!("tracker-blame-{}.toml", std::process::id()));
    fs::write(&path, "max-numwant = 20\n\ninterval = 600\n").expect("writable");
    for (arguments, is_blamed) in [
        ("--interval 5", false),
        ("--max-numwant 20 --interval 7200 --interval-jitter 1h", false),
        ("--default-numwant 21", false),
        ("--peer-timeout 601", false),
    ] {
        let error = format!("{:#}", parse(&format!("--config {} {arguments}", path.display())).expect_err(arguments));
        assert_eq!(error.contains("line"), is_blamed, "{error}");
    }
    fs::remove_file(&path).expect("was there");
}

#[test]
fn switches_need_no_value() {
    assert!(parse("--force --interface eth0").expect("valid").startup.force);
    assert!(parse("--huge-pages").expect("valid").startup.huge_pages);
    assert!(!parse("--huge-pages=off").expect("valid").startup.huge_pages);
    assert!(!parse("").expect("valid").startup.huge_pages, "it is off by default");
    assert!(!parse("--force=off").expect("valid").startup.force);
    assert!(!parse("--full-scrape off").expect("valid").live.full_scrape.enabled);
}

#[test]
fn networks_are_believed_where_they_are_named() {
    let live = parse("--proxy-from 10.0.0.0/8 --proxy-from unix --admin-from none --full-scrape-pause 5m")
        .expect("valid")
        .live;
    let ten = Source::Address([10, 0, 0, 1].into());
    for (networks, expected) in [
        (&live.trust.proxies, (true, true)),
        (&live.trust.protocol, (false, false)),
        (&live.trust.parameters, (false, false)),
        (&live.access.networks, (false, false)),
        (&live.full_scrape.networks, (true, true)),
    ] {
        assert_eq!((networks.contains(ten), networks.contains(Source::Unix)), expected, "{networks:?}");
    }
    assert_eq!(live.full_scrape.pause, Duration::from_secs(300));
    let differences = live.differences(&Live::default());
    assert_eq!(differences, ["full-scrape-pause", "proxy-from", "admin-from"]);
    let startup = parse("--http unix:/run/a --http 127.0.0.1:1 --admin unix:/run/b --udp off").expect("valid").startup;
    assert_eq!((startup.http.len(), startup.admin.len()), (1, 0));
    assert_eq!((startup.http_unix, startup.admin_unix), (vec!["/run/a".into()], vec!["/run/b".into()]));
}

#[test]
fn listening_can_be_switched_off() {
    let configuration = parse("--http off").expect("valid");
    assert_eq!(configuration.startup.http, []);
    assert_eq!(configuration.startup.udp.len(), 2);
}

#[test]
fn command_line_is_consistent() {
    use clap::CommandFactory as _;
    CommandLine::command().debug_assert();
}

#[test]
fn replies_have_no_more_peers_than_cross_the_path() {
    // (options, most IPv4 peers, most IPv6 peers)
    for (options, v4, v6) in [
        ("", 200, 67),
        ("--max-numwant 320", 234, 67),
        ("--max-numwant 320 --path-mtu 9000", 320, 67),
        ("--path-mtu 576", 88, 67),
        ("--path-mtu-v6 1399", 200, 73),
        ("--path-mtu-v6 1400", 200, 74),
        ("--path-mtu-v6 9000 --max-numwant-v6 100", 200, 100),
        ("--max-numwant 7 --default-numwant 5 --max-numwant-v6 8", 7, 8),
    ] {
        let announces = parse(options).expect("right").live.announces;
        assert_eq!((announces.max_numwant_v4, announces.max_numwant_v6), (v4, v6), "{options}");
    }
}

#[test]
fn old_names_of_options_work_and_are_not_shown() {
    type Row = (&'static str, &'static str, u64, fn(&Configuration) -> u64);
    let rows: [Row; 4] = [
        ("want-max", "max-numwant", 60, |made| made.live.announces.max_numwant_v4.into()),
        ("want-max-v6", "max-numwant-v6", 33, |made| made.live.announces.max_numwant_v6.into()),
        ("want-default", "default-numwant", 44, |made| made.live.announces.default_numwant.into()),
        ("http-timeout", "http-idle-timeout", 7, |made| made.live.http.idle_timeout.as_secs()),
    ];
    let help = CommandLine::read(["tracker", "run", "--help"]).expect_err("help").to_string();
    for (old, new, value, of) in rows {
        for name in [old, new] {
            let line = format!("--{name} {value}");
            assert_eq!(of(&parse(&line).expect("right")), value, "{line}");
            let file = format!("{name} = {value}");
            assert_eq!(of(&parse_file(&file).expect("right")), value, "{file}");
        }
        let shown = |name: &str| help.contains(&format!("--{name} <"));
        assert!(shown(new) && !shown(old), "{old}, {new}: {help}");
        // What is wrong with the value is said of the new name, wherever it was given.
        let wrong = format!("{old} = 999999");
        let error = format!("{:#}", parse_file(&wrong).expect_err(&wrong));
        assert!(error.contains("line 1") && error.contains(&format!("{new} is 999999")), "{error}");
        let twice = format!("{old} = {value}\n{new} = {value}");
        let error = format!("{:#}", parse_file(&twice).expect_err(&twice));
        assert!(error.contains("line 2") && error.contains("line 1 has the same option"), "{error}");
        // Near to the old name is near to the new one.
        let misspelt = format!("{}s = {value}", old.replace('-', "_"));
        let error = format!("{:#}", parse_file(&misspelt).expect_err(&misspelt));
        assert!(error.contains(&format!("is {new} meant?")), "{error}");
    }
}

#[test]
fn values_that_may_change_are_where_they_are_read() {
    let (settings, handles) = (Settings::default(), live::Handles::default());
    for (options, expected) in [
        ("", (1800, 50, 0, 45, 30)),
        ("--interval 600 --default-numwant 7 --give-local-peers --http-idle-timeout 9", (600, 7, 1, 15, 9)),
        ("", (1800, 50, 0, 45, 30)),
    ] {
        parse(options).expect("right").live.apply(&settings, &handles);
        let told = (settings.interval.load(), settings.default_numwant.load(), settings.give_local_peers.load());
        let kept = (handles.timeouts.load().peer, handles.http.load().idle_timeout.as_secs());
        assert_eq!((told.0, told.1, told.2, kept.0, kept.1), expected, "{options}");
    }
}

#[test]
fn environment_stands_between_file_and_command_line() {
    let path = std::env::temp_dir().join(format!("tracker-environment-{}.toml", std::process::id()));
    fs::write(&path, "interval = 600\nmax-torrents = 5\n").expect("writable");
    let file = path.to_str().expect("UTF-8");
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], (u32, u64, usize));
    // (command line, variables, (interval, torrents, UDP addresses))
    let rows: [Row<'_>; 9] = [
        ("", &[], (1800, 250_000, 2)),
        ("", &[("TRACKER_CONFIG", file)], (600, 5, 2)),
        ("", &[("TRACKER_CONFIG", "")], (1800, 250_000, 2)),
        ("", &[("TRACKER_CONFIG", file), ("TRACKER_INTERVAL", "15m")], (900, 5, 2)),
        ("--interval 700", &[("TRACKER_INTERVAL", "900"), ("TRACKER_MAX_TORRENTS", "2k")], (700, 2000, 2)),
        ("", &[("TRACKER_UDP", "127.0.0.1:1, 127.0.0.1:2 [::1]:3")], (1800, 250_000, 3)),
        ("", &[("TRACKER_UDP", "off")], (1800, 250_000, 0)),
        ("", &[("TRACKER_PORT", "tcp://10.0.0.1:6969"), ("TRACKERS", "7"), ("INTERVAL", "9")], (1800, 250_000, 2)),
        ("", &[("TRACKER_INTERVAL", "")], (1800, 250_000, 2)),
    ];
    let read = |arguments: &str, variables: &[(&str, &str)]| {
        let arguments = ["tracker", "run"].into_iter().chain(arguments.split_whitespace());
        let Ok(CommandLine { command: Command::Run(given) }) = CommandLine::read(arguments) else { panic!("not run") };
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Configuration::read_with(given, &variables)
    };
    for (arguments, variables, expected) in rows {
        let made = read(arguments, variables).unwrap_or_else(|error| panic!("{variables:?}: {error:#}"));
        let (startup, announces) = (&made.startup, &made.live.announces);
        assert_eq!(
            (announces.interval, startup.capacity.torrents, startup.udp.len()),
            expected,
            "{arguments} {variables:?}"
        );
    }
    for (arguments, variables, parts) in [
        ("", [("TRACKER_INTERVAL", "soon")], ["TRACKER_INTERVAL", "such as 1800"]),
        ("", [("TRACKER_MAX_TORRENTS", "-1")], ["TRACKER_MAX_TORRENTS", "cannot be negative"]),
        ("", [("TRACKER_XDP_MODE", "fast")], ["TRACKER_XDP_MODE", "auto, native, generic, off"]),
        ("", [("TRACKER_CONFIG", "/nonexistent/t.toml")], ["/nonexistent/t.toml", "cannot read"]),
    ] {
        let error = format!("{:#}", read(arguments, &variables).expect_err(variables[0].1));
        assert!(parts.iter().all(|part| error.contains(part)), "{variables:?}: {error}");
    }
    // The line of the file is not blamed for what the environment says.
    let error = read("", &[("TRACKER_CONFIG", file), ("TRACKER_INTERVAL", "5")]).expect_err("5 seconds");
    assert!(!format!("{error:#}").contains("line"), "{error:#}");
    fs::remove_file(&path).expect("was there");
}

#[test]
fn differences_are_told_by_the_names_of_their_options() {
    for (one, other, fixed, live) in [
        ("", "", &[] as &[&str], &[] as &[&str]),
        ("", "--max-torrents 5 --udp off", &["udp", "max-torrents"], &[]),
        ("", "--interval 600", &[], &["interval", "interval-jitter", "peer-timeout"]),
        (
            "--interval 600",
            "--interval 600 --full-scrape off --http-idle-timeout 3",
            &[],
            &["http-idle-timeout", "full-scrape"],
        ),
        ("--interface a", "--interface b --default-numwant 9", &["interface"], &["default-numwant"]),
        (
            "--state-dir /x",
            "--state-dir /x --snapshot-interval 1h --snapshot-peers",
            &["snapshot-interval", "snapshot-peers"],
            &[],
        ),
    ] {
        let [one, other] = [one, other].map(|options| parse(options).expect("right"));
        assert_eq!(one.startup.differences(&other.startup), fixed);
        assert_eq!(one.live.differences(&other.live), live);
        assert_eq!(other.live.differences(&one.live), live);
    }
}
