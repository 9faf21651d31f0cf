//! How long files and signatures are.

use super::source;
use std::{collections::BTreeSet, fs, path::Path};
use syn::{
    Attribute, FnArg, Signature,
    visit::{self, Visit},
};

/// The most lines of a file.
pub const LINES: usize = 450;
/// The most parameters of a function, `self` not counted.
pub const PARAMETERS: usize = 5;

/// What is too long, as it is named in a list of exceptions, and what people are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TooLong {
    pub name: String,
    pub told: String,
}

/// What is too long in one file.
pub fn check(file: &str, text: &str) -> Result<Vec<TooLong>, String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > LINES {
        found.push(TooLong { name: file.to_owned(), told: format!("{file}: {lines} lines, more than {LINES}") });
    }
    let mut signatures = Signatures { file, found };
    signatures.visit_file(&source::without_tests(file, text)?);
    Ok(signatures.found)
}

/// The source files below a directory that are not tests.
pub fn files(root: &Path, directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(directory)).unwrap_or_else(|error| panic!("{directory}: {error}")) {
        let entry = entry.expect("an entry of a directory");
        let name = entry.file_name().into_string().expect("UTF-8");
        let path = format!("{directory}/{name}");
        if entry.file_type().expect("a type").is_dir() {
            if name != "tests" {
                files.extend(self::files(root, &path));
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What is found without being an exception, and exceptions that are not found.
pub fn compare(found: &[TooLong], exceptions: &[String]) -> Vec<String> {
    let names: BTreeSet<&str> = found.iter().map(|found| found.name.as_str()).collect();
    let wrong = found.iter().filter(|found| !exceptions.contains(&found.name)).map(|found| found.told.clone());
    let unneeded = exceptions.iter().filter(|exception| !names.contains(exception.as_str()));
    wrong.chain(unneeded.map(|name| format!("the exception {name} is no longer needed: take it out"))).collect()
}

struct Signatures<'a> {
    file: &'a str,
    found: Vec<TooLong>,
}

impl Signatures<'_> {
    fn add(&mut self, name: &str, line: usize, what: &str) {
        let Self { file, .. } = self;
        self.found.push(TooLong { name: format!("{file}: {name}"), told: format!("{file}:{line}: {name} {what}") });
    }
}

impl<'ast> Visit<'ast> for Signatures<'_> {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        let parameters = signature.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))).count();
        if parameters > PARAMETERS {
            let what = format!("has {parameters} parameters, more than {PARAMETERS}");
            self.add(&signature.ident.to_string(), signature.ident.span().start().line, &what);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Ok(list) = attribute.meta.require_list()
            && list.tokens.to_string().replace(' ', "").contains("clippy::too_many_arguments")
        {
            let line = list.path.segments[0].ident.span().start().line;
            self.add("clippy::too_many_arguments", line, "is switched off");
        }
    }
}
