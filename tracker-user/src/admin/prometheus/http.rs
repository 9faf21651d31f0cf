//! What only HTTP counts.

use super::page::Page;
use crate::{
    http::{counters::HttpEvent, tracker::counters::TrackerEvent},
    statistics::Snapshot,
};

impl Page {
    /// What only HTTP counts.
    pub fn http(&mut self, snapshot: &Snapshot) {
        let http = &snapshot.http;
        let (engine, tracker) = (&http.engine, &http.tracker);
        let name = "tracker_http_requests_total";
        self.begin(name, "counter", "HTTP requests, whatever became of them.");
        for kind in http.requests() {
            self.sample(name, &[("request", kind.label)], kind.count);
        }
        let name = "tracker_http_failures_total";
        self.begin(name, "counter", "HTTP requests not answered as asked, by reason.");
        for failure in http.failures() {
            self.sample(name, &[("reason", failure.label)], failure.count);
        }
        self.single("tracker_http_connections", "gauge", "HTTP connections open.", engine.open());
        self.single(
            "tracker_http_connections_accepted_total",
            "counter",
            "HTTP connections accepted.",
            engine.event(HttpEvent::Accepted),
        );
        self.single(
            "tracker_http_accept_failures_total",
            "counter",
            "HTTP connections that the system could not hand over, as when it has no file descriptor left.",
            engine.event(HttpEvent::AcceptFailed),
        );
        let name = "tracker_http_connections_aborted_total";
        self.begin(
            name,
            "counter",
            "HTTP connections that the tracker closed for another reason than the end of a request.",
        );
        for reason in [
            engine.labelled(HttpEvent::Evicted),
            engine.labelled(HttpEvent::Refused),
            engine.labelled(HttpEvent::IdleTimeout),
            engine.labelled(HttpEvent::HeaderTimeout),
            engine.labelled(HttpEvent::WriteTimeout),
            engine.labelled(HttpEvent::HandshakeFailed),
            engine.labelled(HttpEvent::HandshakeTimeout),
            engine.labelled(HttpEvent::HandshakeEvicted),
            engine.labelled(HttpEvent::HandshakeLimited),
            tracker.labelled(TrackerEvent::FullScrapeTimeout),
            engine.labelled(HttpEvent::MemoryExceeded),
        ] {
            self.sample(name, &[("reason", reason.label)], reason.count);
        }
        for (name, help, count) in [
            (
                "tracker_http_proxied_announces_total",
                "HTTP announces that named another client in a header; the proxy's address was stored.",
                tracker.event(TrackerEvent::Proxied),
            ),
            ("tracker_https_handshakes_total", "TLS handshakes done.", engine.event(HttpEvent::Handshakes)),
            ("tracker_http_received_bytes_total", "Bytes received by HTTP.", engine.event(HttpEvent::ReceivedBytes)),
            ("tracker_http_sent_bytes_total", "Bytes sent by HTTP.", engine.event(HttpEvent::SentBytes)),
            (
                "tracker_http_full_scrape_bytes_total",
                "Bytes of full scrapes sent.",
                tracker.event(TrackerEvent::FullScrapeBytes),
            ),
        ] {
            self.single(name, "counter", help, count);
        }
    }
}
