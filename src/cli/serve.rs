//! `nas-cron serve`

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

/// Run the service: hop 1, the scheduler, the fires, JWKS, health, metrics.
///
/// Any number of replicas may run on one database. Ends gracefully on SIGTERM: /readyz says 503, claims stop, hop 1
/// is served on until the drain delay is over, what is in flight is finished. A second signal ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron serve --config nas-cron.toml
  NAS_CRON_DATABASE_URL_FILE=/run/secrets/database_url NAS_CRON_PORTAL_URL=https://portal.example \\
    NAS_CRON_KEY_ENCRYPTION_KEY_FILE=/run/secrets/key_encryption_key nas-cron serve --migrate

`nas-cron config show` tells what holds and where it comes from; `nas-cron dev` runs everything on one machine.")]
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
                // Asked to end before it had begun.
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
