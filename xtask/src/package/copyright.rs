//! The file `copyright` of the package: whose code is in the program, and under which licences.
//!
//! All that is linked into the program comes from crates whose licences `deny.toml` allows; most of
//! these ask that the authors are named and the licence is told. Both are read from the crates'
//! sources, so nothing of it is written by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{command, workspace};

/// Licences that `deny.toml` allows, and how their texts can be told from others'.
const LICENCES: [(&str, &str); 8] = [
    ("Apache-2.0", "/usr/share/common-licenses/Apache-2.0"),
    ("Apache-2.0 WITH LLVM-exception", "LLVM Exceptions to the Apache 2.0 License"),
    ("BSD-3-Clause", "Redistribution and use in source and binary forms"),
    ("ISC", "Permission to use, copy, modify, and"),
    ("MIT", "Permission is hereby granted, free of charge"),
    ("Unicode-3.0", "UNICODE LICENSE V3"),
    ("Unlicense", "This is free and unencumbered software"),
    ("Zlib", "This software is provided 'as-is', without any express"),
];

/// What files with licences are called, in front.
const FILES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "UNLICENSE"];

/// Code of others.
struct Part {
    name: String,
    version: String,
    licence: String,
    authors: Vec<String>,
    texts: Vec<String>,
}

/// The file's text.
///
/// # Errors
/// When a crate's licence is not among [`LICENCES`], or its text is nowhere.
pub fn text() -> anyhow::Result<String> {
    let parts = parts()?;
    let own = fs::read_to_string(workspace::root().join("LICENSE"))?;
    let mut text = String::from("The tracker, from its own sources, is under this licence:\n\n");
    for line in own.lines() {
        let _infallible = writeln!(text, "    {line}");
    }
    text += "\nCode of others is linked into the program (/usr/bin/tracker). Where one of several licences may\n\
             be chosen (OR), it is that which is printed below.\n";
    let mut used: BTreeSet<&str> = BTreeSet::from(["MIT"]);
    for Part { name, version, licence, authors, texts } in &parts {
        let of = licences(licence);
        ensure!(!of.is_empty(), "{name} {version}: its licence {licence:?} is not known here; see LICENCES");
        used.extend(of);
        let _infallible = writeln!(text, "\n{name} {version}: {licence}");
        let lines: BTreeSet<&str> = texts.iter().flat_map(|text| copyrights(text)).collect();
        for line in &lines {
            let _infallible = writeln!(text, "    {line}");
        }
        if lines.is_empty() && !authors.is_empty() {
            let _infallible = writeln!(text, "    by {}", authors.join(", "));
        }
    }
    for licence in used {
        let _infallible = write!(text, "\n\n{licence}\n{}\n\n", "-".repeat(licence.len()));
        text += &licence_text(licence, &parts, &own).with_context(|| format!("no crate has the text of {licence}"))?;
    }
    Ok(text)
}

/// The known licences in an expression of SPDX.
fn licences(expression: &str) -> Vec<&'static str> {
    let expression = expression.replace(" OR ", "/").replace(" AND ", "/").replace(['(', ')'], "");
    let parts: Vec<&str> = expression.split('/').map(str::trim).collect();
    LICENCES.iter().map(|(name, _)| *name).filter(|name| parts.contains(name)).collect()
}

fn licence_text(licence: &str, parts: &[Part], own: &str) -> Option<String> {
    let (_, mark) = LICENCES.iter().find(|(name, _)| *name == licence)?;
    if let Some(file) = mark.strip_prefix('/') {
        return Some(format!("On Debian systems its text is in /{file}.\n"));
    }
    let whole = match licence {
        "MIT" => own,
        _ => parts.iter().flat_map(|part| &part.texts).filter(|text| text.contains(mark)).min_by_key(|it| it.len())?,
    };
    if let Some((base, _)) = licence.split_once(" WITH ") {
        let exception = whole.find(mark).and_then(|at| whole.get(at..))?;
        return Some(format!("{base} (see there), and:\n\n{}\n", exception.trim()));
    }
    // Whose it is has been said.
    let lines = whole.lines().filter(|line| copyrights(line).next().is_none());
    Some(lines.map(|line| format!("{}\n", line.trim_end())).collect::<String>().trim().to_owned() + "\n")
}

