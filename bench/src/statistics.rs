//! Figures for people: medians over rounds, quantiles of histograms, and numbers that can be read.

use bench_ebpf::latency_of_bucket;
use serde::Serialize;

/// Median and spread of a figure over the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Summary {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Summary {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let Some((&lowest, &highest)) = values.first().zip(values.last()) else { return Self::default() };
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { median, lowest, highest }
    }
}

/// The end of the bucket up to which `share` of a latency histogram lies.
pub fn quantile(histogram: &[u64], share: f64) -> Option<u64> {
    let all: u64 = histogram.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (bucket, &count) in (0..).zip(histogram) {
        seen += count;
        if count > 0 && seen >= wanted {
            return Some(latency_of_bucket(bucket + 1));
        }
    }
    None
}

/// The median of the ratios within each round: machines shared with others are fast and slow in
/// turns that last longer than a round, and what one of two systems was lucky with would otherwise
/// be in the ratio.
pub fn paired_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    Summary::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs)).median
}

/// The same for differences.
pub fn paired_difference(ours: &[f64], theirs: &[f64]) -> f64 {
    Summary::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs)).median
}

/// A number with its thousands apart.
pub fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_differences_are_taken_within_rounds() {
        for (ours, theirs, ratio, difference) in [
            (&[2.0, 4.0, 6.0][..], &[4.0, 8.0, 12.0][..], 0.5, -4.0),
            // A slow phase that hits both leaves the ratio alone, one that hits one of them in one
            // round too.
            (&[10.0, 1.0, 10.0], &[20.0, 2.0, 20.0], 0.5, -10.0),
            (&[10.0, 1.0, 10.0], &[20.0, 20.0, 20.0], 0.5, -10.0),
        ] {
            assert!((paired_ratio(ours, theirs) - ratio).abs() < 1e-9, "{ours:?} / {theirs:?}");
            assert!((paired_difference(ours, theirs) - difference).abs() < 1e-9, "{ours:?} - {theirs:?}");
        }
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(count(0.4), "0");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(1_234_567.0), "1 234 567");
    }
}
