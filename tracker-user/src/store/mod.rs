//! The swarm store: its memory, how large it is, its clock and keys, and the removal of what has expired.
//!
//! | module | holds |
//! |---|---|
//! | [`region`] | the store's memory, and the handle through which a thread works on it |
//! | [`sizes`] | how many map elements the limits need, and their memory |
//! | [`keys`] | hash keys, and the connection id key that survives a restart |
//! | [`clock`] | the clock of the store |
//! | [`sweep`] | removal of what has expired |
//! | [`totals`] | what a sweep counts |

pub mod clock;
pub mod keys;
pub mod region;
pub mod sizes;
pub mod sweep;
pub mod totals;

pub use region::{CounterSet, Counters, Handle, SharedSettings, Store};
