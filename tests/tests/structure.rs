//! The structure of the sources: on which floor each module of `tracker-common` is, how long files
//! are, and how many parameters functions have.
//!
//! The floors are a list in `tracker-common/floors.toml`, from bottom to top. A module may use what
//! is below it, and what is on its own floor unless that uses it in turn. What is only there for
//! unit tests may use anything. A failure prints floors that would fit the sources as they are.

#![expect(clippy::wildcard_enum_match_arm, reason = "of all that Rust has, few things matter here")]

#[path = "structure/floors.rs"]
mod floors;
#[path = "structure/sizes.rs"]
mod sizes;
#[path = "structure/source.rs"]
mod source;
#[path = "structure/unsafe_code.rs"]
mod unsafe_code;

use floors::Floors;
use sizes::TooLong;
use source::{Package, below};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use tracker_tests::workspace;

/// Where sources are that are not tests.
const SOURCES: [&str; 7] = [
    "bench/ebpf/src",
    "bench/src",
    "tracker-common/src",
    "tracker-ebpf/src",
    "tracker-offload/src",
    "tracker-user/src",
    "xtask/src",
];

/// What is too long for the time being: files by their paths, functions as `path: name`. An
/// exception that is no longer needed has to go.
const TOO_LONG: &str = include_str!("structure/too_long.txt");

fn common() -> (Package, PathBuf) {
    let directory = workspace::root().join("tracker-common");
    (Package::read("lib.rs", &below(&directory.join("src"))).expect("sources that can be read"), directory)
}

#[test]
fn no_module_of_tracker_common_uses_one_above_it() {
    let (package, directory) = common();
    let list = fs::read_to_string(directory.join("floors.toml")).expect("the list of floors");
    let floors = Floors::parse(&list).expect("a list of floors");
    let wrong = floors.check(&package, "tracker-common/src");
    let fitting: Vec<_> = floors::fitting(&package).iter().map(|floor| format!("    {floor:?},\n")).collect();
    assert!(
        wrong.is_empty(),
        "see tracker-common/floors.toml:\n{}\nThese floors would fit:\n{}",
        wrong.join("\n"),
        fitting.concat()
    );
}

#[test]
fn modules_of_tools_use_each_other_in_no_circle() {
    for directory in ["bench/src", "xtask/src"] {
        let package = Package::read("main.rs", &below(&workspace::root().join(directory))).expect("sources");
        assert!(package.names().len() > 10, "{directory}");
        let circles = floors::circles(&package, directory);
        assert!(circles.is_empty(), "{}", circles.join("\n"));
    }
}

