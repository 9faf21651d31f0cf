//! What came of a guest's parts, read from the files it has left, and how that is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;

use super::{
    guest::End,
    part::{Part, Tests},
};
use crate::{verification::Verification, workspace};

/// How many lines of a failed part's output are shown.
const SHOWN: usize = 60;

/// What became of one kernel.
pub struct Outcome {
    /// As `uname -r` prints it.
    pub release: String,
    pub end: End,
    /// From qemu's start to its end.
    pub took: Duration,
    pub parts: BTreeMap<Part, Result<Passed, String>>,
    pub verification: Option<Verification>,
    /// The last lines of the guest's console.
    pub console: String,
    /// Lines of the console by which the kernel complains of itself.
    pub complaints: Vec<String>,
    /// Where the results are.
    pub share: PathBuf,
}

/// A part that has done what it should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passed {
    /// Seconds of the guest's clock, from its start and for the part.
    pub began: f64,
    pub took: f64,
}

/// Reads what came of a part.
pub fn read(part: Part, share: &Path) -> Result<Passed, String> {
    let Ok(status) = fs::read_to_string(share.join(part.status())) else {
        let begun = share.join(part.log()).exists();
        return Err(if begun { "it was begun and did not end".to_owned() } else { "it was not begun".to_owned() });
    };
    let passed = judge_status(&status)?;
    if let Some(tests) = part.tests() {
        let log = fs::read_to_string(share.join(part.log())).unwrap_or_default();
        judge_tests(&tests, &log)?;
    }
    Ok(passed)
}

/// Judges `status began ended`.
fn judge_status(line: &str) -> Result<Passed, String> {
    let unreadable = || format!("its status is unreadable: {line:?}");
    let mut words = line.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok()).ok_or_else(unreadable);
    let (status, began, ended) = (number()?, number()?, number()?);
    let took = ended - began;
    // By which `timeout` says that it has ended the command, and, if that took SIGKILL, the signal's.
    match status as i32 {
        0 => Ok(Passed { began, took }),
        124 | 137 => Err(format!("it was not done after {took:.0} s and was ended")),
        status => Err(format!("exit status {status} after {took:.1} s")),
    }
}

/// Whether every test that was named has run and passed.
fn judge_tests(tests: &Tests, log: &str) -> Result<(), String> {
    let passed = |name: &&str| {
        let wanted = format!("test {name} ... ");
        // What a test prints may stand between the dots and the word.
        log.lines().any(|line| line.starts_with(&wanted)) && !log.lines().any(|line| line == format!("    {name}"))
    };
    let missing: Vec<&str> = tests.names.iter().filter(|name| !passed(name)).copied().collect();
    let summary = format!("test result: ok. {} passed", tests.names.len());
    if missing.is_empty() && log.lines().any(|line| line.starts_with(&summary)) {
        return Ok(());
    }
    Err(format!("of {} these did not run and pass: {}", tests.binary, missing.join(", ")))
}

/// Lines by which a kernel says that something is wrong with itself.
pub fn complaints(console: &str) -> Vec<String> {
    const SIGNS: [&str; 6] = ["BUG:", "WARNING:", "Oops:", "Call Trace:", "stall", "lockup"];
    console.lines().filter(|line| SIGNS.iter().any(|sign| line.contains(sign))).map(str::to_owned).collect()
}

/// Prints what went wrong in a guest, with the end of what it printed.
pub fn print_failures(outcome: &Outcome) {
    for (part, result) in &outcome.parts {
        let Err(why) = result else { continue };
        println!("\nLinux {}, {}: {why}", outcome.release, part.name());
        let log = outcome.share.join(part.log());
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            println!("    {line}");
        }
        println!("    (all of it is in {})", workspace::display(&log));
    }
    if outcome.end != End::Off {
        println!("\nLinux {}: the guest {}. Its last words:\n{}", outcome.release, outcome.end, outcome.console);
    }
    for line in &outcome.complaints {
        println!("Linux {} complains: {line}", outcome.release);
    }
}

