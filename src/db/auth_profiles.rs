//! Statements about the known auth profiles and the defaults of places.

use nas_cron_protocol::{AuthChoice, AuthPlace, AuthProfile, AuthScope, Given, OrgId};
use serde_json::Value;

use super::columns::Word;
use super::{Db, DbError, DbResult};
use crate::domain::job_auth::{AuthEntry, EntryPlace};

struct EntryRow {
    scope: AuthScope,
    scope_id: String,
    auth: Value,
    is_default: bool,
}

impl From<EntryRow> for AuthEntry {
    fn from(row: EntryRow) -> Self {
        let auth = AuthChoice::stored(row.auth);
        Self { scope: row.scope, scope_id: row.scope_id, auth, default: row.is_default }
    }
}

/// Returns the entries of these places, at most `limit`, ordered by place and profile.
pub async fn entries(db: &Db, places: &[AuthPlace], limit: i64) -> DbResult<Vec<AuthEntry>> {
    let scopes: Vec<&str> = places.iter().map(|place| place.scope().as_str()).collect();
    let ids: Vec<&str> = places.iter().map(AuthPlace::id).collect();
    let rows = sqlx::query_as!(
        EntryRow,
        r#"
        SELECT e.scope AS "scope!: Word<AuthScope>", e.scope_id AS "scope_id!", e.auth AS "auth!", e.is_default AS "is_default!"
        FROM unnest($1::text[], $2::text[]) AS p(scope, scope_id)
        -- Each place by its key, however many there are in all.
        CROSS JOIN LATERAL (
            SELECT k.scope, k.scope_id, to_jsonb(k.auth) AS auth, false AS is_default FROM auth_profiles k
            WHERE k.scope = p.scope::auth_scope AND k.scope_id = p.scope_id
            UNION ALL
            SELECT d.scope, d.scope_id, d.auth, true FROM auth_defaults d
            WHERE d.scope = p.scope::auth_scope AND d.scope_id = p.scope_id
        ) e
        ORDER BY e.scope, e.scope_id, e.auth, e.is_default
        LIMIT $3
        "#,
        &scopes as &[&str],
        &ids as &[&str],
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AuthEntry::from).collect())
}

/// Returns at most `limit` entries of all places after `after`, ordered by scope and ID; of each place the known profiles
/// first, then its default.
pub async fn all_entries(db: &Db, after: &EntryPlace, limit: i64) -> DbResult<Vec<AuthEntry>> {
    let rows = sqlx::query_as!(
        EntryRow,
        r#"
        SELECT e.scope AS "scope!: Word<AuthScope>", e.scope_id AS "scope_id!", e.auth AS "auth!", e.is_default AS "is_default!"
        FROM (
            (SELECT k.scope, k.scope_id, to_jsonb(k.auth) AS auth, false AS is_default, k.auth AS name FROM auth_profiles k
             WHERE (k.scope, k.scope_id, k.auth) > ($1, $2, $3 /* after */)
               AND NOT ($4 /* after_default */ AND k.scope = $1 AND k.scope_id = $2)
             -- By the column: `auth` alone would be the JSON of the result, which no index has.
             ORDER BY k.scope, k.scope_id, k.auth LIMIT $5)
            UNION ALL
            (SELECT scope, scope_id, auth, true, '' FROM auth_defaults
             WHERE (scope, scope_id) >= ($1, $2) AND NOT ($4 AND scope = $1 AND scope_id = $2)
             ORDER BY scope, scope_id LIMIT $5)
        ) e
        ORDER BY e.scope, e.scope_id, e.is_default, e.name
        LIMIT $5 /* limit */
        "#,
        Word(after.scope) as Word<AuthScope>,
        after.scope_id,
        after.name,
        after.default,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AuthEntry::from).collect())
}

/// Returns the same for an org and its agents. Each place is read by its key, however many other orgs there are.
pub async fn entries_of_org(
    db: &Db,
    org_id: &OrgId,
    after: &EntryPlace,
    limit: i64,
) -> DbResult<Vec<AuthEntry>> {
    let rows = sqlx::query_as!(
        EntryRow,
        r#"
        SELECT e.scope AS "scope!: Word<AuthScope>", e.scope_id AS "scope_id!", e.auth AS "auth!", e.is_default AS "is_default!"
        FROM (
            SELECT k.scope, k.scope_id, to_jsonb(k.auth) AS auth, false AS is_default, k.auth AS name
            FROM auth_profiles k WHERE k.scope = 'org' AND k.scope_id = $6 /* org_id */
            UNION ALL
            SELECT d.scope, d.scope_id, d.auth, true, '' FROM auth_defaults d WHERE d.scope = 'org' AND d.scope_id = $6
            UNION ALL
            (SELECT 'instance', i.instance_id, e.auth, e.is_default, e.name
             FROM instances i CROSS JOIN LATERAL (
                 SELECT to_jsonb(k.auth) AS auth, false AS is_default, k.auth AS name
                 FROM auth_profiles k WHERE k.scope = 'instance' AND k.scope_id = i.instance_id
                 UNION ALL
                 SELECT d.auth, true, '' FROM auth_defaults d WHERE d.scope = 'instance' AND d.scope_id = i.instance_id
             ) e
             WHERE i.org_id = $6 AND i.instance_id >= CASE WHEN $1 = 'instance'::auth_scope THEN $2 ELSE '' END
               AND ('instance'::auth_scope, i.instance_id, e.is_default, e.name) > ($1, $2, $4, $3)
             -- In the order of the index, so that it stops at the limit.
             ORDER BY i.instance_id, e.is_default, e.name LIMIT $5)
        ) e
        WHERE (e.scope, e.scope_id, e.is_default, e.name) > ($1, $2, $4 /* after_default */, $3 /* after */)
        ORDER BY e.scope, e.scope_id, e.is_default, e.name
        LIMIT $5 /* limit */
        "#,
        Word(after.scope) as Word<AuthScope>,
        after.scope_id,
        after.name,
        after.default,
        limit,
        org_id.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AuthEntry::from).collect())
}

