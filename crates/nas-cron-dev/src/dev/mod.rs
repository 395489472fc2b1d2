//! `nas-cron dev`: a complete deployment on one machine, without configuration.
//!
//! ```text
//!   up ──▶ private Postgres ──▶ migrate ──▶ service::start ──▶ AdminClient: two agents ──▶ dev.json
//!    │                                           ▲ DevPortal's JWKS
//!    └──▶ DemoAgent ── provision ──▶ agent API … fire ──▶ Endpoint (FireVerifier) ──▶ Event ──▶ live
//! ```
//!
//! `nas-cron bench --dir` uses its folder, portal and clients.

pub(crate) mod admin_client;
mod demo_agent;
pub(crate) mod dir;
mod event;
#[cfg(test)]
pub(crate) mod fake_service;
pub(crate) mod fire_verifier;
mod live;
mod opener;
pub(crate) mod portal;
mod postgres_dir;
mod service;
mod token;
mod up;
mod welcome;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use self::service::{Running, Service, Setting};

/// Run a complete deployment on this machine: a private Postgres, a portal, the service and demo agents.
///
/// Needs no configuration. Prints a link that signs in at the operators' page, and in a terminal with a display opens it. The
/// folder keeps the database and the keys between runs. All other settings can be set by their environment variables, such as
/// `NAS_CRON_SIGNING_ALG=RS256`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  nas-cron dev                          Run until ^C and print a line per fire
  nas-cron dev --fires 5                Exit with 0 after five verified fires
  nas-cron dev --no-demo                Run for your own agents or `nas-cron bench`
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
    /// Address that the service listens on; port 0 selects a free port.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Address of the admin API and the operators' page [default: the port after that of --listen, or any free one].
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<SocketAddr>,
    /// Folder for all data [default: ~/.local/state/nas-cron/dev, or /var/lib/nas-cron/dev as root]. If root names one that
    /// other users cannot enter, it has a link to Postgres's data in /var/lib/nas-cron-dev.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Register the two agents without running them.
    #[arg(long)]
    no_demo: bool,
    /// Stop after this many verified fires. Stop with exit code 1 at the first fire that is missing (10 s late), early or
    /// unverifiable.
    #[arg(long, value_name = "N", conflicts_with = "no_demo", value_parser = clap::value_parser!(u64).range(1..))]
    fires: Option<u64>,
}

impl Dev {
    /// Runs the command with this service.
    pub async fn run(self, service: &impl Service) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(DevCommand::Token(token)) => token.run(),
            None => up::up(self.up, service).await,
        }
    }
}
