//! References in code, tests and pages lead to existing headings, and each invariant names existing tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const CONTRACT: &str = include_str!("../../../docs/contract.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files at or below `places` that have one of these extensions, with their texts.
fn texts(places: &[&str], endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            open.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
        }
    }
    found
}

/// Returns the anchors of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let outside = page.lines().filter(move |line| {
        fenced ^= line.starts_with("```");
        !fenced
    });
    outside
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// Returns the anchor of a heading: lower case, hyphens for blanks, no punctuation.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn pages() -> BTreeMap<PathBuf, String> {
    texts(&["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs"], &["md"])
        .into_iter()
        .collect()
}

#[test]
fn links_between_pages_lead_to_files_and_headings() {
    let pages = pages();
    let mut broken = Vec::new();
    for (path, page) in &pages {
        for link in page.split("](").skip(1).filter_map(|after| after.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let target = normalised(&target);
            let is_there = root().join(&target).exists();
            let has_heading =
                heading.is_empty() || pages.get(&target).is_some_and(|page| anchors(page).contains(heading));
            if !is_there || !has_heading {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Resolves `..`.
fn normalised(path: &Path) -> PathBuf {
    path.iter().fold(PathBuf::new(), |mut path, part| {
        if part == ".." {
            path.pop();
        } else {
            path.push(part);
        }
        path
    })
}

#[test]
fn references_in_code_lead_to_headings() {
    let pages = pages();
    let mut broken = Vec::new();
    let mut count = 0;
    for (path, code) in
        texts(&["src", "crates", "tests", "migrations", "Makefile"], &["rs", "sql", "py", "mjs"])
    {
        if path.ends_with("architecture/documents.rs") {
            continue;
        }
        for after in code.split("docs/").skip(1) {
            let end = after
                .find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '#')))
                .unwrap_or(after.len());
            let reference = after[..end].trim_end_matches('.');
            let (file, heading) = reference.split_once('#').unwrap_or((reference, ""));
            if Path::new(file).extension().is_none_or(|ending| ending != "md") {
                continue;
            }
            count += 1;
            if after[reference.len()..].starts_with(", \"") {
                broken.push(format!(
                    "{}: docs/{reference} is followed by a heading's text: use its anchor",
                    path.display()
                ));
            }
            let page = pages.get(&Path::new("docs").join(file));
            if page.is_none_or(|page| !heading.is_empty() && !anchors(page).contains(heading)) {
                broken.push(format!("{}: docs/{reference}", path.display()));
            }
        }
        for word in ["CONTRACT", "CLIENTS"] {
            if code.contains(word) {
                broken.push(format!("{}: this repository has no page {word}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(count > 50, "the code refers to the documents: {count}");
}

#[test]
fn each_invariant_names_tests_that_exist() {
    let tests = test_names();
    let sections: Vec<_> = CONTRACT.split("\n### Invariant ").skip(1).collect();
    assert_eq!(sections.len(), 10);
    for section in sections {
        let title = section.lines().next().expect("a title");
        let held_by = section.lines().find(|line| line.starts_with("Held by:"));
        let held_by = held_by.unwrap_or_else(|| panic!("invariant {title}: no line `Held by:`"));
        let named: Vec<_> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(named.len() >= 2, "invariant {title} names its tests: {held_by}");
        for name in named {
            assert!(tests.contains(name), "invariant {title}: no test `{name}` exists");
        }
    }
}

#[test]
fn documents_name_tests_that_exist() {
    let tests = test_names();
    let mut missing = Vec::new();
    for page in ["docs/security.md", "docs/reliability.md"] {
        let text = std::fs::read_to_string(root().join(page)).expect(page);
        let named: Vec<_> = code_spans(&text).into_iter().filter(|span| is_path(span)).collect();
        assert!(named.len() > 10, "{page} names its tests: {named:?}");
        for name in named {
            // A name that ends with `::` is a group.
            let exists = match name.strip_suffix("::") {
                Some(_) => tests.iter().any(|test| test.starts_with(name)),
                None => tests.contains(name),
            };
            if !exists {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

/// Returns the code spans of a page, outside of its fenced blocks.
fn code_spans(page: &str) -> Vec<&str> {
    let mut fenced = false;
    let outside = page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    });
    outside.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// True for the name of a test or of a group of tests.
fn is_path(span: &str) -> bool {
    let is_name = |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    span.contains("::") && span.split("::").all(is_name)
}

/// Returns the names of all tests as their binaries list them: `fires::timing::name` for a test of this binary, and
/// `instance::token::tests::name` for a unit test, whose binary may not be built.
fn test_names() -> BTreeSet<String> {
    let this = std::env::current_exe().expect("a test is an executable");
    let listed = Command::new(this).arg("--list").output().expect("it lists its tests").stdout;
    let listed = String::from_utf8(listed).expect("UTF-8");
    let mut names: BTreeSet<_> =
        listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    let folders = std::fs::read_dir(root().join("crates")).expect("the crates");
    let crates =
        folders.map(|entry| Path::new("crates").join(entry.expect("a crate").file_name()).join("src"));
    for folder in crates.chain([PathBuf::from("src")]) {
        let folder = folder.to_str().expect("UTF-8");
        for (path, code) in texts(&[folder], &["rs"]) {
            let module = path.strip_prefix(folder).expect("below it").with_extension("");
            let module: Vec<_> = module.iter().map(|part| part.to_str().expect("UTF-8")).collect();
            names_in(&module, &code, &mut names);
        }
    }
    names
}

/// Adds the names of the tests in one file.
fn names_in(module: &[&str], code: &str, names: &mut BTreeSet<String>) {
    let module = module.iter().copied().filter(|part| !matches!(*part, "mod" | "main" | "lib"));
    let module: Vec<_> = module.collect();
    let (mut inner, mut marked) = (None, false);
    for line in code.lines() {
        // Modules within a file are not nested.
        if let Some(name) = line.trim_start_matches("pub ").strip_prefix("mod ") {
            inner = name.strip_suffix(" {").or(inner);
        } else if line == "}" {
            inner = None;
        }
        let line = line.trim();
        let declaration = line.trim_start_matches("async ").strip_prefix("fn ");
        match declaration.and_then(|rest| rest.split('(').next()) {
            Some(name) if marked => {
                let path: Vec<_> = module.iter().copied().chain(inner).chain([name]).collect();
                names.insert(path.join("::"));
                marked = false;
            }
            _ => marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test"),
        }
    }
}
