//! Statements about webhooks, as operators see them. [`deliveries`] has those of the loop that sends events.

pub mod deliveries;

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::Count;
use serde_json::Value;
use uuid::Uuid;

use super::{Db, DbResult, events};
use crate::domain::sealed::Sealed;
use crate::domain::webhook::{
    Delivery, DeliveryAttempt, DeliveryState, NewWebhook, Sent, Webhook, WebhookChange, WebhookEnd,
    WebhookState,
};

/// Maximum number of webhooks of an org, and of those without an org.
pub const MOST: i64 = 200;
/// Maximum number of webhooks in a list.
pub const LISTED: u32 = 1_000;
/// Maximum number of events that wait for a webhook and are counted.
const PENDING: i64 = 1_000;
/// Maximum number of attempts that a delivery shows.
const ATTEMPTS: i64 = 100;

struct Row {
    webhook_id: Uuid,
    url: String,
    description: Option<String>,
    org_id: Option<String>,
    types: Option<Vec<String>>,
    ended_by: Option<WebhookEnd>,
    ended_at: Option<DateTime<Utc>>,
    failing_since: Option<DateTime<Utc>>,
    failures: i32,
    next_attempt_at: DateTime<Utc>,
    last_status: Option<i16>,
    last_error: Option<String>,
    pending: i64,
    old_secret_until: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Webhook {
    fn from(row: Row) -> Self {
        let state = match row.ended_by {
            None => WebhookState::Enabled,
            Some(WebhookEnd::Operator) => WebhookState::Disabled,
            Some(WebhookEnd::Gone) => WebhookState::Gone,
            Some(WebhookEnd::Failing) => WebhookState::Failed,
        };
        let retries = state == WebhookState::Enabled && row.failures > 0;
        Self {
            webhook_id: row.webhook_id,
            url: row.url,
            description: row.description,
            org_id: row.org_id,
            types: row.types,
            state,
            ended_at: row.ended_at,
            failing_since: row.failing_since,
            failures: row.failures,
            next_attempt_at: retries.then_some(row.next_attempt_at),
            last_status: row.last_status,
            last_error: row.last_error,
            pending: row.pending,
            old_secret_until: row.old_secret_until,
            created_at: row.created_at,
        }
    }
}

/// Stores a webhook. Returns false, without a change, if its org has [`MOST`] already.
pub async fn insert(db: &Db, new: &NewWebhook) -> DbResult<bool> {
    let result = sqlx::query!(
        r#"
        INSERT INTO webhooks (webhook_id, url, description, org_id, types, secret_nonce, secret)
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE (SELECT count(*) FROM webhooks WHERE org_id IS NOT DISTINCT FROM $4) < $8 /* most */
        "#,
        new.webhook_id,
        new.url,
        new.description.as_deref(),
        new.org_id.as_deref(),
        new.types.as_deref(),
        new.secret.nonce,
        new.secret.ciphertext,
        MOST,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The webhooks of a list.
#[derive(Clone, Copy, Debug)]
pub enum Listed {
    /// All.
    All,
    /// Those that fail: the latest attempt has failed, or they have ended by themselves.
    Failing,
    /// The one with this id.
    One(Uuid),
}

/// Returns at most `limit` webhooks, the oldest first; with `org_id`, those of this org.
pub async fn list(db: &Db, org_id: Option<&str>, listed: Listed, limit: i64) -> DbResult<Vec<Webhook>> {
    let (webhook_id, only_failing) = match listed {
        Listed::All => (None, false),
        Listed::Failing => (None, true),
        Listed::One(webhook_id) => (Some(webhook_id), false),
    };
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT w.webhook_id AS "webhook_id!", w.url AS "url!", w.description, w.org_id, w.types,
               w.ended_by AS "ended_by: WebhookEnd", w.ended_at, w.failing_since, w.failures AS "failures!",
               w.next_attempt_at AS "next_attempt_at!", w.last_status, w.last_error,
               (SELECT count(*) FROM (
                    SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'pending'
                    LIMIT $5 /* pending */) s) AS "pending!",
               CASE WHEN w.old_secret_until > now() THEN w.old_secret_until END AS old_secret_until,
               w.created_at AS "created_at!"
        FROM (
            (SELECT * FROM webhooks WHERE $2::uuid IS NOT NULL AND webhook_id = $2 /* webhook_id */
                                      AND ($1::text IS NULL OR org_id = $1 /* org_id */))
            UNION ALL
            (SELECT * FROM webhooks WHERE $2 IS NULL AND NOT $3 AND $1 IS NULL ORDER BY created_at, webhook_id LIMIT $4 /* limit */)
            UNION ALL
            (SELECT * FROM webhooks WHERE $2 IS NULL AND NOT $3 AND org_id = $1 ORDER BY created_at, webhook_id LIMIT $4)
            UNION ALL
            (SELECT * FROM webhooks
             WHERE $2 IS NULL AND $3 /* only_failing */ AND (failures > 0 OR ended_by IN ('failing', 'gone'))
               AND ($1 IS NULL OR org_id = $1)
             ORDER BY created_at, webhook_id LIMIT $4)
        ) w
        ORDER BY w.created_at, w.webhook_id
        "#,
        org_id,
        webhook_id,
        only_failing,
        limit,
        PENDING,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Webhook::from).collect())
}

/// Returns the number of webhooks, counted up to [`LISTED`], and at most `limit` of those that fail; with `org_id`, of this org.
pub async fn failing(db: &Db, org_id: Option<&str>, limit: i64) -> DbResult<(Count, Vec<Webhook>)> {
    let count = sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "count!" FROM (
            SELECT FROM webhooks WHERE $1::text IS NULL OR org_id = $1 /* org_id */ LIMIT $2 /* listed */) s
        "#,
        org_id,
        i64::from(LISTED),
    )
    .fetch_one(db)
    .await?;
    Ok((Count::up_to(count, i64::from(LISTED)), list(db, org_id, Listed::Failing, limit).await?))
}

