//! A proxy in front of the tracker: its address would be everybody's.

use super::*;
use std::sync::Mutex;

#[test]
fn announces_through_a_proxy_are_counted_and_its_headers_not_believed() {
    let server = Server::plain();
    // (header lines, counted)
    let rows = [
        ("", false),
        ("X-Forwarded-For: 192.0.2.7", true),
        ("x-forwarded-for: 192.0.2.7, 10.0.0.1", true),
        ("X-FORWARDED-FOR:192.0.2.7", true),
        ("X-Real-IP: 192.0.2.7", true),
        ("Forwarded: for=192.0.2.7;proto=http", true),
        ("X-Real-IP: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7", true),
        ("X-Forwarded-For:", false),
        ("X-Forwarded-For: ", false),
        ("X-Forwarded-Proto: http", false),
        ("X-Forwarded-Fox: 192.0.2.7", false),
        ("X-Real-IQ: 192.0.2.7", false),
        ("Accept-Encoding: gzip", false),
        ("Via: 1.1 proxy", false),
    ];
    let mut counted = 0;
    for (line, is_counted) in rows {
        let mut client = server.connect();
        let end = if line.is_empty() { "\r\n" } else { "\r\n\r\n" };
        client.send(format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n{line}{end}").as_bytes());
        assert_eq!(client.response().value().string("external ip"), Some(&[127, 0, 0, 1][..]), "{line}");
        counted += u64::from(is_counted);
        assert_eq!(server.counted_by_tracker(TrackerEvent::Proxied), counted, "{line}");
    }
    assert_eq!(server.store.pools().swarms.used(), 1);
    // Statistics may well be shown through a proxy.
    let mut client = server.connect();
    client.send(b"GET /metrics HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    let line = format!("tracker_http_proxied_announces_total {counted}\n");
    assert!(client.response().text().contains(&line));
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_proxy_is_warned_of_but_not_with_every_announce() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false).finish();
    let context = Context::new(vec![], &store(16), FullScrapeLimits::default());
    let answer = |header: &str, source: Ipv4Addr| {
        let request = format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n{header}: 192.0.2.7\r\n\r\n");
        context.responder().answer(source.into(), request.as_bytes(), &mut Vec::new());
        String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text")
    };
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(answer("Accept", Ipv4Addr::new(10, 0, 0, 1)), "");
        let text = answer("X-Real-IP", Ipv4Addr::new(10, 0, 0, 2));
        for part in ["WARN", "X-Real-IP", "10.0.0.2", "proxy"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for _ in 0..10 {
            assert_eq!(answer("X-Forwarded-For", Ipv4Addr::new(10, 0, 0, 3)), text, "once a minute, by all threads");
        }
    });
}
