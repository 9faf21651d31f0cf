//! What is found, and how it is told.

use serde_json::json;
use std::fmt::Write as _;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Would be better otherwise.
    Advice,
    /// Keeps the tracker from what it is to do.
    Problem,
}

impl Severity {
    /// Its name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Advice => "advice",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A name for scripts, always the same.
    pub code: &'static str,
    /// The interface, if it is about one.
    pub interface: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence for people: what is so and why that matters.
    pub text: String,
    /// The value that was seen.
    pub value: String,
    /// What changes it.
    pub command: Option<String>,
    /// Whether `tracker run --tune` changes it, too.
    pub tuned: bool,
}

impl Finding {
    fn new(code: &'static str, severity: Severity, text: impl Into<String>, value: impl Into<String>) -> Self {
        Self { code, interface: None, severity, text: text.into(), value: value.into(), command: None, tuned: false }
    }

    /// As it should be.
    #[must_use]
    pub fn good(code: &'static str, text: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(code, Severity::Good, text, value)
    }

    /// Would be better otherwise.
    #[must_use]
    pub fn advice(code: &'static str, text: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(code, Severity::Advice, text, value)
    }

    /// Keeps the tracker from what it is to do.
    #[must_use]
    pub fn problem(code: &'static str, text: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(code, Severity::Problem, text, value)
    }

    /// With what changes it.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// With what changes it; `tracker run --tune` does so as well.
    #[must_use]
    pub fn command_or_tune(mut self, command: impl Into<String>) -> Self {
        self.tuned = true;
        self.command(command)
    }

    /// About an interface.
    #[must_use]
    pub fn of(mut self, interface: &str) -> Self {
        self.interface = Some(interface.to_owned());
        self
    }
}

/// For people: what is to be done first, then what is well.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for (severity, heading) in [(Severity::Problem, "Problems"), (Severity::Advice, "Advice"), (Severity::Good, "Well")]
    {
        let these: Vec<_> = findings.iter().filter(|finding| finding.severity == severity).collect();
        if these.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{}{heading}", if text.is_empty() { "" } else { "\n" });
        for finding in these {
            let interface = finding.interface.as_ref().map_or_else(String::new, |name| format!("{name}: "));
            let value = if finding.value.is_empty() { String::new() } else { format!(" ({})", finding.value) };
            let _ = writeln!(text, "  {interface}{}{value}", finding.text);
            if let Some(command) = &finding.command {
                let _ = writeln!(text, "      {command}");
                if finding.tuned {
                    let _ = writeln!(text, "      or: tracker run --tune");
                }
            }
        }
    }
    text
}

/// For scripts: an object with all of them.
#[must_use]
pub fn json(findings: &[Finding]) -> String {
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good);
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.code,
                "interface": finding.interface,
                "severity": finding.severity.label(),
                "text": finding.text,
                "value": finding.value,
                "command": finding.command,
                "tune": finding.tuned,
            })
        })
        .collect();
    format!("{}\n", json!({"worst": worst.label(), "findings": list}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_comes_first() {
        let findings = [
            Finding::good("a", "It is well", "1"),
            Finding::advice("b", "It could be better", "").of("eth0").command_or_tune("do it"),
            Finding::problem("c", "It does not work", "no"),
        ];
        let expected = "Problems\n  It does not work (no)\n\nAdvice\n  eth0: It could be better\n      do it\n      or: tracker run --tune\n\nWell\n  It is well (1)\n";
        assert_eq!(text(&findings), expected);
        let value: serde_json::Value = serde_json::from_str(&json(&findings)).expect("JSON");
        assert_eq!(value["worst"], "problem");
        assert_eq!(value["findings"][1]["command"], "do it");
        assert_eq!((&value["findings"][0]["tune"], &value["findings"][1]["tune"]), (&false.into(), &true.into()));
        assert_eq!(value["findings"][0]["interface"], serde_json::Value::Null);
    }
}
