//! Statements about sessions of operators. A session is found by the hash of its ID, so the time of the search tells nothing
//! about others.

use std::time::Duration;

use nas_cron_protocol::OrgId;
use uuid::Uuid;

use super::{Db, DbResult};
use crate::domain::actor::Role;
use crate::domain::admin_token::TokenRights;
use crate::domain::audit::AuditOutcome;
use crate::domain::operator_session::{OpenSession, SignedIn, Submission};

/// Maximum number of sessions of one token. The oldest one ends for a new one.
const SESSIONS_PER_TOKEN: i64 = 20;
/// Maximum number of sessions and links that have ended and are deleted with a new one.
const EXPIRED: i64 = 1_000;
/// Maximum number of submissions that are kept of a session.
const SUBMISSIONS: i64 = 200;
/// Maximum age of the stored end of a session that is in use, in seconds.
const TOUCH_SECONDS: f64 = 60.0;

/// The lifetime of a session.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// Time without use after which it ends.
    pub idle: Duration,
    /// Time after which it ends, however much it is used.
    pub absolute: Duration,
}

/// Stores a session, and deletes those that have ended and the oldest of the token beyond its limit.
pub async fn open(
    db: &Db,
    session_hash: &[u8; 32],
    signed_in: &SignedIn,
    lifetime: Lifetime,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        WITH expired AS (
            DELETE FROM operator_sessions WHERE session_hash IN (
                SELECT session_hash FROM operator_sessions WHERE expires_at < now() ORDER BY expires_at LIMIT $6
                FOR UPDATE SKIP LOCKED)
        ), surplus AS (
            DELETE FROM operator_sessions WHERE session_hash IN (
                SELECT session_hash FROM operator_sessions WHERE token_hash = $2
                ORDER BY opened_at DESC, session_hash OFFSET $7::int8 - 1 LIMIT $6
                FOR UPDATE SKIP LOCKED)
        )
        INSERT INTO operator_sessions (session_hash, token_hash, of_config, expires_at, closes_at)
        VALUES ($1, $2, $3, now() + LEAST(make_interval(secs => $4), make_interval(secs => $5)),
                now() + make_interval(secs => $5))
        "#,
        session_hash.as_slice(),
        signed_in.token_hash.as_slice(),
        signed_in.of_config,
        lifetime.idle.as_secs_f64(),
        lifetime.absolute.as_secs_f64(),
        EXPIRED,
        SESSIONS_PER_TOKEN,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Finds a session that has not ended and whose token is valid. With `in_use`, its end moves to `idle` from now, at most once
/// a minute, and so does the time of the token's last call.
#[tracing::instrument(name = "db.operator_sessions.find", level = "debug", skip_all)]
pub async fn find(
    db: &Db,
    session_hash: &[u8; 32],
    idle: Duration,
    in_use: bool,
) -> DbResult<Option<OpenSession>> {
    let row = sqlx::query!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT s.session_hash, s.token_hash, s.of_config, s.expires_at AS ends_at, s.closes_at,
                   t.name, t.role, t.org_id, t.expires_at
            FROM operator_sessions s LEFT JOIN admin_tokens t ON t.hash = s.token_hash AND NOT s.of_config
            WHERE s.session_hash = $1 AND s.expires_at > clock_timestamp()
              AND (s.of_config OR (t.name IS NOT NULL AND t.revoked_at IS NULL
                                   AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())))
        ), used AS (
            UPDATE operator_sessions s SET expires_at = LEAST(f.closes_at, now() + make_interval(secs => $2))
            FROM found f
            WHERE $3 AND s.session_hash = f.session_hash
              AND f.ends_at < LEAST(f.closes_at, now() + make_interval(secs => $2) - make_interval(secs => $4))
        ), token_used AS (
            UPDATE admin_tokens t SET last_used_at = now() FROM found f
            WHERE $3 AND t.name = f.name
              AND COALESCE(t.last_used_at < now() - make_interval(secs => $4), true)
        )
        SELECT token_hash, of_config, closes_at, name AS "name?", role AS "role?: Role", org_id AS "org_id?",
               expires_at AS "expires_at?", now() AS "now!"
        FROM found
        "#,
        session_hash.as_slice(),
        idle.as_secs_f64(),
        in_use,
        TOUCH_SECONDS,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| OpenSession {
        signed_in: signed_in(&row.token_hash, row.of_config),
        rights: row.name.zip(row.role).map(|(name, role)| TokenRights {
            name,
            role,
            org_id: row.org_id.map(OrgId::stored),
            expires_at: row.expires_at,
        }),
        closes_at: row.closes_at,
        now: row.now,
    }))
}

