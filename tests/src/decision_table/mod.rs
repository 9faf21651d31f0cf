//! The decision table: what is sent, what has to come of it, which counter moves, and what is
//! stored before and after.
//!
//! Rows about BEP 15 ([`Scope::Datagram`]) hold on every backend: through the XDP program, through
//! the daemon's sockets, and through the host build of the same code. Rows about headers
//! ([`Scope::Frame`]) are for the XDP program alone. Each row has a torrent of its own, so rows can
//! be run one after the other on the same store.

mod builder;
mod datagrams;
mod frames;
mod row;

pub use self::row::{
    CLIENT_MAC, Expected, Family, INTERVAL, Id, Peer, Peers, Row, SCRAPE_MAX, Scope, TRACKER, TRACKER_MAC,
    TRACKER_PORT, Verdict,
};

use self::builder::Table;

/// All rows.
#[must_use]
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        let mut table = Table { family, rows: Vec::new() };
        table.connects();
        table.announces();
        table.events();
        table.peers_given();
        table.scrapes();
        table.identities();
        table.frames();
        rows.extend(table.rows);
    }
    for (number, row) in rows.iter_mut().enumerate() {
        row.finish(u16::try_from(number).expect("few rows"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_torrents_are_unique_and_negative_rows_are_as_many_as_positive() {
        let rows = all();
        let names: BTreeSet<_> = rows.iter().map(|row| row.name.clone()).collect();
        let torrents: BTreeSet<_> = rows.iter().map(|row| row.torrent).collect();
        assert_eq!((names.len(), torrents.len()), (rows.len(), rows.len()));
        let negative =
            rows.iter().filter(|row| matches!(row.expected, Expected::Nothing(_) | Expected::Error(_))).count();
        assert!(negative * 2 >= rows.len(), "{negative} of {}", rows.len());
    }

    #[test]
    fn frames_can_be_built() {
        for row in all() {
            assert!(!row.bytes().is_empty(), "{}", row.name);
        }
    }
}
