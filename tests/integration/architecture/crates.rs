//! What each crate may depend on: `docs/ARCHITECTURE.md`, "Crates".

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::tables::{below, names};

const ARCHITECTURE: &str = include_str!("../../../docs/ARCHITECTURE.md");

/// The workspace's packages and, for each, every crate that its normal dependencies lead to.
fn dependencies(features: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--format-version", "1"]).args(features);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name_of: BTreeMap<&str, &str> =
        list(&metadata["packages"]).map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let next: BTreeMap<&str, Vec<&str>> = list(&metadata["resolve"]["nodes"])
        .map(|node| {
            let normal =
                |dependency: &&Value| list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            (
                text(&node["id"]),
                list(&node["deps"]).filter(normal).map(|dependency| text(&dependency["pkg"])).collect(),
            )
        })
        .collect();
    let reached = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(id) = open.pop() {
            for to in &next[id] {
                if seen.insert(name_of[to].to_owned()) {
                    open.push(to);
                }
            }
        }
        seen
    };
    list(&metadata["workspace_members"]).map(text).map(|id| (name_of[id].to_owned(), reached(id))).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The source folder of every crate of the workspace.
pub(super) fn source_folders() -> Vec<String> {
    let rows = below(ARCHITECTURE, "### Crates");
    let crates: Vec<_> = rows.iter().map(|row| names(&row[0])[0]).collect();
    crates
        .iter()
        .map(|name| if *name == "nas-cron" { "src".to_owned() } else { format!("crates/{name}/src") })
        .collect()
}

#[test]
fn crates_depend_on_nothing_that_the_table_forbids() {
    // The service without its development side, as a deployment builds it.
    let found = dependencies(&["--no-default-features"]);
    let rows = below(ARCHITECTURE, "### Crates");
    let listed: BTreeSet<_> = rows.iter().map(|row| names(&row[0])[0].to_owned()).collect();
    assert_eq!(listed, found.keys().cloned().collect(), "the table has a row per crate");
    for row in &rows {
        let name = names(&row[0])[0];
        for forbidden in names(&row[2]) {
            assert!(!found[name].contains(forbidden), "{name} depends on {forbidden}");
        }
    }
}
