//! Figures out of a [`Snapshot`].

use super::{
    BlockList, ByFamily, Core, Failure, Figures, History, Http, Interface, Lists, Memory, Part, Path, PerSecond,
    Refused, ReplyPeers, Sweep, Torrent,
};
use crate::{
    http::counters::LabelledCount,
    statistics::{
        Announced, InterfaceStatus, PathCounters, Snapshot, XDP,
        advice::{Fate, advice},
        timeline::{self, KINDS, PATHS, Span},
    },
    store::totals::TopSwarm,
};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};
use tracker_common::{
    admission::List,
    outcome::{Event, REPLY_STEP, Reason},
};

/// Bounds of the classes of replies: of what is counted, those around none, few, half of the usual number,
/// nearly it, and it.
const REPLIES_AT_MOST: [u32; 5] = [0, 8, 24, 48, 56];

/// Torrents named.
const TOP: usize = 20;

/// Now, in seconds since 1970.
fn unix_time() -> f64 {
    tenths(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()))
}

/// Tenths are enough, and short.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Figures {
    /// Those of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let totals = &snapshot.totals;
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            time: unix_time(),
            started_at: snapshot.started_at,
            uptime_seconds: snapshot.uptime.as_secs(),
            torrents: snapshot.torrents,
            peers: ByFamily { ipv4: snapshot.peers_v4, ipv6: snapshot.peers_v6 },
            sweep: Sweep {
                number: totals.sweeps,
                torrents_with_peers: totals.torrents_with_peers,
                seeders: totals.seeders,
                leechers: totals.leechers,
                completed: totals.completed,
                cpu_seconds: totals.sweep_seconds,
            },
            paths: paths(snapshot),
            reply_peers: reply_peers(snapshot),
            reasons: reasons(snapshot),
            events: events(snapshot),
            memory: memory(snapshot),
            cpu_seconds: snapshot.process.cpu_seconds,
            interfaces: interfaces(snapshot),
            cores: (0..).zip(&snapshot.cores).map(|(number, counters)| core(number, counters)).collect(),
            http: http(snapshot),
            udp_drops: snapshot.udp_drops,
            top: totals.top.iter().take(TOP).map(|swarm| torrent(swarm, &snapshot.announced)).collect(),
            busiest: busiest(snapshot),
            lists: lists(snapshot),
            listeners: snapshot.listeners,
            cluster: snapshot.cluster.clone(),
        }
    }
}

fn paths(snapshot: &Snapshot) -> Vec<Path> {
    let of = |path: &PathCounters| {
        let number = PATHS.iter().position(|label| *label == path.label)?;
        let both = |v4, v6| ByFamily { ipv4: path.event(v4), ipv6: path.event(v6) };
        let recent = &snapshot.recent[number * KINDS.len()..];
        let [connect, announce, scrape, failed, rejected] = std::array::from_fn(|kind| tenths(recent[kind]));
        Some(Path {
            path: path.label.into(),
            name: path.name.into(),
            connect: both(Event::Connect4, Event::Connect6),
            announce: both(Event::Announce4, Event::Announce6),
            scrape: both(Event::Scrape4, Event::Scrape6),
            failed: both(Event::Error4, Event::Error6),
            rejected: timeline::of_fate(path, Fate::Dropped),
            // Sockets have nobody to leave anything to.
            passed_on: if path.label == XDP { timeline::of_fate(path, Fate::PassedOn) } else { 0 },
            reply_bytes: path.event(Event::ReplyBytes),
            peers_given: path.event(Event::PeersReturned),
            replies_shortened: path.event(Event::RepliesShortened),
            per_second: PerSecond { connect, announce, scrape, failed, rejected },
        })
    };
    snapshot.paths.iter().filter_map(of).collect()
}

fn reply_peers(snapshot: &Snapshot) -> Vec<ReplyPeers> {
    let bounds = REPLIES_AT_MOST.into_iter().map(Some).chain([None]);
    let mut classes: Vec<_> = bounds.map(|to| ReplyPeers { to, ..ReplyPeers::default() }).collect();
    for number in 1..classes.len() {
        classes[number].from = classes[number - 1].to.map_or(0, |to| to + 1);
    }
    for path in snapshot.paths.iter().filter(|path| PATHS.contains(&path.label)) {
        for (most, count) in (0..).step_by(REPLY_STEP as usize).zip(path.replies()) {
            if let Some(class) = classes.iter_mut().find(|class| class.to.is_none_or(|to| most <= to)) {
                class.total += count;
            }
        }
    }
    classes
}

