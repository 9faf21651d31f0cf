//! Protocols below BEP 15: headers and checksums.

pub mod checksum;
pub mod headers;
