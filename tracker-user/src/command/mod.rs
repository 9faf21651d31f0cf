//! What the commands have in common.

pub mod output;
