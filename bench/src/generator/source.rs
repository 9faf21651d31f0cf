//! The maps of the generator and the load that they say: what may be used while frames are being
//! made.

use std::{thread, time::Duration};

use bench_ebpf::{Load, PACE_SHIFT, Progress, REQUEST_SCRAPE, Replies};

use crate::{cores::Cores, object::Maps};

/// Replies still on their way after a run are waited for this long.
const DRAIN: Duration = Duration::from_millis(50);

/// The part of the generator that is used while frames are being made.
pub struct Source {
    pub maps: Maps,
    pub load: Load,
    pub cores: Cores,
    /// Requests that had to be replaced in closed loops.
    pub refilled: u64,
}

impl Source {
    pub fn replies(&self) -> anyhow::Result<Replies> {
        self.maps.replies(self.cores.load)
    }

    pub fn progress(&self) -> anyhow::Result<Progress> {
        self.maps.progress(self.cores.load)
    }

    /// Whether a reply can be made as long as a request: a frame from a socket has room for a few
    /// hundred bytes more.
    pub fn can_turn_replies(&self) -> bool {
        const ROOM: u32 = 150;
        self.load.request != REQUEST_SCRAPE || (20 - 12) * self.load.hashes < ROOM
    }

    pub fn start(&mut self, rate: Option<f64>, sequence_limit: u64, closed_loop: bool) -> anyhow::Result<()> {
        self.load.pace = rate.map_or(0, |rate| ((1e9 * (1u64 << PACE_SHIFT) as f64) / rate).round() as u64);
        self.load.sequence_limit = sequence_limit;
        self.load.closed_loop = u32::from(closed_loop);
        self.maps.set_load(&self.load)
    }

    /// Nothing is sent from here on, and what is on its way has come back or is lost.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.start(None, 0, false)?;
        thread::sleep(DRAIN);
        Ok(())
    }
}
