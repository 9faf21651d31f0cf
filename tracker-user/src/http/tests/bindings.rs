//! Sites on listeners of their own.

use super::*;
use crate::admin::{
    site::{AdminSite, Door, Shared},
    web::public::Ports,
};
use failure::Refusal;
use request::Request;
use site::TEXT;

/// Knows one path, and says how often it was asked.
struct Echo(u32);

impl Site for Echo {
    fn respond(&mut self, request: &Request<'_>, visitor: &Visitor, body: &mut Vec<u8>) -> Option<Answer> {
        (request.path == b"/echo").then(|| {
            self.0 += 1;
            body.extend_from_slice(format!("{} {}", visitor.source.key(), self.0).as_bytes());
            Answer::Body { content_type: TEXT }
        })
    }
}

fn plain_text(refusal: &Refusal, body: &mut Vec<u8>) -> &'static str {
    body.extend_from_slice(refusal.text.as_bytes());
    TEXT
}

#[test]
fn each_listener_has_its_own_sites_and_words() {
    let store = store(10);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (public, private) = (bind(any, 2).expect("a port"), bind(any, 1).expect("a port"));
    let addresses = [&public, &private].map(|listener| listener.place.address().expect("of the internet"));
    let Context { statistics, handles: Handles { access, trust, .. }, mut bindings } =
        Context::new(vec![public], &store, FullScrapeLimits::default());
    // The tracker alone, and the operator's pages beside another site.
    bindings[0].sites.truncate(1);
    let http = &statistics.http;
    let tracker = tracker::Tracker::new(store, Arc::default(), http.tracker.clone(), http.wanted.clone());
    let shared = Shared::new(access, statistics.clone(), tracker, Ports::default());
    bindings.push(Binding {
        listeners: vec![private],
        sites: vec![
            Arc::new(|| Box::new(Echo(0))),
            Arc::new(move || Box::new(AdminSite::new(Door::Operator, shared.clone()))),
        ],
        tls: None,
        trust,
        refusal_format: plain_text,
        not_found: "nothing here",
    });
    let mut services = Services::default();
    serve(bindings, Arc::default(), statistics.http.engine.clone(), &mut services).expect("two threads");
    let get = |address: SocketAddr, target: &str| {
        let mut client = Client::connect(address);
        client.send(format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes());
        client.response()
    };
    let [public, private] = addresses;
    let announce = format!("/announce?info_hash={HASH}&port=1");
    assert_eq!(get(public, &announce).value().number("incomplete"), Some(1));
    for target in ["/echo", "/stats", "/metrics", "/"] {
        let response = get(public, target);
        assert_eq!((response.status, response.failure().as_str()), (404, tracker::failure::NOT_FOUND), "{target}");
    }
    assert_eq!(get(private, "/echo").text(), "127.0.0.1 1");
    assert_eq!(get(private, "/echo").text(), "127.0.0.1 2");
    assert!(get(private, "/stats.txt").text().starts_with("tracker "));
    assert_eq!(get(private, "/stats").text(), "1\n0\nopentracker serving 1 torrents\nopentracker");
    let response = get(private, &announce);
    assert_eq!((response.status, response.text()), (404, "nothing here"));
    let response = get(private, "/stats?mode=nothing");
    assert_eq!((response.status, response.text()), (400, AdminFailure::StatisticsModeUnknown.text()));
    drop(services);
    // The engine counts for both together.
    let http = statistics.http.sums();
    assert_eq!(http.engine.event(HttpEvent::Accepted), 11);
    assert_eq!(http.engine.failure(HttpFailure::NotFound), 5);
}