/// Prints a table of the parts and their times.
pub fn print_times(outcomes: &[Outcome]) {
    println!("\n{:<26}{}", "part", columns(outcomes.iter().map(|outcome| outcome.release.clone())));
    let parts: BTreeSet<Part> = outcomes.iter().flat_map(|outcome| outcome.parts.keys().copied()).collect();
    let boot = |outcome: &Outcome| {
        let first = outcome.parts.values().find_map(|part| part.as_ref().ok());
        first.map_or_else(|| "?".to_owned(), |first| format!("{:.1} s", first.began))
    };
    println!("{:<26}{}", "until the first part", columns(outcomes.iter().map(boot)));
    for part in parts {
        let cell = |outcome: &Outcome| match outcome.parts.get(&part) {
            Some(Ok(passed)) => format!("{:.1} s", passed.took),
            Some(Err(_)) => "FAILED".to_owned(),
            None => "-".to_owned(),
        };
        println!("{:<26}{}", part.name(), columns(outcomes.iter().map(cell)));
    }
    let whole = |outcome: &Outcome| format!("{:.1} s", outcome.took.as_secs_f64());
    println!("{:<26}{}", "qemu, start to end", columns(outcomes.iter().map(whole)));
}

/// Prints a table of the verifier's figures, a column for each kernel.
pub fn print_figures(verifications: &[&Verification]) {
    let releases = verifications.iter().map(|verification| verification.release.clone());
    println!("\ninstructions / own stack / load ms\n{:<26}{}", "program", columns(releases));
    let programs: BTreeSet<&String> = verifications
        .iter()
        .flat_map(|verification| verification.accepted.keys().chain(verification.refused.keys()))
        .collect();
    for program in programs {
        let cell = |verification: &&Verification| match verification.accepted.get(program) {
            Some(figures) => format!(
                "{} / {} / {}",
                figures.processed_instructions,
                figures.own_stack(),
                figures.load_time.as_millis()
            ),
            None if verification.refused.contains_key(program) => "REFUSED".to_owned(),
            None => "-".to_owned(),
        };
        println!("{program:<26}{}", columns(verifications.iter().map(cell)));
    }
    let sum = |verification: &&Verification| {
        let all: u64 = verification.accepted.values().map(|figures| figures.processed_instructions).sum();
        all.to_string()
    };
    println!("{:<26}{}", "instructions, together", columns(verifications.iter().map(sum)));
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>26}")).collect()
}

/// Whether everything went well.
///
/// # Errors
/// Names the kernels and parts with which it did not.
pub fn ensure_passed(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for outcome in outcomes {
        let parts = outcome.parts.iter().filter(|(_, result)| result.is_err());
        failed.extend(parts.map(|(part, _)| format!("{} on Linux {}", part.name(), outcome.release)));
        if outcome.end != End::Off {
            failed.push(format!("the guest of Linux {}, which {}", outcome.release, outcome.end));
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: Tests = Tests { binary: "veth", names: &["one", "two"] };

    #[test]
    fn tests_pass_only_when_all_that_were_named_have_run() {
        for (log, passes) in [
            ("test one ... ok\ntest two ... ok\n\ntest result: ok. 2 passed; 0 failed", true),
            ("test one ... figures\nok\ntest two ... ok\n\ntest result: ok. 2 passed; 0 failed", true),
            ("test one ... ok\n\ntest result: ok. 1 passed; 0 failed", false),
            ("test one ... ok\ntest two ... ignored\n\ntest result: ok. 1 passed; 0 failed; 1 ignored", false),
            ("test one ... ok\ntest two ... FAILED\n\nfailures:\n    two\n\ntest result: FAILED. 1 passed", false),
            ("test result: ok. 0 passed; 0 failed", false),
            ("", false),
        ] {
            assert_eq!(judge_tests(&TESTS, log).is_ok(), passes, "{log}");
        }
    }

    #[test]
    fn status_says_how_a_part_ended() {
        for (line, expected) in [
            ("0 5.00 17.50\n", Ok(12.5)),
            ("101 5.00 17.50\n", Err("exit status 101 after 12.5 s")),
            ("124 5.00 245.00\n", Err("it was not done after 240 s and was ended")),
            ("137 5.00 250.00\n", Err("it was not done after 245 s and was ended")),
            ("", Err("its status is unreadable: \"\"")),
            ("0 5.00", Err("its status is unreadable: \"0 5.00\"")),
        ] {
            let judged = judge_status(line).map(|passed| passed.took);
            assert_eq!(judged, expected.map_err(str::to_owned), "{line}");
        }
    }

    #[test]
    fn kernels_complaints_are_seen() {
        for (line, seen) in [
            ("[    1.2] BUG: kernel NULL pointer dereference, address: 0000000000000000", true),
            ("[   60.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", true),
            ("[   44.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s!", true),
            ("[    0.9] virtio_net virtio3: XDP request 3 queues but max is 1.", false),
            ("part verify", false),
        ] {
            assert_eq!(complaints(line).len(), usize::from(seen), "{line}");
        }
    }
}
