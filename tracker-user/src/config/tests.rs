//! The command line, the file, and what is said of wrong ones.

use super::*;
use std::fs;

fn parse(arguments: &str) -> anyhow::Result<Configuration> {
    let arguments = ["tracker", "run"].into_iter().chain(arguments.split_whitespace());
    let Command::Run(options) = CommandLine::read(arguments)?.command else {
        anyhow::bail!("not run");
    };
    Configuration::new(options.with_file()?)
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let configuration = parse("").expect("defaults are valid");
    assert_eq!((configuration.interval, configuration.interval_jitter), (1800, 180));
    assert_eq!(configuration.timeouts, Timeouts { peer: 45, torrent: 45, torrent_completed: 1440 });
    assert_eq!(configuration.limits, Limits { torrents: 250_000, peers_v4: 1_000_000, peers_v6: 333_333 });
    let listen = |address: &str, optional| Endpoint { address: address.parse().expect("an address"), optional };
    assert_eq!(configuration.udp, [listen("0.0.0.0:6969", false), listen("[::]:6969", true)]);
    assert_eq!(configuration.http, configuration.udp);
    assert!(configuration.full_scrape);
}

#[test]
fn command_line_wins_over_the_file() {
    let path = std::env::temp_dir().join(format!("tracker-configuration-{}.toml", std::process::id()));
    let text = "interval = 600\npeer-timeout = 1000\nudp = \"127.0.0.1:1\"\ninterface = [\"a\", \"b\", \"a\"]\nforce = true\nfull-scrape = \"off\"\n";
    fs::write(&path, text).expect("writable");
    let configuration = parse(&format!("--config {} --interval 700 --udp 127.0.0.1:2 --udp [::1]:2", path.display()));
    fs::remove_file(&path).expect("was there");
    let configuration = configuration.expect("valid");
    assert_eq!((configuration.interval, configuration.timeouts.peer), (700, 17));
    assert_eq!(configuration.interfaces, ["a", "b"]);
    assert!(configuration.force && !configuration.full_scrape);
    let udp: Vec<_> = configuration.udp.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(udp, ["127.0.0.1:2", "[::1]:2"]);
}

