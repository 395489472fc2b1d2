//! The source of a crate outside tests: its files, and the paths that each file names.
//!
//! A path counts as an import of the file that defines the item. Re-exports are followed. An imported module does not
//! count until an item of it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path as segments, such as `["crate", "db", "Db"]`.
type Segments = Vec<String>;

/// One source file.
struct File {
    /// Path from the root of the repository.
    path: PathBuf,
    /// Names that `use` brings into scope, with their paths.
    scope: BTreeMap<String, Segments>,
    /// Names in `scope` that are re-exported.
    exports: BTreeSet<String>,
    /// All paths in the file, as written.
    paths: Vec<Segments>,
    /// True if the file has a glob import, which hides the items that it uses.
    has_glob: bool,
}

/// The files of a crate, by their module path from the crate's root.
pub(super) struct Code {
    files: BTreeMap<Segments, File>,
}

/// The use of an item that another file defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    /// The importing file.
    pub(super) from: PathBuf,
    /// The file that defines the item.
    pub(super) to: PathBuf,
    /// The path of the item.
    pub(super) what: String,
}

impl Import {
    /// True if one of the files is the module that contains the other one.
    pub(super) fn is_within_one_module(&self) -> bool {
        let folder = |file: &Path| match file.file_stem() {
            Some(stem) if stem == "mod" => file.parent().expect("in a folder").to_owned(),
            _ => file.with_extension(""),
        };
        let (from, to) = (folder(&self.from), folder(&self.to));
        from.starts_with(&to) || to.starts_with(&from)
    }
}

impl Code {
    /// Reads the source of a crate below `folder`, which is relative to the root of the repository.
    pub(super) fn read(folder: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = BTreeMap::new();
        let mut folders = vec![root.join(folder)];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next).expect("a readable folder") {
                let path = entry.expect("a readable entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let source = std::fs::read_to_string(&path).expect("a readable file");
                    let within = path.strip_prefix(root.join(folder)).expect("below the folder");
                    let from_root = path.strip_prefix(root).expect("below the root").to_owned();
                    let file = File::parse(from_root, &source);
                    files.insert(module_of(within), file);
                }
            }
        }
        let mut code = Self { files };
        code.drop_test_modules();
        let globs: Vec<_> = code.files.values().filter(|file| file.has_glob).map(|file| &file.path).collect();
        assert!(globs.is_empty(), "glob imports hide the items that are used: {globs:?}");
        code
    }

    /// Removes the files whose `mod` is behind `#[cfg(test)]`, or behind that of the fuzz targets.
    fn drop_test_modules(&mut self) {
        let declared: BTreeSet<Segments> = self
            .files
            .iter()
            .flat_map(|(module, file)| {
                let declared = file.paths.iter().filter(|path| path[0] == DECLARES);
                declared.map(|path| module.iter().chain(&path[1..]).cloned().collect())
            })
            .collect();
        self.files.retain(|module, _| {
            let is_root = module.is_empty() || module[0] == "main";
            is_root || (1..=module.len()).all(|length| declared.contains(&module[..length]))
        });
    }

    /// Returns every use of an item that another file of the crate defines, without duplicates.
    pub(super) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (module, file) in &self.files {
            for path in &file.paths {
                let Some(target) = self.resolve(module, file, path, 0) else { continue };
                if target != *module {
                    let (from, to) = (file.path.clone(), self.files[&target].path.clone());
                    imports.insert(Import { from, to, what: path.join("::") });
                }
            }
        }
        imports
    }

    /// Returns the files that use the crate `name`.
    pub(super) fn naming(&self, name: &str) -> BTreeSet<PathBuf> {
        let names = |file: &&File| {
            let used = file.paths.iter().any(|path| path[0] == name);
            used || file.scope.values().any(|path| path[0] == name)
        };
        self.files.values().filter(names).map(|file| file.path.clone()).collect()
    }

    /// Returns the files that use the item at this path in another crate.
    pub(super) fn naming_item(&self, item: &[&str]) -> BTreeSet<PathBuf> {
        let names = |file: &&File| {
            file.paths.iter().chain(file.scope.values()).any(|path| path.iter().take(item.len()).eq(item))
        };
        self.files.values().filter(names).map(|file| file.path.clone()).collect()
    }

    /// Returns the paths of all files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.values().map(|file| file.path.as_path())
    }

    /// Returns the module that defines the item at `path`, or `None` for an item of another crate and for a module.
    fn resolve(&self, module: &Segments, file: &File, path: &Segments, depth: usize) -> Option<Segments> {
        assert!(depth < 32, "{path:?} in {module:?} is a cycle of re-exports");
        let (first, rest) = path.split_first()?;
        let absolute: Segments = match first.as_str() {
            "crate" => rest.to_vec(),
            "self" => module.iter().chain(rest).cloned().collect(),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                module.iter().take(module.len().checked_sub(ups)?).chain(&path[ups..]).cloned().collect()
            }
            _ if file.scope.get(first).is_some_and(|from| from[0] != *first) => {
                let from: Segments = file.scope[first].iter().chain(rest).cloned().collect();
                return self.resolve(module, file, &from, depth + 1);
            }
            _ => module.iter().chain(path).cloned().collect(),
        };
        let length =
            (0..=absolute.len()).rev().find(|length| self.files.contains_key(&absolute[..*length]))?;
        let (found, item) = absolute.split_at(length);
        if found.is_empty() && !matches!(first.as_str(), "crate" | "self" | "super") {
            return None;
        }
        let name = item.first()?;
        let holder = &self.files[found];
        if holder.exports.contains(name) && holder.scope[name] != [name.clone()] {
            let from: Segments = holder.scope[name].iter().chain(&item[1..]).cloned().collect();
            return self.resolve(&found.to_vec(), holder, &from, depth + 1);
        }
        Some(found.to_vec())
    }
}

