//! What a guest begins with: busybox, and the modules by which it reaches this machine's files.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::{image, package::Kernel};
use crate::{command, workspace};

/// The modules that mount this machine's `/`; all others are loaded from there.
const MODULES: [&str; 4] = ["virtio_pci", "9p", "9pnet_virtio", "overlay"];

/// Makes this machine's `/` the guest's, by 9p and read-only, with a file system in memory upon it
/// that takes all changes; then runs the job there and switches the machine off. `host` and `share`
/// are the tags of the 9p file systems.
///
/// The first may be cached for as long as the guest lives, for nothing that the guest uses is
/// changed meanwhile. The second brings results back and must not.
const INIT: &str = include_str!("init.sh");

/// Builds the archive in `directory`, and returns where it is.
pub fn build(kernel: &Kernel, directory: &Path) -> anyhow::Result<PathBuf> {
    let tree = directory.join("initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", workspace::display(&tree)))?;
    }
    for name in ["bin", "dev", "proc", "sys", "modules", "host", "memory", "root"] {
        fs::create_dir_all(tree.join(name)).context("cannot make the tree of the initramfs")?;
    }
    let busybox = command::find("busybox", &[]).context("there is no busybox in PATH")?;
    fs::copy(&busybox, tree.join("bin/busybox")).with_context(|| format!("cannot copy {}", busybox.display()))?;
    let init = tree.join("init");
    fs::write(&init, INIT).context("cannot write the initramfs' init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("cannot make init executable")?;
    // Numbered, so that their names tell the order.
    for (number, file) in kernel.module_files(&MODULES)?.iter().enumerate() {
        let module = image::decompressed_file(file)?;
        fs::write(tree.join(format!("modules/{number:02}.ko")), module).context("cannot copy a module")?;
    }
    let archive = directory.join("initramfs.cpio");
    pack(&tree, &archive)?;
    Ok(archive)
}

fn pack(tree: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    collect(tree, Path::new(""), &mut names)?;
    let to = File::create(archive).with_context(|| format!("cannot write {}", workspace::display(archive)))?;
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--null", "--quiet"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(to)
        .spawn()
        .context("cannot start cpio")?;
    let mut list = cpio.stdin.take().context("stdin was piped")?;
    for name in names {
        list.write_all(name.as_os_str().as_encoded_bytes()).and_then(|()| list.write_all(&[0])).context("cpio")?;
    }
    drop(list);
    let status = cpio.wait().context("cpio")?;
    if !status.success() {
        bail!("cpio failed: {status}");
    }
    Ok(())
}

/// The names below `tree`, directories before what is in them.
fn collect(tree: &Path, below: &Path, names: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(tree.join(below)).context("cannot read the tree of the initramfs")? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        names.push(name.clone());
        if entry.file_type()?.is_dir() {
            collect(tree, &name, names)?;
        }
    }
    Ok(())
}
