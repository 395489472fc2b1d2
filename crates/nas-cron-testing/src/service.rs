//! The service under test: the real binary, as a deployment runs it.

mod settings;

use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

pub use self::settings::{
    ADMIN_TOKEN, KEY_ENCRYPTION_KEY, Settings, binary, binary_path, key_encryption_keys,
};
use crate::time::PATIENCE;

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

    /// Stops the service with SIGTERM, and waits for a short time: `scripts/coverage` counts only what a process writes at its
    /// end.
    fn end_for_coverage(&mut self) {
        let deadline = Instant::now() + COVERAGE_LIMIT;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::TERM,
            );
        }
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the service with SIGTERM and returns its exit status.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait().await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::env::var_os("LLVM_PROFILE_FILE").is_some() {
            self.end_for_coverage();
        }
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the service's log ---\n{}", self.log());
        }
    }
}

/// Time for the end of a service whose coverage is measured.
const COVERAGE_LIMIT: Duration = Duration::from_secs(3);
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
