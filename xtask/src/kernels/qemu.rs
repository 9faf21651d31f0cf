//! qemu: in PATH, or unpacked in the target directory, where Debian's cannot be installed without
//! removing what is here. (Tools of a newer qemu, as backports have them, exclude its older rest.)

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    command, debian,
    needs::{Missing, Remedy},
    workspace,
};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// Where Debian has libraries.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A qemu that can be started.
pub struct Qemu {
    pub program: PathBuf,
    /// What its packages hold, as it would lie below `/`, if they are not installed.
    root: Option<PathBuf>,
}

impl Qemu {
    /// # Errors
    /// When there is none.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(program) = command::find(PROGRAM, &[]) {
            return Ok(Self { program, root: None });
        }
        let root = directory();
        let program = root.join("usr/bin").join(PROGRAM);
        program.is_file().then_some(Self { program, root: Some(root) }).context("there is no qemu-system-x86_64")
    }

    /// Has a command that starts it find what it needs. (Firmware it looks for beside itself.)
    pub fn prepare(&self, command: &mut Command) {
        let Some(root) = &self.root else { return };
        let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let paths = LIBRARIES.iter().map(|path| root.join(path));
        if let Ok(paths) =
            env::join_paths(paths.chain(env::split_paths(&before).filter(|path| !path.as_os_str().is_empty())))
        {
            command.env("LD_LIBRARY_PATH", paths);
        }
        command.env("QEMU_MODULE_DIR", root.join(LIBRARIES[0]).join("qemu"));
    }
}

/// Says that it is missing, if it is.
pub fn missing() -> Option<Missing> {
    Qemu::find().is_err().then(|| Missing {
        what: PACKAGE.to_owned(),
        reason: "virtual machines".to_owned(),
        remedy: Remedy::Installer {
            install: provide,
            otherwise: format!("Install {PACKAGE} or its like, on Debian with\n  apt-get install {PACKAGE}"),
        },
    })
}

fn directory() -> PathBuf {
    workspace::target_dir().join("qemu")
}

/// Installs it; or unpacks it, if something would have to be removed for it.
fn provide() -> anyhow::Result<()> {
    debian::update()?;
    let plan = debian::plan(PACKAGE)?;
    if plan.removed.is_empty() {
        return debian::install(&[PACKAGE]);
    }
    let root = directory();
    eprintln!(
        "apt would remove {} for {PACKAGE}: it is unpacked in {} instead, and nothing is installed",
        plan.removed.join(", "),
        workspace::display(&root)
    );
    unpack(&plan.installed, &root).with_context(|| format!("cannot unpack {PACKAGE}"))
}

/// Downloads packages (`name=version`) and unpacks them into a directory.
fn unpack(packages: &[String], root: &Path) -> anyhow::Result<()> {
    let (files, unfinished) = (root.with_extension("packages"), root.with_extension("unfinished"));
    for directory in [&files, &unfinished] {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
    }
    command::run(Command::new("apt-get").current_dir(&files).args(["--quiet", "download"]).args(packages))?;
    for file in fs::read_dir(&files)? {
        command::run(Command::new("dpkg-deb").arg("--extract").arg(file?.path()).arg(&unfinished))?;
    }
    fs::rename(&unfinished, root)?;
    fs::remove_dir_all(&files)?;
    Ok(())
}
