//! What a kernel's verifier says about all programs of an object: measured where the kernel runs,
//! which may be a guest, and handed on as JSON.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    verifier::{Prepared, Refused, Statistics},
    workspace,
};

/// How many lines of a refused program's log are shown; the reason is at the end.
const SHOWN: usize = 40;

/// What became of an object's programs in one kernel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verification {
    /// The kernel as `uname -r` prints it.
    pub release: String,
    pub accepted: BTreeMap<String, Statistics>,
    pub refused: BTreeMap<String, Refusal>,
}

/// What is told of a program that the kernel refuses.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What the system call returned.
    pub error: String,
    /// The last lines of the verifier's log.
    pub end_of_log: Vec<String>,
    /// The name of the file that has all of it, in the directory of logs.
    pub log: String,
}

impl Verification {
    /// Loads the programs of the object at `object`. The verifier's logs of those that are refused
    /// are written to the directory `logs`.
    ///
    /// # Errors
    /// When the object cannot be read, its maps cannot be made, or it holds no program. A program
    /// that the kernel refuses is no error.
    pub fn measure(object: &Path, logs: &Path) -> anyhow::Result<Self> {
        let elf = fs::read(object).with_context(|| format!("cannot read {}", workspace::display(object)))?;
        let prepared = Prepared::new(&elf).with_context(|| format!("cannot load {}", workspace::display(object)))?;
        let mut verification = Self { release: release()?, accepted: BTreeMap::new(), refused: BTreeMap::new() };
        for name in prepared.programs() {
            match prepared.load(name)? {
                Ok(statistics) => drop(verification.accepted.insert(name.to_owned(), statistics)),
                Err(refused) => {
                    let refusal = Refusal::keep(name, &refused, logs)?;
                    verification.refused.insert(name.to_owned(), refusal);
                }
            }
        }
        ensure!(
            !verification.accepted.is_empty() || !verification.refused.is_empty(),
            "{} holds no program",
            workspace::display(object)
        );
        Ok(verification)
    }

    /// The kernel's major and minor version, by which its figures stand in the budget: 6.1 for
    /// 6.1.0-49-amd64.
    pub fn series(&self) -> String {
        series(&self.release)
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the verifier's figures as JSON")?;
        write(path, &text)
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", workspace::display(path)))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} does not hold a verifier's figures", workspace::display(path)))
    }

    /// Prints the figures of the programs that loaded, and for each of the others where the
    /// verifier gave up. The logs are in `logs`.
    pub fn print(&self, logs: &Path) {
        self.print_refused(logs);
        if self.accepted.is_empty() {
            return;
        }
        println!(
            "{:<16} {:>12} {:>8} {:>8} {:>12} {:>9} {:>8} {:>10} {:>8}",
            "program", "instructions", "states", "peak", "stack", "xlated B", "jited B", "verify ms", "load ms"
        );
        for (name, statistics) in &self.accepted {
            println!(
                "{name:<16} {:>12} {:>8} {:>8} {:>12} {:>9} {:>8} {:>10} {:>8}",
                statistics.processed_instructions,
                statistics.total_states,
                statistics.peak_states,
                statistics.stack_depth,
                statistics.translated_size,
                statistics.jited_size,
                statistics.verification_time.map_or_else(|| "?".to_owned(), milliseconds),
                milliseconds(statistics.load_time),
            );
        }
    }

    /// Prints where the verifier gave up, for each program that was refused.
    pub fn print_refused(&self, logs: &Path) {
        for (name, refusal) in &self.refused {
            println!(
                "Linux {} refuses program {name}: {}. The end of the verifier's log, which is all in {}:",
                self.release,
                refusal.error,
                workspace::display(&logs.join(&refusal.log))
            );
            for line in &refusal.end_of_log {
                println!("    {line}");
            }
        }
    }

    /// One line that names all programs that were refused.
    ///
    /// # Errors
    /// When there are any.
    pub fn ensure_accepted(&self) -> anyhow::Result<()> {
        let names: Vec<&str> = self.refused.keys().map(String::as_str).collect();
        ensure!(names.is_empty(), "Linux {} refuses {}", self.release, names.join(", "));
        Ok(())
    }
}

impl Refusal {
    fn keep(name: &str, refused: &Refused, logs: &Path) -> anyhow::Result<Self> {
        let log = format!("verifier-{name}.log");
        write(&logs.join(&log), &refused.log)?;
        let lines: Vec<&str> = refused.log.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| (*line).to_owned()).collect();
        Ok(Self { error: refused.error.to_string(), end_of_log: end, log })
    }
}

/// The directory of logs when nobody names another one.
pub fn default_logs() -> PathBuf {
    workspace::target_dir()
}

/// The running kernel as `uname -r` prints it.
pub fn release() -> anyhow::Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
    Ok(release.trim().to_owned())
}

/// Major and minor version of a release.
pub fn series(release: &str) -> String {
    let numbers = release.split(|character: char| !character.is_ascii_digit()).take(2);
    numbers.collect::<Vec<_>>().join(".")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", workspace::display(directory)))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", workspace::display(path)))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_is_major_and_minor_version() {
        for (release, expected) in [
            ("6.1.0-49-amd64", "6.1"),
            ("6.12.117+deb12-amd64", "6.12"),
            ("6.18.44-fc-v657", "6.18"),
            ("7.0", "7.0"),
            ("6.13-rc1-amd64", "6.13"),
        ] {
            assert_eq!(series(release), expected);
        }
    }
}
