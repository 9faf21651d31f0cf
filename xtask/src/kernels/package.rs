//! Debian's kernel packages: found by name, downloaded, unpacked. None is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use super::image;
use crate::{command, debian, workspace};

const PREFIX: &str = "linux-image-";
const SUFFIX: &str = "-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    /// As `uname -r` prints it, for example 6.1.0-49-amd64.
    pub release: String,
    /// What the package holds, as it would lie below `/`.
    root: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series (6.1), or the one of that name (6.1.0-49), unpacked in
    /// `directory`. Downloads it when it is not there.
    ///
    /// # Errors
    /// Names the package that cannot be had.
    pub fn take(wanted: &str, directory: &Path) -> anyhow::Result<Self> {
        let package = match newest(wanted)? {
            Some(package) => package,
            None if debian::is_root() => {
                debian::update()?;
                newest(wanted)?.with_context(|| unknown(wanted))?
            }
            None => bail!(unknown(wanted)),
        };
        let root = directory.join(package.stem());
        if !image_in(&root).is_file() {
            let file = package.download(directory)?;
            unpack(&file, &package.release, &root)
                .with_context(|| format!("cannot unpack the package {}", package.name()))?;
        }
        Ok(Self { release: package.release, root })
    }

    /// A kernel without modules, which lies at `root` as a package would have it.
    pub fn without_modules(release: String, root: PathBuf) -> Self {
        Self { release, root }
    }

    /// Whether [`Kernel::take`] would have nothing to download.
    pub fn is_unpacked(wanted: &str, directory: &Path) -> bool {
        newest(wanted).ok().flatten().is_some_and(|package| image_in(&directory.join(package.stem())).is_file())
    }

    /// The kernel, decompressed.
    pub fn image(&self) -> PathBuf {
        image_in(&self.root)
    }

    /// Its modules, and the lists that modprobe reads.
    pub fn modules(&self) -> PathBuf {
        modules_of(&self.root, &self.release)
    }

    /// The files of the modules that are needed for `names`, in the order in which they have to be
    /// loaded. What is built into the kernel has none.
    pub fn module_files(&self, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        if !self.modules().exists() {
            return Ok(files);
        }
        for name in names {
            let list = command::output(
                Command::new(tool("modprobe"))
                    .args(["--show-depends", "--set-version", &self.release, "--dirname"])
                    .arg(&self.root)
                    .arg(name),
            )
            .with_context(|| format!("Linux {} has no module {name}", self.release))?;
            for line in list.lines() {
                let Some(file) = line.strip_prefix("insmod ") else { continue };
                let file = PathBuf::from(file.trim());
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// A program of the administrator's directories, which not everybody has in PATH.
fn tool(name: &str) -> PathBuf {
    command::find(name, &[Path::new("/usr/sbin"), Path::new("/sbin")]).unwrap_or_else(|| name.into())
}

fn image_in(root: &Path) -> PathBuf {
    root.join("boot/vmlinux")
}

fn modules_of(root: &Path, release: &str) -> PathBuf {
    root.join("lib/modules").join(release)
}

fn unknown(wanted: &str) -> String {
    format!(
        "apt knows no package {PREFIX}{wanted}[…]{SUFFIX}: is that a series of this Debian release, and has `apt-get update` \
         been run?"
    )
}

/// A package that apt knows.
struct Package {
    release: String,
    version: String,
}

impl Package {
    fn name(&self) -> String {
        format!("{PREFIX}{}", self.release)
    }

    /// Name and version, as the file has them.
    fn stem(&self) -> String {
        format!("{}_{}", self.name(), self.version.replace(':', "%3a"))
    }

    /// The package's file; what is there already is not fetched again.
    fn download(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        let file = directory.join(format!("{}_amd64.deb", self.stem()));
        let named = format!("{}={}", self.name(), self.version);
        if !file.exists() {
            // Written to its final name by apt when it is whole and its checksum is right.
            let mut download = Command::new("apt-get");
            download.current_dir(directory).args(["--quiet", "download", &named]);
            command::run(&mut download).with_context(|| format!("cannot download the kernel package {named}"))?;
        }
        ensure!(file.exists(), "apt-get has downloaded {named}, but not to {}", workspace::display(&file));
        Ok(file)
    }
}

/// The newest package for what is wanted.
fn newest(wanted: &str) -> anyhow::Result<Option<Package>> {
    let pattern = format!("^{PREFIX}{}", wanted.replace('.', "\\.").replace('+', "\\+"));
    let list = command::output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))
        .context("cannot ask apt which kernels there are; this takes Debian or a derivative")?;
    let releases = list.lines().filter_map(|line| line.split(' ').next()?.strip_prefix(PREFIX));
    let Some(release) = releases.filter(|release| fits(release, wanted)).max_by_key(|release| numbers(release)) else {
        return Ok(None);
    };
    let name = format!("{PREFIX}{release}");
    let shown = command::output(Command::new("apt-cache").args(["show", "--no-all-versions", &name]))?;
    let version = shown
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .with_context(|| format!("apt knows no version of {name}"))?;
    Ok(Some(Package { release: release.to_owned(), version: version.trim().to_owned() }))
}

/// Whether a kernel of this release is what is wanted: of the series, or the very one, with or
/// without the architecture. Packages without a patch level stand for whole series and hold
/// nothing, and those for clouds or real time are others.
fn fits(release: &str, wanted: &str) -> bool {
    let Some(version) = release.strip_suffix(SUFFIX) else { return false };
    let wanted = wanted.strip_suffix(SUFFIX).unwrap_or(wanted);
    let Some(rest) = version.strip_prefix(wanted) else { return false };
    let flavour = ["-cloud", "-rt"].iter().any(|flavour| version.ends_with(flavour));
    !flavour && (rest.is_empty() || rest.starts_with(['.', '-', '+'])) && numbers(version).len() > 2
}

/// The numbers in a release, by which one is newer than another.
fn numbers(release: &str) -> Vec<u64> {
    let version = release.strip_suffix(SUFFIX).unwrap_or(release);
    version.split(|character: char| !character.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Unpacks a package, and writes what is not in it: the lists of modules that its installation
/// would have written, and the kernel decompressed, for a guest without hardware support takes
/// seconds to do that.
fn unpack(package: &Path, release: &str, root: &Path) -> anyhow::Result<()> {
    // The name ends with a version, of which `with_extension` would take a part away.
    let unfinished = PathBuf::from(format!("{}.unfinished", root.display()));
    for left in [root, &unfinished] {
        if left.exists() {
            fs::remove_dir_all(left).with_context(|| format!("cannot remove {}", workspace::display(left)))?;
        }
    }
    command::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unfinished))?;
    ensure!(modules_of(&unfinished, release).is_dir(), "it holds no modules for {release}");
    command::run(Command::new(tool("depmod")).arg("--basedir").arg(&unfinished).arg(release))?;
    let compressed = unfinished.join(format!("boot/vmlinuz-{release}"));
    fs::write(image_in(&unfinished), image::decompress(&compressed)?)
        .with_context(|| format!("cannot write {}", workspace::display(&image_in(&unfinished))))?;
    fs::rename(&unfinished, root).with_context(|| format!("cannot make {}", workspace::display(root)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_is_chosen_by_series_or_by_name() {
        for (release, wanted, expected) in [
            ("6.1.0-49-amd64", "6.1", true),
            ("6.1.0-49-amd64", "6.1.0-49", true),
            ("6.1.0-49-amd64", "6.1.0-49-amd64", true),
            ("6.12.117+deb12-amd64", "6.12", true),
            ("6.12.117+deb12-amd64", "6.12.117", true),
            ("6.12.9+bpo-amd64", "6.12", true),
            // Another series, another kernel.
            ("6.12.117+deb12-amd64", "6.1", false),
            ("6.1.0-49-amd64", "6.12", false),
            ("6.1.0-49-amd64", "6.1.0-4", false),
            // Other flavours, symbols, sources of signatures, names of series.
            ("6.1.0-49-cloud-amd64", "6.1", false),
            ("6.1.0-49-rt-amd64", "6.1", false),
            ("6.1.0-49-amd64-dbg", "6.1", false),
            ("6.1.0-49-amd64-unsigned", "6.1", false),
            ("6.12-amd64", "6.12", false),
            ("amd64", "6.12", false),
            ("6.1.0-49-686", "6.1", false),
        ] {
            assert_eq!(fits(release, wanted), expected, "{release} for {wanted}");
        }
    }

    #[test]
    fn newer_release_has_the_larger_numbers() {
        for (older, newer) in [
            ("6.1.0-9-amd64", "6.1.0-49-amd64"),
            ("6.12.9+deb12-amd64", "6.12.117+deb12-amd64"),
            ("6.12.117+deb12-amd64", "6.12.117+deb13-amd64"),
        ] {
            assert!(numbers(older) < numbers(newer), "{older} {newer}");
        }
    }
}
