//! Statements about events: from facts to events, and lists of events.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Db, DbResult};
use crate::domain::event::{Event, EventFilter, EventType, Made};

/// Maximum number of facts of one topic in one sweep, and so in one event.
const FACTS: i32 = 200_000;
/// Number of facts that an event shows.
const SHOWN: i32 = 10;
/// Maximum number of pending deliveries that are counted.
const COUNTED: i64 = 10_000;

/// The work that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// There are webhooks.
    pub webhooks: bool,
    /// There are facts to make events of.
    pub ripe: bool,
    /// Number of deliveries that wait, at most 10,000.
    pub pending: i64,
    /// Number of webhooks that failed.
    pub failed: i64,
}

/// Returns the work that is due. The only query of a service without events.
pub async fn look(db: &Db, wait: Duration, pause: Duration) -> DbResult<Look> {
    Ok(sqlx::query_as!(
        Look,
        r#"
        SELECT EXISTS (SELECT FROM webhooks) AS "webhooks!",
               EXISTS (SELECT FROM ripe_event_topics(make_interval(secs => $1 /* wait */), make_interval(secs => $2 /* pause */)))
                   AS "ripe!",
               (SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE state = 'pending' LIMIT $3 /* counted */) p)
                   AS "pending!",
               (SELECT count(*) FROM webhooks WHERE ended_by = 'failing') AS "failed!"
        "#,
        wait.as_secs_f64(),
        pause.as_secs_f64(),
        COUNTED,
    )
    .fetch_one(db)
    .await?)
}

/// Makes events of the topics whose oldest fact is `wait` old and whose latest event is `pause` old, and queues them for
/// the webhooks that want them, in one commit. Does nothing while another replica does it.
pub async fn sweep(db: &Db, wait: Duration, pause: Duration) -> DbResult<Vec<Made>> {
    Ok(sqlx::query_as!(
        Made,
        r#"
        SELECT event_id AS "event_id!", type AS "kind!", org_id, count AS "count!"
        FROM sweep_events(make_interval(secs => $1 /* wait */), make_interval(secs => $2 /* pause */),
                          $3 /* facts */, $4 /* shown */)
        "#,
        wait.as_secs_f64(),
        pause.as_secs_f64(),
        FACTS,
        SHOWN,
    )
    .fetch_all(db)
    .await?)
}

/// Notes that this machine's clock differs from the database's, or agrees with it again. `offset` is in seconds.
pub async fn note_clock(db: &Db, host_name: &str, offset: f64, corrected: bool) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO event_facts (type, data)
        VALUES (CASE WHEN $3 /* corrected */ THEN 'clock.corrected' ELSE 'clock.drifted' END,
                jsonb_build_object('replica', $1::text /* host_name */, 'offset_s', round($2::float8::numeric /* offset */, 3)))
        "#,
        host_name,
        offset,
        corrected,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns at most `limit` events, the latest first, with their places. `before` is the place of the last one of the
/// previous page.
pub async fn list(
    db: &Db,
    filter: &EventFilter,
    before: Option<i64>,
    limit: i64,
) -> DbResult<Vec<(i64, Event)>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT sequence, event_id, type AS kind, org_id, occurred_at, count, data
        FROM events
        WHERE ($1::text IS NULL OR org_id = $1 /* org_id */) AND ($2::text IS NULL OR type = $2 /* kind */)
          AND ($5::text IS NULL OR org_id = $5 /* within */)
          AND sequence < COALESCE($3 /* before */, 9223372036854775807)
        ORDER BY sequence DESC
        LIMIT $4 /* limit */
        "#,
        filter.org_id.as_deref(),
        filter.kind.map(EventType::as_str),
        before,
        limit,
        filter.within.as_deref(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.sequence, row.into())).collect())
}

/// An event and its place.
pub(super) struct Row {
    pub(super) sequence: i64,
    pub(super) event_id: Uuid,
    pub(super) kind: String,
    pub(super) org_id: Option<String>,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) count: i64,
    pub(super) data: Value,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        let Row { sequence: _, event_id, kind, org_id, occurred_at, count, data } = row;
        Self { event_id, kind, org_id, occurred_at, count, data }
    }
}

/// Deletes events that are older than `retention`, with their deliveries: at most `limit`. Returns their number.
pub async fn prune(db: &Db, retention: Duration, limit: i64) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        DELETE FROM events
        WHERE sequence IN (SELECT sequence FROM events ORDER BY sequence LIMIT $2 /* limit */)
          AND created_at < now() - make_interval(secs => $1 /* retention */)
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
