//! Runs the Python programs of the repository.

use std::process::Command;

/// Runs Python in the repository, and fails with its stderr unless it succeeds.
pub fn python(arguments: &[&str]) {
    let mut python = Command::new("python3");
    python.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.output().expect("python3 is installed: scripts/ensure-python");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python3 {}: {text}", arguments.join(" "));
}
