//! Calls of the program without a network, and what the daemon counts of them.

use anyhow::{Context as _, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use tracker_tests::tracker::Metrics;

use crate::testbed::Testbed;

/// What the XDP program returns for a packet that goes on to the network stack.
const XDP_PASS: u32 = 2;
/// What the XDP program returns for a packet that goes back.
const XDP_TX: u32 = 3;
/// Calls per system call.
pub(super) const REPEAT: u32 = 200_000;

/// The first torrent that no scenario has.
pub(super) const NEW_TORRENT: u32 = 1 << 30;

/// Counters of the daemon at one moment, or what they have moved by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// Announces that the XDP program answered.
    pub(super) answered: u64,
    /// Requests that it passed on, dropped or answered with an error.
    pub(super) rejected: u64,
    /// Peers added, and removed or evicted, and stored.
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) stored: u64,
}

impl Counters {
    pub(super) fn read(testbed: &Testbed) -> anyhow::Result<Self> {
        let metrics = Metrics::parse(&testbed.get("/metrics")?)?;
        let sum = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels) as u64;
        Ok(Self {
            answered: sum("tracker_requests_answered_total", &[("path", "xdp"), ("request", "announce")]),
            rejected: sum("tracker_requests_rejected_total", &[("path", "xdp")])
                + sum("tracker_packets_passed_total", &[("path", "xdp")]),
            added: sum("tracker_peers_added_total", &[]),
            removed: sum("tracker_peers_removed_total", &[]),
            stored: sum("tracker_peers", &[]),
        })
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            answered: self.answered - before.answered,
            rejected: self.rejected - before.rejected,
            added: self.added - before.added,
            removed: self.removed - before.removed,
            stored: self.stored - before.stored,
        }
    }
}

/// Mean nanoseconds per call.
pub(super) fn time(program: &Xdp, interface: u32, frame_length: u32, repeat: u32) -> anyhow::Result<f64> {
    let ctx: Vec<u8> = [0, frame_length, 0, interface, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let data = vec![0; frame_length as usize];
    let options = TestRunOptions { data_in: Some(&data), ctx_in: Some(&ctx), repeat, ..TestRunOptions::new() };
    let result = program.test_run(options).context("cannot run the program in test mode (BPF_PROG_TEST_RUN)")?;
    // That is what became of the last call. One that meets another core or the daemon in the store
    // is passed on.
    ensure!(
        matches!(result.return_value, XDP_TX | XDP_PASS),
        "the tracker neither answered nor passed on: it returned {}",
        result.return_value
    );
    Ok(result.duration.as_nanos() as f64)
}
