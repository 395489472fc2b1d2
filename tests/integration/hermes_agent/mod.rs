//! The real client: hermes-agent from `PyPI` against the real binary, its complete cron loop without a model.
//!
//! `tests/external/hermes/drive.py` starts the agent, makes it arm jobs, and checks the results. This test starts the
//! service for it (`nas-cron dev --no-demo`) and gives it the service's signing key, so that it can also present tokens
//! with a valid signature and invalid claims. `make hermes` installs the agent.
//!
//! `enrolled` tests the same agent with this service as its portal.

mod enrolled;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron::domain::sealed::{Sealed, SecretKind};
use nas_cron_testing::ports::free_address;
use nas_cron_testing::qstash_emulator::{self, Emulator};
use nas_cron_testing::service::{binary, key_encryption_keys};
use secrecy::ExposeSecret;
use serde_json::Value;

/// A running `nas-cron dev --no-demo` in a temporary folder. Dropping it stops it and removes the folder.
struct Dev {
    child: Child,
    dir: PathBuf,
}

impl Dev {
    fn start(settings: &[(&str, String)]) -> Self {
        let dir = std::env::temp_dir().join(format!("nas-cron-hermes-{:08x}", rand::random::<u32>()));
        let listen = free_address().to_string();
        let child = binary()
            .args(["dev", "--no-demo", "--listen", &listen, "--dir"])
            .arg(&dir)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let mut dev = Self { child, dir };
        let deadline = Instant::now() + Duration::from_mins(1);
        while !dev.json_path().exists() {
            assert!(dev.child.try_wait().unwrap().is_none(), "`nas-cron dev` ended");
            assert!(Instant::now() < deadline, "`nas-cron dev` did not become ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        dev
    }

    fn json_path(&self) -> PathBuf {
        self.dir.join("dev.json")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.json_path()).unwrap()).unwrap()
    }

    /// Writes the service's private signing key to `pem` and returns its `kid`.
    async fn reveal_signing_key(&self, pem: &Path) -> String {
        let url = self.json()["database_url"].as_str().unwrap().to_owned();
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        let (kid, nonce, ciphertext): (String, Vec<u8>, Vec<u8>) =
            sqlx::query_as("SELECT kid, private_nonce, private_key FROM signing_keys WHERE state = 'active'")
                .fetch_one(&pool)
                .await
                .unwrap();
        let kek = std::fs::read_to_string(self.dir.join("key-encryption-key")).unwrap();
        let kek = key_encryption_keys(&kek);
        let pkcs8 = kek.open(SecretKind::SigningKey, &kid, &Sealed { nonce, ciphertext }).unwrap();
        let body = STANDARD.encode(pkcs8.expose_secret());
        std::fs::write(pem, format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
            .unwrap();
        kid
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Returns the interpreter of the environment in which hermes-agent is installed.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/hermes-venv/bin/python");
    assert!(python.exists(), "hermes-agent is not installed: run `make hermes` (`make test` does)");
    python
}

/// Drives both agents (one by its bootstrap session, one by its `agent:<id>` client) against one service.
async fn drive(alg: &'static str, mut settings: Vec<(&'static str, String)>, mode: &[&'static str]) {
    let python = python();
    settings.push(("NAS_CRON_SIGNING_ALG", alg.to_owned()));
    let dev = tokio::task::spawn_blocking(move || Dev::start(&settings)).await.unwrap();
    let pem = dev.dir.join("signing-key.pem");
    let kid = dev.reveal_signing_key(&pem).await;
    let runs: Vec<_> = (0..2)
        .map(|agent: usize| {
            let mut command = Command::new(&python);
            command
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/hermes/drive.py"))
                .arg("--dev-json")
                .arg(dev.json_path())
                .args(["--agent", &agent.to_string(), "--port", &free_address().port().to_string(), "--home"])
                .arg(dev.dir.join(format!("hermes-{agent}")))
                .arg("--signing-key-pem")
                .arg(&pem)
                // One argument, because a kid may begin with a hyphen.
                .args([&format!("--kid={kid}"), "--alg", alg])
                .args(mode)
                .stdin(Stdio::null());
            tokio::task::spawn_blocking(move || command.output().expect("python runs"))
        })
        .collect();
    let mut failed = false;
    for run in runs {
        let output = run.await.unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        failed |= !output.status.success();
    }
    assert!(!failed, "checks of the real hermes-agent failed: see above");
}

#[tokio::test]
async fn hermes_agent_provisions_is_fired_rearms_and_cancels_with_es256() {
    drive("ES256", Vec::new(), &[]).await;
}

/// Only the tokens differ.
#[tokio::test]
async fn hermes_agent_verifies_rs256_and_is_fired_with_it() {
    drive("RS256", Vec::new(), &["--brief"]).await;
}

/// Direct mode: the agent's verifier and its cron loop work unchanged.
#[tokio::test]
async fn hermes_agent_accepts_direct_calls_of_qstash() {
    let qstash = Emulator::start(qstash_emulator::Settings::default()).await.unwrap();
    let account = qstash.settings();
    let settings = vec![
        ("NAS_CRON_BACKEND", "qstash_direct".to_owned()),
        ("NAS_CRON_QSTASH_URL", qstash.url()),
        ("NAS_CRON_QSTASH_TOKEN", account.token.clone()),
        ("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", account.current_key.clone()),
    ];
    drive("ES256", settings, &["--direct"]).await;
    assert!(qstash.counts().delivered > 0, "QStash delivered no fire");
}
