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
    /// The card, as far as the kernel tells.
    pub card: Card,
}

/// What the kernel says of a network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// Its driver; of interfaces without hardware their kind, such as `veth`. Empty if it is not
    /// known.
    pub driver: String,
    /// Queues that packets are received on; 0 if it is not known.
    pub receive_queues: u32,
    /// Queues that packets are sent on; 0 if it is not known.
    pub transmit_queues: u32,
}

/// Interfaces as they are now, written by [`super::Watch`].
pub type LatestStatus = Arc<ArcSwap<Vec<InterfaceStatus>>>;
