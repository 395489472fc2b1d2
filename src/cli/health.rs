//! `nas-cron health`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use nas_cron_base::http_client;
use nas_cron_base::terminal::{self, printable};

/// Check whether the service on this machine is alive or ready.
///
/// For health checks in containers that have no other HTTP client. Exit codes: 0 healthy; 1 unhealthy.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Listen address of the service. For 0.0.0.0 or [::], loopback is used.
    #[arg(long, env = "NAS_CRON_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Check /readyz (ready for requests) instead of /healthz (alive).
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut address = self.listen;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let path = if self.ready { "readyz" } else { "healthz" };
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(2))
            .build()?;
        let response = client.get(format!("http://{address}/{path}")).send().await.map_err(|error| {
            anyhow!(
                "no response from http://{address}/{path}: {}; check that `nas-cron serve` is running and listens there",
                http_client::reason(error)
            )
        })?;
        let status = response.status();
        if !status.is_success() {
            bail!("/{path} returned {status}: {}", printable(&response.text().await.unwrap_or_default()));
        }
        terminal::print("ok")?;
        Ok(ExitCode::SUCCESS)
    }
}
