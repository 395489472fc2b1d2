//! Statements of exports and imports: `nas-cron export` and `nas-cron import`.

use nas_cron_protocol::{AuthChoice, AuthPlace, InstanceId};
use serde_json::Value;
use sqlx::Executor;

use super::execute::Transaction;
use super::{Db, DbResult};
use crate::domain::transfer::{
    ExportCounts, ExportPage, ExportPart, ExportPlace, StoredAuth, StoredLogin, Taken,
};

/// A view of the database that does not change. Other statements of the service are not affected, except that dead rows stay
/// until it ends.
#[derive(Debug)]
pub struct Snapshot(Transaction);

impl Snapshot {
    /// Begins a view of the present state.
    pub async fn begin(db: &Db) -> DbResult<Self> {
        let mut transaction = db.begin().await?;
        // The reader of the output may be slow.
        let settings = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0";
        transaction.execute(sqlx::raw_sql(settings)).await?;
        Ok(Self(transaction))
    }

    /// Returns the numbers of what is exported.
    pub async fn counts(&mut self) -> DbResult<ExportCounts> {
        let row = sqlx::query!(
            r#"
            SELECT (SELECT count(*) FROM instances) + (SELECT count(*) FROM logins WHERE ended_at IS NULL)
                   + (SELECT count(*) FROM auth_profiles) + (SELECT count(*) FROM auth_defaults) + (SELECT count(*) FROM job_auth)
                   + (SELECT count(*) FROM one_shots WHERE state <> 'delivered') AS "lines!",
                   (SELECT count(*) FROM one_shots WHERE dead_since IS NOT NULL) AS "dead!"
            "#,
        )
        .fetch_one(&mut self.0)
        .await?;
        Ok(ExportCounts { lines: row.lines.unsigned_abs(), dead: row.dead.unsigned_abs() })
    }

    /// Returns at most `limit` lines of a part that follow `after`.
    pub async fn page(
        &mut self,
        part: ExportPart,
        after: Option<&[String; 3]>,
        limit: i64,
    ) -> DbResult<ExportPage> {
        let [a, b, c] = after.map_or([""; 3], |keys| [&keys[0], &keys[1], &keys[2]].map(String::as_str));
        let rows = match part {
            ExportPart::Agents => self.agents(a, limit).await?,
            ExportPart::Logins => self.logins(a, limit).await?,
            ExportPart::Auth => self.auth([a, b, c], limit).await?,
            ExportPart::OneShots => self.one_shots([a, b], limit).await?,
        };
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let next = rows.last().map(|row| row.key.clone()).filter(|_| is_full);
        Ok(ExportPage { lines: rows.into_iter().map(|row| row.line).collect(), next })
    }

    async fn agents(&mut self, after: &str, limit: i64) -> DbResult<Vec<Row>> {
        let rows = sqlx::query!(
            r#"
            SELECT instance_id,
                   jsonb_strip_nulls(jsonb_build_object('kind', 'agent', 'instance_id', instance_id, 'org_id', org_id,
                       'bootstrap_session_id', bootstrap_session_id, 'callback_url', callback_url, 'enabled', enabled)) AS "line!"
            FROM instances WHERE instance_id > $1 ORDER BY instance_id LIMIT $2
            "#,
            after,
            limit,
        )
        .fetch_all(&mut self.0)
        .await?;
        let row = |(id, line)| Row { key: [id, String::new(), String::new()], line };
        Ok(rows.into_iter().map(|one| row((one.instance_id, one.line))).collect())
    }

    async fn logins(&mut self, after: &str, limit: i64) -> DbResult<Vec<Row>> {
        let rows = sqlx::query!(
            r#"
            SELECT instance_id,
                   jsonb_strip_nulls(jsonb_build_object('kind', 'login', 'instance_id', instance_id, 'login_id', login_id,
                       'key_id', encode(key_id, 'hex'), 'number', number, 'created_at', created_at,
                       'refreshed_at', refreshed_at)) AS "line!"
            FROM logins WHERE ended_at IS NULL AND instance_id > $1 ORDER BY instance_id LIMIT $2
            "#,
            after,
            limit,
        )
        .fetch_all(&mut self.0)
        .await?;
        let row = |(id, line)| Row { key: [id, String::new(), String::new()], line };
        Ok(rows.into_iter().map(|one| row((one.instance_id, one.line))).collect())
    }

