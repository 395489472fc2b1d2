//! YAML as JSON, by the reader in the environment of the chart's tests.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nas_cron_testing::in_target;
use serde_json::Value;

/// Returns the documents of a YAML text.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/chart/to_json.py");
    let mut reader = Command::new(in_target("chart-venv/bin/python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs: `make chart` installs its packages");
    reader.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = reader.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the YAML is invalid: {text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
