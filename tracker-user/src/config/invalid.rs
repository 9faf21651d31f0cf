//! Values of options that cannot be used.

use std::{fmt, ops::RangeInclusive};

/// An option whose value cannot be used.
#[derive(Debug)]
pub(super) struct Invalid {
    /// Its name.
    pub option: &'static str,
    /// What is wrong with it, as a sentence that begins with the name.
    reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.option, self.reason)
    }
}

impl std::error::Error for Invalid {}

/// An error for the value of `option`.
pub(super) fn invalid<T>(option: &'static str, reason: String) -> anyhow::Result<T> {
    Err(Invalid { option, reason }.into())
}

/// The number given, or else the default.
///
/// # Errors
/// When it is out of range.
pub(super) fn number(
    option: &'static str,
    given: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> anyhow::Result<u64> {
    let value = given.unwrap_or(default);
    if !range.contains(&value) {
        return invalid(option, format!("is {value}; it can be {} to {}", range.start(), range.end()));
    }
    Ok(value)
}
