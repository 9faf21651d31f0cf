//! The source files of a package as a tree of modules, and which of them uses which.

use proc_macro2::{Span, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};
use syn::{
    Attribute, Ident, ImplItem, Item, ItemImpl, ItemMod, ItemTrait, ItemUse, Macro, TraitItem, UseTree, Visibility,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

/// A module's path within its package, without `crate`: `["store", "index"]`. The root's is empty.
pub type Module = Vec<String>;

/// Reads a source file, given its path relative to the package's root file.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// One use of a module by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: Module,
    pub to: Module,
    pub file: PathBuf,
    pub line: usize,
}

/// The modules of a package, without those of its unit tests.
pub struct Package {
    /// Modules that have a file of their own, and these files.
    files: BTreeMap<Module, (PathBuf, syn::File)>,
    /// All modules, also those within files.
    modules: BTreeSet<Module>,
    /// What modules hold under another module's name: the full path of what it is.
    reexports: BTreeMap<(Module, String), Vec<String>>,
    /// The modules of which a module holds everything.
    globs: BTreeMap<Module, Vec<Vec<String>>>,
    /// The names of what is defined in modules.
    items: BTreeMap<Module, BTreeSet<String>>,
    /// Where macros are defined.
    macros: BTreeMap<String, Module>,
}

/// A module's path as people write it.
pub fn name(module: &[String]) -> String {
    if module.is_empty() { "crate".to_owned() } else { module.join("::") }
}

/// Reads files below a directory.
pub fn below(directory: &Path) -> impl Fn(&Path) -> io::Result<String> {
    move |path| fs::read_to_string(directory.join(path))
}

impl Package {
    /// Reads a package from its root file on.
    pub fn read(root: &str, read: Read<'_>) -> Result<Self, String> {
        let mut package = Self {
            files: BTreeMap::new(),
            modules: BTreeSet::from([Module::new()]),
            reexports: BTreeMap::new(),
            globs: BTreeMap::new(),
            items: BTreeMap::new(),
            macros: BTreeMap::new(),
        };
        package.add_file(Module::new(), PathBuf::from(root), read)?;
        for (module, (_, file)) in &package.files {
            let mut index = Index { module: module.clone(), found: Vec::new() };
            index.visit_file(file);
            for found in index.found {
                match found {
                    Found::Item(module, name) => drop(package.items.entry(module).or_default().insert(name)),
                    Found::Macro(module, name) => drop(package.macros.insert(name, module)),
                    Found::Reexport(module, name, path) => drop(package.reexports.insert((module, name), path)),
                    Found::Glob(module, path) => package.globs.entry(module).or_default().push(path),
                }
            }
        }
        Ok(package)
    }

    fn add_file(&mut self, module: Module, path: PathBuf, read: Read<'_>) -> Result<(), String> {
        let text = read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = without_tests(&path.display().to_string(), &text)?;
        // The files of its modules lie beside a root or mod.rs, else in a directory of its name.
        let is_directory =
            matches!(path.file_name().and_then(|name| name.to_str()), Some("lib.rs" | "main.rs" | "mod.rs"));
        let directory =
            if is_directory { path.parent().unwrap_or(Path::new("")).to_owned() } else { path.with_extension("") };
        self.add_modules(&module, &file.items, &directory, read)?;
        self.files.insert(module, (path, file));
        Ok(())
    }

    fn add_modules(&mut self, parent: &Module, items: &[Item], directory: &Path, read: Read<'_>) -> Result<(), String> {
        for item in items {
            let Item::Mod(item) = item else { continue };
            let name = item.ident.to_string();
            let module: Module = parent.iter().cloned().chain([name.clone()]).collect();
            self.modules.insert(module.clone());
            if let Some((_, items)) = &item.content {
                self.add_modules(&module, items, &directory.join(name), read)?;
                continue;
            }
            let beside = directory.join(format!("{name}.rs"));
            let path = if read(&beside).is_ok() { beside } else { directory.join(&name).join("mod.rs") };
            self.add_file(module, path, read)?;
        }
        Ok(())
    }

    /// The modules that have files of their own, without the root.
    pub fn names(&self) -> BTreeSet<String> {
        self.files.keys().filter(|module| !module.is_empty()).map(|module| name(module)).collect()
    }

    /// All uses of modules by others, in the order of files and lines.
    pub fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = BTreeSet::new();
        for (module, (path, file)) in &self.files {
            let mut uses = Uses { package: self, module: module.clone(), found: Vec::new() };
            uses.visit_file(file);
            for (to, line) in uses.found {
                if to != *module {
                    arrows.insert(Arrow { from: module.clone(), to, file: path.clone(), line });
                }
            }
        }
        let mut arrows: Vec<_> = arrows.into_iter().collect();
        arrows.sort_by(|a, b| (&a.file, a.line, &a.to).cmp(&(&b.file, b.line, &b.to)));
        arrows
    }

    /// The module with a file of its own that holds what `path` names where it stands in `module`.
    /// None for what is not of this package.
    fn resolve(&self, module: &Module, path: &[String]) -> Option<Module> {
        let full = self.full(module, path)?;
        let mut at = self.definition(full, 8);
        while !self.files.contains_key(&at) {
            at.pop();
        }
        Some(at)
    }

    /// `path` from the root on.
    fn full(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = module.clone();
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => drop(base.pop()),
            _ => {
                base.push(first.clone());
                if !self.modules.contains(&base) {
                    return None;
                }
            }
        }
        for segment in rest {
            if segment == "super" {
                base.pop();
            } else {
                base.push(segment.clone());
            }
        }
        Some(base)
    }

    /// The module that defines what is at `full`, whichever others hold it too.
    fn definition(&self, full: Vec<String>, depth: usize) -> Module {
        let mut module = Module::new();
        for segment in full {
            module.push(segment.clone());
            if self.modules.contains(&module) {
                continue;
            }
            module.pop();
            if depth > 0 {
                if let Some(path) = self.reexports.get(&(module.clone(), segment.clone()))
                    && let Some(full) = self.full(&module, path)
                {
                    return self.definition(full, depth - 1);
                }
                for path in self.globs.get(&module).into_iter().flatten() {
                    let Some(from) = self.full(&module, path) else { continue };
                    if self.items.get(&from).is_some_and(|items| items.contains(&segment)) {
                        return from;
                    }
                }
            }
            if module.is_empty()
                && let Some(defined) = self.macros.get(&segment)
            {
                return defined.clone();
            }
            break;
        }
        module
    }
}