#[test]
fn wings_of_the_daemon_use_each_other_in_no_circle() {
    let package = Package::read("lib.rs", &below(&workspace::root().join("tracker-user/src"))).expect("sources");
    let circles = floors::circles_of_wings(&package, "tracker-user/src");
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// What is too long in all sources.
fn too_long() -> Vec<TooLong> {
    let root = workspace::root();
    let files: Vec<_> = SOURCES.iter().flat_map(|directory| sizes::files(&root, directory)).collect();
    assert!(files.len() > 100, "{} source files", files.len());
    let check = |file: &String| {
        let text = fs::read_to_string(root.join(file)).expect("a file");
        sizes::check(file, &text).expect("a source file")
    };
    files.iter().flat_map(check).collect()
}

#[test]
fn files_and_signatures_are_short() {
    let exceptions: Vec<_> =
        TOO_LONG.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let wrong = sizes::compare(&too_long(), &exceptions);
    assert!(wrong.is_empty(), "see tests/tests/structure/too_long.txt:\n{}", wrong.join("\n"));
}

/// Each has its reason beside it, which clippy asks for (`undocumented_unsafe_blocks`); this is for
/// whoever reviews them, and for whoever adds one to think twice.
#[test]
fn unsafe_code_is_where_the_documentation_says() {
    let root = workspace::root();
    let files = SOURCES.iter().chain(&["tests/src"]).flat_map(|directory| sizes::files(&root, directory));
    let count = |file: String| {
        let text = fs::read_to_string(root.join(&file)).expect("a file");
        let number = unsafe_code::count(&file, &text).expect("a source file");
        (file, number)
    };
    let files: Vec<_> = files.map(count).collect();
    let table = unsafe_code::table(&fs::read_to_string(root.join("docs/security.md")).expect("the document"));
    assert!(table.len() > 10, "{} rows", table.len());
    let wrong = unsafe_code::compare(&table, &files);
    assert!(wrong.is_empty(), "see the table in docs/security.md:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_counted_and_compared() {
    let rows = [
        ("", 0),
        ("// unsafe { }\n/// unsafe\nfn f() { \"unsafe\"; }", 0),
        ("fn f() { unsafe { g() } }", 1),
        ("fn f() { unsafe { g(unsafe { h() }) } }", 2),
        ("unsafe fn f() {}", 1),
        ("struct S; unsafe impl Sync for S {}", 1),
        ("struct S; impl S { unsafe fn f(&self) {} }", 1),
        ("unsafe trait T {}", 1),
        ("unsafe extern \"C\" { fn f(); }", 1),
        ("#[unsafe(no_mangle)] fn f() {}", 1),
        ("macro_rules! m { () => { unsafe { f() } }; }", 1),
        ("fn f() { println!(\"{}\", unsafe { g() }); }", 1),
        ("#[cfg(test)] mod tests { fn f() { unsafe { g() } } }", 0),
    ];
    for (text, expected) in rows {
        assert_eq!(unsafe_code::count("file.rs", text), Ok(expected), "{text}");
    }
    let table = unsafe_code::table(
        "| where | how often | why |\n|---|---|---|\n| `a/b.rs` | 2 | because |\n| `c` | 3 | because |\n| `d` | 1 | |\n",
    );
    assert_eq!(table.len(), 2, "a row without a reason is none");
    // (files, what is wrong)
    let rows: [(&[(&str, usize)], usize); 6] = [
        (&[("a/b.rs", 2), ("c/d.rs", 1), ("c/e/f.rs", 2), ("g.rs", 0)], 0),
        (&[("a/b.rs", 3), ("c/d.rs", 3)], 1),
        (&[("a/b.rs", 1), ("c/d.rs", 3)], 1),
        (&[("a/b.rs", 2), ("c/d.rs", 3), ("g.rs", 1)], 1),
        (&[("a/b.rs", 2), ("cd/e.rs", 3)], 2),
        (&[], 2),
    ];
    for (files, expected) in rows {
        let files: Vec<_> = files.iter().map(|(file, number)| ((*file).to_owned(), *number)).collect();
        let wrong = unsafe_code::compare(&table, &files);
        assert_eq!(wrong.len(), expected, "{files:?}: {wrong:?}");
    }
}

/// A package of these files.
fn package(files: &[(&str, &str)]) -> Package {
    let files: BTreeMap<PathBuf, String> =
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    let read = |path: &Path| files.get(path).cloned().ok_or(io::Error::from(io::ErrorKind::NotFound));
    Package::read("lib.rs", &read).expect("sources")
}

#[test]
fn uses_that_lead_up_or_round_are_found() {
    const LIB: (&str, &str) = ("lib.rs", "mod low; mod high; mod store;");
    const STORE: (&str, &str) = ("store/mod.rs", "pub mod left; pub mod right; pub use left::Left;");
    const FLOORS: &str = r#"floors = [["low"], ["store::left", "store::right"], ["store"], ["high"]]"#;
    const PLAIN: &str = "";
    // (what low, left, right and high are, and what is wrong)
    type Row = (&'static str, [&'static str; 4], &'static [&'static str]);
    let rows: [Row; 19] = [
        ("nothing is used", [PLAIN; 4], &[]),
        (
            "uses lead down",
            ["pub struct L;", "use crate::low::L;", "use crate::low;", "use crate::{low, store::left};"],
            &[],
        ),
        (
            "an import leads up",
            ["\nuse crate::high;", PLAIN, PLAIN, PLAIN],
            &["src/low.rs:2: low -> high: it is on a floor above"],
        ),
        (
            "an import in a group leads up",
            [PLAIN, PLAIN, "use crate::{\n    low,\n    high::{self, H},\n};", "pub struct H;"],
            &["src/store/right.rs:3: store::right -> high"],
        ),
        (
            "an inline path leads up",
            [PLAIN, PLAIN, "fn f() {\n    crate::high::h();\n}", "pub fn h() {}"],
            &["src/store/right.rs:2: store::right -> high"],
        ),
        (
            "a path by way of super leads up",
            [PLAIN, "fn f(h: super::super::high::H) {}", PLAIN, "pub struct H;"],
            &["src/store/left.rs:1: store::left -> high"],
        ),
        (
            "the module that holds others is above them",
            [PLAIN, "use super::own;", PLAIN, PLAIN],
            &["src/store/left.rs:1: store::left -> store"],
        ),
        (
            "a name that another module only passes on is where it was defined",
            [PLAIN, "pub struct Left;", "use super::Left;", "use crate::store::Left;"],
            &[],
        ),
        ("two on one floor, one way", [PLAIN, PLAIN, "use super::left;", PLAIN], &[]),
        (
            "two on one floor in a circle",
            [PLAIN, "use super::right;", "use super::left;", PLAIN],
            &[
                "src/store/left.rs:1: store::left -> store::right: they are on one floor and use each other",
                "src/store/right.rs:1: store::right -> store::left",
            ],
        ),
        (
            "a circle by way of a name that is passed on",
            [PLAIN, "use super::right;\npub struct Left;", "use super::Left;", PLAIN],
            &["src/store/left.rs:1", "src/store/right.rs:1"],
        ),
        (
            "an import in a function leads up",
            ["fn f() {\n    use crate::high;\n}", PLAIN, PLAIN, PLAIN],
            &["src/low.rs:2: low -> high"],
        ),
        (
            "a type leads up",
            ["struct L(Option<crate::high::H>);", PLAIN, PLAIN, "pub struct H;"],
            &["src/low.rs:1: low -> high"],
        ),
        (
            "an expression in a macro leads up",
            ["fn f() { assert!(crate::high::H > 0); }", PLAIN, PLAIN, "pub const H: u8 = 1;"],
            &["src/low.rs:1: low -> high"],
        ),
        (
            "what a macro will be leads up",
            ["macro_rules! m { () => { $crate::high::h() } }", PLAIN, PLAIN, "pub fn h() {}"],
            &["src/low.rs:1: low -> high"],
        ),
        (
            "a macro of a module above",
            ["m!();", PLAIN, PLAIN, "#[macro_export]\nmacro_rules! m { () => {} }"],
            &["src/low.rs:1: low -> high"],
        ),
        (
            "within a module of its own in the same file",
            ["mod inner {\n    use super::super::high;\n    use super::L;\n}\nstruct L;", PLAIN, PLAIN, PLAIN],
            &["src/low.rs:2: low -> high"],
        ),
        (
            "unit tests may use anything",
            [
                "#[cfg(test)]\nmod tests {\n    use crate::high;\n}\n#[cfg(test)]\nuse crate::store;",
                PLAIN,
                PLAIN,
                PLAIN,
            ],
            &[],
        ),
        ("other packages are others", ["use core::high; use std::store::left;", PLAIN, PLAIN, PLAIN], &[]),
    ];
    for (what, [low, left, right, high], expected) in rows {
        let package = package(&[
            LIB,
            STORE,
            ("low.rs", low),
            ("store/left.rs", left),
            ("store/right.rs", right),
            ("high.rs", high),
        ]);
        let wrong = Floors::parse(FLOORS).expect("floors").check(&package, "src");
        assert_eq!(wrong.len(), expected.len(), "{what}: {wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected) {
            assert!(wrong.starts_with(expected), "{what}: {wrong}");
        }
    }
}

