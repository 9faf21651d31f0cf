//! `tracker run`: signals and log first, then the daemon.

use crate::{
    config::{Configuration, Given},
    daemon::{
        log::{LAST_LINES, Log},
        panics,
        reload::Reload,
        signals::{Blocked, Signals},
        start,
    },
    text::output,
};
use anyhow::Context as _;
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

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
    let result = Configuration::read(given.clone())
        .and_then(|configuration| start::run(&configuration, &Reload::new(given), &signals));
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.line(format!("tracker: {error:#}\n").into_bytes());
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

/// Has events written to `log`, as far as RUST_LOG wants them.
fn show_log(log: &Log) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let parsed = if wanted.is_empty() { Ok(Targets::new()) } else { wanted.parse::<Targets>() };
    let (targets, error) = match parsed {
        Ok(targets) => (targets, None),
        Err(error) => (Targets::new(), Some(error)),
    };
    let level = targets.default_level().unwrap_or(LevelFilter::INFO);
    // The loader tells of every instruction it touches.
    let loader = level.min(LevelFilter::INFO);
    let targets = targets.with_default(level).with_target("aya", loader).with_target("aya_obj", loader);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(log.clone())
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        // It would go to standard error by another way.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
    if let Some(error) = error {
        tracing::warn!(
            "RUST_LOG is {wanted:?}, which is not understood ({error}); it can be error, warn, info, debug or off. Going on \
             with info"
        );
    }
}
