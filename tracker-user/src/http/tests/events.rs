//! The figures as JSON, and once a second.

use super::*;
use crate::statistics::{Sampler, feed, figures::Figures};

/// The figures of the next event; what comes before them is dropped.
fn next(client: &mut Client) -> Figures {
    loop {
        let text = String::from_utf8_lossy(&client.received).into_owned();
        if let Some(data) = text.find("data: ")
            && let Some(end) = text[data..].find("\n\n")
        {
            client.received.drain(..data + end + 2);
            return serde_json::from_str(&text[data + 6..data + end]).expect("figures in one line");
        }
        assert!(client.receive(), "closed after {text}");
    }
}

#[test]
fn figures_are_json_for_whoever_asks_for_that() {
    let server = Server::plain();
    server.announce(&format!("info_hash={HASH}&port=1"));
    let mut client = Client::connect(server.address);
    for (target, accept, is_json) in [
        ("/stats.json", "*/*", true),
        ("/stats", "application/json", true),
        ("/stats", "text/html, Application/JSON;q=0.9", true),
        ("/stats", "text/plain", false),
        ("/stats?mode=torr", "application/json", false),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nAccept: {accept}\r\n\r\n").as_bytes());
        let response = client.response();
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.headers["content-type"] == "application/json", is_json, "{target} as {accept}");
        let figures = serde_json::from_slice::<Figures>(&response.body);
        assert_eq!(figures.ok().map(|figures| figures.torrents), is_json.then_some(1), "{target} as {accept}");
    }
    let history = server.get("/history.json?span=day");
    let history = history.text();
    assert!(history.contains("\"step_seconds\":60"), "{history}");
}

#[test]
fn listeners_are_told_once_a_second_until_they_go_and_there_are_not_too_many() {
    let server = Server::plain();
    let mut services = Services::default();
    services.spawn(Sampler(server.statistics.clone())).expect("a thread");
    let ask = |version: &str| {
        let mut client = Client::connect(server.address);
        client.send(format!("GET /events HTTP/{version}\r\n\r\n").as_bytes());
        client
    };
    let (mut with_chunks, mut without) = (ask("1.1"), ask("1.0"));
    for (client, chunked) in [(&mut with_chunks, true), (&mut without, false)] {
        let head = client.head();
        assert_eq!((head.status, head.headers["content-type"].as_str()), (200, "text/event-stream"));
        assert_eq!(head.headers.contains_key("transfer-encoding"), chunked);
        assert!(next(client).time > 0.0);
        server.announce(&format!("info_hash={HASH}&port=1"));
        while next(client).torrents == 0 {}
    }
    assert_eq!(server.statistics.feed.listeners(), 2);
    let mut others: Vec<_> = (2..feed::MOST).map(|_| ask("1.1")).collect();
    let begun = Instant::now();
    while server.statistics.feed.listeners() < feed::MOST {
        assert!(begun.elapsed() < PATIENCE, "{}", server.statistics.feed.listeners());
        thread::sleep(Duration::from_millis(1));
    }
    let refused = server.get("/events");
    assert_eq!(refused.status, 503);
    assert_eq!(server.statistics.http.sums().admin.failure(AdminFailure::EventsBusy), 1);
    // A HEAD takes no place, and whoever goes leaves one.
    others.clear();
    while server.statistics.feed.listeners() > 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", server.statistics.feed.listeners());
        thread::sleep(Duration::from_millis(1));
    }
    // At the end of the tracker nobody waits for listeners.
    drop(services);
    while server.statistics.feed.listeners() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", server.statistics.feed.listeners());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_takes_nothing_is_cut_off_and_counted() {
    let limits = Limits { write_timeout: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store(10), limits);
    let mut client = Client::connect(server.address);
    client.send(b"GET /events HTTP/1.1\r\n\r\n");
    let begun = Instant::now();
    let timeouts = || server.statistics.http.sums().engine.event(HttpEvent::WriteTimeout);
    while timeouts() == 0 {
        server.statistics.feed.publish(|| server.statistics.snapshot());
        assert!(begun.elapsed() < PATIENCE, "still told");
        thread::sleep(Duration::from_micros(200));
    }
    while server.statistics.feed.listeners() > 0 {
        assert!(begun.elapsed() < PATIENCE, "the place is given back");
        thread::sleep(Duration::from_millis(1));
    }
}
