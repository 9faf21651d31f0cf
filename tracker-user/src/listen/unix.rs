//! Unix sockets to listen on. The file stays when the tracker ends, and is replaced by the next one
//! if nobody listens behind it any more. Who may connect says the mode of the file; if that lets
//! everybody, the directory says who can reach it, as with the sockets of systemd.

use super::{Inherited, Place};
use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    io::ErrorKind,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The mode of a file that everybody may connect to who can reach it.
pub const EVERYBODY: u32 = 0o666;

/// The mode of one for its owner and group alone.
pub const OWNER_AND_GROUP: u32 = 0o660;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Binds each path with a socket, unless one has been inherited that the path still leads to; equal
/// ones once.
///
/// # Errors
/// When something else is there, or the directory is not, or nothing may be made in it.
pub fn bind_all(paths: &[PathBuf], mode: u32, inherited: &mut Inherited) -> anyhow::Result<Vec<(PathBuf, Socket)>> {
    let mut bound: Vec<(PathBuf, Socket)> = Vec::new();
    for path in paths {
        if bound.iter().any(|(other, _)| other == path) {
            continue;
        }
        let place = Place::Unix(path.clone());
        let mut before = inherited.take(&place);
        let socket = match before.iter().position(|socket| leads_to(path, socket)) {
            Some(reached) => {
                tracing::info!("{place}: goes on with the socket that listened before");
                before.swap_remove(reached)
            }
            None => match (bind(path, mode).with_context(|| format!("cannot listen on {place}")), before.pop()) {
                (Ok(socket), None) => socket,
                (Ok(socket), Some(_)) => {
                    tracing::info!("{place}: made anew, as nothing led to the socket that listened before");
                    socket
                }
                // After an upgrade in place the directory may be closed to this process, and all
                // else is worth going on.
                (Err(error), Some(socket)) => {
                    tracing::warn!("nobody can connect there, the file of the socket is not there any more: {error:#}");
                    socket
                }
                (Err(error), None) => return Err(error),
            },
        };
        socket.set_nonblocking(true)?;
        bound.push((path.clone(), socket));
    }
    Ok(bound)
}

fn bind(path: &Path, mode: u32) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path).context("a path of a Unix socket has at most 107 bytes")?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            clear(path)?;
            socket.bind(&address)?;
        }
        other => other?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes a socket that a tracker has left behind.
fn clear(path: &Path) -> anyhow::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        bail!("there is a file of that name, which is no socket");
    }
    match connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io::Error::into),
        Ok(_) | Err(_) => bail!("another process listens there (`ss -lxp` shows which)"),
    }
}

