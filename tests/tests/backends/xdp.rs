//! The loaded XDP program, fed with frames by `BPF_PROG_TEST_RUN`.

use super::{Backend, Outcome, configure, labelled};
use anyhow::Result;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tracker::{
    store::{Store, added_up, sizes::Sizes},
    xdp::{KernelCounters, Loaded, Program, destinations::Destinations},
};
use tracker_common::settings::Settings;
use tracker_tests::{
    bpf,
    decision_table::{TRACKER, TRACKER_MAC, TRACKER_PORT, Verdict},
    namespace::require_root,
    packet::{Datagram, Frame},
};

/// The interface that frames of a test run come from, unless it is told another one: the loopback
/// interface, which is number 1 in every network namespace.
const INTERFACE: u32 = 1;

/// The interface's MTU, in bytes.
const MTU: u32 = 1500;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

pub(crate) struct XdpProgram {
    pub(crate) program: Loaded,
    counters: KernelCounters,
    pub(crate) store: Arc<Store>,
}

impl XdpProgram {
    /// Loads the program with maps of the sizes given, and tells it what it answers for.
    pub(crate) fn load(sizes: &Sizes) -> Result<Self> {
        require_root()?;
        let mut program = Program::load(sizes)?;
        let (store, counters) = (program.store(sizes)?, program.counters()?);
        configure(store.settings());
        let destinations = Destinations {
            interfaces: vec![(INTERFACE, TRACKER_MAC, MTU)],
            listeners: TRACKER.iter().map(|address| SocketAddr::new(*address, TRACKER_PORT)).collect(),
            ..Destinations::default()
        };
        destinations.store(store.settings());
        Ok(Self { program: program.keep(), counters, store: Arc::new(store) })
    }
}

impl Backend for XdpProgram {
    fn send(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Outcome, String> {
        let (action, out) = bpf::test_run(self.program.entry(), bytes).map_err(|error| format!("{error:#}"))?;
        match action {
            XDP_TX => {
                let wrong = |error| format!("{error:#}; the reply is {out:02x?}");
                let reply = Datagram::parse(&out).map_err(wrong)?;
                reply.check_answers(frame).map_err(wrong)?;
                Ok(Outcome::Answered(reply.payload))
            }
            XDP_PASS if out != bytes => Err(format!("passed on, but changed to {out:02x?}")),
            XDP_PASS => Ok(Outcome::Unanswered(Verdict::Passed)),
            XDP_DROP => Ok(Outcome::Unanswered(Verdict::Dropped)),
            other => Err(format!("the program returned {other}")),
        }
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        labelled(&added_up(&(self.counters)().expect("readable")))
    }

    fn has_frames(&self) -> bool {
        true
    }

    fn clock(&self) -> Option<&Settings> {
        Some(self.store.settings())
    }
}
