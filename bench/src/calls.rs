//! `cargo xtask bench calls`: what calls cost in a BPF program on this kernel, and what the kernel
//! does against the processor's weaknesses, which is most of it.
//!
//! Small programs that do the same thing often are called in the kernel's test mode; the time of
//! one that does nothing is subtracted.

use std::{fs, path::Path};

use anyhow::Context as _;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use bench_ebpf::{COST_CALLS, COST_TAIL_CALLS};
use tracker_tests::interrupt;

use crate::{cores, object::Object, report::Machine, statistics::Summary};

/// Calls of a program per system call.
const REPEAT: u32 = 100_000;

#[derive(clap::Args)]
pub struct Options {
    /// How often each program is measured
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// The core to measure on
    #[arg(long, default_value_t = 0, value_name = "CORE")]
    core: usize,
}

/// A program that makes calls of one kind.
struct Cost {
    program: &'static str,
    title: &'static str,
    calls: u32,
    /// The program whose time is subtracted.
    without: &'static str,
}

const COSTS: [Cost; 6] = [
    Cost { program: "cost_helper", title: "helper call", calls: COST_CALLS, without: "noop" },
    Cost { program: "cost_function", title: "call of a function of the program", calls: COST_CALLS, without: "noop" },
    Cost { program: "cost_loop", title: "turn of bpf_loop (an indirect call)", calls: COST_CALLS, without: "noop" },
    Cost { program: "cost_tail", title: "tail call", calls: COST_TAIL_CALLS, without: "noop" },
    Cost {
        program: "cost_networks",
        title: "an address among 500 000 networks (LPM_TRIE)",
        calls: COST_CALLS,
        without: "cost_address",
    },
    Cost {
        program: "cost_pages",
        title: "the same by a bit per /24 (the tracker's table)",
        calls: COST_CALLS,
        without: "cost_address",
    },
];

pub fn run(options: &Options) -> anyhow::Result<()> {
    interrupt::catch()?;
    cores::pin(0, options.core).context("cannot move to the core that is measured")?;
    let mut object = Object::load(1, 1)?;
    let tail = object.programs.get("cost_tail")?.fd()?.try_clone()?;
    object.maps.set_target(&tail)?;
    object.maps.list_networks()?;
    let machine = Machine::this();
    println!("{}, Linux {}", machine.processor, machine.kernel);
    println!("  {:<52} {:>8}   lowest, highest", "", "ns");
    for cost in &COSTS {
        let mut each = Vec::new();
        for _ in 0..options.rounds {
            interrupt::check()?;
            let nothing = time(object.programs.get(cost.without)?)?;
            let calls = time(object.programs.get(cost.program)?)?;
            each.push((calls - nothing) / f64::from(cost.calls));
        }
        let Summary { median, lowest, highest } = Summary::of(each);
        println!("  {:<52} {median:>8.2}   {lowest:.2}, {highest:.2}", cost.title);
    }
    println!("mitigations:");
    for (name, text) in weaknesses(Path::new("/sys/devices/system/cpu/vulnerabilities")) {
        println!("  {name:<24} {text}");
    }
    Ok(())
}

/// Mean nanoseconds per call of a program.
fn time(program: &Xdp) -> anyhow::Result<f64> {
    let data = [0; 64];
    let options = TestRunOptions { data_in: Some(&data), repeat: REPEAT, ..TestRunOptions::new() };
    let result = program.test_run(options).context("cannot run the program in test mode (BPF_PROG_TEST_RUN)")?;
    Ok(result.duration.as_nanos() as f64)
}

/// The weaknesses that this processor has, and what the kernel does against each. A line for all
/// that it does not have.
fn weaknesses(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), text.trim().to_owned()))
        })
        .collect();
    files.sort();
    brief(files)
}

fn brief(files: Vec<(String, String)>) -> Vec<(String, String)> {
    if files.is_empty() {
        return vec![("unknown".to_owned(), "the kernel does not say".to_owned())];
    }
    let (absent, present): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, text)| text == "Not affected");
    let mut lines: Vec<(String, String)> = present
        .into_iter()
        .map(|(name, text)| (name, text.strip_prefix("Mitigation: ").map_or(text.clone(), str::to_owned)))
        .collect();
    if !absent.is_empty() {
        lines.push(("not affected by".to_owned(), format!("{} others", absent.len())));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_weaknesses_that_there_are_are_listed() {
        let row = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        for (files, lines) in [
            (vec![], vec![row("unknown", "the kernel does not say")]),
            (vec![row("meltdown", "Not affected")], vec![row("not affected by", "1 others")]),
            (
                vec![row("mds", "Not affected"), row("spectre_v2", "Mitigation: Retpolines; IBPB: conditional")],
                vec![row("spectre_v2", "Retpolines; IBPB: conditional"), row("not affected by", "1 others")],
            ),
            (vec![row("retbleed", "Vulnerable")], vec![row("retbleed", "Vulnerable")]),
        ] {
            assert_eq!(brief(files), lines);
        }
    }
}
