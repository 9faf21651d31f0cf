//! The programs that a guest runs; built on this machine and used from where they are.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::part::{Files, Part};
use crate::{command, workspace};

/// A line of what cargo prints with `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds what `parts` need, with a profile of cargo's.
pub fn build(parts: &[Part], object: PathBuf, profile: &str) -> anyhow::Result<Files> {
    let object = std::path::absolute(object).context("cannot make the object's path absolute")?;
    ensure!(object.is_file(), "there is no object {}", object.display());
    let xtask = std::env::current_exe().context("cannot tell where this program is")?;
    let mut files = Files { xtask, object, daemon: None, tests: Vec::new(), root: workspace::root() };
    if parts.iter().all(|part| part.tests().is_none()) {
        return Ok(files);
    }
    // The same commands as those of `cargo xtask test`, so that nothing is built twice.
    command::run(command::cargo().args(["build", "--profile", profile, "--package", "tracker"]))?;
    let directory = if profile == "dev" { "debug" } else { profile };
    files.daemon = Some(workspace::target_dir().join(directory).join("tracker"));

    let mut cargo = command::cargo();
    cargo.args([
        "test",
        "--workspace",
        "--exclude",
        "tracker-ebpf",
        "--exclude",
        "interleavings",
        "--exclude",
        "seam",
        "--profile",
        profile,
        "--no-run",
        "--quiet",
    ]);
    let messages = command::output(cargo.arg("--message-format=json"))?;
    files.tests = test_binaries(&messages);
    for part in parts {
        if let Some(tests) = part.tests() {
            let built = files.tests.iter().any(|(name, _)| name == tests.binary);
            ensure!(built, "cargo has built no test binary {}, which the part {} runs", tests.binary, part.name());
        }
    }
    Ok(files)
}

/// The integration tests among what cargo has built: names and files.
fn test_binaries(messages: &str) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| {
            let target = message.target.filter(|target| target.kind.iter().any(|kind| kind == "test"))?;
            Some((target.name, message.executable?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integration_tests_are_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"conformance","kind":["test"]},"executable":"/t/conformance-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"tracker_tests","kind":["lib"]},"executable":"/t/lib-2"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"veth","kind":["test"]},"executable":null}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\nnot JSON\n",
        );
        assert_eq!(test_binaries(messages), [("conformance".to_owned(), PathBuf::from("/t/conformance-1"))]);
    }
}
