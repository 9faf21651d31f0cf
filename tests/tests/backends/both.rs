//! The program for network cards in front of the one in the driver: each frame goes through the one,
//! and what that passes on, through the other. The card's runs in the machine's own memory, as no
//! simulated card executes anything.

use super::{Backend, Outcome, xdp::XdpProgram};
use anyhow::Result;
use std::{collections::BTreeMap, net::SocketAddr};
use tracker::{
    store::sizes::Sizes,
    xdp::{
        card::{
            program::Program,
            told::{Blocked, told},
        },
        destinations::Destinations,
    },
};
use tracker_common::{outcome::IpVersion, settings::Settings};
use tracker_tests::{
    bpf,
    decision_table::{TRACKER, TRACKER_MAC, TRACKER_PORT, Verdict},
    packet::{Datagram, Frame},
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

pub(crate) struct Both {
    pub(crate) card: Program,
    pub(crate) driver: XdpProgram,
    pub(crate) blocked: Blocked,
    /// What the card has done: answered, dropped, passed on.
    pub(crate) done: [u64; 3],
    counted: [u64; 6],
}

impl Both {
    pub(crate) fn load(sizes: &Sizes) -> Result<Self> {
        let driver = XdpProgram::load(sizes)?;
        driver.store.settings().card.store(1);
        let card = Program::load(0)?;
        Ok(Self { card, driver, blocked: Blocked::default(), done: [0; 3], counted: [0; 6] })
    }

    /// Tells the card what the daemon would.
    pub(crate) fn tell(&mut self) -> Result<(), String> {
        let settings = self.driver.store.settings();
        settings.heartbeat.store(settings.second.load());
        let destinations = Destinations {
            interfaces: vec![(1, TRACKER_MAC, 1500)],
            listeners: TRACKER.iter().map(|address| SocketAddr::new(*address, TRACKER_PORT)).collect(),
            ..Destinations::default()
        };
        self.card.tell(&told(settings, &destinations, 1, &self.blocked)).map_err(|error| error.to_string())
    }
}

impl Backend for Both {
    fn send(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Outcome, String> {
        self.tell()?;
        let (action, out) = bpf::test_run(self.card.file(), bytes).map_err(|error| format!("{error:#}"))?;
        let wrong = |error| format!("{error:#}; the card's reply is {out:02x?}");
        match action {
            XDP_TX => {
                self.done[0] += 1;
                let reply = Datagram::parse(&out).map_err(wrong)?;
                reply.check_answers(frame).map_err(wrong)?;
                // But for the id, and the checksum over it, what the driver would have answered.
                let (action, expected) =
                    bpf::test_run(self.driver.program.entry(), bytes).map_err(|error| format!("{error:#}"))?;
                if action != XDP_TX {
                    return Err(format!("the card answered what the driver returns {action} for"));
                }
                let udp = if frame.source.is_ipv4() { 34 } else { 54 };
                let same = |from, to| out.get(from..to) == expected.get(from..to);
                if out.len() != expected.len()
                    || !same(0, udp + 6)
                    || !same(udp + 8, udp + 16)
                    || !same(udp + 24, out.len())
                {
                    return Err(format!("the card answered {out:02x?} instead of {expected:02x?}"));
                }
                Ok(Outcome::Answered(reply.payload))
            }
            XDP_DROP => {
                self.done[1] += 1;
                match self.driver.send(frame, bytes)? {
                    Outcome::Unanswered(Verdict::Dropped) => Ok(Outcome::Unanswered(Verdict::Dropped)),
                    other @ (Outcome::Answered(_) | Outcome::Silence | Outcome::Unanswered(Verdict::Passed)) => {
                        Err(format!("the card dropped what the driver does this with: {other:?}"))
                    }
                }
            }
            XDP_PASS if out != bytes => Err(format!("passed on by the card, but changed to {out:02x?}")),
            XDP_PASS => {
                self.done[2] += 1;
                self.driver.send(frame, bytes)
            }
            other => Err(format!("the card's program returned {other}")),
        }
    }

    /// The driver's: it is asked about everything.
    fn counters(&mut self) -> BTreeMap<String, u64> {
        for (sum, since) in self.counted.iter_mut().zip(self.card.counted().expect("readable")) {
            *sum += u64::from(since);
        }
        let connects = self.counted[IpVersion::V4 as usize] + self.counted[IpVersion::V6 as usize];
        let answers_and_drops = [connects, self.counted[2..].iter().sum()];
        assert_eq!(answers_and_drops, [self.done[0], self.done[1]], "all is counted: {:?}", self.counted);
        self.driver.counters()
    }

    fn has_frames(&self) -> bool {
        true
    }

    fn clock(&self) -> Option<&Settings> {
        self.driver.clock()
    }
}
