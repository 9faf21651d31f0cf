//! Writes the snapshot at intervals, in the background, and at the end.
//!
//! In the background it takes a twentieth of a core at most, as the sweep does: after each
//! millisecond of work the thread rests. At the end it takes what it needs.

use super::{
    Plan, Totals,
    directory::{self, Claim},
    format::Header,
    walk::Walk,
    wall_clock,
    write::Writer,
};
use crate::{
    service::{Service, Shutdown},
    store::{Store, sweep::processor_time},
    text::{human_bytes, plural},
};
use anyhow::Context as _;
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// Processor time after which the thread rests.
const BATCH: Duration = Duration::from_millis(1);

/// So many times as long as it has worked.
const REST: u32 = 19;

/// A snapshot that could not be written is tried again after this time, or after the interval if
/// that is shorter.
const RETRY: Duration = Duration::from_secs(60);

/// What has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// How much there is in it.
    pub totals: Totals,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes snapshots of a store.
pub struct Saver {
    store: Arc<Store>,
    plan: Plan,
    state: Mutex<State>,
}

struct State {
    claim: Option<Claim>,
    /// What was said last of a failure that has not ended.
    failing: Option<String>,
}

impl Saver {
    /// For this store. Claims the directory, so that nobody else changes the file meanwhile; what
    /// hinders that is told when a snapshot is due.
    #[must_use]
    pub fn new(store: Arc<Store>, plan: Plan) -> Arc<Self> {
        let claim = directory::claim(&plan.directory).unwrap_or_default();
        Arc::new(Self { store, plan, state: Mutex::new(State { claim, failing: None }) })
    }

    /// Writes a snapshot without a rest, and tells how that went: at the end, when nobody changes
    /// the store any more.
    pub fn save_at_end(&self) {
        let begin = Instant::now();
        let result = self.save(&mut || true);
        if let Some(Saved { totals, bytes }) = self.tell(result) {
            info!(
                "the snapshot {} has {} and {}: {} in {:.1} s",
                self.plan.path().display(),
                plural(totals.torrents, "torrent", "torrents"),
                plural(totals.peers_v4 + totals.peers_v6, "peer", "peers"),
                human_bytes(bytes),
                begin.elapsed().as_secs_f64()
            );
        }
    }

    /// Writes a snapshot. After some work `go_on` is asked; if it says no, the old file stays, and
    /// `None` is returned.
    ///
    /// # Errors
    /// When it cannot be written; the old file stays.
    pub fn save(&self, go_on: &mut impl FnMut() -> bool) -> anyhow::Result<Option<Saved>> {
        let Plan { directory, peers, .. } = &self.plan;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.claim.is_none() {
            state.claim = directory::claim(directory)?;
        }
        let claim = state.claim.as_ref().context("another tracker keeps its own there")?;
        let header = Header { peers: *peers, taken_at: wall_clock(), id: getrandom::u64().unwrap_or_default() };
        directory::replace(directory, claim, |file| {
            let mut writer = Writer::new(BufWriter::with_capacity(64 << 10, file), &header)?;
            if !Walk::new(&self.store, *peers).run(&mut writer, go_on)? {
                return Ok(None);
            }
            let (mut file, totals) = writer.finish()?;
            file.flush()?;
            let file: &mut File = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            Ok(Some(Saved { totals, bytes: file.metadata()?.len() }))
        })
    }

    /// Writes a snapshot now, for somebody who waits for it. `None` if one is being written.
    ///
    /// # Errors
    /// As for [`Saver::save`].
    pub fn save_now(&self) -> anyhow::Result<Option<Saved>> {
        if matches!(self.state.try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok(None);
        }
        let result = self.save(&mut || true);
        let said = result.as_ref().err().map(|error| format!("{error:#}"));
        let saved = self.tell(result);
        said.map_or(Ok(saved), |error| Err(anyhow::anyhow!(error)))
    }

    /// Says once what is wrong, and once that it is right again.
    fn tell(&self, result: anyhow::Result<Option<Saved>>) -> Option<Saved> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.plan.path();
        match result {
            Ok(saved) => {
                if saved.is_some() && state.failing.take().is_some() {
                    info!("the snapshot {} can be written again", path.display());
                }
                saved
            }
            Err(error) => {
                let error = format!("{error:#}");
                if state.failing.as_ref() != Some(&error) {
                    warn!(
                        "the snapshot {} cannot be written: {error}; the old one stays if there is one, and it is tried again \
                         and again",
                        path.display()
                    );
                    state.failing = Some(error);
                }
                None
            }
        }
    }
}

/// Writes snapshots at intervals.
pub struct Periodic {
    saver: Arc<Saver>,
    at_once: bool,
}

impl Periodic {
    /// The first one at once, or after an interval.
    #[must_use]
    pub fn new(saver: Arc<Saver>, at_once: bool) -> Self {
        Self { saver, at_once }
    }
}

impl Service for Periodic {
    fn name(&self) -> String {
        "snapshot".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self { saver, at_once } = self;
        let interval = saver.plan.interval;
        let mut wait = if at_once { Duration::ZERO } else { interval };
        while shutdown.sleep(wait) {
            let (begin, mut worked) = (Instant::now(), processor_time());
            let result = saver.save(&mut || {
                let batch = processor_time().saturating_sub(worked);
                let goes_on = if batch >= BATCH { shutdown.sleep(batch * REST) } else { !shutdown.has_begun() };
                if batch >= BATCH {
                    worked = processor_time();
                }
                goes_on
            });
            wait = if result.is_err() { interval.min(RETRY) } else { interval };
            if let Some(Saved { totals, bytes }) = saver.tell(result) {
                debug!("snapshot: {totals:?}, {} in {:.1} s", human_bytes(bytes), begin.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }
}
