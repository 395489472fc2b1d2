//! The database: whether it answers, is ours, and does what we rely on.

use chrono::TimeDelta;
use nas_cron_base::terminal::span;

use super::deployment::Deployment;
use crate::db::directory;
use crate::db::hints::{self, Hints};
use crate::db::migrate::{SchemaState, known_version};
use crate::diagnosis::{Finding, failed};

/// Tokens and signatures are good for a minute or more: what is further apart makes agents refuse fires.
const FAR_APART: TimeDelta = TimeDelta::seconds(30);
/// What clocks that are kept in step never are.
const APART: TimeDelta = TimeDelta::seconds(2);

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

/// The database's clock says when a fire is due, this machine's when its token begins to be good.
pub(super) async fn clock(deployment: &Deployment) -> Finding {
    let before = deployment.clock.now();
    let there = match directory::now(&deployment.db).await {
        Ok(there) => there,
        Err(error) => return failed(error),
    };
    let round_trip = deployment.clock.now() - before;
    judge_offset(there - (before + round_trip / 2), round_trip / 2)
}

fn judge_offset(offset: TimeDelta, uncertainty: TimeDelta) -> Finding {
    let way = if offset < TimeDelta::zero() { "behind" } else { "ahead of" };
    let found = format!("{} {way} this machine's, give or take {}", span(offset.abs()), span(uncertainty));
    let certain = offset.abs() - uncertainty;
    let mend = "let NTP set the clocks of both machines; `nas_cron_db_clock_offset_seconds` watches it";
    if certain > FAR_APART {
        Finding::wrong(format!("{found}: agents refuse tokens that are not good yet, or not any more"), mend)
    } else if certain > APART {
        Finding::warning(found, mend)
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
    fn clocks_are_judged_by_what_is_certain() {
        let judged = |offset, uncertainty| {
            judge_offset(TimeDelta::milliseconds(offset), TimeDelta::milliseconds(uncertainty)).status
        };
        for (offset, uncertainty, status) in [
            (0, 0, Status::Ok),
            (-2_000, 0, Status::Ok),
            (2_001, 0, Status::Warning),
            (-2_001, 1, Status::Ok),
            (-30_001, 0, Status::Wrong),
            (31_000, 2_000, Status::Warning),
        ] {
            assert_eq!(judged(offset, uncertainty), status, "{offset} ± {uncertainty} ms");
        }
        let behind = judge_offset(TimeDelta::seconds(-3), TimeDelta::milliseconds(1));
        assert_eq!(behind.found, "3 s behind this machine's, give or take 1 ms");
    }
}
