//! `cargo xtask book`: the documents in `docs/` as a book to read in a browser.
//!
//! The book knows only what is in `docs/`. What is elsewhere in the tree and linked to is put beside the
//! chapters, and the links lead there: a document becomes a chapter at the end.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{command, tools::Tool, workspace};

const MDBOOK: Tool =
    Tool { name: "mdbook", version: "0.5.4", options: &["--no-default-features", "--features", "search"] };

#[derive(Args)]
pub struct Options {}

pub fn run(_: &Options) -> anyhow::Result<()> {
    let target = workspace::target_dir().join("book");
    let source = workspace::target_dir().join("book-source");
    stage(&workspace::root(), &source)?;
    let mut build = Command::new(MDBOOK.provide()?);
    command::run(build.arg("build").arg("--dest-dir").arg(&target).arg(&source))?;
    eprintln!("{}", workspace::display(&target.join("index.html")));
    Ok(())
}

/// Makes the source of the book: `docs/`, and below `docs/tree/` what it links to outside of it.
fn stage(root: &Path, source: &Path) -> anyhow::Result<()> {
    if source.exists() {
        fs::remove_dir_all(source).with_context(|| format!("cannot remove {}", source.display()))?;
    }
    let mut waiting: Vec<PathBuf> = vec!["docs".into()];
    let (mut done, mut chapters) = (BTreeSet::new(), String::new());
    fs::create_dir_all(source.join("docs"))?;
    fs::copy(root.join("book.toml"), source.join("book.toml"))?;
    while let Some(path) = waiting.pop() {
        if !done.insert(path.clone()) {
            continue;
        }
        let from = root.join(&path);
        if from.is_dir() {
            ensure!(path.starts_with("docs"), "the book links to the directory {}", path.display());
            for entry in fs::read_dir(&from)? {
                waiting.push(path.join(entry?.file_name()));
            }
            continue;
        }
        let to = source.join(place(&path));
        fs::create_dir_all(to.parent().unwrap_or(source))?;
        if path.extension().is_none_or(|extension| extension != "md") {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", path.display()))?;
            continue;
        }
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&to, moved(&path, &text, &mut waiting))?;
        if !path.starts_with("docs") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            chapters += &format!("[{name}]({})\n\n", place(&path).strip_prefix("docs")?.display());
        }
    }
    let summary = source.join("docs/SUMMARY.md");
    let text = fs::read_to_string(&summary)?;
    fs::write(&summary, format!("{text}\n---\n\n{chapters}"))?;
    Ok(())
}

/// Where a file of the tree is in the book's source.
fn place(path: &Path) -> PathBuf {
    if path.starts_with("docs") { path.to_owned() } else { Path::new("docs/tree").join(path) }
}

/// A document with its links as they have to be where it is put. What they lead to outside of `docs/` is
/// added to `wanted`.
fn moved(document: &Path, text: &str, wanted: &mut Vec<PathBuf>) -> String {
    let mut moved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        moved += before;
        moved += "](";
        let Some((link, behind)) = after.split_once(')') else {
            rest = after;
            continue;
        };
        let (file, heading) = link.split_once('#').map_or((link, ""), |(file, _)| (file, &link[file.len()..]));
        let is_local = !(file.is_empty() || link.contains("://") || link.starts_with("mailto:"));
        let target = joined(document.parent().unwrap_or(Path::new("")), file);
        if is_local && !(target.starts_with("docs") && document.starts_with("docs")) {
            let here = place(document);
            let up = "../".repeat(here.parent().map_or(0, |path| path.components().count()));
            moved += &format!("{up}{}{heading}", place(&target).display());
            if !target.starts_with("docs") {
                wanted.push(target);
            }
        } else {
            moved += link;
        }
        moved.push(')');
        rest = behind;
    }
    moved + rest
}

/// A path from a directory on.
fn joined(directory: &Path, link: &str) -> PathBuf {
    let mut path = directory.to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_the_documents_lead_to_what_is_put_beside_them() {
        for (document, text, expected, wanted) in [
            ("docs/a.md", "[x](b.md#c) [y](#z) [w](https://e/)", "[x](b.md#c) [y](#z) [w](https://e/)", None),
            ("docs/a.md", "[x](../SECURITY.md)", "[x](../docs/tree/SECURITY.md)", Some("SECURITY.md")),
            (
                "docs/o/a.md",
                "[x](../../c/d.toml), [y](../b.md)",
                "[x](../../docs/tree/c/d.toml), [y](../b.md)",
                Some("c/d.toml"),
            ),
            ("SECURITY.md", "[x](docs/a.md#b)", "[x](../../docs/a.md#b)", None),
            ("SECURITY.md", "[x](README.md)", "[x](../../docs/tree/README.md)", Some("README.md")),
            ("docs/a.md", "f](x", "f](x", None),
        ] {
            let mut found = Vec::new();
            assert_eq!(moved(Path::new(document), text, &mut found), expected, "{document}");
            assert_eq!(found, wanted.map(PathBuf::from).into_iter().collect::<Vec<_>>(), "{document}");
        }
    }

    #[test]
    fn the_book_has_all_that_it_links_to() {
        let source = workspace::target_dir().join("book-source-of-a-test");
        stage(&workspace::root(), &source).expect("a book");
        let text = |path: &str| fs::read_to_string(source.join("docs").join(path)).expect(path);
        assert!(text("SUMMARY.md").contains("(tree/SECURITY.md)"));
        assert!(text("security.md").contains("](../docs/tree/SECURITY.md)"));
        assert!(text("tree/SECURITY.md").contains("](../../docs/security.md)"));
        fs::remove_dir_all(source).expect("removable");
    }
}
