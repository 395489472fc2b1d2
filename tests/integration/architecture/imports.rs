//! The allowed imports between modules and files: docs/ARCHITECTURE.md#who-may-import-whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::code::{Code, Import};
use super::tables::{below, names};

const ARCHITECTURE: &str = include_str!("../../../docs/ARCHITECTURE.md");

/// Returns the top-level module of a file of the service: `db` for `src/db/oneshots.rs`.
fn module_of(file: &Path) -> String {
    let second = file.iter().nth(1).expect("below src").to_string_lossy();
    second.trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_of_the_service_import_only_what_the_table_allows() {
    let rows = below(ARCHITECTURE, "### Modules of the service");
    let floors: Vec<_> = rows.iter().map(|row| names(&row[0])[0]).collect();
    for (above, row) in rows.iter().enumerate() {
        let upwards = names(&row[2]).into_iter().find(|name| !floors[above + 1..].contains(name));
        assert_eq!(upwards, None, "{} may only import modules below it", floors[above]);
    }
    let allowed: BTreeMap<String, BTreeSet<String>> = rows
        .iter()
        .map(|row| (names(&row[0])[0].to_owned(), names(&row[2]).into_iter().map(str::to_owned).collect()))
        .collect();
    let code = Code::read("src");
    let modules: BTreeSet<_> =
        code.paths().map(module_of).filter(|module| module != "lib" && module != "main").collect();
    assert_eq!(modules, allowed.keys().cloned().collect(), "the table has a row per module");

    let (mut broken, mut used) = (BTreeMap::new(), BTreeSet::new());
    for import in code.imports() {
        let (from, to) = (module_of(&import.from), module_of(&import.to));
        if from == to || !allowed.contains_key(&from) {
            continue;
        }
        if allowed[&from].contains(&to) {
            used.insert((from, to));
        } else {
            broken.entry((from, to)).or_insert(import);
        }
    }
    let broken: Vec<_> = broken
        .into_iter()
        .map(|((from, to), import)| {
            format!("{from} imports {to}: {} in {}", import.what, import.from.display())
        })
        .collect();
    assert!(broken.is_empty(), "docs/ARCHITECTURE.md forbids these imports:\n{}", broken.join("\n"));
    let unused: Vec<_> = allowed
        .iter()
        .flat_map(|(from, tos)| tos.iter().map(move |to| (from.clone(), to.clone())))
        .filter(|pair| !used.contains(pair))
        .collect();
    assert!(unused.is_empty(), "docs/ARCHITECTURE.md allows imports that are not used: {unused:?}");
}

#[test]
fn only_db_uses_sqlx() {
    let users = Code::read("src").naming("sqlx");
    let elsewhere: Vec<_> = users.iter().filter(|file| !file.starts_with("src/db")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(!users.is_empty(), "db uses sqlx");
}

/// serde's functions accept JSON that two readers could read differently.
#[test]
fn json_is_read_by_the_functions_that_refuse_what_readers_could_read_differently() {
    let folders =
        super::crates::source_folders().into_iter().filter(|folder| !folder.contains("nas-cron-testing"));
    let readers: BTreeSet<_> = folders
        .flat_map(|folder| {
            let code = Code::read(&folder);
            ["from_slice", "from_reader", "from_str", "Deserializer"]
                .map(|item| code.naming_item(&["serde_json", item]))
        })
        .flatten()
        .collect();
    let door = ["crates/nas-cron-protocol/src/json.rs", "crates/nas-cron-protocol/src/json/scan.rs"];
    // It reads what the door has checked, and names the field of an error.
    let extractor = "src/http/extract/json.rs";
    // It reads the log of this process in tests.
    let log = "crates/nas-cron-base/src/testing.rs";
    assert_eq!(readers, door.into_iter().chain([extractor, log]).map(PathBuf::from).collect());
}

#[test]
fn files_do_not_import_each_other_in_a_cycle() {
    for folder in super::crates::source_folders() {
        let imports = Code::read(&folder).imports();
        let cycles = cycles(&imports);
        assert!(cycles.is_empty(), "{}", cycles.join("\n"));
    }
}

/// Returns all imports that are part of a cycle. Imports between a module's file and the files inside the module are
/// ignored: the former declares the latter and contains their shared items.
fn cycles(imports: &BTreeSet<Import>) -> Vec<String> {
    let imports: Vec<_> = imports.iter().filter(|import| !import.is_within_one_module()).collect();
    let mut next: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = BTreeMap::new();
    for import in &imports {
        next.entry(&import.from).or_default().insert(&import.to);
    }
    let reached = |from: &PathBuf| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = open.pop() {
            for to in next.get(&file).into_iter().flatten() {
                if seen.insert((*to).clone()) {
                    open.push((*to).clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = next.keys().map(|file| ((*file).clone(), reached(file))).collect();
    let ties =
        imports.iter().filter(|import| reach.get(&import.to).is_some_and(|seen| seen.contains(&import.from)));
    let ties: BTreeMap<_, _> = ties.map(|import| ((&import.from, &import.to), &import.what)).collect();
    ties.iter().map(|((from, to), what)| format!("{} -> {}: {what}", from.display(), to.display())).collect()
}
