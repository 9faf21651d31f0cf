//! Nothing: see this package's manifest for what it is there for.
