//! A replica: a process of the service that can be killed, stopped and restarted at the same address.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::ports::free_address;
use crate::service::{Settings, client};
use crate::time::PATIENCE;

/// A replica. Dropping it kills its process.
pub(super) struct Replica {
    binary: PathBuf,
    settings: Settings,
    log: PathBuf,
    child: Option<Child>,
    /// `http://host:port`
    pub(super) url: String,
    metrics_url: String,
    http: reqwest::Client,
}

impl Replica {
    /// Creates a replica that listens on an address, without starting it.
    pub(super) fn new(binary: &Path, settings: Settings, listen: SocketAddr, log: PathBuf) -> Self {
        let metrics = free_address();
        Self {
            binary: binary.to_owned(),
            settings: settings
                .with("NAS_CRON_LISTEN", listen.to_string())
                .with("NAS_CRON_METRICS_LISTEN", metrics.to_string()),
            log,
            child: None,
            url: format!("http://{listen}"),
            metrics_url: format!("http://{metrics}/metrics"),
            http: client(),
        }
    }

    /// Makes its next process one of another binary.
    pub(super) fn replace(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// Starts its process, with a clock that is `clock` seconds ahead.
    pub(super) fn start(&mut self, clock: i8) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NAS_CRON_")) {
            command.env_remove(name);
        }
        command.arg("serve").envs(self.settings.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if clock != 0 {
            command.env("LD_PRELOAD", faketime().expect("the fault was not skipped"));
            // Only the wall clock is wrong; timers are not affected.
            command
                .envs([("FAKETIME", format!("{clock:+}s").as_str()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
        }
        self.child = Some(command.spawn().expect("the service starts"));
    }

    /// Waits until `/readyz` returns 200.
    pub(super) async fn ready(&self) {
        assert!(self.becomes_ready().await, "a replica never became ready: see {}", self.log.display());
    }

    /// Waits until `/readyz` returns 200. Returns false if that takes too long.
    pub(super) async fn becomes_ready(&self) -> bool {
        let probing = async {
            let probe =
                || self.http.get(format!("{}/readyz", self.url)).timeout(Duration::from_secs(1)).send();
            while !probe().await.is_ok_and(|response| response.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, probing).await.is_ok()
    }

    /// Returns its process ID, if it runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the replica runs");
        kill_process(Pid::from_child(child), signal).expect("its process exists");
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub(super) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the process with SIGTERM and waits for its end.
    pub(super) async fn drain(&mut self) {
        self.signal(Signal::TERM);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Ok(None) = self.child.as_mut().expect("the replica runs").try_wait() {
            if tokio::time::Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kill9();
    }

    /// Returns the number of attempts that have ended since its start, or `None` if its metrics are unavailable.
    pub(super) async fn attempts(&self) -> Option<f64> {
        let response = self.http.get(&self.metrics_url).timeout(Duration::from_secs(2)).send().await.ok()?;
        let text = response.text().await.ok()?;
        let ended = text.lines().filter(|line| {
            line.starts_with("nas_cron_fires_total{")
                && ["\"delivered\"", "\"failed\""].iter().any(|outcome| line.contains(outcome))
        });
        Some(ended.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Returns the path of libfaketime, if it is installed.
pub(super) fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = folders.chain(["/usr/lib64".into(), "/usr/lib".into()]);
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
