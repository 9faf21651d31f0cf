//! The lower part of what `tracker top` shows: lists, of which one is chosen.

use super::{
    view::Styles,
    words::{grouped, rate},
};
use crate::statistics::figures::{Core, Figures, Refused, Torrent};
use ratatui::{
    style::Style,
    text::{Line, Span},
};

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Requests not answered as asked.
    Reasons,
    /// The largest swarms.
    Swarms,
    /// Network interfaces.
    Interfaces,
    /// Cores.
    Cores,
    /// Lists of torrents and addresses.
    Lists,
}

/// Columns of a meter.
const METER: usize = 20;

/// Columns of the numbers of a list.
const NUMBER: usize = 12;

impl Pane {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reasons, Self::Swarms, Self::Interfaces, Self::Cores, Self::Lists];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reasons => "reasons",
            Self::Swarms => "swarms",
            Self::Interfaces => "interfaces",
            Self::Cores => "cores",
            Self::Lists => "lists",
        }
    }

    /// The one that a digit stands for.
    #[must_use]
    pub fn numbered(digit: char) -> Option<Self> {
        let number = digit.to_digit(10)?.checked_sub(1)?;
        Self::ALL.get(number as usize).copied()
    }

    /// The next one, or the one before.
    #[must_use]
    pub fn step(self, by: isize) -> Self {
        let place = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        Self::ALL[place.wrapping_add_signed(by).wrapping_add(Self::ALL.len()) % Self::ALL.len()]
    }

    /// Its lines, the heading first. `then` are the figures of some seconds ago.
    #[must_use]
    pub fn lines(self, now: &Figures, then: Option<&Figures>, (width, styles): (u16, Styles)) -> Vec<Line<'static>> {
        match self {
            Self::Reasons => reasons(now, then, (width, styles)),
            Self::Swarms => swarms(now, (width, styles)),
            Self::Interfaces => interfaces(now, styles),
            Self::Cores => cores(now, then, (width, styles)),
            Self::Lists => lists(now, (width, styles)),
        }
    }
}

/// A text on the left and one on the right.
#[must_use]
pub fn row(left: &str, right: &str, width: u16) -> Line<'static> {
    let room = usize::from(width).saturating_sub(right.chars().count());
    let left: String = left.chars().take(room.saturating_sub(1)).collect();
    Line::raw(format!("{left:<room$}{right}"))
}

/// How full something is.
#[must_use]
pub fn meter(name: &str, share: f64, note: &str, (width, style): (u16, Style)) -> Line<'static> {
    let filled = ((share.clamp(0.0, 1.0) * METER as f64).round() as usize).min(METER);
    let room = usize::from(width).saturating_sub(METER + 26).max(8);
    let name: String = name.chars().take(room).collect();
    Line::from(vec![
        Span::raw(format!("{name:<room$} ")),
        Span::styled("█".repeat(filled), style),
        Span::raw("·".repeat(METER - filled)),
        Span::raw(format!("{:>6.1} %  {note}", share * 100.0)),
    ])
}

fn heading(text: String, styles: Styles) -> Line<'static> {
    Line::styled(text, styles.heading())
}

fn reasons(now: &Figures, then: Option<&Figures>, (width, styles): (u16, Styles)) -> Vec<Line<'static>> {
    let seconds = then.map_or(0.0, |then| now.time - then.time);
    let text = usize::from(width).saturating_sub(2 * NUMBER);
    let mut lines = vec![heading(
        format!("{:<text$}{:>NUMBER$}{:>NUMBER$}", "not answered as asked, and what to do", "per second", "in all"),
        styles,
    )];
    let mut reasons: Vec<&Refused> = now.reasons.iter().collect();
    reasons.sort_by_key(|refused| match refused.fate.as_str() {
        "told" => 0,
        "dropped" => 1,
        _ => 2,
    });
    for refused in reasons {
        let before = then.map_or(0, |then| {
            then.reasons.iter().find(|other| other.reason == refused.reason).map_or(0, |other| other.total)
        });
        let per_second =
            if seconds > 0.0 { rate(refused.total.saturating_sub(before) as f64 / seconds) } else { "–".into() };
        let words: String = refused.text.chars().take(text.saturating_sub(1)).collect();
        lines.push(Line::raw(format!("{words:<text$}{per_second:>NUMBER$}{:>NUMBER$}", grouped(refused.total))));
        lines.push(Line::styled(format!("  {}", refused.advice), styles.soft()));
    }
    if lines.len() == 1 {
        lines.push(Line::raw("nothing so far"));
    }
    lines
}

