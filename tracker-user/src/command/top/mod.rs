//! `tracker top`: how a tracker is going, in the terminal. The figures are those of the operator's
//! page.
//!
//! | module | does |
//! |---|---|
//! | [`source`] | where figures come from: the operator's door, or a pinned store |
//! | [`http`] | a request to that door |
//! | [`pinned`] | a pinned store without a tracker |
//! | [`view`] | what is drawn |
//! | [`words`] | numbers and times |
//! | [`panes`] | the lower part, of which there are several |

pub mod http;
pub mod panes;
pub mod pinned;
pub mod source;
pub mod view;
pub mod words;

use crate::text::output;
use anyhow::{Context as _, ensure};
use clap::Args;
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};
use source::Source;
use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use view::View;

const KEYS: &str = "\
Keys: q or Esc ends, Tab or 1 to 5 choose what is below, p pauses. With NO_COLOR in the environment nothing is coloured.";

/// Options of `tracker top`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = KEYS)]
pub struct TopOptions {
    /// The operator's door: http://HOST:PORT, HOST:PORT or unix:/PATH
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:6969")]
    pub url: String,
    /// The token is the first line of this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Show the store that is pinned in this directory, whether a tracker runs or not; takes root
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "token_file")]
    pub pin_path: Option<PathBuf>,
    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub interval: u64,
    /// Print once what would be shown in 80 columns, and end
    #[arg(long)]
    pub once: bool,
}

/// Shows the figures until somebody has seen enough.
///
/// # Errors
/// When there are none to begin with, or no terminal.
pub fn run(options: &TopOptions) -> anyhow::Result<ExitCode> {
    let mut source = Source::open(options)?;
    let coloured = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut view = View::new(source.name(), coloured && !options.once);
    view.take(source.figures()?);
    if let Ok(history) = source.history() {
        view.remember(&history);
    }
    if options.once {
        return Ok(output::print(&once(&mut view)?));
    }
    ensure!(io::stdout().is_terminal(), "standard output is no terminal; --once prints the figures without one");
    // Undoes itself when something panics, too.
    let mut terminal = ratatui::try_init().context("the terminal cannot be set up")?;
    let result = watch(&mut terminal, &mut source, &mut view, Duration::from_secs(options.interval));
    ratatui::restore();
    result.map(|()| ExitCode::SUCCESS)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all keys but those that end it are the view's")]
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    source: &mut Source,
    view: &mut View,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut next = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view.draw(frame)).context("the terminal cannot be drawn on")?;
        if event::poll(next.saturating_duration_since(Instant::now())).context("the terminal cannot be read")? {
            // Anything else than a key is drawn anew for: the size may have changed.
            if let Event::Key(key) = event::read().context("the terminal cannot be read")?
                && key.kind != KeyEventKind::Release
            {
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    code => view.key(code),
                }
            }
            continue;
        }
        next = Instant::now() + interval;
        if view.paused {
            continue;
        }
        match source.figures() {
            Ok(figures) => view.take(figures),
            Err(error) => view.lose(format!("{error:#}")),
        }
    }
}

/// What is shown in 80 columns and as many lines as it takes.
fn once(view: &mut View) -> anyhow::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(80, 48))?;
    terminal.draw(|frame| view.draw(frame))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for line in buffer.content().chunks(usize::from(buffer.area.width)) {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(format!("{}\n", text.trim_end()))
}
