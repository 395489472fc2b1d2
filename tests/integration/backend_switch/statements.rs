//! Concurrent statements of a move.

use std::time::Duration;

use nas_cron::db::{Db, directory, oneshots, provisions, wake_ups};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::one_shot::Arm;
use nas_cron::domain::outbox::{Done, Order, ToTell, Told};
use nas_cron::domain::wake_up::{Found, Wake};
use nas_cron_protocol::{BackendName, CallbackUrl, DedupKey, FireAt, Given, InstanceId, JobId, ScheduleId};
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
const LEASE: Duration = Duration::from_mins(10);
const HOUR: i64 = 3_600_000;
/// Much longer than a statement takes: a task that is not done by then waits.
const A_WHILE: Duration = Duration::from_millis(300);

struct World {
    db: Db,
    pool: PgPool,
}

impl World {
    /// Creates a database with an instance, and an active backend of generation 1.
    async fn with_active(backend: BackendName) -> Self {
        let (db, url) = database().await;
        let world = Self { db, pool: PgPool::connect(&url).await.unwrap() };
        world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
        wake_ups::active(&world.db, backend).await.unwrap();
        world
    }

    async fn sql(&self, statement: &'static str) -> u64 {
        sqlx::query(statement).execute(&self.pool).await.expect(statement).rows_affected()
    }

    async fn arm(&self, job: &str, millis: i64) -> ScheduleId {
        let at = fire_at(millis);
        let arm = Arm {
            instance_id: InstanceId::new("inst-1").unwrap(),
            job_id: JobId::new(job).unwrap(),
            dedup_key: DedupKey::new(format!("{job}:{at}")).unwrap(),
            fire_at: FireAt::parse(&at).unwrap(),
            callback_url: CallbackUrl::parse("https://agent.example").unwrap(),
            not_after: Given::Keep,
            seen: None,
            trace: None,
        };
        provisions::provision(&self.db, &arm, &RULES).await.unwrap().unwrap().schedule_id
    }

    async fn cancel(&self, job: &str) {
        let (instance_id, job_id) = (InstanceId::new("inst-1").unwrap(), JobId::new(job).unwrap());
        oneshots::cancel(&self.db, &instance_id, &job_id).await.unwrap().unwrap();
    }

    /// Leases the orders that are due. Also returns them as `+generation` (arm) and `-generation` (cancel).
    async fn orders(&self, backend: BackendName) -> (Vec<ToTell>, Vec<String>) {
        let taken = wake_ups::take_orders(&self.db, backend, None, LEASE, 100).await.unwrap().to_tell;
        let mut shown: Vec<_> = taken
            .iter()
            .map(|order| match order.order {
                Order::Arm { .. } => format!("+{}", order.generation),
                Order::Cancel { .. } => format!("-{}", order.generation),
            })
            .collect();
        shown.sort();
        (taken, shown)
    }

    async fn tell(&self, orders: &[ToTell]) {
        let results: Vec<_> = orders
            .iter()
            .map(|order| Told {
                schedule_id: order.schedule_id,
                generation: order.generation,
                done: match order.order {
                    Order::Arm { .. } => Done::Armed(None),
                    Order::Cancel { .. } => Done::Cancelled,
                },
            })
            .collect();
        wake_ups::record_results(&self.db, &results).await.unwrap();
    }

    /// Switches and moves everything. Returns the number of one-shots moved.
    async fn switch(&self, to: BackendName) -> u64 {
        wake_ups::activate(&self.db, to).await.unwrap();
        let mut all = 0;
        loop {
            match wake_ups::move_to_active(&self.db).await.unwrap().count {
                0 => return all,
                count => all += count,
            }
        }
    }

    async fn awaits(&self, job: &str) -> Option<String> {
        let query = "SELECT awaits::text FROM one_shots WHERE job_id = $1";
        sqlx::query_scalar(query).bind(job).fetch_one(&self.pool).await.unwrap()
    }

    async fn left(&self) -> i64 {
        let now = directory::now(&self.db).await.unwrap();
        wake_ups::left(&self.db, now).await.unwrap().count()
    }
}

#[tokio::test]
async fn an_order_being_armed_is_not_cancelled_before_the_backend_has_it() {
    let world = World::with_active(BackendName::Nats).await;
    for how in ["cancelled", "superseded", "moved"] {
        world.arm("job", HOUR).await;
        let (taken, shown) = world.orders(BackendName::Nats).await;
        assert_eq!(shown, ["+1"], "{how}");
        match how {
            "cancelled" => world.cancel("job").await,
            "superseded" => drop(world.arm("job", HOUR + 1_000).await),
            _ => assert_eq!(world.switch(BackendName::Postgres).await, 1),
        }
        let (successor, shown) = world.orders(BackendName::Nats).await;
        assert_eq!(shown, if how == "superseded" { &["+1"][..] } else { &[] }, "{how}: too early");
        world.tell(&successor).await;
        world.tell(&taken).await;
        let (taken_back, shown) = world.orders(BackendName::Nats).await;
        assert_eq!(shown, ["-1"], "{how}");
        world.tell(&taken_back).await;
        if how == "superseded" {
            world.cancel("job").await;
            let (taken_back, _) = world.orders(BackendName::Nats).await;
            world.tell(&taken_back).await;
        }
        assert_eq!(world.sql("DELETE FROM wake_ups").await, 0, "{how}");
    }
}

