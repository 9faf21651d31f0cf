//! Every input of every corpus once: what was found stays found. `xdp` takes root.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
};
use tracker_fuzz::{TARGETS, Target};

/// The inputs of a target with their names.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("fuzz").join("corpus").join(target.name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a file");
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("readable"))
        })
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", directory.display());
    inputs.sort();
    inputs
}

/// The seeds are committed as their encoders make them, under names of their own.
#[test]
fn seeds_are_committed_as_they_are_made() {
    for target in &TARGETS {
        let inputs = inputs(target);
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let name = format!("seed-{number:02}");
            let committed = inputs.iter().find(|(other, _)| *other == name);
            assert!(
                committed.is_some_and(|(_, committed)| *committed == seed),
                "{name} of {} is another: `cargo run -p tracker-fuzz --bin seeds -- fuzz/corpus`",
                target.name
            );
        }
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let failed: Vec<_> = inputs(target)
        .into_iter()
        .filter(|(_, input)| panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err())
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "inputs of {name} that fail: {failed:?}");
}

/// A test per target, and one that says that none is forgotten.
macro_rules! replays {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn no_target_is_forgotten() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

replays! { udp, xdp, http, query, config, list, snapshot, cluster, }
