//! The official SDKs as processes. `make qstash-sdks` installs them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nas_cron_testing::qstash_emulator::Emulator;
use serde_json::{Value, json};

use super::fixture::Sink;

/// Timeout of a script, generous for slow machines.
const DEADLINE: Duration = Duration::from_mins(3);

/// An official SDK.
#[derive(Clone, Copy, Debug)]
pub enum Sdk {
    Python,
    Node,
}

fn in_target(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(path);
    assert!(path.exists(), "the QStash SDKs are not installed: run `make qstash-sdks` (`make test` does)");
    path
}

impl Sdk {
    /// Runs `tests/external/qstash/<script>.py` or `.mjs`. Returns the last line of its output, as JSON.
    pub async fn run<A: AsRef<OsStr>>(self, script: &str, arguments: &[A]) -> Value {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/qstash").join(script);
        let mut command = match self {
            Self::Python => {
                let mut command = tokio::process::Command::new(in_target("qstash-venv/bin/python"));
                command.arg(scripts.with_extension("py"));
                command
            }
            Self::Node => {
                let modules = in_target("qstash-node/node_modules/@upstash/qstash");
                let mut command = tokio::process::Command::new("node");
                // The script resolves the SDK from this directory.
                command.arg(scripts.with_extension("mjs")).arg(modules);
                command
            }
        };
        // Ignore a developer's settings for a real account.
        for name in ["QSTASH_TOKEN", "QSTASH_URL", "QSTASH_REGION", "QSTASH_DEV", "NODE_OPTIONS"] {
            command.env_remove(name);
        }
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output =
            tokio::time::timeout(DEADLINE, command.output()).await.expect("it ends").expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{self:?} {script}:\n{out}\n{err}");
        serde_json::from_str(out.lines().last().unwrap_or_default()).expect("its last line is JSON")
    }
}

/// Asserts that an official client understands the emulator's responses, and that its message reaches the destination.
async fn drives_the_emulator(sdk: Sdk, name: &str) {
    let emulator = Emulator::quick().await;
    let sink = Sink::start().await;
    let arguments = [emulator.url(), emulator.settings().token.clone(), sink.url()];
    let understood = sdk.run("client", &arguments).await;
    assert_eq!(understood["same"], true, "{understood}");
    assert_eq!(understood["deduplicated"], json!([false, true]));
    assert_eq!(understood["not_before"], true);
    assert_eq!(understood["url"], sink.url());
    let body: Value = serde_json::from_str(understood["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({"from": name, "name": "kept"}));
    assert_eq!(understood["retries"], 1);
    assert!(understood["authorization"].as_str().unwrap().starts_with("REDACTED:"), "{understood}");
    assert!(understood["cancelled_twice"].as_str().unwrap().contains("404"), "{understood}");
    assert_eq!(understood["cancelled_many"], 2);
    assert_eq!(understood["states"], json!(["DELIVERED", "ACTIVE", "CREATED"]));
    if let Some(keys) = understood["keys"].as_array() {
        let settings = emulator.settings();
        assert_eq!(keys, &[settings.current_key.clone(), settings.next_key.clone()]);
    }
    assert!(understood["wrong_token"].as_str().unwrap().contains("401"), "{understood}");

    let delivery = sink.next().await;
    assert_eq!(serde_json::from_slice::<Value>(&delivery.body).unwrap()["name"], "now");
    assert_eq!(delivery.header("authorization"), format!("Bearer from-{name}"));
    assert_eq!(delivery.header("x-name"), "now");
    assert_eq!(delivery.header("content-type"), "application/json");
    let counts = emulator.counts();
    assert_eq!((counts.published, counts.deduplicated, counts.cancelled), (4, 1, 3), "{counts:?}");
    assert_eq!((counts.delivered, counts.cancelled_nothing, counts.unauthorized), (1, 1, 1), "{counts:?}");
    assert_eq!(emulator.pending(), []);
}

#[tokio::test]
async fn the_python_client_publishes_to_and_cancels_on_the_emulator() {
    drives_the_emulator(Sdk::Python, "python").await;
}

#[tokio::test]
async fn the_javascript_client_publishes_to_and_cancels_on_the_emulator() {
    drives_the_emulator(Sdk::Node, "node").await;
}
