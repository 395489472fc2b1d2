//! Interface of the backends' checks in `nas-cron doctor`. A check is shown even if its backend is not configured.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use nas_cron_base::clock::Clock;

use super::backend::SchedulerBackend;
use crate::config;
use crate::db::Db;
use crate::diagnosis::Finding;

/// Finding of a check whose backend is not configured.
pub const NOT_CONFIGURED: &str = "not configured";

/// The end of the fix for a backend that is unreachable.
pub const MEANWHILE: &str =
    "until then, fires are some seconds late; `nas-cron backend switch postgres` stops using this backend";

/// The input of a check.
#[derive(Clone, Copy, Debug)]
pub struct Examined<'a> {
    /// The settings. Their call timeout is at most `patience`.
    pub config: &'a config::Backends,
    /// The wall clock.
    pub clock: &'a Arc<dyn Clock>,
    /// The database, which may be unreachable.
    pub db: &'a Db,
    /// Maximum time that a check waits for a response.
    pub patience: Duration,
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct BackendCheck {
    /// The name in the report.
    pub name: &'static str,
    /// True if the check reads tables of this release.
    pub needs_schema: bool,
    /// Runs the check.
    pub look: for<'a> fn(Examined<'a>) -> BoxFuture<'a, Finding>,
}

/// Checks the backend's health. The finding is `ok` if it is healthy, or the error with `fix`.
pub async fn answers(backend: &impl SchedulerBackend, ok: &str, fix: &str) -> Finding {
    match backend.health().await {
        Ok(()) => Finding::ok(ok),
        Err(error) => Finding::wrong(format!("{error}"), fix),
    }
}