fn reasons(snapshot: &Snapshot) -> Vec<Refused> {
    let of = |reason: Reason| {
        let counted = snapshot.paths.iter().map(|path| (path.label, path.reason(reason)));
        let paths: BTreeMap<_, _> = counted.filter(|(_, count)| *count > 0).map(|(p, n)| (p.to_owned(), n)).collect();
        Refused {
            reason: reason.label().into(),
            text: reason.text().into(),
            advice: advice(reason).into(),
            fate: Fate::of(reason).label().into(),
            total: paths.values().sum(),
            paths,
        }
    };
    Reason::all().map(of).filter(|refused| refused.total > 0).collect()
}

fn events(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let of = |event: &Event| (event.label().to_owned(), snapshot.event(*event));
    Event::ALL.iter().map(of).filter(|(_, count)| *count > 0).collect()
}

fn memory(snapshot: &Snapshot) -> Memory {
    let parts = snapshot.fill.iter().zip(&snapshot.full_in).map(|(fill, full_in)| Part {
        part: fill.label.into(),
        name: fill.name.into(),
        used: fill.used,
        limit: fill.limit,
        bytes: fill.bytes,
        full_in_seconds: full_in.map(|time| time.as_secs()),
    });
    Memory {
        store_bytes: snapshot.store_bytes,
        resident_bytes: snapshot.process.resident_bytes,
        history_bytes: timeline::BYTES,
        parts: parts.collect(),
    }
}

fn interfaces(snapshot: &Snapshot) -> Vec<Interface> {
    let of = |interface: &InterfaceStatus| Interface {
        name: interface.name.clone(),
        mode: interface.mode.clone(),
        note: interface.note.clone(),
        driver: interface.card.driver.clone(),
        receive_queues: interface.card.receive_queues,
        transmit_queues: interface.card.transmit_queues,
    };
    snapshot.interfaces.iter().map(of).collect()
}

fn core(number: u64, counters: &PathCounters) -> Core {
    let answered = [
        Event::Connect4,
        Event::Connect6,
        Event::Announce4,
        Event::Announce6,
        Event::Scrape4,
        Event::Scrape6,
        Event::Error4,
        Event::Error6,
    ];
    Core {
        core: number,
        answered: answered.iter().map(|event| counters.event(*event)).sum(),
        rejected: timeline::of_fate(counters, Fate::Dropped),
        passed_on: timeline::of_fate(counters, Fate::PassedOn),
    }
}

fn http(snapshot: &Snapshot) -> Http {
    let counted = |count: &LabelledCount| count.count > 0;
    let requests = snapshot.http.requests().into_iter().filter(counted);
    let failures = snapshot.http.failures().into_iter().filter(counted);
    Http {
        connections: snapshot.http.engine.open(),
        requests: requests.map(|kind| (kind.label.to_owned(), kind.count)).collect(),
        failures: failures
            .map(|kind| Failure { reason: kind.label.into(), text: kind.text.into(), total: kind.count })
            .collect(),
    }
}

fn torrent(swarm: &TopSwarm, announced: &Announced) -> Torrent {
    let mut info_hash = String::with_capacity(40);
    for byte in swarm.info_hash {
        // Writing into a string cannot fail.
        let _ = write!(info_hash, "{byte:02x}");
    }
    let counts = &swarm.counts;
    Torrent {
        info_hash,
        seeders: counts.seeders,
        leechers: counts.leechers,
        completed: counts.completed,
        announced: announced.get(&swarm.info_hash).copied().unwrap_or(0),
    }
}

fn busiest(snapshot: &Snapshot) -> Vec<Torrent> {
    let mut busiest: Vec<_> = snapshot.totals.top.iter().map(|swarm| torrent(swarm, &snapshot.announced)).collect();
    busiest.retain(|torrent| torrent.announced > 0);
    busiest.sort_by_key(|torrent| Reverse(torrent.announced));
    busiest.truncate(TOP);
    busiest
}

fn lists(snapshot: &Snapshot) -> Lists {
    let in_force = |list: List| snapshot.access_lists & list.bit() != 0;
    let blocked = snapshot.block_lists.iter().map(|list| BlockList {
        list: list.name.clone(),
        total: snapshot.paths.iter().map(|path| path.blocked(list)).sum(),
    });
    Lists { allowed: in_force(List::Allow), denied: in_force(List::Deny), blocked: blocked.collect() }
}

