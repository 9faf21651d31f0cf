//! Answers for people: a line for each member, and tables for lists.

use super::connection::Answer;
use serde_json::Value;
use std::fmt::Write as _;

/// An answer as lines.
#[must_use]
pub fn text(answer: &Answer) -> String {
    let mut text = String::new();
    if answer.body.is_null() {
        text.push_str("done\n");
    } else {
        lines(&answer.body, "", &mut text);
    }
    text
}

/// What went wrong, as a sentence.
#[must_use]
pub fn problem(answer: &Answer) -> String {
    let member = |name: &str| answer.body.get(name).and_then(Value::as_str).unwrap_or_default();
    match (member("title"), member("detail")) {
        ("", _) => format!("refused with status {}", answer.status),
        (title, "") => title.to_owned(),
        (title, detail) => format!("{title}: {detail}"),
    }
}

fn lines(value: &Value, name: &str, text: &mut String) {
    match value {
        Value::Object(members) if members.contains_key("value") && members.contains_key("changed") => {
            let note = if members["changed"] == Value::Bool(true) { "  (changed while running)" } else { "" };
            let _ = writeln!(text, "{name} = {}{note}", scalar(&members["value"]));
        }
        Value::Object(members) => {
            for (member, value) in members {
                let name =
                    if name.is_empty() || name == "limits" { member.clone() } else { format!("{name}.{member}") };
                lines(value, &name, text);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => table(items, name, text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(scalar).collect();
            let shown = if items.is_empty() { "none".to_owned() } else { items.join(", ") };
            let _ = writeln!(text, "{name}: {shown}");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(text, "{name}: {}", scalar(value));
        }
    }
}

/// Objects of the same members as rows.
fn table(items: &[Value], name: &str, text: &mut String) {
    let _ = writeln!(text, "{name}:");
    let Some(Value::Object(first)) = items.first() else { return };
    let names: Vec<_> = first.keys().cloned().collect();
    let cell = |item: &Value, name: &String| item.get(name).map(scalar).unwrap_or_default();
    let width = |name: &String| {
        items.iter().map(|item| cell(item, name).chars().count()).max().unwrap_or(0).max(name.chars().count())
    };
    let widths: Vec<_> = names.iter().map(width).collect();
    let mut row = |cells: Vec<String>| {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "  {}", padded.join("  ").trim_end());
    };
    row(names.clone());
    for item in items {
        row(names.iter().map(|name| cell(item, name)).collect());
    }
}

/// A value without quotes, and without what a terminal would obey.
fn scalar(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    text.chars().filter(|char| !char.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, text: String::new(), body }
    }

    #[test]
    fn members_become_lines_and_objects_in_lists_rows() {
        for (body, expected) in [
            (Value::Null, "done\n"),
            (json!({"a": 1, "b": {"c": true, "d": null}}), "a: 1\nb.c: yes\nb.d: -\n"),
            (
                json!({"limits": {"interval": {"value": 900, "changed": true}, "log": {"value": null, "changed": false}}}),
                "interval = 900  (changed while running)\nlog = -\n",
            ),
            (json!({"names": [], "more": ["x", "y"]}), "more: x, y\nnames: none\n"),
            (
                json!({"peers": [{"address": "192.0.2.1", "port": 1}, {"address": "::1", "port": 65535}]}),
                "peers:\n  address    port\n  192.0.2.1  1\n  ::1        65535\n",
            ),
            (json!({"note": "a\u{1b}[31mb\n"}), "note: a[31mb\n"),
        ] {
            assert_eq!(text(&answer(200, body.clone())), expected, "{body}");
        }
        assert_eq!(problem(&answer(409, json!({"title": "No", "detail": "why"}))), "No: why");
        assert_eq!(problem(&answer(400, Value::Null)), "refused with status 400");
    }
}
