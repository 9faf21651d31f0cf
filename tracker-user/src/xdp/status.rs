//! How XDP runs on the interfaces, for people.

use arc_swap::ArcSwap;
use std::sync::Arc;

/// An interface and how XDP runs on it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why this mode and no better one; may be empty.
    pub note: String,
}

/// Interfaces as they are now, written by [`super::Watch`].
pub type LatestStatus = Arc<ArcSwap<Vec<InterfaceStatus>>>;
