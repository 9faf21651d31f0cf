//! The text format itself.

use std::fmt::{Display, Write as _};

/// Metrics being written.
pub(super) struct Page(pub String);

impl Page {
    /// Begins a metric.
    pub fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the metric begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, content)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for character in content.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric of one sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.begin(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A histogram: its classes by their upper bounds, the last one without, and the sum of all that
    /// was observed.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], classes: &[(f64, u64)], sum: impl Display) {
        let (bucket, mut all) = (format!("{name}_bucket"), 0);
        for (most, count) in classes {
            all += count;
            let most = if most.is_finite() { most.to_string() } else { "+Inf".to_owned() };
            let labels: Vec<_> = labels.iter().copied().chain([("le", most.as_str())]).collect();
            self.sample(&bucket, &labels, all);
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, all);
    }
}
