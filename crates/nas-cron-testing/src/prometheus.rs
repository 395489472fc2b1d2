//! A real Prometheus that scrapes services under test. `make test` installs it (`scripts/ensure-prometheus`).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::ports::free_address;
use crate::programs;
use crate::service::client;
use crate::world::eventually;

/// A running Prometheus. Dropping it kills it.
pub struct Prometheus {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts Prometheus with the rule files, and waits until it is ready. Each target is the address of a `/metrics` page,
    /// which it scrapes every second as the job `nas-cron`; rules are evaluated as often.
    pub async fn start(targets: &[&str], rules: &[PathBuf]) -> Self {
        let address = free_address();
        let dir = std::env::temp_dir().join(format!("nas-cron-prometheus-{:016x}", rand::random::<u64>()));
        fs::create_dir(&dir).expect("a new folder");
        let rules: Vec<_> = rules.iter().map(|path| path.to_str().expect("a path in UTF-8")).collect();
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: {rules:?}\n\
             scrape_configs:\n  - job_name: nas-cron\n    static_configs: [{{ targets: {targets:?} }}]\n"
        );
        fs::write(dir.join("prometheus.yml"), text).expect("a file");
        let log = fs::File::create(dir.join("log")).expect("a file");
        let child = Command::new(programs::find("prometheus"))
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts: `scripts/ensure-prometheus` installs it");
        let mut this = Self { child, dir, address };
        eventually("Prometheus is ready", async || {
            let ended = this.child.try_wait().expect("a child process").is_some();
            assert!(!ended, "Prometheus ended at once: {}", this.log());
            let response = client().get(format!("http://{address}/-/ready")).send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
        this
    }

    /// Returns its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the result of an expression, now: a list of series with their values. Fails with its error.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let path =
            url::Url::parse_with_params(&format!("{}/api/v1/query", self.url()), [("query", expression)]);
        let answer = self.get(path.expect("a URL").as_str()).await;
        assert_eq!(answer["status"], "success", "{expression}: {}", answer["error"]);
        answer["data"]["result"].as_array().expect("a list").clone()
    }

    /// Returns all rules with their `name`, `health` and `lastError`.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get(&format!("{}/api/v1/rules", self.url())).await;
        let groups = answer["data"]["groups"].as_array().expect("a list");
        groups.iter().flat_map(|group| group["rules"].as_array().expect("a list")).cloned().collect()
    }

    async fn get(&self, url: &str) -> Value {
        let response = client().get(url).send().await.expect("Prometheus answers");
        response.json().await.expect("JSON")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs `promtool` in `folder`, and returns its output. Fails with the output unless it succeeds.
pub fn promtool(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(programs::find("promtool"));
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.expect("promtool starts: `scripts/ensure-prometheus` installs it");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {}: {text}", arguments.join(" "));
    text
}
