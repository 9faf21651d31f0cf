//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/` under libFuzzer, one after the other, and
//! says what came of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{
    command, debian,
    needs::{self, InstallOptions, Missing, Package, Probe, Remedy},
    toolchain, workspace,
};

/// The release of cargo-fuzz that is installed when there is none.
const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Longest input, in bytes.
const LONGEST: u32 = 4096;

/// libFuzzer is C++.
const NEEDS: [Package; 1] = [Package { name: "g++", probe: Probe::Program("g++"), reason: "libFuzzer, which is C++" }];

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Run this target; may be given several times [default: all]
    #[arg(long, value_name = "TARGET")]
    target: Vec<String>,
    /// Seconds for each
    #[arg(long, value_name = "N", default_value_t = 900)]
    seconds: u32,
    /// Afterwards put the inputs that reach something new into the committed corpus, the shortest
    /// ones
    #[arg(long)]
    keep: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let all = targets()?;
    let chosen: Vec<&String> = match options.target.as_slice() {
        [] => all.iter().collect(),
        some => some.iter().collect(),
    };
    for target in &chosen {
        ensure!(all.contains(target), "there is no target {target}; there are {}", all.join(", "));
    }
    ensure!(
        debian::is_root() || !chosen.iter().any(|target| *target == "xdp"),
        "the target xdp loads the XDP program: run this as root, or name other targets ({})",
        all.join(", ")
    );
    needs::provide("the fuzz targets", &NEEDS, &[&missing], options.install)?;
    write_seeds()?;
    let mut failed = Vec::new();
    for target in chosen {
        let report = fuzz(target, options)?;
        println!("{target}: {}", report.text());
        if report.found {
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "found something: {}; the inputs are in {}", failed.join(", "), shown("found"));
    Ok(())
}

/// What a run said at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    executions: u64,
    per_second: u64,
    /// Inputs of the corpus, and their size as libFuzzer writes it.
    corpus: String,
    /// Counters of the compiler's that were reached.
    coverage: u64,
    found: bool,
}

impl Report {
    /// Reads what libFuzzer has written.
    fn parse(log: &str, succeeded: bool) -> Self {
        let mut report = Self { found: !succeeded, ..Self::default() };
        for line in log.lines() {
            if let Some((name, value)) = line.strip_prefix("stat::").and_then(|rest| rest.split_once(':')) {
                let value = value.trim().parse().unwrap_or(0);
                match name {
                    "number_of_executed_units" => report.executions = value,
                    "average_exec_per_sec" => report.per_second = value,
                    _ => {}
                }
            }
            let words: Vec<_> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                match pair[0] {
                    "cov:" => report.coverage = pair[1].parse().unwrap_or(report.coverage),
                    "corp:" => report.corpus = pair[1].to_owned(),
                    _ => {}
                }
            }
        }
        report
    }

    fn text(&self) -> String {
        let Self { executions, per_second, corpus, coverage, found } = self;
        let found = if *found { "FOUND SOMETHING" } else { "nothing found" };
        format!("{found}; {executions} executions ({per_second}/s), corpus {corpus}, coverage {coverage}")
    }
}

/// A directory of the fuzzer's below the target directory.
fn directory(of: &str) -> PathBuf {
    workspace::target_dir().join("fuzz").join(of)
}

fn shown(of: &str) -> String {
    workspace::display(&directory(of))
}

/// The names of the targets: one corpus each.
fn targets() -> anyhow::Result<Vec<String>> {
    let corpus = workspace::root().join("fuzz/corpus");
    let entries = fs::read_dir(&corpus).with_context(|| format!("cannot read {}", corpus.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Says that cargo-fuzz is missing, if it is.
fn missing() -> Option<Missing> {
    let found = command::find("cargo-fuzz", &[&toolchain::cargo_home().join("bin")]);
    found.is_none().then(|| Missing {
        what: format!("cargo-fuzz {CARGO_FUZZ_VERSION}"),
        reason: "builds the fuzz targets for libFuzzer".to_owned(),
        remedy: Remedy::Installer {
            install: || {
                let mut cargo = command::cargo();
                command::run(cargo.args(["install", "cargo-fuzz", "--version", CARGO_FUZZ_VERSION, "--locked"]))
            },
            otherwise: format!("`cargo install cargo-fuzz --version {CARGO_FUZZ_VERSION} --locked`"),
        },
    })
}

fn write_seeds() -> anyhow::Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["run", "--release", "--package", "tracker-fuzz", "--bin", "seeds", "--"]).arg(directory("corpus"));
    command::run(&mut cargo)
}

/// `cargo fuzz` for this tree. AddressSanitizer is an unstable option, which a stable compiler is
/// told to take.
fn cargo_fuzz(target: &str) -> Command {
    let mut cargo = command::cargo();
    cargo
        .current_dir(workspace::root())
        .args(["fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"])
        .arg(directory(""))
        .arg(target)
        .env("RUSTC_BOOTSTRAP", "1");
    cargo
}

fn fuzz(target: &str, options: &Options) -> anyhow::Result<Report> {
    let (corpus, found) = (directory("corpus").join(target), directory("found").join(target));
    let committed = workspace::root().join("fuzz/corpus").join(target);
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let log = directory(&format!("{target}.log"));
    let file = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut cargo = cargo_fuzz(target);
    cargo
        .args([&corpus, &committed])
        .arg("--")
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-print_final_stats=1", "-timeout=60", "-rss_limit_mb=4096"])
        .stdout(Stdio::from(file.try_clone()?))
        .stderr(Stdio::from(file));
    eprintln!("{target} for {} s; the log is {}", options.seconds, workspace::display(&log));
    let status = cargo.status().context("cannot start cargo fuzz")?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let report = Report::parse(&text, status.success());
    if report.executions == 0 && !text.contains("SUMMARY: ") {
        bail!("the target {target} did not run; see {}", workspace::display(&log));
    }
    if options.keep {
        keep(target, &corpus, &committed)?;
    }
    Ok(report)
}

/// Adds to the committed corpus what reaches something that it does not.
fn keep(target: &str, corpus: &Path, committed: &Path) -> anyhow::Result<()> {
    command::run(cargo_fuzz(target).args([committed, corpus]).args(["--", "-merge=1"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_from_logs() {
        let log = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #900\tREDUCE cov: 1322 ft: 8000 corp: 421/13Kb lim: 80 exec/s: 300 rss: 90Mb\n\
                   stat::number_of_executed_units: 1234567\nstat::average_exec_per_sec:     1371\n";
        let report = Report {
            executions: 1_234_567,
            per_second: 1371,
            corpus: "421/13Kb".to_owned(),
            coverage: 1322,
            found: false,
        };
        assert_eq!(Report::parse(log, true), report);
        assert_eq!(Report::parse("", false), Report { found: true, ..Report::default() });
    }
}
