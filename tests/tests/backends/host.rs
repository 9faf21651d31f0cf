//! The host build of the tracker's code, called as the daemon's UDP threads call it, without any
//! socket.

use super::{Backend, Outcome, configure, labelled};
use std::{collections::BTreeMap, sync::Arc};
use tracker::store::{CounterSet, Handle, Store, sizes::Sizes};
use tracker_common::{bep15::datagram::respond, settings::Settings};
use tracker_tests::packet::Frame;

pub(crate) struct Host {
    pub(crate) handle: Handle,
}

impl Host {
    pub(crate) fn new(sizes: &Sizes) -> Self {
        let store = Arc::new(Store::anonymous(sizes).expect("memory"));
        configure(store.settings());
        Self { handle: store.handle(CounterSet::Udp) }
    }
}

impl Backend for Host {
    fn send(&mut self, frame: &Frame, _: &[u8]) -> Result<Outcome, String> {
        Ok(match respond(&self.handle, &frame.payload, frame.source) {
            Ok(reply) => {
                let mut bytes = Vec::new();
                if !self.handle.copy_out(reply.start, reply.length, &mut bytes) {
                    return Err(format!("{reply:?} is outside the working space"));
                }
                Outcome::Answered(bytes)
            }
            Err(_) => Outcome::Silence,
        })
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let paths = self.handle.store().counters();
        let (_, counters) = paths.iter().find(|(path, _)| *path == CounterSet::Udp).expect("all paths are there");
        labelled(counters)
    }

    fn has_frames(&self) -> bool {
        false
    }

    fn clock(&self) -> Option<&Settings> {
        Some(self.handle.store().settings())
    }
}
