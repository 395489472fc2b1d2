//! The check of `nas-cron doctor`: the servers and the stream.

use super::Nats;
use crate::backends::checks::{BackendCheck, Examined, MEANWHILE, NOT_CONFIGURED, answers};
use crate::diagnosis::Finding;

/// In the order in which they are shown.
pub const CHECKS: &[BackendCheck] =
    &[BackendCheck { name: "NATS", needs_schema: false, look: |examined| Box::pin(connection(examined)) }];

async fn connection(examined: Examined<'_>) -> Finding {
    match Nats::configured(examined.config).await {
        Ok(Some(nats)) => {
            let fix = format!("see the servers of NAS_CRON_NATS_URLS and what lets us in; {MEANWHILE}");
            answers(&nats, "answers; the stream stands", &fix).await
        }
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => Finding::wrong(
            format!("{error:#}"),
            "see the NAS_CRON_NATS_… settings: `nas-cron serve` does not start",
        ),
    }
}
