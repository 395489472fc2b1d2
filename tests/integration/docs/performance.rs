//! The results in `docs/performance.md` are those that `bench/peers` has published, and its arithmetic is right.

use std::process::Command;

fn python(arguments: &[&str]) {
    let mut python = Command::new("python3");
    python.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.output().expect("python3 is installed: scripts/ensure-python");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python3 {}: {text}", arguments.join(" "));
}

#[test]
fn published_tables_are_those_of_the_results() {
    python(&["bench/peers", "--results", "docs/performance/peers.json", "--check"]);
}

#[test]
fn medians_ratios_and_tables_are_right() {
    python(&["-m", "unittest", "discover", "bench/peers"]);
}
