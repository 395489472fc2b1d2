//! Statements about admin tokens. A token is found by its hash, so the time of the search tells nothing about others.

use std::time::Duration;

use nas_cron_protocol::OrgId;

use super::{Db, DbResult};
use crate::domain::actor::Role;
use crate::domain::admin_token::{AdminToken, NewToken, TokenRights, ValidTokens};

/// Maximum age of the stored time of a token's last call, in seconds.
const TOUCH_SECONDS: f64 = 60.0;

/// Finds a token that is neither revoked nor expired, and records its use once a minute.
#[tracing::instrument(name = "db.admin_tokens.present", level = "debug", skip_all)]
pub async fn present(db: &Db, hash: &[u8; 32]) -> DbResult<Option<TokenRights>> {
    let row = sqlx::query!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT name, role, org_id, expires_at, last_used_at FROM admin_tokens
            WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
        ), used AS (
            UPDATE admin_tokens t SET last_used_at = now() FROM found f
            WHERE t.name = f.name AND COALESCE(f.last_used_at < now() - make_interval(secs => $2 /* touch */), true)
        )
        SELECT name, role AS "role: Role", org_id, expires_at FROM found
        "#,
        hash.as_slice(),
        TOUCH_SECONDS,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| TokenRights {
        name: row.name,
        role: row.role,
        org_id: row.org_id.map(OrgId::stored),
        expires_at: row.expires_at,
    }))
}

/// Returns true if a token exists that is neither revoked nor expired.
pub async fn any(db: &Db) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT FROM admin_tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        ) AS "any!"
        "#
    )
    .fetch_one(db)
    .await?)
}

/// Maximum number of names in [`ValidTokens`].
const NAMED: i64 = 5;

/// Counts the valid tokens, and names those that end within `soon`.
pub async fn valid(db: &Db, soon: Duration) -> DbResult<ValidTokens> {
    Ok(sqlx::query_as!(
        ValidTokens,
        r#"
        WITH valid AS MATERIALIZED (
            SELECT name, expires_at FROM admin_tokens
            WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        )
        SELECT (SELECT count(*) FROM valid) AS "count!",
               ARRAY(SELECT name FROM valid WHERE expires_at < now() + make_interval(secs => $1 /* soon */)
                     ORDER BY expires_at LIMIT $2) AS "end_soon!"
        "#,
        soon.as_secs_f64(),
        NAMED,
    )
    .fetch_one(db)
    .await?)
}

/// Stores a token. Fails with `Conflict` if the name was given before.
pub async fn create(db: &Db, new: &NewToken) -> DbResult<AdminToken> {
    Ok(sqlx::query_as!(
        AdminToken,
        r#"
        INSERT INTO admin_tokens (name, hash, role, org_id, expires_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6)
        RETURNING name, role AS "role: Role", org_id, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by
        "#,
        new.name.as_str(),
        new.hash.as_slice(),
        new.role as Role,
        new.org_id.as_ref().map(OrgId::as_str),
        new.expires_at,
        new.created_by,
    )
    .fetch_one(db)
    .await?)
}

/// Returns at most `limit` tokens after the name `after`, ordered by name; with `within`, only those that are limited to
/// this org.
pub async fn list(
    db: &Db,
    within: Option<&OrgId>,
    after: Option<&str>,
    limit: i64,
) -> DbResult<Vec<AdminToken>> {
    Ok(sqlx::query_as!(
        AdminToken,
        r#"
        SELECT name, role AS "role: Role", org_id, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by
        FROM admin_tokens
        WHERE ($1::text IS NULL OR org_id = $1) AND name > COALESCE($2, '')
        ORDER BY name
        LIMIT $3
        "#,
        within.map(OrgId::as_str),
        after,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Revokes a token, at once on every replica. Returns true if it was not revoked before, and `None` for an unknown name;
/// with `within`, every token that is not limited to this org is unknown.
pub async fn revoke(db: &Db, name: &str, within: Option<&OrgId>, revoked_by: &str) -> DbResult<Option<bool>> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT name, revoked_at FROM admin_tokens
            WHERE name = $1 AND ($2::text IS NULL OR org_id = $2)
            FOR NO KEY UPDATE
        ), revoked AS (
            UPDATE admin_tokens t SET revoked_at = now(), revoked_by = $3
            FROM found f WHERE t.name = f.name AND f.revoked_at IS NULL
        )
        SELECT revoked_at IS NULL AS "revoked!" FROM found
        "#,
        name,
        within.map(OrgId::as_str),
        revoked_by,
    )
    .fetch_optional(db)
    .await?)
}

/// Deletes tokens that were revoked or expired before `retention`. No line of the audit log mentions them any more.
pub async fn prune(db: &Db, retention: Duration) -> DbResult<u64> {
    let gone = sqlx::query!(
        "DELETE FROM admin_tokens WHERE LEAST(revoked_at, expires_at) < now() - make_interval(secs => $1)",
        retention.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}
