//! The database: whether it answers, is ours, and does what we rely on.

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
        Ok(took) => Finding::ok(format!("answers in {:.1} ms", took.as_secs_f64() * 1e3)),
        Err(error) => Finding::wrong(
            format!("does not answer: {error}"),
            "see that it is up, that NAS_CRON_DATABASE_URL leads to it, and that this machine may connect",
        ),
    }
}

pub(super) async fn schema(deployment: &Deployment) -> Finding {
    let known = known_version();
    match deployment.schema().await {
        Ok(SchemaState::Current) => Finding::ok(format!("version {known}, the one of this release")),
        Ok(SchemaState::Behind(steps)) => {
            let versions: Vec<_> = steps.iter().map(|step| step.version.to_string()).collect();
            let lacks = format!("lacks {} of this release", versions.join(", "));
            if deployment.config.database.migrate {
                Finding::warning(
                    lacks,
                    "`nas-cron serve` applies it when it starts, as NAS_CRON_MIGRATE says",
                )
            } else {
                Finding::wrong(lacks, "`nas-cron migrate`; with --dry-run it tells what it would do")
            }
        }
        Ok(SchemaState::Ahead { found, known }) => Finding::wrong(
            format!("version {found}; this release knows {known} at most, and does not start on it"),
            "run the release that migrated it, or a later one",
        ),
        Ok(SchemaState::Diverged { version }) => Finding::wrong(
            format!("step {version} is not the one of this release"),
            "`nas-cron migrate --dry-run` compares; is this nas-cron's own database?",
        ),
        Err(error) => failed(error),
    }
}

/// Everything goes by the database's clock. What is far off it is this machine's, and with it the times of log lines.
pub(super) async fn clock(deployment: &Deployment) -> Finding {
    match DbClock::read(&deployment.db, Arc::clone(&deployment.clock)).await {
        Ok(clock) => judge_offset(&clock.offset()),
        Err(error) => failed(error),
    }
}

fn judge_offset(offset: &Offset) -> Finding {
    let way = if offset.ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    let (apart, uncertainty) = (span(offset.ahead.abs()), span(offset.uncertainty));
    let found = format!("{apart} {way} this machine's, give or take {uncertainty}");
    if offset.is_large() {
        Finding::warning(
            format!("{found}; fires and tokens go by the database's, log lines by this machine's"),
            "let NTP set the clocks of both machines; `nas_cron_database_clock_offset_seconds` watches it",
        )
    } else {
        Finding::ok(found)
    }
}

/// A hint of our own must come back: through a pooler that keeps no sessions it never does.
pub(super) async fn notifications(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    let heard = async {
        let mut hints = Hints::listen(db).await?;
        hints::announce(db).await?;
        hints.next().await
    };
    match tokio::time::timeout(super::deployment::PATIENCE, heard).await {
        Ok(Ok(())) => Finding::ok("LISTEN hears NOTIFY"),
        Ok(Err(error)) => failed(error),
        Err(_) => Finding::wrong(
            "LISTEN hears nothing: replicas learn up to seconds late of what others arm",
            "is NAS_CRON_DATABASE_URL a transaction pooler's? Connect directly, or pool sessions",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn clock_that_is_off_is_a_warning_and_no_more() {
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
        assert_eq!(judged(-3_000, 1).found, "3 s behind this machine's, give or take 1 ms");
    }
}