/// Whether who connects to the path comes to this socket: systemd keeps sockets, and may remove the
/// directory that their files are in.
fn leads_to(path: &Path, socket: &Socket) -> bool {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return false,
        // What this user may not see is taken to be as it was.
        Err(error) => return error.kind() == ErrorKind::PermissionDenied,
        Ok(_) => {}
    }
    match connect(path) {
        // Nobody accepts yet, so the connection waits there, or others do that left no room for it.
        Ok(_) => has_waiting(socket),
        Err(error) if error.kind() == ErrorKind::WouldBlock => has_waiting(socket),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// Connects without waiting for room where connections wait to be accepted.
fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

fn has_waiting(socket: &Socket) -> bool {
    let mut files = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    /// What has been bound, or what was wrong.
    fn outcome(path: &Path) -> Result<Socket, String> {
        outcome_with(path, EVERYBODY)
    }

    fn outcome_with(path: &Path, mode: u32) -> Result<Socket, String> {
        let mut bound = bind_all(&[path.to_owned(), path.to_owned()], mode, &mut Inherited::default())
            .map_err(|error| format!("{error:#}"))?;
        assert_eq!(bound.len(), 1, "equal ones are bound once");
        Ok(bound.remove(0).1)
    }

    #[test]
    fn only_what_nobody_listens_on_is_replaced() {
        let directory = std::env::temp_dir().join(format!("tracker-unix-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("writable");
        let path = |name: &str| directory.join(name);

        let socket = outcome(&path("new")).expect("nothing is there");
        UnixStream::connect(path("new")).expect("it listens");
        let mode = |name: &str| fs::metadata(path(name)).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode("new"), EVERYBODY);
        let _private = outcome_with(&path("private"), OWNER_AND_GROUP).expect("nothing is there");
        assert_eq!(mode("private"), OWNER_AND_GROUP);
        assert!(outcome(&path("new")).expect_err("taken").contains("another process listens"));
        drop(socket);
        assert!(outcome(&path("new")).is_ok(), "what is left of a tracker before");

        let _other = UnixListener::bind(path("other")).expect("a socket");
        assert!(outcome(&path("other")).expect_err("taken").contains("another process listens"));
        let datagrams = UnixDatagram::bind(path("datagrams")).expect("a socket");
        assert!(outcome(&path("datagrams")).expect_err("taken").contains("another process listens"));
        drop(datagrams);
        fs::write(path("file"), "precious").expect("writable");
        assert!(outcome(&path("file")).expect_err("a file").contains("no socket"));
        assert_eq!(fs::read(path("file")).expect("still there"), b"precious");
        assert!(outcome(&path("no/directory")).is_err());
        assert!(outcome(&path(&"x".repeat(200))).expect_err("long").contains("107 bytes"));
        fs::remove_dir_all(&directory).expect("it is there");
    }

    #[test]
    fn inherited_sockets_are_kept_as_long_as_their_paths_lead_to_them() {
        let directory = std::env::temp_dir().join(format!("tracker-unix-inherited-{}", std::process::id()));
        type Change = fn(&Path);
        let rows: [(&str, Change, bool); 6] = [
            ("nothing has changed", |_| {}, true),
            ("clients wait", |path| drop(UnixStream::connect(path).expect("it listens")), true),
            ("there is no room", |path| while connect(path).is_ok() {}, true),
            ("the file is gone", |path| fs::remove_file(path).expect("it is there"), false),
            (
                "the directory has been made anew",
                |path| {
                    let directory = path.parent().expect("one");
                    fs::remove_dir_all(directory).expect("it is there");
                    fs::create_dir(directory).expect("it is gone");
                },
                false,
            ),
            (
                "the file is of a tracker that was killed",
                |path| {
                    fs::remove_file(path).expect("it is there");
                    drop(UnixListener::bind(path).expect("nothing is there"));
                },
                false,
            ),
        ];
        for (name, change, kept) in rows {
            fs::create_dir_all(&directory).expect("writable");
            let path = directory.join("socket");
            let before = outcome(&path).expect("nothing is there");
            before.listen(4).expect("fewer");
            change(&path);
            let mut inherited = Inherited::new([before].into_iter());
            let bound = bind_all(std::slice::from_ref(&path), EVERYBODY, &mut inherited).expect(name);
            // Whoever connects comes to what has been bound, unless there is no room.
            if name != "there is no room" {
                connect(&path).expect(name);
            }
            assert!(has_waiting(&bound[0].1), "{name}");
            let backlog_is_short = (0..5).any(|_| connect(&path).is_err());
            assert_eq!(backlog_is_short, kept, "{name}");
            fs::remove_dir_all(&directory).expect("it is there");
        }
    }

    #[test]
    fn what_cannot_be_made_anew_goes_on_without_a_file() {
        let directory = std::env::temp_dir().join(format!("tracker-unix-kept-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("writable");
        let path = directory.join("socket");
        let before = outcome(&path).expect("nothing is there");
        fs::remove_file(&path).expect("it is there");
        let _other = UnixListener::bind(&path).expect("nothing is there");
        let mut inherited = Inherited::new([before].into_iter());
        assert_eq!(bind_all(&[path], EVERYBODY, &mut inherited).expect("it goes on").len(), 1);
        fs::remove_dir_all(&directory).expect("it is there");
    }
}
