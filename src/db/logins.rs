//! Statements about logins at the built-in portal. The number in a login's row shows which of its refresh tokens are
//! spent.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};
use uuid::Uuid;

use super::{Db, DbResult};
use crate::domain::LoginEnd;
use crate::domain::login::{ListedLogin, Login, PresentedLogin};

struct PresentedRow {
    instance_id: String,
    org_id: String,
    sid: Option<String>,
    enabled: bool,
    ended_by: Option<LoginEnd>,
    ended_now: bool,
}

/// Records that the refresh token with this number was presented. The last presented token and its successor are valid;
/// presenting the successor spends the former. A higher number is valid too: it was issued before the database was
/// restored from a backup. A spent token ends the login. For an instance that is disabled or has no session, the number
/// does not advance, so that its tokens stay valid. `None`: unknown login.
///
/// `key_id` names the key of the token. The row keeps it: the agent has the token, but perhaps not yet its successor.
///
/// Safe to repeat. Concurrent calls for one login are serialized.
#[tracing::instrument(name = "db.logins.present", level = "debug", skip_all)]
pub async fn present(
    db: &Db,
    login_id: Uuid,
    number: i64,
    key_id: &[u8],
) -> DbResult<Option<PresentedLogin>> {
    let row = sqlx::query_as!(
        PresentedRow,
        r#"
        WITH found AS MATERIALIZED (
            SELECT l.login_id, l.number, l.ended_by, i.instance_id, i.org_id, i.enabled, i.bootstrap_session_id AS sid
            FROM logins l JOIN instances i USING (instance_id)
            WHERE l.login_id = $1
            FOR NO KEY UPDATE OF l
        ), judged AS (
            SELECT f.*, f.ended_by IS NULL AND $2 < f.number AS reused,
                   f.ended_by IS NULL AND $2 >= f.number AND f.enabled AND f.sid IS NOT NULL AS good
            FROM found f
        ), advanced AS (
            UPDATE logins l SET number = $2, key_id = $3, refreshed_at = now()
            FROM judged j WHERE l.login_id = j.login_id AND j.good
        ), ended AS (
            UPDATE logins l SET ended_at = now(), ended_by = 'reused'
            FROM judged j WHERE l.login_id = j.login_id AND j.reused
        )
        SELECT instance_id AS "instance_id!", org_id AS "org_id!", sid, enabled AS "enabled!",
               CASE WHEN reused THEN 'reused' ELSE ended_by END AS "ended_by: LoginEnd", reused AS "ended_now!"
        FROM judged
        "#,
        login_id,
        number,
        key_id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| PresentedLogin {
        instance_id: InstanceId::stored(row.instance_id),
        org_id: OrgId::stored(row.org_id),
        sid: row.sid.map(SessionId::stored),
        enabled: row.enabled,
        ended_by: row.ended_by,
        ended_now: row.ended_now,
    }))
}

/// Returns the instance's last login, ended or not.
pub async fn last(db: &Db, instance_id: &InstanceId) -> DbResult<Option<Login>> {
    Ok(sqlx::query_as!(
        Login,
        r#"
        SELECT login_id, key_id, number, created_at, refreshed_at, ended_at, ended_by AS "ended_by: LoginEnd"
        FROM logins WHERE instance_id = $1
        -- The open one first: two may be made in one instant of a clock.
        ORDER BY ended_at IS NOT NULL, created_at DESC LIMIT 1
        "#,
        instance_id.as_str(),
    )
    .fetch_optional(db)
    .await?)
}

struct ListedRow {
    instance_id: String,
    org_id: String,
    created_at: DateTime<Utc>,
    refreshed_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    ended_by: Option<LoginEnd>,
}

impl From<ListedRow> for ListedLogin {
    fn from(row: ListedRow) -> Self {
        let ListedRow { instance_id, org_id, created_at, refreshed_at, ended_at, ended_by } = row;
        let (login_id, key_id, number) = (Uuid::nil(), Vec::new(), 0);
        let login = Login { login_id, key_id, number, created_at, refreshed_at, ended_at, ended_by };
        Self { instance_id, org_id, login }
    }
}

/// Returns the last login of at most `limit` instances after `after`, ordered by instance; of one org or of all.
pub async fn list(
    db: &Db,
    org_id: Option<&OrgId>,
    after: Option<&str>,
    limit: i64,
) -> DbResult<Vec<ListedLogin>> {
    let after = after.unwrap_or_default();
    let rows = match org_id {
        Some(org_id) => {
            sqlx::query_as!(
                ListedRow,
                r#"
                SELECT i.instance_id, i.org_id, l.created_at, l.refreshed_at, l.ended_at,
                       l.ended_by AS "ended_by: LoginEnd"
                FROM instances i CROSS JOIN LATERAL (
                    SELECT * FROM logins l WHERE l.instance_id = i.instance_id
                    ORDER BY ended_at IS NOT NULL, created_at DESC LIMIT 1
                ) l
                WHERE i.org_id = $1 AND i.instance_id > $2 /* after */
                ORDER BY i.instance_id LIMIT $3 /* limit */
                "#,
                org_id.as_str(),
                after,
                limit,
            )
            .fetch_all(db)
            .await?
        }
        None => {
            sqlx::query_as!(
                ListedRow,
                r#"
                SELECT DISTINCT ON (l.instance_id) l.instance_id, i.org_id, l.created_at, l.refreshed_at, l.ended_at,
                       l.ended_by AS "ended_by: LoginEnd"
                FROM logins l JOIN instances i USING (instance_id)
                WHERE l.instance_id > $1 /* after */
                ORDER BY l.instance_id, l.ended_at IS NOT NULL, l.created_at DESC LIMIT $2 /* limit */
                "#,
                after,
                limit,
            )
            .fetch_all(db)
            .await?
        }
    };
    Ok(rows.into_iter().map(ListedLogin::from).collect())
}

