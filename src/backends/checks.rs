//! Checks of `nas-cron doctor` that backends bring. Each of them is shown also where its backend is not configured.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use nas_cron_base::clock::Clock;

use super::backend::SchedulerBackend;
use crate::config;
use crate::db::Db;
use crate::diagnosis::Finding;

/// What a check finds where its backend is not configured.
pub const NOT_CONFIGURED: &str = "not configured";

/// The end of the advice about a backend that does not answer.
pub const MEANWHILE: &str =
    "meanwhile fires come some seconds late; `nas-cron backend switch postgres` does without it";

/// What a check looks at.
#[derive(Clone, Copy, Debug)]
pub struct Examined<'a> {
    /// The settings. One call to a backend may take no longer than `patience`.
    pub config: &'a config::Backends,
    /// The wall clock.
    pub clock: &'a Arc<dyn Clock>,
    /// The database, which may not answer.
    pub db: &'a Db,
    /// How long a check may wait for somebody.
    pub patience: Duration,
}

/// One thing to look at.
#[derive(Clone, Copy, Debug)]
pub struct BackendCheck {
    /// Its name in the report.
    pub name: &'static str,
    /// Whether it needs the tables of this release.
    pub needs_schema: bool,
    /// Looks at it.
    pub look: for<'a> fn(Examined<'a>) -> BoxFuture<'a, Finding>,
}

/// Whether the backend answers: `ok` is found where it does, `fix` is the advice where it does not.
pub async fn answers(backend: &impl SchedulerBackend, ok: &str, fix: &str) -> Finding {
    match backend.health().await {
        Ok(()) => Finding::ok(ok),
        Err(error) => Finding::wrong(format!("{error}"), fix),
    }
}
