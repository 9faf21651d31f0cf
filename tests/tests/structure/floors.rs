//! The floors of a package: no module uses one on a floor above its own, and none on its own that
//! uses it in turn.

use super::source::{Arrow, Package, name};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Which module is on which floor.
pub struct Floors {
    /// From bottom to top.
    floors: Vec<Vec<String>>,
    /// Uses that are not allowed, but there for the time being: `from -> to`.
    exceptions: BTreeSet<String>,
}

impl Floors {
    /// Reads them from TOML: `floors`, from bottom to top, and `exceptions`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| format!("{error}"))?;
        let strings = |value: &Value| -> Result<Vec<String>, String> {
            let array = value.as_array().ok_or("not a list")?;
            array.iter().map(|value| value.as_str().map(str::to_owned).ok_or("not a string".to_owned())).collect()
        };
        let floors = table.get("floors").and_then(Value::as_array).ok_or("there is no list `floors`")?;
        let exceptions = table.get("exceptions").map(strings).transpose()?.unwrap_or_default();
        Ok(Self {
            floors: floors.iter().map(strings).collect::<Result<_, _>>()?,
            exceptions: exceptions.into_iter().collect(),
        })
    }

    /// What is wrong with the uses in a package. `directory` is where its files are, for people.
    pub fn check(&self, package: &Package, directory: &str) -> Vec<String> {
        let mut levels = BTreeMap::new();
        let mut wrong = Vec::new();
        for (level, floor) in self.floors.iter().enumerate() {
            for module in floor {
                if levels.insert(module.clone(), level).is_some() {
                    wrong.push(format!("{module} is listed twice"));
                }
            }
        }
        let there = package.names();
        wrong.extend(
            there.iter().filter(|name| !levels.contains_key(*name)).map(|name| format!("{name} is on no floor")),
        );
        wrong.extend(
            levels
                .keys()
                .filter(|name| !there.contains(*name))
                .map(|name| format!("{name} is on a floor, but not there")),
        );

        let arrows = package.arrows();
        let is_exception = |arrow: &&Arrow| self.exceptions.contains(&text(arrow));
        let left: Vec<&Arrow> = arrows.iter().filter(|arrow| !is_exception(arrow)).collect();
        for (arrow, why) in refused(&left, &levels) {
            wrong.push(format!("{directory}/{}:{}: {}: {why}", arrow.file.display(), arrow.line, text(arrow)));
        }
        // What would be refused if there were no exceptions.
        let needed: BTreeSet<String> =
            refused(&arrows.iter().collect::<Vec<_>>(), &levels).into_iter().map(|(arrow, _)| text(arrow)).collect();
        for exception in self.exceptions.iter().filter(|exception| !needed.contains(*exception)) {
            wrong.push(format!("the exception {exception} is no longer needed: take it out"));
        }
        wrong
    }
}

fn text(arrow: &Arrow) -> String {
    format!("{} -> {}", name(&arrow.from), name(&arrow.to))
}

/// The arrows that lead up or round in a circle, and why they are refused.
fn refused<'a>(arrows: &[&'a Arrow], levels: &BTreeMap<String, usize>) -> Vec<(&'a Arrow, &'static str)> {
    // The root is above everything: it only says which modules there are.
    let level = |module: &[String]| levels.get(&name(module)).copied().unwrap_or(usize::MAX);
    let sideways: Vec<&Arrow> = arrows.iter().filter(|arrow| level(&arrow.from) == level(&arrow.to)).copied().collect();
    let mut refused = Vec::new();
    for arrow in arrows {
        if level(&arrow.from) < level(&arrow.to) {
            refused.push((*arrow, "it is on a floor above"));
        } else if level(&arrow.from) == level(&arrow.to) && leads_to(&sideways, &arrow.to, &arrow.from) {
            refused.push((*arrow, "they are on one floor and use each other"));
        }
    }
    refused
}

/// Whether arrows lead from one module to another.
fn leads_to(arrows: &[&Arrow], from: &[String], to: &[String]) -> bool {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![from]);
    while let Some(at) = pending.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            pending.extend(arrows.iter().filter(|arrow| arrow.from == at).map(|arrow| arrow.to.as_slice()));
        }
    }
    false
}

/// The uses of a package by which modules go round in a circle. The root only says which modules
/// there are.
pub fn circles(package: &Package, directory: &str) -> Vec<String> {
    circles_among(&package.arrows(), directory)
}

/// The same among the modules below the root, each with all that is in it.
pub fn circles_of_wings(package: &Package, directory: &str) -> Vec<String> {
    let wing = |module: &[String]| module.first().cloned().into_iter().collect();
    let arrows =
        package.arrows().into_iter().map(|arrow| Arrow { from: wing(&arrow.from), to: wing(&arrow.to), ..arrow });
    circles_among(&arrows.filter(|arrow| arrow.from != arrow.to).collect::<Vec<_>>(), directory)
}

fn circles_among(arrows: &[Arrow], directory: &str) -> Vec<String> {
    let inner: Vec<&Arrow> = arrows.iter().filter(|arrow| !arrow.from.is_empty()).collect();
    let round = inner.iter().filter(|arrow| leads_to(&inner, &arrow.to, &arrow.from));
    round.map(|arrow| format!("{directory}/{}:{}: {}", arrow.file.display(), arrow.line, text(arrow))).collect()
}

/// Floors that fit the uses as they are: each module as low as it can be, with modules that use
/// each other on one floor.
pub fn fitting(package: &Package) -> Vec<Vec<String>> {
    let arrows = package.arrows();
    let all: Vec<&Arrow> = arrows.iter().filter(|arrow| !arrow.from.is_empty()).collect();
    let mut pending: BTreeSet<Vec<String>> =
        package.names().iter().map(|name| name.split("::").map(str::to_owned).collect()).collect();
    let mut floors = Vec::new();
    while !pending.is_empty() {
        let left: Vec<&Arrow> =
            all.iter().filter(|arrow| pending.contains(&arrow.from) && pending.contains(&arrow.to)).copied().collect();
        // Ready is what uses nothing that is left but what uses it in turn.
        let ready: BTreeSet<_> = pending
            .iter()
            .filter(|module| {
                left.iter()
                    .filter(|arrow| leads_to(&left, module, &arrow.from))
                    .all(|arrow| leads_to(&left, &arrow.to, module))
            })
            .cloned()
            .collect();
        pending.retain(|module| !ready.contains(module));
        floors.push(ready.iter().map(|module| name(module)).collect());
    }
    floors
}