#[tokio::test]
async fn a_switch_there_and_back_gives_each_order_its_own_generation() {
    let world = World::with_active(BackendName::Nats).await;
    world.arm("job", HOUR).await;
    let (first, _) = world.orders(BackendName::Nats).await;
    world.tell(&first).await;
    assert_eq!(world.switch(BackendName::Postgres).await, 1);
    assert_eq!((world.awaits("job").await, world.left().await), (None, 1));
    assert_eq!(world.switch(BackendName::Nats).await, 1);
    assert_eq!(world.awaits("job").await.as_deref(), Some("nats"));
    let (both, shown) = world.orders(BackendName::Nats).await;
    assert_eq!(shown, ["+3", "-1"]);
    world.tell(&both).await;
    assert_eq!((world.left().await, world.sql("DELETE FROM wake_ups WHERE state = 'armed'").await), (0, 1));
    assert_eq!(world.sql("DELETE FROM wake_ups").await, 0);
}

#[tokio::test]
async fn one_shots_that_are_due_soon_or_parked_are_not_moved() {
    let world = World::with_active(BackendName::Nats).await;
    world.arm("far", HOUR).await;
    world.arm("near", HOUR).await;
    world.sql("UPDATE one_shots SET next_attempt_at = now() + interval '2 s' WHERE job_id = 'near'").await;
    assert_eq!(world.switch(BackendName::Postgres).await, 1);
    assert_eq!((world.awaits("far").await, world.awaits("near").await.as_deref()), (None, Some("nats")));
    // A one-shot whose backend has just sent its wake-up is not armed there again.
    world.arm("woken", 30_000).await;
    world.arm("held", HOUR).await;
    world.sql("UPDATE one_shots SET parked = 'hold' WHERE job_id = 'held'").await;
    assert_eq!(world.switch(BackendName::Qstash).await, 1);
    assert_eq!(world.awaits("far").await.as_deref(), Some("qstash"));
    assert_eq!((world.awaits("woken").await, world.awaits("held").await), (None, None));
    assert_eq!(
        world.awaits("near").await.as_deref(),
        Some("nats"),
        "if nats is unavailable, the watchdog fires it"
    );
}

#[tokio::test]
async fn a_switch_and_a_batch_of_a_move_wait_for_each_other() {
    let world = World::with_active(BackendName::Postgres).await;
    world.arm("job", HOUR).await;
    let mut batch = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM active_backend FOR SHARE").execute(&mut *batch).await.unwrap();
    let db = world.db.clone();
    let mut switch = tokio::spawn(async move { wake_ups::activate(&db, BackendName::Nats).await });
    assert!(
        tokio::time::timeout(A_WHILE, &mut switch).await.is_err(),
        "the switch did not wait for the batch"
    );
    batch.commit().await.unwrap();
    assert_eq!(switch.await.unwrap().unwrap().backend, BackendName::Nats);

    let mut switch = world.pool.begin().await.unwrap();
    let back = "UPDATE active_backend SET backend = 'qstash', generation = generation + 1";
    sqlx::query(back).execute(&mut *switch).await.unwrap();
    let db = world.db.clone();
    let mut batch = tokio::spawn(async move { wake_ups::move_to_active(&db).await });
    assert!(
        tokio::time::timeout(A_WHILE, &mut batch).await.is_err(),
        "the batch did not wait for the switch"
    );
    switch.commit().await.unwrap();
    assert_eq!(batch.await.unwrap().unwrap().to, BackendName::Qstash);
    assert_eq!(world.awaits("job").await.as_deref(), Some("qstash"));
}

#[tokio::test]
async fn a_wake_up_for_a_locked_one_shot_reports_busy() {
    let world = World::with_active(BackendName::Nats).await;
    let wake = [Wake {
        schedule_id: world.arm("job", HOUR).await,
        instance_id: InstanceId::new("inst-1").unwrap(),
        job_id: JobId::new("job").unwrap(),
    }];
    let mut busy = world.pool.begin().await.unwrap();
    sqlx::query("UPDATE one_shots SET updated_at = now()").execute(&mut *busy).await.unwrap();
    let horizon = Duration::from_secs(2);
    let found = wake_ups::take(&world.db, &wake, horizon, horizon, 10).await.unwrap();
    assert!(matches!(found[..], [Found::Locked]), "{found:?}");
    busy.commit().await.unwrap();
    assert_eq!(world.orders(BackendName::Nats).await.1, ["+1"], "its wake-up is still wanted");
    let found = wake_ups::take(&world.db, &wake, horizon, horizon, 10).await.unwrap();
    assert!(matches!(found[..], [Found::Standing { .. }]), "{found:?}");
    assert_eq!(world.awaits("job").await, None, "it must not wait for the watchdog");
}
