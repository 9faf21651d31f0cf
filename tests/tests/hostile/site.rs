//! A tracker under attack, and what has to hold of it.

use crate::{
    honest::{self, Kind, Phase, Tally},
    vitals::{self, Vitals},
};
use std::{
    env,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    namespace::Pair,
    patience,
    tracker::{Metrics, Tracker},
};

/// Set by `cargo xtask hostile`.
const LONG: &str = "TRACKER_TESTS_HOSTILE";

/// Whether there is time for more than a few seconds each.
pub fn is_long() -> bool {
    env::var(LONG).is_ok_and(|value| value == "long")
}

/// The first of both in the usual tests, the second where there is time.
pub fn scaled<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// How long an attack lasts that could go on for ever.
pub fn duration() -> Duration {
    Duration::from_millis(scaled(800, 10_000))
}

/// Requests by which somebody is judged.
const FEWEST: u64 = 3;

/// What has to hold of an attack.
#[derive(Clone, Copy)]
pub struct Expected {
    /// Who is served all the time.
    pub during: &'static [Kind],
    /// Who is served before and after it.
    pub around: &'static [Kind],
    /// The most lines that it may add to the log.
    pub lines: usize,
}

/// Everybody is served all the time, and there is little to say of it.
pub const UNIMPRESSED: Expected = Expected { during: &Kind::ALL, around: &Kind::ALL, lines: 5 };

/// A tracker on its host, and a host of clients, honest ones and others.
pub struct Site {
    pub tracker: Tracker,
    pub pair: Pair,
}

/// Two attacks at a time: how honest clients are served says nothing if more fight for the processors.
fn turn() -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
    let free = TURNS.iter().find_map(|turn| turn.try_lock().ok());
    free.unwrap_or_else(|| TURNS[0].lock().unwrap_or_else(PoisonError::into_inner))
}

impl Site {
    /// A tracker whose XDP program runs in the driver.
    pub fn new() -> Self {
        Self::with(&["--xdp-mode", "native"], |_| ())
    }

    /// A tracker with more options, and a command that `prepare` has changed.
    pub fn with(options: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let pair = Pair::new().expect("two namespaces");
        // Whoever invents an address does not keep the tracker's replies from leaving.
        let gateway = (Pair::client_v4(0), Pair::client_v6(0));
        pair.server.ip(&format!("route add default via {}", gateway.0)).expect("a route");
        pair.server.ip(&format!("-6 route add default via {}", gateway.1)).expect("a route");
        let usual = [
            &["--interface", Pair::SERVER_INTERFACE, "--http-idle-timeout", "3"][..],
            &["--max-torrents", "20000", "--max-peers", "40000"],
        ];
        let tracker =
            Tracker::start_in(&pair.server, &[&usual.concat(), options].concat(), prepare).expect("the tracker runs");
        // What is said at the start is not said because of an attack.
        let deadline = Instant::now() + patience(Duration::from_secs(20));
        let mut lines = 0;
        while (!tracker.log().contains("is running") || lines < tracker.log().lines().count())
            && Instant::now() < deadline
        {
            lines = tracker.log().lines().count();
            thread::sleep(Duration::from_millis(150));
        }
        Self { tracker, pair }
    }

    pub fn metrics(&self) -> Metrics {
        self.tracker.metrics(&self.pair.server).expect("metrics")
    }

    /// Lets honest clients ask before, during and after the attack, and looks at what it has left
    /// behind.
    ///
    /// # Panics
    /// When something is not as expected.
    pub fn attack(&self, name: &str, expected: Expected, attack: impl FnOnce()) {
        let _turn = turn();
        let calm = Duration::from_millis(scaled(300, 3000));
        let process = self.tracker.process();
        let before = Vitals::read(process);
        let lines = self.tracker.log().lines().count();
        let tally = Tally::default();
        thread::scope(|scope| {
            // Ends the honest clients even if the attack fails.
            let _end = honest::Begun(&tally);
            for kind in Kind::ALL {
                let (pair, tally) = (&self.pair, &tally);
                scope.spawn(move || honest::ask(kind, pair, tally));
            }
            thread::sleep(calm);
            tally.begin(Phase::During);
            attack();
            tally.begin(Phase::After);
            thread::sleep(calm);
            // What was sent during the attack and got lost is waited for first.
            let deadline = Instant::now() + patience(Duration::from_secs(30));
            while expected.around.iter().any(|kind| tally.of(Phase::After, *kind).0 < FEWEST)
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let after = vitals::settled(process, &before);
        let lines = self.tracker.log().lines().count() - lines;
        println!("{name}: {tally}; {after}; {lines} lines of log");
        for (phase, kinds) in
            [(Phase::Before, expected.around), (Phase::During, expected.during), (Phase::After, expected.around)]
        {
            for kind in kinds {
                let (sent, answered) = tally.of(phase, *kind);
                assert!(sent >= FEWEST, "{name}: {kind:?} has asked {sent} times only, {phase:?}");
                assert!(
                    answered + (sent / 100).max(1) >= sent,
                    "{name}: {kind:?}, {phase:?}: {answered} of {sent} were answered: {}\n{}",
                    tally.complaint(),
                    self.tracker.log()
                );
            }
        }
        assert!(lines <= expected.lines, "{name}: {lines} lines more in the log:\n{}", self.tracker.log());
        let faults = after.faults(&before);
        assert!(faults.is_empty(), "{name}: {}\n{}", faults.join("; "), self.tracker.log());
    }
}
