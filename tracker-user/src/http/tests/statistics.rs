//! The pages that say how it is going.

use super::*;
use crate::admin::{
    opentracker::{Mode, Page},
    web::{HTML, OPERATOR},
};

#[test]
fn statistics_are_served() {
    let server = Server::plain();
    server.announce(&format!("info_hash={HASH}&port=1"));
    let page = server.get("/stats.txt");
    assert_eq!(page.headers["content-type"], "text/plain; charset=utf-8");
    assert!(page.text().contains("1  IPv4 announce answered"), "{}", page.text());
    assert!(page.text().contains("1  IPv4 peers"), "{}", page.text());
    for (name, _) in Mode::ALL {
        let response = server.get(&format!("/stats?mode={name}"));
        assert_eq!(response.status, 200, "{name}");
    }
    const PEER: &str = "1\n0\nopentracker serving 1 torrents\nopentracker";
    for query in ["", "?", "?mode=peer", "?foo=bar", "?mode=torr&mode=peer", "?mode=peer&format=txt"] {
        assert_eq!(server.get(&format!("/stats{query}")).text(), PEER, "{query}");
    }
    let metrics = server.get("/metrics");
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let line = "tracker_requests_answered_total{path=\"http\",request=\"announce\",family=\"ipv4\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    assert!(server.get("/").text().contains("<html"));
}

#[test]
fn people_are_sent_to_the_page_and_programs_are_not() {
    let server = Server::plain();
    // (headers, query, whether the answer is for people)
    let rows = [
        ("Accept: text/html,application/xhtml+xml", "", true),
        ("Accept: text/html", "?x=y", true),
        ("Accept: text/html", "?mode=peer", false),
        ("Accept: */*", "", false),
        ("Accept: text/plain", "", false),
        ("X: text/html", "", false),
    ];
    for (header, query, people) in rows {
        let mut client = server.connect();
        client.send(format!("GET /stats{query} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n").as_bytes());
        let response = client.response();
        assert_eq!(response.status, if people { 302 } else { 200 }, "{header} {query}");
        assert_eq!(response.headers.get("location").map(String::as_str), people.then_some("/"), "{header} {query}");
    }
}

#[test]
fn links_of_the_page_lead_a_browser_to_what_they_say() {
    let server = Server::plain();
    let links: BTreeSet<_> = OPERATOR.split("<a href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links, BTreeSet::from(["metrics", "stats.json", "stats.txt"]));
    for link in links {
        let mut client = server.connect();
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        client.send(format!("GET /{link} HTTP/1.1\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").as_bytes());
        let response = client.response();
        assert_eq!((response.status, response.headers.get("location")), (200, None), "{link}");
        assert_ne!(response.headers["content-type"], HTML, "{link}");
    }
}

#[test]
fn all_torrents_are_listed_in_opentrackers_formats() {
    let server = Server::plain();
    server.announce(&format!("info_hash={HASH}&port=1&left=0&event=completed"));
    server.announce(&format!("info_hash={HASH}&port=2&left=9"));
    let hexadecimal: String = HASH.bytes().map(|byte| format!("{byte:02X}")).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_secs() / 60;
    let state = |minute: u64| format!("{hexadecimal}:{minute}:1\n");
    let bencoded = format!("d5:filesd20:{HASH}d8:completei1e10:downloadedi1e10:incompletei1eeee");
    let rows = [
        ("tpbs&format=txt", format!("{hexadecimal}:1:1\n")),
        ("tpbs&format=txtp", format!("{hexadecimal}:1:1:1\n")),
        ("tpbs&format=url", format!("{HASH}:1:1\n")),
        ("tpbs&format=bin", format!("{HASH}\0\0\0\u{1}\0\0\0\u{1}")),
        ("tpbs&format=ben", bencoded.clone()),
        ("tpbs", bencoded),
    ];
    for (query, expected) in rows {
        let response = server.get(&format!("/stats?mode={query}"));
        assert_eq!(response.headers["content-type"], "text/plain", "{query}");
        assert_eq!(response.text(), expected, "{query}");
    }
    let dump = server.get("/stats?mode=statedump").text().to_owned();
    assert!((now - 1..=now + 1).any(|minute| dump == state(minute)), "{dump} at {now}");
    assert_eq!(server.get("/stats?mode=s24s").text().lines().next(), Some("Networks, limit /28:"));
    assert!(server.get("/stats?mode=s24s").text().contains("00000002: 127.0.0.0\n"));
    let counted = server.http().tracker;
    assert!(counted.event(TrackerEvent::FullScrapeBytes) > 200, "counted as full scrapes are");
    let head = |query: &str| {
        let mut client = server.connect();
        client.send(format!("HEAD /stats?mode={query} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes());
        client.head().status
    };
    assert_eq!([head("tpbs"), head("s24s"), head("statedump")], [200; 3]);
}

#[test]
fn what_clients_want_by_http_is_counted() {
    let server = Server::plain();
    for query in ["", "&numwant=0", "&numwant=7", "&numwant=7", "&numwant=9999"] {
        server.announce(&format!("info_hash={HASH}&port=1{query}"));
    }
    let page = server.get("/stats?mode=numwants");
    let some: Vec<_> = page.text().lines().filter(|line| !line.ends_with("=> 0")).collect();
    assert_eq!(some, ["000 => 1", "007 => 2", "050 => 1", "200 => 1"]);
}

#[test]
fn what_opentracker_cannot_tell_either_is_refused() {
    let server = Server::plain();
    for (query, status) in [
        ("mode=busy", 500),
        ("mode=woodpeckers", 500),
        ("mode=fulllog", 500),
        ("mode=tpbs&format=xyz", 400),
        ("mode=peer&format=", 400),
        ("info_hash=x", 400),
        ("mode=peer&info_hash=x", 400),
    ] {
        assert_eq!(server.get(&format!("/stats?{query}")).status, status, "{query}");
    }
}

#[test]
fn an_unknown_mode_is_told_which_there_are() {
    let server = Server::plain();
    for query in ["mode=nothing", "mode=", "mode", "mode=PEER", "mode=peer%20", "mode=startstop&mode=peer"] {
        let response = server.get(&format!("/stats?{query}"));
        assert_eq!(response.status, 400, "{query}");
        let reason = response.failure();
        let (what, names) = reason.split_once("; there are ").expect("a list");
        assert_eq!(what, "No such mode of the statistics");
        let names: Vec<_> = names.split([',', ' ']).filter(|word| !word.is_empty() && *word != "and").collect();
        assert_eq!(names, Page::names().collect::<Vec<_>>());
    }
}
