//! The service under test: the real binary, as a deployment runs it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron::keys::KeyEncryptionKeys;
use secrecy::SecretBox;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::portal::{PORTAL_URL, Portal};
use crate::time::PATIENCE;

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
    pub fn with_clock_of(self, file: &std::path::Path) -> Self {
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

/// A running `nas-cron serve`. Dropping it kills it.
pub struct Service {
    child: Child,
    /// `http://host:port`
    pub url: String,
    /// The same for the admin API, which may have a listener of its own.
    pub admin_url: String,
    /// URL of `/metrics`.
    pub metrics_url: String,
    log: Arc<Mutex<Vec<String>>>,
    http: reqwest::Client,
}

impl Service {
    /// Starts a service and waits until it is ready.
    pub async fn start(settings: &Settings) -> Self {
        let service = Self::spawn(settings).await;
        service.ready().await;
        service
    }

    /// Starts a service and waits until it listens.
    pub async fn spawn(settings: &Settings) -> Self {
        let mut child = settings
            .command(&["serve"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, mut addresses) = watch::channel(None);
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let fields: Value = serde_json::from_str(&line).unwrap_or_default();
                let field = |name: &str| {
                    [&fields["fields"][name], &fields[name]]
                        .iter()
                        .find_map(|v| v.as_str().map(str::to_owned))
                };
                if let (Some(listen), Some(metrics)) = (field("listen"), field("metrics_listen")) {
                    let admin = field("admin_listen").unwrap_or_else(|| listen.clone());
                    let _ = sender.send(Some((listen, admin, metrics)));
                }
                lines.lock().unwrap().push(line);
            }
        });
        let found = tokio::time::timeout(PATIENCE, addresses.wait_for(Option::is_some)).await;
        let addresses = match found {
            Ok(Ok(found)) => found.clone(),
            _ => None,
        };
        let Some((listen, admin, metrics)) = addresses else {
            let _ = child.kill();
            panic!("the service did not start:\n{}", log.lock().unwrap().join("\n"));
        };
        let http = client();
        Self {
            child,
            url: format!("http://{listen}"),
            admin_url: format!("http://{admin}"),
            metrics_url: format!("http://{metrics}/metrics"),
            log,
            http,
        }
    }

    /// Waits until `/readyz` returns 200.
    pub async fn ready(&self) {
        let probing = async {
            while self.get("/readyz").await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, probing).await.unwrap_or_else(|_| {
            panic!("not ready:\n{}", self.log());
        });
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends a GET without credentials. Returns status and body, as JSON if possible.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Returns the metrics page. A service that has used up its descriptors drops a connection: the page is asked for again, as by
    /// Prometheus.
    pub async fn metrics(&self) -> String {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.http.get(&self.metrics_url).send().await {
                Ok(response) => return response.text().await.unwrap(),
                Err(error) => assert!(tries < 20, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Sends a POST with a token. Returns status and body.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        answer(self.http.post(format!("{}{path}", self.url)).bearer_auth(token).json(body)).await
    }

    /// Arms a job with the key `"{job}:{fire_at}"`, as real agents do. Returns the schedule id.
    pub async fn provision(&self, token: &str, job: &str, fire_at: &str, callback: &str) -> String {
        let (status, body) = self.try_provision(token, job, fire_at, callback).await;
        assert_eq!(status, 200, "{body}");
        body["schedule_id"].as_str().expect("a schedule_id").to_owned()
    }

    /// Provisions a job and returns status and body.
    pub async fn try_provision(&self, token: &str, job: &str, fire_at: &str, callback: &str) -> (u16, Value) {
        let body = json!({
            "job_id": job, "fire_at": fire_at, "agent_callback_url": callback, "dedup_key": format!("{job}:{fire_at}"),
        });
        self.post("/api/agent-cron/provision", token, &body).await
    }

    /// Cancels a job.
    pub async fn cancel(&self, token: &str, job: &str) {
        let (status, body) = self.post("/api/agent-cron/cancel", token, &json!({"job_id": job})).await;
        assert_eq!((status, &body), (200, &json!({"ok": true})));
    }

    /// Lists the caller's one-shots.
    pub async fn list(&self, token: &str) -> Value {
        let (status, body) =
            answer(self.http.get(format!("{}/api/agent-cron/list", self.url)).bearer_auth(token)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Sends a request to the admin API. Returns status and body.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request =
            self.http.request(method, format!("{}{path}", self.admin_url)).bearer_auth(ADMIN_TOKEN);
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    /// Registers an instance.
    pub async fn register(&self, instance_id: &str, org_id: &str, sid: Option<&str>) {
        let body = json!({"org_id": org_id, "bootstrap_session_id": sid});
        let (status, body) =
            self.admin("PUT", &format!("/api/admin/agents/{instance_id}"), Some(&body)).await;
        assert!(matches!(status, 200 | 201), "{status} {body}");
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process exists");
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end of the process.
    pub async fn wait(&mut self) -> ExitStatus {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child process") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the service ends in time")
    }

    /// Stops the service with SIGTERM and returns its exit status.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait().await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the service's log ---\n{}", self.log());
        }
    }
}

/// Time after which a request of a test fails. Without it, a service that does not answer would stop all tests.
const REQUEST_LIMIT: Duration = Duration::from_mins(4);

/// Returns an HTTP client without proxies and redirects.
pub fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

/// Returns a builder of [`client`].
pub fn client_builder() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Without the system's certificates, which take long to load: everything here is plain HTTP.
    let builder = reqwest::Client::builder().tls_certs_only([]);
    builder.no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(REQUEST_LIMIT)
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("a response");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
