//! Values of options, the command line and the configuration file: numbers compared with slow
//! readers of them, and the same options given in both places, which has to come to the same.

use crate::input::Input;
use std::{fmt::Write as _, fs, net::SocketAddr, path::PathBuf};
use tracker::{
    command::{Command, CommandLine},
    config::{
        Configuration,
        value::{Listen, count, seconds},
    },
};

/// Options that take one value.
const SINGLE: [&str; 22] = [
    "xdp-mode",
    "force",
    "udp-threads",
    "http-threads",
    "http-connections",
    "http-idle-timeout",
    "full-scrape",
    "max-torrents",
    "max-peers",
    "max-peers-v6",
    "huge-pages",
    "interval",
    "interval-jitter",
    "peer-timeout",
    "torrent-timeout",
    "torrent-timeout-completed",
    "default-numwant",
    "max-numwant",
    "max-numwant-v6",
    "give-local-peers",
    "path-mtu",
    "path-mtu-v6",
];

/// Options that may be given several times.
const SEVERAL: [&str; 9] = [
    "interface",
    "udp",
    "http",
    "admin",
    "proxy-from",
    "proxy-protocol-from",
    "ip-parameter-from",
    "admin-from",
    "full-scrape-from",
];

/// The first byte says what the rest is: a value, a file, or options one per line.
///
/// # Panics
/// When something is read wrongly, or one thing in two ways.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = input.byte() % 3;
    let Ok(text) = str::from_utf8(input.0) else { return };
    match kind {
        0 => value(text),
        1 => drop(read_file(text)),
        _ => both_places(text),
    }
}