/// Ends the open login of an instance, and its session: access tokens of the login become invalid. With `within`, an
/// instance of another org is unknown. Returns true if there was an open login, false if the last one had ended, and
/// `None` if the instance had none.
pub async fn revoke(db: &Db, instance_id: &InstanceId, within: Option<&OrgId>) -> DbResult<Option<bool>> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH owner AS MATERIALIZED (
            SELECT instance_id FROM instances
            WHERE instance_id = $1 AND ($2::text IS NULL OR org_id = $2 /* within */) FOR NO KEY UPDATE
        ), ended AS (
            UPDATE logins l SET ended_at = now(), ended_by = 'revoked'
            FROM owner o WHERE l.instance_id = o.instance_id AND l.ended_at IS NULL
            RETURNING l.instance_id
        ), signed_out AS (
            UPDATE instances i SET bootstrap_session_id = NULL, updated_at = now()
            FROM ended e WHERE i.instance_id = e.instance_id
        )
        SELECT EXISTS (SELECT FROM ended) AS "revoked!"
        FROM owner o WHERE EXISTS (SELECT FROM logins l WHERE l.instance_id = o.instance_id)
        "#,
        instance_id.as_str(),
        within.map(OrgId::as_str),
    )
    .fetch_optional(db)
    .await?)
}

/// Begins a login of an instance, durably, and ends the login `replaces`. With `session`, the instance gets that
/// bootstrap session, and access tokens of the old session become invalid. Fails with `Conflict` if the instance has
/// another open login. Returns true if the instance exists.
pub async fn begin(
    db: &Db,
    instance_id: &InstanceId,
    login_id: Uuid,
    key_id: &[u8],
    session: Option<&SessionId>,
    replaces: Option<Uuid>,
) -> DbResult<bool> {
    let mut transaction = db.begin().await?;
    let known = sqlx::query_scalar!(
        r#"
        UPDATE instances
        SET bootstrap_session_id = COALESCE($2, bootstrap_session_id), updated_at = now()
        WHERE instance_id = $1
        RETURNING true AS "known!"
        "#,
        instance_id.as_str(),
        session.map(SessionId::as_str),
    )
    .fetch_optional(&mut transaction)
    .await?;
    if known.is_some() {
        sqlx::query!(
            "UPDATE logins SET ended_at = now(), ended_by = 'replaced' WHERE login_id = $1 AND ended_at IS NULL",
            replaces,
        )
        .execute(&mut transaction)
        .await?;
        sqlx::query!(
            "INSERT INTO logins (login_id, instance_id, key_id) VALUES ($1, $2, $3)",
            login_id,
            instance_id.as_str(),
            key_id,
        )
        .execute(&mut transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(known.is_some())
}

/// Returns at most `limit` instances, in the order of their ids, whose open login has refresh tokens made with another
/// key than these. To a service with these keys, the tokens would look forged.
pub async fn of_other_keys(db: &Db, key_ids: &[Vec<u8>], limit: i64) -> DbResult<Vec<String>> {
    Ok(sqlx::query_scalar!(
        "SELECT instance_id FROM logins WHERE ended_at IS NULL AND key_id <> ALL($1) ORDER BY instance_id LIMIT $2",
        key_ids,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Returns the number of open logins for each key of their refresh tokens, by its ID.
pub async fn by_key(db: &Db) -> DbResult<Vec<(Vec<u8>, u64)>> {
    let rows = sqlx::query!(
        r#"SELECT key_id, count(*) AS "count!" FROM logins WHERE ended_at IS NULL GROUP BY key_id ORDER BY key_id"#,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key_id, row.count.unsigned_abs())).collect())
}

/// Returns at most `limit` instances whose last login was ended by the reuse of a refresh token.
pub async fn lost(db: &Db, limit: i64) -> DbResult<Vec<String>> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT DISTINCT instance_id FROM logins l
        WHERE ended_by = 'reused'
          AND NOT EXISTS (SELECT FROM logins o
                          WHERE o.instance_id = l.instance_id AND (o.ended_at IS NULL OR o.ended_at > l.ended_at))
        ORDER BY instance_id LIMIT $1
        "#,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Deletes logins that ended more than `retention` ago, whose tokens are then unknown. Keeps an ended login while its
/// instance has no open one: it shows that the next login needs a new session. Returns the number deleted.
pub async fn prune(db: &Db, retention: Duration) -> DbResult<u64> {
    let gone = sqlx::query!(
        r#"
        DELETE FROM logins l
        WHERE ended_at < now() - make_interval(secs => $1)
          AND EXISTS (SELECT FROM logins o WHERE o.instance_id = l.instance_id AND o.ended_at IS NULL)
        "#,
        retention.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}
