//! The retention of job profiles: a profile is kept while its job may return.

use std::time::Duration;

use nas_cron::db::{Db, DbError, auth_profiles, fires, job_auth, oneshots};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::{AuthChoice, AuthPlace, Given, InstanceId, JobId};
use nas_cron_testing::database::database;
use nas_cron_testing::time::fire_at;
use sqlx::PgPool;

const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const RETENTION: Duration = Duration::from_hours(24);
/// Maximum number of idle jobs per instance whose profiles are kept.
const KEPT: i64 = 4;

struct Kept {
    db: Db,
    pool: PgPool,
    instance: InstanceId,
}

impl Kept {
    async fn new() -> Self {
        let (db, url) = database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        let kept = Self { db, pool, instance: InstanceId::new("inst-1").unwrap() };
        kept.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
        kept
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.expect(statement);
    }

    async fn arm(&self, job: &str, auth: Given<&str>) {
        let at = fire_at(3_600_000);
        let auth = auth.try_map(|text| AuthChoice::from_json(&text.into())).unwrap();
        let wanted = Provision::new(job, &at, "https://agent.example", &format!("{job}:{at}")).unwrap();
        let wanted = wanted.with_auth(auth);
        oneshot::provision(&self.db, &self.instance, None, &wanted, &RULES).await.unwrap();
    }

    async fn profiles(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT job_id || ' ' || (auth #>> '{}') FROM job_auth ORDER BY 1")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Runs maintenance once.
    async fn tidy(&self) {
        assert_eq!(
            fires::prune_ended(&self.db, RETENTION, RETENTION, None, 100).await.unwrap().0,
            None,
            "all are examined"
        );
        let mut rounds = 0;
        while job_auth::prune(&self.db, RETENTION, KEPT, 100).await.unwrap() > 0 {
            rounds += 1;
            assert!(rounds < 10, "pruning must end");
        }
    }
}

#[tokio::test]
async fn a_jobs_profile_is_pruned_only_after_the_retention_without_a_one_shot() {
    let kept = Kept::new().await;
    for job in ["armed", "cancelled", "ended", "cleared"] {
        kept.arm(job, Given::Set("claude:work")).await;
    }
    kept.arm("cleared", Given::Clear).await;
    oneshots::cancel(&kept.db, &kept.instance, &JobId::new("cancelled").unwrap()).await.unwrap();
    kept.sql("UPDATE one_shots SET state = 'delivered', next_attempt_at = NULL WHERE job_id = 'ended'").await;
    let all = ["armed claude:work", "cancelled claude:work", "ended claude:work"];
    kept.tidy().await;
    assert_eq!(kept.profiles().await, all, "none is old enough");

    // Two days later, the ended one-shot is pruned, and its job has only just become idle.
    kept.sql("UPDATE job_auth SET idle_since = idle_since - interval '2 days'").await;
    kept.sql("UPDATE one_shots SET updated_at = updated_at - interval '2 days'").await;
    kept.tidy().await;
    assert_eq!(kept.profiles().await, ["armed claude:work", "ended claude:work"]);
    kept.tidy().await;
    assert_eq!(kept.profiles().await, ["armed claude:work", "ended claude:work"]);

    // Two days later again.
    kept.sql("UPDATE job_auth SET idle_since = idle_since - interval '2 days'").await;
    kept.tidy().await;
    assert_eq!(kept.profiles().await, ["armed claude:work"]);

    // A cancelled job becomes idle at its cancel.
    oneshots::cancel(&kept.db, &kept.instance, &JobId::new("armed").unwrap()).await.unwrap();
    kept.tidy().await;
    assert_eq!(kept.profiles().await, ["armed claude:work"]);
    kept.sql("UPDATE job_auth SET idle_since = idle_since - interval '2 days'").await;
    kept.tidy().await;
    assert_eq!(kept.profiles().await, [""; 0]);
}

#[tokio::test]
async fn a_provision_that_repeats_the_profile_writes_nothing_about_it() {
    let kept = Kept::new().await;
    kept.arm("job", Given::Set("claude:work")).await;
    let version = async || -> String {
        sqlx::query_scalar("SELECT ctid::text || xmin::text FROM job_auth")
            .fetch_one(&kept.pool)
            .await
            .unwrap()
    };
    let before = version().await;
    kept.arm("job", Given::Set("claude:work")).await;
    kept.arm("job", Given::Keep).await;
    assert_eq!(version().await, before);
    kept.arm("job", Given::Set("claude:home")).await;
    assert_ne!(version().await, before);
}

#[tokio::test]
async fn a_job_provisioned_again_during_pruning_keeps_its_profile() {
    let kept = Kept::new().await;
    kept.arm("job", Given::Set("claude:work")).await;
    oneshots::cancel(&kept.db, &kept.instance, &JobId::new("job").unwrap()).await.unwrap();
    kept.sql("UPDATE job_auth SET idle_since = idle_since - interval '2 days'").await;
    // An uncommitted provision of the job.
    let mut coming = kept.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                                state, next_attempt_at)
         VALUES ('inst-1', 'job', gen_random_uuid(), 'k', 't', now(), 'https://agent.example', 'armed', now())",
    )
    .execute(&mut *coming)
    .await
    .unwrap();
    kept.tidy().await;
    coming.commit().await.unwrap();
    assert_eq!(kept.profiles().await, ["job claude:work"]);
    kept.tidy().await;
    assert_eq!(kept.profiles().await, ["job claude:work"]);
}

#[tokio::test]
async fn profiles_of_the_oldest_idle_jobs_are_pruned_above_the_limit() {
    let kept = Kept::new().await;
    kept.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-2', 'org-1')").await;
    for job in ["armed-1", "armed-2"] {
        kept.arm(job, Given::Set("claude:work")).await;
    }
    // The armed jobs are the oldest, but do not count.
    kept.sql("UPDATE job_auth SET idle_since = idle_since - interval '2 hours'").await;
    kept.sql(
        "INSERT INTO job_auth (instance_id, job_id, auth, idle_since)
         SELECT i, 'idle-' || n, '\"claude:work\"', now() - make_interval(mins => n)
         FROM unnest(ARRAY['inst-1', 'inst-2']) AS i, generate_series(1, CASE i WHEN 'inst-1' THEN 6 ELSE 4 END) AS n",
    )
    .await;
    kept.tidy().await;
    let mut expected = vec!["armed-1 claude:work".to_owned(), "armed-2 claude:work".to_owned()];
    expected.extend((1..=4).flat_map(|n| vec![format!("idle-{n} claude:work"); 2]));
    assert_eq!(kept.profiles().await, expected);
}

#[tokio::test]
async fn a_concurrent_change_of_the_same_scope_fails_as_contended_without_waiting() {
    let kept = Kept::new().await;
    let mut other = kept.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(hashtextextended('auth_profiles instance inst-1', 0))")
        .execute(&mut *other)
        .await
        .unwrap();
    let place = AuthPlace::Instance(kept.instance.clone());
    let put = async || {
        let put = auth_profiles::put(&kept.db, &place, Some(&[]), &Given::Keep, None);
        tokio::time::timeout(Duration::from_mins(1), put).await.expect("an answer at once")
    };
    assert!(matches!(put().await, Err(DbError::Contended(_))), "the caller retries");
    other.commit().await.unwrap();
    assert!(put().await.unwrap());
}
