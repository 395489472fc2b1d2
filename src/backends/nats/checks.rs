//! The check of `nas-cron doctor`: the servers and the stream.

use super::Nats;
use crate::backends::checks::{BackendCheck, Examined, MEANWHILE, NOT_CONFIGURED, answers};
use crate::diagnosis::Finding;

/// The checks, in display order.
pub const CHECKS: &[BackendCheck] =
    &[BackendCheck { name: "NATS", needs_schema: false, look: |examined| Box::pin(connection(examined)) }];

async fn connection(examined: Examined<'_>) -> Finding {
    match Nats::configured(examined.config).await {
        Ok(Some(nats)) => {
            let fix = format!("check the servers of NAS_CRON_NATS_URLS and the credentials; {MEANWHILE}");
            answers(&nats, "reachable; the stream is ready", &fix).await
        }
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => Finding::wrong(
            format!("{error:#}"),
            "correct the NAS_CRON_NATS_… settings: `nas-cron serve` does not start with them",
        ),
    }
}
