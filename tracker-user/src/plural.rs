//! Numbers with the word that they count.

/// `1 torrent`, `2 torrents`.
#[must_use]
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        for (count, text) in [(0, "0 peers"), (1, "1 peer"), (2, "2 peers"), (u64::MAX, "18446744073709551615 peers")] {
            assert_eq!(plural(count, "peer", "peers"), text);
        }
    }
}
