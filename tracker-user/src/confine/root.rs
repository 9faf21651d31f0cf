//! Another root of the file system (`chroot`): below it the process finds what it goes on with, and nothing
//! else.
//!
//! Names stay as they are. In the new root there is a symbolic link by the new root's own name that leads
//! back to it, so `/srv/tracker/lists/deny` is the same file before and afterwards. What is used later has
//! to be below the new root; what is not is refused at the start, not when it is missed.

use super::Needs;
use anyhow::{Context as _, bail, ensure};
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Makes sure that the tracker can go on in a new root, and that names lead there.
///
/// # Errors
/// When something would be missing there.
pub(super) fn prepare(root: &Path, needs: &Needs, upgrade: bool) -> anyhow::Result<()> {
    let shown = root.display();
    ensure!(root.is_absolute() && root != Path::new("/"), "--chroot {shown} has to be a directory by its full name");
    let real = fs::canonicalize(root).with_context(|| format!("cannot look at {shown} (--chroot)"))?;
    ensure!(real.is_dir() && real == root, "--chroot {shown} has to be a directory, without symbolic links on the way");
    ensure!(
        !upgrade,
        "--chroot takes --in-place-upgrade=off: the program that would take this one's place is outside of {shown}"
    );
    let what = [("--state-dir", &needs.state_dir), ("--pin-path", &needs.pins)];
    let named = what.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?)));
    let files = needs.files.iter().map(|path| ("a file that is read again", path));
    for (what, path) in named.chain(files) {
        if !is_below(root, path) {
            bail!(
                "{} is outside of --chroot {shown}, and would not be found any more ({what}): it has to be below it, by its \
                 full name",
                path.display()
            );
        }
    }
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    // Numbers of descriptors and of processors are asked for there.
    for (path, kind) in [("/proc", "proc"), ("/sys", "sysfs")] {
        let place = inside(Path::new(path));
        let is_there = fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some());
        if needs.xdp && !is_there {
            bail!("XDP takes {path} in --chroot {shown}: mount -t {kind} {kind} {}", place.display());
        }
    }
    if let Some(path) = needs.sockets.iter().find(|path| !inside(path).exists()) {
        bail!(
            "{} is outside of --chroot {shown}, and this service is told of there, or its lines go there: have it there by a \
             bind mount, use --log-format text and Type=exec, or let systemd do it (RootDirectory=)",
            path.display()
        );
    }
    let link = inside(root);
    match fs::read_link(&link) {
        Ok(target) => ensure!(target == Path::new("/"), "{} does not lead to / (--chroot)", link.display()),
        Err(_) => {
            let made = link.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink("/", &link));
            made.with_context(|| {
                format!("cannot make the link {} to /, by which names stay (--chroot)", link.display())
            })?;
        }
    }
    Ok(())
}

/// Whether a path, and what it leads to, is below a directory.
fn is_below(root: &Path, path: &Path) -> bool {
    // What is made later is where its directory is.
    let real = fs::canonicalize(path).or_else(|_| fs::canonicalize(path.parent().unwrap_or(path)));
    path.is_absolute() && path.starts_with(root) && real.is_ok_and(|real| real.starts_with(root))
}

/// Goes there, with all threads.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn enter(root: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot make {} the root (--chroot), which takes CAP_SYS_CHROOT", root.display());
    rustix::process::chroot(root).with_context(cannot)?;
    env::set_current_dir("/").with_context(cannot)
}

/// Sockets that systemd has given the name of.
#[must_use]
pub fn sockets_of_the_system(journal: Option<&Path>) -> Vec<PathBuf> {
    // One in the abstract name space is found from everywhere.
    let notify = env::var_os("NOTIFY_SOCKET").map(PathBuf::from).filter(|path| path.is_absolute());
    notify.into_iter().chain(journal.map(Path::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_missing_is_refused_by_name() {
        let base = env::temp_dir().join(format!("tracker-root-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let root = fs::canonicalize(env::temp_dir()).expect("a directory").join(base.file_name().expect("a name"));
        fs::create_dir_all(root.join("state")).expect("writable");
        fs::create_dir_all(root.join("run")).expect("writable");
        fs::write(root.join("tracker.toml"), "").expect("writable");
        fs::write(root.join("run/socket"), "").expect("writable");
        symlink("/etc/hostname", root.join("leads-out")).expect("a link");
        let path = |name: &str| root.join(name);
        let needs = |change: &dyn Fn(&mut Needs)| {
            let mut needs =
                Needs { state_dir: Some(path("state")), files: vec![path("tracker.toml")], ..Needs::default() };
            change(&mut needs);
            needs
        };
        type Row<'a> = (&'a str, &'a dyn Fn(&mut Needs), Option<&'a str>);
        let rows: [Row<'_>; 9] = [
            ("as it should be", &|_| (), None),
            ("again: the link is there", &|_| (), None),
            ("a state directory to be made", &|needs| needs.state_dir = Some(path("new")), None),
            (
                "a state directory outside",
                &|needs| needs.state_dir = Some("/var/lib/tracker".into()),
                Some("--state-dir"),
            ),
            ("a relative file", &|needs| needs.files.push("lists/deny".into()), Some("lists/deny is outside")),
            ("a link that leads out", &|needs| needs.files.push(path("leads-out")), Some("leads-out is outside")),
            ("pins outside", &|needs| needs.pins = Some("/sys/fs/bpf/tracker".into()), Some("--pin-path")),
            ("XDP without /proc", &|needs| needs.xdp = true, Some("mount -t proc proc")),
            ("a socket that is not there", &|needs| needs.sockets = vec!["/run/other".into()], Some("RootDirectory=")),
        ];
        for (name, change, expected) in rows {
            let result = prepare(&root, &needs(change), false).map_err(|error| format!("{error:#}"));
            match expected {
                None => assert_eq!(result, Ok(()), "{name}"),
                Some(part) => assert!(result.as_ref().is_err_and(|error| error.contains(part)), "{name}: {result:?}"),
            }
        }
        assert!(prepare(&root, &needs(&|needs| needs.sockets = vec!["/run/socket".into()]), false).is_ok());
        let inside = root.join(root.strip_prefix("/").expect("absolute"));
        assert_eq!(fs::canonicalize(inside.join("etc")).ok(), fs::canonicalize("/etc").ok(), "it leads to the root");
        for (other, upgrade) in [("/", false), ("relative", false), ("/nonexistent", false), ("/etc/hostname", false)] {
            assert!(prepare(Path::new(other), &Needs::default(), upgrade).is_err(), "{other}");
        }
        let error = prepare(&root, &needs(&|_| ()), true).expect_err("an upgrade would fail");
        assert!(error.to_string().contains("--in-place-upgrade=off"), "{error}");
        fs::remove_dir_all(&root).expect("removable");
    }
}