/// Replaces the known profiles of a place, if `profiles` is given, and sets its default. Returns true if the place
/// exists; for an unknown instance, nothing changes. With `within`, every instance of another org is unknown.
///
/// Concurrent calls for one place do not mix: while one is in progress, others fail at once with
/// [`DbError::Contended`]. A retry holds no connection while it waits, and replaces what the first call has committed.
pub async fn put(
    db: &Db,
    place: &AuthPlace,
    profiles: Option<&[AuthProfile]>,
    default: &Given<AuthChoice>,
    within: Option<&OrgId>,
) -> DbResult<bool> {
    let profiles: Option<Vec<&str>> =
        profiles.map(|profiles| profiles.iter().map(AuthProfile::as_str).collect());
    let mut transaction = db.begin().await?;
    let there = sqlx::query_scalar!(
        r#"
        SELECT CASE WHEN $1 = 'instance'
                    -- Locked, so that it is not deleted under its new rows.
                    THEN EXISTS (SELECT FROM instances
                                 WHERE instance_id = $2 AND ($3::text IS NULL OR org_id = $3 /* within */)
                                 FOR KEY SHARE)
                    ELSE true END AS "there!"
        FROM pg_try_advisory_xact_lock(hashtextextended('auth_profiles ' || $1 || ' ' || $2, 0)) AS own
        WHERE own
        "#,
        place.scope().as_str(),
        place.id(),
        within.map(OrgId::as_str),
    )
    .fetch_optional(&mut transaction)
    .await?;
    match there {
        None => {
            return Err(DbError::Contended("another call is changing the same auth profiles".into()));
        }
        Some(false) => return Ok(false),
        Some(true) => {}
    }
    sqlx::query!(
        r#"
        WITH dropped AS (
            DELETE FROM auth_profiles WHERE scope = $1 AND scope_id = $2 AND auth <> ALL ($3::text[])
        ), added AS (
            INSERT INTO auth_profiles (scope, scope_id, auth)
            SELECT DISTINCT $1, $2, auth FROM unnest($3::text[]) AS given(auth)
            ON CONFLICT (scope, scope_id, auth) DO NOTHING
        ), cleared AS (
            DELETE FROM auth_defaults WHERE scope = $1 AND scope_id = $2 AND $4 AND $5::jsonb IS NULL
        )
        INSERT INTO auth_defaults (scope, scope_id, auth)
        SELECT $1, $2, $5 WHERE $5::jsonb IS NOT NULL
        ON CONFLICT (scope, scope_id) DO UPDATE SET auth = excluded.auth
        "#,
        Word(place.scope()) as Word<AuthScope>,
        place.id(),
        profiles.as_deref() as Option<&[&str]>,
        !default.is_keep(),
        default.value().map(AuthChoice::to_json),
    )
    .execute(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Deletes the known profiles of a place, or only those in `only`. The default stays. Returns the number deleted. With
/// `within`, an instance of another org has none.
pub async fn forget(
    db: &Db,
    place: &AuthPlace,
    only: Option<&[AuthProfile]>,
    within: Option<&OrgId>,
) -> DbResult<u64> {
    let only: Option<Vec<&str>> = only.map(|only| only.iter().map(AuthProfile::as_str).collect());
    let result = sqlx::query!(
        r#"
        DELETE FROM auth_profiles p
        WHERE scope = $1 AND scope_id = $2 AND ($3::text[] IS NULL OR auth = ANY ($3))
          AND ($4::text IS NULL OR scope <> 'instance'
               OR EXISTS (SELECT FROM instances i WHERE i.instance_id = p.scope_id AND i.org_id = $4 /* within */))
        "#,
        Word(place.scope()) as Word<AuthScope>,
        place.id(),
        only.as_deref() as Option<&[&str]>,
        within.map(OrgId::as_str),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
