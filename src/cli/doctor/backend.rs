//! Check of the active scheduler backend.

use nas_cron_base::terminal::relative;

use super::deployment::Deployment;
use crate::config::backends::variables_of;
use crate::db::{directory, wake_ups};
use crate::diagnosis::{Finding, failed};

/// Checks that the active backend is configured. `serve` does not start otherwise.
pub(super) async fn active(deployment: &Deployment) -> Finding {
    let (db, backends) = (&deployment.db, &deployment.config.backends);
    let active = match wake_ups::find_active(db).await {
        Ok(Some(active)) => active,
        Ok(None) => {
            return Finding::ok(format!(
                "none yet: `nas-cron serve` activates {} at its first start",
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
    let since = format!("{name}, activated {}", relative(now, active.switched_at));
    if backends.is_configured(name) {
        return Finding::ok(since);
    }
    let settings = variables_of(name);
    Finding::wrong(
        format!("{since}, but not configured here: `nas-cron serve` does not start"),
        format!("set {settings} here and on every replica, or run `nas-cron backend switch postgres`"),
    )
}
