//! What `tracker top` draws. The upper part is always there: what is asked by which path, what is
//! stored, how the last minutes went. What is below can be chosen; on a large terminal several parts
//! are there at once.

use super::{
    panes::{Pane, meter, row},
    words::{grouped, rate, span},
};
use crate::{
    statistics::{
        figures::{Figures, History, PerSecond},
        timeline::PATHS,
    },
    text::human_bytes,
};
use crossterm::event::KeyCode;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Sparkline, Table},
};
use std::collections::VecDeque;

/// Points of the curve that are kept: more than a terminal has columns.
const POINTS: usize = 720;

/// Looks that figures are compared over.
const KEPT: usize = 11;

/// How things are marked.
#[derive(Clone, Copy)]
pub struct Styles {
    /// Whether there are colours.
    pub coloured: bool,
}

impl Styles {
    fn colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    /// Headings.
    #[must_use]
    pub fn heading(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What is of less importance.
    #[must_use]
    pub fn soft(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What somebody should look at.
    #[must_use]
    pub fn alert(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Curves and meters.
    #[must_use]
    pub fn curve(self) -> Style {
        self.colour(Color::Cyan)
    }
}

/// See the module's text.
pub struct View {
    source: String,
    styles: Styles,
    kept: VecDeque<Figures>,
    curve: VecDeque<u64>,
    pane: Pane,
    lost: Option<String>,
    /// Whether it stands still.
    pub paused: bool,
}

type Pick = fn(&PerSecond) -> f64;

/// Rows of the upper part.
const KINDS: [(&str, Pick); 5] = [
    ("announces", |rates| rates.announce),
    ("connects", |rates| rates.connect),
    ("scrapes", |rates| rates.scrape),
    ("told an error", |rates| rates.failed),
    ("dropped", |rates| rates.rejected),
];

impl View {
    /// Of figures from `source`.
    #[must_use]
    pub fn new(source: String, coloured: bool) -> Self {
        Self {
            source,
            styles: Styles { coloured },
            kept: VecDeque::new(),
            curve: VecDeque::new(),
            pane: Pane::Reasons,
            lost: None,
            paused: false,
        }
    }

    /// New figures.
    pub fn take(&mut self, figures: Figures) {
        if self.kept.back().is_some_and(|last| last.started_at != figures.started_at) {
            self.kept.clear();
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.lost = None;
        self.kept.push_back(figures);
        let sum = self.paths().iter().map(PerSecond::answered).sum::<f64>();
        self.point(sum);
    }

    fn point(&mut self, per_second: f64) {
        if self.curve.len() == POINTS {
            self.curve.pop_front();
        }
        self.curve.push_back(per_second.round() as u64);
    }

    /// What was before the first look.
    pub fn remember(&mut self, history: &History) {
        let now = std::mem::take(&mut self.curve);
        for point in 0..history.points {
            let of =
                |path: &str, kind| history.columns.get(&format!("{path}_{kind}")).and_then(|points| points.get(point));
            let kinds = PATHS.iter().flat_map(|path| ["connect", "announce", "scrape"].map(|kind| of(path, kind)));
            let sum: f64 = kinds.flatten().map(|points| f64::from(*points)).sum();
            // A point of the history is of several seconds.
            for _ in 0..history.step_seconds {
                self.point(sum);
            }
        }
        now.iter().for_each(|point| self.point(*point as f64));
    }

    /// There are no new figures, and why.
    pub fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// Somebody has pressed a key.
    #[expect(clippy::wildcard_enum_match_arm, reason = "keys that mean nothing are many")]
    pub fn key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Tab | KeyCode::Right => self.pane = self.pane.step(1),
            KeyCode::BackTab | KeyCode::Left => self.pane = self.pane.step(-1),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char(digit) => self.pane = Pane::numbered(digit).unwrap_or(self.pane),
            _ => {}
        }
    }

    /// Per second, path by path: as the tracker says, or, where none runs, by what was counted between
    /// two looks.
    fn paths(&self) -> Vec<PerSecond> {
        let (Some(now), Some(then)) = (self.kept.back(), self.kept.front()) else { return Vec::new() };
        let seconds = now.time - then.time;
        let of = |number: usize| {
            let path = &now.paths[number];
            let Some(before) = then.paths.get(number).filter(|_| now.uptime_seconds == 0 && seconds > 0.0) else {
                return path.per_second;
            };
            let per = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            PerSecond {
                connect: per(path.connect.sum(), before.connect.sum()),
                announce: per(path.announce.sum(), before.announce.sum()),
                scrape: per(path.scrape.sum(), before.scrape.sum()),
                failed: per(path.failed.sum(), before.failed.sum()),
                rejected: per(path.rejected, before.rejected),
            }
        };
        (0..now.paths.len()).map(of).collect()
    }

    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let Some(figures) = self.kept.back() else { return };
        let area = frame.area();
        let [head, upper, curve, memory, lower, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(7),
            Constraint::Length(if area.height >= 22 { 3 } else { 0 }),
            Constraint::Length(match area.height {
                ..18 => 0,
                18..30 => 5,
                30.. => 6,
            }),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        self.head(frame, head, figures);
        let [requests, gap, stored] =
            Layout::horizontal([Constraint::Fill(5), Constraint::Length(3), Constraint::Fill(3)]).areas(upper);
        let _ = gap;
        self.requests(frame, requests, figures);
        self.stored(frame, stored, figures);
        self.curve(frame, curve);
        self.memory(frame, memory, figures);
        self.lower(frame, lower, figures);
        frame.render_widget(self.foot(foot.width), foot);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect, figures: &Figures) {
        let state = match (&self.lost, self.paused) {
            (Some(why), _) => Span::styled(format!("LOST: {why}"), self.styles.alert()),
            (None, true) => Span::styled("paused", self.styles.alert()),
            (None, false) if figures.uptime_seconds == 0 => Span::raw("as the kernel has it"),
            (None, false) => Span::raw(format!("up {}", span(figures.uptime_seconds))),
        };
        let line = Line::from(vec![
            Span::styled(format!("tracker {}", figures.version), self.styles.heading()),
            Span::raw("  "),
            state,
            Span::styled(format!("  {}", self.source), self.styles.soft()),
        ]);
        frame.render_widget(Paragraph::new(line), area);
    }

    fn requests(&self, frame: &mut Frame<'_>, area: Rect, figures: &Figures) {
        let rates = self.paths();
        let right = |text: String| Cell::from(Line::raw(text).right_aligned());
        let names = figures.paths.iter().map(|path| match path.path.as_str() {
            "udp_socket" => "sockets".to_owned(),
            _ => path.name.clone(),
        });
        let head = [Cell::from("per second")].into_iter().chain(names.map(right)).chain([right("all".into())]);
        let body = KINDS.iter().map(|(name, pick)| {
            let sum = rates.iter().map(pick).sum();
            let cells = rates.iter().map(|rates| right(rate(pick(rates)))).chain([right(rate(sum))]);
            Row::new([Cell::from(*name)].into_iter().chain(cells))
        });
        let widths = [Constraint::Length(13)].into_iter().chain(vec![Constraint::Fill(1); rates.len() + 1]);
        let table = Table::new(body, widths).header(Row::new(head).style(self.styles.heading())).column_spacing(1);
        frame.render_widget(table, area);
    }

    fn stored(&self, frame: &mut Frame<'_>, area: Rect, figures: &Figures) {
        let (peers, sweep) = (figures.peers, figures.sweep);
        let known = |number: u64| if sweep.number == 0 { "–".to_owned() } else { grouped(number) };
        let rows = [
            ("torrents", grouped(figures.torrents)),
            ("IPv4 peers", grouped(peers.ipv4)),
            ("IPv6 peers", grouped(peers.ipv6)),
            ("seeders", known(sweep.seeders)),
            ("leechers", known(sweep.leechers)),
        ];
        let mut lines = vec![Line::styled("stored", self.styles.heading())];
        lines.extend(rows.iter().map(|(name, number)| row(name, number, area.width)));
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn curve(&self, frame: &mut Frame<'_>, area: Rect) {
        if area.height == 0 {
            return;
        }
        let width = usize::from(area.width);
        let shown: Vec<u64> = self.curve.iter().rev().take(width).rev().copied().collect();
        // The present is on the right.
        let missing = vec![0; width - shown.len()];
        let points = [missing, shown].concat();
        let most = points.iter().max().copied().unwrap_or(0).max(1);
        let [title, bars] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let left = Span::styled("answered per second", self.styles.heading());
        let right = format!("the last {}, at most {}", span(width as u64), grouped(most));
        frame.render_widget(Paragraph::new(Line::from(left)), title);
        frame.render_widget(Paragraph::new(Line::styled(right, self.styles.soft()).right_aligned()), title);
        frame.render_widget(Sparkline::default().data(&points).max(most).style(self.styles.curve()), bars);
    }

    fn memory(&self, frame: &mut Frame<'_>, area: Rect, figures: &Figures) {
        let memory = &figures.memory;
        let mut title = vec![Span::styled("memory", self.styles.heading())];
        let resident =
            memory.resident_bytes.map_or_else(String::new, |bytes| format!(", {} of the process", human_bytes(bytes)));
        title.push(Span::styled(format!("  {} in all{resident}", human_bytes(memory.store_bytes)), self.styles.soft()));
        let mut lines = vec![Line::from(title)];
        for part in &memory.parts {
            let share = if part.limit == 0 { 0.0 } else { part.used as f64 / part.limit as f64 };
            let forecast = match part.full_in_seconds {
                Some(seconds) if seconds < 365 * 86_400 => format!("full in {}", span(seconds)),
                Some(_) | None => String::new(),
            };
            let style = if share > 0.9 { self.styles.alert() } else { self.styles.curve() };
            lines.push(meter(&part.name, share, &forecast, (area.width, style)));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// The part that was chosen; where there is room, those behind it as well.
    fn lower(&self, frame: &mut Frame<'_>, mut area: Rect, figures: &Figures) {
        let then = self.kept.front().filter(|_| self.kept.len() > 1);
        let mut pane = self.pane;
        for _ in Pane::ALL {
            let lines = pane.lines(figures, then, (area.width, self.styles));
            let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height);
            frame.render_widget(Paragraph::new(lines), Rect { height, ..area });
            // An empty line, a heading and a line at least.
            if area.height < height + 3 {
                break;
            }
            area = Rect { y: area.y + height + 1, height: area.height - height - 1, ..area };
            pane = pane.step(1);
            if pane == self.pane {
                break;
            }
        }
    }

    fn foot(&self, width: u16) -> Line<'static> {
        let mut spans = Vec::new();
        for (number, pane) in (1..).zip(Pane::ALL) {
            let style = if pane == self.pane { self.styles.heading() } else { self.styles.soft() };
            spans.push(Span::styled(format!("{number} {}  ", pane.name()), style));
        }
        if width >= 72 {
            spans.push(Span::styled("p pause  q end", self.styles.soft()));
        }
        Line::from(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::snapshot::tests::example;
    use ratatui::{Terminal, backend::TestBackend};

    fn shown(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| view.draw(frame)).expect("drawn");
        terminal.backend().to_string()
    }

    fn view() -> View {
        let mut view = View::new("http://host:6969/".into(), false);
        view.take(Figures::of(&example()));
        view
    }

    #[test]
    fn everything_fits_80_columns_and_24_lines() {
        let mut view = view();
        let text = shown(&view, 80, 24);
        for part in [
            "tracker 0.1.0  up 2 d  http://host:6969/",
            "per second",
            "sockets",
            "torrents                    3",
            "IPv4 peers                 20",
            "the last 1 min, at most",
            "25.0 %",
            "full in 1 h",
            "1 reasons",
            "q end",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        for (key, part) in
            [('2', "abababababab"), ('3', "eth\"0"), ('4', "core 1"), ('5', "/lists/b"), ('1', "what to do")]
        {
            view.key(KeyCode::Char(key));
            let text = shown(&view, 80, 24);
            assert!(text.contains(part), "{key}: {part}:\n{text}");
        }
    }

    #[test]
    fn any_size_is_drawn() {
        let view = view();
        for (width, height) in
            [(1, 1), (10, 3), (20, 10), (40, 12), (79, 17), (80, 24), (132, 43), (300, 100), (500, 2)]
        {
            let text = shown(&view, width, height);
            assert!(!text.is_empty());
        }
        let large = shown(&view, 132, 140);
        assert!(large.contains("abababab") && large.contains("eth\"0"), "several parts at once:\n{large}");
    }

    #[test]
    fn a_lost_tracker_is_said_to_be_lost_and_comes_back() {
        let mut view = view();
        view.lose("cannot ask".into());
        assert!(shown(&view, 80, 24).contains("LOST: cannot ask"));
        view.take(Figures::of(&example()));
        assert!(!shown(&view, 80, 24).contains("LOST"));
        view.key(KeyCode::Char('p'));
        assert!(view.paused && shown(&view, 80, 24).contains("paused"));
    }

    #[test]
    fn the_curve_begins_with_the_history() {
        let mut view = view();
        let mut history = History { points: 2, step_seconds: 5, ..History::default() };
        history.columns.insert("xdp_announce".into(), vec![7.0, 9.0]);
        history.columns.insert("http_scrape".into(), vec![1.0, 1.0]);
        view.remember(&history);
        assert_eq!(view.curve.len(), 11);
        assert_eq!((view.curve[0], view.curve[4], view.curve[5], view.curve[9]), (8, 8, 10, 10));
    }

    #[test]
    fn rates_of_a_store_without_a_tracker_are_those_between_two_looks() {
        let mut view = View::new("pinned".into(), false);
        let mut figures = Figures::of(&example());
        (figures.uptime_seconds, figures.time) = (0, 100.0);
        view.take(figures.clone());
        figures.time = 102.0;
        figures.paths[0].announce.ipv4 += 50;
        view.take(figures);
        assert!((view.paths()[0].announce - 25.0).abs() < 1e-9);
        assert!(shown(&view, 80, 24).contains("as the kernel has it"));
    }
}
