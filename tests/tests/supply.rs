//! What of others' code is in the tracker, checked against `deny.toml`: licences, versions, sources.
//! `cargo deny check` reads the same file and knows more (advisories), but takes longer to build
//! than the tracker and all its tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    process::Command,
};
use toml::Value;
use tracker_tests::workspace;

/// A package as `cargo metadata` has it.
#[derive(Clone, Debug)]
struct Package {
    name: String,
    version: String,
    /// `None` if it says nothing.
    licence: Option<String>,
    /// `None`: it is of this workspace.
    source: Option<String>,
}

/// What `deny.toml` says.
struct Rules {
    licences: BTreeSet<String>,
    /// `name@version`, where the version may be the beginning of one.
    doubled: Vec<String>,
    banned: BTreeSet<String>,
    registries: BTreeSet<String>,
}

impl Rules {
    fn parse(text: &str) -> Self {
        let file: toml::Table = text.parse().expect("TOML");
        let list = |section: &str, key: &str| -> Vec<Value> {
            file[section][key].as_array().unwrap_or_else(|| panic!("{section}.{key}")).clone()
        };
        let texts = |section: &str, key: &str| -> Vec<String> {
            list(section, key).iter().map(|value| value.as_str().expect("a string").to_owned()).collect()
        };
        let skip = |value: &Value| {
            assert!(value["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{value}: no reason");
            value["crate"].as_str().expect("a crate").to_owned()
        };
        Self {
            licences: texts("licenses", "allow").into_iter().collect(),
            doubled: list("bans", "skip").iter().map(skip).collect(),
            banned: texts("bans", "deny").into_iter().collect(),
            registries: texts("sources", "allow-registry").into_iter().collect(),
        }
    }

    /// What is wrong with the packages.
    fn check(&self, packages: &[Package]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            let Package { name, version, licence, source } = package;
            let Some(source) = source else { continue };
            let licence = licence.as_deref().unwrap_or_default();
            if !self.allow(licence) {
                wrong.push(format!("{name} {version}: its licence {licence:?} is not among those allowed"));
            }
            if self.banned.contains(name) {
                wrong.push(format!("{name} {version} is banned"));
            }
            if !self.registries.iter().any(|registry| *source == format!("registry+{registry}")) {
                wrong.push(format!("{name} {version} comes from {source}"));
            }
            if !self.doubled.iter().any(|doubled| is(doubled, name, version)) {
                versions.entry(name).or_default().push(version);
            }
        }
        for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
            wrong.push(format!("{name} is there in the versions {}", versions.join(", ")));
        }
        let unneeded = |doubled: &&String| !packages.iter().any(|package| is(doubled, &package.name, &package.version));
        wrong
            .extend(self.doubled.iter().filter(unneeded).map(|doubled| format!("{doubled} is not there: take it out")));
        wrong
    }

    /// Whether an expression of SPDX can be fulfilled.
    fn allow(&self, expression: &str) -> bool {
        let expression = expression.replace('/', " OR ");
        let either = |part: &str| part.split(" OR ").any(|licence| self.licences.contains(licence.trim()));
        // Parentheses are only there around alternatives, as far as packages here have any.
        expression.split(" AND ").all(|part| either(part.trim().trim_start_matches('(').trim_end_matches(')')))
    }
}

/// Whether `name@version` names a package.
fn is(named: &str, name: &str, version: &str) -> bool {
    named.split_once('@').is_some_and(|(of, begins)| {
        of == name && version.strip_prefix(begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn packages() -> Vec<Package> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(workspace::root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |package: &serde_json::Value, key: &str| package[key].as_str().map(str::to_owned);
    let package = |package: &serde_json::Value| Package {
        name: text(package, "name").expect("a name"),
        version: text(package, "version").expect("a version"),
        licence: text(package, "license"),
        source: text(package, "source"),
    };
    metadata["packages"].as_array().expect("packages").iter().map(package).collect()
}

#[test]
fn licences_versions_and_sources_of_dependencies_are_those_allowed() {
    let rules = Rules::parse(&fs::read_to_string(workspace::root().join("deny.toml")).expect("deny.toml"));
    let packages = packages();
    assert!(packages.len() > 50, "{} packages", packages.len());
    let wrong = rules.check(&packages);
    assert!(wrong.is_empty(), "see deny.toml:\n{}", wrong.join("\n"));
}

#[test]
fn what_is_not_allowed_is_found() {
    const REGISTRY: &str = "registry+https://example.org/index";
    let rules = Rules::parse(
        "[licenses]\nallow = [\"MIT\", \"Zlib\", \"Unicode-3.0\"]\n\
         [bans]\nskip = [{ crate = \"twice@1\", reason = \"r\" }]\ndeny = [\"bad\"]\n\
         [sources]\nallow-registry = [\"https://example.org/index\"]\n",
    );
    let package = |name: &str, version: &str, licence: &str, source: &str| Package {
        name: name.into(),
        version: version.into(),
        licence: Some(licence.into()),
        source: (!source.is_empty()).then(|| source.into()),
    };
    let twice = [package("twice", "1.2.0", "MIT", REGISTRY), package("twice", "2.0.0", "MIT", REGISTRY)];
    assert_eq!(rules.check(&twice), [""; 0]);
    assert_eq!(rules.check(&[]).len(), 1, "an exception that is not needed");
    // (name, version, licence, source, whether something is wrong)
    let rows = [
        ("good", "1.0.0", "MIT", REGISTRY, false),
        ("good", "1.0.0", "GPL-3.0 OR MIT", REGISTRY, false),
        ("good", "1.0.0", "GPL-3.0/MIT", REGISTRY, false),
        ("good", "1.0.0", "(MIT OR Apache-2.0) AND Unicode-3.0", REGISTRY, false),
        ("good", "1.0.0", "MIT AND Unicode-3.0", REGISTRY, false),
        ("own", "1.0.0", "", "", false),
        ("good", "1.0.0", "GPL-3.0", REGISTRY, true),
        ("good", "1.0.0", "(MIT OR Apache-2.0) AND GPL-3.0", REGISTRY, true),
        ("good", "1.0.0", "MIT AND GPL-3.0", REGISTRY, true),
        ("good", "1.0.0", "", REGISTRY, true),
        ("bad", "1.0.0", "MIT", REGISTRY, true),
        ("good", "1.0.0", "MIT", "registry+https://example.com/index", true),
        ("good", "1.0.0", "MIT", "git+https://example.org/index", true),
        ("twice", "2.1.0", "MIT", REGISTRY, true),
        ("twice", "10.0.0", "MIT", REGISTRY, true),
    ];
    for (name, version, licence, source, expected) in rows {
        let all = [&twice[..], &[package(name, version, licence, source)]].concat();
        let wrong = rules.check(&all);
        assert_eq!(!wrong.is_empty(), expected, "{name} {version} {licence} {source}: {wrong:?}");
    }
}