#[test]
fn wrong_options_are_refused_with_a_reason() {
    for (arguments, reason) in [
        ("--interval 5", "interval is 5; it can be 60 to 86400"),
        ("--interval -5", "it cannot be negative"),
        ("--interval 5x", "such as 1800, or a time such as 90s"),
        ("--interval 1800 --peer-timeout 1900", "peers would be forgotten"),
        ("--interval-jitter 1h", "at most half of interval, 900 seconds"),
        ("--path-mtu 575", "path-mtu is 575; it can be 576 to 9000"),
        ("--path-mtu-v6 1279", "path-mtu-v6 is 1279; it can be 1280 to 9000"),
        ("--want-max 321", "want-max is 321; it can be 1 to 320"),
        ("--want-default 51 --want-max 50", "want-default is 51, more than want-max, which is 50"),
        ("--max-torrents 0", "max-torrents is 0"),
        ("--max-torrents -1", "it cannot be negative"),
        ("--max-torrents 2MB", "such as 1000, 10k, 1.5M"),
        ("--max-torrents 1.2345k", "it is a fraction"),
        ("--max-torrents 99999999999999999999", "larger than any"),
        ("--max-torrents 3G", "max-torrents is 3000000000; it can be 1 to 2000000000"),
        ("--max-peers 0", "max-peers is 0; it can be 1 to"),
        ("--udp-threads 0", "udp-threads is 0; it can be 1 to 1024"),
        ("--http-threads 1k --http-connections 0", "http-connections is 0"),
        ("--http-timeout 2h", "http-timeout is 7200; it can be 1 to 3600"),
        ("--xdp-mode native", "--interface"),
        ("--xdp-mode fast", "auto, native, generic, off"),
        ("--full-scrape maybe", "it can be on or off"),
        ("--force=maybe", "it can be on or off"),
        ("--udp localhost:6969", "numeric address, such as 0.0.0.0:6969"),
        ("--udp 6969", "such as"),
        ("--udp off --udp 127.0.0.1:1", "udp has off and addresses besides"),
        ("--http 127.0.0.1:1 --http off", "http has off and addresses besides"),
        ("--interface=", "interface"),
        ("--peer-timeout 480060", "it can be 60 to 480000"),
        ("--config /nonexistent/tracker.toml", "/nonexistent/tracker.toml"),
    ] {
        let error = format!("{:#}", parse(arguments).expect_err(arguments));
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}

/// The configuration that a file gives.
fn parse_file(text: &str) -> anyhow::Result<Configuration> {
    file::parse(text, Path::new("/etc/tracker.toml")).and_then(Configuration::new)
}

#[test]
fn file_takes_what_the_command_line_takes() {
    type Row = (&'static str, fn(&Configuration) -> bool);
    let rows: [Row; 24] = [
        ("max-torrents = 1000", |made| made.limits.torrents == 1000),
        ("max-torrents = \"2M\"", |made| made.limits.torrents == 2_000_000),
        ("max-torrents = 1_000_000", |made| made.limits.torrents == 1_000_000),
        ("max-torrents = \"1_000\"", |made| made.limits.torrents == 1000),
        ("max-torrents = 1.5e6", |made| made.limits.torrents == 1_500_000),
        ("max-peers = \"10k\"", |made| made.limits.peers_v4 == 10_000 && made.limits.peers_v6 == 3333),
        ("max-peers = 1", |made| made.limits.peers_v6 == 1),
        ("interval = 600", |made| made.interval == 600),
        ("interval = \"10m\"", |made| made.interval == 600),
        ("full-scrape = false", |made| !made.full_scrape),
        ("full-scrape = true", |made| made.full_scrape),
        ("full-scrape = \"off\"", |made| !made.full_scrape),
        ("full-scrape = \"on\"", |made| made.full_scrape),
        ("full-scrape = 0", |made| !made.full_scrape),
        ("force = true", |made| made.force),
        ("force = \"on\"", |made| made.force),
        ("force = false", |made| !made.force),
        ("xdp-mode = \"off\"", |made| made.xdp_mode == XdpMode::Off),
        ("xdp-mode = \"Off\"", |made| made.xdp_mode == XdpMode::Off),
        ("udp = \"off\"", |made| made.udp.is_empty()),
        ("udp = [\"127.0.0.1:1\", \"[::1]:1\"]", |made| made.udp.len() == 2),
        ("interface = \"eth0\"", |made| made.interfaces == ["eth0"]),
        ("interface = [\"a\", \"b\"]", |made| made.interfaces == ["a", "b"]),
        ("state-dir = \"/x y\"", |made| made.state_dir.as_deref() == Some(Path::new("/x y"))),
    ];
    for (text, is_right) in rows {
        let made = parse_file(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        assert!(is_right(&made), "{text}: {made:?}");
    }
}

#[test]
fn wrong_files_are_refused_with_line_and_remedy() {
    let rows: [(&str, &[&str]); 26] = [
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
    let file = file::parse("interval = 600", Path::new("/etc/tracker.toml")).expect("right");
    let given = Options { interval: Some(5), ..Options::default() };
    let error = format!("{:#}", Configuration::new(given.or(file)).expect_err("too short"));
    assert!(error.contains("interval is 5") && !error.contains("line"), "{error}");
}

#[test]
fn switches_need_no_value() {
    assert!(parse("--force --interface eth0").expect("valid").force);
    assert!(!parse("--force=off").expect("valid").force);
    assert!(!parse("--full-scrape off").expect("valid").full_scrape);
}

#[test]
fn listening_can_be_switched_off() {
    let configuration = parse("--http off").expect("valid");
    assert_eq!(configuration.http, []);
    assert_eq!(configuration.udp.len(), 2);
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
        ("--want-max 320", 234, 67),
        ("--want-max 320 --path-mtu 9000", 320, 67),
        ("--path-mtu 576", 88, 67),
        ("--path-mtu-v6 1399", 200, 73),
        ("--path-mtu-v6 1400", 200, 74),
        ("--path-mtu-v6 9000 --want-max-v6 100", 200, 100),
        ("--want-max 7 --want-default 5 --want-max-v6 8", 7, 8),
    ] {
        let configuration = parse(options).expect("right");
        assert_eq!((configuration.want_max_v4, configuration.want_max_v6), (v4, v6), "{options}");
    }
}
