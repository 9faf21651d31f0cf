//! What people read: numbers with the words that they count, bytes with units, and what commands
//! print.

pub mod output;

/// `1 torrent`, `2 torrents`.
#[must_use]
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A number of bytes for people, with binary units.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
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

    #[test]
    fn bytes_are_shown_in_fitting_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (3 << 39, "1.5 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
