//! Every input of every corpus, and the seeds, once: what was found stays found. `xdp` takes root.

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
    let seeds = (target.seeds)().into_iter().enumerate().map(|(number, seed)| (format!("seed {number}"), seed));
    inputs.extend(seeds);
    inputs
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

replays! { udp, xdp, http, query, config, }
