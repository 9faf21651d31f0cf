//! Where a tracker can be asked: its own paths, and those that trackers before it have had.

use super::*;

const ANNOUNCE: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa&port=1&left=1";

#[test]
fn announces_are_answered_wherever_clients_were_told_to_send_them() {
    let server = Server::plain();
    let paths = [
        "/announce",
        "/announce/",
        "//announce",
        "///announce//",
        "/./announce",
        "/announce.php",
        "/announce.php/",
        "/announce.php5",
        "/announce.cgi",
        "/announce.jsp;session=1",
        "/announce/KEY",
        "/announce/0123456789abcdef0123456789abcdef/",
        "/announce.php/KEY",
        "/KEY/announce",
        "/KEY/announce.php",
        "/scrape-v2/announce",
        "/tracker//x/announce/",
        "/announc%65",
        "/%61%6E%6e%6Funce",
        "/%2Fannounce",
        "/announce%2FKEY",
        "/announce%2ephp",
        "/announce%20",
        "/announce%",
        "/Announce",
        "/ANNOUNCE.PHP",
        "/a",
        "/",
        "//",
        "",
        "http://tracker:6969/announce",
        "http://tracker/announce.php",
        "HTTP://tracker//announce/",
        "http://tracker/KEY/announc%65",
        "http://tracker/",
        "http://tracker",
    ];
    for path in paths {
        let response = server.get(&format!("{path}?{ANNOUNCE}"));
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.value().number("incomplete"), Some(1), "{path}");
    }
    assert_eq!(server.counted_by_tracker(TrackerEvent::Announce), paths.len() as u64);
    assert_eq!(server.store.pools().swarms.used(), 1, "all of them are about the same torrent");
}

#[test]
fn scrapes_are_answered_wherever_clients_make_them_of_an_announce_url() {
    let server = Server::plain();
    server.announce(ANNOUNCE);
    let paths = [
        "/scrape",
        "/scrape/",
        "//scrape",
        "/scrape.php",
        "/SCRAPE.php",
        "/scrape/KEY",
        "/KEY/scrape",
        "/KEY/scrape.php",
        "/announce-v2/scrape",
        "/announce/KEY/scrape",
        "/scrap%65",
        "/%73crape/",
        "http://tracker/scrape.php",
    ];
    for path in paths {
        let response = server.get(&format!("{path}?info_hash={HASH}"));
        assert_eq!(response.status, 200, "{path}");
        let files = response.value().get("files").and_then(|files| files.get(HASH)).cloned();
        assert_eq!(files.and_then(|file| file.number("incomplete")), Some(1), "{path}");
        let all = server.get(path);
        assert!(all.headers.contains_key("transfer-encoding"), "{path} lists all torrents");
    }
}

#[test]
fn what_is_wrong_with_an_announce_is_said_on_every_path() {
    let server = Server::plain();
    let rows = [
        ("/announce.php", "info_hash is missing"),
        ("/announce/KEY?", "info_hash is missing"),
        ("/?port=1", "info_hash is missing"),
        ("/?peer_id=x", "info_hash is missing"),
        ("/?info_hash=a", "info_hash is not 20 bytes, percent-encoded"),
        ("/?info_hash=aaaaaaaaaaaaaaaaaaaa", "port is missing"),
        ("//?info_hash=aaaaaaaaaaaaaaaaaaaa&port=0", "Port 0 is not valid"),
        ("/scrape.php?info_hash=a", "info_hash is not 20 bytes, percent-encoded"),
    ];
    for (target, reason) in rows {
        let response = server.get(target);
        assert_eq!((response.status, response.failure().as_str()), (200, reason), "{target}");
    }
}

#[test]
fn other_paths_are_not_taken_for_announces() {
    let server = Server::plain();
    let paths = [
        "/nothing",
        "/announc",
        "/announcement",
        "/announcer/",
        "/xannounce",
        "/un-announce",
        "/announce2",
        "/an/nounce",
        "/announc%2565",
        "/a/b",
        "/ab",
        "/b/a",
        "/scrap",
        "/scraper",
        "/escrape",
        "/s",
        "/sc/x",
        "/stats/x",
        "/x/stats",
        "/stats.php",
        "/metrics/x",
        "/favicon.ico",
        "/robots.txt",
        "/.",
        "/%",
        "/%00",
        "http://tracker/nothing",
    ];
    for path in paths {
        for query in ["", "?", "?info_hash=aaaaaaaaaaaaaaaaaaaa&port=1"] {
            let response = server.get(&format!("{path}{query}"));
            assert_eq!(response.status, 404, "{path}{query}");
            assert!(response.failure().starts_with("No such path"), "{path}{query}");
        }
    }
    assert_eq!(server.store.pools().swarms.used(), 0);
}

#[test]
fn pages_are_found_however_their_path_is_written() {
    let server = Server::plain();
    for path in ["/stats", "/stats/", "//stats", "/STATS", "/st%61ts", "http://tracker/stats"] {
        assert!(server.get(path).text().starts_with("0\n0\nopentracker serving 0 torrents"), "{path}");
        assert_eq!(server.get(&format!("{path}?mode=torr")).text().lines().next(), Some("0"), "{path}");
    }
    for path in ["/metrics", "/metrics/", "//metrics", "/m%65trics"] {
        assert!(server.get(path).text().starts_with("# HELP"), "{path}");
    }
    for path in ["/stats.txt", "/STATS.TXT", "/stats.txt?mode=peer"] {
        assert!(server.get(path).text().starts_with("tracker "), "{path}");
    }
    // A browser that was sent here by the host's name finds something to read.
    for path in ["/", "//", "/?", "/?utm_source=x", "/?x", "http://tracker"] {
        let response = server.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.headers["content-type"].starts_with("text/html"), "{path}");
    }
}
