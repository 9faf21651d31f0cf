//! How often one client may ask.

use super::*;
use crate::config::limits::RequestLimits;
use tracker_common::outcome::{Counter, RequestReason};

/// What is said of so many requests, each over a connection of its own: how many are refused because
/// there were too many.
fn refused(server: &Server, path: &str, requests: u32) -> usize {
    let refused = |_: &u32| {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
        let value = client.response().value();
        let said = value.string("failure reason").map(|reason| String::from_utf8_lossy(reason).into_owned());
        match said {
            Some(reason) => {
                assert_eq!(reason, "Too many requests from your address, slow down");
                assert_eq!(value.number("retry in"), Some(5));
                true
            }
            None => false,
        }
    };
    (0..requests).filter(refused).count()
}

#[test]
fn a_client_that_asks_too_often_is_told_to_come_later() {
    let server = Server::plain();
    let settings = server.store.settings();
    settings.second.store(60_000);
    let limits = RequestLimits { per_minute: [1, 5, 3], ..RequestLimits::default() };
    let announce = format!("/announce?info_hash={HASH}&port=1");
    let scrape = format!("/scrape?info_hash={HASH}");
    assert_eq!(refused(&server, &announce, 10) + refused(&server, &scrape, 10), 0, "without limits nobody is");
    limits.apply(settings);
    assert_eq!((refused(&server, &announce, 10), refused(&server, &scrape, 2)), (5, 0));
    // A full scrape is one.
    assert_eq!(
        (refused(&server, "/scrape", 1), refused(&server, "/scrape", 1), refused(&server, &scrape, 1)),
        (0, 1, 1)
    );
    settings.second.store(60_060);
    assert_eq!((refused(&server, &announce, 5), refused(&server, &scrape, 3)), (0, 0), "a minute later");
    let counted = |reason: RequestReason| {
        let paths = server.store.counters();
        let (_, counters) = paths.iter().find(|(path, _)| *path == CounterSet::Http).expect("all paths are there");
        counters[Counter::Reason(reason.into()).index()]
    };
    assert_eq!((counted(RequestReason::AnnouncesLimited), counted(RequestReason::ScrapesLimited)), (5, 2));
    let unlimited = RequestLimits { unlimited: vec!["127.0.0.0/8".parse().expect("a network")], ..limits };
    unlimited.apply(settings);
    assert_eq!((refused(&server, &announce, 50), refused(&server, &scrape, 50)), (0, 0), "but for networks named");
}
