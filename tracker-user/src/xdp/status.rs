//! How XDP runs on the interfaces, for people.

use std::sync::{Arc, Mutex, PoisonError};

/// An interface and how XDP runs on it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why this mode and no better one; may be empty.
    pub note: String,
}

/// Interfaces as they are now: written by whoever follows them. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub struct Interfaces(Arc<Mutex<Vec<Interface>>>);

impl Interfaces {
    /// Replaces all of them.
    pub fn set(&self, interfaces: Vec<Interface>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = interfaces;
    }

    /// All of them.
    #[must_use]
    pub fn get(&self) -> Vec<Interface> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
