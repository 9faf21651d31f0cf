//! Answers of the admin API, held against its description.

use super::exchange::{Api, By};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};
use tracker_tests::client::Response;

/// What the description says of an answer: its schema, if it has a body.
fn schema<'d>(description: &'d Value, operation: &'d Value, status: u16) -> Option<(String, &'d Value)> {
    let mut response = &operation["responses"][status.to_string()];
    if let Some(reference) = response["$ref"].as_str() {
        response = description.pointer(&reference[1..]).expect("a response");
    }
    assert!(response.is_object(), "{status} is not described");
    let (media_type, content) = response["content"].as_object()?.iter().next()?;
    Some((media_type.clone(), &content["schema"]))
}

/// Answers, and what the description says of them.
pub struct Seen<'d> {
    pub description: &'d Value,
    pub exercised: BTreeSet<(String, String, String)>,
    pub answers: Vec<Value>,
}

impl Seen<'_> {
    /// The path of the description that a path is an example of.
    fn form(&self, path: &str) -> &str {
        let path = path.split('?').next().expect("a path");
        let fits = |form: &&String| {
            let (form, path): (Vec<_>, Vec<_>) = (form.split('/').collect(), path.split('/').collect());
            form.len() == path.len()
                && form.iter().zip(path).all(|(form, given)| form.starts_with('{') || *form == given)
        };
        let paths = self.description["paths"].as_object().expect("paths");
        paths.keys().find(fits).unwrap_or_else(|| panic!("{path} is not described"))
    }

    pub fn check(&mut self, method: &str, path: &str, response: &Response) {
        let form = self.form(path).to_owned();
        let name = format!("{method} {path}: {}", response.status);
        let operation = &self.description["paths"][&form][method.to_lowercase()];
        assert!(operation.is_object(), "{name}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{name}");
        match schema(self.description, operation, response.status) {
            None => assert!(response.body.is_empty(), "{name}"),
            Some((media_type, schema)) => {
                assert_eq!(response.header("content-type"), Some(media_type.as_str()), "{name}");
                let body: Value =
                    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{name}: {error}"));
                if media_type == "application/problem+json" {
                    assert_eq!(body["status"], response.status, "{name}");
                }
                self.answers.push(json!({"name": name, "schema": schema, "body": body}));
            }
        }
        self.exercised.insert((form, method.to_lowercase(), response.status.to_string()));
    }

    /// Holds all answers against their schemas.
    pub fn validate(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/schemas.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3");
        let given = json!({"description": self.description, "answers": self.answers}).to_string();
        child.stdin.take().expect("piped").write_all(given.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
}

/// Method, path, body, and the status of the answer.
pub type Row<'a> = (&'a str, &'a str, Option<&'a str>, u16);

/// Asks by the Unix socket, row by row.
pub fn ask_all(seen: &mut Seen<'_>, api: &Api<'_>, rows: &[Row<'_>]) {
    for (method, path, body, expected) in rows {
        let response = api.ask(By::Unix, method, path, *body);
        let said = String::from_utf8_lossy(&response.body);
        assert_eq!(response.status, *expected, "{method} {path} {body:?}: {said}");
        seen.check(method, path, &response);
    }
}
