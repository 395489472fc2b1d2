//! The blocks of docs/backup.md that tests run.

use std::path::Path;

use crate::docs::page::Page;

fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md");
    std::fs::read_to_string(path).expect("the page")
}

/// Returns the commands of the only shell block that contains `part`.
pub(super) fn commands(part: &str) -> String {
    let page = Page::parse(&text()).expect("a valid page");
    let blocks = page.blocks.iter().map(|block| block.commands.join("\n"));
    let found: Vec<_> = blocks.filter(|block| block.contains(part)).collect();
    let [block] = &found[..] else { panic!("{} blocks contain {part}", found.len()) };
    block.clone()
}

/// Returns the lines of `postgresql.conf`.
pub(super) fn postgres_settings() -> String {
    let page = text();
    let (_, block) = page.split_once("\n```ini\n").expect("a block of settings");
    let (settings, _) = block.split_once("```").expect("its end");
    settings.to_owned()
}
