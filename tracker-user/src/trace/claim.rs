//! The right to trace: one process at a time has it, because a ring buffer has one reader.

use anyhow::bail;
use std::{
    process, thread,
    time::{Duration, Instant},
};
use tracker_common::settings::Settings;

/// How many seconds ahead the program is told to trace.
const AHEAD: u32 = 3;

/// The right of this process to trace. Dropping it ends tracing.
pub struct Claim<'a> {
    settings: &'a Settings,
    process: u32,
}

impl<'a> Claim<'a> {
    /// Begins to trace packets with the outcomes whose bits are set in `wanted`. If another process
    /// was killed while it traced, waits a few seconds until its time is over.
    ///
    /// # Errors
    /// When another process traces.
    pub fn take(settings: &'a Settings, wanted: u64) -> anyhow::Result<Self> {
        Self::take_as(settings, wanted, process::id())
    }

    fn take_as(settings: &'a Settings, wanted: u64, process: u32) -> anyhow::Result<Self> {
        let first = settings.trace_until.load();
        let deadline = Instant::now() + Duration::from_secs(u64::from(AHEAD) + 2);
        loop {
            let (until, second) = (settings.trace_until.load(), settings.second.load());
            if (until == 0 || until < second) && settings.trace_until.replace(until, second + AHEAD) {
                settings.tracer.store(process);
                settings.trace_wanted.store(wanted);
                return Ok(Self { settings, process });
            }
            if until > first.max(second) + 1 && until != first || Instant::now() > deadline {
                bail!(
                    "process {} traces this tracker already, and only one can at a time: end it, or wait until it has ended",
                    settings.tracer.load()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Keeps tracing on. Has to be called once a second at least.
    ///
    /// # Errors
    /// When another process has taken over, because this one has stood still for too long.
    pub fn renew(&self) -> anyhow::Result<()> {
        if !self.is_ours() {
            bail!("process {} traces this tracker now: this one had stood still", self.settings.tracer.load());
        }
        self.settings.trace_until.store(self.settings.second.load() + AHEAD);
        Ok(())
    }

    fn is_ours(&self) -> bool {
        self.settings.tracer.load() == self.process
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.is_ours() {
            self.settings.tracer.store(0);
            self.settings.trace_until.store(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clock;

    fn settings() -> Settings {
        let settings = Settings::default();
        clock::set(&settings, 1000);
        settings
    }

    #[test]
    fn tracing_is_on_while_somebody_traces() {
        let settings = settings();
        let claim = Claim::take_as(&settings, 6, 77).expect("nobody else");
        let words = || (settings.trace_until.load(), settings.trace_wanted.load(), settings.tracer.load());
        assert_eq!(words(), (1003, 6, 77));
        clock::set(&settings, 1001);
        claim.renew().expect("still ours");
        assert_eq!(words(), (1004, 6, 77));
        drop(claim);
        assert_eq!((settings.trace_until.load(), settings.tracer.load()), (0, 0));
    }

    #[test]
    fn clock_ends_what_was_left_on() {
        let settings = settings();
        std::mem::forget(Claim::take_as(&settings, 6, 77).expect("nobody else"));
        for (second, until) in [(1002, 1003), (1003, 1003), (1004, 0)] {
            clock::set(&settings, second);
            assert_eq!(settings.trace_until.load(), until, "second {second}");
        }
        // And the next process can begin.
        assert!(Claim::take_as(&settings, 6, 78).is_ok());
    }

    #[test]
    fn second_tracer_is_told_of_the_first() {
        let settings = settings();
        let first = Claim::take_as(&settings, 6, 77).expect("nobody else");
        thread::scope(|scope| {
            let second = scope.spawn(|| Claim::take_as(&settings, 1, 78).map(drop));
            while !second.is_finished() {
                thread::sleep(Duration::from_millis(20));
                clock::set(&settings, settings.second.load() + 1);
                first.renew().expect("still ours");
            }
            let error = second.join().expect("no panic").expect_err("somebody traces");
            assert!(error.to_string().contains("process 77 traces"), "{error}");
        });
        assert_eq!(settings.trace_wanted.load(), 6, "the first is not disturbed");
    }

    #[test]
    fn tracer_that_stood_still_does_not_disturb_the_next() {
        let settings = settings();
        let first = Claim::take_as(&settings, 6, 77).expect("nobody else");
        clock::set(&settings, 1010);
        let second = Claim::take_as(&settings, 1, 78).expect("the first stands still");
        assert!(first.renew().is_err());
        drop(first);
        assert_eq!((settings.trace_until.load(), settings.tracer.load()), (1013, 78));
        drop(second);
    }
}