fn swarms(now: &Figures, (width, styles): (u16, Styles)) -> Vec<Line<'static>> {
    let text = usize::from(width).saturating_sub(3 * NUMBER);
    let title = |name| format!("{name:<text$}{:>NUMBER$}{:>NUMBER$}{:>NUMBER$}", "seeders", "leechers", "heard of");
    let line = |torrent: &Torrent| {
        let hash: String = torrent.info_hash.chars().take(text.saturating_sub(1)).collect();
        let [seeders, leechers, announced] =
            [torrent.seeders, torrent.leechers, torrent.announced].map(|number| grouped(number.into()));
        Line::raw(format!("{hash:<text$}{seeders:>NUMBER$}{leechers:>NUMBER$}{announced:>NUMBER$}"))
    };
    let mut lines = vec![heading(title("largest swarms"), styles)];
    lines.extend(now.top.iter().take(8).map(line));
    if !now.busiest.is_empty() {
        lines.push(heading(title("most announces in 5 minutes"), styles));
        lines.extend(now.busiest.iter().take(8).map(line));
    }
    if now.top.is_empty() {
        lines.push(Line::raw("none so far"));
    }
    lines
}

fn interfaces(now: &Figures, styles: Styles) -> Vec<Line<'static>> {
    let mut lines =
        vec![heading(format!("{:<16}{:<10}{:<14}{:<16}{}", "interface", "XDP", "driver", "queues", "note"), styles)];
    for interface in &now.interfaces {
        let queues = match (interface.receive_queues, interface.transmit_queues) {
            (0, _) => "–".to_owned(),
            (receive, transmit) => format!("{receive} in, {transmit} out"),
        };
        let style = if interface.mode == "off" { styles.alert() } else { Style::new() };
        let driver = if interface.driver.is_empty() { "–" } else { &interface.driver };
        let text = format!("{:<16}{:<10}{driver:<14}{queues:<16}{}", interface.name, interface.mode, interface.note);
        lines.push(Line::styled(text, style));
    }
    if now.interfaces.is_empty() {
        lines.push(Line::raw("XDP runs on none that is known here"));
    }
    lines
}

fn cores(now: &Figures, then: Option<&Figures>, (width, styles): (u16, Styles)) -> Vec<Line<'static>> {
    let done = |core: &Core| {
        let before = then.and_then(|then| then.cores.get(core.core as usize)).map_or(0, |before| before.answered);
        core.answered.saturating_sub(before) as f64
    };
    let all = now.cores.iter().map(done).sum::<f64>().max(1.0);
    let mut lines = vec![heading("share of each core in what XDP answers".into(), styles)];
    for core in &now.cores {
        let note = grouped(core.answered);
        lines.push(meter(&format!("core {}", core.core), done(core) / all, &note, (width, styles.curve())));
    }
    if now.cores.is_empty() {
        lines.push(Line::raw("XDP does not run"));
    }
    lines
}

fn lists(now: &Figures, (width, styles): (u16, Styles)) -> Vec<Line<'static>> {
    let lists = &now.lists;
    let mut lines = vec![heading("lists".into(), styles)];
    lines.push(Line::raw(if lists.allowed { "only torrents on a list are served" } else { "all torrents are served" }));
    if lists.denied {
        lines.push(Line::raw("torrents on a list are denied"));
    }
    for list in &lists.blocked {
        lines.push(row(&format!("addresses in {}", list.list), &format!("{} dropped", grouped(list.total)), width));
    }
    if let Some(cluster) = &now.cluster {
        let state = if cluster.connected { "connected" } else { "no connection" };
        let stored = format!("{} changes of others", grouped(cluster.stored));
        lines.push(row(&format!("cluster: {state} as {}", cluster.node), &stored, width));
        for node in &cluster.nodes {
            let right = format!("{} ms, {} missed", node.lag_milliseconds, grouped(node.gaps));
            lines.push(row(&format!("  {}, heard of {} s ago", node.name, node.silent_seconds), &right, width));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_are_a_circle() {
        for (number, pane) in Pane::ALL.iter().enumerate() {
            assert_eq!(pane.step(1).step(-1), *pane);
            assert_eq!(Pane::numbered(char::from(b'1' + number as u8)), Some(*pane));
        }
        assert_eq!(Pane::Lists.step(1), Pane::Reasons);
        for digit in ['0', '6', 'x'] {
            assert_eq!(Pane::numbered(digit), None);
        }
    }

    #[test]
    fn rows_and_meters_keep_their_width() {
        for (left, right, width, text) in
            [("a", "1", 5, "a   1"), ("abcdef", "12", 6, "abc 12"), ("abc", "123", 3, "123"), ("a", "123", 1, "123")]
        {
            assert_eq!(row(left, right, width).to_string(), text);
        }
        for (share, filled) in [(0.0, 0), (0.5, 10), (1.0, 20), (7.0, 20), (-1.0, 0), (f64::NAN, 0)] {
            let line = meter("x", share, "", (80, Style::new())).to_string();
            assert_eq!((line.matches('█').count(), line.matches('·').count()), (filled, 20 - filled), "{share}");
        }
    }
}
