//! Datagrams for the journal. Only the thread that writes the log waits for it.

use crate::logging::format::JOURNAL;
use std::{
    io,
    os::unix::net::UnixDatagram,
    sync::{Mutex, PoisonError},
};

/// The way to the journal, made when the first line goes there.
#[derive(Default)]
pub(super) struct Journal(Mutex<Option<UnixDatagram>>);

impl Journal {
    /// Sends a line. Each names the journal anew, which may have been started anew meanwhile.
    ///
    /// # Errors
    /// When it is not there.
    pub fn send(&self, line: &[u8]) -> io::Result<()> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match &mut *socket {
            Some(socket) => socket,
            none => none.insert(UnixDatagram::unbound()?),
        };
        socket.send_to(line, JOURNAL).map(drop)
    }
}