fn value(text: &str) {
    if let (Ok(read), Some(expected)) = (count(text), slow_count(text)) {
        assert_eq!(u128::from(read), expected, "{text:?}");
    } else {
        assert_eq!(count(text).is_ok(), slow_count(text).is_some_and(|value| value <= u64::MAX.into()), "{text:?}");
    }
    if let Ok(number) = count(text) {
        assert_eq!(count(&number.to_string()), Ok(number), "{text:?}");
        assert_eq!(seconds(&number.to_string()), Ok(number), "{text:?}");
    }
    assert_eq!(seconds(text).ok(), slow_seconds(text), "{text:?}");
    if let Ok(listen) = text.parse::<Listen>() {
        let again = match &listen {
            Listen::Off => "off".to_owned(),
            Listen::At(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        };
        assert_eq!(again.parse(), Ok(listen), "{text:?}");
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let several = address.ip().is_multicast() || address.ip().to_string() == "255.255.255.255";
        assert_eq!(text.parse::<Listen>().is_ok(), !several, "{text:?}");
    }
}

/// A number as people write it; `None` if it is none, or beyond 128 bits.
fn slow_count(text: &str) -> Option<u128> {
    let text = text.trim();
    let (unit, digits) = match text.chars().last()? {
        'k' | 'K' => (1000, &text[..text.len() - 1]),
        'm' | 'M' => (1_000_000, &text[..text.len() - 1]),
        'g' | 'G' => (1_000_000_000, &text[..text.len() - 1]),
        _ => (1, text),
    };
    let digits = digits.trim_end();
    let parts: Vec<_> = digits.split('.').collect();
    if parts.len() > 2 {
        return None;
    }
    for part in &parts {
        let all = part.chars().all(|digit| digit.is_ascii_digit() || digit == '_');
        let ends = [part.chars().next()?, part.chars().last()?].iter().all(char::is_ascii_digit);
        if !all || !ends {
            return None;
        }
    }
    let clean = |part: &str| part.chars().filter(|digit| *digit != '_').collect::<String>();
    // Huge numbers are none as far as the caller is concerned.
    let whole: u128 = clean(parts[0]).parse().ok()?;
    let mut value = whole.checked_mul(unit)?;
    let mut weight = unit;
    for digit in parts.get(1).map_or(String::new(), |part| clean(part)).chars() {
        let digit = u128::from(digit.to_digit(10)?);
        if digit == 0 {
            weight /= 10;
            continue;
        }
        if weight < 10 || weight % 10 != 0 {
            return None;
        }
        weight /= 10;
        value = value.checked_add(digit * weight)?;
    }
    Some(value)
}

/// A time as people write it; `None` if it is none, or beyond 64 bits.
fn slow_seconds(text: &str) -> Option<u64> {
    let text: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    if text.is_empty() {
        return None;
    }
    let (mut total, mut at) = (0_u128, 0);
    while at < text.len() {
        let begin = at;
        while at < text.len() && (text[at].is_ascii_digit() || text[at] == '_') {
            at += 1;
        }
        let digits: String = text[begin..at].iter().collect();
        if !digits.starts_with(|digit: char| digit.is_ascii_digit()) {
            return None;
        }
        let unit_at = at;
        while at < text.len() && text[at].is_ascii_alphabetic() {
            at += 1;
        }
        let unit: String = text[unit_at..at].iter().collect();
        let length = match unit.as_str() {
            "" if begin == 0 && at == text.len() => 1,
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let number: u64 = digits.replace('_', "").parse().ok()?;
        total += u128::from(number) * length;
    }
    total.try_into().ok()
}

/// A configuration file of this thread's own.
fn path() -> PathBuf {
    let thread = std::thread::current().id();
    std::env::temp_dir().join(format!("tracker-fuzz-{}-{thread:?}.toml", std::process::id()))
}

fn read(arguments: &[String]) -> Result<Configuration, String> {
    let arguments = ["tracker", "run"].into_iter().map(str::to_owned).chain(arguments.iter().cloned());
    let line = CommandLine::read(arguments).map_err(|error| error.to_string())?;
    let Command::Run(given) = line.command else { panic!("another command than run") };
    Configuration::read(given).map_err(|error| format!("{error:#}"))
}

fn read_file(text: &str) -> Result<Configuration, String> {
    let path = path();
    fs::write(&path, text).expect("a file");
    let configuration = read(&[format!("--config={}", path.display())]);
    fs::remove_file(&path).expect("it was there");
    if let Err(error) = &configuration {
        assert!(!error.is_empty() && error.contains(&path.display().to_string()) || is_about_all(error), "{error}");
    }
    configuration
}

/// Whether an error is about options together, so that no single line is to blame, or about what is
/// given nowhere.
fn is_about_all(error: &str) -> bool {
    error.contains("--xdp-mode") || !error.contains("configuration file")
}

/// `name value` in each line; on the command line and in a file.
fn both_places(text: &str) {
    let mut arguments = Vec::new();
    let mut file = String::new();
    let mut several: Vec<(&str, Vec<&str>)> = SEVERAL.iter().map(|name| (*name, Vec::new())).collect();
    let mut given = Vec::new();
    for line in text.split('\n') {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        // What a file cannot have is no matter of comparison.
        if value.chars().any(char::is_control) {
            return;
        }
        if let Some((_, values)) = several.iter_mut().find(|(option, _)| *option == name) {
            values.push(value);
        } else if SINGLE.contains(&name) && !given.contains(&name) {
            given.push(name);
            let _infallible = writeln!(file, "{name} = {}", quoted(value));
        } else {
            return;
        }
        arguments.push(format!("--{name}={value}"));
    }
    for (name, values) in several.iter().filter(|(_, values)| !values.is_empty()) {
        let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
        let _infallible = writeln!(file, "{name} = [{}]", values.join(", "));
    }
    let (line, file) = (read(&arguments), read_file(&file));
    match (&line, &file) {
        (Ok(line), Ok(file)) => assert_eq!(line, file),
        (Err(_), Err(_)) => {}
        (line, file) => panic!("{text:?}: on the command line {line:?}, in a file {file:?}"),
    }
    if let Ok(configuration) = line {
        is_in_range(&configuration);
    }
}

/// What everything else relies on.
fn is_in_range(Configuration { startup, live }: &Configuration) {
    let announces = &live.announces;
    assert!(announces.interval >= 60 && announces.interval_jitter <= announces.interval / 2, "{announces:?}");
    assert!((1..=320).contains(&announces.max_numwant_v4) && (1..=100).contains(&announces.max_numwant_v6));
    assert!(live.timeouts.peer * 60 > announces.interval + announces.interval_jitter, "{live:?}");
    assert!(startup.capacity.torrents > 0 && startup.capacity.peers_v4 > 0 && startup.udp_threads > 0);
    let sizes = tracker::store::sizes::Sizes::new(&startup.capacity);
    if let Ok(sizes) = sizes {
        assert!(u64::from(sizes.swarms) >= startup.capacity.torrents, "{sizes:?} for {:?}", startup.capacity);
    }
}

/// A string of TOML.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let values = [
        "1_000_000",
        "1.5M",
        "0.25k",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073.709551616G",
        "1h30m",
        "2d",
        "30 min",
        "90s",
        "213503982334601d",
        "[fe80::1%lo]:6969",
        "[fe80::1%1]:6969",
        "0.0.0.0:70000",
        "off",
        "[::]:0",
        "224.0.0.1:1",
        "[::ffff:255.255.255.255]:1",
    ];
    let files = [
        "interface = [\"lo\"]\nudp = [\"0.0.0.0:6969\", \"[::]:6969\"]\nmax-torrents = \"2M\"\nmax-peers = 10_000_000\n\
         interval = \"30m\"\nforce = true\n",
        "want-max = 100 # old\npeer-timeout = 2700.0\nstate-dir = '/tmp'\n",
        "[section]\ninterval = 1800\n",
        "intervall = 1\n",
        "interval = 1979-05-27T07:32:00Z\n",
    ];
    let options = [
        "interval 30m\ninterval-jitter 90s\npeer-timeout 1h\nudp 127.0.0.1:6969\nudp [::1]:6969\nhttp off",
        "max-torrents 2M\nmax-peers 10M\nmax-peers-v6 1.5M\nhuge-pages on\nfull-scrape no\ngive-local-peers true",
        "max-numwant 320\nmax-numwant-v6 100\ndefault-numwant 0\npath-mtu 9000\npath-mtu-v6 1280\nxdp-mode generic\ninterface lo",
        "torrent-timeout 60\ntorrent-timeout-completed 30d\nhttp-connections 1k\nhttp-threads 2\nudp-threads 1024\nforce on",
    ];
    let with = |kind: u8, texts: &[&str]| -> Vec<Vec<u8>> {
        texts.iter().map(|text| [&[kind][..], text.as_bytes()].concat()).collect()
    };
    [with(0, &values), with(1, &files), with(2, &options)].concat()
}
