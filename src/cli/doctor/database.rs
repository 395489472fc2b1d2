//! Checks of the database: connection, schema, clock and notifications.

use std::sync::Arc;

use chrono::TimeDelta;
use nas_cron_base::terminal::span;

use super::deployment::Deployment;
use crate::db::hints::{self, Hints};
use crate::db::migrate::{SchemaState, known_version};
use crate::db_clock::{DbClock, Offset};
use crate::diagnosis::{Finding, failed};

pub(super) async fn answers(deployment: &Deployment) -> Finding {
    match deployment.answer().await {
        Ok(took) => Finding::ok(format!("responds in {:.1} ms", took.as_secs_f64() * 1e3)),
        Err(advice) => Finding::wrong(
            format!("unavailable: {}", advice.failure),
            format!("{} (NAS_CRON_DATABASE_URL)", advice.fix),
        ),
    }
}

pub(super) async fn schema(deployment: &Deployment) -> Finding {
    let known = known_version();
    match deployment.schema().await {
        Ok(SchemaState::Current) => Finding::ok(format!("version {known}, as required by this release")),
        Ok(SchemaState::Behind(steps)) => {
            let versions: Vec<_> = steps.iter().map(|step| step.version.to_string()).collect();
            let (s, are) = if versions.len() == 1 { ("", "is") } else { ("s", "are") };
            let missing = format!("migration{s} {} {are} missing", versions.join(", "));
            if deployment.config.database.migrate {
                Finding::warning(
                    missing,
                    "`nas-cron serve` migrates at its start, because NAS_CRON_MIGRATE is set",
                )
            } else {
                Finding::wrong(missing, "run `nas-cron migrate` (--dry-run shows the steps)")
            }
        }
        Ok(SchemaState::Ahead { found, known, usable: true }) => Finding::warning(
            format!(
                "version {found}, newer than this release, which knows versions up to {known} and may use it"
            ),
            "deploy the release that migrated it, or a later one",
        ),
        Ok(SchemaState::Ahead { found, known, usable: false }) => Finding::wrong(
            format!("version {found}, but this release knows versions up to {known} and does not start"),
            "use the release that migrated it, or a later one",
        ),
        Ok(SchemaState::Diverged { version }) => Finding::wrong(
            format!("migration {version} differs from the one of this release, or failed half-way"),
            "check that NAS_CRON_DATABASE_URL names a database of nas-cron; `nas-cron migrate --dry-run` shows more",
        ),
        Err(advice) => failed(advice),
    }
}

/// Compares the database's clock, which everything depends on, with the one of this machine, which log lines use.
pub(super) async fn clock(deployment: &Deployment) -> Finding {
    match DbClock::read(&deployment.db, Arc::clone(&deployment.clock)).await {
        Ok(clock) => judge_offset(&clock.offset()),
        Err(error) => failed(error),
    }
}

fn judge_offset(offset: &Offset) -> Finding {
    let direction = if offset.ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    let (distance, uncertainty) = (span(offset.ahead), span(offset.uncertainty));
    let found = format!("{distance} {direction} this machine's clock (uncertainty {uncertainty})");
    if offset.is_large() {
        Finding::warning(
            format!("{found}; fires and tokens use the database's clock, log lines use this machine's"),
            "synchronise both clocks with NTP; the metric nas_cron_database_clock_offset_seconds shows the offset",
        )
    } else {
        Finding::ok(found)
    }
}

/// Checks that a notification comes back. It does not through a pooler in transaction mode.
pub(super) async fn notifications(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    let echo = async {
        let mut hints = Hints::listen(db).await?;
        hints::announce(db).await?;
        hints.next().await
    };
    match tokio::time::timeout(super::deployment::PATIENCE, echo).await {
        Ok(Ok(())) => Finding::ok("LISTEN receives NOTIFY"),
        Ok(Err(error)) => failed(error),
        Err(_) => Finding::wrong(
            "LISTEN does not receive NOTIFY: replicas see one-shots armed at other replicas some seconds late",
            "if NAS_CRON_DATABASE_URL names a pooler in transaction mode, connect to Postgres directly or pool sessions",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn large_clock_offset_is_a_warning() {
        let judged = |ahead, uncertainty| {
            let [ahead, uncertainty] = [ahead, uncertainty].map(TimeDelta::milliseconds);
            judge_offset(&Offset { ahead, uncertainty })
        };
        for (ahead, uncertainty, status) in [
            (0, 0, Status::Ok),
            (-5_000, 0, Status::Ok),
            (5_001, 0, Status::Warning),
            (-5_001, 1, Status::Ok),
            (-3_600_000, 0, Status::Warning),
        ] {
            assert_eq!(judged(ahead, uncertainty).status, status, "{ahead} ± {uncertainty} ms");
        }
        assert_eq!(judged(-3_000, 1).found, "3 s behind this machine's clock (uncertainty 1 ms)");
    }
}
