//! The same for the admin API of the daemon itself: packets of some seconds, and no more than so many.

use super::{
    Filter,
    claim::Claim,
    line::{Clock, Names, request},
};
use crate::{store::Store, xdp::Loaded};
use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde_json::{Value, json};
use std::{
    io,
    time::{Duration, Instant},
};
use tracker_common::trace::{Record, Traced};

/// How long a packet is waited for before the claim is renewed.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// The packets, one JSON object each.
    pub packets: Vec<Value>,
    /// Packets that came faster than they were taken.
    pub lost: u32,
}

/// Takes the packets that `filter` wants, up to `count`, as they come within `time` and while `go_on`.
///
/// # Errors
/// When somebody else traces.
pub fn collect(
    (loaded, store): (&Loaded, &Store),
    filter: &Filter,
    (time, count): (Duration, usize),
    go_on: impl Fn() -> bool,
) -> anyhow::Result<Collected> {
    let settings = store.settings();
    let claim = Claim::take(settings, filter.wanted())?;
    let mut ring = loaded.traces()?;
    // Records from before were for somebody else.
    while ring.next().is_some() {}
    let lost_before = settings.traces_lost.load();
    let (mut names, clock) = (Names::default(), Clock::now());
    let (begin, mut packets) = (Instant::now(), Vec::new());
    while packets.len() < count && begin.elapsed() < time && go_on() {
        claim.renew()?;
        while packets.len() < count
            && let Some(item) = ring.next()
        {
            let Some(traced) = Record::read(&item).filter(|traced| filter.is_wanted(traced)) else { continue };
            let interface = names.of(traced.interface, settings);
            packets.push(object(&traced, &interface, clock.seconds(traced.time)));
        }
        if packets.len() < count {
            let mut files = [PollFd::new(&ring, PollFlags::IN)];
            match poll(&mut files, Some(&TURN)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error)).context("cannot wait for packets (poll)"),
            }
        }
    }
    drop(claim);
    Ok(Collected { packets, lost: settings.traces_lost.load().wrapping_sub(lost_before) })
}

/// A packet that came in at `time`, in seconds since 1970.
fn object(traced: &Traced<'_>, interface: &str, time: f64) -> Value {
    let hex = |hash: &[u8; 20]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let asked = traced.request.as_ref();
    let [source, destination] = match traced.flow {
        // Fragments have no ports.
        Some(flow) if flow.iter().all(|address| address.port() == 0) => {
            flow.map(|address| Some(address.ip().to_string()))
        }
        Some(flow) => flow.map(|address| Some(address.to_string())),
        None => [None, None],
    };
    json!({
        "time": time,
        "interface": interface,
        "source": source,
        "destination": destination,
        "request": asked.and_then(|asked| asked.action).map(|action| request(Some(action))),
        "bytes": asked.map(|asked| asked.length),
        "outcome": traced.outcome.label(),
        "list": (traced.list != 0).then_some(traced.list),
        "action": traced.action.label(),
        "info_hashes": asked.map_or_else(Vec::new, |asked| asked.info_hashes.iter().map(hex).collect()),
        "hashes": asked.map_or(0, |asked| asked.hashes),
    })
}
