//! The allowed dependencies of each crate: docs/ARCHITECTURE.md#crates.

use std::collections::BTreeSet;
use std::process::Command;

use super::tables::{below, names};

const ARCHITECTURE: &str = include_str!("../../../docs/ARCHITECTURE.md");

/// Returns all normal dependencies of a package, including indirect ones, without default features.
fn dependencies(package: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    cargo.args(["--no-default-features", "--package", package]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("a text");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Returns the source folders of all crates of the workspace.
pub(super) fn source_folders() -> Vec<String> {
    let rows = below(ARCHITECTURE, "### Crates");
    let crates: Vec<_> = rows.iter().map(|row| names(&row[0])[0]).collect();
    crates
        .iter()
        .map(|name| if *name == "nas-cron" { "src".to_owned() } else { format!("crates/{name}/src") })
        .collect()
}

#[test]
fn crates_have_no_forbidden_dependencies() {
    let rows = below(ARCHITECTURE, "### Crates");
    let listed: BTreeSet<_> = rows.iter().map(|row| names(&row[0])[0].to_owned()).collect();
    let folders =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/crates")).expect("a readable folder");
    let mut crates: BTreeSet<_> =
        folders.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    crates.insert("nas-cron".to_owned());
    assert_eq!(listed, crates, "the table has a row per crate");
    for row in &rows {
        let name = names(&row[0])[0];
        let found = dependencies(name);
        for forbidden in names(&row[2]) {
            assert!(!found.contains(forbidden), "{name} depends on {forbidden}");
        }
    }
}