/// Changes a webhook. Another URL, and enabling it, start anew: its next attempt is due at once. Returns false if there is
/// no such webhook.
pub async fn update(
    db: &Db,
    webhook_id: Uuid,
    org_id: Option<&str>,
    change: &WebhookChange,
) -> DbResult<bool> {
    let anew = change.enabled == Some(true) || change.url.is_some();
    let result = sqlx::query!(
        r#"
        UPDATE webhooks w
        SET url = COALESCE($3 /* url */, w.url),
            description = CASE WHEN $4 /* keep_description */ THEN w.description ELSE $5 END,
            types = CASE WHEN $6 /* keep_types */ THEN w.types ELSE $7 END,
            ended_by = CASE WHEN $8 /* enabled */ THEN NULL WHEN NOT $8 THEN COALESCE(w.ended_by, 'operator') ELSE w.ended_by END,
            ended_at = CASE WHEN $8 THEN NULL WHEN NOT $8 THEN COALESCE(w.ended_at, now()) ELSE w.ended_at END,
            failures = CASE WHEN $9 /* anew */ THEN 0 ELSE w.failures END,
            failing_since = CASE WHEN $9 THEN NULL ELSE w.failing_since END,
            next_attempt_at = CASE WHEN $9 THEN now() ELSE w.next_attempt_at END,
            updated_at = now()
        WHERE w.webhook_id = $1 AND ($2::text IS NULL OR w.org_id = $2 /* org_id */)
        "#,
        webhook_id,
        org_id,
        change.url.as_deref(),
        change.description.is_keep(),
        change.description.value(),
        change.types.is_keep(),
        change.types.value().map(Vec::as_slice),
        change.enabled,
        anew,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Deletes a webhook with its deliveries. Returns false if there is no such webhook.
pub async fn delete(db: &Db, webhook_id: Uuid, org_id: Option<&str>) -> DbResult<bool> {
    let result = sqlx::query!(
        "DELETE FROM webhooks WHERE webhook_id = $1 AND ($2::text IS NULL OR org_id = $2 /* org_id */)",
        webhook_id,
        org_id,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Replaces the secret of a webhook. The previous one stays valid for `overlap`; one before it does not. Returns the end
/// of that time; `None` if there is no such webhook.
pub async fn rotate_secret(
    db: &Db,
    webhook_id: Uuid,
    org_id: Option<&str>,
    secret: &Sealed,
    overlap: Duration,
) -> DbResult<Option<DateTime<Utc>>> {
    let until = sqlx::query_scalar!(
        r#"
        UPDATE webhooks
        SET old_secret_nonce = secret_nonce, old_secret = secret, old_secret_until = now() + make_interval(secs => $5 /* overlap */),
            secret_nonce = $3, secret = $4, updated_at = now()
        WHERE webhook_id = $1 AND ($2::text IS NULL OR org_id = $2 /* org_id */)
        RETURNING old_secret_until AS "until!"
        "#,
        webhook_id,
        org_id,
        secret.nonce,
        secret.ciphertext,
        overlap.as_secs_f64(),
    )
    .fetch_optional(db)
    .await?;
    Ok(until)
}

/// Returns the secrets of a webhook that sign, the current one first. Empty: there is no such webhook.
pub async fn secrets(db: &Db, webhook_id: Uuid) -> DbResult<Vec<Sealed>> {
    let row = sqlx::query!(
        r#"
        SELECT secret_nonce, secret,
               CASE WHEN old_secret_until > now() THEN old_secret_nonce END AS old_nonce,
               CASE WHEN old_secret_until > now() THEN old_secret END AS old_secret
        FROM webhooks WHERE webhook_id = $1
        "#,
        webhook_id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row
        .map(|row| sealed(row.secret_nonce, row.secret, row.old_nonce.zip(row.old_secret)))
        .unwrap_or_default())
}

/// Returns the secrets in the order in which they sign.
fn sealed(nonce: Vec<u8>, secret: Vec<u8>, old: Option<(Vec<u8>, Vec<u8>)>) -> Vec<Sealed> {
    let all = std::iter::once((nonce, secret)).chain(old);
    all.map(|(nonce, ciphertext)| Sealed { nonce, ciphertext }).collect()
}

/// Returns at most `limit` deliveries, the latest event first, with the places of their events: those of a webhook, or
/// those of an event.
pub async fn list_deliveries(
    db: &Db,
    webhook_id: Option<Uuid>,
    event_id: Option<Uuid>,
    before: Option<i64>,
    limit: i64,
) -> DbResult<Vec<(Uuid, i64, Delivery)>> {
    let rows = sqlx::query!(
        r#"
        SELECT d.webhook_id, d.state AS "state: DeliveryState", e.sequence, e.event_id, e.type AS kind, e.org_id,
               e.occurred_at, e.count, e.data,
               COALESCE((SELECT jsonb_agg(jsonb_build_object('attempt', a.attempt, 'started_at', a.started_at,
                                'duration_ms', a.duration_ms, 'status', a.http_status, 'error', a.error)
                                ORDER BY a.attempt DESC)
                         FROM (SELECT * FROM webhook_attempts a
                               WHERE a.webhook_id = d.webhook_id AND a.sequence = d.sequence
                               ORDER BY a.attempt DESC LIMIT $5 /* attempts */) a), '[]') AS "attempts!"
        FROM webhook_deliveries d JOIN events e USING (sequence)
        WHERE ($1::uuid IS NULL OR d.webhook_id = $1 /* webhook_id */) AND ($2::uuid IS NULL OR e.event_id = $2 /* event_id */)
          AND d.sequence < COALESCE($3 /* before */, 9223372036854775807)
        ORDER BY d.sequence DESC
        LIMIT $4 /* limit */
        "#,
        webhook_id,
        event_id,
        before,
        limit,
        ATTEMPTS,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let event = events::Row {
                sequence: row.sequence,
                event_id: row.event_id,
                kind: row.kind,
                org_id: row.org_id,
                occurred_at: row.occurred_at,
                count: row.count,
                data: row.data,
            };
            let delivery =
                Delivery { event: event.into(), state: row.state, attempts: attempts(row.attempts) };
            (row.webhook_id, row.sequence, delivery)
        })
        .collect())
}

fn attempts(stored: Value) -> Vec<DeliveryAttempt> {
    // Written by the statement above.
    serde_json::from_value(stored).unwrap_or_default()
}

/// Stores a test event, which is for this webhook only, and its attempt. An accepted one ends a back-off. Returns false if
/// the webhook was deleted meanwhile.
pub async fn record_test(
    db: &Db,
    webhook_id: Uuid,
    event_id: Uuid,
    data: &Value,
    sent: &Sent,
) -> DbResult<bool> {
    let stored = sqlx::query_scalar!(
        r#"
        WITH webhook AS (
            UPDATE webhooks w
            SET last_status = $6 /* status */, last_error = $7 /* error */,
                failures = CASE WHEN $7::text IS NULL THEN 0 ELSE w.failures END,
                failing_since = CASE WHEN $7 IS NULL THEN NULL ELSE w.failing_since END,
                next_attempt_at = CASE WHEN $7 IS NULL THEN now() ELSE w.next_attempt_at END
            WHERE w.webhook_id = $1
            RETURNING w.webhook_id, w.org_id
        ), event AS (
            INSERT INTO events (event_id, type, org_id, occurred_at, last_at, count, data)
            SELECT $2 /* event_id */, 'webhook.tested', org_id, $4 /* started_at */, $4, 1, $3 /* data */ FROM webhook
            RETURNING sequence
        ), delivery AS (
            INSERT INTO webhook_deliveries (webhook_id, sequence, state, attempts, tried_since)
            SELECT $1, sequence, CASE WHEN $7 IS NULL THEN 'delivered' ELSE 'refused' END::delivery_state, 1, $4 FROM event
            RETURNING sequence
        ), attempt AS (
            INSERT INTO webhook_attempts (webhook_id, sequence, attempt, started_at, duration_ms, http_status, error)
            SELECT $1, sequence, 1, $4, $5 /* duration_ms */, $6, $7 FROM delivery
            RETURNING 1
        )
        SELECT EXISTS (SELECT FROM attempt) AS "stored!"
        "#,
        webhook_id,
        event_id,
        data,
        sent.started_at,
        millis(sent.took),
        sent.status.map(u16::cast_signed),
        sent.error.as_deref(),
    )
    .fetch_one(db)
    .await?;
    Ok(stored)
}

fn millis(length: Duration) -> i32 {
    i32::try_from(length.as_millis()).unwrap_or(i32::MAX)
}

/// Makes an event pending again for a webhook, or for the first time if the event was not for it. The next attempt is due
/// at once. Returns false if there is no such event in the webhook's scope.
pub async fn redeliver(db: &Db, webhook_id: Uuid, event_id: Uuid) -> DbResult<bool> {
    let queued = sqlx::query_scalar!(
        r#"
        WITH queued AS (
            INSERT INTO webhook_deliveries AS d (webhook_id, sequence)
            SELECT w.webhook_id, e.sequence
            FROM webhooks w JOIN events e ON e.org_id IS NOT DISTINCT FROM w.org_id
            WHERE w.webhook_id = $1 AND e.event_id = $2 /* event_id */
            ON CONFLICT (webhook_id, sequence) DO UPDATE SET state = 'pending', tried_since = NULL
            RETURNING d.webhook_id
        ), due AS (
            UPDATE webhooks w SET next_attempt_at = now() FROM queued q WHERE w.webhook_id = q.webhook_id
        )
        SELECT EXISTS (SELECT FROM queued) AS "queued!"
        "#,
        webhook_id,
        event_id,
    )
    .fetch_one(db)
    .await?;
    Ok(queued)
}