    async fn auth(&mut self, after: [&str; 3], limit: i64) -> DbResult<Vec<Row>> {
        let rows = sqlx::query!(
            r#"
            SELECT scope AS "scope!", id AS "id!", name AS "name!", line AS "line!"
            FROM (
                SELECT '1' || scope::text AS scope, scope_id AS id, auth AS name,
                       jsonb_build_object('kind', 'auth_profile', 'scope', scope, 'id', scope_id, 'profile', auth) AS line
                FROM auth_profiles
                UNION ALL
                SELECT '2' || scope::text, scope_id, '',
                       jsonb_build_object('kind', 'auth_default', 'scope', scope, 'id', scope_id, 'auth', auth)
                FROM auth_defaults
                UNION ALL
                SELECT '3', instance_id, job_id,
                       jsonb_build_object('kind', 'job_auth', 'instance_id', instance_id, 'job_id', job_id, 'auth', auth)
                FROM job_auth
            ) e
            WHERE (scope, id, name) > ($1, $2, $3)
            ORDER BY scope, id, name
            LIMIT $4
            "#,
            after[0],
            after[1],
            after[2],
            limit,
        )
        .fetch_all(&mut self.0)
        .await?;
        Ok(rows.into_iter().map(|one| Row { key: [one.scope, one.id, one.name], line: one.line }).collect())
    }

    async fn one_shots(&mut self, after: [&str; 2], limit: i64) -> DbResult<Vec<Row>> {
        let rows = sqlx::query!(
            r#"
            SELECT instance_id, job_id,
                   jsonb_strip_nulls(jsonb_build_object('kind', 'one_shot', 'instance_id', instance_id, 'job_id', job_id,
                       'fire_at', fire_at_text, 'agent_callback_url', COALESCE(own_callback_url, callback_url),
                       'dedup_key', dedup_key, 'not_after', not_after, 'state', state)) AS "line!"
            FROM one_shots
            WHERE state <> 'delivered' AND (instance_id, job_id) > ($1, $2)
            ORDER BY instance_id, job_id LIMIT $3
            "#,
            after[0],
            after[1],
            limit,
        )
        .fetch_all(&mut self.0)
        .await?;
        let row = |(id, job, line)| Row { key: [id, job, String::new()], line };
        Ok(rows.into_iter().map(|one| row((one.instance_id, one.job_id, one.line))).collect())
    }
}

struct Row {
    key: [String; 3],
    line: Value,
}

/// Returns the place of a line that [`Snapshot::page`] has returned; `None` for any other line.
pub fn place_of(line: &Value) -> Option<ExportPlace> {
    let text = |field: &str| line[field].as_str().map(str::to_owned);
    let (part, key) = match line["kind"].as_str()? {
        "agent" => (ExportPart::Agents, [text("instance_id")?, String::new(), String::new()]),
        "login" => (ExportPart::Logins, [text("instance_id")?, String::new(), String::new()]),
        "auth_profile" => (ExportPart::Auth, [format!("1{}", text("scope")?), text("id")?, text("profile")?]),
        "auth_default" => (ExportPart::Auth, [format!("2{}", text("scope")?), text("id")?, String::new()]),
        "job_auth" => (ExportPart::Auth, ["3".to_owned(), text("instance_id")?, text("job_id")?]),
        "one_shot" => (ExportPart::OneShots, [text("instance_id")?, text("job_id")?, String::new()]),
        _ => return None,
    };
    Some(ExportPlace { part, key })
}

/// Adds logins of instances without an open one. Returns the result of each, in order; with `dry_run`, nothing changes.
pub async fn add_logins(db: &Db, logins: &[StoredLogin], dry_run: bool) -> DbResult<Vec<Taken>> {
    let mut transaction = db.begin().await?;
    let rows = sqlx::query!(
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[], $4::int8[], $5::timestamptz[], $6::timestamptz[])
                WITH ORDINALITY AS g(instance_id, login_id, key_id, number, created_at, refreshed_at, line)
        ), added AS (
            INSERT INTO logins (login_id, instance_id, key_id, number, created_at, refreshed_at)
            SELECT g.login_id, g.instance_id, g.key_id, g.number, g.created_at, g.refreshed_at
            FROM given g JOIN instances i USING (instance_id)
            ON CONFLICT DO NOTHING
            RETURNING login_id
        )
        SELECT i.instance_id IS NOT NULL AS "is_known!", a.login_id IS NOT NULL AS "is_added!", l.login_id IS NOT NULL AS "is_there!"
        FROM given g
        LEFT JOIN instances i USING (instance_id)
        LEFT JOIN added a USING (login_id)
        LEFT JOIN logins l USING (login_id)
        ORDER BY g.line
        "#,
        &column(logins, |one| one.instance_id.as_str()) as &[&str],
        &column(logins, |one| one.login_id),
        &column(logins, |one| one.key_id.clone()),
        &column(logins, |one| one.number),
        &column(logins, |one| one.created_at),
        &column(logins, |one| one.refreshed_at) as &[Option<chrono::DateTime<chrono::Utc>>],
    )
    .fetch_all(&mut transaction)
    .await?;
    end(transaction, dry_run).await?;
    Ok(rows.into_iter().map(|row| taken(row.is_known, row.is_added, row.is_there)).collect())
}

