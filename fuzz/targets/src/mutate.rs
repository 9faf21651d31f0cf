//! The targets without libFuzzer: inputs of the corpus, and the seeds, changed at random, without
//! knowledge of what they reach. Needs no C++ and no unstable option, repeats itself with the same
//! seed, and cuts what fails as short as it can.

use anyhow::{Context as _, bail};
use clap::Parser;
use fastrand::Rng;
use std::{
    fs, panic,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tracker_fuzz::TARGETS;

/// Run one fuzz target on changed inputs
#[derive(Parser)]
struct Options {
    /// The target
    target: String,
    /// Seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where an input that fails is put
    #[arg(long, default_value = ".")]
    found: PathBuf,
}

/// Longest input, in bytes.
const LONGEST: usize = 4096;

fn byte(random: &mut Rng) -> u8 {
    const TELLING: &[u8] = b"\0\x01\x7f\x80\xff%&=-+ \r\n:/?0919aAfFgkM\"[]";
    if random.bool() { random.u8(..) } else { TELLING[random.usize(..TELLING.len())] }
}

/// A part of something.
fn part<'a>(random: &mut Rng, of: &'a [u8]) -> &'a [u8] {
    let from = random.usize(..=of.len());
    &of[from..from + random.usize(..=(of.len() - from).min(64))]
}

fn change(random: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(..=input.len());
    match random.u8(..6) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        1 if at < input.len() => input[at] = byte(random),
        2 => input.insert(at, byte(random)),
        3 => drop(input.drain(at..(at + random.usize(..32)).min(input.len()))),
        4 => drop(input.splice(at..at, part(random, other).iter().copied())),
        _ => {
            let part = part(random, input).to_vec();
            drop(input.splice(at..at, part));
        }
    }
    input.truncate(LONGEST);
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let target = TARGETS.iter().find(|target| target.name == options.target);
    let target = target.with_context(|| format!("there is no target {}", options.target))?;
    let mut inputs = (target.seeds)();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name);
    if let Ok(entries) = fs::read_dir(corpus) {
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        inputs.extend(paths.iter().filter_map(|path| fs::read(path).ok()));
    }
    let mut random = Rng::with_seed(options.seed);
    let (begin, mut executions) = (Instant::now(), 0_u64);
    while begin.elapsed() < Duration::from_secs(options.seconds) {
        let mut input = inputs[random.usize(..inputs.len())].clone();
        for _ in 0..=random.u8(..8) {
            let other = random.usize(..inputs.len());
            change(&mut random, &mut input, &inputs[other]);
        }
        executions += 1;
        if fails(target.run, &input) {
            let seconds = begin.elapsed().as_secs_f64();
            panic::set_hook(Box::new(|_| ()));
            let short = shortened(target.run, input);
            let path = options.found.join(format!("{}-{}-{executions}", target.name, options.seed));
            fs::write(&path, short).with_context(|| format!("cannot write {}", path.display()))?;
            bail!("found after {executions} executions, {seconds:.1} s: {}", path.display());
        }
    }
    println!("{}: {executions} executions, nothing found", target.name);
    Ok(())
}

fn fails(run: fn(&[u8]), input: &[u8]) -> bool {
    panic::catch_unwind(|| run(input)).is_err()
}

/// A shorter input that fails as well, found by cutting pieces out.
fn shortened(run: fn(&[u8]), mut input: Vec<u8>) -> Vec<u8> {
    let mut piece = input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let rest = [&input[..at], &input[(at + piece).min(input.len())..]].concat();
            if fails(run, &rest) {
                input = rest;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    input
}