fn signed_in(token_hash: &[u8], of_config: bool) -> SignedIn {
    let token_hash = token_hash.try_into().expect("the schema checks the length");
    SignedIn { token_hash, of_config }
}

/// Ends a session, with all that it has sent.
pub async fn close(db: &Db, session_hash: &[u8; 32]) -> DbResult<()> {
    sqlx::query!("DELETE FROM operator_sessions WHERE session_hash = $1", session_hash.as_slice())
        .execute(db)
        .await?;
    Ok(())
}

/// Stores a link that signs in once within `valid_for`, and deletes links that have expired.
pub async fn create_link(
    db: &Db,
    link_hash: &[u8; 32],
    signed_in: &SignedIn,
    valid_for: Duration,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        WITH expired AS (
            DELETE FROM operator_sign_in_links WHERE expires_at < now()
        )
        INSERT INTO operator_sign_in_links (link_hash, token_hash, of_config, expires_at)
        VALUES ($1, $2, $3, now() + make_interval(secs => $4))
        "#,
        link_hash.as_slice(),
        signed_in.token_hash.as_slice(),
        signed_in.of_config,
        valid_for.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Uses up a link. Returns the token that it signs in; `None` if it is unknown, was used or has expired.
pub async fn take_link(db: &Db, link_hash: &[u8; 32]) -> DbResult<Option<SignedIn>> {
    let row = sqlx::query!(
        r#"
        DELETE FROM operator_sign_in_links WHERE link_hash = $1
        RETURNING token_hash, of_config, expires_at > clock_timestamp() AS "valid!"
        "#,
        link_hash.as_slice(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.filter(|row| row.valid).map(|row| signed_in(&row.token_hash, row.of_config)))
}

/// Records that a session has sent a form. Returns false if it has sent it before, or has ended. The oldest submissions
/// beyond the limit are deleted.
pub async fn submit(db: &Db, session_hash: &[u8; 32], submission_id: Uuid) -> DbResult<bool> {
    let new = sqlx::query_scalar!(
        r#"
        WITH surplus AS (
            DELETE FROM operator_submissions WHERE session_hash = $1 AND submission_id IN (
                SELECT submission_id FROM operator_submissions WHERE session_hash = $1
                ORDER BY sent_at DESC OFFSET $3)
        )
        INSERT INTO operator_submissions (session_hash, submission_id)
        SELECT session_hash, $2 FROM operator_sessions WHERE session_hash = $1
        ON CONFLICT (session_hash, submission_id) DO NOTHING
        RETURNING true AS "new!"
        "#,
        session_hash.as_slice(),
        submission_id,
        SUBMISSIONS,
    )
    .fetch_optional(db)
    .await?;
    Ok(new.unwrap_or(false))
}

/// Records the outcome of a submission.
pub async fn answer(db: &Db, session_hash: &[u8; 32], answered: &Submission) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE operator_submissions SET outcome = $3, answer = left($4, 2000), changed = $5, next = $6
        WHERE session_hash = $1 AND submission_id = $2
        "#,
        session_hash.as_slice(),
        answered.submission_id,
        answered.outcome as AuditOutcome,
        answered.answer,
        answered.changed,
        answered.next,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Finds a submission of a session.
pub async fn submission(
    db: &Db,
    session_hash: &[u8; 32],
    submission_id: Uuid,
) -> DbResult<Option<Submission>> {
    Ok(sqlx::query_as!(
        Submission,
        r#"
        SELECT submission_id, outcome AS "outcome: AuditOutcome", answer, changed, next
        FROM operator_submissions WHERE session_hash = $1 AND submission_id = $2
        "#,
        session_hash.as_slice(),
        submission_id,
    )
    .fetch_optional(db)
    .await?)
}

/// Deletes at most `limit` sessions that have ended. Returns the number deleted.
pub async fn prune(db: &Db, limit: i64) -> DbResult<u64> {
    let gone = sqlx::query!(
        r#"
        WITH links AS (
            DELETE FROM operator_sign_in_links WHERE expires_at < now()
        )
        DELETE FROM operator_sessions WHERE session_hash IN (
            SELECT session_hash FROM operator_sessions WHERE expires_at < now() ORDER BY expires_at LIMIT $1)
        "#,
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}
