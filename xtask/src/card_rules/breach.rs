//! What is against a rule.

use std::fmt;

/// What is against a rule, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    /// Number of the instruction; `None` for a map.
    pub at: Option<usize>,
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(formatter, "instruction {at}: {}", self.what),
            None => write!(formatter, "{}", self.what),
        }
    }
}
