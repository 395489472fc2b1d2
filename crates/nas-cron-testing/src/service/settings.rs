//! Settings of a service under test, and the commands that run the real binary with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron::keys::KeyEncryptionKeys;
use secrecy::SecretBox;

use crate::portal::{PORTAL_URL, Portal};

/// The key that encrypts signing keys in tests.
pub const KEY_ENCRYPTION_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Returns the key-encryption key with this base64 text, without fallbacks.
///
/// # Panics
///
/// If it is not base64 of 32 bytes.
pub fn key_encryption_keys(base64: &str) -> KeyEncryptionKeys {
    let bytes = STANDARD.decode(base64.trim()).expect("base64");
    let bytes = SecretBox::new(Box::new(bytes.try_into().expect("32 bytes")));
    KeyEncryptionKeys::new(&bytes, &[])
}

/// The admin token of the tests.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// The certificate authorities that the binary under test knows.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/pem/certificate.pem");

/// Returns the path of the binary under test, which `cargo test` puts beside the folder of the test executables.
///
/// Cargo sets the path for the tests of the binary's package only, not for their fixtures.
pub fn binary_path() -> PathBuf {
    let test = std::env::current_exe().expect("a test is an executable");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let path = profile.join(format!("nas-cron{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: `cargo test --test integration` builds it, and so does `cargo build --bin nas-cron`",
        path.display()
    );
    path
}

/// Returns a command that runs the binary under test.
pub fn binary() -> Command {
    clean(binary_path())
}

fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    // Settings from the environment of the test must not apply.
    for (name, _) in std::env::vars() {
        if name.starts_with("NAS_CRON_") && name != "NAS_CRON_POSTGRES_BIN" {
            command.env_remove(name);
        }
    }
    // Loading the system's hundreds of certificates takes most of the start, and no test calls a public server.
    command.env("SSL_CERT_FILE", AUTHORITY).env_remove("SSL_CERT_DIR");
    command
}

fn faketime_library() -> PathBuf {
    const NAME: &str = "faketime/libfaketimeMT.so.1";
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .chain(["/usr/lib64".into(), "/usr/lib".into()])
        .map(|folder| folder.join(NAME))
        .find(|library| library.exists())
        .expect("libfaketime is installed by `scripts/ensure-faketime`")
}

/// Settings of a service under test.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
    /// Another binary than that of the tests.
    binary: Option<PathBuf>,
    /// Program and arguments that start the binary; the binary's path follows.
    launcher: Vec<String>,
}

impl Settings {
    /// Returns the settings of a service on `database_url` that trusts `portal` and may call agents on loopback.
    pub fn new(database_url: &str, portal: &Portal) -> Self {
        let admin_hash = ring::digest::digest(&ring::digest::SHA256, ADMIN_TOKEN.as_bytes());
        let values = BTreeMap::from([
            ("NAS_CRON_DATABASE_URL", database_url.to_owned()),
            ("NAS_CRON_LISTEN", "127.0.0.1:0".to_owned()),
            ("NAS_CRON_METRICS_LISTEN", "127.0.0.2:0".to_owned()),
            ("NAS_CRON_PORTAL_URL", PORTAL_URL.to_owned()),
            ("NAS_CRON_PORTAL_JWKS_URL", portal.jwks_url()),
            ("NAS_CRON_KEY_ENCRYPTION_KEY", KEY_ENCRYPTION_KEY.to_owned()),
            ("NAS_CRON_ADMIN_TOKEN_SHA256", hex::encode(admin_hash)),
            ("NAS_CRON_CALLBACK_ALLOW", "127.0.0.0/8".to_owned()),
            ("NAS_CRON_MIGRATE", "true".to_owned()),
            ("NAS_CRON_LOG_FORMAT", "json".to_owned()),
            ("NAS_CRON_DRAIN_DELAY", "0s".to_owned()),
        ]);
        Self { values, binary: None, launcher: Vec::new() }
    }

    /// Starts this binary instead of that of the tests.
    #[must_use]
    pub fn of_binary(self, binary: PathBuf) -> Self {
        Self { binary: Some(binary), ..self }
    }

    /// Starts the binary through another program. It receives the binary's path and arguments after its own, and must replace
    /// itself with the binary.
    #[must_use]
    pub fn launched_by(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Limits the descriptors that the process may open: soft and hard.
    #[must_use]
    pub fn with_descriptors(self, soft: u64, hard: u64) -> Self {
        // `exec` keeps the process, so that signals reach the binary.
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        self.launched_by(&["sh", "-c", &script])
    }

    /// Runs the process with a wall clock that is `seconds` ahead of the machine's, or behind it if negative.
    ///
    /// Its monotonic clock is not changed, because it would not match the timers of the system.
    #[must_use]
    pub fn with_clock_ahead_by(self, seconds: i32) -> Self {
        let preload = format!("LD_PRELOAD={}", faketime_library().display());
        let ahead = format!("FAKETIME={seconds:+}");
        self.launched_by(&[
            "env",
            &preload,
            &ahead,
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
        ])
    }

    /// Makes the process read its clock's offset from `file` (such as `+90`), whenever it looks at the clock.
    #[must_use]
    pub fn with_clock_of(self, file: &Path) -> Self {
        let preload = format!("LD_PRELOAD={}", faketime_library().display());
        let file = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
        self.launched_by(&[
            "env",
            &preload,
            &file,
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
        ])
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.insert(name, value.into());
        self
    }

    /// Returns the value of a variable.
    pub fn get(&self, name: &str) -> &str {
        &self.values[name]
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.values.remove(name);
        self
    }

    /// Returns a command with these settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let binary = self.binary.clone().unwrap_or_else(binary_path);
        let mut command = match self.launcher.split_first() {
            Some((program, before)) => {
                let mut command = clean(program);
                command.args(before).arg(binary);
                command
            }
            None => clean(binary),
        };
        command.args(arguments).envs(&self.values);
        command
    }

    /// Returns a bash with these settings that runs `script`, in which `nas-cron` is the binary under test. It ends at the first
    /// command that fails.
    pub fn bash(&self, script: &str) -> Command {
        let binary = binary_path();
        let folder = binary.parent().expect("a file in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = clean("bash");
        command.args(["-euo", "pipefail", "-c", script]).envs(&self.values);
        command.env("PATH", format!("{}:{path}", folder.display()));
        command
    }

    /// Returns all settings as environment variables.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Runs a command to its end and returns status, stdout and stderr. Dropping the future kills the command.
    pub async fn run(&self, arguments: &[&str]) -> (ExitStatus, String, String) {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = command.kill_on_drop(true).output().await.expect("the binary runs");
        (
            output.status,
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }
}
