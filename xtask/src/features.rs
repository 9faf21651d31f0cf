//! Whether `cargo xtask`, the daemon and the tests ask for the same features of each dependency.
//! Where they do not, it is compiled once for each of them, and so is all that depends on it; what
//! to do then is said in workspace-features/Cargo.toml.

use std::{collections::BTreeMap, process::Command};

use crate::{command, workspace};

/// What the tasks build, and the edges of the dependency graph that matter for it.
const BUILDS: [(&str, &[&str], &str); 4] = [
    ("cargo xtask", &["--package", "xtask"], "normal,build"),
    ("the benchmark", &["--package", "tracker-bench"], "normal,build"),
    ("the daemon", &["--package", "tracker"], "normal,build"),
    (
        "the tests",
        &["--workspace", "--exclude", "tracker-ebpf", "--exclude", "interleavings", "--exclude", "seam"],
        "normal,build,dev",
    ),
];

/// The features of each package. A package that is there for programs of the build as well has
/// those as another one.
fn features(packages: &[&str], edges: &str) -> BTreeMap<String, Vec<String>> {
    let mut cargo: Command = command::cargo();
    cargo.args(["tree", "--locked", "--offline", "--no-dedupe", "--prefix", "none", "--format", "{p}|{f}"]);
    cargo.args(packages).args(["--edges", edges]).current_dir(workspace::root());
    let tree = command::output(&mut cargo).unwrap();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (package, features) in tree.lines().filter_map(|line| line.split_once('|')) {
        let of_package = all.entry(package.to_owned()).or_default();
        if !of_package.iter().any(|known| known == features) {
            of_package.push(features.to_owned());
        }
    }
    all
}

#[test]
fn every_dependency_is_compiled_once() {
    let builds = BUILDS.map(|(name, packages, edges)| (name, features(packages, edges)));
    let mut different = String::new();
    for (number, (one_name, one)) in builds.iter().enumerate() {
        for (other_name, other) in &builds[number + 1..] {
            for (package, features) in one {
                let Some(others) = other.get(package) else { continue };
                // For the target or for programs of the build: one of them has to be common to
                // both.
                if !features.iter().any(|known| others.contains(known)) {
                    different += &format!("{package}: {one_name} {features:?}, {other_name} {others:?}\n");
                }
            }
        }
    }
    assert!(different.is_empty(), "different features; see workspace-features/Cargo.toml:\n{different}");
    assert!(builds.iter().all(|(_, all)| all.len() > 50), "`cargo tree` lists packages with their features");
}
