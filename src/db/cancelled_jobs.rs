//! Statements about the marks of cancelled jobs. [`super::oneshots::cancel`] writes them.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId, OrgId};

use super::{Db, DbResult};
use crate::domain::job::LatestCancel;

/// Returns the job's latest cancel that removed a one-shot. The job may have been armed again since. With `org_id`, that of a
/// job of this org.
pub async fn latest(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    org_id: Option<&OrgId>,
) -> DbResult<Option<LatestCancel>> {
    Ok(sqlx::query_as!(
        LatestCancel,
        r#"
        SELECT cancelled_at AS at, fire_at, armed_at FROM cancelled_jobs
        WHERE instance_id = $1 AND job_id = $2
          AND ($3::text IS NULL OR EXISTS (SELECT FROM instances WHERE instance_id = $1 AND org_id = $3 /* org_id */))
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        org_id.map(OrgId::as_str),
    )
    .fetch_optional(db)
    .await?)
}

/// Deletes at most `limit` marks of cancels before `retention`, the oldest first. Returns the number of deleted marks.
pub async fn prune(db: &Db, retention: Duration, limit: i64) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        DELETE FROM cancelled_jobs WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM cancelled_jobs
            WHERE cancelled_at < now() - make_interval(secs => $1 /* retention */)
            ORDER BY cancelled_at
            LIMIT $2 /* limit */
            -- Replicas prune concurrently. A job that is cancelled again keeps its mark.
            FOR UPDATE SKIP LOCKED
        ))
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
