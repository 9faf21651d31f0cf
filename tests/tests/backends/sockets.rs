//! The daemon without XDP, asked through sockets on the loopback interface of a namespace of its
//! own.

use super::{Backend, Outcome};
use anyhow::{Context as _, Result};
use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, UdpSocket},
};
use tracker_common::{outcome::Reason, settings::Settings};
use tracker_tests::{
    bep15, client::PATIENCE, decision_table::TRACKER, namespace::Namespace, packet::Frame, patience, tracker::Tracker,
};

/// Transaction id of the requests that tell when there is nothing more to come; no row uses it.
const MARKER: u32 = 0xffff_fff0;

pub(crate) struct Sockets {
    sockets: HashMap<SocketAddr, UdpSocket>,
    markers: BTreeMap<bool, u64>,
    tracker: Tracker,
    namespace: Namespace,
}

impl Sockets {
    /// Starts the daemon.
    pub(crate) fn new() -> Result<Self> {
        Self::with(&[])
    }

    /// The same with more options.
    pub(crate) fn with(options: &[&str]) -> Result<Self> {
        let namespace = Namespace::new()?;
        let [v4, v6] = TRACKER;
        // All addresses of both prefixes are this host's own.
        namespace.ip(&format!("address add {v4}/24 dev lo"))?;
        namespace.ip(&format!("address add {v6}/64 dev lo nodad"))?;
        namespace.ip(&format!("route add local {v6}/64 dev lo"))?;
        namespace.set("ipv6/ip_nonlocal_bind", "1")?;
        let usual = [
            "--xdp-mode",
            "off",
            "--max-torrents",
            "10000",
            "--max-peers-per-address",
            "0",
            "--max-creations-per-address",
            "0",
        ];
        let tracker = Tracker::start(&namespace, &[&usual, options].concat())?;
        Ok(Self { sockets: HashMap::new(), markers: BTreeMap::new(), tracker, namespace })
    }

    fn exchange(&mut self, frame: &Frame) -> Result<Option<Vec<u8>>> {
        let source = frame.source;
        if !self.sockets.contains_key(&source) {
            let socket = self.namespace.run(|| UdpSocket::bind(source));
            let socket = socket.with_context(|| format!("cannot bind to {source}"))?;
            // Replies from another address than the one asked do not arrive.
            socket.connect(frame.destination)?;
            socket.set_read_timeout(Some(patience(PATIENCE)))?;
            self.sockets.insert(source, socket);
        }
        let socket = &self.sockets[&source];
        socket.send(&frame.payload)?;
        // What is sent from one socket is answered in order. So whoever is silent does not have to
        // be waited for: when the marker's answer is there, the row's would have been.
        socket.send(&bep15::connect(MARKER))?;
        *self.markers.entry(source.is_ipv4()).or_default() += 1;
        let mut answer = None;
        loop {
            let mut bytes = vec![0; 65536];
            let length = socket.recv(&mut bytes).context("not even a connect is answered")?;
            bytes.truncate(length);
            if bytes.get(4..8) == Some(&MARKER.to_be_bytes()) {
                return Ok(answer);
            }
            anyhow::ensure!(answer.is_none(), "two answers: {answer:02x?} and {bytes:02x?}");
            answer = Some(bytes);
        }
    }
}

impl Backend for Sockets {
    fn send(&mut self, frame: &Frame, _: &[u8]) -> Result<Outcome, String> {
        match self.exchange(frame) {
            Ok(Some(answer)) => Ok(Outcome::Answered(answer)),
            Ok(None) => Ok(Outcome::Silence),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let metrics = self.tracker.metrics(&self.namespace).expect("metrics");
        let answered = |request, family| {
            let labels = [("path", "udp_socket"), ("request", request), ("family", family)];
            metrics.sum("tracker_requests_answered_total", &labels) as u64
        };
        let mut counters = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            let markers = self.markers.get(&(family == "ipv4")).copied().unwrap_or(0);
            counters.insert(format!("connect_{family}"), answered("connect", family) - markers);
            counters.insert(format!("announce_{family}"), answered("announce", family));
            counters.insert(format!("scrape_{family}"), answered("scrape", family));
        }
        for reason in Reason::all() {
            let label = reason.label();
            counters.insert(label.to_owned(), metrics.reason("udp_socket", label));
        }
        counters
    }

    fn has_frames(&self) -> bool {
        false
    }

    fn clock(&self) -> Option<&Settings> {
        None
    }
}
