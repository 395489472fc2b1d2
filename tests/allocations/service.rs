//! The service in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use nas_cron::app::App;
use nas_cron::config::{Config, Sources};
use nas_cron::metrics;
use nas_cron::shutdown::Shutdown;
use nas_cron_base::clock::SystemClock;
use nas_cron_testing::service::{ADMIN_TOKEN, Settings};
use nas_cron_testing::time::PATIENCE;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::peers::{self, Request};

const DELIVERED: &str = "nas_cron_fires_total{outcome=\"delivered\"} ";

/// A running service. It writes no log lines, so they are not counted.
pub(crate) struct InProcess {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
    metrics: PrometheusHandle,
}

impl InProcess {
    pub(crate) fn start(runtime: &Runtime, settings: &Settings) -> Self {
        let environment = settings.environment().map(|(name, value)| (name.into(), value.into())).collect();
        let read = |path: &Path| std::fs::read_to_string(path);
        let sources = Sources { flags: Vec::new(), config: None, environment, read: &read };
        let config: Config =
            nas_cron::config::Settings::gather(&sources).config().expect("a valid configuration");
        let shutdown = Shutdown::new();
        let (clock, metrics) = (Arc::new(SystemClock), metrics::install());
        let starting = App::start(&config, clock, shutdown.clone(), metrics.clone(), Router::new());
        let app = runtime.block_on(starting).expect("the service starts");
        let address = app.address().expect("a bound address");
        Self { address, shutdown, task: runtime.spawn(app.run()), metrics }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers an instance of `org-1`.
    pub(crate) fn register(&self, instance_id: &str) {
        let body = json!({"org_id": "org-1"});
        let request = Request::put(&format!("/api/admin/agents/{instance_id}"), ADMIN_TOKEN, &body);
        peers::send_all(self.address, &[request], 1);
    }

    /// Waits until the outcomes of so many deliveries are durable.
    pub(crate) fn wait_for(&self, deliveries: usize) {
        let begun = Instant::now();
        let delivered = || {
            let page = self.metrics.render();
            page.lines().find_map(|line| line.strip_prefix(DELIVERED)?.parse::<usize>().ok())
        };
        while delivered() != Some(deliveries) {
            assert!(begun.elapsed() < PATIENCE, "{:?} of {deliveries} deliveries", delivered());
            // Seldom, because each look allocates.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub(crate) fn stop(self, runtime: &Runtime) {
        self.shutdown.stop();
        runtime.block_on(self.task).expect("no panic").expect("the service ends without an error");
    }
}
