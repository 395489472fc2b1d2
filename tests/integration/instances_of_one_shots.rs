//! Every one-shot has an instance, whatever runs at the same time (`migrations/0001_one_shots.sql`).

use std::time::Duration;

use nas_cron::db::{Db, DbError, directory};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::InstanceId;
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::time::{PATIENCE, fire_at};
use sqlx::{Acquire, PgPool};

const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const REGISTER: &str = "INSERT INTO instances (instance_id, org_id, callback_url) VALUES ('inst-1', 'org-1', 'https://agent.example')
                        ON CONFLICT DO NOTHING";
const ONE_SHOT: &str = "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                            state, next_attempt_at)
                        VALUES ('inst-1', 'job-1', gen_random_uuid(), 'k', 'x', now(), 'https://agent.example', 'armed', now())";
const ORPHANS: &str = "SELECT count(*) FROM one_shots o
                       WHERE NOT EXISTS (SELECT FROM instances i WHERE i.instance_id = o.instance_id)";

struct World {
    db: Db,
    url: String,
    pool: PgPool,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        sqlx::raw_sql(REGISTER).execute(&pool).await.unwrap();
        Self { db, url, pool }
    }

    async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.expect(statement)
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

fn inst_1() -> InstanceId {
    InstanceId::new("inst-1").unwrap()
}

/// Returns the violated constraint.
fn constraint(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error().expect("an error of the database");
    assert!(error.is_foreign_key_violation(), "{error}");
    error.constraint()
}

#[tokio::test]
async fn one_shot_of_an_unknown_instance_is_refused() {
    let world = World::new().await;
    directory::delete(&world.db, &inst_1(), None).await.unwrap();
    let error = sqlx::raw_sql(ONE_SHOT).execute(&world.pool).await.unwrap_err();
    assert_eq!(constraint(&error), Some("one_shots_instance_id_fkey"));
}

#[tokio::test]
async fn deletion_waits_for_a_new_one_shot_and_deletes_it() {
    let world = World::new().await;
    let mut arming = world.pool.begin().await.unwrap();
    sqlx::raw_sql(ONE_SHOT).execute(&mut *arming).await.unwrap();
    let instance_id = inst_1();
    let (deleted, ()) = tokio::join!(directory::delete(&world.db, &instance_id, None), async {
        world.until_waiting().await;
        arming.commit().await.unwrap();
    });
    assert!(deleted.unwrap().is_some());
    assert_eq!(world.count("SELECT count(*) FROM one_shots").await, 0);
}

#[tokio::test]
async fn new_one_shot_waits_for_a_deletion_and_is_refused() {
    let world = World::new().await;
    let mut deleting = world.pool.begin().await.unwrap();
    sqlx::raw_sql("DELETE FROM instances").execute(&mut *deleting).await.unwrap();
    let mut session = world.pool.acquire().await.unwrap();
    let (armed, ()) =
        tokio::join!(sqlx::raw_sql(ONE_SHOT).execute(session.acquire().await.unwrap()), async {
            world.until_waiting().await;
            deleting.commit().await.unwrap();
        });
    assert_eq!(constraint(&armed.unwrap_err()), Some("one_shots_instance_id_fkey"));
}

#[tokio::test]
async fn deletion_that_is_rolled_back_lets_new_one_shots_through() {
    let world = World::new().await;
    let mut deleting = world.pool.begin().await.unwrap();
    sqlx::raw_sql("DELETE FROM instances").execute(&mut *deleting).await.unwrap();
    let mut session = world.pool.acquire().await.unwrap();
    let (armed, ()) =
        tokio::join!(sqlx::raw_sql(ONE_SHOT).execute(session.acquire().await.unwrap()), async {
            world.until_waiting().await;
            deleting.rollback().await.unwrap();
        });
    armed.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM one_shots").await, 1);
}

#[tokio::test]
async fn instance_ids_never_change() {
    let world = World::new().await;
    sqlx::raw_sql(ONE_SHOT).execute(&world.pool).await.unwrap();
    for change in
        ["UPDATE instances SET instance_id = 'inst-2'", "UPDATE one_shots SET instance_id = 'inst-2'"]
    {
        let error = sqlx::raw_sql(change).execute(&world.pool).await.unwrap_err();
        assert!(error.to_string().contains("never changes"), "{error}");
    }
}

/// Provisions, deletions and registrations at once, by two replicas.
#[tokio::test]
async fn no_one_shot_survives_the_deletion_of_its_instance() {
    let world = World::new().await;
    let replicas = [world.db.clone(), connect(&world.url)];
    let provisioning = (0..8).map(|worker| {
        let db = replicas[worker % 2].clone();
        tokio::spawn(async move {
            let mut armed = 0;
            for round in 0..60 {
                let at = fire_at(3_600_000);
                let job = format!("job-{worker}-{}", round % 7);
                let wanted =
                    Provision::new(&job, &at, "https://agent.example", &format!("{job}:{round}")).unwrap();
                let callback = Some("https://agent.example");
                match oneshot::provision(&db, &inst_1(), callback, &wanted, &RULES).await {
                    Ok(_) => armed += 1,
                    Err(DbError::Conflict { constraint }) if constraint == "one_shots_instance_id_fkey" => {}
                    Err(error) if error.is_transient() => {}
                    Err(error) => panic!("{error}"),
                }
            }
            armed
        })
    });
    let provisioning: Vec<_> = provisioning.collect();
    let mut deletions = 0;
    while provisioning.iter().any(|worker| !worker.is_finished()) {
        deletions += i64::from(directory::delete(&world.db, &inst_1(), None).await.unwrap().is_some());
        assert_eq!(world.count(ORPHANS).await, 0);
        sqlx::raw_sql(REGISTER).execute(&world.pool).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let mut armed = 0;
    for worker in provisioning {
        armed += worker.await.unwrap();
    }
    assert!(armed > 0 && deletions > 0, "{armed} armed, {deletions} deletions");
    assert_eq!(world.count(ORPHANS).await, 0);
}
