//! `nas-cron health`

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nas_cron_base::terminal;

/// Ask a running service on this machine whether it is alive.
///
/// For container health checks, where there is no other HTTP client. Exit code 0: yes; 1: no.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Where it listens; an unspecified address is asked on loopback.
    #[arg(long, env = "NAS_CRON_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Ask whether it is ready for requests instead.
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
        let answer =
            client.get(format!("http://{address}/{path}")).send().await.with_context(|| {
                format!("nothing answers on {address}: is `nas-cron serve` running there?")
            })?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{path} answers {status}: {}", answer.text().await.unwrap_or_default());
        }
        terminal::print("ok")?;
        Ok(ExitCode::SUCCESS)
    }
}
