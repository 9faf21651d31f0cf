//! The committed complexity budget: what the verifier had to do for each program when somebody last looked and agreed.
//!
//! A change that makes a program a tenth more expensive to verify, or gives it another stack frame, has to be seen: either
//! it is mended, or the new figures are recorded with `cargo xtask verify --record`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{verifier::Statistics, workspace};

/// By how many percent the instructions followed may grow unnoticed.
const TOLERANCE_PERCENT: u64 = 10;

#[derive(Debug, Serialize, Deserialize)]
struct Budget {
    /// The kernel's major and minor version; verifiers differ.
    kernel: String,
    programs: BTreeMap<String, Program>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Program {
    /// Instructions followed, every path counted.
    instructions: u64,
    /// Bytes of stack of the program's own frame.
    stack: u64,
    /// Milliseconds from system call to answer; for people, not compared.
    load_ms: u64,
}

fn path() -> PathBuf {
    workspace::root().join("xtask/verifier-budget.toml")
}

fn kernel() -> anyhow::Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
    Ok(release.trim().split('.').take(2).collect::<Vec<_>>().join("."))
}

fn programs(rows: &[(&str, Statistics)]) -> BTreeMap<String, Program> {
    let program = |statistics: &Statistics| Program {
        instructions: statistics.processed_instructions,
        stack: statistics.stack_depth.split('+').next().and_then(|own| own.parse().ok()).unwrap_or(0),
        load_ms: statistics.load_time.as_millis() as u64,
    };
    rows.iter().map(|(name, statistics)| ((*name).to_owned(), program(statistics))).collect()
}

/// Writes down what was just measured.
pub fn record(rows: &[(&str, Statistics)]) -> anyhow::Result<()> {
    let budget = Budget { kernel: kernel()?, programs: programs(rows) };
    let text = toml::to_string(&budget).context("cannot write the budget as TOML")?;
    let text =
        format!("# Written by `cargo xtask verify --record`; compared by `cargo xtask verify --budget`.\n{text}");
    fs::write(path(), text).with_context(|| format!("cannot write {}", workspace::display(&path())))
}

/// Compares what was just measured with what was written down.
///
/// # Errors
/// Names every program that grew, appeared or went away.
pub fn compare(rows: &[(&str, Statistics)]) -> anyhow::Result<()> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", workspace::display(&path)))?;
    let budget: Budget =
        toml::from_str(&text).with_context(|| format!("{} is not a budget", workspace::display(&path)))?;
    let kernel = kernel()?;
    if budget.kernel != kernel {
        println!("NOT COMPARED: the budget was recorded on Linux {}, and this is Linux {kernel}", budget.kernel);
        return Ok(());
    }
    let complaints = complaints(&budget.programs, &programs(rows));
    if complaints.is_empty() {
        println!("within the budget of {}", workspace::display(&path));
        return Ok(());
    }
    bail!("{}\nIf that is meant, record it: cargo xtask verify --record", complaints.join("\n"))
}

fn complaints(budget: &BTreeMap<String, Program>, now: &BTreeMap<String, Program>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, now) in now {
        let Some(before) = budget.get(name) else {
            complaints.push(format!("{name} is not in the budget"));
            continue;
        };
        if now.instructions * 100 > before.instructions * (100 + TOLERANCE_PERCENT) {
            complaints
                .push(format!("{name}: {} instructions followed instead of {}", now.instructions, before.instructions));
        }
        if now.stack > before.stack {
            complaints.push(format!("{name}: {} bytes of stack instead of {}", now.stack, before.stack));
        }
    }
    let gone = budget.keys().filter(|name| !now.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name} is in the budget but not in the object")));
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_tolerance_is_reported_and_nothing_else() {
        let table =
            |instructions, stack| BTreeMap::from([("a".to_owned(), Program { instructions, stack, load_ms: 1 })]);
        // (instructions, stack, complaints) against 1000 and 100
        for (instructions, stack, expected) in
            [(1000, 100, 0), (1100, 100, 0), (1101, 100, 1), (500, 50, 0), (1000, 101, 1), (2000, 200, 2)]
        {
            let found = complaints(&table(1000, 100), &table(instructions, stack));
            assert_eq!(found.len(), expected, "{instructions} {stack}: {found:?}");
        }
        assert_eq!(complaints(&BTreeMap::new(), &table(1, 1)).len(), 1);
        assert_eq!(complaints(&table(1, 1), &BTreeMap::new()).len(), 1);
    }
}
