//! Who is let in where: the operator's pages, the full scrape.

use super::*;
use crate::{
    admin::{
        access::{Access, Token},
        web::public::PublicPage,
    },
    http::{proxy::Trust, responder::Next},
    listen::{Network, Networks},
};
use tracker_common::outcome::Event;

const TOKEN: &str = "Authorization: Bearer 0123456789abcdef";

fn token() -> Token {
    let path = std::env::temp_dir().join(format!("tracker-doors-{}", std::process::id()));
    std::fs::write(&path, "0123456789abcdef\n").expect("writable");
    let token = Token::read(&path).expect("long enough");
    std::fs::remove_file(path).expect("it is there");
    token
}

/// The status and the text of a reply of the shared door to a request from an address.
fn ask(context: &Context, source: &str, request: &str) -> (u16, String) {
    let mut out = Vec::new();
    let answered = context.responder().answer(Source::of(source.parse().expect(source)), request.as_bytes(), &mut out);
    // Of a full scrape its client has something then.
    if let Next::Stream(mut stream, _) = answered.next
        && stream.is_long()
    {
        stream.next().expect("no compression");
    }
    let text = String::from_utf8_lossy(&out).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{text}")), text)
}

#[test]
fn strangers_see_that_the_tracker_lives_and_nothing_more() {
    let context = Context::new(vec![], &store(10), FullScrapeLimits::default());
    let get = |path: &str, line: &str| format!("GET {path} HTTP/1.1\r\n{line}\r\n\r\n");
    context
        .handles
        .trust
        .store(Arc::new(Trust { proxies: Networks::new(&["10.0.0.9".parse().expect("one")]), ..Trust::default() }));
    for with_token in [false, true] {
        let token = with_token.then(token);
        context.handles.access.store(Arc::new(Access { token, ..Access::default() }));
        let refused = if with_token { 401 } else { 403 };
        for path in [
            "/stats",
            "/stats?mode=everything",
            "/stats?mode=none",
            "/stats.json",
            "/history.json",
            "/events",
            "/operator",
            "/stats.txt",
            "/metrics",
            "/STATS",
            "/%73tats",
        ] {
            let seen = if path == "/stats?mode=none" { 400 } else { 200 };
            let rows = [
                ("127.0.0.1", "X: y", seen),
                ("10.0.0.1", "X: y", seen),
                ("fe80::1", "X: y", seen),
                ("10.0.0.9", "X-Forwarded-For: 10.0.0.1", seen),
                ("8.8.8.8", TOKEN, if with_token { seen } else { refused }),
                (
                    "10.0.0.1",
                    "X-Forwarded-For: 10.0.0.1\r\nAuthorization: Bearer 0123456789abcdef",
                    if with_token { seen } else { refused },
                ),
                ("8.8.8.8", "X: y", refused),
                ("2001:db8::1", "X: y", refused),
                ("8.8.8.8", "X-Forwarded-For: 127.0.0.1", refused),
                // A proxy that nobody has named: whom it asks for is not known.
                ("127.0.0.1", "X-Forwarded-For: 127.0.0.1", refused),
                ("127.0.0.1", "X-Real-IP: 8.8.8.8", refused),
                ("10.0.0.9", "X-Forwarded-For: 8.8.8.8", refused),
                ("10.0.0.9", "X-Forwarded-For: 127.0.0.1, 8.8.8.8", refused),
                ("10.0.0.9", "X-Forwarded-For: junk", refused),
                ("8.8.8.8", "Authorization: Bearer 0123456789abcdeg", refused),
            ];
            for (source, line, expected) in rows {
                let (status, text) = ask(&context, source, &get(path, line));
                assert_eq!(status, expected, "{path} from {source} with {line}: {text}");
                assert_eq!(text.contains("WWW-Authenticate: Bearer"), status == 401, "{text}");
                assert!(status == 200 || !text.contains("torrents"), "{text}");
            }
        }
        for (source, line) in [("8.8.8.8", "X: y"), ("127.0.0.1", "X-Forwarded-For: 8.8.8.8")] {
            let (status, text) = ask(&context, source, &get("/health", line));
            assert_eq!((status, text.ends_with("\r\n\r\nok\n")), (200, true), "{text}");
            let announce = format!("/announce?info_hash={HASH}&port=1");
            assert_eq!(ask(&context, source, &get(&announce, line)).0, 200);
        }
    }
}

