//! `nas-cron dev`: from a bare machine to fires, with nothing configured.
//!
//! ```text
//!   up ──▶ private Postgres ──▶ migrate ──▶ service::start ──▶ AdminClient: two agents ──▶ dev.json
//!    │                                           ▲ DevPortal's JWKS                          │
//!    └──▶ DemoAgent ── provision ──▶ hop 1 … fire ──▶ Door (FireVerifier) ──▶ Event ──▶ live ◀┘
//! ```
//!
//! `nas-cron bench --dir` uses the folder, the portal and the clients of it.

pub(crate) mod admin_client;
mod demo_agent;
pub(crate) mod dir;
mod event;
#[cfg(test)]
pub(crate) mod fake_service;
pub(crate) mod fire_verifier;
mod live;
pub(crate) mod portal;
mod service;
mod token;
mod up;
mod welcome;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use self::service::{Running, Service, Setting};

/// Run everything on this machine, with nothing configured: a private Postgres, a portal, the service, demo agents.
///
/// The database and the keys are kept in the folder between runs. Every other setting can be tried by its
/// environment variable, such as `NAS_CRON_SIGNING_ALG=RS256`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  nas-cron dev                          Until ^C, a line per fire
  nas-cron dev --fires 5                A check: exit 0 after five verified fires
  nas-cron dev --no-demo                For your own agents, and for `nas-cron bench`
  nas-cron dev token --client-id agent:dev-self-hosted --org dev-org-b"
)]
pub struct Dev {
    #[command(subcommand)]
    command: Option<DevCommand>,
    #[command(flatten)]
    up: Up,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    Token(token::Token),
}

#[derive(Debug, Args)]
struct Up {
    /// Where the service listens; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The folder to keep everything in [default: ~/.local/state/nas-cron/dev, or /var/lib/nas-cron/dev as root].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Register the two agents, and do not run them.
    #[arg(long)]
    no_demo: bool,
    /// End after so many verified fires, or at the first one that is missing (10 s late), early or unverifiable,
    /// then with exit code 1.
    #[arg(long, value_name = "N", conflicts_with = "no_demo", value_parser = clap::value_parser!(u64).range(1..))]
    fires: Option<u64>,
}

impl Dev {
    /// Runs the subcommand, with `service` as the service to run.
    pub async fn run(self, service: &impl Service) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(DevCommand::Token(token)) => token.run(),
            None => up::up(self.up, service).await,
        }
    }
}