/// What a file holds besides what is there for unit tests only.
pub fn without_tests(file: &str, text: &str) -> Result<syn::File, String> {
    let mut parsed = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
    RemoveTests.visit_file_mut(&mut parsed);
    Ok(parsed)
}

struct RemoveTests;

impl VisitMut for RemoveTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| !is_for_tests(attributes(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !is_for_tests(attributes(item)));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, implementation: &mut ItemImpl) {
        implementation.items.retain(|item| !is_for_tests(impl_attributes(item)));
        visit_mut::visit_item_impl_mut(self, implementation);
    }

    fn visit_item_trait_mut(&mut self, item: &mut ItemTrait) {
        item.items.retain(|item| !is_for_tests(trait_attributes(item)));
        visit_mut::visit_item_trait_mut(self, item);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// The attributes of an item.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The attributes of what an `impl` holds.
fn impl_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// The attributes of what a trait holds.
fn trait_attributes(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(item) => &item.attrs,
        TraitItem::Fn(item) => &item.attrs,
        TraitItem::Type(item) => &item.attrs,
        TraitItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// The paths that a `use` names, with where they stand, and the names that they have from then on;
/// none for `*`.
fn leaves(tree: &UseTree, before: &[String], found: &mut Vec<(Vec<String>, Option<String>, Span)>) {
    let with = |ident: &Ident| -> Vec<String> { before.iter().cloned().chain([ident.to_string()]).collect() };
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), found),
        UseTree::Name(leaf) if leaf.ident == "self" => {
            found.push((before.to_vec(), before.last().cloned(), leaf.ident.span()));
        }
        UseTree::Name(leaf) => found.push((with(&leaf.ident), Some(leaf.ident.to_string()), leaf.ident.span())),
        UseTree::Rename(leaf) => found.push((with(&leaf.ident), Some(leaf.rename.to_string()), leaf.ident.span())),
        UseTree::Glob(glob) => found.push((before.to_vec(), None, glob.star_token.spans[0])),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, before, found)),
    }
}

enum Found {
    Item(Module, String),
    Macro(Module, String),
    Reexport(Module, String, Vec<String>),
    Glob(Module, Vec<String>),
}

/// Collects what modules hold.
struct Index {
    module: Module,
    found: Vec<Found>,
}

impl<'ast> Visit<'ast> for Index {
    fn visit_item(&mut self, item: &'ast Item) {
        let ident = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        if let Some(ident) = ident {
            self.found.push(Found::Item(self.module.clone(), ident.to_string()));
        }
        match item {
            Item::Macro(item) if item.mac.path.is_ident("macro_rules") => {
                if let Some(ident) = &item.ident {
                    self.found.push(Found::Macro(self.module.clone(), ident.to_string()));
                }
            }
            Item::Use(item) if !matches!(item.vis, Visibility::Inherited) => {
                let mut paths = Vec::new();
                leaves(&item.tree, &[], &mut paths);
                for (path, name, _) in paths {
                    self.found.push(match name {
                        Some(name) => Found::Reexport(self.module.clone(), name, path),
                        None => Found::Glob(self.module.clone(), path),
                    });
                }
            }
            Item::Mod(item) if item.content.is_some() => {
                self.module.push(item.ident.to_string());
                visit::visit_item_mod(self, item);
                self.module.pop();
            }
            // What is within functions is nobody else's.
            _ => {}
        }
    }
}

/// Collects the uses of other modules in a file.
struct Uses<'a> {
    package: &'a Package,
    module: Module,
    found: Vec<(Module, usize)>,
}

impl Uses<'_> {
    fn add(&mut self, path: &[String], span: Span) {
        if let Some(to) = self.package.resolve(&self.module, path) {
            self.found.push((to, span.start().line));
        }
    }

    /// Finds paths among tokens of which nobody knows what they will be.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut start, mut colons) = (Span::call_site(), 0);
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    let continues = colons == 2 && !path.is_empty();
                    if !continues {
                        self.end(&mut path, start);
                        start = ident.span();
                    }
                    if continues || ident == "crate" || ident == "super" {
                        path.push(ident.to_string());
                    }
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end(&mut path, start);
                    self.scan(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end(&mut path, start);
                    colons = 0;
                }
            }
        }
        self.end(&mut path, start);
    }

    fn end(&mut self, path: &mut Vec<String>, start: Span) {
        if path.len() > 1 {
            self.add(path, start);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(item) => {
                self.module.push(item.ident.to_string());
                visit::visit_item_mod(self, item);
                self.module.pop();
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut paths = Vec::new();
        leaves(&item.tree, &[], &mut paths);
        for (path, _, span) in paths {
            self.add(&path, span);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(&segments, path.segments[0].ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        if let Some(name) = invoked.path.segments.last()
            && let Some(defined) = self.package.macros.get(&name.ident.to_string())
        {
            self.found.push((defined.clone(), name.ident.span().start().line));
        }
        visit::visit_macro(self, invoked);
        self.scan(invoked.tokens.clone());
    }
}
