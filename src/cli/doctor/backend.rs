//! The active scheduler backend.

use nas_cron_base::terminal::relative;

use super::deployment::Deployment;
use crate::config::backends::variables_of;
use crate::db::{directory, wake_ups};
use crate::diagnosis::{Finding, failed};

/// The one that new one-shots go to must be configured, or `serve` does not start.
pub(super) async fn active(deployment: &Deployment) -> Finding {
    let (db, backends) = (&deployment.db, &deployment.config.backends);
    let active = match wake_ups::find_active(db).await {
        Ok(Some(active)) => active,
        Ok(None) => {
            return Finding::ok(format!(
                "none yet: {} becomes it when `nas-cron serve` starts",
                backends.first
            ));
        }
        Err(error) => return failed(error),
    };
    let now = match directory::now(db).await {
        Ok(now) => now,
        Err(error) => return failed(error),
    };
    let name = active.backend;
    let since = format!("{name}, since {}", relative(now, active.switched_at));
    if backends.is_configured(name) {
        return Finding::ok(since);
    }
    let settings = variables_of(name);
    Finding::wrong(
        format!("{since}, and it is not configured here: `nas-cron serve` does not start"),
        format!("set {settings} here as on every replica, or `nas-cron backend switch postgres`"),
    )
}
