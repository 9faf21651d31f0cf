//! What the tracker runs on and by which limits: process, interfaces, energy.

use super::page::Page;
use crate::statistics::{Snapshot, limits::Limits, traffic};

/// What each of [`traffic::COUNTERS`] is called, and what it says.
const TRAFFIC: [(&str, &str); traffic::COUNTERS.len()] = [
    ("tracker_interface_receive_packets_total", "Packets received on an interface, whoever they were for."),
    ("tracker_interface_transmit_packets_total", "Packets sent on an interface, whoever sent them."),
    ("tracker_interface_receive_bytes_total", "Bytes received on an interface."),
    ("tracker_interface_transmit_bytes_total", "Bytes sent on an interface."),
    ("tracker_interface_receive_drops_total", "Packets received on an interface and dropped by the kernel."),
    ("tracker_interface_transmit_drops_total", "Packets dropped by the kernel instead of being sent on an interface."),
    ("tracker_interface_receive_errors_total", "Packets received damaged on an interface."),
    ("tracker_interface_transmit_errors_total", "Packets that could not be sent on an interface."),
];

impl Page {
    /// The process, by the names that Prometheus' libraries have for it.
    pub fn process(&mut self, snapshot: &Snapshot) {
        self.single(
            "process_start_time_seconds",
            "gauge",
            "Start of the process, in seconds since 1970.",
            snapshot.started_at,
        );
        let process = &snapshot.process;
        if let Some(seconds) = process.cpu_seconds {
            self.single("process_cpu_seconds_total", "counter", "User and system time used by the process.", seconds);
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory of the process.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Address space of the process.", process.virtual_bytes),
            ("process_open_fds", "File descriptors in use.", process.open_files),
            ("process_max_fds", "File descriptors that the process may have.", process.most_files),
            ("process_threads", "Threads of the process.", process.threads),
        ] {
            if let Some(value) = value {
                self.single(name, "gauge", help, value);
            }
        }
    }

    /// Interfaces, how XDP runs on them, and what came by them.
    pub fn interfaces(&mut self, snapshot: &Snapshot) {
        self.begin("tracker_interface_info", "gauge", "Mode in which XDP runs on an interface; always 1.");
        for interface in &snapshot.interfaces {
            let labels = [("interface", interface.name.as_str()), ("mode", interface.mode.as_str())];
            self.sample("tracker_interface_info", &labels, 1);
        }
        for (place, (name, help)) in TRAFFIC.into_iter().enumerate() {
            self.begin(name, "counter", help);
            for traffic in &snapshot.traffic {
                self.sample(name, &[("interface", &traffic.interface)], traffic.counts[place]);
            }
        }
    }

    /// What the operator has set. A limit that is off has no series.
    pub fn limits(&mut self, limits: &Limits) {
        self.single(
            "tracker_announce_interval_seconds",
            "gauge",
            "Time between a client's announces, as it is told.",
            limits.interval_seconds,
        );
        let name = "tracker_reply_peers_limit";
        self.begin(name, "gauge", "Most peers in a reply by UDP.");
        for (family, most) in ["ipv4", "ipv6"].into_iter().zip(limits.peers_per_reply) {
            self.sample(name, &[("family", family)], most);
        }
        self.single(
            "tracker_reply_peers_default",
            "gauge",
            "Peers in a reply to a client that does not say how many it wants.",
            limits.default_peers_per_reply,
        );
        self.begin("tracker_address_peers_limit", "gauge", "Most peers of one address in a swarm.");
        if limits.peers_per_address != 0 {
            self.sample("tracker_address_peers_limit", &[], limits.peers_per_address);
        }
        self.single("tracker_http_connections_limit", "gauge", "Most HTTP connections.", limits.http_connections);
        let name = "tracker_source_requests_limit";
        self.begin(name, "gauge", "Most requests of one source in a minute.");
        for (request, most) in ["connect", "announce", "scrape"].into_iter().zip(limits.requests_per_minute) {
            if let Some(most) = most {
                self.sample(name, &[("request", request)], most);
            }
        }
        let name = "tracker_errors_limit";
        self.begin(name, "gauge", "Most errors in a second that are told to those who have shown no connection id.");
        if let Some(most) = limits.errors_per_second {
            self.sample(name, &[], most);
        }
    }

    /// Energy, measured or estimated.
    pub fn energy(&mut self, snapshot: &Snapshot) {
        let Some(energy) = snapshot.energy else { return };
        let labels = [("method", energy.method.label())];
        let name = "tracker_energy_joules_total";
        self.begin(
            name,
            "counter",
            "Energy of the machine's processors since the start, measured (rapl, perf) or estimated (estimate).",
        );
        self.sample(name, &labels, energy.joules);
        let name = "tracker_energy_measured";
        let measured = u8::from(energy.method.is_measured());
        self.single(name, "gauge", "1 if that energy is measured, 0 if it is estimated.", measured);
    }
}
