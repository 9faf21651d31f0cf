//! What came of a guest's parts, read from the files it has left, and how that is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;

use super::{
    drivers,
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
    pub processor_time: Duration,
    pub parts: BTreeMap<Part, Judged>,
    pub verification: Option<Verification>,
    /// The last lines of the guest's console.
    pub console: String,
    /// Lines of the console by which the kernel complains of itself.
    pub complaints: Vec<String>,
    /// Where the results are.
    pub share: PathBuf,
}

/// What came of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub times: Option<Times>,
    /// Why it has not done what it should.
    pub result: Result<(), String>,
}

/// Seconds of the guest's clock: from its start to the part's, and for the part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    pub began: f64,
    pub took: f64,
}

/// Reads what came of a part.
pub fn read(part: Part, share: &Path) -> Judged {
    let Ok(status) = fs::read_to_string(share.join(part.status())) else {
        let begun = share.join(part.log()).exists();
        let why = if begun { "it was begun and did not end" } else { "it was not begun" };
        return Judged { times: None, result: Err(why.to_owned()) };
    };
    let mut judged = judge_status(&status);
    if let (Ok(()), Some(tests)) = (&judged.result, part.tests()) {
        let log = fs::read_to_string(share.join(part.log())).unwrap_or_default();
        judged.result = judge_tests(&tests, &log);
    }
    judged
}

/// Judges `status began ended`.
fn judge_status(line: &str) -> Judged {
    let numbers: Vec<f64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [status, began, ended] = numbers[..] else {
        return Judged { times: None, result: Err(format!("its status is unreadable: {line:?}")) };
    };
    let took = ended - began;
    // By which `timeout` says that it has ended the command, and, if that took SIGKILL, the
    // signal's.
    let result = match status as i32 {
        0 => Ok(()),
        124 | 137 => Err(format!("it was not done after {took:.0} s and was ended")),
        status => Err(format!("exit status {status}")),
    };
    Judged { times: Some(Times { began, took }), result }
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
    for (part, judged) in &outcome.parts {
        let Err(why) = &judged.result else { continue };
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

/// Prints what the replies were on real drivers.
pub fn print_drivers(outcome: &Outcome) {
    let log = fs::read_to_string(outcome.share.join(Part::Drivers.log())).unwrap_or_default();
    let table = drivers::table(&log);
    if !table.is_empty() {
        println!("\nLinux {}: peers in the replies, by what was wanted\n{}", outcome.release, table.join("\n"));
    }
}

/// Prints a table of the parts and their times.
pub fn print_times(outcomes: &[Outcome]) {
    println!("\n{:<26}{}", "part", columns(outcomes.iter().map(|outcome| outcome.release.clone())));
    let parts: BTreeSet<Part> = outcomes.iter().flat_map(|outcome| outcome.parts.keys().copied()).collect();
    let boot = |outcome: &Outcome| {
        let first = outcome.parts.values().find_map(|part| part.times);
        first.map_or_else(|| "?".to_owned(), |first| format!("{:.1} s", first.began))
    };
    println!("{:<26}{}", "until the first part", columns(outcomes.iter().map(boot)));
    for part in parts {
        let cell = |outcome: &Outcome| match outcome.parts.get(&part) {
            Some(Judged { times: Some(times), result: Ok(()) }) => format!("{:.1} s", times.took),
            Some(Judged { times: Some(times), result: Err(_) }) => format!("FAILED, {:.1} s", times.took),
            Some(Judged { times: None, .. }) => "FAILED".to_owned(),
            None => "-".to_owned(),
        };
        println!("{:<26}{}", part.name(), columns(outcomes.iter().map(cell)));
    }
    let whole = |outcome: &Outcome| format!("{:.1} s", outcome.took.as_secs_f64());
    println!("{:<26}{}", "qemu, start to end", columns(outcomes.iter().map(whole)));
    let processor = |outcome: &Outcome| format!("{:.1} s", outcome.processor_time.as_secs_f64());
    println!("{:<26}{}", "qemu, processor time", columns(outcomes.iter().map(processor)));
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
        let parts = outcome.parts.iter().filter(|(_, judged)| judged.result.is_err());
        failed.extend(parts.map(|(part, _)| format!("{} on Linux {}", part.name(), outcome.release)));
        if outcome.end != End::Off {
            failed.push(format!("the guest of Linux {}, which {}", outcome.release, outcome.end));
        }
        if !outcome.complaints.is_empty() {
            failed.push(format!("Linux {}, which complains of itself", outcome.release));
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
        for (line, took, expected) in [
            ("0 5.00 17.50\n", Some(12.5), Ok(())),
            ("101 5.00 17.50\n", Some(12.5), Err("exit status 101")),
            ("124 5.00 245.00\n", Some(240.0), Err("it was not done after 240 s and was ended")),
            ("137 5.00 250.00\n", Some(245.0), Err("it was not done after 245 s and was ended")),
            ("", None, Err("its status is unreadable: \"\"")),
            ("0 5.00", None, Err("its status is unreadable: \"0 5.00\"")),
            ("0 five 17", None, Err("its status is unreadable: \"0 five 17\"")),
        ] {
            let judged = judge_status(line);
            assert_eq!(judged.times.map(|times| times.took), took, "{line}");
            assert_eq!(judged.result, expected.map_err(str::to_owned), "{line}");
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
