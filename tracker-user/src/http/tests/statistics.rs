//! The pages that say how it is going.

use super::*;

#[test]
fn statistics_are_served() {
    let server = Server::plain();
    server.announce(&format!("info_hash={HASH}&port=1"));
    let page = server.get("/stats");
    assert_eq!(page.headers["content-type"], "text/plain; charset=utf-8");
    assert!(page.text().contains("1  IPv4 announce answered"), "{}", page.text());
    assert!(page.text().contains("1  IPv4 peers"), "{}", page.text());
    for (name, _) in crate::admin::opentracker::Mode::ALL {
        let response = server.get(&format!("/stats?mode={name}"));
        assert_eq!(response.status, 200, "{name}");
    }
    assert_eq!(server.get("/stats?mode=peer").text(), "1\n0\nopentracker serving 1 torrents\nopentracker");
    let metrics = server.get("/metrics");
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let line = "tracker_requests_answered_total{path=\"http\",request=\"announce\",family=\"ipv4\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    assert_eq!(server.get("/").headers["location"], "/stats");
}

#[test]
fn an_unknown_mode_is_told_which_there_are() {
    let server = Server::plain();
    for query in ["mode=nothing", "mode=", "mode", "mode=PEER", "mode=peer%20", "mode=tpbs&mode=peer"] {
        let response = server.get(&format!("/stats?{query}"));
        assert_eq!(response.status, 400, "{query}");
        let reason = response.failure();
        let (what, names) = reason.split_once("; there are ").expect("a list");
        assert_eq!(what, "No such mode of the statistics");
        let names: Vec<_> = names.split([',', ' ']).filter(|word| !word.is_empty() && *word != "and").collect();
        let known: Vec<_> = crate::admin::opentracker::Mode::ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, known);
    }
}
