//! The pages, from a snapshot.

use super::*;
use crate::{cluster::ClusterFigures, statistics::snapshot::tests::example};

fn lines(mode: Mode) -> Vec<String> {
    write(&example(), mode).lines().map(str::to_owned).collect()
}

#[test]
fn mrtg_modes_have_two_figures_an_uptime_and_a_title() {
    let rows: &[(Mode, [&str; 4])] = &[
        (Mode::Peer, ["21", "12", "opentracker serving 3 torrents", "opentracker"]),
        (Mode::Torr, ["3", "0", "opentracker serving 3 torrents", "opentracker"]),
        (Mode::Tcp4, ["16", "7", "183661 seconds (51 hours)", "opentracker tcp4 stats, 0 conns/s :: 0 success/s."]),
        (Mode::Scrp, ["2", "2218", "183661 seconds (51 hours)", "opentracker scrape stats, 0 scrape/s (tcp and udp)"]),
    ];
    for (mode, expected) in rows {
        assert_eq!(lines(*mode), expected, "{mode:?}");
    }
    for mode in [Mode::Conn, Mode::Udp4, Mode::Fscr, Mode::Completed] {
        let lines = lines(mode);
        assert_eq!(lines.len(), 4, "{mode:?}");
        for line in &lines[..2] {
            line.parse::<u64>().unwrap_or_else(|_| panic!("{mode:?} begins with two numbers, not {line}"));
        }
        assert_eq!(lines[2], "183661 seconds (51 hours)");
        assert!(lines[3].starts_with("opentracker"));
    }
}

#[test]
fn records_of_livesync_are_counted() {
    let with = |livesync_received| ClusterFigures { livesync_received, ..ClusterFigures::default() };
    for (cluster, expected) in [(None, 0), (Some(with(0)), 0), (Some(with(70)), 70)] {
        let snapshot = Snapshot { cluster, ..example() };
        let page = write(&snapshot, Mode::Syncs);
        assert_eq!(page.lines().take(2).collect::<Vec<_>>(), [&*expected.to_string(), "0"], "{page}");
        let page = write(&snapshot, Mode::Everything);
        assert!(page.contains(&format!("<livesync>\n      <count>{expected}</count>")), "{page}");
    }
}

#[test]
fn largest_swarms_are_ranked_three_times() {
    let (ab, oc, ff) = ("AB".repeat(20), "0C".repeat(20), "FF".repeat(20));
    let expected = format!(
        "Top 10 torrents by peers:\n\t12\t{ab}\n\t7\t{oc}\n\t2\t{ff}\n\
         Top 10 torrents by seeds:\n\t7\t{oc}\n\t4\t{ab}\n\t1\t{ff}\n\
         Top 10 torrents by leechers:\n\t8\t{ab}\n\t1\t{ff}\n"
    );
    assert_eq!(write(&example(), Mode::Top10), expected);
    assert!(write(&example(), Mode::Top100).starts_with("Top 100 torrents by peers:\n"));
}

#[test]
fn returning_peers_are_45_lines() {
    let mut snapshot = example();
    assert_eq!(write(&snapshot, Mode::Renew).lines().count(), 45);
    assert!(write(&snapshot, Mode::Renew).starts_with("00 0\n01 0\n"));
    snapshot.renewals = std::array::from_fn(|minute| minute as u64);
    assert!(write(&snapshot, Mode::Renew).ends_with("\n43 43\n44 44\n"));
    assert!(write(&snapshot, Mode::Everything).contains("      <count interval=\"44\">44</count>\n"));
}

#[test]
fn errors_have_opentrackers_names() {
    assert_eq!(lines(Mode::Herr)[2], "400 PAR 1");
    assert!(write(&example(), Mode::Everything).contains("<count code=\"400 Invalid Parameter\">1</count>"));
}

#[test]
fn everything_is_balanced_xml() {
    let page = write(&example(), Mode::Everything);
    let mut open = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|part| part.split('>').next()) {
        match tag.as_bytes()[0] {
            b'?' => {}
            b'/' => assert_eq!(open.pop(), Some(&tag[1..])),
            _ => open.push(tag.split(' ').next().expect("a name")),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn what_clients_want_is_201_lines() {
    let mut snapshot = example();
    snapshot.http.wanted[7] = 3;
    let page = write(&snapshot, Mode::Numwants);
    assert_eq!(page.lines().count(), 201);
    assert!(page.starts_with("000 => 0\n") && page.contains("\n007 => 3\n") && page.ends_with("200 => 0\n"), "{page}");
}

#[test]
fn modes_are_found_by_their_exact_names() {
    for (name, mode) in Mode::ALL {
        assert_eq!(Mode::named(name.as_bytes()), Some(*mode));
    }
    let names: Vec<_> = Page::names().collect();
    for name in &names {
        assert!(Page::named(name.as_bytes()).is_some(), "{name}");
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
    }
    // Old versions of opentracker had the last three of them.
    for name in ["", "Peer", "peers", "top1000", "vers", "startstop", "toraddrem"] {
        assert_eq!(Page::named(name.as_bytes()), None, "{name}");
    }
    assert_eq!(Page::Torrents.format(None), Some(Format::Bencoded));
    assert_eq!(Page::Torrents.format(Some(Format::Text)), Some(Format::Text));
    assert_eq!(Page::State.format(Some(Format::Text)), Some(Format::State));
    assert_eq!(Page::Networks.format(Some(Format::Text)), None);
}