/// Lines that say whose it is.
fn copyrights(text: &str) -> impl Iterator<Item = &str> {
    let says = |line: &&str| {
        let line = line.to_ascii_lowercase();
        let year = line.contains("(c)") || line.contains('©') || line.bytes().any(|letter| letter.is_ascii_digit());
        // The licences speak of copyright, too, and Apache's has a form to fill in.
        line.starts_with("copyright") && year && !line.contains("[yyyy]") && !line.contains("{yyyy}")
    };
    text.lines().map(|line| line.trim().trim_start_matches(['/', '*', '#']).trim()).filter(says)
}

/// The crates that are linked into the daemon.
fn parts() -> anyhow::Result<Vec<Part>> {
    let output = command::output(
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(workspace::root()),
    )?;
    let metadata: Value = serde_json::from_str(&output)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        // Neither what only tests use nor what only build scripts do.
        let linked = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let dependencies = list(&node["deps"]).into_iter().filter(linked).map(|it| string(&it["pkg"])).collect();
        uses.insert(string(&node["id"]), dependencies);
    }
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (string(&package["id"]), package)).collect();
    let tracker = packages.iter().find(|(_, package)| package["name"] == "tracker").context("no package tracker")?;
    // Macros run while it is compiled, and so does all that only they use.
    let is_macro = |id: &String| {
        packages.get(id).is_some_and(|it| list(&it["targets"]).iter().any(|target| target["kind"][0] == "proc-macro"))
    };
    let (mut found, mut open) = (BTreeSet::new(), vec![tracker.0.clone()]);
    while let Some(id) = open.pop() {
        if !is_macro(&id) && found.insert(id.clone()) {
            open.extend(uses.get(&id).into_iter().flatten().cloned());
        }
    }
    let mut parts = Vec::new();
    for package in found.iter().filter_map(|id| packages.get(id)).filter(|package| !package["source"].is_null()) {
        let manifest = PathBuf::from(string(&package["manifest_path"]));
        let directory = manifest.parent().context("a manifest is in a directory")?;
        let mut texts = Vec::new();
        read(directory, 2, &mut texts);
        parts.push(Part {
            name: string(&package["name"]),
            version: string(&package["version"]),
            licence: string(&package["license"]),
            authors: list(&package["authors"]).iter().map(string).collect(),
            texts,
        });
    }
    ensure!(parts.len() > 50, "`cargo metadata` names {} crates", parts.len());
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parts)
}

/// Reads the files with licences of a directory, and of those in it: C libraries have their own.
fn read(directory: &Path, depth: u8, texts: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        if path.is_dir() && depth > 0 {
            read(&path, depth - 1, texts);
        } else if path.is_file() && FILES.iter().any(|begins| name.starts_with(begins)) {
            // Nobody has to choose the GPL where it is one of several.
            let text = fs::read_to_string(&path).ok();
            texts.extend(text.filter(|text| !text.contains("GNU GENERAL PUBLIC LICENSE")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_licence_that_is_allowed_is_known() {
        let rules: toml::Table = fs::read_to_string(workspace::root().join("deny.toml")).unwrap().parse().unwrap();
        let allowed: Vec<_> =
            rules["licenses"]["allow"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(allowed, LICENCES.map(|(name, _)| name));
    }

    #[test]
    fn licences_and_owners_are_read_from_what_crates_say() {
        for (expression, expected) in [
            ("MIT", &["MIT"][..]),
            ("MIT/Apache-2.0", &["Apache-2.0", "MIT"]),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", &["Apache-2.0", "MIT", "Unicode-3.0"]),
            ("Apache-2.0 WITH LLVM-exception OR MIT", &["Apache-2.0 WITH LLVM-exception", "MIT"]),
            ("GPL-3.0", &[]),
            ("", &[]),
        ] {
            assert_eq!(licences(expression), expected, "{expression}");
        }
        let text = "MIT License\n\nCopyright (c) 2015 Somebody\n * Copyright 2016 Else\n\
                    The above copyright notice\ncopyright notice, 1 line\n   Copyright [yyyy] [name]\nCopyright holders\n";
        let expected = ["Copyright (c) 2015 Somebody", "Copyright 2016 Else"];
        let found: Vec<_> = copyrights(text).filter(|line| line.starts_with("Copyright")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn copyright_names_what_is_linked_and_prints_every_licence() {
        let text = text().unwrap();
        for part in
            ["\ntokio 1", "\nring 0", "\nzstd-sys 2", "\nISC\n---\n", "\nMIT\n---\n", "AS IS", "common-licenses/Apache"]
        {
            assert!(text.contains(part), "{part:?} is missing");
        }
        for foreign in ["\nloom ", "\ncriterion ", "\nsyn ", "\nshuttle "] {
            assert!(!text.contains(foreign), "{foreign:?} is not linked");
        }
    }
}
