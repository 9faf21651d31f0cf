//! The committed complexity budget: the work of each kernel's verifier for each program when the
//! figures were last recorded.
//!
//! A change that makes a program a tenth more expensive to verify, or gives it more stack, must not
//! go unnoticed: either it is mended, or the new figures are recorded, with
//! `cargo xtask verify --record` for the running kernel, and with `cargo xtask kernels --record`
//! for those that are started in guests.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{verification::Verification, verifier::Statistics, workspace};

/// By how many percent the instructions followed may grow unnoticed.
const TOLERANCE_PERCENT: u64 = 10;

/// Programs by their names.
type Programs = BTreeMap<String, Program>;

/// Programs by the kernel's major and minor version; verifiers differ.
type Budget = BTreeMap<String, Programs>;

#[derive(Debug, Serialize, Deserialize)]
struct Program {
    /// Instructions followed, every path counted.
    instructions: u64,
    /// Bytes of stack of the program's own frame.
    stack: u64,
    /// Milliseconds from system call to answer; for people, not compared. In a guest without
    /// hardware support they are a multiple of what they are on the machine itself.
    load_ms: u64,
}

fn path() -> PathBuf {
    workspace::root().join("xtask/verifier-budget.toml")
}

fn read() -> anyhow::Result<Budget> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", workspace::display(&path)))?;
    toml::from_str(&text).with_context(|| format!("{} is not a budget", workspace::display(&path)))
}

fn programs(verification: &Verification) -> Programs {
    let program = |statistics: &Statistics| Program {
        instructions: statistics.processed_instructions,
        stack: statistics.own_stack(),
        load_ms: statistics.load_time.as_millis() as u64,
    };
    verification.accepted.iter().map(|(name, statistics)| (name.clone(), program(statistics))).collect()
}

/// Writes down what was just measured, in place of what stood there for this kernel.
pub fn record(verification: &Verification) -> anyhow::Result<()> {
    let mut budget = read()?;
    budget.insert(verification.series(), programs(verification));
    let text = toml::to_string(&budget).context("cannot write the budget as TOML")?;
    let text = format!(
        "# Written by `cargo xtask verify --record` and `cargo xtask kernels --record`, each for its own kernels; compared \
         with\n# `--budget`.\n{text}"
    );
    fs::write(path(), text).with_context(|| format!("cannot write {}", workspace::display(&path())))
}

/// Compares what was just measured with what was written down.
///
/// # Errors
/// Names every program that grew, appeared or went away.
pub fn compare(verification: &Verification) -> anyhow::Result<()> {
    let (budget, kernel) = (read()?, verification.series());
    let Some(recorded) = budget.get(&kernel) else {
        let known: Vec<&str> = budget.keys().map(String::as_str).collect();
        println!("NOT COMPARED: the budget knows Linux {}, and this is Linux {kernel}", known.join(", "));
        return Ok(());
    };
    let complaints = complaints(recorded, &programs(verification));
    if complaints.is_empty() {
        println!("Linux {kernel}: within the budget of {}", workspace::display(&path()));
        return Ok(());
    }
    bail!(
        "Linux {kernel}: {}\nIf that is meant, record it: cargo xtask verify --record for the running kernel, cargo xtask \
         kernels --record for others",
        complaints.join("\n")
    )
}

fn complaints(budget: &Programs, now: &Programs) -> Vec<String> {
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
