//! `nas-cron serve`.

use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::{logging, signals};

use crate::app::App;
use crate::config::{Everything, Flags};
use crate::metrics;
use crate::shutdown::{self, Ended, Shutdown};

/// Run the service: agent API, scheduler, fires, JWKS, health checks, metrics.
///
/// Any number of replicas can share one database. SIGTERM or SIGINT starts a graceful shutdown: /readyz returns 503 and
/// no more one-shots are claimed; the agent API is served until the drain delay has passed, and attempts in flight are
/// finished. A second signal ends the process at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron serve --config nas-cron.toml
  NAS_CRON_DATABASE_URL_FILE=/run/secrets/database_url NAS_CRON_PORTAL_URL=https://portal.example \\
    NAS_CRON_KEY_ENCRYPTION_KEY_FILE=/run/secrets/key_encryption_key nas-cron serve --migrate

`nas-cron config show` prints the settings in effect and their origin. `nas-cron dev` runs everything on one machine.")]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags<Everything>,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.flags.settings().config()?;
        logging::init(&config.log)?;
        let shutdown = Shutdown::new();
        let signals = signals::signals()?;
        let work = async {
            let clock = Arc::new(SystemClock);
            let starting = App::start(&config, clock, shutdown.clone(), metrics::install(), Router::new());
            tokio::select! {
                // A signal arrived during the start.
                () = shutdown.draining() => Ok(()),
                app = starting => app?.run().await,
            }
        };
        match shutdown::run(&shutdown, signals, config.stop, Box::pin(work)).await {
            Ended::Finished(Err(error)) => Err(error),
            ended => Ok(ended.exit_code(|_| ExitCode::SUCCESS)),
        }
    }
}
