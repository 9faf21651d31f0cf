//! The hash by which a committed object is known to be up to date without any eBPF toolchain.
//!
//! It covers all that decides what the object is, and nothing that changes without changing the
//! object:
//! * every source file of the package and of the packages of this workspace that it depends on,
//! * the manifests of these packages without their `lints` and `dev-dependencies`,
//! * from the workspace manifest: the edition, the build profile with what it inherits and does not
//!   set itself, and the entries for the dependencies in question,
//! * from Cargo.lock: version and checksum of every package that is linked in or generates code for
//!   it,
//! * the compiler flags of `ebpf_cargo`.
//!
//! Not covered are the versions of compiler and linker: the object is as good when a newer one was
//! used, and which one it was stands in the record. The workspace manifest and Cargo.lock are not
//! taken whole, or every new dependency of the daemon would make the object stale.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use crate::{
    ebpf_cargo::{FLAGS, PROFILE, TARGET},
    record::hexadecimal,
    workspace,
};

/// SHA-256 of the sources of the object of a package, as hexadecimal digits. `root` is the
/// workspace root, `package` the package's directory in it.
pub fn source_hash(root: &Path, package: &str) -> anyhow::Result<String> {
    let mut parts = BTreeMap::new();
    parts.insert("flags".to_owned(), [&FLAGS[..], &[TARGET]].concat().join("\n").into_bytes());

    let workspace_manifest = read_toml(&root.join("Cargo.toml"))?;
    let local_directory =
        |dependency: &str| look_up(&workspace_manifest, &["workspace", "dependencies", dependency, "path"])?.as_str();
    let mut dependencies = BTreeSet::new();
    let mut pending = vec![package.to_owned()];
    while let Some(package) = pending.pop() {
        for file in files_under(&root.join(&package).join("src"))? {
            let name = file.strip_prefix(root).expect("the file was found under the root");
            let content = fs::read(&file).with_context(|| format!("cannot read {}", workspace::display(&file)))?;
            parts.insert(name.to_string_lossy().into_owned(), content);
        }
        let mut manifest = read_toml(&root.join(&package).join("Cargo.toml"))?;
        manifest.remove("lints");
        manifest.remove("dev-dependencies");
        for dependency in dependencies_of(&manifest) {
            // Paths in the workspace manifest are relative to the root, and no package depends on
            // itself, so this ends.
            pending.extend(local_directory(&dependency).map(str::to_owned));
            dependencies.insert(dependency);
        }
        parts.insert(format!("{package}/Cargo.toml"), canonical(&Value::Table(manifest)));
    }

    let mut from_workspace = Table::new();
    let mut take = |path: &[&str]| {
        if let Some(value) = look_up(&workspace_manifest, path) {
            from_workspace.insert(path.join("."), value.clone());
        }
    };
    take(&["workspace", "package", "edition"]);
    for dependency in &dependencies {
        take(&["workspace", "dependencies", dependency]);
    }
    from_workspace.insert("profile".to_owned(), Value::Table(profile(&workspace_manifest)));
    parts.insert("Cargo.toml".to_owned(), canonical(&Value::Table(from_workspace)));

    dependencies.retain(|dependency| local_directory(dependency).is_none());
    let lock = read_toml(&root.join("Cargo.lock"))?;
    parts.insert("Cargo.lock".to_owned(), locked_packages(&lock, &dependencies)?.into_bytes());

    let mut hash = Sha256::new();
    for (name, content) in parts {
        // With its length before it, no part can pass for the end of another.
        hash.update(format!("{name}\n{}\n", content.len()));
        hash.update(content);
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// The build profile, which inherits from release: what it overrides there does not matter.
fn profile(workspace_manifest: &Table) -> Table {
    let table = |name| look_up(workspace_manifest, &["profile", name]).and_then(Value::as_table).cloned();
    let mut profile = table("release").unwrap_or_default();
    profile.extend(table(PROFILE).unwrap_or_default());
    profile
}

fn read_toml(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", workspace::display(path)))?;
    text.parse().with_context(|| format!("{} is not TOML", workspace::display(path)))
}

/// All files under `directory`, in no order that matters: the caller sorts.
fn files_under(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", workspace::display(directory)))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The names in `dependencies` of a manifest, those for a certain target included.
fn dependencies_of(manifest: &Table) -> BTreeSet<String> {
    let tables = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = tables.filter_map(Value::as_table).chain([manifest]);
    tables
        .filter_map(|table| table.get("dependencies")?.as_table())
        .flat_map(|dependencies| dependencies.keys().cloned())
        .collect()
}

fn look_up<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { look_up(value.as_table()?, rest) }
}

/// `value` in one spelling, whatever order, comments and white space its file has.
fn canonical(value: &Value) -> Vec<u8> {
    match value {
        Value::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            let mut bytes = b"{".to_vec();
            for (key, value) in entries {
                bytes.extend(format!("{key:?}=").bytes());
                bytes.extend(canonical(value));
                bytes.push(b'\n');
            }
            bytes.push(b'}');
            bytes
        }
        Value::Array(array) => {
            let mut bytes = b"[".to_vec();
            for value in array {
                bytes.extend(canonical(value));
                bytes.push(b'\n');
            }
            bytes.push(b']');
            bytes
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            value.to_string().into_bytes()
        }
    }
}

/// Name, version and checksum of `roots` and of all they depend on, one line each, sorted. The
/// roots are what the workspace's packages depend on, and not these packages, for which the lock
/// file lists dev-dependencies too.
fn locked_packages(lock: &Table, roots: &BTreeSet<String>) -> anyhow::Result<String> {
    let packages = lock.get("package").and_then(Value::as_array).context("Cargo.lock lists no packages")?;
    let text = |package: &Value, key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();

    let mut lines = BTreeSet::new();
    // `name`, or `name version` where there are several versions.
    let mut pending: Vec<String> = roots.iter().cloned().collect();
    while let Some(wanted) = pending.pop() {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let mut found = false;
        for package in packages {
            if text(package, "name") != name || version.is_some_and(|version| text(package, "version") != version) {
                continue;
            }
            found = true;
            let line = format!("{name} {} {}\n", text(package, "version"), text(package, "checksum"));
            if lines.insert(line) {
                let dependencies = package.get("dependencies").and_then(Value::as_array);
                pending.extend(dependencies.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            }
        }
        ensure!(found, "Cargo.lock does not list the package {wanted}: run `cargo metadata` to bring it up to date");
    }
    Ok(lines.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_has_what_it_sets_and_what_it_inherits() {
        let of = |text: &str| canonical(&Value::Table(profile(&text.parse().unwrap())));
        let own = "[profile.ebpf]\ninherits = 'release'\npanic = 'abort'\n";
        let with = of(&format!("{own}[profile.release]\ndebug = 1\npanic = 'unwind'"));
        assert_eq!(with, of(&format!("{own}[profile.release]\ndebug = 1")), "panic is overridden");
        assert_ne!(with, of(&format!("{own}[profile.release]\ndebug = 2")), "debug is inherited");
        assert_ne!(with, of("[profile.release]\ndebug = 1"), "panic is set");
    }

    #[test]
    fn spelling_of_a_manifest_does_not_matter() {
        let a: Table = "b = 1\n[a]\nx = [1, 2] # comment\n".parse().unwrap();
        let b: Table = "a = { x = [ 1,2 ] }\nb = 1\n".parse().unwrap();
        let c: Table = "a = { x = [2, 1] }\nb = 1\n".parse().unwrap();
        assert_eq!(canonical(&Value::Table(a.clone())), canonical(&Value::Table(b)));
        assert_ne!(canonical(&Value::Table(a)), canonical(&Value::Table(c)));
    }

    #[test]
    fn dependencies_for_a_target_are_found() {
        let manifest: Table = "dependencies.a = \"1\"\n[target.'cfg(target_arch = \"bpf\")'.dependencies]\nb = \"1\"\n\
                               [dev-dependencies]\nc = \"1\"\n"
            .parse()
            .unwrap();
        assert_eq!(dependencies_of(&manifest), ["a".to_owned(), "b".to_owned()].into());
    }

    #[test]
    fn only_reachable_packages_are_locked() {
        let lock: Table = "package = [
            { name = 'a', version = '1', checksum = 'x', dependencies = ['b 2'] },
            { name = 'b', version = '1', checksum = 'y' },
            { name = 'b', version = '2', checksum = 'z' },
            { name = 'c', version = '1', checksum = 'w' },
        ]"
        .parse()
        .unwrap();
        assert_eq!(locked_packages(&lock, &["a".to_owned()].into()).unwrap(), "a 1 x\nb 2 z\n");
        assert!(locked_packages(&lock, &["d".to_owned()].into()).is_err());
    }
}
