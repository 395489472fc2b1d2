//! The marks of cancelled jobs beside concurrent statements, and the cost of deleting them.

use std::time::Duration;

use nas_cron::db::{Db, cancelled_jobs, directory, job_status, oneshots};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::agent_api::JobState;
use nas_cron_protocol::{InstanceId, JobId};
use nas_cron_testing::database::database;
use nas_cron_testing::time::{PATIENCE, fire_at};
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

struct World {
    db: Db,
    pool: PgPool,
    instance: InstanceId,
    job: JobId,
}

impl World {
    /// A world with the instance `inst-1` and its armed job `job-1`.
    async fn new() -> Self {
        let (db, url) = database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        let world = Self {
            db,
            pool,
            instance: InstanceId::new("inst-1").unwrap(),
            job: JobId::new("job-1").unwrap(),
        };
        world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
        world.arm().await;
        world
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.expect(statement);
    }

    async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.expect(statement)
    }

    async fn arm(&self) {
        let at = fire_at(3_600_000);
        let wanted =
            Provision::new(self.job.as_str(), &at, "https://agent.example", &format!("job-1:{at}")).unwrap();
        oneshot::provision(&self.db, &self.instance, None, &wanted, &RULES).await.unwrap();
    }

    async fn cancel(&self) {
        oneshots::cancel(&self.db, &self.instance, &self.job).await.unwrap();
    }

    async fn state(&self) -> Option<JobState> {
        let found = job_status::of(&self.db, &self.instance, &self.job, 1).await.unwrap();
        found.map(|job| job.state())
    }

    async fn until_waiting(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let polling = async {
            while self.count(waiting).await == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("a statement that waits for a lock");
    }
}

/// A cancel of `job-1` up to its commit, in the order of its locks.
const CANCEL: &str = "DELETE FROM one_shots WHERE job_id = 'job-1';
    INSERT INTO cancelled_jobs (instance_id, job_id) VALUES ('inst-1', 'job-1')";

#[tokio::test]
async fn provision_after_a_concurrent_cancel_leaves_an_armed_job() {
    let world = World::new().await;
    let mut cancel = world.pool.begin().await.unwrap();
    sqlx::raw_sql(CANCEL).execute(&mut *cancel).await.unwrap();
    assert_eq!(world.state().await, Some(JobState::Armed), "before the commit");
    let ((), ()) = tokio::join!(world.arm(), async {
        world.until_waiting().await;
        cancel.commit().await.unwrap();
    });
    assert_eq!(world.state().await, Some(JobState::Armed));
    world.cancel().await;
    assert_eq!(world.state().await, Some(JobState::Cancelled));
}

#[tokio::test]
async fn deletion_of_an_instance_waits_for_a_cancel_and_removes_its_mark() {
    let world = World::new().await;
    world.sql("INSERT INTO cancelled_jobs VALUES ('inst-1', 'earlier'), ('inst-2', 'of another one')").await;
    let mut cancel = world.pool.begin().await.unwrap();
    sqlx::raw_sql("DELETE FROM one_shots WHERE job_id = 'job-1'").execute(&mut *cancel).await.unwrap();
    let (deleted, ()) = tokio::join!(directory::delete(&world.db, &world.instance, None), async {
        world.until_waiting().await;
        // The deletion holds its locks. A cancel that needed one of them would deadlock here.
        sqlx::raw_sql(
            "INSERT INTO cancelled_jobs VALUES ('inst-1', 'job-1'), ('inst-1', 'earlier')
             ON CONFLICT (instance_id, job_id) DO UPDATE SET cancelled_at = excluded.cancelled_at",
        )
        .execute(&mut *cancel)
        .await
        .unwrap();
        cancel.commit().await.unwrap();
    });
    assert!(deleted.unwrap().is_some());
    assert_eq!(world.count("SELECT count(*) FROM cancelled_jobs").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM cancelled_jobs WHERE instance_id = 'inst-2'").await, 1);
}

#[tokio::test]
async fn cancel_beside_a_deletion_of_its_instance_leaves_no_mark() {
    let world = World::new().await;
    let mut deletion = world.pool.begin().await.unwrap();
    sqlx::raw_sql("DELETE FROM instances WHERE instance_id = 'inst-1'")
        .execute(&mut *deletion)
        .await
        .unwrap();
    let ((), ()) = tokio::join!(world.cancel(), async {
        world.until_waiting().await;
        deletion.commit().await.unwrap();
    });
    assert_eq!(world.count("SELECT count(*) FROM cancelled_jobs").await, 0);
}

#[tokio::test]
async fn job_cancelled_again_while_old_marks_are_deleted_keeps_its_mark() {
    let world = World::new().await;
    world.sql("INSERT INTO cancelled_jobs VALUES ('inst-1', 'job-1', now() - interval '2 days')").await;
    let mut cancel = world.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "DELETE FROM one_shots WHERE job_id = 'job-1';
         UPDATE cancelled_jobs SET cancelled_at = now() WHERE job_id = 'job-1'",
    )
    .execute(&mut *cancel)
    .await
    .unwrap();
    assert_eq!(cancelled_jobs::prune(&world.db, RETENTION, 100).await.unwrap(), 0, "it does not wait either");
    cancel.commit().await.unwrap();
    assert_eq!(cancelled_jobs::prune(&world.db, RETENTION, 100).await.unwrap(), 0);
    assert_eq!(world.state().await, Some(JobState::Cancelled));
}

#[tokio::test]
async fn old_marks_are_deleted_in_batches_without_reading_recent_ones() {
    let world = World::new().await;
    world
        .sql(
            "INSERT INTO cancelled_jobs
             SELECT 'inst-1', 'old-' || n, now() - interval '25 hours' FROM generate_series(1, 150) AS n;
             INSERT INTO cancelled_jobs
             SELECT 'inst-1', 'recent-' || n, now() - interval '23 hours' FROM generate_series(1, 20000) AS n;
             ANALYZE cancelled_jobs",
        )
        .await;
    let mut deleted = Vec::new();
    while let count @ 1.. = cancelled_jobs::prune(&world.db, RETENTION, 100).await.unwrap() {
        deleted.push(count);
    }
    assert_eq!(deleted, [100, 50]);
    // A session reports what it has read some time after its statement.
    let reported = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'cancelled_jobs_age'";
    let polling = async {
        while world.count(reported).await < 150 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("a report of the index that was read");
    let read =
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'cancelled_jobs'";
    let rows = world.count(read).await;
    assert!(rows < 1_000, "{rows} rows were read");
    assert_eq!(world.count("SELECT count(*) FROM cancelled_jobs").await, 20_000);
}
