//! A set of features, and which kernel has all of them.

use std::{collections::BTreeMap, fmt};

use anyhow::bail;

/// A kernel's major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// What an object uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// By name: since when the kernel has it.
    pub known: BTreeMap<String, Version>,
    /// What the tables do not know, and so may be too new for every kernel.
    unknown: Vec<String>,
}

impl Features {
    /// Adds one that every kernel since a version has.
    pub fn add(&mut self, name: impl Into<String>, since: Version) {
        self.known.insert(name.into(), since);
    }

    /// Adds one that no table knows.
    pub fn add_unknown(&mut self, name: impl Into<String>) {
        let name = name.into();
        if !self.unknown.contains(&name) {
            self.unknown.push(name);
        }
    }

    /// The oldest kernel that has all of it, and what that kernel brought.
    pub fn oldest(&self) -> Option<(Version, Vec<&str>)> {
        let newest = self.known.values().max()?;
        let brought = self.known.iter().filter(|(_, since)| *since == newest).map(|(name, _)| name.as_str());
        Some((*newest, brought.collect()))
    }

    /// Whether a kernel of this version has everything.
    ///
    /// # Errors
    /// Names what it does not have.
    pub fn ensure_in(&self, minimum: Version) -> anyhow::Result<()> {
        let newer = self.known.iter().filter(|(_, since)| **since > minimum);
        let newer = newer.map(|(name, since)| format!("{name} (Linux {since})"));
        let unknown = self.unknown.iter().map(|name| format!("{name} (unknown)"));
        let missing: Vec<String> = newer.chain(unknown).collect();
        if missing.is_empty() {
            return Ok(());
        }
        bail!("Linux {minimum} does not have what the object uses: {}", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: Version = Version::new(6, 1);

    #[test]
    fn what_is_too_new_is_named_and_nothing_else() {
        let mut features = Features::default();
        features.add("old", Version::new(4, 8));
        features.add("edge", Version::new(6, 1));
        assert!(features.ensure_in(MINIMUM).is_ok());
        assert_eq!(features.oldest(), Some((Version::new(6, 1), vec!["edge"])));
        features.add("new", Version::new(6, 2));
        features.add_unknown("strange");
        let error = features.ensure_in(MINIMUM).unwrap_err().to_string();
        assert!(error.contains("new (Linux 6.2)") && error.contains("strange (unknown)"), "{error}");
        assert!(!error.contains("old") && !error.contains("edge"), "{error}");
        // Not by letters: 6.9 is older than 6.12.
        assert!(Version::new(6, 9) < Version::new(6, 12) && Version::new(5, 18) < MINIMUM);
    }
}
