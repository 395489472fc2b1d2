//! The documentation as a book, built by the real mdBook.

use std::path::{Path, PathBuf};
use std::process::Command;

use nas_cron_testing::in_target;

/// The book, in a folder that is removed with the test.
struct Book(PathBuf);

impl Book {
    fn build() -> Self {
        let folder = std::env::temp_dir().join(format!("nas-cron-book-{:016x}", rand::random::<u64>()));
        let output = Command::new(in_target("book-venv/bin/mdbook"))
            .args(["build", "--dest-dir"])
            .arg(&folder)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("mdbook runs: `make target/book-venv/.ready` installs it");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("WARN"), "{text}");
        Self(folder)
    }

    fn page(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn book_builds_and_its_links_lead_somewhere() {
    let book = Book::build();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/book/links.py");
    let output = Command::new("python3").arg(script).arg(&book.0).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let page = book.page("quick-start.html");
    assert!(page.contains("nas-cron cron add"), "{page}");
    assert!(
        !page.contains("hidden") || !page.contains("grep -c"),
        "the steps of tests are not shown: {page}"
    );
    assert!(
        book.page("production.html").contains("https://github.com/nas-cron/nas-cron/blob/main/Dockerfile")
    );
}
