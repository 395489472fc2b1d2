//! The statement about the conditions that stop or delay an instance's fires.

use nas_cron_protocol::InstanceId;

use super::seconds::duration;
use super::{Db, DbResult};
use crate::domain::circumstances::{Circumstances, Outage};
use crate::domain::hold::Hold;
use crate::domain::{HoldScope, PortalDenial};

/// Returns what stops or delays the fires of an instance; the defaults for an unknown one.
pub async fn of_instance(db: &Db, instance_id: &InstanceId) -> DbResult<Circumstances> {
    let holds = sqlx::query_as!(
        Hold,
        r#"
        SELECT h.scope AS "scope: HoldScope", h.scope_id, h.reason, h.created_at
        FROM holds h JOIN instances i ON i.instance_id = $1
        WHERE h.scope = 'all' OR (h.scope = 'org' AND h.scope_id = i.org_id)
           OR (h.scope = 'instance' AND h.scope_id = i.instance_id)
        ORDER BY h.scope
        "#,
        instance_id.as_str(),
    )
    .fetch_all(db)
    .await?;
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
