//! A database with histories of jobs, without a service.

use nas_cron::db::Db;
use nas_cron::scheduler::rearms;
use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use serde_json::Value;
use sqlx::PgPool;

pub(super) const MINUTE: i64 = 60;
pub(super) const HOUR: i64 = 3_600;
pub(super) const DAY: i64 = 86_400;

/// Runs a command that succeeds, and returns its JSON.
pub(super) async fn json(settings: &Settings, arguments: &[&str]) -> Value {
    let (status, out, error) = settings.run(&[arguments, &["--json"]].concat()).await;
    assert!(status.success(), "{arguments:?}: {error}");
    serde_json::from_str(&out).expect(&out)
}

/// Returns the dormant jobs, as listed.
pub(super) async fn dormant(settings: &Settings) -> Vec<Value> {
    let listed = json(settings, &["jobs", "list", "--state", "dormant"]).await;
    listed["jobs"].as_array().expect("a list").clone()
}

/// Returns the ids of the dormant jobs.
pub(super) async fn names(settings: &Settings) -> Vec<String> {
    dormant(settings).await.iter().map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
}

/// Jobs of `inst-1`.
pub(super) struct Chains {
    pub(super) db: Db,
    pub(super) pool: PgPool,
    pub(super) settings: Settings,
    _portal: Portal,
}

impl Chains {
    pub(super) async fn new() -> Self {
        let (db, url) = database().await;
        let (portal, pool) = (Portal::start().await, PgPool::connect(&url).await.unwrap());
        let chains = Self { db, pool, settings: Settings::new(&url, &portal), _portal: portal };
        chains
            .sql(
                "INSERT INTO instances (instance_id, org_id, created_at)
                 VALUES ('inst-1', 'org-1', now() - interval '90 days')",
            )
            .await;
        chains
    }

    pub(super) async fn sql(&self, statements: &str) {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&self.pool).await;
        done.expect(statements);
    }

    pub(super) async fn one<T>(&self, query: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&self.pool).await.expect(query)
    }

    /// Stores a job whose one-shots were fired these seconds ago, and ended with `outcome`. Each was armed 30 s after the
    /// fire before it. The last one is the current one, and its end is the next to be examined.
    pub(super) async fn fired(&self, job: &str, ago: &[i64], outcome: &str) {
        sqlx::query(
            "WITH arms AS (
                 SELECT gen_random_uuid() AS schedule_id, $1 || ':' || ago AS dedup_key, ago,
                        now() - make_interval(secs => ago) AS fire_at,
                        now() - make_interval(secs => lag(ago) OVER (ORDER BY ago DESC) - 30) AS armed_at
                 FROM unnest($2::int8[]) AS ago
             ), history AS (
                 INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at,
                                    outcome, http_status, armed_at)
                 SELECT gen_random_uuid(), 'inst-1', $1, schedule_id, dedup_key, fire_at, 1, fire_at, fire_at + interval '20 ms',
                        $3::fire_outcome, 202, armed_at
                 FROM arms
             ), moved AS (
                 UPDATE rearm_watch SET examined_until = LEAST(examined_until, (SELECT max(fire_at) FROM arms))
             )
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    last_started_at, last_outcome, last_status, delivered_key, delivered_schedule_id, delivered_at,
                                    second_fires, created_at)
             SELECT 'inst-1', $1, schedule_id, dedup_key, 'then', fire_at, 'https://agent.example', 'delivered', fire_at,
                    $3::fire_outcome, 202, dedup_key, schedule_id, fire_at + interval '20 ms', 0, COALESCE(armed_at, fire_at)
             FROM arms ORDER BY ago LIMIT 1",
        )
        .bind(job)
        .bind(ago)
        .bind(outcome)
        .execute(&self.pool)
        .await
        .expect("a history");
    }

    /// Stores a job that was fired every hour, `hours` hours ago for the last time, and accepted.
    pub(super) async fn hourly(&self, job: &str, hours: i64) {
        let ago: Vec<_> = (0..5).rev().map(|n| (n + hours) * HOUR).collect();
        self.fired(job, &ago, "delivered").await;
    }

    /// Examines all deliveries, and checks what is due.
    pub(super) async fn round(&self) {
        rearms::round(&self.db, &mut None).await.expect("a round");
    }

    /// Lets a minute pass for the next round, which checks the dormant jobs.
    pub(super) async fn next_round(&self) {
        self.sql("UPDATE rearm_watch SET examined_until = examined_until - interval '1 min'").await;
        self.round().await;
    }

    /// The agent arms a job again: a new key and schedule.
    pub(super) async fn arms_again(&self, job: &str) {
        self.sql(&format!(
            "UPDATE one_shots SET schedule_id = gen_random_uuid(), dedup_key = 'next', state = 'armed',
                                  fire_at = now() + interval '1 h', next_attempt_at = now() + interval '1 h'
             WHERE job_id = '{job}'"
        ))
        .await;
    }
}
