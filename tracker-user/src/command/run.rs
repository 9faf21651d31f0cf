//! `tracker run`: signals and log first, then the daemon.

use crate::{
    config::{Configuration, Given, Overrides},
    control::Reload,
    daemon::{
        log::{LAST_LINES, Log},
        panics,
        signals::{Blocked, Signals},
        start,
    },
    logging::{self, Filter},
    text::output,
};
use anyhow::Context as _;
use std::process::ExitCode;
use tracing::Level;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Runs the tracker. Signals and the log come first: whatever happens from then on, neither of them
/// ends the process unasked.
#[must_use]
pub fn run(given: Given) -> ExitCode {
    let (signals, log) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            output::complain(&format!("tracker: {error:#}\n"));
            return ExitCode::FAILURE;
        }
    };
    let result = Configuration::read_over(given.clone(), &Overrides::new()).and_then(|(options, configuration)| {
        configuration.startup.log_format.set();
        logging::set_filter(configuration.live.log.as_ref());
        start::run((options, &configuration), Reload::new(given), &signals)
    });
    logging::tell_repeats(true);
    let code = match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(next)) => {
            log.settle(LAST_LINES);
            let error = next.become_next();
            output::complain(&format!("tracker: {error:#}\n"));
            return ExitCode::FAILURE;
        }
        Err(error) => {
            let (destination, line) = logging::plain(Level::ERROR, &format!("tracker: {error:#}\n"));
            log.line(destination, line);
            ExitCode::FAILURE
        }
    };
    log.settle(LAST_LINES);
    code
}

fn prepare() -> anyhow::Result<(Signals, Log)> {
    let signals = Blocked::new()?;
    let log = Log::to_standard_error().context("cannot start the thread that writes the log")?;
    panics::abort_after_telling(log.clone());
    show_log(&log);
    // After the log, so that each signal that arrives is in it.
    Ok((signals.watch(log.clone())?, log))
}

/// Has events become lines of `log`, as far as they are wanted.
fn show_log(log: &Log) {
    let (filter, error) = Filter::of_environment();
    logging::set_filter(Some(&filter));
    let log = log.clone();
    let lines = logging::layer(Box::new(move |destination, line| log.line(destination, line)));
    tracing_subscriber::registry().with(lines).init();
    if let Some(error) = error {
        tracing::warn!("{error}");
    }
}
