//! Links of the documents: files and headings that they name are there, and the book has all
//! chapters. What is said of other hosts is not looked at.

#![expect(clippy::wildcard_enum_match_arm, reason = "of all that documents have, few things matter here")]

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};
use tracker_tests::workspace;

/// Where documents are: files, and directories with all below them.
const PLACES: [&str; 6] = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "contrib", "docs"];

/// A document: what it links to, with the line, and its headings as links name them.
#[derive(Debug, Default)]
struct Document {
    links: Vec<(usize, String)>,
    headings: BTreeSet<String>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut heading: Option<String> = None;
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = 1 + text[..range.start].matches('\n').count();
            match event {
                Event::Start(Tag::Link { link_type, dest_url, .. }) if link_type != LinkType::Email => {
                    document.links.push((line, dest_url.into_string()));
                }
                Event::Start(Tag::Image { dest_url, .. }) => document.links.push((line, dest_url.into_string())),
                Event::Html(html) | Event::InlineHtml(html) => {
                    document.links.extend(attributes(&html).map(|link| (line, link.to_owned())));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let name = heading.take().map(|text| anchor(&text)).unwrap_or_default();
                    let times = seen.entry(name.clone()).or_default();
                    document.headings.insert(if *times == 0 { name } else { format!("{name}-{times}") });
                    *times += 1;
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        document
    }
}

/// What tags of HTML link to.
fn attributes(html: &str) -> impl Iterator<Item = &str> {
    ["href=\"", "src=\"", "srcset=\""].into_iter().flat_map(move |name| {
        html.match_indices(name).filter_map(move |(at, _)| html[at + name.len()..].split('"').next())
    })
}

/// The name of a heading in links.
fn anchor(text: &str) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    text.trim().to_lowercase().chars().filter(|letter| kept(*letter)).collect::<String>().replace(' ', "-")
}

/// All documents below a root, by their paths from there.
fn documents(root: &Path) -> BTreeMap<PathBuf, String> {
    fn read(root: &Path, path: &Path, all: &mut BTreeMap<PathBuf, String>) -> io::Result<()> {
        if root.join(path).is_dir() {
            for entry in fs::read_dir(root.join(path))? {
                read(root, &path.join(entry?.file_name()), all)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            all.insert(path.to_owned(), fs::read_to_string(root.join(path))?);
        }
        Ok(())
    }
    let mut all = BTreeMap::new();
    for place in PLACES.iter().filter(|place| root.join(place).exists()) {
        read(root, Path::new(place), &mut all).expect("documents");
    }
    all
}

/// Links of documents that lead nowhere. `is_there` says of a path from the root whether it leads to
/// something.
fn broken(texts: &BTreeMap<PathBuf, String>, is_there: impl Fn(&Path) -> bool) -> Vec<String> {
    let documents: BTreeMap<_, _> = texts.iter().map(|(path, text)| (path, Document::parse(text))).collect();
    let mut broken = Vec::new();
    for (path, document) in &documents {
        for (line, link) in &document.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(file, to)| (file, Some(to)));
            let target = if file.is_empty() { (*path).clone() } else { join(path, file) };
            let there = match (documents.get(&target), heading) {
                (Some(document), Some(heading)) => document.headings.contains(heading),
                (Some(_), None) => true,
                // Lines of sources move, so nobody links to them.
                (None, Some(_)) => false,
                (None, None) => is_there(&target),
            };
            if !there {
                broken.push(format!("{}:{line}: {link}", path.display()));
            }
        }
    }
    broken
}

/// Where a link of the document at `path` leads.
fn join(path: &Path, link: &str) -> PathBuf {
    let mut parts: Vec<_> = path.parent().into_iter().flat_map(Path::components).map(|part| part.as_os_str()).collect();
    for part in Path::new(link).components() {
        match part.as_os_str() {
            name if name == ".." => drop(parts.pop()),
            name if name == "." => {}
            name => parts.push(name),
        }
    }
    parts.into_iter().collect()
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let root = workspace::root();
    let texts = documents(&root);
    assert!(texts.len() > 8, "{} documents", texts.len());
    let links: usize = texts.values().map(|text| Document::parse(text).links.len()).sum();
    assert!(links > 100, "{links} links");
    let broken = broken(&texts, |path| root.join(path).exists());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn links_that_lead_nowhere_are_found() {
    const OTHER: &str = "# Other things\n## A `code`, and more\n## Twice\n## Twice\n### 9. Übung_x\n";
    // (a document, whether something in it is broken)
    let rows = [
        ("no link", false),
        ("[a](b.md)", false),
        ("[a](b.md#other-things)", false),
        ("[a](b.md#a-code-and-more) [a](b.md#twice) [a](b.md#twice-1) [a](b.md#9-übung_x)", false),
        ("# Here\n[a](#here)", false),
        ("[a](../README.md) [a](./b.md) [a](picture.svg) ![a](picture.svg) [a](..)", false),
        ("[a][b]\n\n[b]: b.md#twice", false),
        ("<img src=\"picture.svg\"> <a href=\"b.md\">", false),
        ("[a](https://example.org/x#y) <https://example.org> <a@example.org> [a](mailto:a@example.org)", false),
        ("`[a](gone.md)`\n\n    [a](gone.md)\n\n```\n[a](gone.md)\n```", false),
        ("[a](gone.md)", true),
        ("[a](../b.md)", true),
        ("[a](b.md#gone)", true),
        ("[a](b.md#Twice) x", true),
        ("[a](b.md#twice-2)", true),
        ("[a](#gone)", true),
        ("![a](gone.svg)", true),
        ("[a](picture.svg#here)", true),
        ("[a][b]\n\n[b]: gone.md", true),
        ("<picture><source srcset=\"gone.png\"></picture>", true),
        ("<img src=\"gone.png\">", true),
        ("| a |\n|---|\n| [a](gone.md) |", true),
    ];
    for (text, expected) in rows {
        let texts = BTreeMap::from(
            [("docs/a.md", text), ("docs/b.md", OTHER), ("README.md", "")]
                .map(|(path, text)| (path.into(), text.to_owned())),
        );
        let there = ["docs/picture.svg", "README.md", ""].map(PathBuf::from);
        let broken = broken(&texts, |path| there.iter().any(|it| it == path));
        assert_eq!(!broken.is_empty(), expected, "{text}: {broken:?}");
        assert!(broken.iter().all(|it| it.starts_with("docs/a.md:")), "{broken:?}");
    }
}

#[test]
fn the_book_has_every_chapter() {
    let root = workspace::root();
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md")).expect("the book's chapters");
    let chapters: BTreeSet<_> = Document::parse(&summary).links.into_iter().map(|(_, link)| link).collect();
    let all = documents(&root).into_keys();
    let files = all.filter_map(|path| Some(path.strip_prefix("docs").ok()?.to_str().expect("UTF-8").to_owned()));
    let files: BTreeSet<_> = files.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(chapters, files, "docs/SUMMARY.md and what is in docs");
}
