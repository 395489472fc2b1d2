//! The statement about the conditions that stop or delay a job's fires.

use nas_cron_protocol::{InstanceId, JobId};

use super::seconds::duration;
use super::{Db, DbResult, holds};
use crate::domain::PortalDenial;
use crate::domain::circumstances::{Circumstances, Outage};

/// Returns what stops or delays the fires of a job; the defaults for one of an unknown instance.
pub async fn of_job(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<Circumstances> {
    let holds = holds::of_job(db, instance_id, job_id).await?;
    let row = sqlx::query!(
        r#"
        SELECT i.enabled, i.denied_by_portal AS "denied_by_portal: PortalDenial", i.unreachable_since, i.probe_job_id,
               p.next_attempt_at AS "probe_at?", i.busy_until,
               extract(epoch FROM skew_guard(i.skew_guard_ms, i.skew_learned_at))::float8 AS "skew_guard!"
        FROM instances i
        LEFT JOIN one_shots p ON p.instance_id = i.instance_id AND p.job_id = i.probe_job_id
        WHERE i.instance_id = $1
        "#,
        instance_id.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or_else(Circumstances::default, |row| Circumstances {
        holds,
        disabled: !row.enabled,
        denied_by_portal: row.denied_by_portal,
        outage: row.unreachable_since.zip(row.probe_job_id).map(|(since, probe_job_id)| Outage {
            since,
            probe_job_id,
            probe_at: row.probe_at,
        }),
        busy_until: row.busy_until,
        skew_guard: duration(row.skew_guard),
    }))
}