#[test]
fn list_of_floors_has_to_be_exact() {
    const FILES: [(&str, &str); 3] =
        [("lib.rs", "mod low; mod high;"), ("low.rs", "use crate::high;"), ("high.rs", "use crate::low;")];
    // (the list, what is wrong)
    for (list, expected) in [
        (r#"floors = [["low"], ["high"]]"#, &["src/low.rs:1: low -> high"][..]),
        (r#"floors = [["low", "high"]]"#, &["src/high.rs:1: high -> low", "src/low.rs:1: low -> high"]),
        (r#"floors = [["low"]]"#, &["high is on no floor", "src/low.rs:1: low -> high"]),
        (r#"floors = [["low"], ["high"], ["gone"]]"#, &["gone is on a floor, but not there", "src/low.rs:1"]),
        (r#"floors = [["low"], ["high", "low"]]"#, &["low is listed twice", "src/high.rs:1", "src/low.rs:1"]),
        ("floors = [[\"low\"], [\"high\"]]\nexceptions = [\"low -> high\"]", &[]),
        ("floors = [[\"low\", \"high\"]]\nexceptions = [\"low -> high\"]", &[]),
        (
            "floors = [[\"low\"], [\"high\"]]\nexceptions = [\"low -> high\", \"high -> low\"]",
            &["the exception high -> low is no longer needed"],
        ),
    ] {
        let wrong = Floors::parse(list).expect("floors").check(&package(&FILES), "src");
        assert_eq!(wrong.len(), expected.len(), "{list}: {wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected) {
            assert!(wrong.starts_with(expected), "{list}: {wrong}");
        }
    }
    for broken in ["", "floors = 1", "floors = [1]", "floors = [[1]]", "floors = [] exceptions"] {
        assert!(Floors::parse(broken).is_err(), "{broken}");
    }
    assert_eq!(floors::fitting(&package(&FILES)), [["high", "low"]]);
    assert_eq!(floors::circles(&package(&FILES), "src"), ["src/high.rs:1: high -> low", "src/low.rs:1: low -> high"]);
    let tower = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b;"), ("b.rs", "")];
    assert_eq!(floors::fitting(&package(&tower)), [["b"], ["a"]]);
    assert!(floors::circles(&package(&tower), "src").is_empty());

    // Each of `a` and `b` uses the other, though none of their modules does.
    let mut wings = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod one; pub mod two;"),
        ("a/one.rs", "use crate::b::two;"),
        ("a/two.rs", ""),
        ("b/mod.rs", "mod one; pub mod two;"),
        ("b/one.rs", "use crate::a::two;"),
        ("b/two.rs", ""),
    ];
    assert!(floors::circles(&package(&wings), "src").is_empty());
    assert_eq!(floors::circles_of_wings(&package(&wings), "src"), ["src/a/one.rs:1: a -> b", "src/b/one.rs:1: b -> a"]);
    wings[5].1 = "";
    assert!(floors::circles_of_wings(&package(&wings), "src").is_empty());
}

#[test]
fn what_is_too_long_is_found() {
    let long_file = "// a line\n".repeat(sizes::LINES + 1);
    let file = "// a line\n".repeat(sizes::LINES);
    // (a file, what is found in it)
    for (text, expected) in [
        (file.as_str(), &[][..]),
        (&long_file, &["x.rs"]),
        ("fn f(a: u8, b: u8, c: u8, d: u8, e: u8) {}", &[]),
        ("fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}", &["x.rs: f"]),
        ("impl S {\n    fn f(&self, a: u8, b: u8, c: u8, d: u8, e: u8) {}\n}", &[]),
        ("impl S {\n    fn f(self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}\n}", &["x.rs: f"]),
        ("trait T {\n    fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8);\n}", &["x.rs: f"]),
        ("fn f() {\n    fn g(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}\n}", &["x.rs: g"]),
        ("#[expect(clippy::too_many_arguments, reason = \"x\")]\nfn f() {}", &["x.rs: clippy::too_many_arguments"]),
        ("#![allow(clippy::too_many_arguments)]", &["x.rs: clippy::too_many_arguments"]),
        ("#[cfg(test)]\nmod tests {\n    fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}\n}", &[]),
    ] {
        let found = sizes::check("x.rs", text).expect("a file");
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, expected, "{text}");
        let expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(sizes::compare(&found, &[]).len(), expected.len(), "{text}");
        assert!(sizes::compare(&found, &expected).is_empty(), "{text}");
        let unneeded = [expected, vec!["y.rs".to_owned()]].concat();
        assert_eq!(
            sizes::compare(&found, &unneeded),
            ["the exception y.rs is no longer needed: take it out"],
            "{text}"
        );
    }
}
