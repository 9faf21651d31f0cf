//! Unix sockets to listen on. The file stays when the tracker ends, and is replaced by the next one
//! if nobody listens behind it any more. Who may connect says the mode of the file; if that lets
//! everybody, the directory says who can reach it, as with the sockets of systemd.

use super::{Inherited, Place};
use anyhow::{Context as _, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    io::ErrorKind,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

/// The mode of a file that everybody may connect to who can reach it.
pub const EVERYBODY: u32 = 0o666;

/// The mode of one for its owner and group alone.
pub const OWNER_AND_GROUP: u32 = 0o660;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Binds each path with a socket, unless it has been inherited; equal ones once.
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
        let socket = match inherited.take(&place).into_iter().next() {
            Some(socket) => {
                tracing::info!("{place}: goes on with the socket that listened before");
                socket
            }
            None => bind(path, mode).with_context(|| format!("cannot listen on {place}"))?,
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
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io::Error::into),
        Ok(_) | Err(_) => bail!("another process listens there (`ss -lxp` shows which)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

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
}