/// Adds missing profiles, defaults and auths of jobs. Returns the result of each, in order; with `dry_run`,
/// nothing changes.
pub async fn add_auth(db: &Db, entries: &[StoredAuth], dry_run: bool) -> DbResult<Vec<Taken>> {
    let mut transaction = db.begin().await?;
    let rows = sqlx::query!(
        r#"
        WITH given AS (
            SELECT g.*, g.instance_id IS NULL OR i.instance_id IS NOT NULL AS is_known
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
                WITH ORDINALITY AS g(kind, scope, scope_id, instance_id, job_id, auth, line)
            LEFT JOIN instances i ON i.instance_id = g.instance_id
        ), profiles AS (
            INSERT INTO auth_profiles (scope, scope_id, auth)
            SELECT DISTINCT scope::auth_scope, scope_id, auth #>> '{}' FROM given WHERE kind = 'profile' AND is_known
            ON CONFLICT DO NOTHING
            RETURNING scope::text AS scope, scope_id, auth
        ), defaults AS (
            INSERT INTO auth_defaults (scope, scope_id, auth)
            SELECT DISTINCT ON (scope, scope_id) scope::auth_scope, scope_id, auth FROM given WHERE kind = 'default' AND is_known
            ORDER BY scope, scope_id, line
            ON CONFLICT DO NOTHING
            RETURNING scope::text AS scope, scope_id, auth
        ), jobs AS (
            INSERT INTO job_auth (instance_id, job_id, auth)
            SELECT DISTINCT ON (instance_id, job_id) instance_id, job_id, auth FROM given WHERE kind = 'job' AND is_known
            ORDER BY instance_id, job_id, line
            ON CONFLICT DO NOTHING
            RETURNING instance_id, job_id, auth
        )
        SELECT g.is_known AS "is_known!",
               CASE g.kind
                   WHEN 'profile' THEN EXISTS (SELECT FROM profiles p WHERE (p.scope, p.scope_id, p.auth) = (g.scope, g.scope_id, g.auth #>> '{}'))
                   WHEN 'default' THEN EXISTS (SELECT FROM defaults d WHERE (d.scope, d.scope_id, d.auth) = (g.scope, g.scope_id, g.auth))
                   ELSE EXISTS (SELECT FROM jobs j WHERE (j.instance_id, j.job_id, j.auth) = (g.instance_id, g.job_id, g.auth))
               END AS "is_added!",
               CASE g.kind
                   WHEN 'profile' THEN true
                   WHEN 'default' THEN EXISTS (SELECT FROM auth_defaults d
                                               WHERE (d.scope::text, d.scope_id, d.auth) = (g.scope, g.scope_id, g.auth))
                   ELSE EXISTS (SELECT FROM job_auth j WHERE (j.instance_id, j.job_id, j.auth) = (g.instance_id, g.job_id, g.auth))
               END AS "is_there!"
        FROM given g
        ORDER BY g.line
        "#,
        &column(entries, kind) as &[&str],
        &column(entries, |one| place(one).map(|place| place.scope().as_str())) as &[Option<&str>],
        &column(entries, |one| place(one).map(AuthPlace::id)) as &[Option<&str>],
        &column(entries, |one| one.instance_id().map(InstanceId::as_str)) as &[Option<&str>],
        &column(entries, |one| match one {
            StoredAuth::Job(_, job_id, _) => Some(job_id.as_str()),
            _ => None,
        }) as &[Option<&str>],
        &column(entries, auth),
    )
    .fetch_all(&mut transaction)
    .await?;
    end(transaction, dry_run).await?;
    Ok(rows.into_iter().map(|row| taken(row.is_known, row.is_added, row.is_there)).collect())
}

async fn end(transaction: Transaction, dry_run: bool) -> DbResult<()> {
    if dry_run { Ok(()) } else { transaction.commit().await }
}

const fn taken(is_known: bool, is_added: bool, is_there: bool) -> Taken {
    match (is_known, is_added, is_there) {
        (false, ..) => Taken::UnknownInstance,
        (_, true, _) => Taken::Added,
        (_, _, true) => Taken::Unchanged,
        _ => Taken::Kept,
    }
}

const fn kind(entry: &StoredAuth) -> &'static str {
    match entry {
        StoredAuth::Profile(..) => "profile",
        StoredAuth::Default(..) => "default",
        StoredAuth::Job(..) => "job",
    }
}

const fn place(entry: &StoredAuth) -> Option<&AuthPlace> {
    match entry {
        StoredAuth::Profile(place, _) | StoredAuth::Default(place, _) => Some(place),
        StoredAuth::Job(..) => None,
    }
}

fn auth(entry: &StoredAuth) -> Value {
    match entry {
        StoredAuth::Profile(_, profile) => Value::from(profile.as_str()),
        StoredAuth::Default(_, auth) | StoredAuth::Job(_, _, auth) => AuthChoice::to_json(auth),
    }
}

/// Returns a parameter of a statement: one value for each line.
fn column<'a, L, T>(lines: &'a [L], value: impl Fn(&'a L) -> T) -> Vec<T> {
    lines.iter().map(value).collect()
}