/// Returns the module path of a file: `["db", "oneshots"]` for `db/oneshots.rs`.
fn module_of(file: &Path) -> Segments {
    let mut module: Segments =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib")) {
        module.pop();
    }
    module
}

/// Marks the path of a module that a file declares.
const DECLARES: &str = "mod";

impl File {
    fn parse(path: PathBuf, source: &str) -> Self {
        let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut file = Self {
            path,
            scope: BTreeMap::new(),
            exports: BTreeSet::new(),
            paths: Vec::new(),
            has_glob: false,
        };
        file.visit_file(&parsed);
        file
    }

    fn take_use(&mut self, tree: &syn::UseTree, before: &Segments, exported: bool) {
        let with =
            |ident: &syn::Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Segments>();
        match tree {
            syn::UseTree::Path(path) => self.take_use(&path.tree, &with(&path.ident), exported),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.take_use(tree, before, exported));
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                let last = before.last().expect("`self` stands in a group").clone();
                self.bring(last, before.clone(), exported);
            }
            syn::UseTree::Name(name) => self.bring(name.ident.to_string(), with(&name.ident), exported),
            syn::UseTree::Rename(rename) => {
                self.bring(rename.rename.to_string(), with(&rename.ident), exported);
            }
            syn::UseTree::Glob(_) => self.has_glob = true,
        }
    }

    fn bring(&mut self, name: String, from: Segments, exported: bool) {
        if exported {
            self.exports.insert(name.clone());
        } else {
            self.paths.push(from.clone());
        }
        self.scope.insert(name, from);
    }

    /// Collects the paths in the arguments of a macro, which syn does not parse.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Segments = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 && !path.is_empty() {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    if !path.is_empty() {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.take_tokens(group.stream());
                    }
                }
            }
        }
        if !path.is_empty() {
            self.paths.push(path);
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        // Fuzz targets are tests, too.
        let names_test =
            |tokens: &TokenStream| matches!(&*tokens.to_string(), "test" | "any (test , fuzzing)");
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| names_test(&list.tokens))
    })
}

impl<'ast> Visit<'ast> for File {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() {
            self.paths.push(vec![DECLARES.to_owned(), item.ident.to_string()]);
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let exported = !matches!(item.vis, syn::Visibility::Inherited);
        self.take_use(&item.tree, &Vec::new(), exported);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.take_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
