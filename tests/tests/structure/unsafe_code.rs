//! How often sources say `unsafe`, and the table that says so with reasons.

use super::source;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::{
    Attribute, ExprUnsafe, ItemForeignMod, ItemImpl, ItemTrait, Macro, Safety, Signature,
    visit::{self, Visit},
};

/// How often a file says it outside its tests: blocks, functions, implementations, foreign
/// functions, attributes, and what macros are made of.
pub fn count(file: &str, text: &str) -> Result<usize, String> {
    let mut uses = Uses(0);
    uses.visit_file(&source::without_tests(file, text)?);
    Ok(uses.0)
}

/// Rows of a table `| path | number | reason |` in Markdown: a path is a file's or a directory's.
pub fn table(markdown: &str) -> BTreeMap<String, usize> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let path = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let number = cells.next()?.parse().ok()?;
        let reason = cells.next()?;
        (!reason.is_empty()).then(|| (path.to_owned(), number))
    };
    markdown.lines().filter_map(row).collect()
}

/// What is wrong with the table, given the files and how often each says it.
pub fn compare(table: &BTreeMap<String, usize>, files: &[(String, usize)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut sums: BTreeMap<&str, usize> = table.keys().map(|path| (path.as_str(), 0)).collect();
    for (file, number) in files.iter().filter(|(_, number)| *number > 0) {
        // The row of the file itself, or of the nearest directory that has one.
        let rows =
            sums.keys().filter(|path| file == *path || file.starts_with(&format!("{}/", path.trim_end_matches('/'))));
        match rows.copied().max_by_key(|path| path.len()) {
            Some(row) => *sums.entry(row).or_default() += number,
            None => wrong.push(format!("{file}: {number} times, and no row of the table has it")),
        }
    }
    for (path, number) in &sums {
        if table[*path] != *number {
            wrong.push(format!("{path}: {number} times, and the table says {}", table[*path]));
        }
    }
    wrong
}

struct Uses(usize);

impl Uses {
    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(name) => self.0 += usize::from(name == "unsafe"),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_expr_unsafe(&mut self, block: &'ast ExprUnsafe) {
        self.0 += 1;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        self.0 += usize::from(matches!(signature.safety, Safety::Unsafe(_)));
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.0 += usize::from(item.unsafety.is_some());
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.0 += usize::from(item.unsafety.is_some());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast ItemForeignMod) {
        self.0 += usize::from(item.unsafety.is_some());
        visit::visit_item_foreign_mod(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.0 += usize::from(attribute.path().is_ident("unsafe"));
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.tokens(item.tokens.clone());
    }
}
