//! Another user and group. The C library asks whoever knows users on this machine, and changes the
//! ids of all threads at once.

use super::Wanted;
use anyhow::{Context as _, bail};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities, set_keep_capabilities};
use std::{
    ffi::{CStr, CString},
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown},
    path::Path,
};
use tracing::warn;

/// What the tracker keeps in its state directory. Other files there are left alone.
const STATE: [&str; 2] = ["connection.key", "swarms."];

/// Whom to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    user: libc::uid_t,
    group: libc::gid_t,
    /// The user's name, whose other groups come with it. Without one there are none.
    name: Option<CString>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "user {} ({}), group {}", name.to_string_lossy(), self.user, self.group),
            None => write!(f, "user {}, group {}", self.user, self.group),
        }
    }
}

/// The options that say whom to become, as one text for the next tracker.
pub(super) fn options(wanted: &Wanted) -> String {
    format!("{} {}", wanted.user.as_deref().unwrap_or_default(), wanted.group.as_deref().unwrap_or_default())
}

/// Whom the operator wants. `None` for who it is already. `before`: the options that the tracker has
/// followed which has become this one.
///
/// # Errors
/// When there is no such user or group.
pub(super) fn wanted(wanted: &Wanted, before: Option<&str>) -> anyhow::Result<Option<Identity>> {
    // Landlock's rules are for the file of users that was there then. `useradd` makes another one,
    // in which this process could not look anymore.
    if wanted.user.is_none() && wanted.group.is_none() || before == Some(&options(wanted)) {
        return Ok(None);
    }
    let (own, own_group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (user, mut group, name) = match &wanted.user {
        Some(text) => user(text)?,
        None => (own, own_group, None),
    };
    if let Some(text) = &wanted.group {
        group = self::group(text)?;
    }
    let identity = Identity { user, group, name };
    if (user, group) == (own, own_group) {
        return Ok(None);
    }
    if own != 0 {
        // Who has started it so has no more than that to lose.
        warn!("only root can become {identity}: the tracker stays user {own} (--user, --group)");
        return Ok(None);
    }
    Ok(Some(identity))
}

/// Number, group and name of a user.
fn user(text: &str) -> anyhow::Result<(libc::uid_t, libc::gid_t, Option<CString>)> {
    let name = CString::new(text).context("--user has a zero byte in it")?;
    let number = text.parse::<libc::uid_t>().ok();
    // SAFETY: the name ends with a zero byte. What the result points to is valid until the next such
    // call, and is copied before that; nothing else in this process asks for users.
    let found = unsafe {
        let entry = number.map_or_else(|| libc::getpwnam(name.as_ptr()), |number| libc::getpwuid(number));
        entry.as_ref().map(|entry| (entry.pw_uid, entry.pw_gid, CStr::from_ptr(entry.pw_name).to_owned()))
    };
    match (found, number) {
        (Some((user, group, name)), _) => Ok((user, group, Some(name))),
        (None, Some(number)) => Ok((number, number, None)),
        (None, None) => bail!("there is no user {text} (--user); `useradd --system {text}` makes one"),
    }
}

/// Number of a group.
fn group(text: &str) -> anyhow::Result<libc::gid_t> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let name = CString::new(text).context("--group has a zero byte in it")?;
    // SAFETY: as for users.
    let found = unsafe { libc::getgrnam(name.as_ptr()).as_ref().map(|entry| entry.gr_gid) };
    found.with_context(|| format!("there is no group {text} (--group); `groupadd --system {text}` makes one"))
}

impl Identity {
    /// Becomes this user, in all threads. This thread keeps its capabilities, the others lose them.
    pub(super) fn become_it(&self) -> io::Result<()> {
        let check = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        set_keep_capabilities(true)?;
        // SAFETY: the name ends with a zero byte; no other call takes a pointer that is read.
        unsafe {
            check(match &self.name {
                Some(name) => libc::initgroups(name.as_ptr(), self.group),
                None => libc::setgroups(0, std::ptr::null()),
            })?;
            check(libc::setresgid(self.group, self.group, self.group))?;
            check(libc::setresuid(self.user, self.user, self.user))?;
        }
        set_keep_capabilities(false)?;
        let sets = capabilities(None)?;
        Ok(set_capabilities(None, CapabilitySets { effective: sets.permitted, ..sets })?)
    }
}

