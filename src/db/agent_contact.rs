//! The statement about the contact between an agent and the service.

use nas_cron_protocol::InstanceId;

use super::seconds::duration;
use super::{Db, DbResult};
use crate::domain::agent_contact::AgentContact;

/// Returns the contact of an agent; the defaults for an unknown one.
pub async fn of_agent(db: &Db, instance_id: &InstanceId) -> DbResult<AgentContact> {
    let row = sqlx::query!(
        r#"
        SELECT extract(epoch FROM skew_guard(i.skew_guard_ms, i.skew_learned_at))::float8 AS "skew_guard!",
               i.skew_learned_at, i.probe_job_id, c.armed_at, c.attempt_at
        FROM instances i CROSS JOIN LATERAL (
            SELECT max(o.created_at) AS armed_at, max(o.last_started_at) AS attempt_at
            FROM one_shots o WHERE o.instance_id = i.instance_id
        ) c
        WHERE i.instance_id = $1
        "#,
        instance_id.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or_else(AgentContact::default, |row| AgentContact {
        last_armed_at: row.armed_at,
        last_attempt_at: row.attempt_at,
        skew_guard: duration(row.skew_guard),
        skew_learned_at: row.skew_learned_at,
        probe_job_id: row.probe_job_id,
    }))
}
