//! Numbers and times as `tracker top` shows them.

/// A number with a space between groups of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

/// A rate, with a digit behind the point where that says something.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { grouped(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// A time, with its largest unit.
#[must_use]
pub fn span(seconds: u64) -> String {
    for (unit, name) in [(86400, "d"), (3600, "h"), (60, "min")] {
        if seconds >= unit {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_read_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(grouped(number), text);
        }
        for (number, text) in [(0.04, "0.0"), (99.94, "99.9"), (100.4, "100"), (12_345.6, "12 346")] {
            assert_eq!(rate(number), text);
        }
        for (seconds, text) in [(59, "59 s"), (60, "1 min"), (7200, "2 h"), (86_400, "1 d")] {
            assert_eq!(span(seconds), text);
        }
    }
}
