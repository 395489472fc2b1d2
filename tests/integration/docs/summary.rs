//! `docs/SUMMARY.md` lists every page, and every page is executed.

use std::collections::BTreeSet;
use std::path::Path;

use super::pages::PAGES;

const SUMMARY: &str = include_str!("../../../docs/SUMMARY.md");

/// Returns the file names of the pages in `docs`.
fn pages() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries
        .map(|name| name.into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "md"))
        .filter(|name| name != "SUMMARY.md")
        .collect()
}

#[test]
fn summary_lists_every_page_once() {
    let links = SUMMARY.split("](").skip(1).filter_map(|after| after.split(')').next());
    let listed: Vec<_> = links.map(ToOwned::to_owned).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique, pages(), "docs/SUMMARY.md lists the pages in docs");
    assert_eq!(listed.len(), unique.len(), "docs/SUMMARY.md lists a page twice: {listed:?}");
}

#[test]
fn every_page_is_executed() {
    let executed: BTreeSet<_> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    let mut all: BTreeSet<_> = pages().iter().map(|page| format!("docs/{page}")).collect();
    all.extend(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]);
    assert_eq!(executed, all, "tests/integration/docs/pages.rs names every page");
}

#[test]
fn every_page_begins_with_its_purpose() {
    for page in pages() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(&page);
        let text = std::fs::read_to_string(path).unwrap();
        let first = text.lines().filter(|line| !line.is_empty() && !line.starts_with("<!--")).nth(1);
        let first = first.unwrap_or_default();
        assert!(
            first.starts_with("After this page you can ") || page == "glossary.md",
            "docs/{page} begins with `After this page you can …`: {first}"
        );
    }
}