impl History {
    /// That of a span.
    #[must_use]
    pub fn of(span: &Span) -> Self {
        let round = |number: f32| if number < 1000.0 { (number * 10.0).round() / 10.0 } else { number.round() };
        let column = |number| -> Vec<f32> { span.points().map(|point| round(point[number])).collect() };
        let columns = (0..timeline::COLUMNS).map(|number| (timeline::name(number), column(number)));
        Self {
            time: unix_time(),
            step_seconds: span.step().as_secs(),
            points: span.points().len(),
            columns: columns.filter(|(_, points)| points.iter().any(|point| *point != 0.0)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::snapshot::tests::example;
    use serde_json::{Value, json};
    use tracker_common::outcome::Counter;

    #[test]
    fn names_and_places_of_figures_stay() {
        let value = serde_json::to_value(Figures::of(&example())).expect("figures");
        // (where, what)
        for (pointer, expected) in [
            ("/version", json!(env!("CARGO_PKG_VERSION"))),
            ("/uptime_seconds", json!(183_661)),
            ("/started_at", json!(1_700_000_000.5)),
            ("/torrents", json!(3)),
            ("/peers", json!({"ipv4": 20, "ipv6": 1})),
            ("/sweep/number", json!(5)),
            ("/sweep/seeders", json!(12)),
            ("/sweep/leechers", json!(9)),
            ("/sweep/completed", json!(4)),
            ("/sweep/torrents_with_peers", json!(2)),
            ("/sweep/cpu_seconds", json!(0.25)),
            ("/paths/0/path", json!("xdp")),
            ("/paths/0/connect", json!({"ipv4": 1000, "ipv6": 1001})),
            (
                "/paths/0/per_second",
                json!({"connect": 0.0, "announce": 1.0, "scrape": 2.0, "failed": 3.0, "rejected": 4.0}),
            ),
            ("/paths/1/path", json!("udp_socket")),
            ("/paths/1/per_second/announce", json!(6.0)),
            ("/paths/1/passed_on", json!(0)),
            ("/paths/2/path", json!("http")),
            ("/paths/2/announce/ipv4", json!(7)),
            ("/reasons/0/reason", json!("not_ip")),
            ("/reasons/0/fate", json!("passed_on")),
            ("/reasons/0/paths/udp_socket", json!(128)),
            ("/events/announce_ipv4", json!(1002 + 102 + 7)),
            ("/memory/store_bytes", json!(5 << 20)),
            ("/memory/resident_bytes", json!(3 << 20)),
            (
                "/memory/parts/0",
                json!({"part": "swarms", "name": "torrents", "used": 3, "limit": 12, "bytes": 1536, "full_in_seconds": 3600}),
            ),
            ("/cpu_seconds", json!(1.5)),
            ("/interfaces/0/name", json!("eth\"0")),
            ("/interfaces/0/driver", json!("e1000e")),
            ("/interfaces/0/receive_queues", json!(1)),
            ("/cores/1/core", json!(1)),
            ("/cores/1/answered", json!((700..708).sum::<u64>())),
            ("/http/requests/announce", json!(43)),
            ("/http/failures/0/reason", json!("port_zero")),
            ("/udp_drops", json!(17)),
            (
                "/top/0",
                json!({"info_hash": "ab".repeat(20), "seeders": 4, "leechers": 8, "completed": 1, "announced": 5}),
            ),
            ("/busiest/0/info_hash", json!("0c".repeat(20))),
            ("/busiest/2", Value::Null),
            ("/lists/allowed", json!(false)),
            ("/lists/blocked/1/list", json!("/lists/b")),
            ("/lists/blocked/1/total", json!(1000 + 100 - 3 + 2 * Counter::Blocked(1).index())),
            ("/listeners", json!(2)),
        ] {
            assert_eq!(value.pointer(pointer).unwrap_or(&Value::Null), &expected, "{pointer}");
        }
        assert!(value["time"].as_f64().is_some_and(|time| time > 1.7e9));
    }

    #[test]
    fn a_reader_needs_no_field_and_minds_no_other() {
        let figures: Figures = serde_json::from_value(json!({"torrents": 7, "later": [1]})).expect("figures");
        assert_eq!((figures.torrents, figures.peers.sum(), figures.paths.len()), (7, 0, 0));
        let written = serde_json::to_string(&Figures::of(&example())).expect("figures");
        let read: Figures = serde_json::from_str(&written).expect("the same");
        assert_eq!(serde_json::to_string(&read).expect("figures"), written);
    }

    #[test]
    fn an_empty_history_has_no_columns() {
        let history = History::of(&timeline::Timeline::default().day);
        assert_eq!((history.step_seconds, history.points, history.columns.len()), (60, 0, 0));
    }
}
