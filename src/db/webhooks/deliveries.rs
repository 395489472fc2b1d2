//! Statements about deliveries: the lease of a webhook for one attempt, and the outcome. A webhook has one attempt in
//! flight, over all replicas, and gets its events in their order.

use std::time::Duration;

use uuid::Uuid;

use super::{millis, sealed};
use crate::db::seconds::duration;
use crate::db::{Db, DbResult, events};
use crate::domain::webhook::{DeliveryState, Due, Outcome, Sent, WebhookEnd};

/// Leases at most `limit` webhooks whose next attempt is due, the longest due first, each with its first pending event.
pub async fn claim(db: &Db, limit: i64, lease: Duration) -> DbResult<Vec<Due>> {
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT w.webhook_id FROM webhooks w
            WHERE w.ended_by IS NULL AND w.next_attempt_at <= now() AND (w.lease_until > now()) IS NOT TRUE
              AND EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'pending')
            ORDER BY w.next_attempt_at
            LIMIT $1 /* limit */
            FOR NO KEY UPDATE OF w SKIP LOCKED
        ), leased AS (
            UPDATE webhooks w
            SET lease_token = gen_random_uuid(), lease_until = clock_timestamp() + make_interval(secs => $2 /* lease */)
            FROM due WHERE w.webhook_id = due.webhook_id
            RETURNING w.*
        )
        SELECT l.webhook_id AS "webhook_id!", l.url AS "url!", l.lease_token AS "lease_token!", l.secret_nonce AS "secret_nonce!",
               l.secret AS "secret!", CASE WHEN l.old_secret_until > now() THEN l.old_secret_nonce END AS old_nonce,
               CASE WHEN l.old_secret_until > now() THEN l.old_secret END AS old_secret, l.failures AS "failures!",
               COALESCE(extract(epoch FROM now() - l.failing_since), 0)::float8 AS "failing_for!",
               COALESCE(extract(epoch FROM now() - d.tried_since), 0)::float8 AS "tried_for!",
               e.sequence, e.event_id, e.type AS kind, e.org_id, e.occurred_at, e.count, e.data
        FROM leased l CROSS JOIN LATERAL (
            SELECT d.sequence, d.tried_since FROM webhook_deliveries d
            WHERE d.webhook_id = l.webhook_id AND d.state = 'pending'
            ORDER BY d.sequence LIMIT 1
        ) d JOIN events e ON e.sequence = d.sequence
        "#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Due {
            webhook_id: row.webhook_id,
            url: row.url,
            lease_token: row.lease_token,
            secrets: sealed(row.secret_nonce, row.secret, row.old_nonce.zip(row.old_secret)),
            failures: row.failures.unsigned_abs(),
            failing_for: duration(row.failing_for),
            tried_for: duration(row.tried_for),
            sequence: row.sequence,
            event: events::Row {
                sequence: row.sequence,
                event_id: row.event_id,
                kind: row.kind,
                org_id: row.org_id,
                occurred_at: row.occurred_at,
                count: row.count,
                data: row.data,
            }
            .into(),
        })
        .collect())
}

/// Records an attempt, and ends the lease. Returns false if the lease was no longer held: the attempt is repeated.
pub async fn record(db: &Db, due: &Due, sent: &Sent, outcome: &Outcome) -> DbResult<bool> {
    let recorded = sqlx::query_scalar!(
        r#"
        WITH held AS (
            UPDATE webhooks w
            SET lease_token = NULL, lease_until = NULL,
                failures = CASE WHEN $5 /* accepted */ THEN 0 ELSE w.failures + 1 END,
                failing_since = CASE WHEN $5 THEN NULL ELSE COALESCE(w.failing_since, now()) END,
                next_attempt_at = now() + make_interval(secs => $6 /* next_in */),
                -- An operator may have disabled it meanwhile.
                ended_at = CASE WHEN w.ended_by IS NULL AND $7::webhook_end /* ends */ IS NOT NULL THEN now() ELSE w.ended_at END,
                ended_by = COALESCE(w.ended_by, $7),
                last_status = $10 /* status */, last_error = $11 /* error */
            WHERE w.webhook_id = $1 /* webhook_id */ AND w.lease_token = $2 /* lease_token */
            RETURNING w.webhook_id
        ), ended AS (
            UPDATE webhook_deliveries d
            SET state = $4 /* state */, attempts = d.attempts + 1, tried_since = COALESCE(d.tried_since, now())
            FROM held h WHERE d.webhook_id = h.webhook_id AND d.sequence = $3 /* sequence */
            RETURNING d.webhook_id, d.sequence, d.attempts
        ), attempt AS (
            INSERT INTO webhook_attempts (webhook_id, sequence, attempt, started_at, duration_ms, http_status, error)
            SELECT e.webhook_id, e.sequence, e.attempts, $8 /* started_at */, $9 /* duration_ms */, $10, $11 FROM ended e
        )
        SELECT EXISTS (SELECT FROM held) AS "recorded!"
        "#,
        due.webhook_id,
        due.lease_token,
        due.sequence,
        outcome.state as DeliveryState,
        outcome.accepted,
        outcome.next_in.as_secs_f64(),
        outcome.ends as Option<WebhookEnd>,
        sent.started_at,
        millis(sent.took),
        sent.status.map(u16::cast_signed),
        sent.error.as_deref(),
    )
    .fetch_one(db)
    .await?;
    Ok(recorded)
}

/// Ends the lease of a webhook whose attempt was not made. It is due again after `delay`.
pub async fn give_back(db: &Db, webhook_id: Uuid, lease_token: Uuid, delay: Duration) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE webhooks
        SET lease_token = NULL, lease_until = NULL, next_attempt_at = now() + make_interval(secs => $3 /* delay */)
        WHERE webhook_id = $1 AND lease_token = $2
        "#,
        webhook_id,
        lease_token,
        delay.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}