/// Makes the state directory if it is not there, and gives it or the tracker's files in it to whom
/// the tracker becomes. What does not work here is told when the files are wanted.
pub(super) fn provide_directory(path: &Path, identity: Option<&Identity>) {
    let is_new = !path.exists();
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    let Some(identity) = identity.filter(|_| made.is_ok()) else { return };
    let hand_over = |path: &Path| {
        if let Err(error) = lchown(path, Some(identity.user), Some(identity.group)) {
            warn!("{} cannot be given to {identity}: {error}", path.display());
        }
    };
    if is_new {
        hand_over(path);
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| STATE.iter().any(|ours| name.starts_with(ours)));
        if is_ours && entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.uid() == 0) {
            hand_over(&entry.path());
        }
    }
    let fits = |metadata: fs::Metadata| {
        let (mode, own) = (metadata.mode(), (metadata.uid(), metadata.gid()));
        own.0 == identity.user && mode & 0o300 == 0o300
            || own.1 == identity.group && mode & 0o030 == 0o030
            || mode & 0o003 == 0o003
    };
    if !path.metadata().is_ok_and(fits) {
        warn!(
            "the state directory {} cannot be written to by {identity}: `chown {}:{} {}`",
            path.display(),
            identity.user,
            identity.group,
            path.display()
        );
    }
}

/// Gives a directory of pins to whom the tracker becomes, or is already: the tracker before this one may
/// have been another user. Not even root can do anything in that user's directory once it has no
/// capabilities for that any more.
///
/// # Errors
/// When the system refuses; with what to do.
pub(super) fn give_pins(path: &Path, identity: Option<&Identity>) -> anyhow::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let root = Identity { user: user.as_raw(), group: group.as_raw(), name: None };
    let Some(identity) = identity.or_else(|| user.is_root().then_some(&root)) else {
        // Whose it is has been looked at when it was opened.
        return Ok(());
    };
    give(path, identity).with_context(|| {
        let path = path.display();
        format!(
            "cannot give the pins in {path} to {identity}, which takes CAP_CHOWN: start as before, or give up what is pinned by \
             `tracker detach --pin-path {path}`"
        )
    })
}

/// Gives a directory with all that is in it to somebody.
fn give(path: &Path, identity: &Identity) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), identity)?;
        } else {
            lchown(entry.path(), Some(identity.user), Some(identity.group))?;
        }
    }
    lchown(path, Some(identity.user), Some(identity.group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(user("root").expect("it is everywhere"), (0, 0, Some(c"root".to_owned())));
        assert_eq!(user("0").expect("it is everywhere"), (0, 0, Some(c"root".to_owned())));
        assert_eq!(user("4294000000").expect("a number needs no name"), (4_294_000_000, 4_294_000_000, None));
        assert_eq!(
            (group("root").ok(), group("0").ok(), group("4294000000").ok()),
            (Some(0), Some(0), Some(4_294_000_000))
        );
        for wrong in ["no such user", "", "-1", "root\0", "1e3"] {
            assert!(user(wrong).is_err() && group(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn who_is_that_user_already_does_not_ask_who_that_is() {
        let wanted_by = |user: Option<&str>, group: Option<&str>| Wanted {
            user: user.map(str::to_owned),
            group: group.map(str::to_owned),
            root: None,
            drop_capabilities: false,
            landlock: false,
            seccomp: false,
            upgrade: false,
        };
        let same = wanted_by(Some("no such user"), None);
        for (options_now, before, found) in [
            (&same, Some(options(&same)), true),
            (&same, Some(options(&wanted_by(None, Some("no such user")))), false),
            (&same, Some(options(&wanted_by(Some("no such user"), Some("root")))), false),
            (&same, None, false),
            (&wanted_by(None, None), None, true),
        ] {
            assert_eq!(wanted(options_now, before.as_deref()).is_ok(), found, "{options_now:?} after {before:?}");
        }
    }
}
