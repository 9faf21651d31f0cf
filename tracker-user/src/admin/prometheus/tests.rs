//! The page as a whole.

use super::*;
use crate::statistics::snapshot::tests::example;
use std::collections::{HashMap, HashSet};
use tracker_common::outcome::{Counter, Event, Reason};

/// Reads the format as strictly as Prometheus does, and checks the naming rules on the way.
fn read(page: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    let mut seen = HashSet::new();
    let mut current = (String::new(), String::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty());
            assert!(seen.insert(name.to_owned()), "{name} appears twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            current = (name.to_owned(), String::new());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, current.0);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            current.1 = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            let part = |end| current.1 == "histogram" && name.strip_suffix(end) == Some(current.0.as_str());
            let fits = name == current.0 || ["_bucket", "_sum", "_count"].into_iter().any(part);
            assert!(fits, "{name} outside its metric {}", current.0);
            if let Some(labels) = series.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
                assert!(labels.ends_with("\"}"), "{line}");
            }
            let value: f64 = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} appears twice");
        }
    }
    samples
}

#[test]
fn the_page_is_in_the_format_and_the_figures_are_in_their_places() {
    let snapshot = example();
    let samples = read(&write(&snapshot));
    let expected = [
        (r#"tracker_requests_answered_total{path="http",request="announce",family="ipv4"}"#, 7.0),
        (r#"tracker_requests_answered_total{path="http",request="scrape",family="ipv6"}"#, 2.0),
        (r#"tracker_requests_answered_total{path="xdp",request="connect",family="ipv4"}"#, 1000.0),
        (r#"tracker_requests_answered_total{path="udp_socket",request="connect",family="ipv6"}"#, 101.0),
        (r#"tracker_packets_passed_total{path="xdp",reason="not_ip"}"#, 1000.0 + Event::ALL.len() as f64),
        (r#"tracker_http_failures_total{reason="port_zero"}"#, 1.0),
        (r#"tracker_interface_info{interface="eth\"0",mode="generic"}"#, 1.0),
        (r#"tracker_peers{family="ipv4"}"#, 20.0),
        (r#"tracker_peers{family="ipv6"}"#, 1.0),
        (r#"tracker_store_elements{pool="swarms"}"#, 3.0),
        (r#"tracker_store_elements_limit{pool="swarms"}"#, 12.0),
        ("tracker_seeders", 12.0),
        (r#"tracker_torrents_by_peers{peers="0"}"#, 1.0),
        (r#"tracker_torrents_by_peers{peers="1"}"#, 0.0),
        (r#"tracker_torrents_by_peers{peers="2-4"}"#, 1.0),
        (r#"tracker_torrents_by_peers{peers="1025+"}"#, 0.0),
        (r#"tracker_store_walk_cpu_seconds_bucket{le="0.064"}"#, 1.0),
        (r#"tracker_store_walk_cpu_seconds_bucket{le="+Inf"}"#, 5.0),
        ("tracker_store_walk_cpu_seconds_count", 5.0),
        ("tracker_store_walk_duration_seconds_sum", 10.0),
        ("process_open_fds", 19.0),
        ("process_max_fds", 1024.0),
        (r#"tracker_interface_receive_drops_total{interface="eth\"0"}"#, 74.0),
        (r#"tracker_source_requests_limit{request="announce"}"#, 1200.0),
        (r#"tracker_reply_peers_limit{family="ipv6"}"#, 67.0),
        (r#"tracker_energy_joules_total{method="estimate"}"#, 12.5),
        ("tracker_energy_measured", 0.0),
        ("tracker_udp_receive_drops_total", 17.0),
        ("tracker_torrents", 3.0),
        ("process_start_time_seconds", 1_700_000_000.5),
        // By their numbers, and not by their places; what was counted before they had these is left out.
        (r#"tracker_blocked_total{path="xdp",list="/lists/a.p2p"}"#, 1000.0 + Counter::Blocked(2).index() as f64),
        (r#"tracker_blocked_total{path="xdp",list="/lists/b"}"#, 997.0 + Counter::Blocked(1).index() as f64),
        (r#"tracker_blocked_total{path="udp_socket",list="/lists/b"}"#, 100.0 + Counter::Blocked(1).index() as f64),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    // The largest numbers of all paths, in their order: every event and every reason has its place.
    let of_path = |label: &str| samples.keys().filter(|series| series.contains(&format!("path=\"{label}\""))).count();
    let (xdp, lists) = (of_path("xdp"), snapshot.block_lists.len());
    // Those of sweeps, and the classes of replies with sum and count; and what has no path.
    assert_eq!(xdp, Event::ALL.len() + Reason::COUNT + lists + 16);
    assert_eq!(of_path("expiry"), 6);
}

#[test]
fn returning_peers_appear_when_they_are_counted() {
    let mut snapshot = example();
    snapshot.renewals = std::array::from_fn(|minutes| minutes as u64 * 2);
    let samples = read(&write(&snapshot));
    assert_eq!(samples.get(r#"tracker_peer_renewals_total{minutes="44"}"#), Some(&88.0));
}

#[test]
fn the_documentation_lists_every_metric_and_no_other() {
    let document = include_str!("../../../../docs/operation/statistics.md");
    let (_, rest) = document.split_once("\n## Metrics\n").expect("the section");
    let section = rest.split("\n## ").next().expect("all of it");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).expect("a cell").split('`').skip(1).step_by(2));
    let listed: Vec<_> = names.map(|name| name.split('{').next().expect("a name")).collect();
    let unique: HashSet<_> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "each once: {listed:?}");
    let page = write(&example());
    let written: HashSet<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<_> = written.difference(&unique).collect();
    let gone: Vec<_> = unique.difference(&written).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in docs/operation/statistics.md: {missing:?}; not written: {gone:?}"
    );
}