#[test]
fn an_operator_with_listeners_of_its_own_is_not_on_the_public_ones() {
    let (store, any) = (store(10), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listeners = || (bind(any, 1).expect("a port"), bind(any, 1).expect("a port"));
    let (public, operator) = listeners();
    let [at_public, at_operator] = [&public, &operator].map(|one| one.place.address().expect("of the internet"));
    let (handles, mut services) = (Handles::default(), Services::default());
    let statistics = Arc::new(Statistics::new(store.clone(), Arc::default(), None, LatestStatus::default()));
    let bindings = sites::bindings(
        Doors { public: vec![public], operator: vec![operator], ..Doors::default() },
        &store,
        &handles,
        &statistics,
    );
    serve(bindings, Arc::default(), statistics.http.engine.clone(), &mut services).expect("a thread");
    let announce = format!("/announce?info_hash={HASH}&port=1");
    for (address, target, status) in [
        (at_public, announce.as_str(), 200),
        (at_public, "/health", 200),
        (at_public, "/stats", 404),
        (at_public, "/metrics", 404),
        (at_public, "/stats.json", 404),
        (at_public, "/history.json", 404),
        (at_public, "/events", 404),
        (at_public, "/operator", 404),
        (at_public, "/", 200),
        (at_operator, "/stats", 200),
        (at_operator, "/metrics", 200),
        (at_operator, "/health", 200),
        (at_operator, "/", 200),
        (at_operator, "/operator", 200),
        (at_operator, "/stats.json", 200),
        (at_operator, "/history.json?span=day", 200),
        (at_operator, &announce, 404),
        (at_operator, "/scrape", 404),
        (at_operator, "/a?info_hash=x", 404),
    ] {
        let mut client = Client::connect(address);
        client.send(format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(client.response().status, status, "{target} at {address}");
    }
}

#[test]
fn strangers_are_told_how_to_announce_and_the_operator_how_it_goes() {
    let context = Context::new(vec![], &store(10), FullScrapeLimits::default());
    let root = "GET / HTTP/1.1\r\nHost: t.example:80\r\n\r\n";
    // (what strangers see, who asks, the status, what is in the reply, what is not)
    let (counts, plain, off) = (PublicPage::Counts, PublicPage::Plain, PublicPage::Off);
    for (public_page, source, status, there, not_there) in [
        (counts, "8.8.8.8", 200, "<dt>torrents</dt>", "EventSource"),
        (plain, "8.8.8.8", 200, "It is open", "<dt>"),
        (off, "8.8.8.8", 403, "for the operator", "<html"),
        (counts, "127.0.0.1", 200, "EventSource", "It is open"),
        (off, "127.0.0.1", 200, "EventSource", "It is open"),
    ] {
        context.handles.access.store(Arc::new(Access { public_page, ..Access::default() }));
        let (found, text) = ask(&context, source, root);
        assert_eq!(found, status, "{public_page:?} for {source}");
        assert!(text.contains(there) && !text.contains(not_there), "{public_page:?} for {source}:\n{text}");
        assert_eq!(text.contains("\r\nContent-Security-Policy: default-src 'none'; "), status == 200, "{text}");
    }
}

#[test]
fn the_full_scrape_is_for_some_networks_and_now_and_then() {
    let limits = |networks: &[Network], seconds| FullScrapeLimits {
        networks: Networks::new(networks),
        pause: Duration::from_secs(seconds),
        clients: 100,
        ..FullScrapeLimits::default()
    };
    let context = Context::new(vec![], &store(10), FullScrapeLimits::default());
    let request = "GET /scrape HTTP/1.1\r\n\r\n";
    let head = "HEAD /scrape HTTP/1.1\r\n\r\n";
    let named = format!("GET /scrape?info_hash={HASH} HTTP/1.1\r\n\r\n");
    let veiled = "GET /scrape HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n";
    let (off, soon) = (Failure::FullScrapeForbidden.text(), Failure::FullScrapeTooSoon.text());
    type Row<'a> = (&'a str, &'a str, Option<&'a str>);
    let check = |rows: &[Row<'_>]| {
        for (source, request, refused) in rows {
            let (status, text) = ask(&context, source, request);
            assert_eq!(
                (status, refused.is_some_and(|refused| text.contains(refused))),
                (200, refused.is_some()),
                "{source}: {text}"
            );
            assert!(refused.is_some() || !text.contains("failure reason"), "{source}: {text}");
        }
    };
    context.handles.full_scrape.store(Arc::new(limits(&[Network::Local], 0)));
    check(&[
        ("127.0.0.1", request, None),
        ("127.0.0.1", request, None),
        ("8.8.8.8", request, Some(off)),
        ("2001:db8::1", request, Some(off)),
        ("127.0.0.1", veiled, Some(off)),
        ("8.8.8.8", &named, None),
    ]);
    context.handles.full_scrape.store(Arc::new(limits(&[Network::All], 300)));
    check(&[
        ("8.8.8.8", head, None),
        ("8.8.8.8", request, None),
        ("8.8.8.8", request, Some(soon)),
        ("8.8.8.9", request, None),
        ("2001:db8::1", request, None),
        ("2001:db8::2", request, Some(soon)),
        ("8.8.8.8", request, Some("8:retry ini5e")),
        // The operator's lists do not end the pause of others.
        ("127.0.0.1", "GET /stats?mode=tpbs HTTP/1.1\r\n\r\n", None),
        ("8.8.8.8", request, Some(soon)),
        ("8.8.8.8", &named, None),
    ]);
    context.handles.full_scrape.store(Arc::new(limits(&[Network::All], 86_400)));
    check(&[("8.8.4.4", request, None), ("8.8.4.4", request, Some("8:retry ini1440e"))]);
    let snapshot = context.statistics.snapshot();
    let event = |event| snapshot.event(event);
    assert_eq!([event(Event::Scrape4), event(Event::Scrape6)], [8, 1], "HEAD and named ones included");
    assert_eq!(snapshot.http.tracker.event(TrackerEvent::FullScrapeBegun), 7, "and the operator's");
}
