//! The results as a picture: one group of bars per scenario, one bar per system, answers per
//! core-second on an axis that begins at zero. Written as SVG by hand: bars and labels need no library.

use std::fmt::Write as _;

use crate::{report::Report, statistics::count, system::System};

const LEFT: f64 = 190.0;
const WIDTH: f64 = 700.0;
const RIGHT: f64 = 110.0;
const BAR: f64 = 14.0;
const GAP: f64 = 18.0;
const TOP: f64 = 70.0;

/// The picture's text.
pub fn svg(report: &Report) -> String {
    let rates = || {
        let rows = report.scenarios.iter().flat_map(|results| &results.systems);
        rows.map(|row| row.answered_per_core_second.median).filter(|&rate| rate > 0.0)
    };
    let highest = rates().fold(1.0, f64::max);
    let step = step(highest);
    let end = (highest / step).ceil() * step;
    let place = |rate: f64| LEFT + WIDTH * (rate / end).clamp(0.0, 1.0);

    let bars: usize = report.scenarios.iter().map(|results| results.systems.len()).sum();
    let bottom = TOP + bars as f64 * BAR + report.scenarios.len() as f64 * (GAP + 14.0);
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Answers per second of one core, receive path included</text>\n\
         <text x=\"{LEFT}\" y=\"42\" fill=\"#555\">median and spread of {} rounds of {} s; Linux {}, {}</text>\n",
        report.rounds,
        report.seconds_per_round,
        escaped(&report.machine.kernel),
        escaped(&report.machine.processor)
    );
    for tick in 0..=(end / step).round() as u32 {
        let rate = f64::from(tick) * step;
        let x = place(rate);
        let _infallible = write!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{}</text>\n",
            TOP - 6.0,
            bottom + 16.0,
            count(rate)
        );
    }
    let mut y = TOP;
    for results in &report.scenarios {
        let _infallible = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
            y + 10.0,
            escaped(results.title)
        );
        y += 14.0;
        for row in &results.systems {
            let rate = row.answered_per_core_second;
            let (end, middle) = (place(rate.median), y + BAR / 2.0);
            let _infallible = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\n\
                 <line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"black\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                LEFT - 6.0,
                y + 10.5,
                escaped(row.name),
                y + 1.0,
                (end - LEFT).max(0.5),
                BAR - 2.0,
                colour(row.system),
                place(rate.lowest),
                place(rate.highest),
                place(rate.highest).max(end) + 5.0,
                y + 10.5,
                count(rate.median)
            );
            y += BAR;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

/// From one line of the grid to the next: 1, 2 or 5 times a power of ten, and eight lines at most.
fn step(highest: f64) -> f64 {
    let power = 10f64.powf((highest / 8.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| highest / step <= 8.0).unwrap_or(highest)
}

fn colour(system: System) -> &'static str {
    match system {
        System::Reflector => "#b0b0b0",
        System::Native => "#0b6e4f",
        System::Guarded => "#2a8a66",
        System::Generic => "#3fa37c",
        System::Sockets => "#8fd0b3",
        System::Opentracker => "#c2571a",
        System::Aquatic => "#2f6fb0",
        System::AquaticUring => "#7fb0dc",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_grid_are_at_round_numbers() {
        for (highest, expected) in
            [(11_111_294.0, 2e6), (8e6, 1e6), (8.1e6, 2e6), (300_000.0, 50_000.0), (1.0, 0.2), (16.1, 5.0)]
        {
            assert!((step(highest) / expected - 1.0).abs() < 1e-9, "{highest}: {}", step(highest));
        }
    }
}
