//! The command `tracker`.

use anyhow::Context as _;
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use tracker_user::{
    config::{Command, CommandLine, Configuration, Options, SizeOptions, limits},
    daemon::{
        log::{LAST_LINES, Log},
        panics,
        signals::{Blocked, Signals},
        start,
    },
    http,
    store::sizes::{self, Sizes},
    text::output,
    trace,
};

fn main() -> ExitCode {
    let command = match CommandLine::read(std::env::args_os()) {
        Ok(line) => line.command,
        // Help and version come this way, too.
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(error) => return output::exit_code(error.print()),
    };
    match command {
        Command::Run(options) => run(options),
        Command::Sizes(options) => match sizes(&options) {
            Ok(text) => output::print(&text),
            Err(error) => {
                output::complain(&format!("tracker: {error:#}\n"));
                ExitCode::FAILURE
            }
        },
        Command::Trace(options) => trace::run(&options).unwrap_or_else(|error| {
            output::complain(&format!("tracker: {error:#}\n"));
            ExitCode::FAILURE
        }),
        Command::Version => output::print(&format!("tracker {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// Signals and the log come first: whatever happens from then on, neither of them ends the process unasked.
fn run(options: Options) -> ExitCode {
    let (signals, log) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            output::complain(&format!("tracker: {error:#}\n"));
            return ExitCode::FAILURE;
        }
    };
    let result =
        options.with_file().and_then(Configuration::new).and_then(|configuration| start::run(&configuration, &signals));
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
    // Whoever sends one has to find it in the log.
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

fn sizes(options: &SizeOptions) -> anyhow::Result<String> {
    let limits = limits(options.max_torrents, options.max_peers, options.max_peers_v6)?;
    let sizes = Sizes::new(&limits)?;
    Ok(format!(
        "Room for {limits}\n\n{sizes}\n\n\
         {:>6.1} bytes per torrent with one IPv4 peer (record and index)\n\
         {:>6.1} bytes per further IPv4 peer in a big swarm\n\
         {:>6.1} bytes per further IPv6 peer in a big swarm\n\n{}\n",
        sizes::bytes_per_torrent(),
        sizes::bytes_per_peer_v4(),
        sizes::bytes_per_peer_v6(),
        http::memory::Memory { limits: &http::Limits::default(), torrents: limits.torrents }
    ))
}
