//! The results of the model as tables and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    elf::Image,
    helpers,
    kinds::{KNOWN, NEW_PEER, Result, USUAL},
    lines::{Line, Sources},
    observer::{Counts, MapCounts},
};
use crate::scenario::Scenario;

/// A figure of the table: title, and how it is found.
struct Column(&'static str, fn(&Result) -> u64);

fn maps(counts: &Counts, of: fn(&MapCounts) -> u64) -> u64 {
    counts.maps.iter().map(of).sum()
}

const COLUMNS: &[Column] = &[
    Column("instructions", |result| result.counts.instructions),
    Column("helpers", |result| result.counts.helpers.iter().sum()),
    Column("lookups", |result| result.counts.lookups),
    Column("calls", |result| result.counts.calls),
    Column("turns", |result| result.counts.turns),
    Column("tail_calls", |result| result.counts.tail_calls),
    Column("atomics", |result| result.counts.atomics),
    Column("accesses", |result| maps(&result.counts, |map| map.accesses)),
    Column("lines", |result| maps(&result.counts, |map| map.lines)),
    Column("pages", |result| maps(&result.counts, |map| map.pages)),
    Column("near_misses", |result| maps(&result.counts, |map| map.near_misses)),
    Column("line_misses", |result| maps(&result.counts, |map| map.line_misses)),
    Column("page_misses", |result| maps(&result.counts, |map| map.page_misses)),
    Column("line_chain", |result| result.counts.line_chain),
    Column("page_chain", |result| result.counts.page_chain),
    Column("peers", |result| result.peers),
];

/// What the columns of the table are.
pub const EXPLANATION: &str = "\
per request: instructions; helper calls; map look-ups (inlined by the kernel); calls of functions; turns of bpf_loop;
tail calls; locked instructions; of memory of maps: loads and stores, different cache lines, different pages, lines that
are not in a cache of 48 KiB, of 2 MiB, pages that are not in a TLB of 2048, the longest chain of line and of page misses that wait
for one another; peers in the reply";

const TITLES: &str = "   instr   help   look   call   turn   tail   lock  access  lines  pages  L1mis  L2mis TLBmis  chain Tchain  peers";

fn mean(sum: u64, result: &Result) -> f64 {
    sum as f64 / result.requests.max(1) as f64
}

/// The table of a scenario.
pub fn table(scenario: &Scenario, image: &Image, results: &[Result], by_map: bool) -> String {
    let mut text = format!("{} ({})\n{:<38}{TITLES}\n", scenario.title, scenario.name, "");
    for result in results {
        let figure = |at: usize| mean(COLUMNS[at].1(result), result);
        let _infallible = write!(text, "  {:<36}{:>8.1}", result.kind.name, figure(0));
        for at in 1..7 {
            let _infallible = write!(text, "{:>7.2}", figure(at));
        }
        let _infallible = write!(text, "{:>8.1}", figure(7));
        for at in 8..COLUMNS.len() {
            let _infallible = write!(text, "{:>7.2}", figure(at));
        }
        text.push('\n');
        if result.failed > 0 {
            let _infallible = writeln!(
                text,
                "    {} of {} were not answered as they should have been",
                result.failed, result.requests
            );
        }
    }
    for result in results.iter().filter(|result| by_map || [USUAL, NEW_PEER.name].contains(&result.kind.name)) {
        let _infallible = writeln!(text, "  {}, by map and helper:", result.kind.name);
        for (map, counts) in image.maps.iter().zip(&result.counts.maps).filter(|(_, counts)| counts.accesses > 0) {
            let figure = |sum| mean(sum, result);
            let _infallible = writeln!(
                text,
                "    {:<14}{:>8.1} accesses {:>6.2} lines {:>6.2} pages {:>6.2} L1 {:>6.2} L2 {:>6.2} TLB misses",
                map.name,
                figure(counts.accesses),
                figure(counts.lines),
                figure(counts.pages),
                figure(counts.near_misses),
                figure(counts.line_misses),
                figure(counts.page_misses)
            );
        }
        let helpers: Vec<_> = helpers::NAMES
            .iter()
            .map(|(number, name)| (name, mean(result.counts.helpers[*number as usize], result)))
            .filter(|(_, calls)| *calls > 0.0)
            .map(|(name, calls)| format!("{name} {calls:.2}"))
            .collect();
        let _infallible = writeln!(text, "    {:<14}{}", "helpers", helpers.join(", "));
    }
    text
}

/// Of so many announces in a hundred other trackers are told.
const NEWS: [f64; 2] = [2.0, 100.0];

/// Instructions of requests of the same kinds, new peers last, without other trackers and with them.
pub fn cluster(scenario: &Scenario, without: &[Result], with: &[Result]) -> String {
    let instructions = |results: &[Result], at: usize| mean(results[at].counts.instructions, &results[at]);
    let mut text = format!("{} ({}): instructions\n", scenario.title, scenario.name);
    let mut line = |columns: [&str; 5]| {
        let [kind, without, with, more, told] = columns;
        let _infallible = writeln!(text, "  {kind:<32}{without:>12}{with:>12}{more:>10}{told:>8}");
    };
    line(["", "no cluster", "cluster", "more", "told"]);
    for at in 0..with.len() {
        let (before, after) = (instructions(without, at), instructions(with, at));
        let told = mean(with[at].counts.helpers[helpers::RING_SUBMIT as usize], &with[at]);
        let [before_text, after_text, more] = [before, after, after - before].map(|figure| format!("{figure:.1}"));
        line([with[at].kind.name, &before_text, &after_text, &more, &format!("{told:.2}")]);
        let failed = without[at].failed + with[at].failed;
        if failed > 0 {
            line([&format!("    {failed} not answered as they should"), "", "", "", ""]);
        }
    }
    let (known, again, new) = (KNOWN.0, KNOWN.1, with.len() - 1);
    for (what, news) in [("new peers", new), ("known peers, told again", again)] {
        for share in NEWS {
            let share = share / 100.0;
            // What is told again would otherwise be an announce like the others.
            let of =
                |results: &[Result]| (1.0 - share) * instructions(results, known) + share * instructions(results, news);
            let more = (of(with) / of(without) - 1.0) * 100.0;
            let _infallible = writeln!(
                text,
                "  {more:+.2} % instructions where {:.0} % of all announces are {what}, and the rest known peers",
                share * 100.0
            );
        }
    }
    text
}

/// The same for programs.
pub fn json(scenario: &Scenario, image: &Image, results: &[Result]) -> Value {
    let kinds: Vec<Value> = results
        .iter()
        .map(|result| {
            let figures: serde_json::Map<String, Value> =
                COLUMNS.iter().map(|Column(name, of)| ((*name).to_owned(), mean(of(result), result).into())).collect();
            let maps: serde_json::Map<String, Value> = image
                .maps
                .iter()
                .zip(&result.counts.maps)
                .map(|(map, counts)| {
                    let figure = |sum| mean(sum, result);
                    let of_map = json!({
                        "accesses": figure(counts.accesses),
                        "lines": figure(counts.lines),
                        "pages": figure(counts.pages),
                        "near_misses": figure(counts.near_misses),
                        "line_misses": figure(counts.line_misses),
                        "page_misses": figure(counts.page_misses),
                    });
                    (map.name.clone(), of_map)
                })
                .collect();
            json!({
                "kind": result.kind.name,
                "requests": result.requests,
                "failed": result.failed,
                "per_request": figures,
                "maps": maps,
            })
        })
        .collect();
    json!({ "scenario": scenario.name, "kinds": kinds })
}

/// Where the instructions of requests of one kind are: by function of the source, and by line.
pub fn hot(image: &Image, result: &Result, rows: usize) -> String {
    let mut sources = Sources::default();
    let mut lines: Vec<(Option<Line>, u64)> = Vec::new();
    let executed = result.executed.iter().enumerate().filter(|(_, count)| **count > 0);
    // What was inlined from elsewhere counts for the line of the project before it.
    let mut last = None;
    let mut sums = std::collections::HashMap::new();
    let mut sections = std::collections::HashMap::new();
    for (pc, count) in executed {
        let line = image.lines.of(pc);
        if line.is_some_and(|line| image.lines.is_ours(line.file)) || last.is_none() {
            last = line;
        }
        *sums.entry(last).or_insert(0_u64) += count;
        *sections.entry(image.function_at(pc)).or_insert(0_u64) += count;
    }
    lines.extend(sums);
    lines.sort_by_key(|(line, count)| (std::cmp::Reverse(*count), line.map(|line| (line.file, line.line))));

    let mut functions = std::collections::HashMap::new();
    let mut listed = String::new();
    for (number, (line, count)) in lines.iter().enumerate() {
        let (file, place, function, text) = match line {
            Some(line) => {
                let (function, text) = sources.describe(&image.lines, *line);
                (image.lines.file(line.file), line.line, function, text)
            }
            None => ("?", 0, String::new(), String::new()),
        };
        if number < rows {
            let _infallible = writeln!(
                listed,
                "  {:>8.1}  {:<58} {text}",
                mean(*count, result),
                format!("{file}:{place} {function}")
            );
        }
        *functions.entry((file.to_owned(), function)).or_insert(0_u64) += count;
    }
    let mut text = format!("{}: instructions per request, by program or function of the object\n", result.kind.name);
    let list = |text: &mut String, sums: Vec<(String, u64)>| {
        let mut sums = sums;
        sums.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
        for (name, count) in sums.into_iter().take(rows) {
            let _infallible = writeln!(text, "  {:>8.1}  {name}", mean(count, result));
        }
    };
    list(&mut text, sections.into_iter().map(|(name, count)| (name.to_owned(), count)).collect());
    text.push_str(
        " by function of the source, what is inlined into it apart (of core and aya: with the line before)\n",
    );
    list(&mut text, functions.into_iter().map(|((file, name), count)| (format!("{file} {name}"), count)).collect());
    text.push_str(" by line of the source\n");
    text + &listed
}
