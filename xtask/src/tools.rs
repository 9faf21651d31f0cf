//! Programs from crates.io that single tasks use: built once, into the target directory.

use std::{path::PathBuf, process::Command};

use crate::{command, workspace};

/// A program that `cargo install` gets.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Of package and program.
    pub name: &'static str,
    pub version: &'static str,
    /// What `cargo install` is told besides.
    pub options: &'static [&'static str],
}

impl Tool {
    /// Where it is; it is built first if it is not there in this version.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn provide(&self) -> anyhow::Result<PathBuf> {
        let root = workspace::target_dir().join("tools");
        let program = root.join("bin").join(self.name);
        let wanted = format!("{} {}", self.name, self.version);
        let found = command::output(Command::new(&program).arg("--version")).unwrap_or_default();
        if !self.is(&found) {
            eprintln!("{wanted} is built now, into {}", workspace::display(&root));
            let mut cargo = command::cargo();
            cargo.args(["install", self.name, "--version", self.version, "--locked", "--force"]).args(self.options);
            cargo.arg("--root").arg(&root).arg("--target-dir").arg(root.join("build"));
            command::run(&mut cargo)?;
        }
        Ok(program)
    }

    /// Whether this is what it says of its version.
    fn is(&self, said: &str) -> bool {
        let version = said.split_whitespace().last().unwrap_or_default();
        version.trim_start_matches('v') == self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_no_version() {
        let tool = Tool { name: "mdbook", version: "0.5.4", options: &[] };
        for (said, expected) in [
            ("mdbook v0.5.4\n", true),
            ("0.5.4", true),
            ("mdbook v0.5.40", false),
            ("mdbook 0.5.3", false),
            ("", false),
        ] {
            assert_eq!(tool.is(said), expected, "{said:?}");
        }
    }
}
