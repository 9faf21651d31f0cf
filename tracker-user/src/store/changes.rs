//! Changes that the daemon's own threads have stored and other trackers are to be told of, until they
//! are sent.

use std::sync::{Mutex, PoisonError};
use tracker_common::change::Change;

/// Changes that there is room for: far more than come between two looks at them.
const ROOM: usize = 1 << 16;

/// The changes.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Vec<Change>>);

impl Changes {
    /// Adds one. False if there is no room.
    pub(super) fn push(&self, change: &Change) -> bool {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = changes.len() < ROOM;
        changes.extend(room.then_some(*change));
        room
    }

    /// Takes them all.
    #[must_use]
    pub fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_taken_once_and_are_not_kept_without_limit() {
        let changes = Changes::default();
        let one = Change { kind: 2, version: 4, ..Change::default() };
        assert_eq!(changes.take(), []);
        assert!(changes.push(&one));
        assert_eq!((changes.take(), changes.take()), (vec![one], vec![]));
        assert!((0..ROOM).all(|_| changes.push(&one)));
        assert!(!changes.push(&one));
        assert_eq!(changes.take().len(), ROOM);
        assert!(changes.push(&one));
    }
}
